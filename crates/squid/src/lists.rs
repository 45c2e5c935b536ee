//! Access lines: `http_access allow|deny [!]acl…` and the other lists of the same form.

use larder_policy::access::{AccessList, Rule};

use crate::acl::Acls;
use crate::note::{Findings, Position};
use crate::source::{Statement, Token};

/// Lines of one list: the rules and where they stand.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) rules: Vec<Rule>,
    pub(crate) places: Vec<Position>,
}

impl Lines {
    /// Reads the lines of one directive.
    pub(crate) fn of(
        directive: &str,
        statements: &[Statement],
        acls: &Acls,
        found: &mut Findings,
    ) -> Self {
        let mut lines = Self::default();
        for statement in statements.iter().filter(|s| s.name.text == directive) {
            lines.add(statement, &statement.arguments, acls, found);
        }
        lines
    }

    /// Adds a line; `words` are the action and the names of ACLs.
    pub(crate) fn add(
        &mut self,
        statement: &Statement,
        words: &[Token],
        acls: &Acls,
        found: &mut Findings,
    ) {
        let Some((action, names)) = words.split_first() else {
            let text = format!("{} lacks `allow` or `deny`", statement.name.text);
            found.problem(
                &statement.name.at,
                text,
                "write allow or deny, and acl names",
            );
            return;
        };
        let allow = match action.text.to_ascii_lowercase().as_str() {
            "allow" => true,
            "deny" => false,
            other => {
                let text = format!("`{other}` is neither allow nor deny");
                found.problem(&action.at, text, "write allow or deny, and acl names");
                return;
            }
        };
        let conditions: Vec<_> = names
            .iter()
            .map(|name| acls.condition(name, found))
            .collect();
        if let Some(conditions) = conditions.into_iter().collect() {
            self.rules.push(Rule {
                allow,
                conditions,
                text: statement.shown(),
            });
            self.places.push(statement.name.at.clone());
        }
    }

    /// The list, asked once; `None`: there are no lines.
    pub(crate) fn selection(self) -> Option<AccessList> {
        (!self.rules.is_empty()).then(|| AccessList::squid_selection(self.rules))
    }
}
