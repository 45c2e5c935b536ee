//! Every object, one after the other, for those who administer the cache.
//!
//! Memory knows the names' hashes, the disk the names: a walk takes the hashes at its beginning and
//! reads heads in their order, some hundred at a time, so that it neither holds a lock for long nor
//! asks the index file in random order. What comes while it walks may be left out; what leaves is.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use crate::audit::AT_ONCE;
use crate::body::{BodyFile, PIECE};
use crate::codec;
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::{Digest, KeyHash};
use crate::lock;
use crate::store::Store;

/// Heads that are read at a time.
const BATCH: usize = 512;

/// One object, with its heat.
#[derive(Clone, Debug)]
pub struct Object {
    /// The key under which it is stored.
    pub key: CacheKey,
    /// The stored head.
    pub meta: Meta,
    /// The body's SHA-256.
    pub digest: Digest,
    /// Bytes of the body.
    pub len: u64,
    /// Bytes that the body occupies on disk.
    pub allocated: u64,
    /// How many keys name the body.
    pub names: u32,
    /// Deliveries, the first one included.
    pub uses: u32,
    /// Unix seconds of the last delivery.
    pub used_at: u32,
    /// Unix seconds of the body's arrival.
    pub added_at: u32,
    /// The rank of the replacement policy: the smallest leaves first.
    pub rank: u64,
}

/// What the order of a walk may be, by what memory knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// In no order that means anything: the quickest.
    Any,
    /// The largest first.
    Size,
    /// The most often delivered first.
    Uses,
    /// The last delivered first.
    Used,
    /// The newest first.
    Added,
    /// Who leaves next first.
    Leaving,
}

impl Store {
    /// Hands every object to `each` until it returns false. Blocking.
    pub fn walk(&self, order: Order, mut each: impl FnMut(Object) -> bool) {
        let hashes = self.core.ordered(order);
        for batch in hashes.chunks(BATCH) {
            for object in self.core.objects(batch) {
                if !each(object) {
                    return;
                }
            }
        }
    }

    /// The object of a key; nothing is opened and nothing counts as a delivery. Blocking.
    pub fn object(&self, key: &CacheKey) -> Option<Object> {
        let found = self.core.objects(&[KeyHash::of(key)]).pop();
        found.filter(|object| object.key == *key)
    }
}

/// A body's file, read from its beginning; it stays readable whatever is evicted meanwhile.
#[derive(Debug)]
pub struct OpenBody {
    file: Arc<BodyFile>,
    at: u64,
    len: u64,
}

impl OpenBody {
    /// Bytes of the body.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a body of no bytes is nothing special"
    )]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The next bytes, as they are on disk; `None` at the end. Blocking.
    pub fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        let want = usize::try_from(self.len - self.at).map_or(PIECE, |left| left.min(PIECE));
        if want == 0 {
            return Ok(None);
        }
        let mut piece = vec![0; want];
        self.file.file()?.read_exact_at(&mut piece, self.at)?;
        self.at += want as u64;
        Ok(Some(Bytes::from(piece)))
    }
}

impl Store {
    /// Opens a body to read it as it is. Blocking.
    pub fn open_body(&self, digest: &Digest) -> Option<OpenBody> {
        let (file, len) = {
            let mut state = lock(&self.core.state);
            let slot = state.index.slot_by_digest(digest)?;
            let blob = state.index.by_digest(digest)?;
            let (id, len) = (blob.id, blob.len);
            (state.pin(&self.core.disk, slot, id), len)
        };
        file.open(self.core.root(), digest).ok()?;
        Some(OpenBody { file, at: 0, len })
    }
}

impl Core {
    fn ordered(&self, order: Order) -> Vec<KeyHash> {
        let number = |blob: &crate::index::Blob| match order {
            Order::Any => 0,
            Order::Size => !blob.len,
            Order::Uses => !u64::from(blob.uses),
            Order::Used => !u64::from(blob.used_at),
            Order::Added => !u64::from(blob.added_at),
            Order::Leaving => blob.rank,
        };
        let mut hashes: Vec<(u64, KeyHash)> = Vec::new();
        for from in (0..).step_by(AT_ONCE) {
            // The lock is for look-ups too: it is held for a part of them at a time.
            let state = lock(&self.state);
            if from >= state.index.places() {
                break;
            }
            let links = state.index.links_in(from..from + AT_ONCE);
            hashes.extend(links.map(|(hash, blob)| (number(blob), hash)));
        }
        hashes.sort_unstable();
        hashes.dedup();
        hashes.into_iter().map(|(_, hash)| hash).collect()
    }

    /// The objects of these keys, as far as they are still there and can be read.
    pub(crate) fn objects(&self, hashes: &[KeyHash]) -> Vec<Object> {
        let records = match self.read_heads(hashes) {
            Ok(records) => records,
            Err(e) => {
                self.counters.fault(Fault::Index, &e);
                return Vec::new();
            }
        };
        // Reading their text takes long beside what is done under the lock.
        let heads = records
            .into_iter()
            .map(|record| codec::decode_head(&record?))
            .collect::<Vec<_>>();
        let state = lock(&self.state);
        let both = hashes.iter().zip(heads);
        both.filter_map(|(hash, head)| {
            let head = head?;
            let found = state.index.get(hash)?;
            let blob = found.blob;
            (head.digest == blob.digest).then(|| Object {
                key: head.key,
                meta: head.meta,
                digest: blob.digest,
                len: blob.len,
                allocated: blob.allocated(),
                names: state.index.names(found.slot),
                uses: blob.uses,
                used_at: blob.used_at,
                added_at: blob.added_at,
                rank: blob.rank,
            })
        })
        .collect()
    }
}
