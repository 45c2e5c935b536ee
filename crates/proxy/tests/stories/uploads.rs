//! Requests that change something, and what they carry.

use std::sync::Arc;
use std::time::Duration;

use larder_policy::store_id::{Pattern, StoreIdRule, StoreIds};
use larder_policy::target::Mode;
use larder_proxy::config::Limits;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Answer, Origin, Rig, Step, answer, open_policy, raw};

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_twice_reaches_one_origin() {
    // RFC 9110 §9.2.2
    for status in [
        "403 No",
        "404 Not Found",
        "410 Gone",
        "429 Later",
        "503 Busy",
    ] {
        let refusal = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        for (method, lines) in [
            ("PUT", "Content-Length: 2\r\n\r\nhi"),
            ("POST", "Content-Length: 2\r\n\r\nhi"),
            ("GET", "Content-Length: 2\r\n\r\nhi"),
            ("DELETE", "\r\n"),
        ] {
            let refusal = refusal.clone();
            let first = Origin::start(move |_, _| raw(&refusal)).await;
            let second = Origin::start(|_, _| answer("", b"good")).await;
            let rig = pool_of(&[&first, &second]);
            let text = format!(
                "{method} http://pool.test/x HTTP/1.1\r\nHost: pool.test\r\n\
                 Connection: close\r\n{lines}"
            );
            let got = rig.talk(text.as_bytes(), false).await;
            assert!(
                status.starts_with(&got.status.to_string()),
                "{method}: {}",
                got.head
            );
            assert_eq!(second.requests(), 0, "{method} {status}");
        }
    }
}

fn pool_of(origins: &[&Origin]) -> Rig {
    let mut policy = open_policy();
    policy.routes = crate::sites::pool(origins, "");
    Rig::start(policy, Mode::Forward)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_made_with_credentials_is_a_change_for_all() {
    // RFC 9111 §4.4
    let origin = Origin::start(|_, head| {
        if head.starts_with("GET") {
            answer("Cache-Control: max-age=60\r\n", b"x")
        } else {
            raw("HTTP/1.1 204 No Content\r\n\r\n")
        }
    })
    .await;
    let pattern = Pattern::new("/p/(.*)").unwrap();
    let rule = StoreIdRule::new(pattern, "http://store.internal/$1", "test".into());
    let mut policy = open_policy();
    policy.store_ids = StoreIds::new(vec![rule]);
    let rig = Rig::start(policy, Mode::Forward);
    for path in ["/p/a", "/q/a"] {
        let url = origin.url(path);
        let before = origin.requests();
        rig.get(&url, "").await;
        rig.get(&url, "").await;
        assert_eq!(origin.requests(), before + 1, "{path} is held");
        let changed = rig
            .ask("DELETE", &url, "Authorization: Basic eDp5\r\n")
            .await;
        assert_eq!(changed.status, 204);
        rig.get(&url, "").await;
        assert_eq!(origin.requests(), before + 3, "{path} is held no more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_after_a_change_joins_no_fill_that_began_before_it() {
    // RFC 9111 §4.4
    for fields in [
        "Cache-Control: max-age=60\r\n",
        "Cache-Control: max-age=60\r\nETag: \"1\"\r\n",
    ] {
        let go = Arc::new(Notify::new());
        let held_back = Arc::clone(&go);
        let body = vec![b'o'; 600_000];
        let origin = Origin::start(move |nth, head| {
            if head.starts_with("POST") {
                return answer("", b"changed");
            }
            if nth > 0 {
                return answer("Cache-Control: max-age=60\r\n", b"new");
            }
            let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 600000\r\n\r\n");
            let half = [head.as_bytes(), &body[..300_000]].concat();
            let rest = body[300_000..].to_vec();
            vec![
                Step::Send(half),
                Step::Wait(Arc::clone(&held_back)),
                Step::Send(rest),
            ]
        })
        .await;
        let rig = Rig::forward();
        let url = origin.url("/u");
        let mut first = TcpStream::connect(rig.address).await.unwrap();
        let text = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        first.write_all(text.as_bytes()).await.unwrap();
        first.read_u8().await.unwrap();
        let changed = rig.ask("POST", &url, "Content-Length: 0\r\n").await;
        assert_eq!(changed.status, 200);
        assert_eq!(rig.get(&url, "").await.body, b"new", "{fields}");
        go.notify_one();
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).await.unwrap();
        assert!(
            rest.ends_with(&vec![b'o'; 600_000]),
            "who had joined reads on"
        );
        assert_eq!(rig.get(&url, "").await.body, b"new", "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_broken_is_its_clients_fault() {
    // RFC 9112 §8
    let origin = Origin::start(|_, head| {
        if head.starts_with("POST") {
            vec![Step::Pause(Duration::from_secs(10))]
        } else {
            answer("Cache-Control: no-store\r\n", b"well")
        }
    })
    .await;
    let rig = pool_of(&[&origin]);
    let head = "POST http://pool.test/x HTTP/1.1\r\nHost: pool.test\r\n";
    for (rest, is_ended) in [
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", false),
        (
            "Transfer-Encoding: chunked\r\n\r\n5;a\0b\r\nhello\r\n",
            false,
        ),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhel", true),
        ("Content-Length: 50\r\n\r\nhello", true),
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(rest.as_bytes()).await.unwrap();
        if is_ended {
            stream.shutdown().await.unwrap();
        }
        let got = Answer::read(stream, false).await;
        assert_eq!(
            (got.status, got.field("connection")),
            (400, Some("close")),
            "{rest:?}"
        );
    }
    // The origin is as well as it was.
    assert_eq!(rig.get("http://pool.test/y", "").await.body, b"well");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_a_chunk_has_an_end() {
    let origin = Origin::start(|_, _| vec![Step::Pause(Duration::from_secs(10))]).await;
    let rig = Rig::forward();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        origin.url("/x")
    );
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'0'; 1025]).await.unwrap();
    let got = Answer::read(stream, false).await;
    assert_eq!(got.status, 400, "{}", got.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_no_larger_than_it_may_be() {
    let origin = Origin::start(|_, head| {
        if head.to_ascii_lowercase().contains("chunked") {
            // Until all has come.
            vec![Step::Pause(Duration::from_secs(10))]
        } else {
            answer("", b"taken")
        }
    })
    .await;
    let limits = Limits {
        request_body: 1000,
        ..Limits::default()
    };
    let rig = Rig::within(open_policy(), Mode::Forward, limits);
    let url = origin.url("/x");
    let put =
        |lines: &str, body: &str| format!("PUT {url} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}");
    let (small, large) = ("x".repeat(1000), "x".repeat(1001));
    let whole = put("Connection: close\r\nContent-Length: 1000\r\n", &small);
    assert_eq!(rig.talk(whole.as_bytes(), false).await.status, 200);
    let whole = put("Content-Length: 1001\r\n", &large);
    let got = rig.talk(whole.as_bytes(), false).await;
    assert_eq!((got.status, got.field("connection")), (413, Some("close")));
    assert_eq!(origin.requests(), 1, "it was not asked");
    let chunks = format!(
        "1F4\r\n{}\r\n1F5\r\n{}\r\n0\r\n\r\n",
        &large[..500],
        &large[500..]
    );
    let chunked = put("Transfer-Encoding: chunked\r\n", &chunks);
    let got = rig.talk(chunked.as_bytes(), false).await;
    assert_eq!((got.status, got.field("connection")), (413, Some("close")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_given_twice_is_passed_on_once() {
    // RFC 9110 §8.6
    for (lengths, status) in [("5, 5", 200), ("5, 6", 502), ("5,", 502)] {
        for method in ["GET", "HEAD"] {
            let origin = Origin::start(move |_, _| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\n");
                let body = if method == "GET" { "12345" } else { "" };
                raw(&format!("{head}{body}"))
            })
            .await;
            let got = Rig::forward().ask(method, &origin.url("/x"), "").await;
            assert_eq!(got.status, status, "{method} {lengths}: {}", got.head);
            if status == 200 {
                assert_eq!(got.field("content-length"), Some("5"), "{method}");
            }
        }
    }
}
