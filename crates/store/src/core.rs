//! What every handle of the store shares, and the changes of its state.
//!
//! Three locks, always taken in this order: `journal` (the right to change the state; held while a
//! change is written down), `flights` (who fetches what), then `state` (held for microseconds, never
//! over I/O). Who holds one takes none before it. A change is in the journal before memory shows it.
//! What a hot hit needs takes none of them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use crate::admission::Sketch;
use crate::body::{self, BodyFile};
use crate::check::Checks;
use crate::codec;
use crate::collapse::Flights;
use crate::config::{Config, Durability};
use crate::counters::{Counters, Fault};
use crate::digest::{Digest, KeyHash};
use crate::disk::Disk;
use crate::folders::Folders;
use crate::forgotten::Forgotten;
use crate::hot::{Hot, HotCache};
use crate::index::{Blob, Gone, Index, Named, Unlinked, WARM};
use crate::journal::{Change, Journal};
use crate::keeper::{Nudge, Touches};
use crate::layout::Layout;
use crate::line::Line;
use crate::lock;
use crate::partial::Shelf;
use crate::room::{Limits, Space};
use crate::slices::Slices;
use crate::table::{Facts, Table};
use crate::unwritable::Unwritable;
use crate::vary::Vary;

/// Heads that wait for an index file that cannot be had; beyond it nothing is stored.
const BEHIND_MAX: usize = if cfg!(test) { 100 } else { 20_000 };
/// Bytes of journal that do so.
const JOURNALS_MAX: u64 = 64 << 20;
/// Who waits for a file to be removed looks again after so long.
const LOOKED_AGAIN: Duration = Duration::from_millis(100);

/// Heads that the index file does not have yet; `None`: the key is forgotten.
pub(crate) type Heads = HashMap<KeyHash, Option<Arc<[u8]>>>;

/// What has changed since the last group commit.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) heads: Heads,
    /// Blobs by id, with their slot; `None`: gone.
    pub(crate) blobs: HashMap<u64, Option<u32>>,
    pub(crate) vary: HashMap<KeyHash, Option<Vec<u8>>>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.blobs.is_empty() && self.vary.is_empty()
    }

    /// Notes a key's new head and every blob whose record names other keys by now.
    pub(crate) fn note_named(&mut self, key: KeyHash, head: Arc<[u8]>, named: &Named) {
        self.heads.insert(key, Some(head));
        self.blobs.insert(named.id, Some(named.slot));
        self.note_unlinked(&named.before);
        if let Some(displaced) = named.displaced {
            self.heads.insert(displaced, None);
        }
    }

    /// Notes the blob that a key has left to others.
    pub(crate) fn note_unlinked(&mut self, unlinked: &Unlinked) {
        if let Unlinked::Shared { slot, id } = unlinked {
            self.blobs.insert(*id, Some(*slot));
        }
    }
}

/// The state under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) limits: Limits,
    pub(crate) pending: Pending,
    /// What the running group commit writes; heads are looked for here too.
    pub(crate) committing: Arc<Heads>,
    /// Blobs whose file is open or about to be, with their slots.
    pub(crate) open: HashMap<u64, (u32, Weak<BodyFile>)>,
    /// Digests whose file is being removed or put in place: others wait with theirs.
    pub(crate) busy: HashMap<Digest, u32>,
    /// Blobs whose heat the index file does not have yet.
    pub(crate) warm: Vec<(u32, u64)>,
    pub(crate) facts: Facts,
}

impl State {
    /// True if somebody reads the blob, or is about to.
    pub(crate) fn is_held(&self, hot: &HotCache, id: u64) -> bool {
        self.open
            .get(&id)
            .and_then(|(_, file)| file.upgrade())
            .is_some_and(|file| !hot.is_idle(id, &file))
    }

    fn end_busy(&mut self, digest: &Digest) {
        if let Some(count) = self.busy.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(digest);
            }
        }
    }

    /// The blob's one handle, made if nobody has it.
    pub(crate) fn pin(&mut self, disk: &Disk, slot: u32, id: u64) -> Arc<BodyFile> {
        let held = self.open.get(&id);
        if let Some(file) = held.and_then(|(_, file)| file.upgrade()) {
            return file;
        }
        let file = Arc::new(BodyFile::pinned(disk));
        self.open.insert(id, (slot, Arc::downgrade(&file)));
        file
    }
}

/// The shared part of the store.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) disk: Disk,
    pub(crate) journal: Mutex<Journal>,
    pub(crate) state: Mutex<State>,
    /// Told whenever a digest is busy no more.
    pub(crate) idle: Condvar,
    pub(crate) table: Table,
    pub(crate) hot: HotCache,
    pub(crate) vary: RwLock<Vary>,
    pub(crate) flights: Flights,
    pub(crate) shelf: Shelf,
    pub(crate) space: Arc<Space>,
    pub(crate) counters: Counters,
    /// Where not everything is worth room.
    pub(crate) sketch: Option<Sketch>,
    pub(crate) touches: Touches,
    pub(crate) slices: Slices,
    pub(crate) nudge: Nudge,
    /// When files of victims could last not be removed.
    pub(crate) stuck: Mutex<Option<Instant>>,
    /// Held by whoever brings changes into the index file.
    pub(crate) committing: Mutex<()>,
    /// Victims whose files the keeper is to remove.
    pub(crate) to_remove: Mutex<Vec<Gone>>,
    /// False once `preadv2(RWF_NOWAIT)` was refused by the file system.
    pub(crate) nowait: AtomicBool,
    /// The file system is memory: a read never waits for a disk.
    pub(crate) in_memory: bool,
    /// Folders of bodies that are there.
    pub(crate) folders: Folders,
    /// Small bodies on their way to their places.
    pub(crate) line: Arc<Line>,
    /// Bodies that are being hashed before they are trusted.
    pub(crate) checks: Checks,
    pub(crate) next_part: AtomicU64,
    /// What the start has found to be mended in the background.
    pub(crate) mending: Mutex<Mending>,
    /// What a damaged index must not bring back, while there is one.
    pub(crate) forgotten: Mutex<Option<Forgotten>>,
    /// Long work ends early.
    pub(crate) stopping: AtomicBool,
    /// The last group commit has failed: what waits for the next one is bounded.
    pub(crate) failing: AtomicBool,
    /// It has failed at what the file holds, not at the disk: only a start mends that.
    pub(crate) index_broken: AtomicBool,
    /// Why nothing is changed on disk, if that is so.
    pub(crate) why_frozen: Option<Arc<str>>,
    /// The same, since it could not be written any more.
    pub(crate) unwritable: Unwritable,
}

/// What is mended in the background after a start.
#[derive(Debug, Default)]
pub(crate) struct Mending {
    /// An index file that did not open.
    pub(crate) damaged: Option<std::path::PathBuf>,
    /// There may be bodies without a name, or folders without a body.
    pub(crate) orphans: bool,
    /// How much lies in place without a name is not known yet: until it is, nothing is stored.
    pub(crate) unmeasured: bool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Core").field(&self.root()).finish()
    }
}

/// What came of naming a body.
#[derive(Debug)]
pub(crate) enum Admitted {
    Found(Arc<Hot>),
    /// The body that was in place has left.
    Left,
    /// It was purged before it could be found.
    Purged,
}

/// A body that is in place, ready to be named.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) key: &'a CacheKey,
    pub(crate) meta: &'a Arc<Meta>,
    pub(crate) digest: Digest,
    pub(crate) len: u64,
    pub(crate) blocks: u32,
    pub(crate) file: Option<Arc<BodyFile>>,
    pub(crate) body: Option<bytes::Bytes>,
    /// Its file was put in place for this; else it was there, and may have left.
    pub(crate) is_new: bool,
    /// Set while it was fetched: it is not wanted any more.
    pub(crate) purged: Option<&'a AtomicBool>,
    /// The file in place was written or hashed by this run.
    pub(crate) verified: bool,
}

impl Core {
    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full_durability(&self) -> bool {
        self.config.durability == Durability::Full
    }

    /// True if the index file cannot be had and no more may wait for it.
    pub(crate) fn is_index_behind(&self, state: &State) -> bool {
        self.failing.load(Ordering::Relaxed) && state.pending.heads.len() >= BEHIND_MAX
    }

    /// Writes changes down; a journal that cannot be written is a fault, not a refusal: the
    /// object serves, and only a crash before the next group commit would forget it.
    pub(crate) fn write_down(&self, journal: &mut Journal, changes: &[Change]) {
        if self.failing.load(Ordering::Relaxed) && journal.kept() >= JOURNALS_MAX {
            // Nothing takes it over, and it takes the room of bodies.
            return;
        }
        if self.is_unwritable() {
            // The next group commit writes it all, as soon as there can be one.
            return;
        }
        if let Err(e) = journal.append(changes) {
            self.counters.fault(Fault::Journal, &e);
            self.judge_disk(&e);
            self.nudge.commit();
        }
    }

    /// Lets the key name a body that is in place: from here on it is found. Blocking.
    pub(crate) fn admit(&self, placed: &Placed<'_>) -> Admitted {
        let hash = KeyHash::of(placed.key);
        let head = codec::encode_head(placed.key, &placed.digest, placed.len, placed.meta);
        let head: Arc<[u8]> = Arc::from(head);
        let mut journal = lock(&self.journal);
        if !placed.is_new && lock(&self.state).index.by_digest(&placed.digest).is_none() {
            return Admitted::Left;
        }
        if placed.purged.is_some_and(|it| it.load(Ordering::Acquire)) {
            return Admitted::Purged;
        }
        let change = Change::Admit {
            head: Arc::clone(&head),
            blocks: placed.blocks,
        };
        self.write_down(&mut journal, &[change]);
        let mut state = lock(&self.state);
        let size = (placed.len, placed.blocks);
        let named = state.index.admit(hash, placed.digest, size, now_u32());
        let found = state.index.get(&hash).expect("admitted in the line above");
        let (slot, id, version) = (named.slot, named.id, found.version);
        if let Some(file) = &placed.file {
            file.stored();
            state.open.insert(id, (slot, Arc::downgrade(file)));
        }
        // The journal has it now, the index file will have it after the next commit.
        state.limits.index_bytes += 2 * head.len() as u64 + 600;
        state.pending.note_named(hash, head, &named);
        if let Some(displaced) = &named.displaced {
            self.hot.remove(displaced);
        }
        let gone: Vec<Gone> = named.before.last().into_iter().collect();
        self.note_gone(&mut state, &gone, &[hash]);
        let hot = Arc::new(Hot {
            key: placed.key.clone(),
            meta: Arc::clone(placed.meta),
            len: placed.len,
            digest: placed.digest,
            slot,
            id,
            version,
            body: placed.body.clone(),
            verified: AtomicBool::new(placed.verified),
            suspect: !placed.verified,
        });
        self.hot.insert(hash, Arc::clone(&hot));
        if let Some(file) = &placed.file {
            self.hot.keep_file(id, Arc::clone(file));
        }
        drop(state);
        drop(journal);
        self.remove_files(&gone);
        self.nudge.changed();
        Admitted::Found(hot)
    }

    /// Puts another head under a key whose body stays.
    pub(crate) fn renew(&self, key: &CacheKey, meta: &Arc<Meta>) -> Option<Arc<Hot>> {
        let hash = KeyHash::of(key);
        let mut journal = lock(&self.journal);
        let (slot, blob) = {
            let state = lock(&self.state);
            let found = state.index.get(&hash)?;
            (found.slot, found.blob.clone())
        };
        let head: Arc<[u8]> = Arc::from(codec::encode_head(key, &blob.digest, blob.len, meta));
        let change = Change::Renew {
            head: Arc::clone(&head),
        };
        self.write_down(&mut journal, &[change]);
        let mut state = lock(&self.state);
        let version = state.index.renew(&hash)?;
        state.limits.index_bytes += 2 * head.len() as u64;
        state.pending.heads.insert(hash, Some(head));
        let body = self
            .hot
            .get(&hash)
            .filter(|hot| hot.id == blob.id)
            .and_then(|hot| hot.body.clone());
        let hot = Arc::new(Hot {
            key: key.clone(),
            meta: Arc::clone(meta),
            len: blob.len,
            digest: blob.digest,
            slot,
            id: blob.id,
            version,
            body,
            verified: AtomicBool::new(blob.is(crate::index::VERIFIED)),
            suspect: blob.is(crate::index::SUSPECT),
        });
        self.hot.insert(hash, Arc::clone(&hot));
        drop(state);
        self.nudge.changed();
        Some(hot)
    }

    /// Forgets a key, and its body if no other key names it. The keeper removes the file. Returns
    /// the bytes of a body that leaves; `None`: the key was not there.
    pub(crate) fn forget(&self, hash: KeyHash) -> Option<u64> {
        let mut journal = lock(&self.journal);
        self.note_forgotten(hash);
        lock(&self.state).index.get(&hash)?;
        self.write_down(&mut journal, &[Change::Forget { key: hash }]);
        let mut state = lock(&self.state);
        let unlinked = state.index.unlink(&hash);
        state.pending.heads.insert(hash, None);
        state.pending.note_unlinked(&unlinked);
        let gone: Vec<Gone> = unlinked.last().into_iter().collect();
        self.hot.remove(&hash);
        self.note_gone(&mut state, &gone, &[]);
        drop(state);
        let bytes = gone.iter().map(|gone| gone.blob.len).sum();
        self.remove_files_later(gone);
        Some(bytes)
    }

    /// What a damaged index names under the key does not come back.
    fn note_forgotten(&self, hash: KeyHash) {
        if let Some(forgotten) = &mut *lock(&self.forgotten)
            && let Err(e) = forgotten.note([hash])
        {
            self.counters.fault(Fault::Journal, &e);
        }
    }

    /// Changes what is known of a key, and writes that down. The change may say which other key was
    /// forgotten for it.
    pub(crate) fn change_vary(
        &self,
        hash: KeyHash,
        change: impl FnOnce(&mut Vary) -> Option<KeyHash>,
    ) {
        let mut journal = lock(&self.journal);
        let (forgotten, record) = {
            let vary = self.vary.write();
            let mut vary = vary.unwrap_or_else(PoisonError::into_inner);
            (change(&mut vary), vary.record(&hash))
        };
        if self.disk.is_frozen() {
            return;
        }
        let written = Change::Vary {
            key: hash,
            names: record.clone().unwrap_or_default(),
        };
        self.write_down(&mut journal, &[written]);
        let mut state = lock(&self.state);
        state.pending.vary.insert(hash, record);
        if let Some(forgotten) = forgotten {
            state.pending.vary.insert(forgotten, None);
        }
        drop(state);
        self.nudge.changed();
    }

    /// Drops a blob whose file is not what it should be, with every key that names it. Whoever
    /// reads it goes on with what there is.
    pub(crate) fn drop_blob(&self, slot: u32, id: u64) -> bool {
        if self.is_pulled_away() {
            return false;
        }
        let mut journal = lock(&self.journal);
        let Some(digest) = lock(&self.state).index.at(slot, id).map(|blob| blob.digest) else {
            return false;
        };
        self.write_down(&mut journal, &[Change::Remove { digest }]);
        let mut state = lock(&self.state);
        let gone: Vec<Gone> = state.index.remove(slot, id).into_iter().collect();
        self.note_gone(&mut state, &gone, &[]);
        drop(state);
        self.remove_files_later(gone);
        true
    }

    /// Takes blobs that have left the index out of everything else in memory. Their bytes go on
    /// to count until their files are removed. `keep`: keys that name something else by now.
    pub(crate) fn note_gone(&self, state: &mut State, gone: &[Gone], keep: &[KeyHash]) {
        for Gone { blob, keys } in gone {
            for key in keys.iter().filter(|key| !keep.contains(key)) {
                state.pending.heads.insert(*key, None);
                self.hot.remove(key);
            }
            state.pending.blobs.insert(blob.id, None);
            state.limits.leaving_bytes += blob.allocated();
            *state.busy.entry(blob.digest).or_default() += 1;
        }
    }

    /// Removes the files of blobs that have left. False: one of them could not be. Blocking.
    pub(crate) fn remove_files(&self, gone: &[Gone]) -> bool {
        if gone.is_empty() {
            return true;
        }
        let removed: Vec<Option<u64>> = gone
            .iter()
            .map(|gone| self.remove_file(&gone.blob))
            .collect();
        for gone in gone {
            self.hot.close_file(gone.blob.id);
        }
        let are_removed = removed.iter().all(Option::is_some);
        let mut dropped_later = Vec::new();
        let mut state = lock(&self.state);
        for (Gone { blob, .. }, removed) in gone.iter().zip(removed) {
            let open = state.open.remove(&blob.id);
            let open = open.and_then(|(_, file)| file.upgrade());
            state.limits.leaving_bytes -= blob.allocated();
            state.limits.lose_folders(removed.unwrap_or(0));
            if removed.is_none() {
                state.limits.stranded_bytes += blob.allocated();
            } else if let Some(file) = open {
                file.linger(&self.space, blob.allocated());
                dropped_later.push(file);
            }
            state.end_busy(&blob.digest);
        }
        drop(state);
        self.idle.notify_all();
        are_removed
    }

    /// Removes the files that wait for the keeper. Blocking.
    pub(crate) fn remove_waiting(&self) {
        let waiting = std::mem::take(&mut *lock(&self.to_remove));
        self.remove_files(&waiting);
    }

    /// Waits until nobody removes or places a file of this digest, then takes the right to place
    /// one. False: there is a body with this digest already, and nothing to place. Blocking.
    pub(crate) fn begin_placing(&self, digest: &Digest) -> bool {
        let mut state = loop {
            // The file may wait to be removed, or be about to; the keeper may have ended before us.
            self.remove_waiting();
            let state = lock(&self.state);
            let is_busy = |state: &mut State| state.busy.contains_key(digest);
            let (state, waited) = self
                .idle
                .wait_timeout_while(state, LOOKED_AGAIN, is_busy)
                .unwrap_or_else(PoisonError::into_inner);
            if !waited.timed_out() {
                break state;
            }
        };
        if state.index.by_digest(digest).is_some() {
            return false;
        }
        state.busy.insert(*digest, 1);
        true
    }

    /// Counts folders that were made for a body.
    pub(crate) fn count_folders(&self, made: u64) {
        if made > 0 {
            lock(&self.state).limits.add_folders(made);
        }
    }

    /// Ends what [`Core::begin_placing`] began.
    pub(crate) fn end_placing(&self, digest: &Digest) {
        let mut state = lock(&self.state);
        state.end_busy(digest);
        drop(state);
        self.idle.notify_all();
    }

    /// Folders that went with it; `None`: it could not be removed.
    fn remove_file(&self, blob: &Blob) -> Option<u64> {
        if self.disk.is_frozen() {
            return None;
        }
        let removed = self.disk.pass();
        let removed = removed.and_then(|()| body::remove(self.root(), &blob.digest));
        if matches!(removed, Ok(0)) && self.is_pulled_away() {
            // It comes back with the directory.
            return None;
        }
        removed
            .inspect_err(|e| {
                self.counters.fault(Fault::Remove, e);
                self.judge_disk(e);
            })
            .ok()
    }

    /// As [`Core::remove_files`], by the keeper: for callers that must not wait for a disk.
    pub(crate) fn remove_files_later(&self, gone: Vec<Gone>) {
        if !gone.is_empty() {
            lock(&self.to_remove).extend(gone);
            self.nudge.remove();
        }
    }

    /// Applies deliveries that were queued.
    pub(crate) fn apply_touches(&self, touches: &[(u32, u64)]) {
        let now = now_u32();
        for chunk in touches.chunks(512) {
            let mut state = lock(&self.state);
            for &(slot, id) in chunk {
                if state.index.touch(slot, id, now) && state.index.set_flag(slot, id, WARM) {
                    state.warm.push((slot, id));
                }
            }
        }
    }

    /// The next part file's name.
    pub(crate) fn part_path(&self) -> std::path::PathBuf {
        let number = self.next_part.fetch_add(1, Ordering::Relaxed);
        self.layout.parts().join(format!("{number:x}"))
    }
}

/// Unix seconds; a clock before 1970 counts as 1970.
pub(crate) fn now_u32() -> u32 {
    #[cfg(not(test))]
    let now = SystemTime::now();
    #[cfg(test)]
    let now = crate::test_support::jumped(SystemTime::now());
    now.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}
