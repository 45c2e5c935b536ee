//! A line of a head that ends in LF alone is seen wherever it stands, on a connection of any length,
//! from clients and from origins.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Origin, Rig, Step, answer};

/// What a parser reads at once.
const BUFFER: usize = 8192;

/// A beginning of a head, filled up to a whole buffer whose octet so far from its end is a bare LF.
fn filled(begin: &str, from_end: usize) -> Vec<u8> {
    let mut bytes = format!("{begin}X: ").into_bytes();
    bytes.resize(BUFFER, b'a');
    bytes[BUFFER - from_end] = b'\n';
    bytes
}

/// All that comes on a connection after these bytes, which the client writes at once.
async fn told(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut told = Vec::new();
    let reading = stream.read_to_end(&mut told);
    let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
    // That may be a reset, as not all was read.
    assert!(ended.is_ok(), "the connection does not end");
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_a_full_buffer_of_a_client() {
    let origin = Origin::start(|_, _| answer("Cache-Control: no-store\r\n", b"served")).await;
    let rig = Rig::forward();
    for from_end in 1..=6 {
        let begin = format!("GET {} HTTP/1.1\r\nHost: x\r\n", origin.url("/a"));
        let told = told(&rig, &filled(&begin, from_end)).await;
        assert!(told.starts_with("HTTP/1.1 400 "), "{from_end}: {told}");
        assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "{from_end}: {told}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_end_of_a_full_buffer_of_an_origin() {
    for from_end in 1..=6 {
        let origin = Origin::start(move |_, _| {
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n";
            let mut bytes = filled(head, from_end);
            bytes.extend_from_slice(b"\r\n\r\nhello");
            vec![Step::Send(bytes), Step::Close]
        })
        .await;
        let got: Answer = Rig::forward().get(&origin.url("/a"), "").await;
        assert_eq!(got.status, 502, "{from_end}: {}", got.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_request_whose_length_is_told_oddly() {
    let origin = Origin::start(|_, _| answer("Cache-Control: no-store\r\n", b"served")).await;
    let rig = Rig::forward();
    let padded = format!("Content-Length:{}0\r\n", " ".repeat(200));
    let (url, hidden) = (origin.url("/a"), origin.url("/b"));
    for (lines, statuses) in [
        ("Content-Length: 0\r\nContent-Length: 0\r\n", [200, 400]),
        (&padded, [400, 0]),
    ] {
        let text = format!(
            "GET {url} HTTP/1.1\r\nHost: x\r\n{lines}\r\nGET {hidden} HTTP/1.1\nHost: x\n\n"
        );
        let told = told(&rig, text.as_bytes()).await;
        let seen = told.split("HTTP/1.1 ").skip(1);
        let seen: Vec<u16> = seen
            .filter_map(|rest| rest.get(..3)?.parse().ok())
            .collect();
        let wanted = statuses.into_iter().filter(|status| *status > 0);
        assert_eq!(seen, wanted.collect::<Vec<_>>(), "{told}");
    }
    assert!(origin.heads().iter().all(|head| head.contains("/a ")));
}
