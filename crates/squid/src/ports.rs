//! `http_port [address:]port [mode] [options]`.

use std::net::IpAddr;

use larder_policy::url::Authority;

use crate::configuration::{Accelerator, HttpPort, PortMode};
use crate::note::Findings;
use crate::source::{Statement, Token};

const TLS_MEND: &str = "let clients tunnel (CONNECT), or put a TLS server in front";
const INTERCEPT_MEND: &str =
    "tell the clients of the proxy (proxy=… in yum.conf, dnf.conf, apt.conf)";

/// Options that tune what larder does by itself.
const HARMLESS: [&str; 19] = [
    "act-as-origin",
    "cipher",
    "connection-auth",
    "crlfile",
    "dhparams",
    "disable-pmtu-discovery",
    "dynamic_cert_mem_cache_size",
    "generate-host-certificates",
    "ignore-cc",
    "no-connection-auth",
    "options",
    "protocol",
    "rate-limit",
    "tcpkeepalive",
    "tls-dh",
    "tls-min-version",
    "tls-no-npn",
    "version",
    "worker-queues",
];

/// Reads all lines. An identical line again is merged with the first.
pub(crate) fn read(statements: &[Statement], found: &mut Findings) -> Vec<HttpPort> {
    let mut ports: Vec<HttpPort> = Vec::new();
    for statement in statements.iter().filter(|s| s.name.text == "http_port") {
        let Some(port) = http_port(statement, found) else {
            continue;
        };
        match ports.iter().find(|held| clash(held, &port)) {
            None => ports.push(port),
            Some(held) if held.mode == port.mode && held.address == port.address => {
                let text = format!("the same http_port as in line {}", held.position.line);
                found.info(
                    &port.position,
                    text,
                    "remove one of them; they are taken as one",
                );
            }
            Some(held) => {
                let text = format!(
                    "port {} is taken by line {} already",
                    port.port, held.position.line
                );
                found.problem(
                    &port.position,
                    text,
                    "give one of them another port or address",
                );
            }
        }
    }
    ports
}

/// True if both cannot be opened. Port 0 lets the system choose.
fn clash(a: &HttpPort, b: &HttpPort) -> bool {
    let same_address = match (a.address, b.address) {
        (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
        _ => true,
    };
    a.port == b.port && a.port != 0 && same_address
}

fn http_port(statement: &Statement, found: &mut Findings) -> Option<HttpPort> {
    let socket = statement.argument(0, "a port, as 3128", found)?;
    let (address, port) = socket_of(socket, found)?;
    let mut options = Options::default();
    for option in statement.arguments.iter().skip(1) {
        options.take(option, found);
    }
    Some(HttpPort {
        position: statement.name.at.clone(),
        address,
        port,
        name: options.name.take().unwrap_or_else(|| socket.text.clone()),
        mode: options.mode(port, statement, found),
    })
}

fn socket_of(token: &Token, found: &mut Findings) -> Option<(Option<IpAddr>, u16)> {
    let (host, port) = match token.text.rsplit_once(':') {
        Some((host, port)) => (Some(host), port),
        None => (None, token.text.as_str()),
    };
    let Ok(number) = port.parse::<u16>() else {
        let text = format!("`{port}` is no port");
        found.problem(
            &token.at,
            text,
            "write a number up to 65535, as http_port 3128",
        );
        return None;
    };
    let Some(host) = host else {
        return Some((None, number));
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match bare {
        "" | "*" => return Some((None, number)),
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        _ => bare.parse().ok(),
    };
    if address.is_none() {
        let text = format!("`{host}` is no address");
        found.problem(
            &token.at,
            text,
            "write the address of this host, not its name",
        );
    }
    address.map(|address| (Some(address), number))
}

#[derive(Default)]
struct Options {
    accel: bool,
    no_vhost: bool,
    vhost: bool,
    vport: Option<u16>,
    /// `vport` without a number: the listening port's.
    own_vport: bool,
    default_site: Option<String>,
    allow_direct: bool,
    name: Option<String>,
}

impl Options {
    fn take(&mut self, token: &Token, found: &mut Findings) {
        let (word, value) = match token.text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (token.text.as_str(), None),
        };
        match (word, value) {
            ("accel", None) => self.accel = true,
            ("vport", None) => (self.own_vport, self.accel) = (true, true),
            ("vhost", None) => (self.vhost, self.accel) = (true, true),
            ("no-vhost", None) => self.no_vhost = true,
            ("allow-direct", None) => self.allow_direct = true,
            ("defaultsite", Some(site)) => {
                self.accel = true;
                self.default_site = Some(site.to_owned());
                if let Err(error) = Authority::parse(site, Some(80)) {
                    let at = token.at.within("defaultsite=".len(), site.chars().count());
                    let text = format!("`{site}` is no host: {error}");
                    found.problem(&at, text, "write defaultsite=HOST or defaultsite=HOST:PORT");
                }
            }
            ("name", Some(name)) => self.name = Some(name.to_owned()),
            ("vport", Some(port)) => {
                self.accel = true;
                let at = token.at.within("vport=".len(), port.len());
                let port = Token {
                    text: port.to_owned(),
                    at,
                };
                self.vport = crate::values::number(&port, "port", found);
            }
            _ => other(word, token, found),
        }
    }

    fn mode(self, port: u16, statement: &Statement, found: &mut Findings) -> PortMode {
        if !self.accel {
            if self.allow_direct || self.no_vhost {
                let text = "allow-direct and no-vhost are for accelerator ports: no effect";
                found.warn(&statement.name.at, text, "add accel, or remove them");
            }
            return PortMode::Forward;
        }
        let vhost = self.vhost || !self.no_vhost;
        if !vhost && self.default_site.is_none() {
            found.problem(
                &statement.name.at,
                "this accelerator port has neither a site of its own nor takes the Host field",
                "add defaultsite=HOST",
            );
        }
        PortMode::Accelerator(Accelerator {
            default_site: self.default_site,
            vhost,
            vport: self.vport.or(self.own_vport.then_some(port)),
            allow_direct: self.allow_direct,
        })
    }
}

fn other(word: &str, token: &Token, found: &mut Findings) {
    match word {
        "ssl-bump" => found.problem(
            &token.at,
            "opening clients' TLS connections (ssl-bump) is not supported",
            TLS_MEND,
        ),
        "cert" | "tls-cert" | "key" | "tls-key" | "clientca" | "cafile" | "capath" | "sslflags" => {
            found.info(
                &token.at,
                format!("`{word}` has no effect on an http_port"),
                "remove it",
            );
        }
        "require-proxy-header" => found.problem(
            &token.at,
            "the PROXY protocol (require-proxy-header) is not supported: each connection would be \
             refused, and rules would see the balancer's address",
            "let the balancer pass connections on as they are, and remove the option",
        ),
        "intercept" | "transparent" | "tproxy" => found.problem(
            &token.at,
            format!("taking connections that are meant for others (`{word}`) is not supported"),
            INTERCEPT_MEND,
        ),
        _ if HARMLESS.contains(&word) => {
            found.info(&token.at, format!("`{word}` has no effect"), "");
        }
        _ => {
            let known = [
                "accel",
                "defaultsite",
                "no-vhost",
                "vhost",
                "vport",
                "allow-direct",
                "name",
            ];
            let mend = match crate::suggest::nearest(word, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "remove it".to_owned(),
            };
            found.problem(&token.at, format!("http_port has no option `{word}`"), mend);
        }
    }
}
