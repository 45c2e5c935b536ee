//! What is held is served without asking, whole or in parts.

use crate::support::{Origin, Rig, answer, pattern};

const PATH: &str = "/7/os/x86_64/Packages/a-1.0-1.x86_64.rpm";
const HEAD: &str =
    "ETag: \"v1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-A: 1\r\nX-A: 2\r\n";

async fn held(body: &'static [u8]) -> (Origin, Rig, String) {
    let origin = Origin::start(move |_, _| answer(HEAD, body)).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    let first = rig.get(&url, "").await;
    assert_eq!(
        (first.status, first.body.as_slice(), first.whole),
        (200, body, true)
    );
    assert!(
        first
            .field("cache-status")
            .unwrap()
            .contains("fwd=uri-miss"),
        "{}",
        first.head
    );
    (origin, rig, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_asks_no_origin() {
    let (origin, rig, url) = held(b"hello world").await;
    let second = rig.get(&url, "").await;
    assert_eq!(
        (second.status, second.body.as_slice()),
        (200, &b"hello world"[..])
    );
    assert_eq!(second.field("content-length"), Some("11"));
    assert!(second.field("age").is_some());
    assert!(
        second
            .field("cache-status")
            .unwrap()
            .starts_with("larder; hit; ttl=")
    );
    assert!(
        second
            .field("via")
            .unwrap()
            .ends_with("larder.test (larder)")
    );
    assert_eq!(
        second.head.matches("X-A: ").count(),
        2,
        "repeated fields stay: {}",
        second.head
    );
    assert_eq!(origin.requests(), 1);
    let records = rig.records(2).await;
    assert_eq!(
        format!("{:?} {:?}", records[0].outcome, records[1].outcome),
        "Miss MemHit"
    );
    let sent = second.head.len() + second.body.len();
    let close = "Connection: close\r\n".len();
    assert_eq!(records[1].sent_bytes as usize, sent - close);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_fields_of_the_whole_and_no_body() {
    let (origin, rig, url) = held(b"hello world").await;
    let head = rig.ask("HEAD", &url, "").await;
    assert_eq!(
        (head.status, head.field("content-length"), head.whole),
        (200, Some("11"), true)
    );
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_are_answered_from_the_whole() {
    let (origin, rig, url) = held(b"0123456789").await;
    for (lines, status, body, range) in [
        ("Range: bytes=2-4\r\n", 206, "234", Some("bytes 2-4/10")),
        ("Range: bytes=-3\r\n", 206, "789", Some("bytes 7-9/10")),
        ("Range: bytes=5-\r\n", 206, "56789", Some("bytes 5-9/10")),
        ("Range: bytes=10-\r\n", 416, "", Some("bytes */10")),
        ("Range: bytes=4-2\r\n", 200, "0123456789", None),
        (
            "Range: bytes=2-4\r\nIf-Range: \"v1\"\r\n",
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        (
            "Range: bytes=2-4\r\nIf-Range: \"v2\"\r\n",
            200,
            "0123456789",
            None,
        ),
        ("If-None-Match: \"v1\"\r\n", 304, "", None),
        ("If-None-Match: \"v2\"\r\n", 200, "0123456789", None),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            304,
            "",
            None,
        ),
    ] {
        let got = rig.get(&url, lines).await;
        assert_eq!(got.status, status, "{lines}");
        assert_eq!(got.field("content-range"), range, "{lines}");
        assert!(got.whole, "{lines}");
        if status < 400 {
            assert_eq!(String::from_utf8_lossy(&got.body), body, "{lines}");
        }
        if status == 304 {
            assert_eq!(got.field("etag"), Some("\"v1\""));
        }
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_come_in_the_order_asked_in_the_shape_that_zchunk_reads() {
    let (_origin, rig, url) = held(b"0123456789").await;
    let got = rig.get(&url, "Range: bytes=7-8,0-1\r\n").await;
    let kind = got.field("content-type").unwrap().to_owned();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    assert!(boundary.bytes().all(|b| b.is_ascii_alphanumeric()));
    let part = |range: &str, bytes: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/10\r\n\r\n{bytes}"
        )
    };
    let wanted = format!(
        "{}{}\r\n--{boundary}--\r\n",
        part("7-8", "78"),
        part("0-1", "01")
    );
    assert_eq!(String::from_utf8_lossy(&got.body), wanted);
    assert!(got.whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_the_same_from_disk() {
    let body: &'static [u8] = Box::leak(pattern(9_000_001).into_boxed_slice());
    let (origin, rig, url) = held(body).await;
    let again = rig.get(&url, "").await;
    assert!(again.whole && again.body == body);
    let middle = rig.get(&url, "Range: bytes=4000000-8000000\r\n").await;
    assert!(middle.body == body[4_000_000..=8_000_000]);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_answer_has_its_length_when_it_is_served_again() {
    let origin = Origin::start(|_, _| {
        crate::support::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
        )
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    assert_eq!(rig.get(&url, "").await.body, b"hello");
    let again = rig.get(&url, "").await;
    assert_eq!(
        (again.field("content-length"), again.body.as_slice()),
        (Some("5"), &b"hello"[..])
    );
    assert_eq!(again.field("x-trailer"), None);
    assert_eq!(origin.requests(), 1);
}
