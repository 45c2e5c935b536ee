//! What a stop, orderly or not, leaves behind.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use larder_store::{Config, Fault, OpenError, Replacement, Store};

use crate::support::{
    body, config, get, key, meta, open, patiently, put, read_all, until, used_by,
};

#[tokio::test]
async fn an_orderly_stop_keeps_objects_heads_counts_and_names_of_vary() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let (small, big) = (body("small", 3_000), body("big", 800_000));
    put(&store, "small", &small).await;
    put(&store, "big", &big).await;
    store
        .remember_vary(&key("small"), vec!["accept".into(), "x-a".into()])
        .await;
    store.close().await;
    drop(store);
    let store = open(folder.path());
    assert_eq!(get(&store, "small").await.expect("kept"), small);
    assert_eq!(get(&store, "big").await.expect("kept"), big);
    let entry = store.lookup(&key("big")).await.expect("kept");
    assert_eq!(*entry.meta, meta("big"));
    assert_eq!(
        store.vary(&key("small")).await.expect("kept"),
        ["accept", "x-a"]
    );
    assert_eq!(store.vary(&key("big")).await, None);
    assert_eq!(store.snapshot().faults_total(), 0);
}

#[tokio::test]
async fn a_directory_is_held_by_one_store_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let error = Store::open(config(folder.path())).expect_err("held");
    assert!(matches!(error, OpenError::Held { .. }));
    assert!(
        error.to_string().contains("held by another process"),
        "{error}"
    );
    drop(store);
    open(folder.path());
}

#[tokio::test]
async fn a_flipped_small_body_is_a_miss_and_a_flipped_big_one_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let small = put(&store, "small", &body("small", 3_000)).await;
    let big = put(&store, "big", &body("big", 800_000)).await;
    let paths = [&small, &big].map(|entry| folder.path().join(entry.digest.content_path()));
    drop((store, small, big));
    for path in &paths {
        let mut bytes = fs::read(path).expect("in place");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        fs::write(path, bytes).expect("written");
    }
    let store = open(folder.path());
    assert!(store.lookup(&key("small")).await.is_none());
    let entry = store.lookup(&key("big")).await.expect("not looked at yet");
    let read = read_all(entry.reader(0, entry.len())).await;
    assert!(read.is_err(), "a wrong body was delivered whole");
    drop(entry);
    assert!(store.lookup(&key("big")).await.is_none(), "dropped");
    assert_eq!(store.snapshot().faults_total(), 2);
    assert_eq!(store.snapshot().objects, 0);
}

#[tokio::test]
async fn a_missing_or_shorter_file_is_a_miss_and_is_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let gone = put(&store, "gone", &body("gone", 300_000)).await;
    let cut = put(&store, "cut", &body("cut", 300_000)).await;
    let path = |digest: larder_store::Digest| folder.path().join(digest.content_path());
    let paths = (path(gone.digest), path(cut.digest));
    drop((store, gone, cut));
    let (gone, cut) = paths;
    fs::remove_file(gone).expect("in place");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(cut)
        .expect("in place");
    file.set_len(299_999).expect("cut");
    let store = open(folder.path());
    assert!(store.lookup(&key("gone")).await.is_none());
    assert!(store.lookup(&key("cut")).await.is_none());
    assert_eq!(store.snapshot().objects, 0);
    assert_eq!(store.snapshot().faults_total(), 2);
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_ends_in_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let entry = put(&store, "k", &body("k", 2_000_000)).await;
    let path = folder.path().join(entry.digest.content_path());
    let reader = entry.reader(0, entry.len());
    let file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("in place");
    file.set_len(1_000_000).expect("cut");
    assert!(read_all(reader).await.is_err());
    drop(entry);
    assert!(store.lookup(&key("k")).await.is_none());
}

/// Stores some objects of every kind and closes the store.
async fn some_objects(folder: &Path) -> Vec<(String, Bytes)> {
    let store = open(folder);
    let mut objects = Vec::new();
    for n in 0..40 {
        let name = format!("object-{n}");
        let whole = body(&name, 2_000 + n * 2_500);
        put(&store, &name, &whole).await;
        objects.push((name, whole));
    }
    store.close().await;
    objects
}

/// Opens the store once its index has been rebuilt, and counts what is found; all of it is right.
async fn found(folder: &Path, objects: &[(String, Bytes)]) -> usize {
    let store = open(folder);
    let is_read = || !folder.join("index.damaged").exists();
    until("the index has been rebuilt", is_read).await;
    let mut found = 0;
    for (name, whole) in objects {
        if let Some(read) = get(&store, name).await {
            assert!(read == *whole, "wrong bytes of {name}");
            found += 1;
        }
    }
    let again = body("again", 50_000);
    put(&store, "again", &again).await;
    assert_eq!(get(&store, "again").await.expect("service goes on"), again);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_garbage_costs_names_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = some_objects(folder.path()).await;
    fs::write(folder.path().join("index.redb"), vec![7; 50_000]).expect("written");
    assert_eq!(found(folder.path(), &objects).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_has_lost_its_beginning_is_rebuilt_from_its_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = some_objects(folder.path()).await;
    let path = folder.path().join("index.redb");
    let mut bytes = fs::read(&path).expect("there");
    bytes[..4096].fill(0);
    fs::write(&path, bytes).expect("written");
    assert_eq!(found(folder.path(), &objects).await, objects.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_index_gives_what_is_left_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let objects = some_objects(folder.path()).await;
    let path = folder.path().join("index.redb");
    let whole = fs::read(&path).expect("there");
    for cut in [1, 2, 3] {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = some_objects(folder.path()).await;
        fs::write(
            folder.path().join("index.redb"),
            &whole[..whole.len() * cut / 4],
        )
        .expect("cut");
        let found = found(folder.path(), &objects).await;
        println!(
            "{found} of {} objects from {cut}/4 of the index",
            objects.len()
        );
    }
    assert_eq!(found(folder.path(), &objects).await, objects.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_index_gives_no_wrong_byte_and_service_goes_on() {
    let mut state = 77_u64;
    let (mut total, mut of) = (0, 0);
    for _ in 0..25 {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = some_objects(folder.path()).await;
        let path = folder.path().join("index.redb");
        let mut bytes = fs::read(&path).expect("there");
        // Where something is: most of the file is empty.
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = used[(state >> 33) as usize % used.len()];
        bytes[at] ^= 1 << (state >> 61);
        fs::write(&path, bytes).expect("written");
        // What is found is right, or this fails; mostly a flip costs one name or none, and where it
        // hits a page that leads to others, some.
        total += found(folder.path(), &objects).await;
        of += objects.len();
    }
    println!("{total} of {of} objects found after 25 flips");
    assert!(total >= of * 4 / 5, "{total} of {of}");
}

#[tokio::test]
async fn a_flipped_body_is_not_served_to_a_key_that_brings_the_same_bytes_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for len in [30_000, 800_000] {
        let whole = body("same", len);
        let store = open(folder.path());
        let entry = put(&store, "first", &whole).await;
        let path = folder.path().join(entry.digest.content_path());
        drop((store, entry));
        let mut bytes = fs::read(&path).expect("in place");
        bytes[len / 2] ^= 1;
        fs::write(&path, bytes).expect("written");
        let store = open(folder.path());
        put(&store, "second", &whole).await;
        for _ in 0..2 {
            assert!(get(&store, "second").await.expect("stored") == whole);
        }
        assert_eq!(fs::read(&path).expect("in place again"), whole);
        assert_eq!(store.snapshot().faults_total(), 1);
    }
}

#[tokio::test]
async fn ranks_of_another_policy_do_not_keep_what_is_new_from_staying() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |replacement| {
        let config = Config {
            size_max: 16 << 20,
            replacement,
            ..config(folder.path())
        };
        patiently(|| Store::open(config.clone()))
    };
    // Least recently used: ranks are the numbers of uses so far, and these are many.
    let store = open(Replacement::Lru);
    for round in 0..60 {
        let name = format!("old{round}");
        let entry = put(&store, &name, &body(&name, 1_000_000)).await;
        for _ in 0..50 {
            store.touch(&entry);
        }
    }
    store.close().await;
    drop(store);
    let store = open(Replacement::Lfuda);
    let whole = body("new", 1_000_000);
    let entry = put(&store, "new", &whole).await;
    for _ in 0..100 {
        store.touch(&entry);
    }
    drop(entry);
    used_by(&store, "new", 101).await;
    for round in 0..20 {
        let name = format!("once{round}");
        put(&store, &name, &body(&name, 1_000_000)).await;
    }
    assert!(get(&store, "new").await.is_some(), "evicted before the old");
}

#[tokio::test]
async fn the_plain_cacache_crate_reads_and_verifies_a_body_by_its_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for (name, len) in [("small", 3_000), ("big", 800_000)] {
        let whole = body(name, len);
        let entry = put(&store, name, &whole).await;
        let hex = entry.digest.to_string();
        let integrity = cacache::Integrity::from_hex(hex, cacache::Algorithm::Sha256);
        let integrity = integrity.expect("a digest");
        let read = cacache::read_hash_sync(folder.path(), &integrity).expect("verified");
        assert!(read == whole);
        let path = folder.path().join(entry.digest.content_path());
        let mut bytes = fs::read(&path).expect("in place");
        bytes[1] ^= 1;
        fs::write(&path, bytes).expect("written");
        assert!(cacache::read_hash_sync(folder.path(), &integrity).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_index_does_not_name_counts_until_it_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let cap = 24 << 20;
    let open = || {
        patiently(|| {
            Store::open(Config {
                size_max: cap,
                ..config(folder.path())
            })
        })
    };
    let store = open();
    for round in 0..20 {
        let name = format!("old{round}");
        put(&store, &name, &body(&name, 1_000_000)).await;
    }
    store.close().await;
    drop(store);
    fs::remove_file(folder.path().join("index.redb")).expect("there");
    // Reading it fails, as on a bad sector; and it is there again at every start.
    fs::create_dir(folder.path().join("index.damaged")).expect("made");
    let store = open();
    let mut highest = 0;
    for round in 0..20 {
        let name = format!("new{round}");
        put_if_there_is_room(&store, &name, &body(&name, 1_000_000)).await;
        highest = highest.max(content_bytes(folder.path()));
    }
    assert!(highest <= cap, "{highest} of {cap}");
    let has_room = || {
        let lost = fs::metadata(folder.path().join("index.damaged")).is_err();
        lost && store.snapshot().used_bytes < cap
    };
    until("what has no name goes", has_room).await;
    put(&store, "later", &body("later", 1_000_000)).await;
    assert!(content_bytes(folder.path()) <= store.snapshot().used_bytes);
}

async fn put_if_there_is_room(store: &Store, name: &str, whole: &Bytes) {
    let slot = crate::support::lead(store, &key(name));
    let len = Some(whole.len() as u64);
    if let Ok(mut fill) = slot.begin(meta(name), len, key(name)).await {
        fill.write(whole.clone()).await.expect("written");
        fill.commit().await.expect("stored");
    }
}

/// Allocated bytes of everything in the content tree.
fn content_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut waiting = vec![directory.join("content-v2")];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => waiting.push(entry.path()),
                Ok(data) => bytes += data.blocks() * 512,
                Err(_) => {}
            }
        }
    }
    bytes
}

/// A copy of a cache as a kill leaves it: what came last is suspect.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(directory.join(".")).arg(copy.path());
    assert!(command.status().expect("runs").success());
    copy
}

/// Flips a bit in the middle of the only body.
fn flip_the_body(directory: &Path) {
    let mut path = directory.join("content-v2/sha256");
    while path.is_dir() {
        let mut inside = fs::read_dir(&path).expect("readable");
        path = inside.next().expect("one").expect("readable").path();
    }
    let mut bytes = fs::read(&path).expect("readable");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_body_is_hashed_while_it_is_delivered_and_a_part_of_it_after_one_check() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("big", 4_000_000);
    put(&store, "big", &whole).await;
    let copy = killed(folder.path());
    let again = open(copy.path());
    let entry = again.lookup(&key("big")).await.expect("found");
    let mut reader = entry.reader(0, entry.len());
    let first = crate::support::next(&mut reader)
        .await
        .expect("some")
        .expect("read");
    assert!(first.len() < whole.len());
    assert_eq!(again.snapshot().checked, 0, "hashed before the first byte");
    drop(reader);
    // Four parts at once: one check.
    let parts = (0..4_u64).map(|n| {
        let reader = entry.reader(n * 1_000_000, (n + 1) * 1_000_000);
        tokio::spawn(read_all(reader))
    });
    let mut all = Vec::new();
    for part in parts.collect::<Vec<_>>() {
        all.extend(part.await.expect("ends").expect("whole"));
    }
    assert!(all == whole);
    assert_eq!(again.snapshot().checked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_of_a_damaged_suspect_body_is_served_even_where_nothing_else_is_verified() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("big", 4_000_000);
    put(&store, "big", &whole).await;
    for is_part in [true, false] {
        let copy = killed(folder.path());
        flip_the_body(copy.path());
        let config = Config {
            verify: larder_store::Verify::Never,
            ..config(copy.path())
        };
        let again = Store::open(config).expect("opens");
        let entry = again.lookup(&key("big")).await.expect("found");
        let start = u64::from(is_part);
        let mut reader = entry.reader(start, entry.len());
        let mut got = 0;
        let failed = loop {
            match crate::support::next(&mut reader).await {
                Some(Ok(bytes)) => got += bytes.len() as u64,
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(failed, "a damaged body was delivered whole");
        assert!(if is_part { got == 0 } else { got < entry.len() }, "{got}");
        assert!(again.lookup(&key("big")).await.is_none());
    }
}

#[tokio::test]
async fn an_index_that_is_not_there_is_said_once() {
    for is_empty in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        assert_eq!(store.faults(Fault::Index), 0, "a new cache has none yet");
        put(&store, "a", &body("a", 1000)).await;
        store.close().await;
        drop(store);
        let index = folder.path().join("index.redb");
        if is_empty {
            fs::write(&index, b"").expect("writable");
        } else {
            fs::remove_file(&index).expect("removable");
        }
        let store = open(folder.path());
        assert_eq!(store.faults(Fault::Index), 1);
        assert!(get(&store, "a").await.is_none());
        put(&store, "a", &body("a", 1000)).await;
        assert_eq!(
            get(&store, "a").await.as_deref(),
            Some(&body("a", 1000)[..])
        );
    }
}
