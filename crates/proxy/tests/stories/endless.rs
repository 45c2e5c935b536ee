//! Bodies of unknown length that grow too large to be kept.

use std::time::Duration;

use larder_policy::target::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, Origin, Rig, Step, open_policy, pattern};

const MIB: usize = 1 << 20;
/// How large an object may be here.
const MOST: usize = 2 * MIB;
const SHORT: Duration = Duration::from_millis(25);
const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

fn chunk(bytes: &[u8]) -> Step {
    let head = format!("{:x}\r\n", bytes.len());
    Step::Send([head.as_bytes(), bytes, b"\r\n"].concat())
}

/// Sends twice what may be kept, then a hundred bytes with pauses between them, then the end.
async fn growing(pause: Duration) -> (Origin, Vec<u8>) {
    let all = pattern(2 * MOST + 100);
    let body = all.clone();
    let origin = Origin::start(move |_, _| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut steps = vec![Step::Send(head.into())];
        steps.extend(body[..2 * MOST].chunks(100_000).map(chunk));
        for byte in &body[2 * MOST..] {
            steps.push(Step::Pause(pause));
            steps.push(chunk(&[*byte]));
        }
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        steps
    })
    .await;
    (origin, all)
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

/// True as soon as no fill is under way any more, if that is within half the time of the pauses.
async fn is_left(rig: &Rig, pause: Duration) -> bool {
    for _ in 0..50 {
        let now = rig.store.snapshot();
        if now.fills > 0 && now.fills_active == 0 && now.reserved_bytes == 0 {
            return true;
        }
        tokio::time::sleep(pause).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_too_large_passes_through() {
    let (origin, all) = growing(SHORT).await;
    let (rig, url) = (rig(), origin.url(PATH));
    let (mut stream, mut got) = reading(&rig, &url, 2 * MOST).await;
    assert!(is_left(&rig, SHORT).await, "it is kept still");
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
    let pause = 4 * SHORT;
    let (origin, _) = growing(pause).await;
    let rig = rig();
    drop(reading(&rig, &origin.url(PATH), 1000).await);
    assert!(is_left(&rig, pause).await, "it is drawn for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_along_with_what_grows_too_large_is_cut() {
    let (origin, all) = growing(SHORT).await;
    let (rig, url) = (rig(), origin.url(PATH));
    let (mut first, mut got) = reading(&rig, &url, 1000).await;
    let second = rig.get(&url, "").await;
    // Too late for the first fetch it would have one of its own.
    assert!(second.body == all[..second.body.len()]);
    assert_eq!(second.whole, second.body.len() == all.len());
    first.read_to_end(&mut got).await.unwrap();
    let got = Answer::parse(&got, true, false);
    assert!(got.whole && got.body == all);
}
