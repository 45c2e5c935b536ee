//! A disk that fails: at every operation of a session, once, for a while, or for good.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use larder_store::{Disk, Fault, Join, OpenError, Store};

use crate::support::{body, config, key, meta, open, read_all};

const NAMES: [(&str, usize); 6] = [
    ("a", 3_000),
    ("b", 70_000),
    ("c", 400_000),
    ("d", 1_200_000),
    ("a", 5_000),
    ("e", 2_000_000),
];

/// Stores, reads, replaces and forgets things; every answer is whole and right, or none. Bytes
/// that a client got through a tail count as right only up to an error.
async fn session(store: &Store) {
    for (name, len) in NAMES {
        let whole = body(&format!("{name}-{len}"), len);
        let Join::Lead(slot) = store.join(&key(name)) else {
            panic!("the key is held by a fetch that has ended");
        };
        let Ok(mut fill) = slot.begin(meta(name), Some(len as u64), key(name)).await else {
            continue;
        };
        let tail = fill.tail();
        let mut written = Ok(());
        for chunk in whole.chunks(100_000) {
            written = fill.write(Bytes::copy_from_slice(chunk)).await;
            if written.is_err() {
                break;
            }
        }
        if written.is_ok() {
            // Whether it was stored or not, the next look-up says.
            let _ = fill.commit().await;
        } else {
            drop(fill);
        }
        if let Ok(read) = read_all(tail.reader(0, None)).await {
            assert!(read == whole, "a tail gave wrong bytes of {name}");
        }
        look(store, name).await;
    }
    store.sync().await;
    store.remove(&key("b")).await;
    assert!(store.lookup(&key("b")).await.is_none());
}

/// What is found is whole and one of the bodies of this name: the one before stays where its
/// successor could not be stored.
async fn look(store: &Store, name: &str) {
    let Some(entry) = store.lookup(&key(name)).await else {
        return;
    };
    let Ok(read) = read_all(entry.reader(0, entry.len())).await else {
        return;
    };
    let right = NAMES
        .iter()
        .filter(|(other, _)| *other == name)
        .any(|(_, len)| body(&format!("{name}-{len}"), *len) == read);
    assert!(right, "wrong bytes of {name}");
}

/// After the disk works again everything that is found is right, and storing works.
async fn afterwards(directory: &Path) {
    let store = open(directory);
    for (name, _) in NAMES {
        look(&store, name).await;
    }
    let whole = body("after", 100_000);
    crate::support::put(&store, "after", &whole).await;
    assert_eq!(
        crate::support::get(&store, "after").await.expect("stored"),
        whole
    );
    assert!(store.snapshot().used_bytes <= store.snapshot().max_bytes);
}

/// What was made for a body that could not be put in place went with it, or counts.
fn folders_agree(store: &Store, directory: &Path, fail_at: u64) {
    let inside = |path: &Path| -> Vec<PathBuf> {
        let listed = std::fs::read_dir(path).into_iter().flatten();
        listed
            .map(|entry| entry.expect("readable").path())
            .collect()
    };
    let upper = inside(&directory.join("content-v2/sha256"));
    let lower: Vec<PathBuf> = upper.iter().flat_map(|path| inside(path)).collect();
    // Nobody looks at the folders of a disk that still fails.
    let empty = lower.iter().find(|path| inside(path).is_empty());
    assert_eq!(empty, None, "empty after failing at operation {fail_at}");
    let there = (upper.len() + lower.len()) as u64;
    assert_eq!(store.snapshot().folders, there, "at operation {fail_at}");
}

async fn operations_of_a_session() -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::failing(u64::MAX, 0, ErrorKind::Other);
    let store = Store::open_on(config(folder.path()), disk.clone()).expect("opens");
    session(&store).await;
    store.close().await;
    assert_eq!(store.snapshot().faults_total(), 0);
    disk.operations()
}

/// Begins to fail at every `step`-th operation of the session; at every one in the long form.
async fn sweep(failures: u64, kind: ErrorKind, step: usize) {
    let operations = operations_of_a_session().await;
    println!("{operations} operations");
    assert!(operations > 50, "{operations} operations");
    let long = std::env::var("LARDER_TESTS_LONG").is_ok_and(|text| !text.is_empty());
    for fail_at in (0..operations).step_by(if long { 1 } else { step }) {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::failing(fail_at, failures, kind);
        match Store::open_on(config(folder.path()), disk) {
            Ok(store) => {
                session(&store).await;
                store.close().await;
                folders_agree(&store, folder.path(), fail_at);
            }
            // A server goes on without a cache then (`Store::open_or_less`).
            Err(OpenError::NotWritable { source, .. } | OpenError::File { source, .. }) => {
                assert_eq!(source.kind(), kind, "at operation {fail_at}");
            }
            Err(e) => panic!("at operation {fail_at}: {e}"),
        }
        afterwards(folder.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_failing_operation_anywhere_costs_no_wrong_byte() {
    sweep(1, ErrorKind::Other, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_from_some_operation_on_costs_no_wrong_byte() {
    sweep(u64::MAX, ErrorKind::StorageFull, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_for_a_while_is_used_again_after_it() {
    sweep(3, ErrorKind::ReadOnlyFilesystem, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_becomes_read_only_is_left_alone_until_it_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let kind = ErrorKind::ReadOnlyFilesystem;
    let disk = Disk::failing(u64::MAX, 0, kind);
    let store = Store::open_on(config(folder.path()), disk.clone()).expect("opens");
    let whole = body("held", 100_000);
    crate::support::put(&store, "held", &whole).await;
    assert_eq!(store.snapshot().read_only, None);
    disk.set_failing(Some(0));
    // Whoever writes first finds out.
    store.sync().await;
    let slot = crate::support::lead(&store, &key("first"));
    if let Ok(mut fill) = slot.begin(meta("first"), None, key("first")).await {
        let _wrong = fill.write(whole.clone()).await;
        assert!(fill.commit().await.is_err());
    }
    let why = store.snapshot().read_only.expect("said");
    assert!(why.contains("read-only"), "{why}");
    let (operations, faults) = (disk.operations(), store.faults(Fault::Write));
    for number in 0..50 {
        let name = format!("n{number}");
        let slot = crate::support::lead(&store, &key(&name));
        let refused = slot.begin(meta(&name), Some(9), key(&name)).await;
        assert_eq!(refused.expect_err("only read").as_str(), "no-cache");
    }
    assert_eq!(
        store.faults(Fault::Write),
        faults,
        "it is tried again and again"
    );
    assert!(disk.operations() < operations + 50);
    disk.set_failing(None);
    store.sync().await;
    assert_eq!(store.snapshot().read_only, None);
    crate::support::put(&store, "later", &whole).await;
    drop(store);
    let store = open(folder.path());
    assert!(crate::support::get(&store, "later").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_disk_has_failed_the_running_store_writes_its_index_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::failing(u64::MAX, 0, ErrorKind::Other);
    let store = Store::open_on(config(folder.path()), disk.clone()).expect("opens");
    let whole = body("before", 100_000);
    crate::support::put(&store, "before", &whole).await;
    // Between the journal's new file and the index's commit, if the keeper leaves it to us.
    for round in 0..100 {
        store
            .remember_vary(&key(&format!("vary{round}")), vec!["accept".into()])
            .await;
        disk.set_failing(Some(2));
        store.sync().await;
        disk.set_failing(None);
        if store.faults(Fault::Index) > 0 {
            break;
        }
    }
    let faults = store.snapshot().faults_total();
    assert!(store.faults(Fault::Index) > 0, "the index never failed");
    let later = body("later", 100_000);
    crate::support::put(&store, "later", &later).await;
    let commits = store.snapshot().commits;
    store.sync().await;
    assert!(store.snapshot().commits > commits, "no group commit since");
    assert_eq!(store.snapshot().faults_total(), faults, "it fails on");
    drop(store);
    let store = open(folder.path());
    for (name, whole) in [("before", whole), ("later", later)] {
        let found = crate::support::get(&store, name).await;
        assert_eq!(found.expect("stored"), whole);
    }
    let names = store.vary(&key("vary0")).await;
    assert_eq!(names.expect("written in the end"), ["accept"]);
}
