//! Requests that have been here before are seen, whatever other proxies call themselves.

use larder_policy::route::{Parent, Routes};
use larder_policy::target::Mode;
use larder_policy::url::Authority;

use crate::support::{Origin, Rig, answer, open_policy, raw};

/// A member of Via that is no text.
const ODD: &[u8] = b"Via: 1.1 \xe4\r\n";

/// What a proxy gets for a request with this line.
async fn status(rig: &Rig, begin: &str, line: &[u8]) -> u16 {
    let head = format!("{begin} HTTP/1.1\r\nHost: x:443\r\nConnection: close\r\n");
    let bytes = [head.as_bytes(), line, b"\r\n"].concat();
    rig.talk(&bytes, false).await.status
}

/// The line as the one behind gets it, and sends it on here.
fn come_round(head: &str) -> Vec<u8> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let via = lines.find(|(name, _)| name.eq_ignore_ascii_case("via"));
    let (_, via) = via.unwrap_or_default();
    // What was no text is told as a mark.
    let bytes = via
        .chars()
        .map(|letter| u8::try_from(letter).unwrap_or(0xe4));
    b"Via: "
        .iter()
        .copied()
        .chain(bytes)
        .chain(*b"\r\n")
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_request_with_a_member_that_is_no_text() {
    let origin = Origin::start(|_, _| answer("Cache-Control: no-store\r\n", b"once")).await;
    let rig = Rig::forward();
    let begin = format!("GET {}", origin.url("/a"));
    assert_eq!(status(&rig, &begin, ODD).await, 200);
    let again = come_round(&origin.heads()[0]);
    assert_eq!(again, b"Via: 1.1 \xe4, 1.1 larder.test (larder)\r\n");
    assert_eq!(status(&rig, &begin, &again).await, 508);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_tunnel_with_a_member_that_is_no_text() {
    let refusing = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let parent = Origin::start(move |_, _| raw(refusing)).await;
    let mut policy = open_policy();
    policy.routes = Routes {
        parents: vec![Parent {
            name: "parent".into(),
            authority: Authority::parse(&parent.address.to_string(), None).unwrap(),
            authorization: None,
            access: None,
        }],
        never_direct: Some(policy.access.clone()),
        ..Routes::default()
    };
    let rig = Rig::start(policy, Mode::Forward);
    status(&rig, "CONNECT far.test:443", ODD).await;
    let again = come_round(&parent.heads()[0]);
    assert_eq!(again, b"Via: 1.1 \xe4, 1.1 larder.test (larder)\r\n");
    let asked = parent.requests();
    assert_eq!(status(&rig, "CONNECT far.test:443", &again).await, 508);
    assert_eq!(parent.requests(), asked);
}
