//! Bodies of unknown length that grow too large to be kept.

use std::sync::Arc;

use larder_policy::target::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{Answer, Origin, Rig, Step, open_policy, pattern, until};

const MIB: usize = 1 << 20;
/// How large an object may be here.
const MOST: usize = 2 * MIB;
const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

fn chunk(bytes: &[u8]) -> Step {
    let head = format!("{:x}\r\n", bytes.len());
    Step::Send([head.as_bytes(), bytes, b"\r\n"].concat())
}

/// Sends so much, and up to twice what may be kept and a hundred bytes when it is told.
async fn growing(at_first: usize) -> (Origin, Vec<u8>, Arc<Notify>) {
    let (all, go) = (pattern(2 * MOST + 100), Arc::new(Notify::new()));
    let (body, told) = (all.clone(), Arc::clone(&go));
    let origin = Origin::start(move |_, _| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut steps = vec![Step::Send(head.into())];
        steps.extend(body[..at_first].chunks(100_000).map(chunk));
        steps.push(Step::Wait(Arc::clone(&told)));
        steps.extend(body[at_first..].chunks(100_000).map(chunk));
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        steps
    })
    .await;
    (origin, all, go)
}

fn rig() -> Rig {
    let mut policy = open_policy();
    policy.object_bytes_max = MOST as u64;
    Rig::start(policy, Mode::Forward)
}

/// A client that has asked and has read so many bytes.
async fn reading(rig: &Rig, url: &str, bytes: usize) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut read = vec![0; bytes];
    stream.read_exact(&mut read).await.unwrap();
    (stream, read)
}

/// Waits until no fill is under way any more.
async fn left(rig: &Rig, what: &str) {
    let is_left = || {
        let now = rig.store.snapshot();
        now.fills > 0 && now.fills_active == 0 && now.reserved_bytes == 0
    };
    until(what, is_left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_too_large_passes_through() {
    let (origin, all, go) = growing(2 * MOST).await;
    let (rig, url) = (rig(), origin.url(PATH));
    let (mut stream, mut got) = reading(&rig, &url, 2 * MOST).await;
    left(&rig, "it is kept still").await;
    go.notify_one();
    stream.read_to_end(&mut got).await.unwrap();
    let got = Answer::parse(&got, true, false);
    assert!(
        got.whole && got.body == all,
        "{} {}",
        got.head,
        got.body.len()
    );
    assert_eq!(origin.requests(), 1);
    assert_eq!(rig.store.snapshot().objects, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_too_large_for_nobody_is_left() {
    let (origin, _, _go) = growing(2 * MOST).await;
    let rig = rig();
    drop(reading(&rig, &origin.url(PATH), 1000).await);
    left(&rig, "it is drawn for nobody").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_along_with_what_grows_too_large_is_cut() {
    let (origin, all, go) = growing(MOST / 2).await;
    let (rig, url) = (rig(), origin.url(PATH));
    let (mut first, mut got) = reading(&rig, &url, 1000).await;
    let (mut second, mut along) = reading(&rig, &url, 1000).await;
    go.notify_one();
    let (ended, cut) = tokio::join!(first.read_to_end(&mut got), second.read_to_end(&mut along));
    let (got, along) = (
        Answer::parse(&got, ended.is_ok(), false),
        Answer::parse(&along, cut.is_ok(), false),
    );
    assert!(got.whole && got.body == all);
    assert!(!along.whole && along.body == all[..along.body.len()]);
    assert_eq!(origin.requests(), 1);
}
