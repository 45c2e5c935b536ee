//! Who is worth room that another has to leave for: how often keys were asked for of late.
//!
//! A count-min sketch (TinyLFU, Einziger, Friedman and Manes 2017): four rows of counters, a key
//! counted in one of each, the smallest of the four believed. After ten counts a counter all are
//! halved, so that what was popular long ago is forgotten. 1 MiB, whatever the number of objects.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::digest::KeyHash;

const ROWS: usize = 4;
/// Counters of a row; a power of two.
const WIDTH: usize = 1 << 18;
/// Counts after which all are halved.
const PERIOD: u64 = 10 * WIDTH as u64;

/// Counts requests by key, approximately.
pub(crate) struct Sketch {
    counters: Vec<AtomicU8>,
    counted: AtomicU64,
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sketch").field(&self.counted).finish()
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            counters: (0..ROWS * WIDTH).map(|_| AtomicU8::new(0)).collect(),
            counted: AtomicU64::new(0),
        }
    }
}

impl Sketch {
    /// Counts a request.
    pub(crate) fn count(&self, key: &KeyHash) {
        for counter in self.of(key) {
            let held = counter.load(Ordering::Relaxed);
            counter.store(held.saturating_add(1), Ordering::Relaxed);
        }
        let counted = self.counted.fetch_add(1, Ordering::Relaxed) + 1;
        if counted.is_multiple_of(PERIOD) {
            for counter in &self.counters {
                counter.store(counter.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
    }

    /// How often the key was asked for; never too few, seldom too many.
    pub(crate) fn estimate(&self, key: &KeyHash) -> u8 {
        let counts = self.of(key).map(|counter| counter.load(Ordering::Relaxed));
        counts.min().unwrap_or(0)
    }

    /// A key's counters: its hash is as good as random, so each row takes other bits of it.
    fn of<'a>(&'a self, key: &'a KeyHash) -> impl Iterator<Item = &'a AtomicU8> {
        let words = key.0.chunks_exact(4).enumerate();
        words.filter_map(|(row, word)| {
            let word = u32::from_le_bytes(word.try_into().ok()?) as usize;
            self.counters.get(row * WIDTH + word % WIDTH)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn key(n: u64) -> KeyHash {
        let digest = Digest::of(&n.to_le_bytes());
        KeyHash(std::array::from_fn(|at| digest.0[at]))
    }

    #[test]
    fn a_popular_key_is_told_from_those_of_a_walk_and_forgotten_in_time() {
        let sketch = Sketch::default();
        for _ in 0..20 {
            sketch.count(&key(0));
        }
        for n in 1..50_000 {
            sketch.count(&key(n));
        }
        assert!(sketch.estimate(&key(0)) >= 20);
        let wrong = (1..50_000).filter(|&n| sketch.estimate(&key(n)) > 1);
        assert!(wrong.count() < 500);
        assert!(sketch.estimate(&key(99_999)) <= 1);
        for n in 0..2 * PERIOD {
            sketch.count(&key(n % 1000 + 1_000_000));
        }
        assert!(sketch.estimate(&key(0)) <= 20 / 4 + 1);
    }
}
