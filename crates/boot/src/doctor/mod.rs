//! Finds what would keep machines from booting, and says what to do about it.
//!
//! It looks at this host (interfaces, boot programs, the TFTP port), asks the link as a booting machine
//! would with a made-up address, and reads what a running larder saw. It changes nothing and takes no lease:
//! offers are never followed by a request.

mod probe;
mod script;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use self::probe::Server;
use crate::config::{Config, SocketKind};
use crate::error::{Error, to_set_up};
use crate::loaders;
use crate::look::Looks;
use crate::net::interfaces::{self, Found};
use crate::packet::architecture::Cpu;
use crate::review::{Remark, Site, review};
use crate::serve::core::choice;
use crate::words;

/// Something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, in one word for scripts.
    pub id: &'static str,
    /// Whether machines fail to boot because of it.
    pub is_problem: bool,
    /// The interface that it is about, if it is about one.
    pub interface: Option<String>,
    /// What was seen.
    pub detail: String,
    /// What to do.
    pub mend: String,
}

/// All that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether nothing stands in the way.
    pub is_healthy: bool,
    /// Servers that answered on the served links.
    pub servers: Vec<Server>,
    /// What was found, problems first.
    pub findings: Vec<Finding>,
}

/// Examines this host and its links; listens for `wait` on each.
///
/// # Errors
/// The interfaces cannot be listed, or the raw socket that listens cannot be opened.
pub async fn examine(config: &Config, wait: Duration) -> Result<Report, Error> {
    let all = interfaces::list().map_err(Error::Interfaces)?;
    let mut findings = addresses(config, &all);
    findings.extend(programs(config));
    let served = choice(config).pick(&all).unwrap_or_default();
    let own = all.iter().flat_map(|found| found.interface.networks());
    let own: BTreeSet<Ipv4Addr> = own.map(|(address, _)| address).collect();
    let mut servers = Vec::new();
    for found in &served {
        let answered = probe::ask(found, wait).await?;
        findings.extend(judge(&found.interface.name, &answered, &own));
        servers.extend(answered);
        findings.extend(tftp(found).await);
    }
    let port = config.http.map(|address| address.port());
    let running = match port {
        Some(port) => running_machines(port).await,
        None => None,
    };
    let booted = booted(running.as_deref().unwrap_or_default());
    findings.extend(without_main(&served, &servers, config.socket, booted));
    let addresses: Vec<Ipv4Addr> = served.iter().map(|found| found.interface.address).collect();
    let remarks = remarks(config, &addresses);
    let is_hidden = remarks.iter().any(|told| told.id == "scripts-unreachable");
    findings.extend(remarks);
    // Under words that name scripts, larder's own leads on to those, each machine to its own.
    let mut words = config.words.iter();
    let is_own = running.is_some() && !is_hidden && !words.any(words::script::is_named);
    let own = served.first().zip(port.filter(|_| is_own));
    let own =
        own.map(|(found, port)| format!("http://{}:{port}/boot.ipxe", found.interface.address));
    findings.extend(script::unreachable(config, own).await);
    findings.extend(unfollowed(&running.unwrap_or_default()));
    findings.sort_by_key(|finding| !finding.is_problem);
    let is_healthy = !findings.iter().any(|finding| finding.is_problem);
    Ok(Report {
        is_healthy,
        servers,
        findings,
    })
}

/// Interfaces that cannot be served.
fn addresses(config: &Config, all: &[Found]) -> Vec<Finding> {
    let finding = |name: &str, detail: String, mend: String| Finding {
        id: "interface-without-address",
        is_problem: true,
        interface: Some(name.to_owned()),
        detail,
        mend,
    };
    let mut findings = Vec::new();
    for name in &config.interfaces {
        let (detail, mend) = match interfaces::presence(name, all) {
            Ok(()) => continue,
            Err(Error::NoSuchInterface { known, .. }) => (
                format!("there is no interface {name}"),
                format!("name one that is there: {known}"),
            ),
            Err(_) => (
                format!("interface {name} is down or has no IPv4 address"),
                to_set_up(name) + ": without one the kernel drops broadcasts",
            ),
        };
        findings.push(finding(name, detail, mend));
    }
    if findings.is_empty() && choice(config).pick(all).is_err() {
        let detail = "no interface with an IPv4 address is there to serve".to_owned();
        findings.push(finding("eth0", detail, to_set_up("eth0")));
    }
    findings
}

/// What of the configuration will not be as it is written.
fn remarks(config: &Config, addresses: &[Ipv4Addr]) -> Vec<Finding> {
    let site = Site {
        port: config.http.map(|address| address.port()),
        addresses,
        // Whether one runs is for those to say who start it.
        has_cache: true,
    };
    let finding = |remark: Remark| Finding {
        id: remark.id,
        is_problem: true,
        interface: None,
        detail: remark.detail,
        mend: remark.mend.to_owned(),
    };
    review(config, site).into_iter().map(finding).collect()
}

/// Kinds of firmware that nothing can be served to, and what of the root does not answer.
fn programs(config: &Config) -> Vec<Finding> {
    let looks = Looks::default();
    let missing = loaders::find(config.root.as_deref(), config.secure_boot, &looks).missing;
    let usual = [Cpu::Bios.to_string(), Cpu::X64.to_string()];
    let finding = |missing: loaders::Missing| Finding {
        id: "missing-loader",
        is_problem: usual.contains(&missing.architecture),
        interface: None,
        detail: format!("there is no boot program for {}", missing.architecture),
        mend: missing.mend,
    };
    let silent = |path: PathBuf| Finding {
        id: "disk-does-not-answer",
        is_problem: true,
        interface: None,
        detail: format!("{} does not answer", path.display()),
        mend:
            "see to its disk or server; a larder that starts meanwhile finds no boot program there"
                .to_owned(),
    };
    let missing = missing.into_iter().map(finding);
    missing
        .chain(looks.silent().into_iter().map(silent))
        .collect()
}

/// What the servers of a link mean for booting machines.
fn judge(interface: &str, servers: &[Server], own: &BTreeSet<Ipv4Addr>) -> Vec<Finding> {
    let finding = |id, is_problem, detail: String, mend: &str| Finding {
        id,
        is_problem,
        interface: Some(interface.to_owned()),
        detail,
        mend: mend.to_owned(),
    };
    let mut findings = Vec::new();
    // A main server of this very host is one like any other.
    let others: Vec<&Server> = servers
        .iter()
        .filter(|server| !(server.is_proxy && own.contains(&server.address)))
        .collect();
    for server in &others {
        let address = server.address;
        if server.is_proxy {
            findings.push(finding(
                "rogue-pxe-server",
                true,
                format!("{address} answers PXE clients too: {}", server.summary()),
                "stop that server: firmware follows whichever answers first",
            ));
        } else if let Some(file) = &server.file {
            findings.push(finding(
                "main-server-bootfile",
                true,
                format!("the DHCP server {address} itself names a boot file, {file}"),
                "take next-server, filename and options 66 and 67 out of its configuration",
            ));
        }
        if server.is_no_pxedhcp {
            findings.push(finding(
                "no-pxedhcp",
                true,
                format!("the DHCP server {address} tells iPXE not to wait for proxies (option 175, no-pxedhcp)"),
                "take that option out of its configuration, or have it name larder's script itself (larder boot export)",
            ));
        }
    }
    let main: BTreeSet<Ipv4Addr> = others
        .iter()
        .filter(|server| !server.is_proxy)
        .map(|server| server.address)
        .collect();
    if main.len() > 1 {
        findings.push(finding(
            "two-address-servers",
            true,
            format!("{} DHCP servers give addresses", main.len()),
            "leave one of them",
        ));
    }
    findings
}

/// Links without a DHCP server that gives addresses. Where no served link has one, nothing will boot; where one
/// has, the others may be links without machines. One on this very host (`boot.socket = "packet"`) does not
/// hear what its own host sends, as a rule. And a server that gives addresses to machines that it knows, or
/// beyond a relay, says nothing to one that is made up: a machine that has booted shows that there is one.
fn without_main(
    served: &[Found],
    servers: &[Server],
    socket: SocketKind,
    booted: Option<&str>,
) -> Vec<Finding> {
    let is_main = |server: &&Server| !server.is_proxy;
    let is_anywhere = servers.iter().any(|server| is_main(&server));
    let names = served.iter().map(|found| &found.interface.name);
    let without = names.filter(|name| {
        let mut main = servers.iter().filter(is_main);
        !main.any(|server| server.interface == **name)
    });
    let booted_here = booted.map(|mac| format!("; {mac} has booted from here, so that it got one"));
    let booted_here = booted_here.unwrap_or_default();
    let finding = |name: &String| {
        Finding {
        id: "no-main-server",
        is_problem: !is_anywhere && socket == SocketKind::Udp && booted.is_none(),
        interface: Some(name.clone()),
        detail: format!("no DHCP server gave a made-up machine an address on {name}{booted_here}"),
        mend: "machines need one: larder gives no leases. One that knows its machines (reservations alone), whose \
               addresses are used up, or that is behind a relay does not show here: it does once a machine has booted \
               from a larder that runs"
            .to_owned(),
    }
    };
    without.map(finding).collect()
}

/// A machine that a running larder offered files to and that came for one: it got an address from somebody.
/// Who only fetches a script may have any address, as an operator who tries it has.
fn booted(machines: &[serde_json::Value]) -> Option<&str> {
    let has_booted = |machine: &&serde_json::Value| {
        let events = machine["events"].as_array().into_iter().flatten();
        let mut steps = events.filter_map(|event| event["step"].as_str());
        let came = ["boot-server", "probe", "tftp", "script", "http"];
        steps.any(|step| step == "offer") && steps.any(|step| came.contains(&step))
    };
    machines.iter().find(has_booted)?["mac"].as_str()
}

/// Tells whether TFTP requests reach this host's port 69, if anything listens there.
async fn tftp(found: &Found) -> Option<Finding> {
    let table = std::fs::read_to_string("/proc/net/udp").ok()?;
    let is_bound = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|local| local.ends_with(":0045"))
    };
    if !table.lines().any(is_bound) {
        return None;
    }
    let address = found.interface.address;
    let is_answered = probe::is_tftp_answered(address).await;
    (!is_answered).then(|| Finding {
        id: "tftp-blocked",
        is_problem: true,
        interface: Some(found.interface.name.clone()),
        detail: format!(
            "a TFTP server listens on port 69, but a request to {address} gets no answer"
        ),
        mend: "let UDP port 69 in, and answers from high ports out, in this host's firewall"
            .to_owned(),
    })
}

/// Machines that a running larder offered files to in vain.
fn unfollowed(machines: &[serde_json::Value]) -> Vec<Finding> {
    let is_step = |machine: &serde_json::Value, step: &str| {
        let events = machine["events"].as_array();
        events
            .and_then(|events| events.last())
            .is_some_and(|last| last["step"] == step)
    };
    let mut findings = Vec::new();
    for machine in machines {
        let mac = machine["mac"].as_str().unwrap_or_default();
        if is_step(machine, "unfollowed") {
            findings.push(Finding {
                id: "offers-not-followed",
                is_problem: true,
                interface: None,
                detail: format!("{mac} was offered files again and again and never came for one"),
                mend: "its firmware may ignore proxies: have the main server name the file (larder boot export)".into(),
            });
        } else if is_step(machine, "loop") {
            findings.push(Finding {
                id: "boot-loop",
                is_problem: true,
                interface: None,
                detail: format!("{mac} loads its boot program again and again"),
                mend: "that program finds no network card or refuses to run: try another one in boot.root".into(),
            });
        }
    }
    findings
}

/// The machines that a larder on this host has seen.
async fn running_machines(port: u16) -> Option<Vec<serde_json::Value>> {
    let fetch = async {
        let mut stream = tokio::net::TcpStream::connect((IpAddr::V4(Ipv4Addr::LOCALHOST), port))
            .await
            .ok()?;
        stream
            .write_all(b"GET /machines.json HTTP/1.0\r\n\r\n")
            .await
            .ok()?;
        let mut answer = Vec::new();
        stream
            .take(16 * 1024 * 1024)
            .read_to_end(&mut answer)
            .await
            .ok()?;
        let text = String::from_utf8(answer).ok()?;
        let (_, body) = text.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    };
    tokio::time::timeout(Duration::from_secs(2), fetch)
        .await
        .ok()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Interface;

    fn server(last: u8) -> Server {
        Server {
            interface: "e0".into(),
            address: Ipv4Addr::new(10, 0, 0, last),
            is_proxy: false,
            offered: Some(Ipv4Addr::new(10, 0, 0, 100)),
            next_server: None,
            file: None,
            is_no_pxedhcp: false,
        }
    }

    fn link(name: &str, address: Ipv4Addr) -> Found {
        Found {
            interface: Interface {
                name: name.into(),
                index: 1,
                address,
                mask: Ipv4Addr::new(255, 255, 255, 0),
                networks: Vec::new(),
                mtu: 1500,
            },
            v6: Vec::new(),
            link: None,
            is_loopback: false,
        }
    }

    fn ids(servers: &[Server]) -> Vec<&'static str> {
        let own = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 2)]);
        judge("e0", servers, &own)
            .into_iter()
            .map(|finding| finding.id)
            .collect()
    }

    #[test]
    fn one_plain_main_server_is_healthy() {
        assert!(ids(&[server(1)]).is_empty());
    }

    #[test]
    fn what_competes_with_larder_is_named() {
        let rogue = Server {
            is_proxy: true,
            offered: None,
            ..server(9)
        };
        assert_eq!(ids(&[server(1), rogue]), ["rogue-pxe-server"]);
        let with_file = Server {
            file: Some("pxelinux.0".into()),
            ..server(1)
        };
        assert_eq!(ids(&[with_file]), ["main-server-bootfile"]);
        let deaf = Server {
            is_no_pxedhcp: true,
            ..server(1)
        };
        assert_eq!(ids(&[deaf]), ["no-pxedhcp"]);
        assert_eq!(ids(&[server(1), server(3)]), ["two-address-servers"]);
        let own_with_file = Server {
            file: Some("pxelinux.0".into()),
            ..server(2)
        };
        assert_eq!(ids(&[own_with_file]), ["main-server-bootfile"]);
    }

    #[test]
    fn a_host_without_any_main_server_is_ill_and_one_link_without_is_not() {
        let own = Ipv4Addr::new(10, 0, 0, 2);
        let links = [link("e0", own), link("e1", own)];
        let found = |servers: &[Server], socket| -> Vec<(String, bool)> {
            let findings = without_main(&links, servers, socket, None).into_iter();
            let told = findings.map(|found| (found.interface.unwrap(), found.is_problem));
            told.collect()
        };
        let own = Server {
            is_proxy: true,
            offered: None,
            ..server(2)
        };
        let both = |is_problem| vec![("e0".into(), is_problem), ("e1".into(), is_problem)];
        assert_eq!(
            found(std::slice::from_ref(&own), SocketKind::Udp),
            both(true)
        );
        let booted = without_main(&links, &[], SocketKind::Udp, Some("52:54:00:77:00:20"));
        assert!(booted.iter().all(|remark| !remark.is_problem));
        assert!(booted[0].detail.contains("52:54:00:77:00:20 has booted"));
        assert_eq!(found(&[own], SocketKind::Packet), both(false));
        let one = found(&[server(1)], SocketKind::Udp);
        assert_eq!(one, [("e1".into(), false)]);
    }

    #[test]
    fn a_machine_has_booted_that_came_for_what_it_was_offered() {
        let machine = |steps: &[&str]| {
            let events = steps.iter().map(|step| serde_json::json!({"step": step}));
            let events: Vec<_> = events.collect();
            serde_json::json!({"mac": "52:54:00:77:00:20", "events": events})
        };
        for (steps, has_booted) in [
            (&["offer", "tftp"][..], true),
            (&["offer", "boot-server"], true),
            (&["offer", "offer", "silence"], false),
            (&["script", "http"], false),
            (&["http", "offer", "unfollowed"], false),
            (&[], false),
        ] {
            assert_eq!(booted(&[machine(steps)]).is_some(), has_booted, "{steps:?}");
        }
    }

    #[test]
    fn a_link_that_is_down_is_to_be_set_up() {
        let config = Config {
            interfaces: vec!["e0".to_owned(), "nope".to_owned()],
            ..Config::default()
        };
        let down = link("e0", Ipv4Addr::UNSPECIFIED);
        let found = addresses(&config, &[down]);
        assert!(found[0].mend.contains("ip link set e0 up"), "{found:?}");
        assert_eq!(found[1].mend, "name one that is there: e0");
    }

    #[test]
    fn a_script_that_would_load_itself_is_found() {
        let config = Config {
            next: Some("http://10.0.0.2:8080/boot.ipxe".to_owned()),
            ..Config::default()
        };
        let ids = |address: [u8; 4]| -> Vec<_> {
            let findings = remarks(&config, &[address.into()]);
            findings.iter().map(|f| (f.id, f.is_problem)).collect()
        };
        assert_eq!(ids([10, 0, 0, 2]), [("script-loops", true)]);
        assert!(ids([10, 0, 0, 3]).is_empty());
    }

    #[test]
    fn larder_itself_is_no_rogue() {
        let own = Server {
            is_proxy: true,
            offered: None,
            ..server(2)
        };
        assert!(ids(&[server(1), own]).is_empty());
    }
}
