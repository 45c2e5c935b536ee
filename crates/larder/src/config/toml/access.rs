//! `[access]`: rules of which the first that matches decides; no match is a denial.

use larder_policy::access::{AccessList, AddressSet, Condition, HostSet, Matcher, PortSet, Rule};

use crate::config::problem::Problem;
use crate::config::tree::{Node, Section, Value, wrong_kind};
use crate::config::values::{self, bad};

/// Reads `[access]`: its rules replace the built-in ones.
pub(super) fn read(section: &mut Section<'_>, access: &mut AccessList) {
    let Some(node) = section.get("rules") else {
        return;
    };
    let Value::Array(items) = &node.value else {
        section.problem(wrong_kind(node, "a list of rules"));
        return;
    };
    let rules: Vec<Rule> = items
        .iter()
        .filter_map(|item| rule(section, item))
        .collect();
    if rules.is_empty() {
        let problem = Problem::warning("there are no rules: every request is denied");
        section.problem(
            problem
                .at(&node.place)
                .mend("leave [access] out for the built-in rules"),
        );
    }
    *access = AccessList::new(rules);
}

fn rule(section: &mut Section<'_>, node: &Node) -> Option<Rule> {
    let Value::Table(entries) = &node.value else {
        section.problem(wrong_kind(
            node,
            "a rule such as { allow = { client = \"private\" } }",
        ));
        return None;
    };
    let [entry] = entries.as_slice() else {
        let problem = Problem::error("a rule is one `allow` or one `deny`");
        section.problem(
            problem
                .at(&node.place)
                .mend("write { allow = { … } } or { deny = { … } }"),
        );
        return None;
    };
    let allow = match entry.key.as_str() {
        "allow" => true,
        "deny" => false,
        _ => {
            let problem = Problem::error(format!(
                "a rule allows or denies, it does not `{}`",
                entry.key
            ));
            section.problem(problem.at(&entry.key_place).mend("write `allow` or `deny`"));
            return None;
        }
    };
    let Value::Table(words) = &entry.node.value else {
        section.problem(wrong_kind(&entry.node, "a table of conditions"));
        return None;
    };
    let conditions = section.within("an access rule", words, conditions);
    let (line, _) = node.place.line_column();
    let name = node
        .place
        .source
        .name
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let written = node
        .place
        .text()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    Some(Rule {
        allow,
        conditions,
        text: format!("{name}:{line} {written}"),
    })
}

fn conditions(section: &mut Section<'_>) -> Vec<Condition> {
    let found = [
        section.value("client", clients).map(Condition::from),
        section.value("to", targets).map(Condition::from),
        section
            .value("host", values::list(values::text))
            .map(|hosts| Matcher::Host(HostSet::parse(hosts.iter().map(String::as_str))).into()),
        section
            .value("port", ports)
            .map(|ports| Matcher::Port(ports).into()),
        section
            .value("not-port", ports)
            .map(|ports| Condition::not(Matcher::Port(ports))),
        section
            .value("method", values::list(values::text))
            .map(|m| Matcher::Method(m).into()),
        section
            .value("not-method", values::list(values::text))
            .map(|methods| Condition::not(Matcher::Method(methods))),
        section
            .value("listener", values::list(values::text))
            .map(|l| Matcher::ListenerName(l).into()),
    ];
    found.into_iter().flatten().collect()
}

/// `client`: networks, or the words private (link-local too), loopback, self and any.
fn clients(node: &Node) -> Result<Matcher, Problem> {
    let mut set = AddressSet::default();
    let mut own = false;
    for word in values::list(values::text)(node)? {
        set = match word.as_str() {
            "any" => return Ok(Matcher::Any),
            "self" => {
                own = true;
                set
            }
            "private" => set
                .with(&AddressSet::private())
                .with(&AddressSet::link_local()),
            "loopback" => set.with(&AddressSet::loopback()),
            network => set.with(&networks(node, network, "private, loopback, self, any")?),
        };
    }
    Ok(if own {
        Matcher::AnyOf(vec![
            Matcher::Client(set).into(),
            Matcher::ClientIsSelf.into(),
        ])
    } else {
        Matcher::Client(set)
    })
}

/// `to`: networks, or the words public, private, loopback and any.
fn targets(node: &Node) -> Result<Matcher, Problem> {
    let mut set = AddressSet::default();
    for word in values::list(values::text)(node)? {
        set = set.with(&match word.as_str() {
            "any" => AddressSet::everything(),
            "public" => AddressSet::public(),
            "private" => AddressSet::private(),
            "loopback" => AddressSet::loopback(),
            network => networks(node, network, "public, private, loopback, any")?,
        });
    }
    Ok(Matcher::To(set))
}

fn networks(node: &Node, text: &str, words: &str) -> Result<AddressSet, Problem> {
    AddressSet::parse([text]).map_err(|error| {
        bad(
            node,
            &error,
            &format!("write a network such as \"10.0.0.0/8\", or one of {words}"),
        )
    })
}

fn ports(node: &Node) -> Result<PortSet, Problem> {
    values::list(|item: &Node| {
        let text = match &item.value {
            Value::Integer(number) => number.to_string(),
            _ => values::text(item)?,
        };
        PortSet::parse_range(&text).ok_or_else(|| {
            bad(
                item,
                &"this is no port",
                "write a port such as 80, or a range such as \"1025-65535\"",
            )
        })
    })(node)
    .map(PortSet::new)
}
