//! What machines say of themselves, and who is believed.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::Request;
use larder_provision::{Config, Mac, Provision, State, Step};

/// A directory whose default group installs whatever boots, and one group for a machine by its address.
fn opened(directory: &Path) -> Arc<Provision> {
    for (name, text) in [
        (
            "groups/default.json",
            r#"{"id":"default","profile":"p","metadata":{"install_once":true}}"#,
        ),
        (
            "groups/named.json",
            r#"{"id":"named","profile":"p","selector":{"mac":"52:54:00:00:00:0a"}}"#,
        ),
        (
            "profiles/p.json",
            r#"{"id":"p","generic_id":"k","boot":{"kernel":"/k","initrd":["/i"]}}"#,
        ),
        ("generic/k", "text\n"),
    ] {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let config = Config {
        assets: None,
        data: directory.to_owned(),
        state: Some(directory.join("machines")),
        ..Config::default()
    };
    Provision::open(config, None).unwrap()
}

/// What an installer asks that names two interfaces, of which the second one booted.
async fn ask_of_two(provision: &Arc<Provision>, method: &str, path: &str, second: &str) -> u16 {
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header("X-RHN-Provisioning-MAC-0", "eth0 52:54:00:00:0a:01")
        .header("X-RHN-Provisioning-MAC-1", format!("eth1 {second}"));
    let client: SocketAddr = "10.0.0.9:4711".parse().unwrap();
    let response = provision.answer(&request.body(()).unwrap(), client).await;
    response.status().as_u16()
}

#[tokio::test]
async fn a_machine_with_two_interfaces_is_the_one_that_booted_to_its_end() {
    // The one is named by a group, the other one booted from the default group.
    for second in ["52:54:00:00:00:0a", "52:54:00:00:00:0b"] {
        let directory = tempfile::tempdir().unwrap();
        let provision = opened(directory.path());
        let script = format!("/ipxe?mac={second}");
        assert_eq!(
            ask(&provision, "GET", &script, "10.0.0.8:4711").await.0,
            200
        );
        for (method, path) in [("GET", "/kickstart"), ("POST", "/done")] {
            let status = ask_of_two(&provision, method, path, second).await;
            assert_eq!(status, 200, "{path}");
        }
        provision.observe_at("10.0.0.9".parse().unwrap(), Step::Packages, "packages");
        let all = provision.machines().all();
        let mac = Mac::parse(second).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), [&mac]);
        assert_eq!(all[&mac].state, State::Installed);
        let steps = all[&mac].events.iter().map(|event| event.step.as_str());
        assert_eq!(
            steps.collect::<Vec<_>>(),
            ["boot", "kickstart", "done", "packages"]
        );
    }
}

async fn ask(provision: &Arc<Provision>, method: &str, path: &str, client: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path);
    let client: SocketAddr = client.parse().unwrap();
    let response = provision.answer(&request.body(()).unwrap(), client).await;
    let reason = response.headers().get("x-larder-reason");
    let reason = reason.map(|reason| reason.to_str().unwrap().to_owned());
    (response.status().as_u16(), reason.unwrap_or_default())
}

#[tokio::test]
async fn a_machine_is_one_whether_ipv4_or_the_socket_of_both_families_heard_it() {
    let directory = tempfile::tempdir().unwrap();
    let provision = opened(directory.path());
    let mac = Mac::parse("52:54:00:00:00:01").unwrap();
    let plain = "10.0.0.9".parse().unwrap();
    let mapped = "[::ffff:10.0.0.9]:4711";
    // By DHCP or TFTP first, by the HTTP port then, and a file through the proxy at the end.
    let machines = provision.machines();
    machines.observe(&mac, Some(plain), Step::Tftp, "undionly.kpxe");
    let (status, _) = ask(&provision, "GET", "/kickstart", mapped).await;
    assert_eq!(status, 200);
    let (status, _) = ask(&provision, "GET", "/ipxe?mac=52-54-00-00-00-01", mapped).await;
    assert_eq!(status, 200);
    provision.observe_at(plain, Step::Packages, "packages");
    let all = machines.all();
    let steps = all[&mac].events.iter().map(|event| event.step.as_str());
    assert_eq!(
        steps.collect::<Vec<_>>(),
        ["tftp", "kickstart", "boot", "packages"]
    );
    assert_eq!((all.len(), all[&mac].address), (1, Some(plain)));
}

#[tokio::test]
async fn only_a_machine_that_was_served_or_is_named_can_say_that_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let provision = opened(directory.path());
    let client = "10.0.0.9:4711";
    let state = |mac: &str| provision.machines().state(&Mac::parse(mac).unwrap());
    let stranger = "/done?mac=52-54-00-00-00-01";
    for _ in 0..2 {
        let (status, reason) = ask(&provision, "POST", stranger, client).await;
        assert_eq!(status, 409, "{reason}");
        assert!(reason.starts_with("52:54:00:00:00:01 was given no boot script"));
    }
    assert_eq!(state("52:54:00:00:00:01"), State::New);
    assert!(!directory.path().join("machines").exists());
    ask(&provision, "GET", "/ipxe?mac=52-54-00-00-00-01", client).await;
    assert_eq!(ask(&provision, "POST", stranger, client).await.0, 200);
    assert_eq!(state("52:54:00:00:00:01"), State::Installed);
    let named = "/done?mac=52-54-00-00-00-0a";
    assert_eq!(ask(&provision, "POST", named, client).await.0, 200);
    assert_eq!(state("52:54:00:00:00:0a"), State::Installed);
}
