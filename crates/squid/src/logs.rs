//! `access_log [module:]place [options] [acl…]`.

use crate::acl::{Acls, Undecided};
use crate::configuration::{AccessLog, LogDestination};
use crate::note::Findings;
use crate::source::{Statement, unquoted};

use larder_policy::access::{AccessList, Rule};

/// Squid's own formats.
const FORMATS: [&str; 5] = ["squid", "common", "combined", "referrer", "useragent"];

/// Reads all lines; `None`: there are none.
pub(crate) fn read(
    statements: &[Statement],
    acls: &Acls,
    found: &mut Findings,
) -> Option<Vec<AccessLog>> {
    let mut lines = statements
        .iter()
        .filter(|s| s.name.text == "access_log")
        .peekable();
    lines.peek()?;
    Some(
        lines
            .filter_map(|line| access_log(line, statements, acls, found))
            .collect(),
    )
}

fn access_log(
    statement: &Statement,
    statements: &[Statement],
    acls: &Acls,
    found: &mut Findings,
) -> Option<AccessLog> {
    let place = statement.argument(0, "a place, as /var/log/squid/access.log", found)?;
    let destination = destination(unquoted(&place.text));
    if let LogDestination::Unsupported(place_text) = &destination {
        let text = format!("access logs cannot go to {place_text} yet; this one is not written");
        found.warn(&place.at, text, "write stdio:/path/to/access.log");
    }
    let mut format = "squid".to_owned();
    let mut conditions = Vec::new();
    for (index, word) in statement.arguments.iter().enumerate().skip(1) {
        let named = word.text.strip_prefix("logformat=");
        let defined = || {
            statements.iter().any(|s| {
                s.name.text == "logformat"
                    && s.arguments.first().is_some_and(|n| n.text == word.text)
            })
        };
        let has_format = destination != LogDestination::None;
        if let Some(name) = named {
            name.clone_into(&mut format);
        } else if index == 1 && has_format && (FORMATS.contains(&word.text.as_str()) || defined()) {
            word.text.clone_into(&mut format);
        } else if !word.text.contains('=') {
            match acls.condition(word, found) {
                Ok(condition) => conditions.push(condition),
                Err(Undecided::Told) => return None,
                Err(Undecided::Type { name, kind }) => {
                    let text =
                        format!("`{name}` is of the type {kind}, which larder cannot decide");
                    found.warn(&word.at, text, "write the line without it");
                }
            }
        }
    }
    if format != "squid" {
        let text = format!("the format `{format}` is not there yet; the log is in Squid's own");
        found.warn(&place.at, text, "use the format squid");
    }
    let rule = Rule {
        allow: true,
        conditions,
        text: statement.shown(),
    };
    Some(AccessLog {
        position: statement.name.at.clone(),
        destination,
        format,
        access: (!rule.conditions.is_empty()).then(|| AccessList::squid_selection(vec![rule])),
    })
}

fn destination(place: &str) -> LogDestination {
    let path = ["stdio:", "daemon:"]
        .iter()
        .find_map(|module| place.strip_prefix(module));
    match path {
        _ if place == "none" => LogDestination::None,
        Some(path) => LogDestination::File(path.to_owned()),
        None if place.starts_with('/') => LogDestination::File(place.to_owned()),
        None if place.contains(':') => LogDestination::Unsupported(place.to_owned()),
        None => LogDestination::File(place.to_owned()),
    }
}
