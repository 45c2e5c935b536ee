//! From a key to its entry. What is hot costs one shard's lock; what is not, one hop.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use larder_policy::key::CacheKey;

use crate::body::BodyFile;
use crate::check;
use crate::codec::{self, Head};
use crate::config::Verify;
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::{Digest, KeyHash};
use crate::entry::Entry;
use crate::hot::{Hot, SMALL_BODY};
use crate::index::{Blob, SUSPECT, VERIFIED};
use crate::lock;
use crate::patience::is_of_too_many_files;
use crate::table::TableError;

/// What memory knows of a key, and the handle that keeps its body from being evicted.
struct Known {
    slot: u32,
    version: u32,
    blob: Blob,
    file: Arc<BodyFile>,
}

impl Core {
    /// Finds the entry of a key; every fault is a miss.
    pub(crate) async fn lookup(core: &Arc<Self>, key: &CacheKey) -> Option<Entry> {
        let mut entry = Self::find(core, key).await;
        if let Some(old) = entry.take_if(|entry| key.has_variant() && core.is_invalidated(entry)) {
            // Nor is it anything that was stored meanwhile.
            let (shared, hash) = (Arc::clone(core), KeyHash::of(old.key()));
            drop(tokio::task::spawn_blocking(move || shared.forget(hash)).await);
        }
        match entry {
            Some(_) => core.counters.hits.add(1),
            None => core.counters.misses.add(1),
        }
        entry
    }

    /// True for a variant that was fetched before its key's variants were invalidated.
    fn is_invalidated(&self, entry: &Entry) -> bool {
        let vary = self.vary.read().unwrap_or_else(PoisonError::into_inner);
        let until = vary.invalid_until(&KeyHash::of(&entry.key().base()));
        until.is_some_and(|until| entry.meta().inputs().response_time.0 <= until)
    }

    async fn find(core: &Arc<Self>, key: &CacheKey) -> Option<Entry> {
        let hash = KeyHash::of(key);
        if let Some(sketch) = &core.sketch {
            sketch.count(&hash);
        }
        let hot = core.hot.get(&hash).filter(|hot| hot.key == *key);
        if let Some(hot) = &hot {
            if hot.body.is_some() {
                return Some(Entry::new(
                    core,
                    Arc::clone(hot),
                    Arc::new(BodyFile::pinned(&core.disk)),
                ));
            }
            if let Some(file) = core.hot.file(hot.id) {
                return Some(Entry::new(core, Arc::clone(hot), file));
            }
        }
        let known = core.known(&hash)?;
        let (shared, key) = (Arc::clone(core), key.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let found = match hot.filter(|hot| hot.version == known.version) {
                Some(hot) => shared.reopen(hot, known),
                None => shared.load(&key, hash, known),
            };
            found.map(|(hot, file)| Entry::new(&shared, hot, file))
        });
        loaded.await.ok().flatten()
    }

    /// The version of what the key names now.
    pub(crate) fn version(&self, key: &CacheKey) -> Option<u32> {
        let hash = KeyHash::of(key);
        lock(&self.state)
            .index
            .get(&hash)
            .map(|found| found.version)
    }

    fn known(&self, hash: &KeyHash) -> Option<Known> {
        let mut state = lock(&self.state);
        let found = state.index.get(hash)?;
        let (slot, version, blob) = (found.slot, found.version, found.blob.clone());
        let file = state.pin(&self.disk, slot, blob.id);
        Some(Known {
            slot,
            version,
            blob,
            file,
        })
    }

    /// Opens the body again of an object whose head is still hot.
    fn reopen(&self, hot: Arc<Hot>, known: Known) -> Option<(Arc<Hot>, Arc<BodyFile>)> {
        self.open_checked(&known)?;
        Some((hot, known.file))
    }

    /// Reads head and body from disk. Blocking.
    fn load(
        &self,
        key: &CacheKey,
        hash: KeyHash,
        known: Known,
    ) -> Option<(Arc<Hot>, Arc<BodyFile>)> {
        let head = self.load_head(key, hash, &known)?;
        self.open_checked(&known)?;
        let blob = &known.blob;
        let mut body = None;
        if blob.len <= SMALL_BODY {
            body = Some(self.load_small(&known)?);
        }
        let verified = blob.is(VERIFIED) || body.is_some();
        let hot = Arc::new(Hot {
            key: head.key,
            meta: Arc::new(head.meta),
            len: blob.len,
            digest: blob.digest,
            slot: known.slot,
            id: blob.id,
            version: known.version,
            verified: AtomicBool::new(verified),
            suspect: blob.is(SUSPECT),
            body,
        });
        let state = lock(&self.state);
        let current = state.index.get(&hash).map(|found| found.version);
        if current == Some(known.version) {
            self.hot.insert(hash, Arc::clone(&hot));
        }
        drop(state);
        Some((hot, known.file))
    }

    fn load_head(&self, key: &CacheKey, hash: KeyHash, known: &Known) -> Option<Head> {
        let record = match self.read_head(&hash) {
            Ok(record) => record,
            Err(e) => {
                // The index file is at fault, not this object: nothing is dropped.
                self.counters.fault(Fault::Index, &e);
                return None;
            }
        };
        let head = record.as_deref().and_then(codec::decode_head);
        let right = head.filter(|head| {
            head.key == *key && head.digest == known.blob.digest && head.len == known.blob.len
        });
        if right.is_none() && self.version(key) == Some(known.version) {
            self.counters.fault(Fault::Head, key);
            self.forget(hash);
        }
        right
    }

    /// The encoded head of a key: not yet in the index file, or there.
    pub(crate) fn read_head(&self, hash: &KeyHash) -> Result<Option<Vec<u8>>, TableError> {
        {
            let state = lock(&self.state);
            let waiting = state.pending.heads.get(hash);
            if let Some(head) = waiting.or_else(|| state.committing.get(hash)) {
                return Ok(head.as_ref().map(|head| head.to_vec()));
            }
        }
        self.table.head(hash)
    }

    /// As [`Core::read_head`], of several keys at once.
    pub(crate) fn read_heads(&self, keys: &[KeyHash]) -> Result<Vec<Option<Vec<u8>>>, TableError> {
        // Memory before the file: what is no more waiting here stands there.
        let waiting: Vec<_> = {
            let state = lock(&self.state);
            let of = |key| {
                let waiting = state.pending.heads.get(key);
                waiting.or_else(|| state.committing.get(key)).cloned()
            };
            keys.iter().map(of).collect()
        };
        let mut heads = self.table.heads(keys)?;
        for (head, waiting) in heads.iter_mut().zip(waiting) {
            if let Some(newer) = waiting {
                *head = newer.map(|head| head.to_vec());
            }
        }
        Ok(heads)
    }

    /// Opens the body's file and looks at its length; a file that is not what it should be is
    /// dropped with all of its names.
    fn open_checked(&self, known: &Known) -> Option<()> {
        let blob = &known.blob;
        let opened = match known.file.open(self.root(), &blob.digest) {
            Err(error) if is_of_too_many_files(&error) => {
                self.hot.close_files();
                known.file.open(self.root(), &blob.digest)
            }
            opened => opened,
        };
        let len = opened.and_then(File::metadata).map(|data| data.len());
        match len {
            Ok(len) if len == blob.len => {
                self.hot.keep_file(blob.id, Arc::clone(&known.file));
                if lock(&self.state).index.at(known.slot, blob.id).is_none() {
                    // It has left meanwhile: nobody will ask for this file, or let it go.
                    self.hot.close_file(blob.id);
                }
                return Some(());
            }
            Ok(_) => self.lose(Fault::Short, known),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.is_pulled_away() => {
                self.lose(Fault::Missing, known);
            }
            // Too many open files, a failing disk: the object may be whole.
            Err(e) => self.counters.fault(Fault::Read, &e),
        }
        None
    }

    fn load_small(&self, known: &Known) -> Option<Bytes> {
        let blob = &known.blob;
        let mut body = vec![0; usize::try_from(blob.len).ok()?];
        let file = known.file.file().ok()?;
        if let Err(e) = file.read_exact_at(&mut body, 0) {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                self.lose(Fault::Short, known);
            } else {
                self.counters.fault(Fault::Read, &e);
            }
            return None;
        }
        let wanted = self.config.verify == Verify::FirstUse || blob.is(SUSPECT);
        if wanted && !blob.is(VERIFIED) {
            if Digest::of(&body) != blob.digest {
                self.lose(Fault::Flipped, known);
                return None;
            }
            self.mark_verified(known);
        }
        Some(Bytes::from(body))
    }

    /// Sees whether the body with this digest is whole, hashing it if this run has not yet. `None`:
    /// it has left, or leaves because it is not; false: its file cannot be read just now. While the
    /// handle is held it is not evicted. Blocking.
    pub(crate) fn check_in_place(&self, digest: &Digest) -> Option<(Arc<BodyFile>, bool)> {
        let known = {
            let mut state = lock(&self.state);
            let slot = state.index.slot_by_digest(digest)?;
            let blob = state.index.by_digest(digest)?.clone();
            let file = state.pin(&self.disk, slot, blob.id);
            Known {
                slot,
                version: 0,
                blob,
                file,
            }
        };
        if known.blob.is(VERIFIED) {
            return Some((known.file, true));
        }
        let body = check::Body {
            slot: known.slot,
            id: known.blob.id,
            len: known.blob.len,
            digest: *digest,
        };
        let whole = self
            .open_checked(&known)
            .and_then(|()| self.check_whole(body, &known.file).then_some(()));
        let held = lock(&self.state)
            .index
            .at(known.slot, known.blob.id)
            .is_some();
        match whole {
            Some(()) => Some((known.file, true)),
            None => held.then_some((known.file, false)),
        }
    }

    fn mark_verified(&self, known: &Known) {
        self.set_verified(known.slot, known.blob.id);
    }

    fn lose(&self, fault: Fault, known: &Known) {
        self.lost(fault, known.slot, known.blob.id, &known.blob.digest);
    }

    /// Counts the fault and drops the body. False: it has left in order meanwhile.
    pub(crate) fn lost(&self, fault: Fault, slot: u32, id: u64, digest: &Digest) -> bool {
        let dropped = self.drop_blob(slot, id);
        if dropped {
            self.counters.fault(fault, digest);
        }
        dropped
    }
}
