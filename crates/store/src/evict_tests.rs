//! Room on disks that refuse to give any back.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use larder_policy::key::CacheKey;

use crate::config::{Config, Durability};
use crate::core::Core;
use crate::disk::Disk;
use crate::fill::Fill;
use crate::test_support::sample_meta;
use crate::{Store, lock, recover};

async fn put(core: &Arc<Core>, number: usize) {
    let body = Bytes::from(format!("body {number}"));
    let key = CacheKey::of_store_id(&format!("http://mirror.example/{number}"));
    let length = Some(body.len() as u64);
    let fill = Fill::begin(core, sample_meta("u"), length, key, None).await;
    let mut fill = fill.expect("there is room");
    fill.write(body).await.expect("written");
    fill.commit().await.expect("stored");
}

fn objects(core: &Core) -> usize {
    lock(&core.state).index.objects()
}

#[tokio::test]
async fn files_that_cannot_be_removed_do_not_cost_everything_that_is_held() {
    const OBJECTS: usize = 600;
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::failing(u64::MAX, 0, io::ErrorKind::PermissionDenied);
    let core = recover::open(Config::new(folder.path()), disk.clone()).expect("opens");
    let core = Arc::new(core);
    for number in 0..OBJECTS {
        put(&core, number).await;
    }
    lock(&core.state).limits.bytes_max = 1 << 20;
    disk.set_failing(Some(0));
    while core.evict_in_background() {}
    let left = objects(&core);
    assert!(left >= OBJECTS - 256, "{left} of {OBJECTS} are left");
    while core.evict_in_background() {}
    assert!(core.make_room(1 << 20).is_err());
    assert!(!core.give_way(1 << 20));
    assert_eq!(objects(&core), left, "it is not tried again at once");
    // Later one is, and what can be removed then makes room.
    disk.set_failing(None);
    let long_ago = Instant::now().checked_sub(super::STUCK_TIME);
    *lock(&core.stuck) = Some(long_ago.expect("up for longer"));
    assert!(!core.evict_in_background());
    assert_eq!(objects(&core), left - 1);
    while core.evict_in_background() {}
    assert!(objects(&core) < left - 1);
}

#[tokio::test]
async fn part_files_that_stay_are_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = recover::open(Config::new(folder.path()), Disk::default()).expect("opens");
    let total = || {
        let state = lock(&core.state);
        state.limits.total(0, &core.space)
    };
    let before = total();
    std::fs::write(core.part_path(), vec![1; 1 << 20]).expect("written");
    for _ in 0..3 {
        core.count_strays();
        assert_eq!(total() - before, 1 << 20);
    }
}

#[test]
fn a_cache_of_full_durability_may_lie_beside_the_configuration() {
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let name = folder.path().file_name().expect("it has a name");
    let config = Config {
        durability: Durability::Full,
        ..Config::new(std::path::Path::new(name))
    };
    drop(Store::open(config).expect("opens"));
}
