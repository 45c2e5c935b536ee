//! The partial objects that can be found, by key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use larder_policy::key::CacheKey;

use super::Partial;
use crate::lock;

/// Partial objects that are kept at most.
const PARTIALS_MAX: u64 = 512;

/// The table of partial objects.
#[derive(Debug)]
pub(crate) struct Shelf {
    /// Each holds a file open.
    max: usize,
    table: Mutex<HashMap<CacheKey, Partial>>,
    uses: AtomicU64,
}

impl Shelf {
    /// A table that leaves most of so many open files to others.
    pub(crate) fn new(files_max: u64) -> Self {
        let max = (files_max / 8).clamp(4, PARTIALS_MAX);
        Self {
            max: usize::try_from(max).unwrap_or_default(),
            table: Mutex::default(),
            uses: AtomicU64::new(0),
        }
    }

    /// The partial object of a key; noted as used.
    pub(crate) fn get(&self, key: &CacheKey) -> Option<Partial> {
        let found = lock(&self.table).get(key).cloned()?;
        self.use_now(&found);
        Some(found)
    }

    /// Adds one. Returns what has to leave for it: an earlier one of its key, and the one longest
    /// not asked for where there are too many.
    pub(crate) fn insert(&self, partial: &Partial) -> Vec<Partial> {
        self.use_now(partial);
        let mut table = lock(&self.table);
        let mut leaving = Vec::new();
        if table.len() >= self.max {
            leaving.extend(oldest(&table));
        }
        leaving.extend(table.insert(partial.key().clone(), partial.clone()));
        leaving
    }

    /// Removes this one; another under its key stays.
    pub(crate) fn remove(&self, partial: &Partial) {
        let mut table = lock(&self.table);
        let is_same = |held: &Partial| Arc::ptr_eq(&held.inner, &partial.inner);
        if table.get(partial.key()).is_some_and(is_same) {
            table.remove(partial.key());
        }
    }

    /// The idle one that was longest not asked for.
    pub(crate) fn oldest_idle(&self) -> Option<Partial> {
        oldest(&lock(&self.table))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Partial> {
        lock(&self.table).values().cloned().collect()
    }

    fn use_now(&self, partial: &Partial) {
        let use_number = self.uses.fetch_add(1, Ordering::Relaxed);
        partial.inner.used.store(use_number, Ordering::Relaxed);
    }
}

fn oldest(table: &HashMap<CacheKey, Partial>) -> Option<Partial> {
    let idle = table.values().filter(|partial| partial.is_idle());
    idle.min_by_key(|partial| partial.inner.used.load(Ordering::Relaxed))
        .cloned()
}
