//! The keeper: one thread that does what no request should wait for.
//!
//! It applies queued deliveries (each 100 ms), brings what has changed into the index file in
//! group commits (each 500 ms), removes victims' files, keeps two percent of the room free,
//! writes heat down (each 10 s: what a crash forgets of it at most) and makes checkpoints (each
//! 30 s: what a power loss forgets at most under `fast`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::codec;
use crate::core::Core;
use crate::counters::Fault;
use crate::index::WARM;
use crate::journal::Journal;
use crate::lock;
use crate::salvage;
use crate::table::{Batch, ENDED, ENDED_UNTIDY, Facts, RUNNING};

const TOUCH_INTERVAL: Duration = Duration::from_millis(100);
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// After a group commit that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
const HEAT_INTERVAL: Duration = Duration::from_secs(10);
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
/// Journal bytes that bring the next group commit forward.
const JOURNAL_MAX: u64 = 16 << 20;
/// Queued deliveries of one shard beyond which more are dropped and counted.
const TOUCHES_MAX: usize = 65_536;
const SHARDS: usize = 8;
/// Blobs whose records are made under the lock at a time: look-ups have it in between.
const ENCODED_AT_ONCE: usize = if cfg!(test) { 3 } else { 512 };
/// Blobs whose heat one group commit writes.
const HEAT_MAX: usize = 50_000;
const KEEPER: &str = "larder-keeper";

/// Deliveries, queued by the worker that made them and applied in batches.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    shards: [Mutex<Vec<(u32, u64)>>; SHARDS],
}

impl Touches {
    /// Queues one. False if the queue is full: the delivery is not counted.
    pub(crate) fn push(&self, slot: u32, id: u64) -> bool {
        thread_local! {
            static SHARD: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
            };
        }
        let mut shard = lock(&self.shards[SHARD.with(|shard| *shard)]);
        let fits = shard.len() < TOUCHES_MAX;
        if fits {
            shard.push((slot, id));
        }
        fits
    }

    pub(crate) fn take(&self) -> Vec<(u32, u64)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.append(&mut lock(shard));
        }
        all
    }
}

#[derive(Debug, Default)]
struct Wanted {
    /// Something has changed.
    changed: bool,
    /// A group commit is wanted now.
    commit: bool,
    /// Files are waiting to be removed, or room is short.
    remove: bool,
    stop: bool,
}

/// How others wake the keeper.
#[derive(Debug, Default)]
pub(crate) struct Nudge {
    wanted: Mutex<Wanted>,
    bell: Condvar,
}

impl Nudge {
    /// Something has changed: a group commit follows within its interval.
    pub(crate) fn changed(&self) {
        let mut wanted = lock(&self.wanted);
        if !wanted.changed {
            wanted.changed = true;
            self.bell.notify_one();
        }
    }

    /// A group commit is wanted now.
    pub(crate) fn commit(&self) {
        lock(&self.wanted).commit = true;
        self.bell.notify_one();
    }

    /// Files are to be removed now.
    pub(crate) fn remove(&self) {
        lock(&self.wanted).remove = true;
        self.bell.notify_one();
    }

    fn stop(&self) {
        lock(&self.wanted).stop = true;
        self.bell.notify_one();
    }

    /// Waits for something that cannot wait itself, at most `time`.
    fn wait(&self, time: Duration) -> Wanted {
        let wanted = lock(&self.wanted);
        let urgent = |wanted: &mut Wanted| !(wanted.commit || wanted.remove || wanted.stop);
        let (mut wanted, _) = self
            .bell
            .wait_timeout_while(wanted, time, urgent)
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *wanted)
    }
}

/// The running threads; dropping this ends them in order.
#[derive(Debug)]
pub(crate) struct Keeper {
    core: Arc<Core>,
    /// In the order in which they end.
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Keeper {
    pub(crate) fn start(core: &Arc<Core>) -> std::io::Result<Self> {
        let spawn = |name: &str, work: fn(&Core)| {
            let shared = Arc::clone(core);
            let builder = thread::Builder::new().name(name.to_owned());
            builder.spawn(move || work(&shared))
        };
        Ok(Self {
            core: Arc::clone(core),
            threads: Mutex::new(vec![
                spawn("larder-mender", mend)?,
                spawn("larder-scrub", scrub)?,
                spawn(KEEPER, keep)?,
            ]),
        })
    }

    /// Ends the threads after everything has been written down.
    pub(crate) fn stop(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        self.core.stopping.store(true, Ordering::Relaxed);
        for thread in threads {
            if thread.thread().name() == Some(KEEPER) {
                self.core.nudge.stop();
            }
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in disorder");
            }
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Mends what the start has found, while the store serves.
pub(crate) fn mend(core: &Core) {
    let mending = std::mem::take(&mut *lock(&core.mending));
    if mending.unmeasured {
        salvage::measure(core);
    }
    if let Some(damaged) = mending.damaged {
        match salvage::salvage(core, &damaged) {
            Ok(Some(objects)) => tracing::warn!(objects, "the damaged index has been rebuilt"),
            Ok(None) => {
                return tracing::info!("the next start goes on rebuilding the damaged index");
            }
            // Bodies may still get their names at the next start: none is an orphan yet, and all
            // of them count.
            Err(e) => return core.counters.fault(Fault::Index, &e),
        }
    }
    if mending.orphans && !core.is_stopping() {
        match salvage::collect_orphans(core) {
            Ok(0) => {}
            Ok(bytes) => tracing::info!(bytes, "removed bodies without a name"),
            Err(e) => core.counters.fault(Fault::Remove, &e),
        }
    }
}

/// Reads bodies again and again, where the operator wants it.
fn scrub(core: &Core) {
    if let Some(period) = core.config.scrub
        && !core.disk.is_frozen()
    {
        core.scrub(period);
    }
}

fn keep(core: &Core) {
    let started = Instant::now();
    let (mut committed, mut warmed, mut checked) = (started, started, started);
    let mut failing = false;
    loop {
        let wanted = core.nudge.wait(TOUCH_INTERVAL);
        core.apply_touches(&core.touches.take());
        core.remove_waiting();
        while core.evict_in_background() {}
        if warmed.elapsed() >= HEAT_INTERVAL || wanted.stop {
            core.queue_heat(if wanted.stop { usize::MAX } else { HEAT_MAX });
            warmed = Instant::now();
        }
        if checked.elapsed() >= CHECKPOINT_INTERVAL || wanted.stop {
            core.measure_disk();
            core.checkpoint();
            checked = Instant::now();
        }
        if wanted.stop {
            core.commit(true);
            return;
        }
        let due = if failing {
            committed.elapsed() >= RETRY_INTERVAL
        } else {
            wanted.commit || committed.elapsed() >= COMMIT_INTERVAL
        };
        let full = !failing && lock(&core.journal).len() > JOURNAL_MAX;
        if !core.is_unwritable() && (full || (due && core.has_pending())) {
            failing = !core.commit(false);
            committed = Instant::now();
        }
    }
}

/// What one group commit is to write.
struct Taken {
    batch: Batch,
    /// Its blobs, by id.
    slots: Vec<(u64, Option<u32>)>,
    /// The last journal file of which all is in the batch.
    journal_file: u64,
}

impl Core {
    fn has_pending(&self) -> bool {
        !lock(&self.state).pending.is_empty()
    }

    /// Lets the next group commit write the heat that has changed, and forgets closed files.
    fn queue_heat(&self, most: usize) {
        let mut state = lock(&self.state);
        let rest = state.warm.len().saturating_sub(most);
        for (slot, id) in state.warm.split_off(rest) {
            state.index.clear_flag(slot, id, WARM);
            if state.index.at(slot, id).is_some() {
                state.pending.blobs.insert(id, Some(slot));
            }
        }
        state.open.retain(|_, (_, file)| file.strong_count() > 0);
    }

    /// Sees to it that the bodies admitted so far are on the disk.
    pub(crate) fn checkpoint(&self) {
        self.try_disk_again();
        if self.is_unwritable() {
            return;
        }
        let last_id = {
            let state = lock(&self.state);
            if state.facts.synced_id == state.index.last_id() {
                return;
            }
            state.index.last_id()
        };
        let synced = self
            .disk
            .pass()
            .and_then(|()| std::fs::File::open(self.root()))
            .and_then(|root| Ok(rustix::fs::syncfs(root)?));
        match synced {
            Ok(()) => {
                lock(&self.state).facts.synced_id = last_id;
                self.nudge.changed();
            }
            Err(e) => self.write_failed(&e),
        }
    }

    /// Brings everything that has changed into the index file. `closing`: the run ends in order.
    /// False: it could not be; what has changed is still in the journal, and waits in memory.
    pub(crate) fn commit(&self, closing: bool) -> bool {
        if self.disk.is_frozen() {
            return true;
        }
        let _one_at_a_time = lock(&self.committing);
        let Taken {
            mut batch,
            slots,
            journal_file,
        } = match self.take_batch(closing) {
            Ok(taken) => taken,
            Err(e) => {
                self.counters.fault(Fault::Journal, &e);
                self.judge_disk(&e);
                return false;
            }
        };
        // Neighbours in the file are written together.
        batch.heads.sort_unstable_by_key(|(key, _)| *key);
        batch.blobs.sort_unstable_by_key(|(id, _)| *id);
        let mut committed = self.table.commit(&batch);
        if committed.is_err() {
            committed = self.table.reopen().and_then(|()| self.table.commit(&batch));
        }
        let is_written = committed.is_ok();
        self.failing.store(!is_written, Ordering::Relaxed);
        let is_broken = matches!(&committed, Err(e) if e.of_the_disk().is_none());
        if !self.index_broken.swap(is_broken, Ordering::Relaxed) && is_broken {
            tracing::error!(
                "the index is damaged and takes nothing more; a restart of larder rebuilds it"
            );
        }
        match committed {
            Ok(()) => {
                self.counters.commits.add(1);
                if let Err(e) = Journal::discard_through(&self.layout.journal(), journal_file) {
                    self.counters.fault(Fault::Journal, &e);
                }
                lock(&self.journal).taken_over();
                lock(&self.state).committing = Arc::default();
            }
            Err(e) => {
                self.counters.fault(Fault::Index, &e);
                if let Some(error) = e.of_the_disk() {
                    self.judge_disk(&error);
                }
                self.put_back(batch, slots);
            }
        }
        self.count_index();
        is_written
    }

    /// Takes what has changed and starts a new journal file behind it.
    fn take_batch(&self, closing: bool) -> std::io::Result<Taken> {
        let mut journal = lock(&self.journal);
        let journal_file = journal.rotate()?;
        let mut state = lock(&self.state);
        let pending = std::mem::take(&mut state.pending);
        state.facts = Facts {
            age: state.index.ranking.age,
            last_id: state.index.last_id(),
            tick: state.index.tick(),
            clean: match (closing, state.limits.stranded_bytes) {
                (false, _) => RUNNING,
                (true, 0) => ENDED,
                (true, _) => ENDED_UNTIDY,
            },
            policy: state.index.ranking.number(),
            ..state.facts
        };
        let facts = self.facts_with_counts(state.facts);
        let heads = Arc::new(pending.heads);
        state.committing = Arc::clone(&heads);
        drop((state, journal));
        let slots: Vec<(u64, Option<u32>)> = pending.blobs.into_iter().collect();
        let batch = Batch {
            heads: heads
                .iter()
                .map(|(key, head)| (*key, head.clone()))
                .collect(),
            blobs: self.records_of(&slots),
            vary: pending.vary.into_iter().collect(),
            facts,
        };
        Ok(Taken {
            batch,
            slots,
            journal_file,
        })
    }

    /// The records of blobs as they are by now. What has changed since the journal's new file began
    /// is told there too, and reading it once more changes nothing; a blob that has left since then
    /// leaves the index file with the next group commit, as its keys do.
    fn records_of(&self, slots: &[(u64, Option<u32>)]) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut records = Vec::with_capacity(slots.len());
        for some in slots.chunks(ENCODED_AT_ONCE) {
            let state = lock(&self.state);
            records.extend(some.iter().filter_map(|&(id, slot)| {
                let Some(slot) = slot else {
                    return Some((id, None));
                };
                let (blob, keys) = state.index.with_keys(slot, id)?;
                Some((id, Some(codec::encode_blob(blob, &keys))))
            }));
        }
        records
    }

    fn facts_with_counts(&self, facts: Facts) -> Facts {
        Facts {
            hits: facts.hits + self.counters.hits.get(),
            misses: facts.misses + self.counters.misses.get(),
            evicted: facts.evicted + self.counters.evicted_bytes.get(),
            hit_bytes: facts.hit_bytes + self.counters.hit_bytes.get(),
            fill_bytes: facts.fill_bytes + self.counters.fill_bytes.get(),
            ..facts
        }
    }

    /// A commit has failed: what it would have written waits for the next one.
    fn put_back(&self, batch: Batch, slots: Vec<(u64, Option<u32>)>) {
        let mut state = lock(&self.state);
        for (key, head) in batch.heads {
            state.pending.heads.entry(key).or_insert(head);
        }
        for (id, slot) in slots {
            state.pending.blobs.entry(id).or_insert(slot);
        }
        for (key, names) in batch.vary {
            state.pending.vary.entry(key).or_insert(names);
        }
        state.committing = Arc::default();
    }

    /// Counts what the index occupies, with what the next commit may add.
    pub(crate) fn count_index(&self) {
        let bytes = self.layout.index_bytes();
        let mut state = lock(&self.state);
        // A commit writes new pages before it frees the old ones: at worst the file once more.
        let headroom = bytes
            .clamp(512 << 10, (8 << 20).max(bytes / 8))
            .min(state.limits.bytes_max / 8);
        state.limits.index_bytes = bytes + headroom;
    }
}
