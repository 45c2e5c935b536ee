//! However many mirrors are silent, slow or stand still: while one of them could serve it, no client
//! is left without bytes for so long that it gives up.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::sites::{door, pool};
use crate::support::{Answer, Origin, Rig, Step, open_policy, pattern};

const PATH: &str = "/p/big-1.0-1.x86_64.rpm";
const DATED: &str = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
const LENGTH: usize = 400_000;
/// What all mirrors have together here.
const PATIENCE: Duration = Duration::from_millis(1200);
/// When a client gives up: long after that, and before a silent mirror has had the time that an
/// origin has alone.
const GIVES_UP: Duration = Duration::from_secs(25);

fn impatient(origins: &[&Origin]) -> Rig {
    let mut policy = open_policy();
    policy.routes = pool(origins, "");
    Rig::impatient(policy, door(), PATIENCE)
}

/// What a client gets that gives up where nothing comes.
async fn fetched(rig: &Rig, path: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let (mut all, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let read = tokio::time::timeout(GIVES_UP, stream.read(&mut piece)).await;
        match read.ok()? {
            Ok(0) => return Some(Answer::parse(&all, true, false)),
            Ok(count) => all.extend_from_slice(&piece[..count]),
            Err(_reset) => return Some(Answer::parse(&all, false, false)),
        }
    }
}

/// The first byte that a request's Range asks for.
fn asked_from(head: &str) -> Option<usize> {
    let range = crate::mirror::field(head, "range")?.strip_prefix("bytes=")?;
    range.split('-').next()?.parse().ok()
}

/// Everything, or the rest that is asked for.
fn good(_: usize, head: &str) -> Vec<Step> {
    let start = asked_from(head).unwrap_or(0);
    let (status, range) = match start {
        0 => ("200 OK", String::new()),
        _ => (
            "206 Partial Content",
            format!("Content-Range: bytes {start}-{}/{LENGTH}\r\n", LENGTH - 1),
        ),
    };
    let length = LENGTH - start;
    let head = format!("HTTP/1.1 {status}\r\n{DATED}{range}Content-Length: {length}\r\n\r\n");
    vec![
        Step::Send(head.into_bytes()),
        Step::Send(pattern(LENGTH)[start..].to_vec()),
    ]
}

fn silent(_: usize, _: &str) -> Vec<Step> {
    vec![Step::Pause(Duration::from_mins(1))]
}

/// Stands still after so many bytes, and is silent afterwards.
fn stalling(nth: usize, head: &str) -> Vec<Step> {
    let mut steps = good(nth, head);
    if nth > 0 {
        return silent(nth, head);
    }
    if let Some(Step::Send(bytes)) = steps.get_mut(1) {
        bytes.truncate(150_000);
    }
    steps.extend(silent(nth, head));
    steps
}

/// Sends the head, and of the body a byte now and then.
fn dripping(nth: usize, head: &str) -> Vec<Step> {
    let mut steps = good(nth, head);
    let body = steps.split_off(1);
    if let Some(Step::Send(bytes)) = body.first() {
        for byte in &bytes[..200] {
            steps.push(Step::Send(vec![*byte]));
            steps.push(Step::Pause(Duration::from_millis(250)));
        }
    }
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_mirrors_share_the_time_before_the_first_byte() {
    for count in 1..=3 {
        let mut origins = Vec::new();
        for _ in 0..count {
            origins.push(Origin::start(silent).await);
        }
        origins.push(Origin::start(good).await);
        let rig = impatient(&origins.iter().collect::<Vec<_>>());
        let got = fetched(&rig, PATH).await.expect("it does not give up");
        assert!(got.whole && got.body == pattern(LENGTH), "{count} silent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_mirrors_share_the_time_in_mid_body() {
    for count in 0..=2 {
        let mut origins = vec![Origin::start(stalling).await];
        for _ in 0..count {
            origins.push(Origin::start(silent).await);
        }
        origins.push(Origin::start(good).await);
        let rig = impatient(&origins.iter().collect::<Vec<_>>());
        let got = fetched(&rig, PATH).await.expect("it does not give up");
        assert!(got.whole && got.body == pattern(LENGTH), "{count} silent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_drips_what_is_compared_is_left() {
    let origins = [
        Origin::start(stalling).await,
        Origin::start(dripping).await,
        Origin::start(good).await,
    ];
    let rig = impatient(&origins.each_ref());
    let got = fetched(&rig, PATH).await.expect("it does not give up");
    assert!(got.whole && got.body == pattern(LENGTH));
    assert_eq!(asked_from(&origins[1].heads()[0]), Some(150_000 - 65_536));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_stood_still_is_asked_last() {
    // For a second at first, which may be over on a busy machine: it has more than one try.
    for _ in 0..20 {
        let bad = Origin::start(stalling).await;
        let well = Origin::start(good).await;
        let rig = impatient(&[&bad, &well]);
        let got = fetched(&rig, PATH).await.expect("it does not give up");
        assert!(got.whole && got.body == pattern(LENGTH));
        let before = bad.requests();
        let got = fetched(&rig, "/p/other-1.0-1.x86_64.rpm").await;
        assert!(got.is_some_and(|got| got.whole));
        if bad.requests() == before {
            return;
        }
    }
    panic!("it is asked as if nothing had been");
}
