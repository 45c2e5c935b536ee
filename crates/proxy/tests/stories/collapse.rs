//! Equal misses are one fetch; each client has bytes as soon as they are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Answer, LONG, Origin, Rig, Step, pattern};

const PATH: &str = "/p/big-1.0-1.x86_64.rpm";

/// An origin that sends half of the body and the rest when told.
async fn halting(body: Vec<u8>) -> (Origin, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let notify = Arc::clone(&go);
    let origin = Origin::start(move |_, _| {
        let (first, rest) = body.split_at(body.len() / 2);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        vec![
            Step::Send(head.into_bytes()),
            Step::Send(first.to_vec()),
            Step::Wait(Arc::clone(&notify)),
            Step::Send(rest.to_vec()),
        ]
    })
    .await;
    (origin, go)
}

async fn begin(rig: &Rig, url: &str, lines: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut seen = vec![0; 2000];
    let read = tokio::time::timeout(LONG, stream.read(&mut seen)).await;
    seen.truncate(
        read.expect("first bytes come before the origin has finished")
            .unwrap(),
    );
    (stream, seen)
}

async fn rest(mut stream: TcpStream, mut seen: Vec<u8>) -> Answer {
    let clean = stream.read_to_end(&mut seen).await.is_ok();
    Answer::parse(&seen, clean, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_have_bytes_while_the_origin_still_sends_and_one_copy_is_drawn() {
    let body = pattern(600_000);
    let (origin, go) = halting(body.clone()).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(begin(&rig, &url, "").await);
    }
    go.notify_one();
    for (stream, seen) in clients {
        let answer = rest(stream, seen).await;
        assert!(answer.whole && answer.body == body);
    }
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_first_client_changes_nothing_for_the_others() {
    let body = pattern(600_000);
    let (origin, go) = halting(body.clone()).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    let first = begin(&rig, &url, "").await;
    let (stream, seen) = begin(&rig, &url, "").await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.notify_one();
    let answer = rest(stream, seen).await;
    assert!(answer.whole && answer.body == body);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_outlives_every_client() {
    let body = pattern(600_000);
    let (origin, go) = halting(body.clone()).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    drop(begin(&rig, &url, "").await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.notify_one();
    let answer = rig.get(&url, "").await;
    assert!(answer.whole && answer.body == body);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_within_reach_of_a_fill_follows_it() {
    let body = pattern(600_000);
    let (origin, go) = halting(body.clone()).await;
    let rig = Rig::forward();
    let url = origin.url(PATH);
    let leader = begin(&rig, &url, "").await;
    let early = rig.get(&url, "Range: bytes=100-199\r\n").await;
    assert_eq!(
        (early.status, early.body.as_slice()),
        (206, &body[100..200])
    );
    let (stream, seen) = {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let text = format!(
            "GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: bytes=500000-599999\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        (stream, Vec::new())
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    go.notify_one();
    let late = rest(stream, seen).await;
    assert_eq!(
        (late.status, late.body.as_slice()),
        (206, &body[500_000..600_000])
    );
    assert!(rest(leader.0, leader.1).await.whole);
    assert_eq!(origin.requests(), 1);
}
