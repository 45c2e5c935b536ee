//! What is said of each directive that is not applied, or not as Squid would.
//!
//! Lines about one matter (all `delay_…`, all header rules) are one note: a file with twenty header
//! rules has one thing said of it, not twenty.

use crate::note::{Findings, Position, Severity};
use crate::source::Statement;
use crate::words::{self, Treatment};

/// Directives that belong together are told together: by the start of their names.
const FAMILIES: [&str; 25] = [
    "adaptation_",
    "announce_",
    "client_delay_",
    "delay_",
    "digest_",
    "dns_",
    "ftp_",
    "fqdncache_",
    "happy_eyeballs_",
    "high_",
    "htcp_",
    "icap_",
    "icp_",
    "ipcache_",
    "mcast_",
    "memory_pools",
    "netdb_",
    "reply_header_",
    "request_header_",
    "response_delay_",
    "snmp_",
    "sslcrt",
    "sslproxy_",
    "wccp",
    "zph_",
];

/// Gives old names their names of today, so that everything after this knows one name for a thing.
pub(crate) fn renamed(mut statements: Vec<Statement>, found: &mut Findings) -> Vec<Statement> {
    for statement in &mut statements {
        let Some(today) = words::today(&statement.name.text) else {
            continue;
        };
        let text = format!("{} is an old name of {today}", statement.name.text);
        found.info(&statement.name.at, text, format!("write {today}"));
        today.clone_into(&mut statement.name.text);
    }
    statements
}

/// Says what becomes of each directive that is not applied.
pub(crate) fn treat(statements: &[Statement], found: &mut Findings) {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for statement in statements {
        let name = statement.name.text.as_str();
        let at = &statement.name.at;
        match words::treatment(name) {
            Some(Treatment::Applied) => conditional(statement, found),
            Some(Treatment::Refused(mend)) => {
                found.problem(at, format!("{name} is not supported"), mend);
            }
            Some(treatment) => grouped(statement, treatment, &mut groups),
            None => {
                let mend = match words::suggestion(name) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "remove it; Squid does not know it either".to_owned(),
                };
                found.problem(at, format!("there is no directive `{name}`"), mend);
            }
        }
    }
    for group in groups {
        group.say(found);
    }
    aborts(statements, found);
}

/// Lines of which one thing is said.
struct Group<'a> {
    treatment: Treatment,
    family: &'a str,
    at: &'a Position,
    names: Vec<&'a str>,
    lines: usize,
}

fn grouped<'a>(statement: &'a Statement, treatment: Treatment, groups: &mut Vec<Group<'a>>) {
    let name = statement.name.text.as_str();
    let family = FAMILIES.into_iter().find(|family| name.starts_with(family));
    let family = family.unwrap_or(name);
    let held = groups
        .iter_mut()
        .find(|group| group.treatment == treatment && group.family == family);
    match held {
        Some(group) => {
            group.lines += 1;
            if !group.names.contains(&name) {
                group.names.push(name);
            }
        }
        None => groups.push(Group {
            treatment,
            family,
            at: &statement.name.at,
            names: vec![name],
            lines: 1,
        }),
    }
}

impl Group<'_> {
    fn say(&self, found: &mut Findings) {
        let lines = match self.lines {
            1 => String::new(),
            lines => format!(" ({lines} lines)"),
        };
        let names = format!("{}{lines}", self.names.join(", "));
        let one = self.names.len() == 1;
        let (severity, text, mend) = match self.treatment {
            Treatment::NotYet => (
                Severity::Warning,
                format!("{names} {} not applied yet", if one { "is" } else { "are" }),
                "check that you can do without it",
            ),
            Treatment::Obsolete => (
                Severity::Info,
                format!(
                    "{names} {} obsolete: Squid ignores it, and so does larder",
                    if one { "is" } else { "are" }
                ),
                "remove it",
            ),
            _ => (
                Severity::Info,
                format!(
                    "{names} {} no effect: larder has no need of it",
                    if one { "has" } else { "have" }
                ),
                "",
            ),
        };
        found.note(severity, self.at, text, mend);
    }
}

/// Directives of which only some values can be done without.
fn conditional(statement: &Statement, found: &mut Findings) {
    let word = |index: usize| {
        let token = statement.arguments.get(index);
        token.map_or("", |token| token.text.as_str())
    };
    let (name, first, second) = (statement.name.text.as_str(), word(0), word(1));
    let (harmless, mend) = match name {
        "http_reply_access" | "miss_access" | "adapted_http_access" => (
            first == "allow" && matches!(second, "" | "all"),
            "write the rule as http_access",
        ),
        "follow_x_forwarded_for" => (
            first == "deny" && second == "all",
            "let clients connect themselves; rules look at the connection's address",
        ),
        "ssl_bump" => (
            matches!(first, "none" | "splice") && second == "all",
            "let clients tunnel (CONNECT); tunnels are not opened",
        ),
        "icap_enable" | "ecap_enable" => (
            first != "on",
            "keep that filter in front of larder, and remove the line here",
        ),
        "url_rewrite_program" => (
            first == "none",
            "keep that filter in front of larder, and remove the line here",
        ),
        "configuration_includes_quoted_values" => (first != "on", "write values without quotes"),
        _ => return elsewhere(statement, found),
    };
    if harmless {
        found.info(&statement.name.at, format!("{name} has no effect"), "");
    } else {
        let shown = format!("{name} {first} {second}");
        found.problem(
            &statement.name.at,
            format!("`{}` is not supported", shown.trim()),
            mend,
        );
    }
}

/// What is left to larder's own ways.
fn elsewhere(statement: &Statement, found: &mut Findings) {
    let value = statement.arguments.first().map_or("", |word| &word.text);
    let at = &statement.name.at;
    let text = match (statement.name.text.as_str(), value) {
        ("cache_log", _) => "cache_log has no effect: larder's messages go to standard error",
        ("maximum_object_size_in_memory", _) => {
            "maximum_object_size_in_memory has no effect: larder keeps in memory what is asked \
             for often and fits"
        }
        ("forwarded_for", _) => {
            "forwarded_for has no effect: larder never tells who asked, and passes on the \
             X-Forwarded-For that a client sends"
        }
        ("via", "off") => {
            let text = "via off is not applied yet: larder knows loops by that field";
            found.warn(at, text, "check that you can do without it");
            return;
        }
        _ => return,
    };
    found.info(at, text, "");
}

/// Squid's `quick_abort_…` decide whether a download goes on when its last client has left; larder
/// always goes on. `quick_abort_min -1` says the same.
fn aborts(statements: &[Statement], found: &mut Findings) {
    let mut lines = statements
        .iter()
        .filter(|statement| statement.name.text.starts_with("quick_abort_"))
        .peekable();
    let Some(first) = lines.peek() else {
        return;
    };
    let at = first.name.at.clone();
    let never = lines.any(|line| {
        let value = line.arguments.first().map(|token| token.text.as_str());
        line.name.text == "quick_abort_min" && value == Some("-1")
    });
    let text = "a download goes on to its end when its last client has left, whatever its size: \
                quick_abort_min, _max and _pct have no effect";
    if never {
        found.info(&at, "quick_abort_min -1: as larder does it anyway", "");
    } else {
        found.warn(&at, text, "check that you can do without it");
    }
}
