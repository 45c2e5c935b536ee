//! Fetches that another version or a purge has overtaken.

use larder_store::{Join, Opening};

use crate::support::{body, key, lead, meta, open, put, read_all};

const LENGTH: usize = 1_500_000;

#[tokio::test]
async fn a_fill_whose_parts_are_of_an_older_version_is_joined_by_nobody_and_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let opening = Opening {
        meta: meta("old"),
        length: LENGTH as u64,
        origin: "http://mirror.example".to_owned(),
    };
    let begun = lead(&store, &key("k")).begin_resumable(opening, key("k"));
    let mut fill = begun.await.expect("there is room");
    let tail = fill.tail();
    let old = body("old", LENGTH);
    fill.write(old.slice(..1_000_000)).await.expect("written");
    assert!(matches!(store.join(&key("k")), Join::Follow(_)));
    store.partial(&key("k")).expect("drawn").discard();
    // Who joins now fetches the newer one, and the end of the old fetch does not end that.
    let anew = lead(&store, &key("k"));
    fill.write(old.slice(1_000_000..)).await.expect("written");
    assert!(fill.commit().await.is_err());
    let read = read_all(tail.reader(0, None)).await.expect("whole");
    assert!(read == old, "who reads the old one has all of it");
    assert!(matches!(store.join(&key("k")), Join::Follow(_)));
    drop((anew, tail));
    assert!(store.lookup(&key("k")).await.is_none());
    put(&store, "k", &body("new", 10)).await;
}

#[tokio::test]
async fn parts_that_make_way_for_a_whole_of_their_version_let_their_fill_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let opening = Opening {
        meta: meta("same"),
        length: LENGTH as u64,
        origin: "http://mirror.example".to_owned(),
    };
    let begun = lead(&store, &key("k")).begin_resumable(opening, key("k"));
    let fill = begun.await.expect("there is room");
    let parts = store.partial(&key("k")).expect("drawn");
    parts.retire();
    assert!(!parts.is_discarded());
    assert!(matches!(store.join(&key("k")), Join::Follow(_)));
    drop(fill);
}

#[tokio::test]
async fn parts_that_have_become_a_whole_are_no_discarded_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let opening = Opening {
        meta: meta("k"),
        length: LENGTH as u64,
        origin: "http://mirror.example".to_owned(),
    };
    let begun = lead(&store, &key("k")).begin_resumable(opening, key("k"));
    let mut fill = begun.await.expect("there is room");
    let parts = store.partial(&key("k")).expect("drawn");
    fill.write(body("k", LENGTH)).await.expect("written");
    fill.commit().await.expect("stored");
    assert!(store.partial(&key("k")).is_none() && !parts.is_discarded());
    parts.discard();
    assert!(parts.is_discarded());
    assert!(store.lookup(&key("k")).await.is_some());
}

#[tokio::test]
async fn a_purge_by_one_key_of_a_fetch_leaves_none_of_its_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let variant = key("k").with_variant(&[("accept".into(), None)]);
    let begun = lead(&store, &variant).begin(meta("k"), Some(4), key("k"));
    let fill = begun.await.expect("there is room");
    assert!(matches!(store.join(&key("k")), Join::Follow(_)));
    assert_eq!(store.purge_fills(|wanted, _| *wanted == variant), 1);
    drop((lead(&store, &key("k")), lead(&store, &variant), fill));
}
