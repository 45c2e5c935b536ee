//! The cap: reserved before it is used, never passed, and nothing in use cut off for it.

use std::path::Path;
use std::process::Command;

use larder_store::{Admission, BeginError, Config, Store};

use crate::support::{
    begin, body, config, get, key, open, patiently, put, read_all, until, used_by,
};

const CAP: u64 = 24 << 20;

fn small_store(directory: &Path) -> Store {
    let config = Config {
        size_max: CAP,
        ..config(directory)
    };
    patiently(|| Store::open(config.clone()))
}

/// Names the file system of their own that the tests below run on; set by themselves.
pub(crate) const OWN: &str = "LARDER_TEST_FILE_SYSTEM";

/// Runs a test of this binary again with `OWN` naming a tmpfs of `size`, in a mount namespace of
/// its own. True: this is that run, and the test is to go on.
pub(crate) fn on_own_file_system(test: &str, size: &str) -> bool {
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!("mount -t tmpfs -o size={size} none \"${OWN}\" && exec \"$0\" \"$@\"");
    let probe = Command::new("unshare").args(["-rm", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        println!("SKIP {test}: unshare -rm true fails on this machine");
        return false;
    }
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture"])
        .env(OWN, folder.path())
        .status()
        .expect("runs");
    assert!(status.success(), "on its own file system");
    false
}

/// Used bytes of the file system, all of which are the store's.
fn used(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).expect("mounted");
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

#[test]
fn ten_times_the_cap_pulled_through_never_occupies_more_than_the_cap() {
    let test = "room::ten_times_the_cap_pulled_through_never_occupies_more_than_the_cap";
    if !on_own_file_system(test, "48m") {
        return;
    }
    let folder = std::path::PathBuf::from(std::env::var_os(OWN).expect("set by the first run"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("a runtime");
    let store = small_store(&folder);
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let store = store.clone();
            runtime.spawn(async move {
                for round in 0..30 {
                    let name = format!("{client}-{round}");
                    let whole = body(&name, 40_000 + (round * 67_777) % 2_000_000);
                    put(&store, &name, &whole).await;
                    if let Some(read) = get(&store, &name).await {
                        assert_eq!(read, whole);
                    }
                }
            })
        })
        .collect();
    let mut highest = 0;
    while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
        highest = highest.max(used(&folder));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for client in clients {
        runtime.block_on(client).expect("every response right");
    }
    let snapshot = store.snapshot();
    println!("{highest} of {CAP} bytes, {snapshot:?}");
    assert!(highest <= CAP, "{highest} bytes of {CAP}");
    assert!(highest > CAP / 2, "the cap was never approached: {highest}");
    assert!(snapshot.evictions > 100, "{snapshot:?}");
    assert!(snapshot.used_bytes <= CAP);
}

#[tokio::test]
async fn what_is_being_read_is_not_evicted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = small_store(folder.path());
    let whole = body("held", 2_000_000);
    let entry = put(&store, "held", &whole).await;
    for round in 0..30 {
        put(
            &store,
            &format!("r{round}"),
            &body(&format!("r{round}"), 2_000_000),
        )
        .await;
    }
    assert!(store.snapshot().evictions > 10);
    assert_eq!(
        read_all(entry.reader(0, entry.len()))
            .await
            .expect("readable"),
        whole
    );
    assert!(store.lookup(&key("held")).await.is_some());
}

#[tokio::test]
async fn where_everything_is_in_use_a_fill_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = small_store(folder.path());
    let mut running = Vec::new();
    for round in 0..4 {
        running.push(begin(&store, &format!("f{round}"), Some(4_900_000)).await);
    }
    let slot = crate::support::lead(&store, &key("more"));
    let error = slot
        .begin(crate::support::meta("more"), Some(9_000_000), key("more"))
        .await
        .expect_err("everything is reserved");
    assert_eq!(error.as_str(), "no-room");
    drop(running);
    put(&store, "more", &body("more", 9_000_000)).await;
}

#[tokio::test]
async fn what_is_used_more_often_stays_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = small_store(folder.path());
    let entry = put(&store, "popular", &body("popular", 1_000_000)).await;
    for _ in 0..50 {
        store.touch(&entry);
    }
    drop(entry);
    used_by(&store, "popular", 51).await;
    for round in 0..40 {
        put(
            &store,
            &format!("once{round}"),
            &body(&format!("once{round}"), 1_000_000),
        )
        .await;
    }
    assert!(store.lookup(&key("popular")).await.is_some());
    assert!(store.lookup(&key("once0")).await.is_none());
    drop(store);
    let store = open(folder.path());
    assert!(store.snapshot().age > 0, "the age is forgotten");
}

#[tokio::test]
async fn a_walk_over_a_whole_mirror_does_not_flush_what_is_popular() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |admission| {
        let config = Config {
            size_max: CAP,
            admission,
            ..config(folder.path())
        };
        patiently(|| Store::open(config.clone()))
    };
    let ask = async |store: &Store, name: &str| {
        if let Some(entry) = store.lookup(&key(name)).await {
            store.touch(&entry);
            return true;
        }
        let slot = crate::support::lead(store, &key(name));
        let whole = body(name, 1_000_000);
        match slot
            .begin(crate::support::meta(name), Some(1_000_000), key(name))
            .await
        {
            Ok(mut fill) => {
                fill.write(whole).await.expect("written");
                fill.commit().await.expect("stored");
            }
            Err(e) => assert!(matches!(e, BeginError::NotAdmitted), "{e}"),
        }
        false
    };
    let store = open(Admission::Frequency);
    for round in 0..3 {
        for n in 0..20 {
            let hit = ask(&store, &format!("popular{n}")).await;
            assert!(hit || round == 0);
        }
    }
    for n in 0..200 {
        ask(&store, &format!("walk{n}")).await;
    }
    let mut held = 0;
    for n in 0..20 {
        held += u32::from(store.object(&key(&format!("popular{n}"))).is_some());
    }
    assert!(held >= 19, "{held} of 20 are left");
    // What is asked for again and again gets in all the same.
    for _ in 0..6 {
        ask(&store, "rising").await;
    }
    assert!(ask(&store, "rising").await, "never admitted");
}

/// Folders of the content tree, and those of them that bodies are in.
fn folders(directory: &Path) -> (u64, u64) {
    let inside = |path: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries
            .map(|entry| entry.expect("readable").path())
            .collect()
    };
    let (mut all, mut full) = (0, 0);
    for first in inside(&directory.join("content-v2/sha256")) {
        for second in inside(&first) {
            all += 1;
            full += u64::from(!inside(&second).is_empty());
        }
    }
    (all, full)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_goes_with_the_last_body_in_it_and_room_stays_for_bodies() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = small_store(folder.path());
    let clients = (0..4).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..700 {
                let name = format!("{client}-{round}");
                put(&store, &name, &body(&name, 50_000)).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("stored");
    }
    store.close().await;
    let (all, full) = folders(folder.path());
    assert_eq!(all, full, "empty folders stay");
    let snapshot = store.snapshot();
    assert!(snapshot.evictions > 1_000, "{snapshot:?}");
    // The index counts for more until its next commit: what is left for bodies moves with that.
    assert!(snapshot.body_bytes > CAP * 7 / 10, "{snapshot:?}");
    assert_eq!(snapshot.faults_total(), 0, "{snapshot:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_folders_of_an_earlier_run_are_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(small_store(folder.path()));
    for second in 0..=255 {
        let path = format!("content-v2/sha256/aa/{second:02x}");
        std::fs::create_dir_all(folder.path().join(path)).expect("made");
    }
    let store = small_store(folder.path());
    until("they are gone", || folders(folder.path()) == (0, 0)).await;
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn equal_bodies_under_eviction_are_each_stored_and_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = small_store(folder.path());
    let clients = (0..8).map(|client| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..300 {
                // Of four clients each brings the same body under a name of its own, just when
                // the one that came first is next to leave.
                let twin = (client / 4, round);
                let whole = body(&format!("{twin:?}"), 300_000);
                let entry = put(&store, &format!("{client}-{round}"), &whole).await;
                let read = read_all(entry.reader(0, entry.len())).await;
                assert_eq!(read.expect("a whole body"), whole);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("stored and found");
    }
    let snapshot = store.snapshot();
    assert!(snapshot.deduplicated_bytes > 0, "{snapshot:?}");
    assert_eq!(snapshot.faults_total(), 0, "{snapshot:?}");
}

#[test]
fn files_are_room_too_where_the_file_system_has_few() {
    let test = "room::files_are_room_too_where_the_file_system_has_few";
    if !on_own_file_system(test, "64m,nr_inodes=400") {
        return;
    }
    let folder = std::path::PathBuf::from(std::env::var_os(OWN).expect("set by the first run"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = small_store(&folder);
        for round in 0..600 {
            let name = format!("n{round}");
            put(&store, &name, &body(&name, 2_000)).await;
        }
        let snapshot = store.snapshot();
        assert!(snapshot.evictions > 300, "{snapshot:?}");
        assert!(snapshot.objects > 50, "{snapshot:?}");
        assert_eq!(snapshot.faults_total(), 0, "{snapshot:?}");
        store.close().await;
    });
}
