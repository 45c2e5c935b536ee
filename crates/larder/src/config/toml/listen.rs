//! `[[listen]]`, `[[mirror]]` and the parent of `[upstream]`: sockets, and where requests go.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_policy::route::{Mirror, Origin, Parent, Routes, Select, Upgrade};
use larder_policy::target::{Mode, Site};
use larder_policy::url::Authority;
use larder_proxy::config::{Listener, Tls};

use crate::config::problem::{Place, Problem};
use crate::config::tree::{Node, Section, Value, suggestion};
use crate::config::values::{self, bad};

/// Reads `[[listen]]`.
pub(super) fn listener(
    section: &mut Section<'_>,
    place: &Place,
    routes: &Routes,
    folder: &Path,
) -> Option<(Listener, Place)> {
    let node = section.get("address");
    let address = section.value("address", address);
    let accelerates = section.value(
        "mode",
        values::one_of(&[("forward", false), ("accelerator", true)]),
    );
    let mirror = section.get("mirror");
    let name = section.value("name", values::optional_text).flatten();
    let mode = match (accelerates.unwrap_or(false), mirror) {
        (false, None) => Mode::Forward,
        (false, Some(node)) => {
            let problem = Problem::error("a forward listener stands for no mirror");
            section.problem(problem.at(&node.place).mend("write mode = \"accelerator\""));
            return None;
        }
        (true, mirror) => Mode::Accelerator(site(section, mirror, place, routes)?),
    };
    if node.is_none() {
        let problem = Problem::error(format!("{} has no address", section.name()));
        section.problem(
            problem
                .at(place)
                .mend("add one, such as address = \"[::]:3128\""),
        );
    }
    let name = name.unwrap_or_else(|| mode.as_str().to_owned());
    let tls = certificate(section, &mode, folder);
    Some((
        Listener {
            address: address?,
            mode,
            name,
            tls,
        },
        node.map_or(place, |node| &node.place).clone(),
    ))
}

/// `tls = { cert, key }`: PEM files, for accelerators.
fn certificate(section: &mut Section<'_>, mode: &Mode, folder: &Path) -> Option<Tls> {
    let node = section.get("tls")?;
    let mut files = None;
    section.table("tls", |section| {
        let cert = section.value("cert", values::path(folder));
        let key = section.value("key", values::path(folder));
        files = cert.zip(key).map(|(cert, key)| Tls { cert, key });
    });
    let problem = match (&files, mode) {
        (None, _) => Some("a certificate needs the files of both cert and key".to_owned()),
        (Some(_), Mode::Forward) => Some("a forward listener speaks no TLS".to_owned()),
        (Some(tls), Mode::Accelerator(_)) => tls.check().err(),
    };
    if let Some(problem) = problem {
        section.problem(Problem::error(problem).at(&node.place).mend(
            "write tls = { cert = \"FILE\", key = \"FILE\" } with PEM files at an accelerator",
        ));
        return None;
    }
    files
}

fn site(
    section: &mut Section<'_>,
    node: Option<&Node>,
    place: &Place,
    routes: &Routes,
) -> Option<Site> {
    let Some(node) = node else {
        let problem = Problem::error("this accelerator stands for no mirror");
        section.problem(
            problem
                .at(place)
                .mend("add mirror = \"NAME\" and a [[mirror]] of that name"),
        );
        return None;
    };
    let name = values::text(node)
        .map_err(|problem| section.problem(problem))
        .ok()?;
    if let Some(mirror) = routes.mirrors.iter().find(|mirror| mirror.name == name) {
        return Some(Site {
            authority: mirror.canonical(),
            vhost: false,
            mirror: Some(name),
        });
    }
    let known: Vec<&str> = routes
        .mirrors
        .iter()
        .map(|mirror| mirror.name.as_str())
        .collect();
    let mend = if known.is_empty() {
        format!("add a [[mirror]] with name = \"{name}\"")
    } else {
        suggestion(&name, &known)
    };
    section.problem(
        Problem::error(format!("there is no mirror `{name}`"))
            .at(&node.place)
            .mend(mend),
    );
    None
}

/// Keeps the listeners that can be open side by side; two on one port are an error.
pub(super) fn without_clashes(
    section: &mut Section<'_>,
    listeners: Vec<(Listener, Place)>,
) -> Vec<Listener> {
    let mut kept: Vec<(Listener, Place)> = Vec::new();
    for (listener, place) in listeners {
        match kept
            .iter()
            .find(|(other, _)| clash(other.address, listener.address))
        {
            Some((_, first)) => section.problem(
                Problem::error(format!("two listeners on port {}", listener.address.port()))
                    .at(&place)
                    .mend(format!(
                        "give it a port of its own; the first is at {first}"
                    )),
            ),
            None => kept.push((listener, place)),
        }
    }
    kept.into_iter().map(|(listener, _)| listener).collect()
}

/// True if two sockets cannot both be open. A wildcard of either family takes the port on all
/// addresses.
pub fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip().to_canonical() == other.ip().to_canonical()
        || one.ip().is_unspecified()
        || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

/// Reads `[[mirror]]`.
pub(super) fn mirror(section: &mut Section<'_>, place: &Place) -> Option<(Mirror, Place)> {
    let selections = [
        ("ordered", Select::Ordered),
        ("fastest", Select::Fastest),
        ("round-robin", Select::RoundRobin),
    ];
    let name = section.value("name", values::optional_text).flatten();
    let hosts = section
        .value("hosts", values::list(host))
        .unwrap_or_default();
    let origins = section.value("origins", values::list(origin));
    let select = section
        .value("select", values::one_of(&selections))
        .unwrap_or_default();
    let has_origins = match &origins {
        Some(origins) => !origins.is_empty(),
        // It is there, and what is wrong with it was said.
        None => section.get("origins").is_some(),
    };
    for (missing, what, mend) in [
        (name.is_none(), "name", "add name = \"…\""),
        (!has_origins, "origins", "add origins = [\"https://…/\"]"),
    ] {
        if missing {
            let problem = Problem::error(format!("this mirror has no {what}"));
            section.problem(problem.at(place).mend(mend));
        }
    }
    let mirror = Mirror {
        name: name?,
        hosts,
        origins: origins.unwrap_or_default(),
        select,
        access: None,
    };
    (!mirror.origins.is_empty()).then(|| (mirror, place.clone()))
}

/// Keeps the mirrors whose names are their own.
pub(super) fn distinct(section: &mut Section<'_>, mirrors: Vec<(Mirror, Place)>) -> Vec<Mirror> {
    let mut kept: Vec<Mirror> = Vec::new();
    for (mirror, place) in mirrors {
        if kept.iter().any(|other| other.name == mirror.name) {
            let problem = Problem::error(format!("a second mirror is called `{}`", mirror.name));
            section.problem(problem.at(&place).mend("give it a name of its own"));
        } else {
            kept.push(mirror);
        }
    }
    kept
}

fn host(node: &Node) -> Result<String, Problem> {
    let text = values::text(node)?;
    match Authority::parse(&text, Some(80)) {
        Ok(authority) if authority.port == 80 => Ok(authority.host),
        Ok(_) => Err(bad(
            node,
            &"a host of a mirror has no port",
            "leave the port out",
        )),
        Err(error) => Err(bad(
            node,
            &error,
            "write a host name such as \"ftp.example.org\"",
        )),
    }
}

fn origin(node: &Node) -> Result<Origin, Problem> {
    Origin::parse(&values::text(node)?).map_err(|error| {
        bad(
            node,
            &error,
            "write a URL such as \"https://ftp.example.org/\"",
        )
    })
}

/// The address of a socket: `10.0.0.1:80`, `[::]:80`, or `:80` for every address.
pub(super) fn address(node: &Node) -> Result<SocketAddr, Problem> {
    parse_address(&values::text(node)?).ok_or_else(|| {
        bad(
            node,
            &"this is no address and port",
            "write \"[::]:3128\" or \"10.0.0.1:3128\"",
        )
    })
}

/// Reads the address of a socket: `10.0.0.1:80`, `[::]:80`, `:80` or `80`.
pub fn parse_address(text: &str) -> Option<SocketAddr> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse::<u16>() {
        return Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    text.parse().ok()
}

/// The parent of `[upstream]`, if there is one.
pub(super) fn parents(section: &mut Section<'_>) -> Vec<Parent> {
    let parent = section.value("parent", |node| {
        let text = values::text(node)?;
        if text.is_empty() {
            return Ok(None);
        }
        match parse_parent(&text) {
            Some(parent) => Ok(Some(parent)),
            // The text may hold a password: it is not repeated.
            None => Err(bad(
                node,
                &"this is no URL of a proxy",
                "write \"http://user:password@host:3128\"",
            )),
        }
    });
    parent.flatten().into_iter().collect()
}

fn parse_parent(text: &str) -> Option<Parent> {
    let rest = text.strip_prefix("http://")?.trim_end_matches('/');
    let (login, authority) = match rest.rsplit_once('@') {
        Some((login, authority)) => (Some(login), authority),
        None => (None, rest),
    };
    let authority = Authority::parse(authority, Some(3128)).ok()?;
    let authorization = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
    Some(Parent {
        name: authority.to_string(),
        authority,
        authorization,
        access: None,
    })
}

/// `upgrade = "auto"` or a list of hosts.
pub(super) fn upgrade(node: &Node) -> Result<Upgrade, Problem> {
    const MEND: &str =
        "write \"auto\", or a list of hosts such as [\"mirror.example.org\", \"*.example.net\"]";
    if matches!(node.value, Value::Text(_) | Value::Word(_)) {
        let word = values::text(node)?;
        return match word.as_str() {
            "auto" => Ok(Upgrade::Auto),
            _ => Err(bad(
                node,
                &format!("`{word}` says not whom to ask over TLS"),
                MEND,
            )),
        };
    }
    let hosts = values::list(|node| {
        let host = values::text(node)?.to_ascii_lowercase();
        let name = host.strip_prefix("*.").unwrap_or(&host);
        match Authority::parse(name, Some(443)) {
            Ok(authority) if authority.port == 443 && !name.contains(':') => Ok(host),
            _ => Err(bad(node, &format!("`{host}` is no host"), MEND)),
        }
    })(node)?;
    Ok(if hosts.is_empty() {
        Upgrade::Never
    } else {
        Upgrade::Hosts(hosts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_the_port_on_every_address() {
        let at = |text: &str| parse_address(text).unwrap();
        for (one, other, expected) in [
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "10.0.0.2:80", false),
            ("[::]:80", "[::]:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            (":80", "80", true),
        ] {
            assert_eq!(clash(at(one), at(other)), expected, "{one} and {other}");
        }
    }

    #[test]
    fn a_parents_login_becomes_basic_credentials() {
        let parent = parse_parent("http://user:pass@proxy.example.org:8080/").unwrap();
        assert_eq!(parent.authority.to_string(), "proxy.example.org:8080");
        assert_eq!(parent.authorization.as_deref(), Some("Basic dXNlcjpwYXNz"));
        assert!(parse_parent("https://proxy.example.org").is_none());
    }
}
