//! The store in numbers, for metrics, `status` and `cache stats`.

use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::counters::Fault;
use crate::lock;

/// What the store holds and has done. Counts are since the start where nothing else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Why nothing is stored and nothing on disk is changed, if that is so.
    pub read_only: Option<std::sync::Arc<str>>,
    /// The index has been found damaged since the start: a restart rebuilds it.
    pub index_damaged: bool,
    /// Keys that name a body.
    pub objects: u64,
    /// Bodies; fewer than objects where several keys name one.
    pub bodies: u64,
    /// Bytes of the bodies in allocated blocks.
    pub body_bytes: u64,
    /// Everything that counts against the maximum: bodies, index, fills in flight, folders.
    pub used_bytes: u64,
    /// The maximum in force (clamped to the file system).
    pub max_bytes: u64,
    /// Of the used bytes: reserved by fills in flight.
    pub reserved_bytes: u64,
    /// Of the used bytes: index and journal, with what their next commit may need.
    pub index_bytes: u64,
    /// Folders that bodies lie in, as they are counted.
    pub folders: u64,
    /// Memory that heads and small bodies take.
    pub hot_bytes: u64,
    /// Look-ups that found an entry.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Look-ups over all runs, found and not found.
    pub lookups_ever: (u64, u64),
    /// Bytes over all runs: of objects delivered from the cache (each delivery counts the whole
    /// object), and stored.
    pub bytes_ever: (u64, u64),
    /// Bodies that the background scrub has read.
    pub scrubbed: u64,
    /// Bodies that were hashed as a whole before a part of them was served, after an unclean stop.
    pub checked: u64,
    /// Bytes of the bodies, each counted once for every key that names it.
    pub named_bytes: u64,
    /// Bytes of the bodies.
    pub content_bytes: u64,
    /// Keys that are being fetched.
    pub fills_active: u64,
    /// Answers whose storing was begun.
    pub fills: u64,
    /// Of them, those that failed.
    pub fills_failed: u64,
    /// Requests that followed another's fetch.
    pub followers: u64,
    /// Bodies evicted.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Bytes not stored because their body was here already.
    pub deduplicated_bytes: u64,
    /// Deliveries that were not counted because the queue was full.
    pub touches_dropped: u64,
    /// Group commits of the index file.
    pub commits: u64,
    /// The age of the replacement policy.
    pub age: u64,
    /// Objects of a damaged index that have been looked at, and how many there are.
    pub rebuild: (u64, u64),
    /// Faults by kind ([`Fault::ALL`]).
    pub faults: [u64; Fault::ALL.len()],
}

impl Snapshot {
    /// All faults together.
    pub fn faults_total(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Faults of one kind.
    pub fn faults_of(&self, fault: Fault) -> u64 {
        self.faults.get(fault as usize).copied().unwrap_or(0)
    }
}

impl Core {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
        // Other locks first: who holds them may be waiting for the state.
        let (fills_active, read_only) = (self.flights.len() as u64, self.why_unwritable());
        let state = lock(&self.state);
        let facts = state.facts;
        Snapshot {
            read_only,
            index_damaged: self.index_broken.load(Ordering::Relaxed),
            objects: state.index.objects() as u64,
            bodies: state.index.bodies() as u64,
            body_bytes: state.index.allocated(),
            used_bytes: state.limits.total(state.index.allocated(), &self.space),
            max_bytes: state.limits.bytes_max,
            reserved_bytes: self.space.reserved(),
            index_bytes: state.limits.index_bytes,
            folders: state.limits.folders(),
            hot_bytes: self.hot.bytes(),
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            lookups_ever: (
                facts.hits + counters.hits.get(),
                facts.misses + counters.misses.get(),
            ),
            bytes_ever: (
                facts.hit_bytes + counters.hit_bytes.get(),
                facts.fill_bytes + counters.fill_bytes.get(),
            ),
            scrubbed: counters.scrubbed.get(),
            checked: counters.checked.get(),
            named_bytes: state.index.named_bytes(),
            content_bytes: state.index.content_bytes(),
            fills_active,
            fills: counters.fills.get(),
            fills_failed: counters.fills_failed.get(),
            followers: counters.followers.get(),
            evictions: counters.evictions.get(),
            evicted_bytes: counters.evicted_bytes.get(),
            deduplicated_bytes: counters.deduplicated_bytes.get(),
            touches_dropped: counters.touches_dropped.get(),
            commits: counters.commits.get(),
            age: state.index.ranking.age,
            rebuild: counters.rebuilt(),
            faults: counters.faults(),
        }
    }
}
