//! Which fields the responses of a key vary by: asked for at every look-up, so all in memory.
//!
//! Bounded: beyond the bound another key's names are forgotten, whose next response is fetched and
//! tells them again. Equal lists of names are held once.
//!
//! A key whose variants were invalidated (RFC 9111 §4.4) keeps the time of that: no table lists a
//! key's variants, and those fetched until then are not used any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::codec;
use crate::digest::KeyHash;

/// Keys whose names are held at most.
const KEYS_MAX: usize = 200_000;
/// Different lists that are held once.
const LISTS_MAX: usize = 1024;

/// What is known of one key.
#[derive(Clone, Debug)]
struct Known {
    names: Arc<[String]>,
    /// Variants fetched until then are not used, seconds since 1970.
    invalid_until: Option<i64>,
}

/// Names by key.
#[derive(Debug, Default)]
pub(crate) struct Vary {
    known: HashMap<KeyHash, Known>,
    lists: HashSet<Arc<[String]>>,
}

impl Vary {
    /// Takes in what was written down; what cannot be read is left out.
    pub(crate) fn of_records(records: &HashMap<KeyHash, Vec<u8>>) -> Self {
        let mut vary = Self::default();
        for (key, record) in records.iter().take(KEYS_MAX) {
            if let Some((names, invalid_until)) = codec::decode_names(record) {
                let names = vary.once(names);
                vary.known.insert(
                    *key,
                    Known {
                        names,
                        invalid_until,
                    },
                );
            }
        }
        vary
    }

    pub(crate) fn names(&self, key: &KeyHash) -> Option<&[String]> {
        // Most caches hold no variants at all.
        if self.known.is_empty() {
            return None;
        }
        let names = self.known.get(key).map(|known| &*known.names);
        names.filter(|names| !names.is_empty())
    }

    /// Until when variants of a key are invalid.
    pub(crate) fn invalid_until(&self, key: &KeyHash) -> Option<i64> {
        self.known.get(key)?.invalid_until
    }

    /// Remembers names, none of them: that the key's responses do not vary. Returns a key that was
    /// forgotten for it.
    pub(crate) fn remember(&mut self, key: KeyHash, names: Vec<String>) -> Option<KeyHash> {
        let invalid_until = self.invalid_until(&key);
        self.know(key, names, invalid_until)
    }

    /// The key's variants, if it is known to have any, are not used any more if they were fetched
    /// until `now`.
    pub(crate) fn invalidate(&mut self, key: &KeyHash, now: i64) {
        if let Some(known) = self.known.get_mut(key) {
            known.invalid_until = Some(now);
        }
    }

    /// Takes in what a damaged index says of a key; what is known by now is newer. Returns a key
    /// that was forgotten for it.
    pub(crate) fn restore(
        &mut self,
        key: KeyHash,
        names: Vec<String>,
        until: Option<i64>,
    ) -> Option<KeyHash> {
        let (names, until) = match self.known.get(&key) {
            Some(known) if known.names.is_empty() => (names, known.invalid_until.max(until)),
            Some(known) => (known.names.to_vec(), known.invalid_until.max(until)),
            None => (names, until),
        };
        self.know(key, names, until)
    }

    /// As [`Vary::invalidate`], where it is not known yet which keys have variants.
    pub(crate) fn invalidate_unknown(&mut self, key: KeyHash, now: i64) -> Option<KeyHash> {
        let names = self.names(&key).map_or_else(Vec::new, <[String]>::to_vec);
        self.know(key, names, Some(now))
    }

    /// What is written down of a key; `None`: nothing has to be.
    pub(crate) fn record(&self, key: &KeyHash) -> Option<Vec<u8>> {
        let known = self.known.get(key)?;
        Some(codec::encode_names(key, &known.names, known.invalid_until))
    }

    fn know(
        &mut self,
        key: KeyHash,
        names: Vec<String>,
        invalid_until: Option<i64>,
    ) -> Option<KeyHash> {
        if names.is_empty() && invalid_until.is_none() {
            self.known.remove(&key);
            return None;
        }
        let names = self.once(names);
        self.known.insert(
            key,
            Known {
                names,
                invalid_until,
            },
        );
        if self.known.len() <= KEYS_MAX {
            return None;
        }
        let forgotten = self.known.keys().copied().find(|held| *held != key)?;
        self.known.remove(&forgotten);
        Some(forgotten)
    }

    fn once(&mut self, names: Vec<String>) -> Arc<[String]> {
        if let Some(held) = self.lists.get(&names[..]) {
            return Arc::clone(held);
        }
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        let names: Arc<[String]> = Arc::from(names);
        self.lists.insert(Arc::clone(&names));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_another_key_is_forgotten_and_equal_lists_are_one() {
        let key = |n: u64| {
            let mut hash = [0; 16];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            KeyHash(hash)
        };
        let mut vary = Vary::default();
        for n in 0..KEYS_MAX as u64 {
            assert_eq!(vary.remember(key(n), vec!["accept".into()]), None);
        }
        let last = key(KEYS_MAX as u64);
        let forgotten = vary.remember(last, vec!["accept".into()]).expect("one");
        assert_eq!(vary.names(&forgotten), None);
        assert_eq!(vary.names(&last), Some(&["accept".to_owned()][..]));
        assert_eq!((vary.known.len(), vary.lists.len()), (KEYS_MAX, 1));
        vary.remember(last, Vec::new());
        assert_eq!(vary.names(&last), None);
    }

    #[test]
    fn what_was_invalidated_stays_so_whatever_the_key_varies_by_later_and_after_a_restart() {
        let (key, other) = (KeyHash([1; 16]), KeyHash([2; 16]));
        let mut vary = Vary::default();
        vary.invalidate(&key, 7);
        assert_eq!(vary.invalid_until(&key), None, "it has no variants");
        vary.remember(key, vec!["accept".into()]);
        assert_eq!(vary.invalid_until(&key), None);
        vary.invalidate(&key, 7);
        vary.remember(key, Vec::new());
        assert_eq!(vary.names(&key), None);
        vary.remember(key, vec!["accept-language".into(), "accept".into()]);
        vary.remember(other, vec!["accept".into()]);
        let records = [key, other].map(|key| (key, vary.record(&key).expect("known")));
        let again = Vary::of_records(&records.into_iter().collect());
        for vary in [&vary, &again] {
            assert_eq!(vary.invalid_until(&key), Some(7));
            assert_eq!(vary.invalid_until(&other), None);
            assert_eq!(vary.names(&key).map(<[String]>::len), Some(2));
        }
    }
}
