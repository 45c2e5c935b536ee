//! The bounded hot cache: decoded heads, small bodies and open files of what is asked for now.
//!
//! A hit that finds its head and body here touches no disk and no other lock than one shard's.
//! `quick_cache` keeps what is used again (S3-FIFO), so that one walk over a mirror does not
//! flush it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::body::BodyFile;
use crate::digest::{Digest, KeyHash};

/// Bodies up to this length are held in memory whole.
pub(crate) const SMALL_BODY: u64 = 64 << 10;
/// Open files that are kept at most.
const HANDLES_MAX: usize = 1024;
/// What a head weighs beside its fields: the structures around it.
const HEAD_OVERHEAD: u64 = 600;

/// One object as a hit needs it.
#[derive(Debug)]
pub(crate) struct Hot {
    pub(crate) key: CacheKey,
    pub(crate) meta: Arc<Meta>,
    pub(crate) len: u64,
    pub(crate) digest: Digest,
    /// The blob's place in the index and its id there.
    pub(crate) slot: u32,
    pub(crate) id: u64,
    pub(crate) version: u32,
    /// The whole body, where it is small.
    pub(crate) body: Option<Bytes>,
    /// False: the next whole delivery hashes what it sends.
    pub(crate) verified: AtomicBool,
    /// An unclean stop may have kept it from the disk: until it is verified, a part of it waits.
    pub(crate) suspect: bool,
}

impl Hot {
    pub(crate) fn is_verified(&self) -> bool {
        self.verified.load(Ordering::Acquire)
    }

    /// Notes what a hash of the whole has said.
    pub(crate) fn pass(&self, passed: bool) {
        self.verified.fetch_or(passed, Ordering::AcqRel);
    }

    fn weight(&self) -> u64 {
        let fields: usize = self
            .meta
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 48)
            .sum();
        let body = self.body.as_ref().map_or(0, Bytes::len);
        HEAD_OVERHEAD + (fields + body + self.meta.url().len() * 2) as u64
    }
}

#[derive(Clone, Debug)]
struct ByWeight;

impl Weighter<KeyHash, Arc<Hot>> for ByWeight {
    fn weight(&self, _key: &KeyHash, hot: &Arc<Hot>) -> u64 {
        hot.weight()
    }
}

/// Heads and small bodies by key, open files by blob.
#[derive(Debug)]
pub(crate) struct HotCache {
    heads: Cache<KeyHash, Arc<Hot>, ByWeight>,
    files: Cache<u64, Arc<BodyFile>>,
}

impl HotCache {
    /// `bytes_max`: for heads and small bodies; `files_max`: what the process may keep open.
    pub(crate) fn new(bytes_max: u64, files_max: u64) -> Self {
        let heads = usize::try_from(bytes_max / 1500).unwrap_or(usize::MAX);
        let files = usize::try_from(files_max / 4).unwrap_or(HANDLES_MAX);
        Self {
            heads: Cache::with_weighter(heads.clamp(64, 1 << 20), bytes_max, ByWeight),
            files: Cache::new(files.clamp(16, HANDLES_MAX)),
        }
    }

    pub(crate) fn get(&self, key: &KeyHash) -> Option<Arc<Hot>> {
        self.heads.get(key)
    }

    pub(crate) fn insert(&self, key: KeyHash, hot: Arc<Hot>) {
        self.heads.insert(key, hot);
    }

    pub(crate) fn remove(&self, key: &KeyHash) {
        self.heads.remove(key);
    }

    pub(crate) fn file(&self, id: u64) -> Option<Arc<BodyFile>> {
        self.files.get(&id)
    }

    pub(crate) fn keep_file(&self, id: u64, file: Arc<BodyFile>) {
        self.files.insert(id, file);
    }

    /// True if the only thing that holds the blob open, beside the caller, is this cache.
    pub(crate) fn is_idle(&self, id: u64, file: &Arc<BodyFile>) -> bool {
        let cached = usize::from(self.files.peek(&id).is_some());
        // The peeked handle is dropped again; one count is the caller's.
        Arc::strong_count(file) <= 1 + cached
    }

    /// Closes every file that nobody reads from.
    pub(crate) fn close_files(&self) {
        self.files.clear();
    }

    pub(crate) fn close_file(&self, id: u64) {
        self.files.remove(&id);
    }

    /// Bytes that heads and small bodies weigh.
    pub(crate) fn bytes(&self) -> u64 {
        self.heads.weight()
    }
}
