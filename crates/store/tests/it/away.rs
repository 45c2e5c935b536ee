//! A directory that goes away and comes back, and an index that is not this cache's.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder_store::{OpenError, Store};

use crate::support::{body, config, get, key, open, put, until};

/// Allocated bytes below a folder.
fn occupied(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(folder).expect("readable").flatten();
    let each = entries.map(|entry| {
        let data = entry.metadata().expect("there");
        let inside = if data.is_dir() {
            occupied(&entry.path())
        } else {
            0
        };
        inside + data.blocks() * 512
    });
    each.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_goes_away_and_comes_back_has_lost_no_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (here, away) = (folder.path().join("cache"), folder.path().join("away"));
    let store = open(&here);
    let large = body("large", 300_000);
    for name in ["a", "b", "c"] {
        put(&store, name, &large).await;
    }
    put(&store, "d", &body("other", 200_000)).await;
    store.close_idle_files();
    fs::rename(&here, &away).expect("moved");
    // As where a disk has been unmounted.
    fs::create_dir(&here).expect("made");
    let found = get(&store, "a").await;
    assert!(found.is_none(), "there is no file to read");
    let why = store.snapshot().read_only.expect("nothing can be stored");
    assert!(why.contains("moved, removed or unmounted"), "{why}");
    assert_eq!(store.snapshot().objects, 4, "no name is dropped");
    // Forgotten meanwhile: the file is still there when the directory is.
    assert!(store.remove(&key("d")).await);
    store.sync().await;
    assert!(
        store.snapshot().read_only.is_some(),
        "another one is no return"
    );
    assert_eq!(fs::read_dir(&here).expect("readable").count(), 0);
    fs::remove_dir(&here).expect("removed");
    fs::rename(&away, &here).expect("moved");
    store.sync().await;
    assert_eq!(store.snapshot().read_only, None);
    assert_eq!(get(&store, "a").await.as_deref(), Some(&large[..]));
    put(&store, "e", &body("new", 50_000)).await;
    let used = store.snapshot().used_bytes;
    let occupied = occupied(&here.join("content-v2"));
    assert!(used >= occupied, "{used} of {occupied}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_another_caches_index_does_not_name_count_and_leave() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    for (directory, names) in [(&ours, 30), (&theirs, 1)] {
        let store = open(directory);
        for number in 0..names {
            let name = format!("{}{number}", directory.display());
            put(&store, &name, &body(&name, 100_000)).await;
        }
        store.close().await;
    }
    // The folders are those that the foreign index needs: only who looks into them sees more.
    let content = ours.join("content-v2/sha256");
    let all: Vec<_> = fs::read_dir(&content)
        .expect("readable")
        .flatten()
        .collect();
    let paths = all.iter().flat_map(|first| {
        let second = fs::read_dir(first.path()).expect("readable").flatten();
        second.map(|entry| entry.path())
    });
    let folders: Vec<_> = paths.collect();
    fs::copy(theirs.join("index.redb"), ours.join("index.redb")).expect("copied");
    let bodies: u64 = folders.iter().map(|folder| occupied(folder)).sum();
    let mut config = config(&ours);
    config.size_max = 4_000_000;
    let store = Store::open(config).expect("opens");
    let counted = store.snapshot().used_bytes;
    let left: u64 = folders
        .iter()
        .filter(|folder| folder.exists())
        .map(|folder| occupied(folder))
        .sum();
    assert!(counted >= left, "{counted} of {left}, at first {bodies}");
    // Whatever is put there by now: all that has no name goes.
    let are_gone = || !folders.iter().any(|folder| folder.exists());
    until("what has no name goes", are_gone).await;
    store.close().await;
}

#[tokio::test]
async fn a_directory_that_is_no_cache_is_only_taken_to_be_filled() {
    let folder = tempfile::tempdir().expect("a folder");
    for opened in [
        Store::look(config(folder.path())),
        Store::open_existing(config(folder.path())),
    ] {
        assert!(matches!(opened, Err(OpenError::Foreign { .. })));
    }
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    fs::write(folder.path().join("README"), b"mine").expect("written");
    // Nor is it something that a server goes on without.
    let served = Store::open_or_less(config(folder.path()));
    assert!(matches!(served, Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_in_a_bodys_place_is_no_body() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for name in ["read", "verified"] {
        put(&store, name, &body(name, 300_000)).await;
        let object = store.object(&key(name)).expect("held");
        let path = folder.path().join(object.digest.content_path());
        store.close_idle_files();
        fs::remove_file(&path).expect("there");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("made");
        // Who put the body in place may hold its file open for a moment yet.
        for _ in 0..500 {
            if name == "read" {
                get(&store, name).await;
            } else {
                let store = store.clone();
                let audit = tokio::task::spawn_blocking(move || store.verify(true, |_, _| true));
                audit.await.expect("ended").expect("read");
            }
            if store.object(&key(name)).is_none() {
                break;
            }
            store.close_idle_files();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(store.object(&key(name)).is_none(), "{name}");
    }
    store.close().await;
}
