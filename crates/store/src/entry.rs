//! One stored object, held by whoever answers with it.

use std::sync::Arc;
use std::time::Duration;

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use crate::body::BodyFile;
use crate::config::Verify;
use crate::core::Core;
use crate::digest::Digest;
use crate::hot::Hot;
use crate::reader::{Checking, Reader};

/// A stored head and its whole body. What it refers to stays readable for as long as it is held,
/// whatever is evicted or replaced meanwhile.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stored head.
    pub meta: Arc<Meta>,
    /// Bytes of the body.
    pub len: u64,
    /// The body's SHA-256.
    pub digest: Digest,
    pub(crate) hot: Arc<Hot>,
    /// Never opened, and not needed, where the body is in memory.
    file: Arc<BodyFile>,
    core: Arc<Core>,
}

impl Entry {
    pub(crate) fn new(core: &Arc<Core>, hot: Arc<Hot>, file: Arc<BodyFile>) -> Self {
        Self {
            meta: Arc::clone(&hot.meta),
            len: hot.len,
            digest: hot.digest,
            hot,
            file,
            core: Arc::clone(core),
        }
    }

    /// The key under which it is stored.
    pub fn key(&self) -> &CacheKey {
        &self.hot.key
    }

    /// The stored head.
    pub fn meta(&self) -> &Arc<Meta> {
        &self.meta
    }

    /// Bytes of the body.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a body of no bytes is nothing special"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if the body is served from memory (Squid's `TCP_MEM_HIT`).
    pub fn is_in_memory(&self) -> bool {
        self.hot.body.is_some()
    }

    /// Waits until a part of the body can be read without a wait for the whole to be hashed, as
    /// after an unclean stop. False: it cannot within `time`, or the body is damaged; the hash goes
    /// on, for those who come later.
    pub async fn is_checked_within(&self, time: Duration) -> bool {
        if !self.is_doubtful() {
            return true;
        }
        let of = (Arc::clone(&self.hot), Arc::clone(&self.file));
        let verdict = Core::checked(Arc::clone(&self.core), of.0, of.1);
        tokio::time::timeout(time, verdict).await.unwrap_or(false)
    }

    fn is_doubtful(&self) -> bool {
        self.hot.body.is_none() && self.hot.suspect && !self.hot.is_verified()
    }

    /// Reads the body from `start` up to `end` (exclusive); both are clamped to the body.
    pub fn reader(&self, start: u64, end: u64) -> Reader {
        if let Some(body) = &self.hot.body {
            return Reader::of_memory(body, start, end);
        }
        let whole = start == 0 && end >= self.len;
        let (suspect, first) = (
            self.hot.suspect,
            self.core.config.verify == Verify::FirstUse,
        );
        let checking = match self.hot.is_verified() {
            false if whole && (suspect || first) => Checking::AsRead,
            false if self.is_doubtful() => Checking::Before,
            _ => Checking::No,
        };
        let of = (Arc::clone(&self.file), Arc::clone(&self.hot));
        Reader::of_file(&self.core, of, (start, end), checking)
    }
}
