//! What only the inside of the store shows.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use larder_policy::key::CacheKey;

use crate::body::BodyFile;
use crate::core::Core;
use crate::disk::Disk;
use crate::error::BeginError;
use crate::fill::Fill;
use crate::reader::{Checking, Reader};
use crate::test_support::sample_meta;
use crate::{Config, Entry, Order, Store, recover};

/// No keeper: nothing happens beside the test.
fn core(directory: &std::path::Path) -> Arc<Core> {
    Arc::new(recover::open(Config::new(directory), Disk::default()).expect("opens"))
}

fn key(name: &str) -> CacheKey {
    CacheKey::of_store_id(&format!("http://mirror.example/{name}"))
}

async fn put(core: &Arc<Core>, name: &str, body: Bytes) -> Result<Entry, BeginError> {
    let meta = sample_meta(name);
    let mut fill = Fill::begin(core, meta, Some(body.len() as u64), key(name), None).await?;
    fill.write(body).await.expect("written");
    Ok(fill.commit().await.expect("stored"))
}

#[tokio::test]
async fn beyond_a_bound_nothing_is_stored_whose_name_no_index_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    core.failing.store(true, Ordering::Relaxed);
    let mut stored = 0;
    let error = loop {
        match put(
            &core,
            &format!("k{stored}"),
            Bytes::from(format!("b{stored}")),
        )
        .await
        {
            Ok(_) => stored += 1,
            Err(e) => break e,
        }
        assert!(stored < 1_000, "without a bound");
    };
    assert_eq!(error.as_str(), "index-fault");
    // As soon as the index has taken what waits, there is room again.
    assert!(core.commit(false));
    put(&core, "later", Bytes::from_static(b"later"))
        .await
        .expect("stored");
}

#[tokio::test]
async fn a_disk_without_reads_that_do_not_wait_is_never_read_inline() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let body = Bytes::from(vec![7; 300_000]);
    let entry = put(&core, "big", body).await.expect("stored");
    let file = Arc::new(BodyFile::pinned(&core.disk));
    file.open(core.root(), &entry.digest).expect("there");
    let of = || (Arc::clone(&file), Arc::clone(&entry.hot));
    let inline = |of| {
        let mut reader = Reader::of_file(&core, of, (0, 1000), Checking::No);
        reader.read_inline(&file, 1000).is_some()
    };
    core.nowait.store(false, Ordering::Relaxed);
    assert_eq!(inline(of()), core.in_memory);
    assert!(crate::layout::is_in_memory(std::path::Path::new(
        "/dev/shm"
    )));
    assert!(!crate::layout::is_in_memory(std::path::Path::new("/proc")));
}

#[tokio::test]
async fn walks_and_audits_see_everything_though_they_hold_the_lock_for_a_part_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(Config::new(folder.path())).expect("opens");
    for number in 0..20 {
        let body = Bytes::from(format!("body {number}"));
        put(&store.core, &format!("k{number}"), body)
            .await
            .expect("stored");
    }
    let mut seen = 0;
    store.walk(Order::Any, |_| {
        seen += 1;
        true
    });
    assert_eq!(seen, 20);
    let progress = store.verify(true, |_, _| true).expect("reads");
    assert_eq!((progress.bodies, progress.bodies_total), (20, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_behind_holds_back_what_is_to_come_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    // Nothing is put in place while the journal is held.
    let held = Arc::clone(&core);
    let (let_go, wait) = std::sync::mpsc::channel::<()>();
    let (begun, ready) = std::sync::mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let _journal = crate::lock(&held.journal);
        begun.send(()).expect("heard");
        let _told = wait.recv();
    });
    ready.recv().expect("held");
    let mut fills = Vec::new();
    for number in 0..80 {
        let (meta, name) = (sample_meta("u"), format!("k{number}"));
        let fill = Fill::begin(&core, meta, Some(2), key(&name), None).await;
        let mut fill = fill.expect("room");
        let body = Bytes::from(format!("{number:02}"));
        fill.write(body).await.expect("written");
        fills.push(fill);
    }
    let fills: Vec<_> = fills
        .into_iter()
        .map(|fill| tokio::spawn(fill.commit()))
        .collect();
    // Each job has taken one, and waits with it.
    while core.line.is_open() || core.line.moved() < 4 {
        tokio::task::yield_now().await;
    }
    let late = Fill::begin(&core, sample_meta("u"), Some(2), key("late"), None).await;
    assert_eq!(late.expect_err("far behind").as_str(), "disk-behind");
    // Nothing has moved all the while: nobody waits for that again.
    let mut next = Box::pin(Fill::begin(
        &core,
        sample_meta("u"),
        Some(2),
        key("next"),
        None,
    ));
    let ended = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
    assert!(matches!(
        ended,
        std::task::Poll::Ready(Err(BeginError::Behind))
    ));
    drop(next);
    let_go.send(()).expect("heard");
    for fill in fills {
        fill.await.expect("ends").expect("stored");
    }
    holder.join().expect("ends");
    put(&core, "later", Bytes::from_static(b"later"))
        .await
        .expect("stored");
    assert_eq!(crate::lock(&core.state).index.objects(), 81);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_costs_no_object_and_keeps_the_order_of_leaving() {
    const YEAR: i64 = 365 * 86_400;
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        size_max: 6 << 20,
        ..Config::new(folder.path())
    };
    let store = Store::open(config.clone()).expect("opens");
    let body = |number: i64| Bytes::from(vec![number as u8; 100_000]);
    let favourite = put(&store.core, "favourite", body(99)).await;
    let favourite = favourite.expect("stored");
    // Before 1970, beyond 2106, and back.
    let jumps = [0, -10, -80, 0, 50, 200, -1, 0];
    for (number, years) in (0_i64..).zip(jumps) {
        crate::test_support::JUMPED.store(years * YEAR, Ordering::Relaxed);
        for more in 0..10 {
            let name = format!("{number}-{more}");
            let stored = put(&store.core, &name, body(number * 10 + more)).await;
            store.touch(&stored.expect("stored"));
            store.touch(&favourite);
            store.touch_slice(&favourite, std::net::IpAddr::from([10, 0, 0, 1]));
            store.core.apply_touches(&store.core.touches.take());
        }
        store.sync().await;
    }
    crate::test_support::JUMPED.store(0, Ordering::Relaxed);
    assert!(store.snapshot().evictions > 10);
    assert_eq!(store.snapshot().faults_total(), 0);
    assert!(store.lookup(&key("favourite")).await.is_some());
    drop(favourite);
    store.close().await;
    drop(store);
    let store = Store::open(config).expect("opens");
    let found = store.lookup(&key("favourite")).await;
    assert_eq!(found.expect("the most used").len, 100_000);
    let audit = store.verify(true, |_, _| true).expect("reads");
    assert!(audit.bodies > 30, "{audit:?}");
    assert_eq!((audit.damaged, audit.unread), (0, 0));
}
