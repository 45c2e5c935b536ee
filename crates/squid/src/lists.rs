//! Access lines: `http_access allow|deny [!]acl…` and the other lists of the same form.

use larder_policy::access::{AccessList, Matcher, Rule};

use crate::acl::{Acls, Undecided};
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
        let Some((allow, names)) = action(statement, words, found) else {
            return;
        };
        let mut conditions = Vec::new();
        for name in names {
            match acls.condition(name, found) {
                Ok(condition) => conditions.push(condition),
                Err(Undecided::Told) => return,
                Err(Undecided::Type { name: acl, kind }) => {
                    let text = format!("`{acl}` is of the type {kind}, which larder cannot decide");
                    let mend = "write the rule with addresses, names, ports, methods or URLs";
                    if statement.name.text == "http_access" && !allow {
                        found.problem(&name.at, text, mend);
                        return;
                    }
                    let text = format!("this line holds for no request: {text}");
                    found.warn(&name.at, text, mend);
                    // The line stays, since the last one's action decides where none holds.
                    conditions.push(Matcher::Never.into());
                }
            }
        }
        self.rules.push(Rule {
            allow,
            conditions,
            text: statement.shown(),
        });
        self.places.push(statement.name.at.clone());
    }

    /// The list, asked once; `None`: there are no lines.
    pub(crate) fn selection(self) -> Option<AccessList> {
        (!self.rules.is_empty()).then(|| AccessList::squid_selection(self.rules))
    }
}

/// The action of a line, and its names of ACLs. `None`: Squid leaves the line out, and so does
/// larder; a line that was to deny access is a problem.
fn action<'a>(
    statement: &Statement,
    words: &'a [Token],
    found: &mut Findings,
) -> Option<(bool, &'a [Token])> {
    let directive = statement.name.text.as_str();
    let mend = "write allow or deny (in these letters), and acl names";
    let (at, text, denies) = match words.split_first() {
        None => {
            let text = format!("{directive} lacks `allow` or `deny`");
            (&statement.name.at, text, false)
        }
        Some((action, names)) => {
            let word = action.text.as_str();
            let text = match word {
                "allow" | "deny" if !names.is_empty() => return Some((word == "allow", names)),
                "allow" | "deny" => format!("`{directive} {word}` names no acl"),
                _ => format!("`{word}` is neither allow nor deny"),
            };
            (&action.at, text, word.eq_ignore_ascii_case("deny"))
        }
    };
    let text = format!("{text}: Squid leaves this line out");
    if denies && directive == "http_access" {
        found.problem(at, text, mend);
    } else {
        found.warn(at, format!("{text}, and so does larder"), mend);
    }
    None
}
