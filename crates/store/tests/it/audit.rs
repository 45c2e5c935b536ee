//! What administrators ask: every object, and whether every body is whole.

use std::fs;
use std::time::Duration;

use larder_store::{Checked, Config, Order, Store};

use crate::support::{Random, body, config, get, key, open, put, until, used_by};

#[tokio::test]
async fn a_walk_shows_every_object_in_the_order_that_was_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for n in 0..600_usize {
        let name = format!("object-{n}");
        put(&store, &name, &body(&name, 10 + n)).await;
    }
    let favourite = store.lookup(&key("object-7")).await.expect("stored");
    store.touch(&favourite);
    store.touch(&favourite);
    // Half of the heads in the index file, half on their way to it.
    store.sync().await;
    for n in 600..1_200_usize {
        let name = format!("object-{n}");
        put(&store, &name, &body(&name, 10 + n)).await;
    }
    used_by(&store, "object-7", 3).await;
    let mut sizes = Vec::new();
    store.walk(Order::Size, |object| {
        sizes.push(object.len);
        true
    });
    assert_eq!(sizes, (10..1_210).rev().collect::<Vec<u64>>());
    let mut first = None;
    store.walk(Order::Uses, |object| {
        first = Some(object);
        false
    });
    let first = first.expect("there are some");
    assert_eq!((first.key, first.uses), (key("object-7"), 3));
    assert_eq!(store.object(&key("object-3")).expect("stored").len, 13);
    assert!(store.object(&key("none")).is_none());
}

/// Flips a byte of each, in place.
fn flip(paths: &[std::path::PathBuf]) {
    let mut random = Random::new(5);
    for path in paths {
        let mut bytes = fs::read(path).expect("in place");
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(path, bytes).expect("written");
    }
}

#[tokio::test]
async fn every_flipped_body_of_500_is_found_and_an_interrupted_audit_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut paths = Vec::new();
    for n in 0..700_usize {
        let name = format!("object-{n}");
        let entry = put(&store, &name, &body(&name, 100 + n * 400)).await;
        if n < 500 {
            paths.push(folder.path().join(entry.digest.content_path()));
        }
    }
    store.close().await;
    drop(store);
    flip(&paths);
    let store = open(folder.path());
    let (mut seen, mut names) = (0, Vec::new());
    let mut each = |checked: &Checked| {
        seen += 1;
        if let Checked::Damaged(damaged) = checked {
            names.extend(damaged.objects.iter().map(|(key, _)| key.to_string()));
        }
        seen % 300 != 0
    };
    let interrupted = store
        .verify(false, |checked, _| each(checked))
        .expect("runs");
    assert_eq!((interrupted.bodies, interrupted.bodies_total), (300, 700));
    let mut rounds = 1;
    let ended = loop {
        let progress = store
            .verify(false, |checked, _| each(checked))
            .expect("runs");
        rounds += 1;
        if progress.bodies == progress.bodies_total {
            break progress;
        }
    };
    assert_eq!((rounds, ended.unread), (3, 0));
    names.sort_unstable();
    names.dedup();
    assert_eq!((seen, names.len()), (700, 500));
    assert_eq!(store.snapshot().objects, 200);
    for n in 0..700_usize {
        let name = format!("object-{n}");
        let found = get(&store, &name).await;
        assert_eq!(found.is_some(), n >= 500, "{name}");
    }
    assert!(!folder.path().join("verify.at").exists());
}

#[tokio::test]
async fn the_background_finds_a_flipped_body_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config {
        // All of them within a second: the walk's period is what an operator says in days.
        scrub: Some(Duration::from_millis(600)),
        ..config(folder.path())
    };
    let store = Store::open(config).expect("opens");
    let mut paths = Vec::new();
    for n in 0..20_usize {
        let name = format!("object-{n}");
        let entry = put(&store, &name, &body(&name, 70_000)).await;
        paths.push(folder.path().join(entry.digest.content_path()));
    }
    flip(&paths[..5]);
    until("five are dropped", || store.snapshot().objects == 15).await;
}

#[tokio::test]
async fn the_slices_of_one_download_count_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let entry = put(&store, "image", &body("image", 400_000)).await;
    for client in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        for _ in 0..20 {
            store.touch_slice(&entry, client.into());
        }
    }
    // The fill itself, and one download each.
    let uses = || store.object(&key("image")).expect("stored").uses;
    until("each counts once", || uses() == 3).await;
}

#[tokio::test]
async fn a_damaged_body_that_cannot_be_noted_is_not_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let entry = put(&store, "k", &body("k", 300_000)).await;
    let path = folder.path().join(entry.digest.content_path());
    drop((entry, store));
    let mut bytes = fs::read(&path).expect("in place");
    bytes[7] ^= 1;
    fs::write(&path, bytes).expect("written");
    // A list that cannot be written.
    let list = folder.path().join("verify.lost");
    fs::create_dir(&list).expect("made");
    let store = open(folder.path());
    assert!(store.verify(true, |_, _| true).is_err());
    assert!(store.object(&key("k")).is_some(), "its name is still known");
    fs::remove_dir(&list).expect("empty");
    assert_eq!(store.verify(true, |_, _| true).expect("noted").damaged, 1);
    assert_eq!(store.lost().len(), 1);
}
