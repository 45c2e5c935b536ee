//! `cache_peer` and `cache_peer_access`.

use std::collections::HashMap;

use crate::acl::Acls;
use crate::configuration::{Peer, PeerKind, Secret};
use crate::lists::Lines;
use crate::note::Findings;
use crate::source::{Statement, Token};
use crate::suggest;
use crate::values;

/// They forbid what larder never does.
const OBEYED: [&str; 5] = [
    "no-delay",
    "no-digest",
    "no-netdb-exchange",
    "no-query",
    "no-tproxy",
];

/// Ways to choose among peers.
const IN_ORDER: [&str; 6] = [
    "carp",
    "round-robin",
    "sourcehash",
    "userhash",
    "weight",
    "weighted-round-robin",
];

/// Options that tune what larder does by itself, or does not do.
const HARMLESS: [&str; 22] = [
    "allow-miss",
    "auth-no-keytab",
    "background-ping",
    "basetime",
    "carp-key",
    "closest-only",
    "connect-fail-limit",
    "connect-timeout",
    "connection-auth",
    "default",
    "digest-url",
    "htcp",
    "max-conn",
    "monitorinterval",
    "monitorsize",
    "monitortimeout",
    "monitorurl",
    "multicast-responder",
    "multicast-siblings",
    "no-proxy-connection-auth",
    "standby",
    "ttl",
];

/// Reads all peers, and which requests each may have.
pub(crate) fn read(statements: &[Statement], acls: &Acls, found: &mut Findings) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for statement in statements.iter().filter(|s| s.name.text == "cache_peer") {
        let Some(peer) = peer(statement, found) else {
            continue;
        };
        if peers.iter().any(|held| held.name == peer.name) {
            let text = format!("there are two peers of the name `{}`", peer.name);
            found.problem(&peer.position, text, "give each of them a name=");
        } else {
            peers.push(peer);
        }
    }
    let mut lists: HashMap<&str, Lines> = HashMap::new();
    for statement in statements
        .iter()
        .filter(|s| s.name.text == "cache_peer_access")
    {
        let Some((name, words)) = statement.arguments.split_first() else {
            let text = "cache_peer_access lacks the name of a peer";
            found.problem(
                &statement.name.at,
                text,
                "write the peer's name, allow or deny, acls",
            );
            continue;
        };
        if peers.iter().any(|peer| peer.name == name.text) {
            let lines = lists.entry(&name.text).or_default();
            lines.add(statement, words, acls, found);
        } else {
            unknown(name, &peers, statements, found);
        }
    }
    for peer in &mut peers {
        peer.access = lists.remove(peer.name.as_str()).and_then(Lines::selection);
    }
    peers
}

/// A peer that was left out (a sibling) is no problem; one that was never named is.
fn unknown(name: &Token, peers: &[Peer], statements: &[Statement], found: &mut Findings) {
    let declared = statements
        .iter()
        .filter(|statement| statement.name.text == "cache_peer")
        .flat_map(|statement| &statement.arguments)
        .any(|word| word.text == name.text || word.text == format!("name={}", name.text));
    if declared {
        return;
    }
    let mend = match suggest::nearest(&name.text, peers.iter().map(|peer| peer.name.as_str())) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "declare it with cache_peer".to_owned(),
    };
    let text = format!(
        "there is no cache_peer `{}`; the line is left out",
        name.text
    );
    found.warn(&name.at, text, mend);
}

fn peer(statement: &Statement, found: &mut Findings) -> Option<Peer> {
    let [host, kind, port, _icp, options @ ..] = statement.arguments.as_slice() else {
        found.problem(
            &statement.name.at,
            "cache_peer needs a host, a type and two ports",
            "write cache_peer HOST parent PORT 0",
        );
        return None;
    };
    if kind.text != "parent" {
        if matches!(kind.text.as_str(), "sibling" | "multicast") {
            let text = format!("a {} is never asked: larder has no such peers", kind.text);
            found.info(&kind.at, text, "");
        } else {
            let text = format!(
                "`{}` is no type of peer: Squid takes it for a sibling, which larder never asks",
                kind.text
            );
            found.warn(&kind.at, text, "write parent");
        }
        return None;
    }
    let port = values::number::<u16>(port, "port", found)?;
    let options = Options::of(options, found);
    Some(Peer {
        position: statement.name.at.clone(),
        name: options.name.clone().unwrap_or_else(|| host.text.clone()),
        host: host.text.to_ascii_lowercase(),
        port,
        kind: options.kind(statement, found),
        access: None,
    })
}

#[derive(Default)]
struct Options {
    origin: bool,
    tls: bool,
    forced_domain: Option<String>,
    name: Option<String>,
    login: Option<String>,
    /// Options without effect here, as written.
    ignored: Vec<String>,
}

impl Options {
    fn of(tokens: &[Token], found: &mut Findings) -> Self {
        let mut options = Self::default();
        for token in tokens {
            options.take(token, found);
        }
        if let (Some((first, _)), false) = (tokens.split_first(), options.ignored.is_empty()) {
            let text = format!("no effect in larder: {}", options.ignored.join(", "));
            found.info(&first.at, text, "");
        }
        options
    }

    fn take(&mut self, token: &Token, found: &mut Findings) {
        let (word, value) = match token.text.split_once('=') {
            Some((word, value)) => (word, value.to_owned()),
            None => (token.text.as_str(), String::new()),
        };
        match word {
            "originserver" => self.origin = true,
            "tls" | "ssl" => self.tls = true,
            "forceddomain" => self.forced_domain = Some(value),
            "name" => self.name = Some(value),
            "login" => self.login(&value, token, found),
            "sslflags" | "tls-flags" if value.to_ascii_uppercase().contains("DONT_VERIFY") => {
                found.warn(
                    &token.at,
                    "certificates are verified all the same",
                    "remove it",
                );
            }
            _ if word.starts_with("ssl") || word.starts_with("tls") => found.warn(
                &token.at,
                format!("`{word}` has no effect yet"),
                "the system's certificate authorities are used",
            ),
            "proxy-only" => found.warn(
                &token.at,
                "`proxy-only` has no effect: what comes from this peer is kept too",
                "write `cache deny` with an acl for these requests",
            ),
            _ if IN_ORDER.contains(&word) => found.warn(
                &token.at,
                format!(
                    "`{word}` has no effect: the first peer that answers is used, in the \
                     order of the lines"
                ),
                "put the peer first that you prefer",
            ),
            _ if OBEYED.contains(&word) => {}
            _ if HARMLESS.contains(&word) => self.ignored.push(word.to_owned()),
            _ => {
                let mend =
                    match suggest::nearest(word, HARMLESS.into_iter().chain(["originserver"])) {
                        Some(meant) => format!("did you mean `{meant}`?"),
                        None => "remove it".to_owned(),
                    };
                let text = format!("cache_peer has no option `{word}`; it is left out");
                found.warn(&token.at, text, mend);
            }
        }
    }

    /// The password itself is never part of a message.
    fn login(&mut self, value: &str, token: &Token, found: &mut Findings) {
        if value.contains(':') && !value.starts_with('*') {
            self.login = Some(value.to_owned());
        } else {
            found.warn(
                &token.at,
                "this form of login= has no effect yet",
                "write login=user:password",
            );
        }
    }

    fn kind(self, statement: &Statement, found: &mut Findings) -> PeerKind {
        if self.origin {
            return PeerKind::Origin {
                tls: self.tls,
                forced_domain: self.forced_domain,
            };
        }
        if self.tls {
            found.problem(
                &statement.name.at,
                "TLS to a parent proxy is not supported, and requests must not go in the clear",
                "add originserver if it is an origin, or use a parent without TLS",
            );
        }
        PeerKind::Parent {
            login: self.login.map(Secret),
        }
    }
}
