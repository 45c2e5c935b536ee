//! What is counted, and the faults that are said once each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

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

    /// True if the device or its file system is at fault, not one object: one after the other of
    /// these comes at every operation.
    fn is_of_the_disk(self) -> bool {
        match self {
            Self::Missing | Self::Short | Self::Flipped | Self::Head => false,
            Self::Read | Self::Write | Self::Remove | Self::Journal | Self::Index => true,
        }
    }

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
    pub(crate) scrubbed: Counter,
    /// Bodies that were hashed as a whole before a part of them was served.
    pub(crate) checked: Counter,
    pub(crate) hit_bytes: Counter,
    pub(crate) fill_bytes: Counter,
    faults: [Counter; Fault::ALL.len()],
    /// When each kind was last said: seconds since `begun`, plus 1.
    said: [AtomicU64; Fault::ALL.len()],
    begun: OnceLock<Instant>,
    rebuilt: AtomicU64,
    to_rebuild: AtomicU64,
}

/// Between two lines about the disk, seconds: it fails at every operation, or at none.
const SAY_SECONDS: u64 = 10;

impl Counters {
    /// Counts a fault and says it: one line each, and one in ten seconds where it is the disk's.
    pub(crate) fn fault(&self, fault: Fault, what: &dyn std::fmt::Display) {
        if let Some(counter) = self.faults.get(fault as usize) {
            counter.add(1);
        }
        if !fault.is_of_the_disk() || self.is_worth_a_line(fault) {
            tracing::warn!(fault = fault.as_str(), what = %what, "cache fault");
        }
    }

    fn is_worth_a_line(&self, fault: Fault) -> bool {
        let now = self.begun.get_or_init(Instant::now).elapsed().as_secs() + 1;
        self.said.get(fault as usize).is_none_or(|said| {
            let last = said.load(Ordering::Relaxed);
            let due = last == 0 || now >= last + SAY_SECONDS;
            due && said
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_disk_is_counted_each_time_and_said_once() {
        let counters = Counters::default();
        assert!(counters.is_worth_a_line(Fault::Write));
        assert!(!counters.is_worth_a_line(Fault::Write));
        assert!(counters.is_worth_a_line(Fault::Read), "another fault");
        for _ in 0..3 {
            counters.fault(Fault::Write, &"full");
        }
        assert_eq!(counters.faults()[Fault::Write as usize], 3);
    }
}
