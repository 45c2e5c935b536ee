//! Which fields the responses of a key vary by: asked for at every look-up, so all in memory.
//!
//! Bounded: beyond the bound another key's names are forgotten, whose next response is fetched and
//! tells them again. Equal lists of names are held once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::codec;
use crate::digest::KeyHash;

/// Keys whose names are held at most.
const KEYS_MAX: usize = 200_000;
/// Different lists that are held once.
const LISTS_MAX: usize = 1024;

/// Names by key.
#[derive(Debug, Default)]
pub(crate) struct Vary {
    known: HashMap<KeyHash, Arc<[String]>>,
    lists: HashSet<Arc<[String]>>,
}

impl Vary {
    /// Takes in what was written down; what cannot be read is left out.
    pub(crate) fn of_records(records: &HashMap<KeyHash, Vec<u8>>) -> Self {
        let mut vary = Self::default();
        for (key, record) in records.iter().take(KEYS_MAX) {
            if let Some(names) = codec::decode_names(record) {
                vary.remember(*key, names);
            }
        }
        vary
    }

    pub(crate) fn names(&self, key: &KeyHash) -> Option<&[String]> {
        // Most caches hold no variants at all.
        if self.known.is_empty() {
            return None;
        }
        self.known.get(key).map(|names| &**names)
    }

    /// Remembers names, none of them: that the key's responses do not vary. Returns a key that was
    /// forgotten for it.
    pub(crate) fn remember(&mut self, key: KeyHash, names: Vec<String>) -> Option<KeyHash> {
        if names.is_empty() {
            self.known.remove(&key);
            return None;
        }
        let names = self.once(names);
        self.known.insert(key, names);
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
}
