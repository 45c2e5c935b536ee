//! The line by itself: who may begin, who is told what.

use std::pin::pin;
use std::task::Poll;

use larder_policy::key::CacheKey;

use super::*;
use crate::disk::Disk;
use crate::room::Reservation;
use crate::test_support::sample_meta;
use crate::{Config, recover};

/// No keeper: nothing happens beside the test.
fn core(directory: &std::path::Path) -> Arc<Core> {
    Arc::new(recover::open(Config::new(directory), Disk::default()).expect("opens"))
}

fn key(name: &str) -> CacheKey {
    CacheKey::of_store_id(&format!("http://mirror.example/{name}"))
}

fn job(core: &Core, name: &str) -> (Job, oneshot::Receiver<Settled>) {
    let body = bytes::Bytes::copy_from_slice(name.as_bytes());
    let wish = Wish {
        key: key(name),
        meta: Arc::new(sample_meta(name)),
        len: body.len() as u64,
        purged: None,
    };
    let whole = Whole::Memory {
        chunks: vec![body],
        _reservation: Reservation::take(&core.space, 4096),
    };
    let (tell, told) = oneshot::channel();
    (Job { wish, whole, tell }, told)
}

async fn at_once<T>(asked: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    std::future::poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut *asked).poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn for_each_body_that_moves_one_fill_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let line = &core.line;
    let _told: Vec<_> = (0..WAITING_MAX)
        .map(|number| {
            let (job, told) = job(&core, &number.to_string());
            line.push(job);
            told
        })
        .collect();
    let mut fills: Vec<_> = (0..10).map(|_| Box::pin(line.leave())).collect();
    for fill in &mut fills {
        assert!(at_once(fill).await.is_none(), "begins behind a full line");
    }
    line.take().expect("the first");
    let mut begun = Vec::new();
    for fill in &mut fills {
        begun.extend(at_once(fill).await);
    }
    assert_eq!(begun.len(), 1, "more begin than have moved");
    assert!(begun[0].is_some());
    // Those that wait are before those that come.
    assert!(at_once(&mut pin!(line.leave())).await.is_none());
    // A fill that fails leaves its place to the next.
    begun.clear();
    let mut next = Vec::new();
    for fill in fills.iter_mut().skip(1) {
        next.extend(at_once(fill).await);
    }
    assert_eq!(next.len(), 1);
    while line.take().is_some() {}
    drop((next, fills));
    assert!(lock(&line.waiting).begun == 0 && line.is_open());
    assert!(at_once(&mut pin!(line.leave())).await.is_some());
}

#[tokio::test]
async fn a_job_in_disorder_fails_only_its_own_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let mut told = Vec::new();
    for name in ["a", "bad", "c"] {
        let (job, heard) = job(&core, name);
        core.line.push(job);
        told.push(heard);
    }
    let bad = key("bad");
    Running(Some(Arc::clone(&core))).work(|core, wish, whole| {
        assert!(wish.key != bad, "a bug");
        settle(core, wish, whole)
    });
    let mut ends = Vec::new();
    for heard in told {
        ends.push(heard.await.expect("told").is_ok());
    }
    assert_eq!(ends, [true, false, true]);
    assert_eq!(core.space.reserved(), 0);
    assert_eq!(lock(&core.line.waiting).running, 0);
}

#[test]
fn a_job_that_never_ran_gives_its_place_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let short = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .build()
        .expect("starts");
    // The pool's only thread is taken.
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, ready) = std::sync::mpsc::channel::<()>();
    short.spawn_blocking(move || {
        begun.send(()).expect("heard");
        let _told = wait.recv();
    });
    ready.recv().expect("runs");
    let shared = Arc::clone(&core);
    let (Job { wish, whole, .. }, _) = job(&core, "a");
    short.spawn(async move { Core::settled_in_turn(&shared, wish, whole, None).await });
    while lock(&core.line.waiting).first.is_empty() {
        std::thread::yield_now();
    }
    short.shutdown_background();
    let_go.send(()).expect("heard");
    while lock(&core.line.waiting).running > 0 {
        std::thread::yield_now();
    }
    // What waited is dropped behind the line's lock.
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while core.space.reserved() > 0 && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(core.space.reserved(), 0, "its room is held for ever");
    let later = tokio::runtime::Runtime::new().expect("starts");
    let (Job { wish, whole, .. }, _) = job(&core, "b");
    let settled = later.block_on(Core::settled_in_turn(&core, wish, whole, None));
    assert!(settled.expect("works").is_some());
}
