//! Room: asked for before a fill writes, made at once where it is missing.
//!
//! A fill reserves before it writes, so the disk is never over the maximum: what does not fit
//! evicts first, and waits until the victims' files are gone. In the background the keeper keeps
//! two percent free, so that a fill seldom has to wait. Nothing that is being read is chosen. Where
//! files cannot be removed nothing is gained by it: for a while nothing more leaves.

use std::time::{Duration, Instant};

use larder_policy::key::CacheKey;

use crate::core::{Core, State};
use crate::counters::Fault;
use crate::digest::KeyHash;
use crate::error::BeginError;
use crate::index::{Blob, Gone};
use crate::journal::Change;
use crate::layout::FileSystem;
use crate::lock;
use crate::room::{BLOCK, Reservation};

/// Background eviction starts here …
const HIGH_PERCENT: u64 = 98;
/// … and ends here.
const LOW_PERCENT: u64 = 97;
/// Victims of one step of eviction: bounds how long the locks are held.
const STEP: usize = 256;
/// So long nothing leaves after a victim's file could not be removed; one tries again then.
const STUCK_TIME: Duration = Duration::from_secs(10);
/// How long a fill waits for its room. Beyond it the answer is passed through, long before a client
/// gives up on it; what has left by then is room for the next.
const ROOM_TIME: Duration = Duration::from_secs(3);

impl Core {
    /// Sets room aside without evicting anything. `None`: something has to leave first.
    pub(crate) fn reserve_free(&self, bytes: u64) -> Result<Option<Reservation>, BeginError> {
        if self.is_unwritable() {
            return Err(BeginError::ReadOnly);
        }
        let state = lock(&self.state);
        if self.is_index_behind(&state) {
            return Err(BeginError::IndexBehind);
        }
        if bytes > state.limits.bodies_max() {
            return Err(BeginError::TooLarge);
        }
        let free = self.missing(&state, bytes) == (0, 0);
        Ok(free.then(|| Reservation::take(&self.space, bytes)))
    }

    /// Sets room aside, evicting what has to leave for it. Blocking.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reservation, BeginError> {
        if let Some(reservation) = self.reserve_free(bytes)? {
            return Ok(reservation);
        }
        let until = Instant::now() + ROOM_TIME;
        self.make_room_until(bytes, until)?;
        // Between making the room and taking it another fill may have taken it: try again, a
        // bounded number of times.
        for _ in 0..8 {
            if let Some(reservation) = self.reserve_free(bytes)? {
                return Ok(reservation);
            }
            self.make_room_until(bytes, until)?;
        }
        Err(BeginError::NoRoom)
    }

    /// False: something would have to leave for the key's body that is asked for at least as
    /// often, and the operator wants that to stay.
    pub(crate) fn is_worth_room(&self, key: &CacheKey, bytes: u64) -> bool {
        let Some(sketch) = &self.sketch else {
            return true;
        };
        let state = lock(&self.state);
        let total = state.limits.total(state.index.allocated(), &self.space) + bytes;
        if total <= percent(state.limits.bytes_max, LOW_PERCENT) {
            return true;
        }
        let kept = state.index.first_keys().into_iter();
        let kept = kept.map(|key| sketch.estimate(&key)).max().unwrap_or(0);
        drop(state);
        sketch.estimate(&KeyHash::of(key)) > kept
    }

    /// Evicts until `bytes` fit. Blocking.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), BeginError> {
        self.make_room_until(bytes, Instant::now() + ROOM_TIME)
    }

    /// As [`Core::make_room`], step by step: others have the locks in between. After `until` no
    /// further step is made.
    pub(crate) fn make_room_until(&self, bytes: u64, until: Instant) -> Result<(), BeginError> {
        let (bytes_missing, _) = self.missing(&lock(&self.state), bytes);
        // What is not whole is worth less than what is.
        self.drop_partials(bytes_missing);
        let (mut bytes_missing, mut files_missing) = {
            let state = lock(&self.state);
            let (bytes, files) = self.missing(&state, bytes);
            if !self.can_free(&state, bytes, files) {
                return Err(BeginError::NoRoom);
            }
            (bytes, files)
        };
        while (bytes_missing, files_missing) != (0, 0) {
            let gone = self.evict(bytes_missing, files_missing);
            let freed: u64 = gone.iter().map(|gone| gone.blob.allocated()).sum();
            bytes_missing = bytes_missing.saturating_sub(freed);
            files_missing = files_missing.saturating_sub(gone.len() as u64);
            let is_left = (bytes_missing, files_missing) != (0, 0);
            if is_left && (gone.is_empty() || Instant::now() >= until) {
                return Err(BeginError::NoRoom);
            }
        }
        Ok(())
    }

    /// One step: lets bodies leave for that much, and removes their files. Nothing is returned where
    /// that is no gain. Blocking.
    fn evict(&self, bytes: u64, files: u64) -> Vec<Gone> {
        let stuck = *lock(&self.stuck);
        let most = match stuck {
            Some(since) if since.elapsed() < STUCK_TIME => return Vec::new(),
            Some(_) => 1,
            None => STEP,
        };
        let mut journal = lock(&self.journal);
        let mut state = lock(&self.state);
        let gone = self.choose(&mut state, (bytes, files), most);
        self.note_gone(&mut state, &gone, &[]);
        drop(state);
        self.write_victims(&mut journal, &gone);
        drop(journal);
        if !self.remove_files(&gone) {
            *lock(&self.stuck) = Some(Instant::now());
            return Vec::new();
        }
        if stuck.is_some() && !gone.is_empty() {
            *lock(&self.stuck) = None;
        }
        gone
    }

    /// Bytes that have to leave as things stand.
    pub(crate) fn excess(&self) -> u64 {
        self.missing(&lock(&self.state), 0).0
    }

    /// One step of background eviction. True if there may be more to do. Blocking.
    pub(crate) fn evict_in_background(&self) -> bool {
        if self.is_unwritable() {
            return false;
        }
        let has_partials = self.shelf.oldest_idle().is_some();
        let state = lock(&self.state);
        let total = state.limits.total(state.index.allocated(), &self.space);
        let high = percent(state.limits.bytes_max, HIGH_PERCENT);
        let files = state
            .limits
            .files_excess(state.index.bodies() as u64, &self.space);
        let leaving = state.limits.leaving_bytes;
        let excess = (total - leaving.min(total))
            .saturating_sub(percent(state.limits.bytes_max, LOW_PERCENT));
        if (total <= high || excess == 0) && files == 0 {
            return false;
        }
        if excess > 0 && has_partials {
            // What is not whole is worth less than what is.
            drop(state);
            self.drop_partials(excess);
            return true;
        }
        drop(state);
        self.evict(excess, files).len() == STEP
    }

    /// Grows a fill's room by `bytes` if they fit as things stand.
    pub(crate) fn grow_free(&self, bytes: u64, grow: impl FnOnce(u64)) -> bool {
        let state = lock(&self.state);
        let fits = self.missing(&state, bytes) == (0, 0);
        if fits {
            grow(bytes);
        }
        fits
    }

    /// Bytes and files that have to leave before `bytes` and one file more fit.
    fn missing(&self, state: &State, bytes: u64) -> (u64, u64) {
        let bodies = state.index.bodies() as u64;
        (
            state
                .limits
                .excess(state.index.allocated(), &self.space, bytes),
            state.limits.files_excess(bodies, &self.space),
        )
    }

    /// True if evicting all that is not in use would give that much.
    fn can_free(&self, state: &State, bytes: u64, files: u64) -> bool {
        let (bodies, allocated) = (state.index.bodies() as u64, state.index.allocated());
        // Held blobs are few: which they are is looked for only where it is close.
        let held_at_most = state.open.len() as u64;
        if files + held_at_most <= bodies && bytes <= allocated / 2 {
            return true;
        }
        let held = state.open.iter();
        let held = held.filter(|&(&id, _)| state.is_held(&self.hot, id));
        let held = held.filter_map(|(&id, &(slot, _))| state.index.at(slot, id));
        let (held_files, held_bytes) = held.fold((0, 0), |(files, bytes), blob| {
            (files + 1, bytes + blob.allocated())
        });
        files + held_files <= bodies && bytes + held_bytes <= allocated
    }

    fn choose(&self, state: &mut State, wanted: (u64, u64), most: usize) -> Vec<Gone> {
        let State { index, open, .. } = state;
        let held = |blob: &Blob| {
            open.get(&blob.id)
                .and_then(|(_, file)| file.upgrade())
                .is_some_and(|file| !self.hot.is_idle(blob.id, &file))
        };
        let gone = index.victims(wanted, most, held);
        let freed = gone.iter().map(|gone| gone.blob.allocated()).sum();
        self.counters.evictions.add(gone.len() as u64);
        self.counters.evicted_bytes.add(freed);
        gone
    }

    fn write_victims(&self, journal: &mut crate::journal::Journal, gone: &[Gone]) {
        let changes: Vec<Change> = gone
            .iter()
            .map(|gone| Change::Remove {
                digest: gone.blob.digest,
            })
            .collect();
        if !changes.is_empty() {
            self.write_down(journal, &changes);
        }
    }

    /// The disk is full though the books say it is not: something leaves for `bytes` all the same.
    /// False: nothing can. Blocking.
    pub(crate) fn give_way(&self, bytes: u64) -> bool {
        !self.evict(bytes, 0).is_empty()
    }

    /// Says that the disk is full though the books say it is not: others use the file system.
    pub(crate) fn disk_is_full(&self, error: &std::io::Error) {
        self.counters.fault(Fault::Write, error);
        self.measure_disk();
        self.nudge.remove();
    }

    /// Asks the file system anew how much of it can be had: others use it too.
    pub(crate) fn measure_disk(&self) {
        if self.disk.is_frozen() {
            return;
        }
        let (bytes, files) = {
            let state = lock(&self.state);
            let bodies = state.index.allocated();
            let files = state.index.bodies() as u64 + state.limits.folders() + self.space.files();
            (state.limits.in_place(bodies, &self.space), files)
        };
        let held = bytes + self.layout.index_bytes() + self.layout.parts_bytes();
        let Ok(system) = FileSystem::of(self.root(), held, files) else {
            return;
        };
        let mut state = lock(&self.state);
        let before = state.limits.bytes_max;
        let now = self.config.size_max.min(system.bytes_max).max(64 * BLOCK);
        state.limits.bytes_max = now;
        state.limits.files_max = system.files_max;
        drop(state);
        // Small shifts are what this cache itself is writing just now.
        if now < before - before / 20 {
            tracing::warn!(
                before,
                now,
                "others fill the cache's file system: using less of it"
            );
        }
    }
}

fn percent(of: u64, percent: u64) -> u64 {
    (u128::from(of) * u128::from(percent) / 100) as u64
}

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;
