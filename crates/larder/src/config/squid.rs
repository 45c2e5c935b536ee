//! squid.conf: what larder-squid read of it, turned into [`Settings`].
//!
//! The grammar and its notes are larder-squid's. Here each part finds its counterpart, and what has
//! none in this version is said: nothing is dropped in silence. Relative paths start at the working
//! directory, as Squid's do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_policy::access::{AccessList, DefaultAction, Matcher, Rule};
use larder_policy::refresh::RefreshRules;
use larder_policy::route::{HostField, Mirror, Origin, Parent, Routes, Select};
use larder_policy::store_id::StoreIds;
use larder_policy::target::{Mode, Site};
use larder_policy::url::{Authority, Scheme};
use larder_proxy::config::Listener;
use larder_squid::{
    Accelerator, CACHE_MEM, Configuration, HttpPort, LogDestination, Peer, PeerKind, PortMode,
    Position, Replacement, StoreIdSource,
};

use super::problem::{Place, Problem, Problems, Severity, Source};
use super::settings::{AccessFormat, AccessLog, AccessLogPlace, Settings};
use super::sources::read_bytes;

/// Where larder keeps its files within a Squid `cache_dir`: the spool beside it is left alone.
const OWN_FOLDER: &str = "larder";
/// Where Squid logs where nothing is said, and where larder may if that is not to be.
const ACCESS_LOGS: [&str; 2] = ["/var/log/squid/access.log", "/var/log/larder/access.log"];

/// Reads a squid.conf and all files that it names.
pub fn read(path: &Path, problems: &mut Problems) -> Settings {
    let disk = Disk::default();
    match larder_squid::read(&path.display().to_string(), &disk) {
        Ok(configuration) => {
            disk.noted(&configuration.notes, problems);
            settings(configuration, &disk, problems)
        }
        Err(refused) => {
            for problem in &refused.problems {
                let (text, mend) = (&problem.text, &problem.mend);
                problems.push(disk.problem(Severity::Error, &problem.position, text, mend));
            }
            disk.noted(&refused.notes, problems);
            Settings::default()
        }
    }
}

/// The files that a squid.conf names; their texts are kept for the places of problems.
#[derive(Default)]
struct Disk {
    texts: RefCell<HashMap<String, Arc<Source>>>,
}

impl larder_squid::Files for Disk {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let bytes = read_bytes(Path::new(path))?;
        let source = Source::new(path, String::from_utf8_lossy(&bytes));
        self.texts.borrow_mut().insert(path.to_owned(), source);
        Ok(bytes)
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<String>> {
        let paths = glob::glob(pattern).map_err(io::Error::other)?;
        paths
            .map(|path| {
                path.map(|path| path.display().to_string())
                    .map_err(Into::into)
            })
            .collect()
    }
}

impl Disk {
    fn problem(&self, severity: Severity, at: &Position, text: &str, mend: &str) -> Problem {
        let mut problem = Problem {
            severity,
            ..Problem::error(text)
        };
        if let Some(source) = self.texts.borrow().get(&*at.file) {
            problem = problem.at(&Place::of_characters(source, at.line, at.column, at.length));
        }
        if mend.is_empty() {
            problem
        } else {
            problem.mend(mend)
        }
    }

    fn noted(&self, notes: &[larder_squid::Note], problems: &mut Problems) {
        for note in notes {
            let severity = match note.severity {
                larder_squid::Severity::Info => Severity::Note,
                larder_squid::Severity::Warning => Severity::Warning,
            };
            problems.push(self.problem(severity, &note.position, &note.text, &note.mend));
        }
    }

    fn not_yet(&self, at: &Position, text: &str) -> Problem {
        self.problem(Severity::Warning, at, text, "larder starts without it")
    }
}

fn settings(squid: Configuration, disk: &Disk, problems: &mut Problems) -> Settings {
    let mut settings = Settings {
        listen: squid.http_ports.iter().map(listener).collect(),
        routes: Routes {
            upgrade: larder_policy::route::Upgrade::Never,
            mirrors: squid.peers.iter().filter_map(mirror).collect(),
            parents: squid.peers.iter().filter_map(parent).collect(),
            never_direct: squid.never_direct,
            always_direct: squid.always_direct,
            allow_direct: allow_direct(&squid.http_ports),
            tunnels_prefer_direct: true,
        },
        access: squid.access,
        store_id_access: squid.store_id_access,
        refresh: RefreshRules::new(squid.refresh),
        cache_access: squid.cache,
        offline: squid.offline,
        visible_name: squid.unique_hostname.or(squid.visible_hostname),
        pid_file: squid.pid_filename.map(PathBuf::from),
        ..Settings::default()
    };
    match squid.store_ids {
        StoreIdSource::None => {}
        StoreIdSource::Rules(rules) => settings.store_ids = StoreIds::new(rules),
        StoreIdSource::Helper(helper) => problems.push(
            Problem::warning(format!(
                "the store-ID program {} is not run by this version: each mirror keeps its own copies",
                helper.command.first().map_or("", String::as_str)
            ))
            .mend("write the rules into a file for storeid_file_rewrite"),
        ),
    }
    match squid.cache_dir {
        Some(cache_dir) => {
            settings.cache.directory = Some(Path::new(&cache_dir.directory).join(OWN_FOLDER));
            settings.cache.size_max = cache_dir.max_bytes;
        }
        // Squid keeps objects in memory alone: as many, and no more, find room here.
        None => settings.cache.size_max = squid.cache_mem.unwrap_or(CACHE_MEM),
    }
    settings.cache.object_bytes_max = squid.maximum_object_size;
    settings.cache.memory_max = squid.cache_mem.unwrap_or(settings.cache.memory_max);
    if let Some(replacement) = squid.replacement {
        settings.cache.replacement = match replacement {
            Replacement::Lru => larder_store::Replacement::Lru,
            Replacement::Lfuda => larder_store::Replacement::Lfuda,
            Replacement::Gdsf => larder_store::Replacement::Gdsf,
        };
    }
    settings.limits.drain = squid.shutdown_lifetime;
    settings.log.access = access_log(squid.access_logs.as_deref(), disk, problems);
    settings.log.access.strip_query = squid.strip_query_terms;
    if !squid.negative_ttl.is_zero() {
        problems.push(Problem::warning(
            "negative_ttl is not applied by this version",
        ));
    }
    if !squid.dns_nameservers.is_empty() {
        let problem = Problem::warning("dns_nameservers is not applied: the system's are asked");
        problems.push(problem.mend("name them in /etc/resolv.conf"));
    }
    settings
}

/// The requests of accelerator ports with `allow-direct`.
fn allow_direct(ports: &[HttpPort]) -> Option<AccessList> {
    let names: Vec<String> = ports
        .iter()
        .filter(|port| matches!(&port.mode, PortMode::Accelerator(a) if a.allow_direct))
        .map(|port| port.name.clone())
        .collect();
    let rule = |names| Rule {
        allow: true,
        conditions: vec![Matcher::ListenerName(names).into()],
        text: "allow-direct".to_owned(),
    };
    (!names.is_empty()).then(|| AccessList::squid_selection(vec![rule(names)]))
}

fn listener(port: &HttpPort) -> Listener {
    let address = port.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    Listener {
        address: SocketAddr::new(address, port.port),
        mode: match &port.mode {
            PortMode::Forward => Mode::Forward,
            PortMode::Accelerator(accelerator) => Mode::Accelerator(site(accelerator, port)),
        },
        name: port.name.clone(),
        tls: None,
    }
}

/// The site of an accelerator: `defaultsite=`, else the socket's own address.
fn site(accelerator: &Accelerator, port: &HttpPort) -> Site {
    let named = accelerator.default_site.as_deref();
    let mut authority = named
        .and_then(|site| Authority::parse(site, Some(80)).ok())
        .unwrap_or_else(|| Authority {
            host: port
                .address
                .map_or_else(|| "localhost".to_owned(), |ip| ip.to_string()),
            port: if port.port == 0 { 80 } else { port.port },
        });
    authority.port = accelerator.vport.unwrap_or(authority.port);
    Site {
        authority,
        vhost: accelerator.vhost,
        mirror: None,
    }
}

/// A peer that is an origin; without `cache_peer_access` every request may use it.
fn mirror(peer: &Peer) -> Option<Mirror> {
    let PeerKind::Origin { tls, forced_domain } = &peer.kind else {
        return None;
    };
    let everyone = AccessList {
        default: DefaultAction::Allow,
        ..AccessList::default()
    };
    Some(Mirror {
        name: peer.name.clone(),
        hosts: Vec::new(),
        origins: vec![Origin {
            scheme: if *tls { Scheme::Https } else { Scheme::Http },
            authority: authority(peer),
            base_path: String::new(),
            host: forced_domain
                .clone()
                .map_or(HostField::OfUrl, HostField::Fixed),
        }],
        select: Select::Ordered,
        access: Some(peer.access.clone().unwrap_or(everyone)),
    })
}

fn parent(peer: &Peer) -> Option<Parent> {
    let PeerKind::Parent { login } = &peer.kind else {
        return None;
    };
    Some(Parent {
        name: peer.name.clone(),
        authority: authority(peer),
        authorization: login
            .as_ref()
            .map(|login| format!("Basic {}", STANDARD.encode(&login.0))),
        access: peer.access.clone(),
    })
}

fn authority(peer: &Peer) -> Authority {
    Authority {
        host: peer.host.to_ascii_lowercase(),
        port: peer.port,
    }
}

/// The first log that can be written as it is asked for.
fn access_log(
    logs: Option<&[larder_squid::AccessLog]>,
    disk: &Disk,
    problems: &mut Problems,
) -> AccessLog {
    let Some(logs) = logs else {
        let paths = ACCESS_LOGS.iter().map(PathBuf::from).collect();
        return AccessLog {
            place: AccessLogPlace::FirstWritable(paths),
            ..AccessLog::default()
        };
    };
    let mut chosen = AccessLog::default();
    for log in logs {
        let LogDestination::File(path) = &log.destination else {
            continue;
        };
        if chosen.place != AccessLogPlace::Off {
            problems.push(disk.not_yet(&log.position, "a second access log is not written"));
            continue;
        }
        if log.access.is_some() {
            problems.push(disk.not_yet(
                &log.position,
                "every request is logged, whatever the ACLs say",
            ));
        }
        chosen = AccessLog {
            place: AccessLogPlace::File(PathBuf::from(path)),
            format: format(log, disk, problems),
            ..AccessLog::default()
        };
    }
    chosen
}

fn format(log: &larder_squid::AccessLog, disk: &Disk, problems: &mut Problems) -> AccessFormat {
    match log.format.as_str() {
        "squid" => AccessFormat::Squid,
        "combined" => AccessFormat::Combined,
        other => {
            let text =
                format!("the log format `{other}` is not known to this version: it is `squid`");
            problems.push(disk.not_yet(&log.position, &text));
            AccessFormat::Squid
        }
    }
}
