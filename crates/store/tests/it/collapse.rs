//! One fetch for many: who leads, what followers see, who comes after a lead that vanished.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use larder_store::{Join, Outcome};

use crate::support::{begin, body, key, lead, meta, next, open, put, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_read_bytes_as_they_arrive_and_a_slow_one_holds_back_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("big", 3_000_000);
    let mut fill = begin(&store, "big", Some(3_000_000)).await;
    let mut slow = fill.tail().reader(0, None);
    let mut followers = Vec::new();
    for _ in 0..7 {
        let Join::Follow(follower) = store.join(&key("big")) else {
            panic!("a second lead");
        };
        followers.push(tokio::spawn(async move {
            match follower.outcome().await {
                Outcome::Filling(tail) => read_all(tail.reader(0, None)).await.expect("whole"),
                // Who is slow to ask may find the fill ended.
                Outcome::Ready(entry) => {
                    read_all(entry.reader(0, entry.len())).await.expect("whole")
                }
                other => panic!("{other:?}"),
            }
        }));
    }
    fill.write(whole.slice(..1_000_000)).await.expect("written");
    let first = next(&mut slow)
        .await
        .expect("bytes")
        .expect("before the end");
    assert_eq!(first, whole[..first.len()]);
    fill.write(whole.slice(1_000_000..)).await.expect("written");
    // Nobody has read on in `slow`: the fill ends all the same.
    fill.commit().await.expect("committed");
    for follower in followers {
        assert_eq!(follower.await.expect("no panic"), whole);
    }
    let rest = read_all(slow).await.expect("works on after the commit");
    assert_eq!(rest, whole[first.len()..]);
    assert_eq!(store.snapshot().followers, 7);
}

#[tokio::test]
async fn a_follower_of_a_range_reads_just_that_range() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in [100_000usize, 900_000] {
        let whole = body("range", len);
        let mut fill = begin(&store, "range", Some(len as u64)).await;
        let reader = fill.tail().reader(70, Some(90_000));
        assert_eq!(reader.remaining(), Some(89_930));
        fill.write(whole.clone()).await.expect("written");
        assert_eq!(
            read_all(reader).await.expect("before the commit"),
            whole[70..90_000]
        );
        fill.commit().await.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_lead_vanishes_its_followers_compete_for_one_new_lead() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let first = lead(&store, &key("k"));
    let leads = Arc::new(AtomicUsize::new(0));
    let mut followers = Vec::new();
    for _ in 0..20 {
        let (store, leads) = (store.clone(), Arc::clone(&leads));
        let Join::Follow(follower) = store.join(&key("k")) else {
            panic!("a second lead");
        };
        followers.push(tokio::spawn(async move {
            let mut follower = follower;
            loop {
                match follower.outcome().await {
                    Outcome::Ready(entry) => return entry.len(),
                    Outcome::Filling(tail) => {
                        return read_all(tail.reader(0, None)).await.expect("whole").len() as u64;
                    }
                    Outcome::Released(why) => panic!("{why}"),
                    Outcome::Failed => {}
                }
                match store.join_since(&key("k"), None) {
                    Join::Follow(next) => follower = next,
                    Join::Lead(slot) => {
                        leads.fetch_add(1, Ordering::SeqCst);
                        let mut fill = slot
                            .begin(meta("k"), Some(4), key("k"))
                            .await
                            .expect("room");
                        fill.write(Bytes::from_static(b"body"))
                            .await
                            .expect("written");
                        return fill.commit().await.expect("committed").len();
                    }
                }
            }
        }));
    }
    drop(first);
    for follower in followers {
        assert_eq!(follower.await.expect("no panic"), 4);
    }
    assert_eq!(leads.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_released_slot_sends_its_followers_on_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let slot = lead(&store, &key("k"));
    let Join::Follow(follower) = store.join(&key("k")) else {
        panic!("a second lead");
    };
    slot.release("no-store");
    assert!(matches!(
        follower.outcome().await,
        Outcome::Released("no-store")
    ));
    drop(lead(&store, &key("k")));
}

#[tokio::test]
async fn a_body_larger_than_the_store_releases_the_followers() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let slot = lead(&store, &key("huge"));
    let Join::Follow(follower) = store.join(&key("huge")) else {
        panic!("a second lead");
    };
    let error = slot
        .begin(meta("huge"), Some(1 << 40), key("huge"))
        .await
        .expect_err("no room");
    assert_eq!(error.as_str(), "too-large");
    assert!(matches!(
        follower.outcome().await,
        Outcome::Released("too-large")
    ));
}

#[tokio::test]
async fn a_refresh_replaces_the_head_keeps_the_body_and_is_given_to_followers() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for len in [5_000, 400_000] {
        let whole = body("r", len);
        put(&store, "r", &whole).await;
        let slot = lead(&store, &key("r"));
        let Join::Follow(follower) = store.join(&key("r")) else {
            panic!("a second lead");
        };
        let renewed = slot.refresh(meta("renewed")).await.expect("stored");
        assert_eq!(*renewed.meta, meta("renewed"));
        let Outcome::Ready(entry) = follower.outcome().await else {
            panic!("not told");
        };
        assert_eq!(*entry.meta, meta("renewed"));
        let found = store.lookup(&key("r")).await.expect("stored");
        assert_eq!(*found.meta, meta("renewed"));
        assert_eq!(
            read_all(found.reader(0, found.len())).await.expect("whole"),
            whole
        );
    }
    assert!(
        lead(&store, &key("none"))
            .refresh(meta("x"))
            .await
            .is_none()
    );
}

#[tokio::test]
async fn who_joins_after_the_object_was_stored_does_not_fetch_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let seen = store.lookup(&key("k")).await;
    assert!(seen.is_none());
    let entry = put(&store, "k", &body("k", 10)).await;
    let Join::Follow(follower) = store.join_since(&key("k"), None) else {
        panic!("would be fetched twice");
    };
    assert!(matches!(follower.outcome().await, Outcome::Ready(_)));
    // Who has seen this very version wants another one.
    assert!(matches!(
        store.join_since(&key("k"), Some(&entry)),
        Join::Lead(_)
    ));
}

#[tokio::test]
async fn who_asks_for_the_key_that_an_answer_will_be_stored_under_follows_its_fetch() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let variant = key("k").with_variant(&[("accept".into(), None)]);
    let mut fill = lead(&store, &variant)
        .begin(meta("k"), Some(4), key("k"))
        .await
        .expect("room");
    let Join::Follow(follower) = store.join(&key("k")) else {
        panic!("would be fetched twice");
    };
    let whole = Bytes::from_static(b"body");
    fill.write(whole).await.expect("written");
    assert_eq!(fill.tail().available(), 4);
    fill.commit().await.expect("stored");
    assert!(matches!(
        follower.outcome().await,
        Outcome::Ready(_) | Outcome::Filling(_)
    ));
    // Both keys are free again.
    drop((lead(&store, &variant), lead(&store, &key("k"))));
}

#[tokio::test]
async fn what_is_purged_while_it_is_fetched_is_not_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for (name, len) in [("small", 1_000), ("big", 400_000)] {
        let whole = body(name, len);
        let mut fill = begin(&store, name, Some(len as u64)).await;
        let tail = fill.tail();
        fill.write(whole.clone()).await.expect("written");
        let url = format!("http://mirror.example/{name}");
        let purged = store.purge_fills(|wanted, from| *wanted == key(name) && from == Some(&url));
        assert_eq!(purged, 1);
        // Who joins now fetches anew, and the end of the old fetch does not end that.
        let anew = lead(&store, &key(name));
        assert!(fill.commit().await.is_err());
        // Who follows it gets it all the same.
        let read = read_all(tail.reader(0, None)).await.expect("whole");
        assert!(read == whole);
        drop(tail);
        assert!(store.lookup(&key(name)).await.is_none());
        assert!(
            matches!(store.join(&key(name)), Join::Follow(_)),
            "the new one"
        );
        drop(anew);
        put(&store, name, &whole).await;
        assert!(store.lookup(&key(name)).await.is_some());
    }
}

#[tokio::test]
async fn a_purge_tells_the_bytes_that_leave_and_not_those_that_another_key_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let whole = body("twin", 10_000);
    for name in ["one", "other"] {
        put(&store, name, &whole).await;
    }
    assert_eq!(store.purge(&key("one")), Some(0));
    assert_eq!(store.purge(&key("other")), Some(10_000));
    assert_eq!(store.purge(&key("other")), None);
}
