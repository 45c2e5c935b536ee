//! The index against naive models.

use std::collections::BTreeMap;

use super::*;
use crate::config::Replacement;
use crate::test_support::Random;

fn key(n: u64) -> KeyHash {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    KeyHash(bytes)
}

fn digest(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn lfuda() -> Index {
    Index::with_capacity(
        Ranking {
            policy: Replacement::Lfuda,
            age: 0,
        },
        0,
    )
}

#[test]
fn a_blob_leaves_with_the_last_key_that_names_it() {
    let mut index = lfuda();
    index.admit(key(1), digest(7), (100, 1), 0);
    index.admit(key(2), digest(7), (100, 1), 0);
    assert_eq!(
        (index.objects(), index.bodies(), index.allocated()),
        (2, 1, 4096)
    );
    assert!(matches!(index.unlink(&key(1)), Unlinked::Shared { .. }));
    let gone = index.unlink(&key(2)).last().expect("last key");
    assert_eq!(gone.blob.digest, digest(7));
    assert_eq!(
        (index.objects(), index.bodies(), index.allocated()),
        (0, 0, 0)
    );
    assert!(matches!(index.unlink(&key(2)), Unlinked::Absent));
}

#[test]
fn a_key_that_gets_another_body_releases_the_old_one_and_changes_its_version() {
    let mut index = lfuda();
    index.admit(key(1), digest(1), (5, 1), 0);
    let before = index.get(&key(1)).expect("held").version;
    let named = index.admit(key(1), digest(2), (5, 1), 0);
    assert_eq!(
        named.before.last().expect("old body").blob.digest,
        digest(1)
    );
    let after = index.get(&key(1)).expect("held");
    assert_eq!(after.blob.digest, digest(2));
    assert_ne!(after.version, before);
}

#[test]
fn all_keys_of_a_victim_go_with_it_and_what_is_held_stays() {
    let mut index = lfuda();
    index.admit(key(1), digest(1), (5, 1), 0);
    index.admit(key(2), digest(2), (5, 1), 0);
    index.admit(key(3), digest(2), (5, 1), 0);
    let gone = index
        .victim(|blob| blob.digest == digest(1))
        .expect("one is free");
    assert_eq!(gone.keys.len(), 2);
    assert!(index.get(&key(3)).is_none());
    assert!(index.victim(|_| true).is_none());
    assert!(index.get(&key(1)).is_some());
    assert!(index.victim(|_| false).is_some(), "set aside, not lost");
}

#[test]
fn a_touch_of_a_blob_that_has_left_does_not_count_for_the_next_in_its_slot() {
    let mut index = lfuda();
    let Named { slot, .. } = index.admit(key(1), digest(1), (5, 1), 0);
    let id = index.get(&key(1)).expect("held").blob.id;
    index.unlink(&key(1));
    let Named { slot: again, .. } = index.admit(key(2), digest(2), (5, 1), 0);
    assert_eq!(slot, again);
    assert!(!index.touch(slot, id, 0));
    assert_eq!(index.get(&key(2)).expect("held").blob.uses, 1);
}

#[test]
fn a_count_at_its_maximum_does_not_wrap() {
    let mut index = lfuda();
    let mut blob = {
        index.admit(key(1), digest(1), (5, 1), 0);
        index.get(&key(1)).expect("held").blob.clone()
    };
    blob.uses = u32::MAX;
    let mut again = lfuda();
    again.restore(blob, &[key(1)]);
    let found = again.get(&key(1)).expect("held");
    let (slot, id) = (found.slot, found.blob.id);
    assert!(again.touch(slot, id, 9));
    assert_eq!(again.get(&key(1)).expect("held").blob.uses, u32::MAX);
}

/// LFUDA as its definition says it: a map from object to (rank, last use), searched linearly in
/// rank order through a `BTreeMap`.
#[derive(Default)]
struct Model {
    age: u64,
    tick: u64,
    held: BTreeMap<u64, (u64, u64, u64)>,
    order: BTreeMap<(u64, u64), u64>,
}

impl Model {
    fn use_object(&mut self, object: u64) {
        self.tick += 1;
        let (uses, rank, tick) = self.held.get(&object).copied().unwrap_or((0, 0, 0));
        if uses > 0 {
            self.order.remove(&(rank, tick));
        }
        let rank = self.age + uses + 1;
        self.held.insert(object, (uses + 1, rank, self.tick));
        self.order.insert((rank, self.tick), object);
    }

    fn evict(&mut self) -> Option<u64> {
        let ((rank, _), object) = self.order.pop_first()?;
        self.held.remove(&object);
        self.age = rank;
        Some(object)
    }
}

#[test]
fn lfuda_victims_equal_an_independent_models_on_100_000_requests() {
    let mut random = Random::new(20_261);
    let mut index = lfuda();
    let mut model = Model::default();
    let mut names = BTreeMap::new();
    let mut victims = 0;
    for step in 0..100_000u32 {
        // Skewed: the product of two draws prefers small numbers.
        let object = random.below(300) * random.below(300);
        if let Some(found) = index.get(&key(object)) {
            let (slot, id) = (found.slot, found.blob.id);
            assert!(index.touch(slot, id, step));
        } else {
            while index.bodies() >= 2_000 {
                let gone = index.victim(|_| false).expect("not empty");
                assert_eq!(
                    names.get(&gone.blob.digest).copied(),
                    model.evict(),
                    "step {step}"
                );
                victims += 1;
            }
            index.admit(key(object), digest(object), (10, 1), step);
            names.insert(digest(object), object);
        }
        model.use_object(object);
    }
    assert!(victims > 5_000, "{victims} victims");
    assert_eq!(index.ranking.age, model.age);
}

#[test]
fn links_and_chains_agree_with_a_map_of_keys_under_random_changes() {
    let mut random = Random::new(3);
    let mut index = lfuda();
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    for step in 0..30_000 {
        let name = random.below(200);
        match random.below(5) {
            0..=2 => {
                let body = random.below(60);
                index.admit(key(name), digest(body), (10, 1), step);
                model.insert(name, body);
            }
            3 => {
                assert_eq!(
                    !matches!(index.unlink(&key(name)), Unlinked::Absent),
                    model.remove(&name).is_some()
                );
            }
            _ => {
                if let Some(gone) = index.victim(|_| false) {
                    model.retain(|_, body| digest(*body) != gone.blob.digest);
                }
            }
        }
        assert_eq!(index.objects(), model.len());
        let mut bodies: Vec<u64> = model.values().copied().collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(index.bodies(), bodies.len());
        assert_eq!(index.content_bytes(), 10 * bodies.len() as u64);
        assert_eq!(index.named_bytes(), 10 * model.len() as u64);
    }
    for (name, body) in &model {
        assert_eq!(
            index.get(&key(*name)).expect("held").blob.digest,
            digest(*body)
        );
    }
}
