//! What is counted, and the faults that are said once each.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A fault of the disk or of what lies on it; the request is answered from the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A body's file is not there.
    Missing,
    /// A body's file has another length than the body.
    Short,
    /// A body does not have its digest.
    Flipped,
    /// A head cannot be read, or is another key's.
    Head,
    /// A file cannot be opened or read.
    Read,
    /// A body cannot be written or put in place.
    Write,
    /// A file cannot be removed.
    Remove,
    /// The journal cannot be written.
    Journal,
    /// The index file cannot be read or written.
    Index,
}

impl Fault {
    /// Every kind, in the order of [`Snapshot::faults`](crate::Snapshot).
    pub const ALL: [Self; 9] = [
        Self::Missing,
        Self::Short,
        Self::Flipped,
        Self::Head,
        Self::Read,
        Self::Write,
        Self::Remove,
        Self::Journal,
        Self::Index,
    ];

    /// A short word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing-body",
            Self::Short => "short-body",
            Self::Flipped => "flipped-body",
            Self::Head => "bad-head",
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Journal => "journal",
            Self::Index => "index",
        }
    }
}

/// Everything that is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) fills: Counter,
    pub(crate) fills_ended: Counter,
    pub(crate) fills_failed: Counter,
    pub(crate) followers: Counter,
    pub(crate) evictions: Counter,
    pub(crate) evicted_bytes: Counter,
    pub(crate) deduplicated_bytes: Counter,
    pub(crate) touches_dropped: Counter,
    pub(crate) commits: Counter,
    faults: [Counter; Fault::ALL.len()],
    rebuilt: AtomicU64,
    to_rebuild: AtomicU64,
}

impl Counters {
    /// Counts a fault and says it: one line each.
    pub(crate) fn fault(&self, fault: Fault, what: &dyn std::fmt::Display) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.add(1);
        }
        tracing::warn!(fault = fault.as_str(), what = %what, "cache fault");
    }

    /// Notes how far the rebuilding of the index is.
    pub(crate) fn rebuild(&self, done: u64, of: u64) {
        self.to_rebuild.store(of, Ordering::Relaxed);
        self.rebuilt.store(done, Ordering::Relaxed);
    }

    /// How far the rebuilding of the index is, and of how much; zeros if there was none.
    pub(crate) fn rebuilt(&self) -> (u64, u64) {
        (
            self.rebuilt.load(Ordering::Relaxed),
            self.to_rebuild.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn faults(&self) -> [u64; Fault::ALL.len()] {
        std::array::from_fn(|at| self.faults.get(at).map_or(0, Counter::get))
    }
}
