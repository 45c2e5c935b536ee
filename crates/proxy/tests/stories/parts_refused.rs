//! Clients that want parts confirmed, of a file that its origin will not speak of.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::{Origin, Rig, Step, pattern};

const LENGTH: usize = 3 << 20;
const PATH: &str = "/p/big-1.0-1.x86_64.rpm";
const REFUSAL: &[u8] = b"HTTP/1.1 500 Not Now\r\nContent-Length: 2\r\n\r\nno";

/// The first block, and then no more; each refusal waits to be let go.
fn once(nth: usize, go: &Arc<Notify>) -> Vec<Step> {
    if nth > 0 {
        return vec![Step::Wait(Arc::clone(go)), Step::Send(REFUSAL.to_vec())];
    }
    let block = &pattern(LENGTH)[..1 << 20];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes 0-{}/{LENGTH}\r\n\
         Content-Length: {}\r\n\r\n",
        block.len() - 1,
        block.len()
    );
    vec![Step::Send([head.as_bytes(), block].concat())]
}

#[tokio::test(flavor = "multi_thread")]
async fn they_do_not_wait_for_each_other() {
    let go = Arc::new(Notify::new());
    let held = Arc::clone(&go);
    let origin = Origin::start(move |nth, _| once(nth, &held)).await;
    let (rig, url) = (Arc::new(Rig::forward()), origin.url(PATH));
    let range = "Range: bytes=100-199\r\n";
    let first = rig.get(&url, range).await;
    assert_eq!(first.body, pattern(LENGTH)[100..200]);
    let ask = || {
        let (rig, url) = (Arc::clone(&rig), url.clone());
        let lines = format!("{range}Cache-Control: no-cache\r\n");
        tokio::spawn(async move { rig.get(&url, &lines).await })
    };
    let arrived = async |count: usize| {
        while origin.requests() < 1 + count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // One asks, the others wait for what it is told.
    let mut clients = vec![ask()];
    arrived(1).await;
    clients.extend([ask(), ask(), ask()]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(origin.requests(), 2);
    go.notify_one();
    // Now they ask, all at once.
    let all = tokio::time::timeout(Duration::from_secs(10), arrived(4)).await;
    assert!(all.is_ok(), "{} of 4 have asked", origin.requests() - 1);
    let letting_go = tokio::spawn(async move {
        loop {
            go.notify_waiters();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for client in clients {
        let got = client.await.unwrap();
        assert_eq!(
            (got.status, &got.body[..]),
            (500, &b"no"[..]),
            "{}",
            got.head
        );
    }
    letting_go.abort();
}
