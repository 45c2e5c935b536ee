//! A disk that others have filled.

use std::io::ErrorKind;

use larder_store::{Disk, OpenError, Store};

use crate::support::{body, config, get, open, put};

/// The number of the first file operation of an index that is opened.
const EARLY: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_on_a_full_disk_costs_the_index_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for number in 0..10 {
        let name = format!("o{number}");
        put(&store, &name, &body(&name, 1_000_000)).await;
    }
    store.close().await;
    drop(store);
    for fail_at in [0, EARLY] {
        let full = Disk::failing(fail_at, u64::MAX, ErrorKind::StorageFull);
        match Store::open_on(config(folder.path()), full) {
            Err(OpenError::File { source, .. } | OpenError::NotWritable { source, .. }) => {
                assert_eq!(source.kind(), ErrorKind::StorageFull);
            }
            Err(other) => panic!("{other}"),
            Ok(store) => store.close().await,
        }
    }
    let store = open(folder.path());
    let mut found = 0;
    for number in 0..10 {
        let name = format!("o{number}");
        if let Some(whole) = get(&store, &name).await {
            assert_eq!(whole, body(&name, 1_000_000));
            found += 1;
        }
    }
    // What was given up so that the index could open is small; the names are all there.
    assert!(found >= 3, "only {found} are left");
}
