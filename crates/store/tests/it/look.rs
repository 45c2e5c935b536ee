//! A cache that is only looked at, and one that cannot be had: nothing is changed, what can be
//! served is.

use std::fs;
use std::path::Path;
use std::process::Command;

use larder_store::{OpenError, Store};

use crate::room::{OWN, on_own_file_system};
use crate::support::{body, config, get, key, lead, meta, open, patiently, put};

/// Every file below a folder with its bytes.
fn everything(folder: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            everything(&path, found);
        } else {
            found.push((path.clone(), fs::read(path).expect("readable")));
        }
    }
    found.sort();
}

async fn refused(store: &Store, name: &str) -> &'static str {
    let begun = lead(store, &key(name)).begin(meta(name), Some(10), key(name));
    begun.await.expect_err("nothing is stored").as_str()
}

#[tokio::test]
async fn looking_changes_nothing_and_several_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("held", 300_000);
    put(&store, "held", &whole).await;
    assert!(matches!(
        Store::look(config(folder.path())),
        Err(OpenError::Held { .. })
    ));
    store.close().await;
    drop(store);
    // Not in the index file yet: only the journal names it.
    let mut before = Vec::new();
    everything(folder.path(), &mut before);
    {
        let one = patiently(|| Store::look(config(folder.path())));
        let other = patiently(|| Store::look(config(folder.path())));
        for store in [&one, &other] {
            assert_eq!(get(store, "held").await.expect("held"), whole);
            assert_eq!(refused(store, "new").await, "no-cache");
            store.remove(&key("held")).await;
            assert_eq!(get(store, "held").await, None);
        }
        assert!(one.snapshot().read_only.is_some());
        one.close().await;
    }
    let mut after = Vec::new();
    everything(folder.path(), &mut after);
    assert!(before == after, "something was changed");
    assert_eq!(
        get(&open(folder.path()), "held").await.expect("held"),
        whole
    );
}

#[tokio::test]
async fn what_only_the_journal_names_is_seen_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("new", 200_000);
    put(&store, "new", &whole).await;
    let target = copy.path().join("cache");
    let copied = Command::new("cp")
        .arg("-a")
        .args([folder.path(), &target])
        .status();
    assert!(copied.expect("runs").success());
    let store = Store::look(config(&target)).expect("readable");
    assert_eq!(get(&store, "new").await.expect("held"), whole);
}

#[tokio::test]
async fn a_directory_of_a_later_version_is_left_alone_and_the_server_goes_on_without() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(folder.path()));
    fs::write(folder.path().join("VERSION"), "larder cache 99\n").expect("written");
    let mut before = Vec::new();
    everything(folder.path(), &mut before);
    let store = patiently(|| Store::open_or_less(config(folder.path())));
    let why = store.snapshot().read_only.expect("said");
    assert!(why.contains("larder cache 99"), "{why}");
    assert_eq!(get(&store, "any").await, None);
    assert_eq!(refused(&store, "any").await, "no-cache");
    store
        .remember_vary(&key("any"), vec!["accept".into()])
        .await;
    store.sync().await;
    assert_eq!(store.snapshot().faults_total(), 0);
    store.close().await;
    let mut after = Vec::new();
    everything(folder.path(), &mut after);
    assert!(before == after, "something was changed");
}

#[tokio::test]
async fn what_the_operator_has_to_mend_ends_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let held = open(folder.path());
    let error = Store::open_or_less(config(folder.path())).expect_err("held");
    assert!(matches!(error, OpenError::Held { .. }), "{error}");
    drop(held);
    fs::write(folder.path().join("file"), "").expect("written");
    assert!(Store::open_or_less(config(&folder.path().join("file/x"))).is_err());
}

#[test]
fn a_file_system_that_has_become_read_only_serves_what_it_holds() {
    let test = "look::a_file_system_that_has_become_read_only_serves_what_it_holds";
    if !on_own_file_system(test, "16m") {
        return;
    }
    let folder = std::path::PathBuf::from(std::env::var_os(OWN).expect("set by the first run"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let whole = body("held", 300_000);
    runtime.block_on(async {
        let store = open(&folder);
        put(&store, "held", &whole).await;
        store.close().await;
    });
    let mounted = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&folder)
        .status();
    assert!(mounted.expect("runs").success());
    assert!(Store::open(config(&folder)).is_err());
    runtime.block_on(async {
        let store = patiently(|| Store::open_or_less(config(&folder)));
        let why = store.snapshot().read_only.expect("said");
        assert!(why.contains("Read-only"), "{why}");
        assert_eq!(get(&store, "held").await.expect("held"), whole);
        assert_eq!(refused(&store, "new").await, "no-cache");
        assert_eq!(store.snapshot().faults_total(), 0);
        store.close().await;
    });
}
