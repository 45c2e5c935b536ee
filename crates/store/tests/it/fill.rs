//! One fill, from its first byte to its entry, and everything that may go wrong on the way.

use bytes::Bytes;
use larder_store::{FillError, ReadError};

use crate::support::{all_released, begin, body, get, key, meta, next, open, put, read_all};

/// Around every border: memory, part file, several pieces.
const LENGTHS: [usize; 9] = [
    0, 1, 65_536, 65_537, 262_144, 262_145, 300_000, 1_000_000, 5_000_000,
];

#[tokio::test]
async fn what_was_stored_is_found_with_its_head_and_every_slice_of_its_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in LENGTHS {
        let name = format!("file-{len}");
        let body = body(&name, len);
        let entry = put(&store, &name, &body).await;
        assert_eq!(entry.len(), len as u64);
        let entry = store.lookup(&key(&name)).await.expect("stored");
        assert_eq!(*entry.meta, meta(&name));
        assert_eq!(
            read_all(entry.reader(0, entry.len())).await.expect("whole"),
            body
        );
        let (from, to) = (len / 3, len / 3 + len / 2);
        let part = read_all(entry.reader(from as u64, to as u64))
            .await
            .expect("a part");
        assert_eq!(part, body[from..to], "{name}");
    }
    assert!(store.lookup(&key("other")).await.is_none());
    assert_eq!(store.snapshot().faults_total(), 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_whole_when_the_origin_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in LENGTHS {
        let name = format!("chunked-{len}");
        let body = body(&name, len);
        let mut fill = begin(&store, &name, None).await;
        let tail = fill.tail();
        for chunk in body.chunks(33_333) {
            fill.write(Bytes::copy_from_slice(chunk))
                .await
                .expect("written");
        }
        assert_eq!(tail.length(), None);
        fill.commit().await.expect("committed");
        assert_eq!(tail.length(), Some(len as u64));
        assert_eq!(get(&store, &name).await.expect("stored"), body);
        assert_eq!(read_all(tail.reader(0, None)).await.expect("whole"), body);
    }
    all_released(&store).await;
}

#[tokio::test]
async fn a_length_that_the_origin_did_not_keep_stores_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in [100u64, 1_000_000] {
        let body = body("lie", len as usize);
        let mut fill = begin(&store, "short", Some(len + 1)).await;
        fill.write(body.clone()).await.expect("written");
        assert!(matches!(
            fill.commit().await,
            Err(FillError::TooShort { .. })
        ));
        let mut fill = begin(&store, "long", Some(len - 1)).await;
        let tail = fill.tail();
        assert!(matches!(
            fill.write(body).await,
            Err(FillError::TooLong { .. })
        ));
        drop(fill);
        let read = read_all(tail.reader(0, None)).await;
        assert!(matches!(read, Err(ReadError::FillFailed)), "{read:?}");
    }
    assert!(store.lookup(&key("short")).await.is_none());
    assert!(store.lookup(&key("long")).await.is_none());
    let parts = std::fs::read_dir(folder.path().join("parts")).expect("there");
    assert_eq!(parts.count(), 0, "part files left behind");
    all_released(&store).await;
}

#[tokio::test]
async fn a_dropped_fill_ends_its_readers_with_an_error_and_keeps_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in [1_000usize, 2_000_000] {
        let body = body("broken", len);
        let mut fill = begin(&store, "broken", Some(len as u64)).await;
        let mut reader = fill.tail().reader(0, None);
        fill.write(body.slice(..len / 2)).await.expect("written");
        let first = next(&mut reader)
            .await
            .expect("bytes")
            .expect("as they arrive");
        assert_eq!(first, body[..first.len()]);
        drop(fill);
        let rest = read_all(reader).await;
        assert!(matches!(rest, Err(ReadError::FillFailed)), "{rest:?}");
        assert!(store.lookup(&key("broken")).await.is_none());
    }
    all_released(&store).await;
}

#[tokio::test]
async fn equal_bodies_under_two_keys_are_one_file_that_stays_for_the_second() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in [10_000, 500_000] {
        let body = body("same", len);
        put(&store, "a", &body).await;
        put(&store, "b", &body).await;
        let snapshot = store.snapshot();
        assert_eq!((snapshot.objects, snapshot.bodies), (2, 1));
        assert!(store.remove(&key("a")).await);
        assert!(!store.remove(&key("a")).await);
        assert!(store.lookup(&key("a")).await.is_none());
        assert_eq!(get(&store, "b").await.expect("still there"), body);
        assert!(store.remove(&key("b")).await);
        assert_eq!(store.snapshot().bodies, 0);
    }
}

#[tokio::test]
async fn a_key_that_is_filled_again_serves_the_new_body_and_the_old_to_its_readers() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let (old, new) = (body("old", 700_000), body("new", 600_000));
    let entry = put(&store, "root", &old).await;
    put(&store, "root", &new).await;
    assert_eq!(get(&store, "root").await.expect("stored"), new);
    assert_eq!(
        read_all(entry.reader(0, entry.len()))
            .await
            .expect("still readable"),
        old
    );
}
