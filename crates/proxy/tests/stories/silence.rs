//! What one client's question comes to, others with the same question do not wait for again; and
//! what the origin says to one client alone, or of one variant, touches nobody else's parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::mirror::field;
use crate::support::{Answer, LONG, Origin, Rig, Step, answer, pattern, raw, until};

const MIB: usize = 1 << 20;
const LENGTH: usize = 4 * MIB;
const PATH: &str = "/pub/big.iso.zsync";

/// The span that a request asks for.
fn span_of(head: &str) -> (usize, usize) {
    let range = field(head, "range").and_then(|range| range.strip_prefix("bytes="));
    let (first, last) = range
        .and_then(|range| range.split_once('-'))
        .unwrap_or(("0", ""));
    let end = last
        .parse()
        .map_or(LENGTH, |last: usize| (last + 1).min(LENGTH));
    (first.parse().unwrap(), end)
}

/// The part that a request asks for, with these fields.
fn part(head: &str, fields: &str) -> Vec<Step> {
    let (start, end) = span_of(head);
    let (length, last) = (end - start, end - 1);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\n{fields}\
         Content-Range: bytes {start}-{last}/{LENGTH}\r\nContent-Length: {length}\r\n\r\n"
    );
    vec![Step::Send(
        [head.as_bytes(), &pattern(LENGTH)[start..end]].concat(),
    )]
}

fn range(start: usize) -> String {
    format!("Range: bytes={start}-{}\r\n", start + 99)
}

/// An origin that sends parts with these fields until it is told to be silent.
async fn silenced(fields: &'static str) -> (Origin, Arc<AtomicBool>) {
    let silent = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&silent);
    let origin = Origin::start(move |_, head| {
        if told.load(Ordering::SeqCst) {
            vec![Step::Pause(2 * LONG)]
        } else {
            part(head, fields)
        }
    })
    .await;
    (origin, silent)
}

/// Eight clients that ask the same at once. None of them waits as long as one beside them who waits
/// for two silent origins in turn.
async fn herd(rig: Rig, url: String, lines: String) -> Vec<Answer> {
    let rig = Arc::new(rig);
    let mute = || Origin::start(|_, _| vec![Step::Pause(2 * LONG)]);
    let silent = [mute().await, mute().await];
    let beside = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move {
            for origin in silent {
                rig.get(&origin.url("/page"), "").await;
            }
        })
    };
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (rig, url, lines) = (Arc::clone(&rig), url.clone(), lines.clone());
            tokio::spawn(async move { rig.get(&url, &lines).await })
        })
        .collect();
    let mut answers = Vec::new();
    for client in clients {
        answers.push(client.await.unwrap());
    }
    assert!(!beside.is_finished(), "they waited more than once");
    beside.abort();
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_origin_keeps_a_herd_waiting_for_a_missing_part_once() {
    let (origin, silent) = silenced("Cache-Control: max-age=60\r\n").await;
    let rig = Rig::hasty();
    rig.get(&origin.url(PATH), &range(0)).await;
    silent.store(true, Ordering::SeqCst);
    let answers = herd(rig, origin.url(PATH), range(2 * MIB)).await;
    for got in &answers {
        assert_eq!(got.status, 504, "{}", got.head);
    }
    assert!(origin.requests() <= 3, "{}", origin.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_origin_keeps_a_herd_waiting_for_a_confirmation_once() {
    for (fields, status) in [
        ("Cache-Control: max-age=0, stale-if-error=60\r\n", 206),
        ("Cache-Control: max-age=0, must-revalidate\r\n", 504),
    ] {
        let (origin, silent) = silenced(fields).await;
        let rig = Rig::hasty();
        rig.get(&origin.url(PATH), &range(0)).await;
        silent.store(true, Ordering::SeqCst);
        let answers = herd(rig, origin.url(PATH), range(0)).await;
        for got in &answers {
            assert_eq!(got.status, status, "{fields} {}", got.head);
        }
        assert!(origin.requests() <= 3, "{}", origin.requests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_cost_nobody_else_the_parts_that_are_held() {
    let origin = Origin::start(|_, head| part(head, "Cache-Control: max-age=60\r\n")).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    rig.get(&url, &range(0)).await;
    // Its own bytes reach a client with credentials, and are kept for nobody (RFC 9111 §3.5).
    let lines = format!("Authorization: Basic eDp5\r\n{}", range(2 * MIB));
    let got = rig.get(&url, &lines).await;
    assert!(got.status == 206 && got.body == pattern(LENGTH)[2 * MIB..2 * MIB + 100]);
    let before = origin.requests();
    assert_eq!(rig.get(&url, &range(500)).await.status, 206);
    assert_eq!(origin.requests(), before, "what was held is held");
    rig.get(&url, &range(3 * MIB)).await;
    rig.get(&url, &range(3 * MIB + 500)).await;
    assert_eq!(
        origin.requests(),
        before + 1,
        "and parts are kept as before"
    );
    let all = rig.get(&url, "").await;
    assert!(all.whole && all.body == pattern(LENGTH));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_varies_is_not_put_to_one_that_does_not() {
    // RFC 9111 §4.1
    let origin = Origin::start(|nth, head| match nth {
        0 => part(head, "Cache-Control: max-age=60\r\n"),
        _ => part(
            head,
            "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n",
        ),
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    rig.get(&url, &range(0)).await;
    let english = format!("Accept-Language: en\r\n{}", range(2 * MIB));
    rig.get(&url, &english).await;
    let before = origin.requests();
    let german = format!("Accept-Language: de\r\n{}", range(2 * MIB));
    rig.get(&url, &german).await;
    assert!(
        origin.requests() > before,
        "it is for those who want English"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_for_the_origin_alone_are_judged_by_it() {
    // RFC 9111 §4.3.2
    let origin = Origin::start(|_, head| match field(head, "if-match") {
        Some("\"other\"") => raw("HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"),
        _ => answer("ETag: \"v\"\r\nCache-Control: max-age=60\r\n", b"x"),
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    rig.get(&url, "").await;
    for (lines, status) in [
        ("If-Match: \"v\"\r\n", 200),
        ("If-Match: \"other\"\r\n", 412),
    ] {
        assert_eq!(rig.get(&url, lines).await.status, status, "{lines}");
    }
    assert_eq!(origin.requests(), 3);
    let since = "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    rig.get(&url, since).await;
    assert!(
        origin.heads()[3]
            .to_ascii_lowercase()
            .contains("if-unmodified-since")
    );
    // What is held is still what everybody else gets.
    rig.get(&url, "").await;
    assert_eq!(origin.requests(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_what_is_not_kept_reach_the_origin() {
    let origin = Origin::start(|_, head| match field(head, "if-none-match") {
        Some(_) => raw("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\r\n"),
        None => answer("ETag: \"v\"\r\nCache-Control: no-store\r\n", b"x"),
    })
    .await;
    let rig = Rig::forward();
    assert_eq!(rig.get(&origin.url(PATH), "").await.status, 200);
    let again = rig.get(&origin.url(PATH), "If-None-Match: \"v\"\r\n").await;
    assert_eq!(again.status, 304);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_more_than_a_slow_run_brings_has_its_first_bytes_from_it() {
    // A run of three blocks stands still; the whole and a client with credentials follow it.
    for lines in ["", "Authorization: Basic eDp5\r\n"] {
        let go = Arc::new(Notify::new());
        let told = Arc::clone(&go);
        let origin = Origin::start(move |nth, head| {
            let mut steps = part(head, "Cache-Control: max-age=60, public\r\n");
            if let (0, Some(Step::Send(all))) = (nth, steps.first_mut()) {
                let rest = all.split_off(MIB + MIB / 2);
                steps.extend([Step::Wait(Arc::clone(&told)), Step::Send(rest)]);
            }
            steps
        })
        .await;
        let rig = Arc::new(Rig::forward());
        let url = origin.url(PATH);
        let slow = {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            let range = format!("Range: bytes=0-{}\r\n", 3 * MIB - 1);
            tokio::spawn(async move { rig.get(&url, &range).await })
        };
        until("it is asked for", || origin.requests() == 1).await;
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let request = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0];
        let read = tokio::time::timeout(LONG / 2, stream.read_exact(&mut first)).await;
        assert!(read.is_ok(), "{lines}: it has to wait for all of the run");
        go.notify_one();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        let got = Answer::parse(&[&first[..], &rest].concat(), true, false);
        assert!(
            got.whole && got.body == pattern(LENGTH),
            "{lines}: {}",
            got.head
        );
        let slow = slow.await.unwrap();
        assert!(slow.whole && slow.body == pattern(LENGTH)[..3 * MIB]);
    }
}
