//! Keys in order, where there may be more than memory should hold as they are.
//!
//! So many at a time are sorted and written one after the other, each without what it has in common
//! with the one before: of a million URLs some twenty bytes each are left. At the end these runs are
//! merged.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use larder_policy::key::CacheKey;

/// A key in the order of what it names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) CacheKey);

impl Ord for Named {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.0, &other.0);
        a.subject().cmp(b.subject()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for Named {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes keys in any order.
#[derive(Debug)]
pub(crate) struct Sorter {
    at_once: usize,
    gathered: Vec<Named>,
    runs: Vec<Run>,
}

impl Sorter {
    /// One that holds so many keys as they are.
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            gathered: Vec::new(),
            runs: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, key: CacheKey) {
        self.gathered.push(Named(key));
        if self.gathered.len() >= self.at_once {
            self.end_run();
        }
    }

    fn end_run(&mut self) {
        let mut keys = std::mem::take(&mut self.gathered);
        keys.sort_unstable();
        self.runs.push(Run::of(&keys));
    }

    /// Hands them out in order.
    pub(crate) fn into_sorted(mut self) -> impl Iterator<Item = CacheKey> {
        self.end_run();
        let mut runs = self.runs;
        let heads = runs.iter_mut().enumerate();
        let mut next: BinaryHeap<_> = heads
            .filter_map(|(at, run)| Some(Reverse((run.next()?, at))))
            .collect();
        std::iter::from_fn(move || {
            let Reverse((Named(key), at)) = next.pop()?;
            let follows = runs.get_mut(at).and_then(Run::next);
            next.extend(follows.map(|named| Reverse((named, at))));
            Some(key)
        })
    }
}

/// Sorted keys: of each, how many bytes it shares with the one before, how many follow, and these.
#[derive(Debug)]
struct Run {
    bytes: Vec<u8>,
    at: usize,
    last: Vec<u8>,
}

impl Run {
    fn of(keys: &[Named]) -> Self {
        let (mut bytes, mut last) = (Vec::new(), String::new());
        for Named(key) in keys {
            let text = key.to_string();
            let pairs = text.bytes().zip(last.bytes());
            let shared = pairs.take_while(|(a, b)| a == b).count();
            let rest = text.as_bytes().get(shared..).unwrap_or_default();
            bytes.extend((shared as u32).to_le_bytes());
            bytes.extend((rest.len() as u32).to_le_bytes());
            bytes.extend(rest);
            last = text;
        }
        bytes.shrink_to_fit();
        Self {
            bytes,
            at: 0,
            last: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Named> {
        let mut rest = self.bytes.get(self.at..)?;
        let mut number = || {
            let (number, left) = rest.split_first_chunk::<4>()?;
            rest = left;
            Some(u32::from_le_bytes(*number) as usize)
        };
        let (shared, len) = (number()?, number()?);
        self.last.truncate(shared);
        self.last.extend(rest.get(..len)?);
        self.at += 8 + len;
        let text = std::str::from_utf8(&self.last).ok()?;
        CacheKey::from_text(text).map(Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_keys_comes_back_in_order_and_takes_little_room() {
        let key = |n: u64| {
            // Spread over all runs; a variant and a URL among them.
            let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_009;
            let base = CacheKey::of_store_id(&format!("http://mirror.example/9/Packages/é{n}.rpm"));
            if n.is_multiple_of(7) {
                return base.with_variant(&[("accept".into(), None)]);
            }
            base
        };
        for count in [0, 1, 63, 64, 1_000] {
            let mut sorter = Sorter::new(64);
            let mut wanted: Vec<_> = (0..count).map(|n| Named(key(n))).collect();
            (0..count).for_each(|n| sorter.push(key(n)));
            let bytes: usize = sorter.runs.iter().map(|run| run.bytes.len()).sum();
            assert!(bytes as u64 <= count * 30, "{bytes} for {count}");
            wanted.sort_unstable();
            let sorted: Vec<_> = sorter.into_sorted().map(Named).collect();
            assert_eq!(sorted, wanted);
        }
    }
}
