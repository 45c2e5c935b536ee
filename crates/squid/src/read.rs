//! From statements to a configuration.
//!
//! Every directive is looked at once: applied, noted or refused ([`crate::words`],
//! [`crate::treat`]). All problems of
//! a file are reported together, so that one run of `larder check` shows them all. Apart from the
//! lists of which the first match decides, the order of lines does not matter.

use std::time::Duration;

use larder_policy::access::AccessList;

use crate::acl::Acls;
use crate::configuration::{CacheDir, Configuration, MAXIMUM_OBJECT_SIZE, Replacement};
use crate::lists::Lines;
use crate::note::{Findings, Note, Position, Problem, Refused};
use crate::patterns::{self, Globals};
use crate::source::{self, Files, Statement};
use crate::{ids, logs, peers, ports, review, treat, values};

/// Squid's `shutdown_lifetime`.
const SHUTDOWN_LIFETIME: Duration = Duration::from_secs(30);

/// Reads a squid.conf and all files that it names.
///
/// # Errors
///
/// Every problem, in the order of the lines, and what else was found.
pub fn read(path: &str, files: &dyn Files) -> Result<Configuration, Refused> {
    let mut found = Findings::default();
    let statements = source::statements(path, files, &mut found);
    let statements = treat::renamed(statements, &mut found);
    treat::treat(&statements, &mut found);
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
    let start = Position::start_of(path);
    review::review(&configuration, &places, &statements, &start, &mut found);
    if configuration.http_ports.is_empty() && found.problems.is_empty() {
        found.problem(&start, "there is no http_port", "add http_port 3128");
    }
    let notes = in_order(found.notes, path);
    if found.problems.is_empty() {
        configuration.notes = notes;
        Ok(configuration)
    } else {
        found.problems.sort_by(|a, b| {
            let key = |p: &Problem| (p.position.file.clone(), p.position.line, p.position.column);
            key(a).cmp(&key(b))
        });
        Err(Refused {
            problems: found.problems,
            notes,
        })
    }
}

/// By file, `path` first and others in the order in which they are first mentioned, then by line.
fn in_order(mut notes: Vec<Note>, path: &str) -> Vec<Note> {
    let mut files = vec![path.into()];
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
            "maximum_object_size_in_memory" => drop(size(found)),
            "cache_replacement_policy" => out.replacement = replacement(statement, found),
            "cache_dir" => cache_dir(statement, out, found),
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
        ("heap", other) => {
            let text = format!("there is no `heap {other}`: Squid takes LRU, and so does larder");
            let mend = "write heap LFUDA, heap GDSF or heap LRU (in these letters)";
            found.warn(&kind.at, text, mend);
            Some(Replacement::Lru)
        }
        (_, other) => {
            let text = format!("there is no replacement policy `{other}`");
            let mend = "write lru, heap LFUDA, heap GDSF or heap LRU (in these letters)";
            found.problem(&kind.at, text, mend);
            None
        }
    }
}

/// Options of `cache_dir` that tune what larder does by itself.
const CACHE_DIR_OPTIONS: [&str; 9] = [
    "max-size",
    "max-swap-rate",
    "min-size",
    "no-store",
    "Q1",
    "Q2",
    "read-only",
    "slot-size",
    "swap-timeout",
];

/// `cache_dir TYPE DIRECTORY MB [L1 L2] [options]`. Of several the largest is used.
fn cache_dir(statement: &Statement, out: &mut Configuration, found: &mut Findings) {
    let Some(kind) = statement.argument(0, "a type, as aufs", found) else {
        return;
    };
    match kind.text.as_str() {
        "ufs" | "aufs" | "diskd" | "rock" | "coss" => {}
        "null" => return,
        other => {
            let text = format!("there is no type of cache_dir `{other}`; the line is left out");
            found.warn(&kind.at, text, "write ufs, aufs, diskd or rock");
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
    cache_dir_options(statement, found);
    let new = CacheDir {
        position: statement.name.at.clone(),
        directory: source::unquoted(&directory.text).to_owned(),
        max_bytes: size.saturating_mul(1 << 20),
    };
    let Some(held) = out.cache_dir.take() else {
        out.cache_dir = Some(new);
        return;
    };
    let (used, unused) = if new.max_bytes > held.max_bytes {
        (new, held)
    } else {
        (held, new)
    };
    let line = used.position.line;
    found.warn(
        &unused.position,
        format!("only one cache_dir is used, the largest: that of line {line}"),
        "give that one the size of all",
    );
    out.cache_dir = Some(used);
}

fn cache_dir_options(statement: &Statement, found: &mut Findings) {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    for word in statement.arguments.iter().skip(3) {
        let name = word.text.split('=').next().unwrap_or_default();
        if is_number(name) {
            continue;
        }
        if CACHE_DIR_OPTIONS.contains(&name) {
            found.info(&word.at, format!("`{name}` has no effect"), "");
        } else {
            let text = format!("cache_dir has no option `{name}`; it is left out");
            found.warn(&word.at, text, "remove it");
        }
    }
}

fn name_servers(statement: &Statement, out: &mut Configuration, found: &mut Findings) {
    for token in &statement.arguments {
        if let Ok(address) = token.text.parse() {
            out.dns_nameservers.push(address);
        } else {
            let text = format!("`{}` is no address; it is left out", token.text);
            found.warn(&token.at, text, "write the address of a name server");
        }
    }
}
