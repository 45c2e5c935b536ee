//! `[boot]` beside the other tables: sockets that two parts want, and what one part takes from another.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use larder_boot::net::interfaces;
use larder_boot::review::{Site, review};
use larder_boot::serve::core::choice;

use super::listen::clash;
use crate::commands::boot::from_settings;
use crate::config::problem::{Place, Problem};
use crate::config::settings::Settings;
use crate::config::tree::{Section, Value};

/// Judges `[boot]` by all that was read.
pub(super) fn boot(top: &mut Section<'_>, settings: &Settings) {
    if !settings.boot.enabled {
        return;
    }
    let mut problems: Vec<(&'static str, Problem)> = Vec::new();
    problems.extend(taken(settings).map(|problem| ("http", problem)));
    problems.extend(elsewhere(settings.boot.http.ip()).map(|problem| ("http", problem)));
    if is_shared(settings) && settings.boot.next.is_some() {
        let text = "boot.next is without effect: machines get provisioning's scripts, on the port that both have";
        let mend = "take it out, or give boot.http a port of its own and let next lead to provisioning's boot.ipxe where that is meant";
        problems.push(("next", Problem::warning(text).mend(mend)));
    }
    problems.extend(remarks(settings));
    for (key, problem) in problems {
        let placed = match place(top, key) {
            Some(place) => problem.at(&place),
            None => problem,
        };
        top.problem(placed);
    }
}

/// Where a key of `[boot]` stands.
fn place(top: &mut Section<'_>, key: &str) -> Option<Place> {
    match &top.get("boot")?.value {
        Value::Table(entries) => {
            let entry = entries.iter().find(|entry| entry.key == key);
            entry.map(|entry| entry.node.place.clone())
        }
        _ => None,
    }
}

/// Tells whether provisioning answers on the boot part's port.
fn is_shared(settings: &Settings) -> bool {
    settings.provision.enabled && settings.provision.http == settings.boot.http
}

/// Who else wants the boot part's socket: `serve` would end with it.
fn taken(settings: &Settings) -> Option<Problem> {
    let wanted = settings.boot.http;
    let proxy = settings.listen.iter();
    let proxy = proxy.map(|listener| ("a listener of the proxy", listener.address));
    let admin = settings
        .admin
        .address
        .map(|at| ("the administrators' page", at));
    let provision = &settings.provision;
    let is_provision = provision.enabled;
    let http = Some(("provisioning", provision.http));
    let http = http.filter(|(_, at)| is_provision && *at != wanted);
    let grpc = provision.grpc.map(|at| ("provisioning's gRPC", at));
    let others = proxy.chain(admin).chain(http);
    let mut others = others.chain(grpc.filter(|_| is_provision));
    let is_taken = |other: &(&str, SocketAddr)| clash(wanted, other.1);
    let (what, address) = others.find(is_taken)?;
    let text = format!(
        "boot scripts would be on port {}, which {what} has ({address})",
        wanted.port()
    );
    Some(Problem::error(text).mend("let boot.http be a free port; :8080 is the usual one"))
}

/// Says that an address is none of this host's. A warning: whoever checks may sit at another machine than
/// the one that will serve.
fn elsewhere(address: IpAddr) -> Option<Problem> {
    let error = TcpListener::bind((address, 0)).err()?;
    (error.kind() == ErrorKind::AddrNotAvailable).then(|| {
        Problem::warning(format!("{address} is no address of this machine"))
            .mend("larder does not start without it: name one of its own, or a port alone for all")
    })
}

/// What the boot part itself has to say of its settings.
fn remarks(settings: &Settings) -> Vec<(&'static str, Problem)> {
    let Ok(mut config) = from_settings(&settings.boot) else {
        return Vec::new();
    };
    let port = config.http.map(|http| http.port());
    if is_shared(settings) {
        config.http = None;
    }
    let served = interfaces::list().ok();
    let served = served.and_then(|all| choice(&config).pick(&all).ok());
    let addresses: Vec<Ipv4Addr> = served
        .iter()
        .flatten()
        .map(|found| found.interface.address)
        .collect();
    let site = Site {
        port,
        addresses: &addresses,
        has_cache: !settings.listen.is_empty(),
    };
    let remarks = review(&config, site).into_iter();
    remarks
        .map(|remark| {
            (
                remark.key,
                Problem::warning(remark.detail).mend(remark.mend),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::{Problems, Source};
    use crate::environment::Environment;
    use std::path::Path;

    /// What is said of a larder.toml with network boot turned on, with the line it stands on.
    fn said(boot: &str, more: &str) -> Vec<String> {
        let text = format!("[boot]\nenabled = true\n{boot}\n{more}");
        let source = Source::new("larder.toml", text);
        let environment = Environment::of_pairs([("", ""); 0]);
        let mut problems = Problems::default();
        super::super::read(&source, Path::new(""), &environment, &mut problems);
        let line = |problem: &Problem| Some(problem.place.as_ref()?.line_column().0);
        let told = problems.iter().map(|problem| {
            let line = line(problem).unwrap_or_default();
            format!("{line} {}: {problem}", problem.severity.as_str())
        });
        told.collect()
    }

    #[test]
    fn a_socket_that_another_part_has_is_refused() {
        for (boot, more, told) in [
            ("http = ':3128'", "", "a listener of the proxy"),
            ("http = '127.0.0.1:3180'", "", "the administrators' page"),
            (
                "http = ':8080'",
                "[provision]\nenabled = true\nhttp = '127.0.0.1:8080'\n",
                "provisioning has",
            ),
            (
                "http = ':8081'",
                "[provision]\nenabled = true\ngrpc = ':8081'\n",
                "provisioning's gRPC",
            ),
        ] {
            let all = said(boot, more);
            let is_told = |line: &String| line.starts_with("3 error: ") && line.contains(told);
            assert!(all.iter().any(is_told), "{boot}: {all:?}");
        }
        let shared = said("http = ':8080'", "[provision]\nenabled = true\n");
        assert!(shared.is_empty(), "{shared:?}");
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let all = said("http = '192.0.2.9:8080'", "");
        assert_eq!(all, ["3 warning: 192.0.2.9 is no address of this machine"]);
    }

    #[test]
    fn scripts_for_this_host_alone_and_scripts_that_load_themselves_are_told() {
        let interfaces = interfaces::list().unwrap();
        let served = interfaces::Choice::default().pick(&interfaces);
        let hidden = said("http = '127.0.0.1:8080'", "");
        // Where there is no network, there is nobody to be kept out.
        assert_eq!(hidden.len(), usize::from(served.is_ok()), "{hidden:?}");
        let looping = "interfaces = ['lo']\nnext = 'http://127.0.0.1:8080/boot.ipxe'";
        let all = said(looping, "");
        let is_told =
            |line: &String| line.starts_with("4 warning: ") && line.contains("load itself");
        assert!(all.iter().any(is_told), "{all:?}");
    }

    #[test]
    fn a_script_that_provisioning_stands_in_for_is_told() {
        let next = "next = 'http://192.0.2.1/boot.ipxe'";
        let all = said(next, "[provision]\nenabled = true\n");
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].starts_with("3 warning: boot.next is without effect"),
            "{all:?}"
        );
        let apart = said(next, "[provision]\nenabled = true\nhttp = ':8090'\n");
        assert!(apart.is_empty(), "{apart:?}");
    }
}
