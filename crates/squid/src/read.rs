//! From statements to a configuration.
//!
//! Every directive is looked at once: applied, noted or refused ([`crate::words`]). All problems of
//! a file are reported together, so that one run of `larder check` shows them all. Apart from the
//! lists of which the first match decides, the order of lines does not matter.

use std::time::Duration;

use larder_policy::access::AccessList;

use crate::acl::Acls;
use crate::configuration::{CacheDir, Configuration, MAXIMUM_OBJECT_SIZE, Replacement};
use crate::lists::Lines;
use crate::note::{Findings, Note, Problem};
use crate::patterns::{self, Globals};
use crate::source::{self, Files, Statement};
use crate::words::{self, Treatment};
use crate::{ids, logs, peers, ports, review, values};

/// Squid's `shutdown_lifetime`.
const SHUTDOWN_LIFETIME: Duration = Duration::from_secs(30);

/// Reads a squid.conf and all files that it names.
///
/// # Errors
///
/// Every problem, in the order of the lines.
pub fn read(path: &str, files: &dyn Files) -> Result<Configuration, Vec<Problem>> {
    let mut found = Findings::default();
    let statements = source::statements(path, files, &mut found);
    treat(&statements, &mut found);
    let acls = Acls::read(&statements, files, &mut found);
    let access = Lines::of("http_access", &statements, &acls, &mut found);
    let places = access.places.clone();
    let mut configuration = scalars(&statements, &mut found);
    configuration.access = AccessList::squid(access.rules);
    lists(&mut configuration, &statements, &acls, &mut found);
    configuration.http_ports = ports::read(&statements, &mut found);
    configuration.store_ids = ids::read(&statements, files, &mut found);
    configuration.refresh =
        patterns::read(&statements, globals(&statements, &mut found), &mut found);
    review::review(&configuration, &places, &statements, &mut found);
    if configuration.http_ports.is_empty() && found.problems.is_empty() {
        let at = crate::note::Position::start_of(path);
        found.problem(&at, "there is no http_port", "add http_port 3128");
    }
    if found.problems.is_empty() {
        configuration.notes = in_order(found.notes);
        Ok(configuration)
    } else {
        found.problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.position.file.clone(), p.position.line, p.position.column);
            key(a).cmp(&key(b))
        });
        Err(found.problems)
    }
}

/// By file in the order in which they are first mentioned, then by line.
fn in_order(mut notes: Vec<Note>) -> Vec<Note> {
    let mut files: Vec<_> = Vec::new();
    for note in &notes {
        if !files.contains(&note.position.file) {
            files.push(note.position.file.clone());
        }
    }
    notes.sort_by_key(|note| {
        let file = files.iter().position(|file| *file == note.position.file);
        (file, note.position.line, note.position.column)
    });
    notes
}

/// Says what becomes of each directive that is not applied.
fn treat(statements: &[Statement], found: &mut Findings) {
    for statement in statements {
        let name = statement.name.text.as_str();
        let at = &statement.name.at;
        match words::treatment(name) {
            Some(Treatment::Applied) => conditional(statement, found),
            Some(Treatment::Harmless) => {
                found.info(
                    at,
                    format!("{name} has no effect: larder has no need of it"),
                    "",
                );
            }
            Some(Treatment::NotYet) => {
                let text = format!("{name} is not applied yet");
                found.warn(at, text, "check that you can do without it");
            }
            Some(Treatment::Refused(mend)) => {
                found.problem(at, format!("{name} is not supported"), mend);
            }
            Some(Treatment::Obsolete) => {
                let text = format!("{name} is obsolete: Squid ignores it, and so does larder");
                found.info(at, text, "remove it");
            }
            None => {
                let mend = match words::suggestion(name) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "remove it; Squid does not know it either".to_owned(),
                };
                found.problem(at, format!("there is no directive `{name}`"), mend);
            }
        }
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
        "http_reply_access" | "miss_access" | "adapted_http_access" | "http_access2" => (
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
        "configuration_includes_quoted_values" => (first != "on", "write values without quotes"),
        _ => return,
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

/// What is said once; the last line wins.
fn scalars(statements: &[Statement], found: &mut Findings) -> Configuration {
    let mut configuration = empty();
    for statement in statements {
        let size = |found: &mut Findings| values::size(statement, found);
        let text = || statement.arguments.first().map(|token| token.text.clone());
        let switch = |found: &mut Findings| values::switch(statement, found);
        let out = &mut configuration;
        match statement.name.text.as_str() {
            "maximum_object_size" => {
                if let Some(size) = size(found) {
                    out.maximum_object_size = size.bytes().unwrap_or(u64::MAX);
                }
            }
            "cache_mem" => out.cache_mem = size(found).and_then(values::Size::bytes),
            "maximum_object_size_in_memory" => {
                out.maximum_object_size_in_memory = size(found).and_then(values::Size::bytes);
            }
            "cache_replacement_policy" => out.replacement = replacement(statement, found),
            "cache_dir" => cache_dir(statement, out, found),
            "cache_log" => out.cache_log = text().filter(|path| path != "none"),
            "visible_hostname" => out.visible_hostname = text(),
            "unique_hostname" => out.unique_hostname = text(),
            "pid_filename" => out.pid_filename = text().filter(|path| path != "none"),
            "strip_query_terms" => {
                out.strip_query_terms = switch(found).unwrap_or(out.strip_query_terms);
            }
            "offline_mode" => out.offline = switch(found).unwrap_or(false),
            "negative_ttl" => {
                out.negative_ttl = values::time(statement, found).unwrap_or_default();
            }
            "shutdown_lifetime" => {
                let time = values::time(statement, found);
                out.shutdown_lifetime = time.unwrap_or(SHUTDOWN_LIFETIME);
            }
            "dns_nameservers" => name_servers(statement, out, found),
            _ => {}
        }
    }
    configuration
}

fn empty() -> Configuration {
    Configuration {
        http_ports: Vec::new(),
        access: AccessList::default(),
        cache_dir: None,
        maximum_object_size: MAXIMUM_OBJECT_SIZE,
        cache_mem: None,
        maximum_object_size_in_memory: None,
        replacement: None,
        store_ids: crate::configuration::StoreIdSource::None,
        store_id_access: None,
        refresh: Vec::new(),
        negative_ttl: Duration::ZERO,
        offline: false,
        cache: None,
        peers: Vec::new(),
        never_direct: None,
        always_direct: None,
        access_logs: None,
        strip_query_terms: true,
        cache_log: None,
        visible_hostname: None,
        unique_hostname: None,
        pid_filename: None,
        shutdown_lifetime: SHUTDOWN_LIFETIME,
        dns_nameservers: Vec::new(),
        notes: Vec::new(),
    }
}

fn lists(out: &mut Configuration, statements: &[Statement], acls: &Acls, found: &mut Findings) {
    let mut list = |name| Lines::of(name, statements, acls, found).selection();
    out.cache = list("cache");
    out.store_id_access = list("store_id_access");
    out.never_direct = list("never_direct");
    out.always_direct = list("always_direct");
    out.peers = peers::read(statements, acls, found);
    out.access_logs = logs::read(statements, acls, found);
}

fn globals(statements: &[Statement], found: &mut Findings) -> Globals {
    let mut globals = Globals::default();
    for statement in statements {
        match statement.name.text.as_str() {
            "max_stale" => {
                let time = values::time(statement, found);
                globals.max_stale = time.and_then(|time| i64::try_from(time.as_secs()).ok());
            }
            "reload_into_ims" => {
                globals.reload_into_ims = values::switch(statement, found).unwrap_or(false);
            }
            "refresh_all_ims" => {
                globals.refresh_all_ims = values::switch(statement, found).unwrap_or(false);
            }
            _ => {}
        }
    }
    globals
}

/// `lru`, or `heap LFUDA`, `heap GDSF`, `heap LRU`.
fn replacement(statement: &Statement, found: &mut Findings) -> Option<Replacement> {
    let first = statement.argument(0, "a policy, as `heap LFUDA`", found)?;
    let kind = statement.arguments.get(1).unwrap_or(first);
    match (first.text.as_str(), kind.text.as_str()) {
        ("lru", _) | ("heap", "LRU" | "heap") => Some(Replacement::Lru),
        ("heap", "LFUDA") => Some(Replacement::Lfuda),
        ("heap", "GDSF") => Some(Replacement::Gdsf),
        (_, other) => {
            let text = format!("there is no replacement policy `{other}`");
            let mend = "write lru, heap LFUDA, heap GDSF or heap LRU (in these letters)";
            found.problem(&kind.at, text, mend);
            None
        }
    }
}

/// `cache_dir TYPE DIRECTORY MB [L1 L2] [options]`.
fn cache_dir(statement: &Statement, out: &mut Configuration, found: &mut Findings) {
    let Some(kind) = statement.argument(0, "a type, as aufs", found) else {
        return;
    };
    match kind.text.as_str() {
        "ufs" | "aufs" | "diskd" | "rock" | "coss" => {}
        "null" => {
            found.info(&kind.at, "a null cache_dir keeps nothing on disk", "");
            return;
        }
        other => {
            let text = format!("there is no type of cache_dir `{other}`");
            found.problem(&kind.at, text, "write ufs, aufs, diskd or rock");
            return;
        }
    }
    let directory = statement.argument(1, "a directory", found);
    let megabytes = statement.argument(2, "a size in megabytes", found);
    let (Some(directory), Some(megabytes)) = (directory, megabytes) else {
        return;
    };
    let Some(size) = values::number::<u64>(megabytes, "number of megabytes", found) else {
        return;
    };
    if let Some(held) = &out.cache_dir {
        let text = format!(
            "only one cache_dir is used, that of line {}",
            held.position.line
        );
        found.warn(
            &statement.name.at,
            text,
            "give the first one the size of all",
        );
        return;
    }
    out.cache_dir = Some(CacheDir {
        position: statement.name.at.clone(),
        directory: source::unquoted(&directory.text).to_owned(),
        max_bytes: size.saturating_mul(1 << 20),
    });
}

fn name_servers(statement: &Statement, out: &mut Configuration, found: &mut Findings) {
    for token in &statement.arguments {
        if let Ok(address) = token.text.parse() {
            out.dns_nameservers.push(address);
        } else {
            let text = format!("`{}` is no address", token.text);
            found.problem(&token.at, text, "write the address of a name server");
        }
    }
}
