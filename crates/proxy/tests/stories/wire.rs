//! Lines, versions and streams: what a client or an origin does below the meaning of its messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use larder_policy::route::{Mirror, Origin as Member, Select};
use larder_policy::target::{Mode, Site};
use larder_policy::url::Authority;
use larder_proxy::config::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Answer, LONG, Origin, Rig, Step, answer, open_policy, raw};

const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

/// An accelerator in front of an origin.
fn accelerator(origin: &Origin, limits: Limits) -> Rig {
    let site = Site {
        authority: Authority::parse(&origin.address.to_string(), None).unwrap(),
        vhost: false,
        mirror: Some("site".into()),
    };
    let mut policy = open_policy();
    policy.routes.mirrors = vec![Mirror {
        name: "site".into(),
        hosts: Vec::new(),
        origins: vec![Member::parse(&origin.url("/")).unwrap()],
        select: Select::Ordered,
        access: None,
    }];
    Rig::within(policy, Mode::Accelerator(site), limits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_ends_in_a_bare_line_feed_is_refused() {
    // RFC 9112 §2.2, on either side.
    let origin = Origin::start(|_, head| {
        if head.contains("/odd") {
            raw("HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\nx")
        } else {
            answer("Cache-Control: no-store\r\n", b"x")
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/a");
    for text in [
        format!("GET {url} HTTP/1.1\nHost: x\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\nHost: x\nConnection: close\r\n\r\n"),
        format!("GET {url} HTTP/1.1\r\nHost: x\r\n\n"),
        format!("\nGET {url} HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        let got = rig.talk(text.as_bytes(), false).await;
        assert_eq!((got.status, origin.requests()), (400, 0), "{text:?}");
    }
    // What is no head may have them.
    let text = format!(
        "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\n\n\
         GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    let got = rig.talk(text.as_bytes(), false).await;
    let all = got.head + &String::from_utf8_lossy(&got.body);
    assert_eq!(all.matches("HTTP/1.1 200").count(), 2, "{all}");
    assert_eq!(rig.get(&origin.url("/odd"), "").await.status, 502);
    assert_eq!(rig.get(&url, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_spoilt_is_refused_before_its_end() {
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    // Where HTTP/2 is looked for, a head comes in two pieces at least.
    let rig = accelerator(&origin, Limits::default());
    for text in [
        "GET /a HTTP/1.1\r\nHost: x\r\nX-A: 1\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\n\n",
        "GET /a HTTP/1.1\n",
    ] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        for piece in text.as_bytes().chunks(8) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The client waits for an answer.
        let got = Answer::read(stream, false).await;
        assert_eq!((got.status, origin.requests()), (400, 0), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_http_2_names_its_host() {
    // RFC 9113 §8.3.1
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    let rig = accelerator(&origin, Limits::default());
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // GET, http and / by their numbers in HPACK's table; no authority.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84];
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream
        .write_all(&[&settings[..], &headers].concat())
        .await
        .unwrap();
    // The head of the answer begins with 400 by its number.
    let frame = loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == 1 {
            break payload;
        }
    };
    assert_eq!((frame[0], origin.requests()), (0x8c, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_field_that_has_one_value_the_first_line_counts() {
    // RFC 9110 §5.3
    let origin = Origin::start(|_, _| {
        let fields =
            "ETag: \"a\"\r\nETag: \"b\"\r\nContent-Type: text/a\r\nContent-Type: text/b\r\n";
        answer(&format!("{fields}Cache-Control: max-age=60\r\n"), b"x")
    })
    .await;
    let rig = Rig::forward();
    for _ in 0..2 {
        let head = rig
            .get(&origin.url("/x"), "")
            .await
            .head
            .to_ascii_lowercase();
        assert!(
            head.contains("etag: \"a\"") && head.contains("text/a"),
            "{head}"
        );
        assert!(
            !head.contains("etag: \"b\"") && !head.contains("text/b"),
            "{head}"
        );
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_of_a_preface_holds_no_connection() {
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    let limits = Limits {
        request_head: Duration::from_millis(200),
        ..Limits::default()
    };
    let rig = accelerator(&origin, limits);
    for is_ended in [false, true] {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(b"P").await.unwrap();
        if is_ended {
            stream.shutdown().await.unwrap();
        }
        let mut byte = [0];
        let ended = tokio::time::timeout(LONG, stream.read(&mut byte)).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
    // One that goes on in pieces is understood.
    let rig = accelerator(&origin, Limits::default());
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    for piece in [
        "P",
        "U",
        "T /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    ] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_2_stream_that_takes_nothing_ends_whatever_else_is_sent() {
    let body = vec![7u8; 1 << 20];
    let origin = Origin::start(move |_, _| answer("", &body)).await;
    let limits = Limits {
        // The handshake is within it too.
        idle: Duration::from_secs(3),
        ..Limits::default()
    };
    let rig = accelerator(&origin, limits);
    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(1000)
        .keep_alive_interval(Duration::from_millis(50))
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{}{PATH}", origin.address));
    let request = request
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let held = sender.send_request(request).await.unwrap();
    assert_eq!(held.status(), 200);
    let ended = tokio::time::timeout(LONG, connection).await;
    assert!(ended.is_ok(), "it is held for ever");
    assert!(held.into_body().collect().await.is_err());
    // RFC 9113 §8.2.3
    let head = origin.heads().remove(0).to_ascii_lowercase();
    assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
}

/// An origin that sends the first half of four bytes, and the second one when it is told.
async fn halved(fields: &'static str) -> (Origin, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |_, _| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 4\r\n\r\nab");
        vec![
            Step::Send(head.into_bytes()),
            Step::Wait(Arc::clone(&told)),
            Step::Send(b"cd".to_vec()),
        ]
    })
    .await;
    (origin, go)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_fill_is_told_its_age() {
    // RFC 9111 §5.1
    let (origin, go) = halved("Age: 40\r\n").await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    let both = async {
        rig.followed_by(1).await;
        go.notify_one();
    };
    let (one, other, ()) = tokio::join!(rig.get(&url, ""), rig.get(&url, ""), both);
    assert_eq!(origin.requests(), 1);
    for got in [one, other] {
        let age: u64 = got.field("age").unwrap().parse().unwrap();
        assert!(
            (40..600).contains(&age) && got.body == b"abcd",
            "{}",
            got.head
        );
    }
    let (plain, go) = halved("").await;
    let url = plain.url(PATH);
    let both = async {
        rig.followed_by(2).await;
        go.notify_one();
    };
    let (one, other, ()) = tokio::join!(rig.get(&url, ""), rig.get(&url, ""), both);
    let ages = [one, other].map(|got| got.field("age").is_some());
    assert_eq!(ages.iter().filter(|has| **has).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_asks_with_a_head_whether_a_copy_is_good() {
    // RFC 9111 §4.3.5
    for (second, gets) in [
        ("304 Not Modified\r\nETag: \"1\"", 1),
        ("200 OK\r\nETag: \"1\"\r\nContent-Length: 3", 1),
        ("200 OK\r\nETag: \"2\"\r\nContent-Length: 3", 2),
        ("200 OK\r\nETag: \"1\"\r\nContent-Length: 4", 2),
    ] {
        let origin = Origin::start(move |_, head| {
            if head.starts_with("HEAD") {
                raw(&format!(
                    "HTTP/1.1 {second}\r\nCache-Control: max-age=60\r\n\r\n"
                ))
            } else {
                answer("Cache-Control: max-age=0\r\nETag: \"1\"\r\n", b"one")
            }
        })
        .await;
        let rig = Rig::forward();
        let url = origin.url("/page");
        rig.get(&url, "").await;
        let got = rig.ask("HEAD", &url, "").await;
        assert_eq!(got.status, 200, "{second}");
        let asked = origin.heads().remove(1);
        assert!(
            asked.starts_with("HEAD ") && asked.contains("\"1\""),
            "{asked}"
        );
        assert_eq!(rig.get(&url, "").await.body, b"one");
        let heads = origin.heads();
        let drawn = heads.iter().filter(|head| head.starts_with("GET ")).count();
        assert_eq!(drawn, gets, "{second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn via_names_the_version_that_an_answer_came_in() {
    // RFC 9110 §7.6.3
    let origin = Origin::start(|_, _| {
        vec![
            Step::Send(b"HTTP/1.0 200 OK\r\nCache-Control: no-store\r\n\r\nx".to_vec()),
            Step::Close,
        ]
    })
    .await;
    let got = Rig::forward().get(&origin.url("/page"), "").await;
    assert_eq!(got.field("via"), Some("1.0 larder.test (larder)"));
}
