//! What only the inside of the store shows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_policy::key::CacheKey;

use crate::body::BodyFile;
use crate::collapse::Seen;
use crate::core::Core;
use crate::digest::KeyHash;
use crate::disk::Disk;
use crate::error::{BeginError, OpenError, ReadError};
use crate::fill::Fill;
use crate::index::{NAMES_MAX, SUSPECT, VERIFIED};
use crate::journal::{Change, Journal};
use crate::reader::{Checking, Reader};
use crate::test_support::sample_meta;
use crate::{Config, Entry, Order, Store, keeper, lock, recover, salvage};

/// No keeper: nothing happens beside the test. What was open before may still be ending.
fn core(directory: &std::path::Path) -> Arc<Core> {
    for _ in 0..250 {
        match recover::open(Config::new(directory), Disk::default()) {
            Err(OpenError::Held { .. }) => thread::sleep(Duration::from_millis(20)),
            opened => return Arc::new(opened.expect("opens")),
        }
    }
    panic!("the directory is not let go");
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
    let (let_go, wait) = mpsc::channel::<()>();
    let (begun, ready) = mpsc::channel::<()>();
    let holder = thread::spawn(move || {
        let _journal = lock(&held.journal);
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
    assert_eq!(lock(&core.state).index.objects(), 81);
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

#[tokio::test]
async fn a_part_of_a_body_that_is_hashed_for_long_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let entry = put(&core, "big", Bytes::from(vec![7; 200_000])).await;
    let entry = entry.expect("stored");
    lock(&core.state)
        .index
        .set_flag(entry.hot.slot, entry.hot.id, SUSPECT);
    lock(&core.state)
        .index
        .clear_flag(entry.hot.slot, entry.hot.id, VERIFIED);
    core.hot.remove(&hash("big"));
    let entry = Core::lookup(&core, &key("big")).await.expect("held");
    // Somebody hashes it, and comes to no end.
    let busy = core.turn(entry.hot.id);
    let mut reader = entry.reader(1, 9);
    let ready = entry.is_checked_within(Duration::from_millis(4)).await;
    let read = std::future::poll_fn(|cx| reader.poll_next(cx)).await;
    assert!(!ready && matches!(read, Some(Err(ReadError::Unchecked))));
    drop(busy);
}

#[tokio::test]
async fn an_index_that_breaks_while_it_is_used_says_that_a_restart_mends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    put(&core, "a", Bytes::from_static(b"a"))
        .await
        .expect("stored");
    assert!(core.commit(false) && !core.snapshot().index_damaged);
    let path = folder.path().join("index.redb");
    std::fs::rename(&path, folder.path().join("gone")).expect("there");
    std::fs::write(&path, vec![7; 8192]).expect("written");
    core.table.reopen().expect_err("garbage");
    put(&core, "b", Bytes::from_static(b"b"))
        .await
        .expect("stored");
    assert!(!core.commit(false) && core.snapshot().index_damaged);
    assert!(Core::lookup(&core, &key("b")).await.is_some());
}

/// Two objects of which the index is damaged.
async fn with_damaged_index(folder: &std::path::Path) {
    let first = core(folder);
    for name in ["a", "b"] {
        let body = Bytes::from(name.repeat(9_000));
        put(&first, name, body).await.expect("stored");
    }
    let names = |vary: &mut crate::vary::Vary| vary.remember(hash("a"), vec!["accept".into()]);
    first.change_vary(hash("a"), names);
    first.change_vary(hash("a"), |vary| {
        vary.invalidate(&hash("a"), 7);
        None
    });
    first.checkpoint();
    assert!(first.commit(true));
    drop(first);
    let path = folder.join("index.redb");
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[..4096].fill(0);
    std::fs::write(&path, bytes).expect("written");
}

fn hash(name: &str) -> KeyHash {
    KeyHash::of(&key(name))
}

#[tokio::test]
async fn what_was_forgotten_just_before_an_index_is_found_damaged_does_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    with_damaged_index(folder.path()).await;
    let journal = folder.path().join("journal");
    let mut journal = Journal::open(&journal, false, &Disk::default()).expect("opens");
    journal
        .append(&[Change::Forget { key: hash("a") }])
        .expect("written");
    drop(journal);
    // Stopped at first: the journal is gone by the next start.
    let stopped = core(folder.path());
    stopped.stopping.store(true, Ordering::Relaxed);
    keeper::mend(&stopped);
    assert!(stopped.commit(true));
    drop(stopped);
    let again = core(folder.path());
    keeper::mend(&again);
    assert!(Core::lookup(&again, &key("a")).await.is_none());
    assert!(Core::lookup(&again, &key("b")).await.is_some());
    assert!(!folder.path().join("journal/forgotten").exists());
}

#[tokio::test]
async fn what_is_forgotten_while_an_index_is_mended_does_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    with_damaged_index(folder.path()).await;
    let core = core(folder.path());
    // Not there yet; and there, anew.
    assert_eq!(core.forget(hash("a")), None);
    put(&core, "b", Bytes::from_static(b"new"))
        .await
        .expect("stored");
    assert_eq!(core.forget(hash("b")), Some(3));
    keeper::mend(&core);
    for name in ["a", "b"] {
        assert!(Core::lookup(&core, &key(name)).await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn what_keys_vary_by_and_until_when_that_is_invalid_is_read_out_of_a_damaged_index() {
    let folder = tempfile::tempdir().expect("a folder");
    with_damaged_index(folder.path()).await;
    let core = core(folder.path());
    keeper::mend(&core);
    let vary = core.vary.read().expect("whole");
    assert_eq!(vary.names(&hash("a")), Some(&["accept".to_owned()][..]));
    assert_eq!(vary.invalid_until(&hash("a")), Some(7));
}

#[tokio::test]
async fn a_stop_while_an_index_is_mended_costs_neither_names_nor_bodies() {
    let folder = tempfile::tempdir().expect("a folder");
    with_damaged_index(folder.path()).await;
    // Stopped before anything was read, twice; each time in order.
    for _ in 0..2 {
        let stopped = core(folder.path());
        stopped.stopping.store(true, Ordering::Relaxed);
        keeper::mend(&stopped);
        assert!(stopped.layout.damaged_index().exists());
        stopped.checkpoint();
        assert!(stopped.commit(true));
    }
    let again = core(folder.path());
    keeper::mend(&again);
    assert!(!again.layout.damaged_index().exists());
    for name in ["a", "b"] {
        let found = Core::lookup(&again, &key(name)).await;
        assert_eq!(found.expect("kept").len(), 9_000);
    }
}

#[tokio::test]
async fn a_key_that_leaves_a_shared_body_leaves_its_record_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = Bytes::from_static(b"shared");
    for is_replayed in [false, true] {
        let first = core(folder.path());
        put(&first, "moves", shared.clone()).await.expect("stored");
        put(&first, "stays", shared.clone()).await.expect("stored");
        assert!(first.commit(false));
        put(&first, "moves", Bytes::from_static(b"its own"))
            .await
            .expect("stored");
        // Else the journal tells of it.
        if !is_replayed {
            assert!(first.commit(false));
        }
        drop(first);
        // The second start reads what the first has made of it.
        for _ in 0..2 {
            let again = core(folder.path());
            let found = Core::lookup(&again, &key("moves")).await;
            assert_eq!(found.expect("kept").len(), 7);
            assert_eq!(again.snapshot().objects, 2);
            assert_eq!(again.snapshot().faults_total(), 0);
        }
    }
}

#[tokio::test]
async fn a_body_has_a_bounded_number_of_names_and_those_are_found_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = core(folder.path());
    let names = u64::from(NAMES_MAX) + 3;
    for n in 0..names {
        let same = Bytes::from_static(b"the same page for any URL");
        put(&first, &n.to_string(), same).await.expect("stored");
    }
    assert!(first.commit(false));
    assert_eq!(first.snapshot().objects, u64::from(NAMES_MAX));
    drop(first);
    let again = core(folder.path());
    assert_eq!(again.snapshot().objects, u64::from(NAMES_MAX));
    for n in [0, names - 1] {
        let found = Core::lookup(&again, &key(&n.to_string())).await;
        assert!(found.is_some(), "the oldest and the newest stay: {n}");
    }
    assert!(
        Core::lookup(&again, &key(&(names - 2).to_string()))
            .await
            .is_none()
    );
    assert_eq!(again.snapshot().faults_total(), 0);
}

#[tokio::test]
async fn room_is_made_in_steps_and_not_beyond_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    for n in 0..600 {
        put(&core, &n.to_string(), Bytes::from(n.to_string()))
            .await
            .expect("stored");
    }
    {
        let mut state = lock(&core.state);
        let total = state.limits.total(state.index.allocated(), &core.space);
        state.limits.bytes_max = total;
    }
    let wanted = 500 * 4096;
    let late = core.make_room_until(wanted, Instant::now());
    assert_eq!(late.expect_err("too late").as_str(), "no-room");
    let after_a_step = core.snapshot().bodies;
    assert!((300..400).contains(&after_a_step), "{after_a_step}");
    core.make_room(wanted).expect("the rest in time");
    let free = core.reserve_free(wanted).expect("no fault");
    assert!(free.is_some(), "{:?}", core.snapshot());
}

#[tokio::test]
async fn an_orderly_end_without_its_checkpoint_leaves_bodies_suspect() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = core(folder.path());
    put(&first, "k", Bytes::from_static(b"body"))
        .await
        .expect("stored");
    assert!(first.commit(true));
    drop(first);
    let again = core(folder.path());
    let all_suspect = lock(&again.state)
        .index
        .iter()
        .all(|(_, blob)| blob.is(SUSPECT));
    assert!(all_suspect);
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_nothing_else_from_being_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let orphan = crate::Digest::of(b"orphan");
    let path = folder.path().join(orphan.content_path());
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(&path, b"orphan").expect("written");
    let content = core.layout.content();
    // A file where folders are, and a folder where a body should be.
    std::fs::write(content.join("00"), b"stray").expect("written");
    let odd = content.join("01/02").join("ab".repeat(30));
    std::fs::create_dir_all(odd).expect("made");
    salvage::collect_orphans(&core).expect("goes through all");
    assert!(!path.exists());
    drop(core);
    std::fs::create_dir(folder.path().join("parts/odd")).expect("made");
    let again = self::core(folder.path());
    assert_eq!(again.snapshot().faults_of(crate::Fault::Remove), 1);
}

#[test]
fn who_asks_and_who_counts_do_not_wait_for_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = core(folder.path());
    let (ended, told) = mpsc::channel();
    let asking = Arc::clone(&core);
    thread::spawn(move || {
        for number in 0..50_000 {
            let key = key(&format!("k{}", number % 7));
            drop(Core::join(&asking, &key, Seen::Nothing));
        }
        // Nobody hears it after the time is up.
        let _unheard = ended.send(());
    });
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let (counting, (counted, seen)) = (Arc::clone(&core), mpsc::channel());
        thread::spawn(move || counted.send(counting.snapshot().fills_active));
        let active = seen.recv_timeout(until.saturating_duration_since(Instant::now()));
        assert!(active.expect("they wait for each other") <= 1);
        core.purge_fills(|_, _| true);
        if told.try_recv().is_ok() {
            return;
        }
    }
}
