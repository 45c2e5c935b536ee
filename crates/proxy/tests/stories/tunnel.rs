//! `CONNECT`.

use larder_policy::access::AccessList;
use larder_policy::route::{Parent, Routes};
use larder_policy::target::Mode;
use larder_policy::url::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Origin, Rig, answer, open_policy, raw};

/// A server that reads to the end and then says what it read.
async fn echo_at_end() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn early_bytes_pass_and_each_direction_ends_by_itself() {
    let far = echo_at_end().await;
    let rig = Rig::forward();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!("CONNECT {far} HTTP/1.1\r\nHost: {far}\r\n\r\nearly ");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.write_all(b"and late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(
        all,
        "HTTP/1.1 200 Connection established\r\n\r\nearly and late"
    );
    let record = &rig.records(1).await[0];
    assert_eq!(
        (record.status, record.sent_bytes, record.aborted),
        (200, all.len() as u64, false)
    );
    assert_eq!(record.url, far.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_follow_the_rules_and_name_them() {
    let mut policy = open_policy();
    policy.access = AccessList::builtin();
    let rig = Rig::start(policy, Mode::Forward);
    let denied = rig.ask("CONNECT", "127.0.0.1:22", "").await;
    assert_eq!(denied.status, 403);
    assert!(denied.whole);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rig = Rig::forward();
    assert_eq!(
        rig.ask("CONNECT", &closed.to_string(), "").await.status,
        503
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_refused_tunnel_is_no_request() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    let far = echo_at_end().await;
    let rig = Rig::forward();
    let url = origin.url("/x");
    for (target, lines, status) in [
        (closed.to_string(), "", 503),
        (rig.address.to_string(), "", 403),
        ("no-port".to_owned(), "", 400),
        (far.to_string(), "Content-Length: 5\r\n", 400),
        (far.to_string(), "Transfer-Encoding: chunked\r\n", 400),
    ] {
        let text = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{lines}\r\n\
             GET {url} HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let got = rig.talk(text.as_bytes(), false).await;
        assert_eq!(got.status, status, "{target} {lines}");
        assert_eq!(got.field("connection"), Some("close"), "{}", got.head);
        assert!(got.whole, "{target} {lines}: nothing else is answered");
        assert_eq!(origin.requests(), 0, "{target} {lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_is_told_whom_a_tunnel_has_passed() {
    // RFC 9110 §7.6.3
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
    let earlier = "Via: 1.1 other\r\n";
    rig.ask("CONNECT", "far.test:443", earlier).await;
    rig.get("https://far.test/x", earlier).await;
    assert_eq!(parent.requests(), 2);
    for head in parent.heads() {
        assert!(head.starts_with("CONNECT far.test:443 "), "{head}");
        let via = "Via: 1.1 other, 1.1 larder.test (larder)\r\n";
        assert!(head.contains(via), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_its_own_address_leads_back_to_it() {
    let rig = Rig::forward();
    let port = rig.address.port();
    for host in [
        "127.0.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:0.0.0.0]",
        "[::]",
    ] {
        let got = rig.get(&format!("http://{host}:{port}/x"), "").await;
        assert!(matches!(got.status, 403 | 404), "{host}: {}", got.head);
        let got = rig.ask("CONNECT", &format!("{host}:{port}"), "").await;
        assert_eq!(got.status, 403, "{host}");
    }
}
