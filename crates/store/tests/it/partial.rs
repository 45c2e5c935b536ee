//! Objects of which parts are held.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_store::{Config, Draw, Opening, Partial, Promise, Store};

use crate::support::{begin, body, config, key, lead, meta, open, read_all, until};

const MIB: u64 = 1 << 20;
const LENGTH: usize = 5 * (1 << 20) + 123;

fn opening(name: &str) -> Opening {
    Opening {
        meta: meta(name),
        length: LENGTH as u64,
        origin: "http://mirror.example".to_owned(),
    }
}

/// An object whose block `first` an answer has brought.
async fn with_block(store: &Store, name: &str, first: u64) -> Partial {
    let (start, end) = (first * MIB, (first + 1) * MIB);
    let slot = lead(store, &key(name));
    let begun = slot.begin_partial(opening(name), (start, end), key(name));
    let (partial, draw) = begun.await.expect("there is room");
    drawn(draw, name).await;
    partial
}

/// Draws a run from the body that `name` stands for.
async fn drawn(mut draw: Draw, name: &str) {
    let whole = body(name, LENGTH);
    loop {
        let (at, end) = draw.span();
        if at == end {
            break;
        }
        let piece = end.min(at + 300_000);
        draw.write(whole.slice(at as usize..piece as usize))
            .await
            .expect("written");
    }
    draw.finish().await.expect("written");
}

async fn next(partial: &Partial, promise: &Promise) -> Option<Draw> {
    partial.next(promise).await.expect("there is room")
}

async fn draw_rest(partial: &Partial, name: &str) {
    let promise = partial.promise(vec![(0, LENGTH as u64)]);
    while let Some(draw) = next(partial, &promise).await {
        drawn(draw, name).await;
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("partials")).expect("readable");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_range_is_read_while_it_is_drawn_and_the_whole_becomes_an_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let partial = with_block(&store, "a", 2).await;
    assert!(partial.holds(&[(2 * MIB + 5, 3 * MIB)]) && !partial.holds(&[(MIB, 2 * MIB + 1)]));

    let span = (4 * MIB + 10, 4 * MIB + 20);
    let promise = partial.promise(vec![span]);
    let reading = tokio::spawn(read_all(partial.tail().reader(span.0, Some(span.1))));
    let draw = next(&partial, &promise).await.expect("it is missing");
    assert_eq!(draw.span(), (4 * MIB, 5 * MIB));
    drawn(draw, "a").await;
    let read = reading.await.expect("no panic").expect("whole");
    assert_eq!(
        read,
        body("a", LENGTH).slice(span.0 as usize..span.1 as usize)
    );
    assert!(next(&partial, &promise).await.is_none());
    drop(promise);

    assert!(
        partial.complete().await.expect("no fault").is_none(),
        "not whole yet"
    );
    draw_rest(&partial, "a").await;
    let entry = partial.complete().await.expect("no fault").expect("whole");
    assert_eq!(
        read_all(entry.reader(0, entry.len())).await.expect("whole"),
        body("a", LENGTH)
    );
    assert!(store.partial(&key("a")).is_none() && store.lookup(&key("a")).await.is_some());
    assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn bytes_that_nobody_has_promised_are_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let partial = with_block(&store, "a", 0).await;
    let missing = || partial.tail().reader(MIB - 5, Some(MIB + 5));
    assert!(read_all(missing()).await.is_err());
    let promise = partial.promise(vec![(MIB, 2 * MIB)]);
    let waiting = tokio::spawn(read_all(missing()));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished());
    drop(promise);
    assert!(waiting.await.expect("no panic").is_err());
}

#[tokio::test]
async fn who_wants_what_another_draws_waits_and_draws_it_if_the_other_gives_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let partial = with_block(&store, "a", 0).await;
    let promise = partial.promise(vec![(MIB, 2 * MIB)]);
    let first = next(&partial, &promise).await.expect("missing");
    let (again, second) = (partial.clone(), partial.promise(vec![(MIB + 7, 2 * MIB)]));
    let waiting =
        tokio::spawn(async move { again.next(&second).await.map(|draw| draw.map(|d| d.span())) });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(!waiting.is_finished());
    drop(first);
    let taken = waiting.await.expect("no panic").expect("room");
    assert_eq!(taken, Some((MIB, 2 * MIB)));
}

#[tokio::test]
async fn what_has_come_is_written_down_though_nothing_more_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let slot = lead(&store, &key("a"));
    let mut fill = slot
        .begin_resumable(opening("a"), key("a"))
        .await
        .expect("there is room");
    let most = body("a", LENGTH).slice(..3 * MIB as usize);
    fill.write(most).await.expect("written");
    // The origin stands still; the end of the process may come at any time.
    let is_record = |path: &PathBuf| path.extension().is_some_and(|end| end == "record");
    let is_there = || files(folder.path()).iter().any(is_record);
    until("it is written down", is_there).await;
}

#[tokio::test]
async fn what_a_broken_fill_leaves_is_gone_on_with_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let slot = lead(&store, &key("a"));
    let begun = slot.begin_resumable(opening("a"), key("a"));
    let mut fill = begun.await.expect("there is room");
    fill.write(body("a", LENGTH).slice(..(2 * MIB + 500) as usize))
        .await
        .expect("written");
    let tail = fill.tail();
    let (partial, promise) = fill.into_partial().await.expect("of that kind");
    assert!(partial.holds(&[(0, 2 * MIB + 500)]));
    drop((partial, promise, tail));
    store.close().await;
    drop(store);

    let store = open(folder.path());
    let partial = store.partial(&key("a")).expect("kept");
    assert_eq!(partial.meta().etag(), meta("a").etag());
    assert_eq!(partial.origin(), "http://mirror.example");
    let promise = partial.promise(vec![(0, LENGTH as u64)]);
    let draw = next(&partial, &promise).await.expect("missing");
    assert_eq!(
        draw.span(),
        (2 * MIB, LENGTH as u64),
        "whole blocks are kept"
    );
    drawn(draw, "a").await;
    let entry = partial.complete().await.expect("no fault").expect("whole");
    assert_eq!(
        read_all(entry.reader(0, entry.len())).await.expect("whole"),
        body("a", LENGTH)
    );
}

#[tokio::test]
async fn a_block_that_has_changed_on_the_disk_is_drawn_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let partial = with_block(&store, "a", 0).await;
    let promise = partial.promise(vec![(MIB, 3 * MIB)]);
    drawn(next(&partial, &promise).await.expect("missing"), "a").await;
    drop((partial, promise));
    store.close().await;
    drop(store);
    let path = files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[MIB as usize + 77] ^= 4;
    fs::write(&path, bytes).expect("writable");

    let store = open(folder.path());
    let partial = store.partial(&key("a")).expect("kept");
    let promise = partial.promise(vec![(0, 3 * MIB)]);
    let draw = next(&partial, &promise)
        .await
        .expect("one block is missing");
    assert_eq!(draw.span(), (MIB, 2 * MIB));
    drawn(draw, "a").await;
    assert!(next(&partial, &promise).await.is_none());
}

#[tokio::test]
async fn a_record_that_is_not_what_was_written_costs_the_parts_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    with_block(&store, "a", 0).await;
    store.close().await;
    drop(store);
    let [_, record] = &files(folder.path())[..] else {
        panic!("a file and its record");
    };
    let good = fs::read(record).expect("readable");
    for at in (0..good.len()).step_by(13) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(record, bad).expect("writable");
        let held = files(folder.path()).remove(0);
        let copy = fs::read(&held).expect("readable");
        let store = open(folder.path());
        assert!(store.partial(&key("a")).is_none(), "byte {at}");
        drop(store);
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
        fs::write(&held, copy).expect("writable");
        fs::write(record, &good).expect("writable");
    }
    assert!(open(folder.path()).partial(&key("a")).is_some());
}

#[tokio::test]
async fn parts_leave_before_whole_objects_do_and_their_room_is_free_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(Config {
        size_max: 24 * MIB,
        ..config(folder.path())
    })
    .expect("opened");
    begin_and_commit(&store, "whole").await;
    draw_most(&with_block(&store, "a", 0).await, "a").await;
    assert!(store.snapshot().used_bytes > 9 * MIB);
    for name in ["b", "c"] {
        begin_and_commit(&store, name).await;
    }
    assert!(store.partial(&key("a")).is_some());
    begin_and_commit(&store, "d").await;
    assert!(store.partial(&key("a")).is_none(), "it left for the others");
    for name in ["whole", "b", "c", "d"] {
        assert!(store.lookup(&key(name)).await.is_some(), "{name}");
    }
}

async fn draw_most(partial: &Partial, name: &str) {
    let promise = partial.promise(vec![(0, 4 * MIB)]);
    while let Some(draw) = next(partial, &promise).await {
        drawn(draw, name).await;
    }
}

async fn begin_and_commit(store: &Store, name: &str) {
    let mut fill = begin(store, name, Some(LENGTH as u64)).await;
    fill.write(body(name, LENGTH)).await.expect("written");
    fill.commit().await.expect("stored");
}

#[tokio::test]
async fn forgetting_a_key_forgets_its_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    with_block(&store, "a", 0).await;
    assert!(store.remove(&key("a")).await);
    assert!(store.partial(&key("a")).is_none());
    // A record that was being written when it left goes right after.
    until("it goes", || files(folder.path()).is_empty()).await;
}

/// Flips a bit in the file of the only object there is.
fn flip(directory: &Path, at: u64) {
    let path = files(directory).remove(0);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[at as usize] ^= 1;
    // The same file: it may be open.
    fs::write(path, bytes).expect("writable");
}

#[tokio::test]
async fn what_is_held_in_parts_is_listed_running_and_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let partial = with_block(&store, "b", 1).await;
    with_block(&store, "a", 4).await;
    let listed = |store: &Store| -> Vec<(String, u64, u64)> {
        let all = store.partials().into_iter();
        all.map(|it| (it.key.subject().to_owned(), it.held, it.len))
            .collect()
    };
    let wanted = [
        ("http://mirror.example/a".to_owned(), MIB, LENGTH as u64),
        ("http://mirror.example/b".to_owned(), MIB, LENGTH as u64),
    ];
    assert_eq!(listed(&store), wanted);
    drop(partial);
    store.close().await;
    drop(store);
    let before = files(folder.path());
    let looked = Store::look(config(folder.path())).expect("there");
    assert_eq!(listed(&looked), wanted);
    drop(looked);
    assert_eq!(files(folder.path()), before);
    assert_eq!(listed(&open(folder.path())), wanted);
}

#[tokio::test]
async fn an_audit_drops_the_block_that_is_damaged_and_not_the_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    draw_most(&with_block(&store, "a", 0).await, "a").await;
    store.close().await;
    drop(store);
    flip(folder.path(), MIB + 77);
    let audited = |store: &Store| {
        let audit = store.verify_partials(|_| true);
        (audit.objects, audit.blocks, audit.damaged)
    };
    for _ in 0..2 {
        let store = open(folder.path());
        let partial = store.partial(&key("a")).expect("it stays");
        if partial.holds(&[(MIB, 2 * MIB)]) {
            assert_eq!(audited(&store), (1, 4, 1));
        }
        assert_eq!(audited(&store), (1, 3, 0), "noted as missing");
        assert!(partial.holds(&[(0, MIB), (2 * MIB, 4 * MIB)]));
        assert!(!partial.holds(&[(MIB, MIB + 1)]));
        drop(store);
    }
    // What this run has drawn and noted is judged too; the rest is drawn as ever.
    let store = open(folder.path());
    let partial = store.partial(&key("a")).expect("it stays");
    assert!(partial.checked(&[(2 * MIB, 3 * MIB)]).await);
    flip(folder.path(), 3 * MIB - 1);
    assert_eq!(audited(&store), (1, 3, 1));
    assert!(!partial.is_there(&[(3 * MIB - 1, 3 * MIB)]));
    draw_rest(&partial, "a").await;
    let entry = partial.complete().await.expect("no fault").expect("whole");
    let read = read_all(entry.reader(0, entry.len())).await;
    assert!(read.expect("whole") == body("a", LENGTH));
}
