//! Ways into the store for benches alone: what they measure is not otherwise reachable.
//!
//! Hidden from the documentation and no part of the contract.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use crate::codec;
use crate::config::Replacement;
use crate::digest::{Digest, KeyHash};
use crate::disk::Disk;
use crate::index::{Blob, Index};
use crate::keeper::Touches;
use crate::layout::Layout;
use crate::lock;
use crate::rank::Ranking;
use crate::table::{Batch, Facts, Table};

/// Objects of one commit when an index file is made up.
const BATCH: u64 = 50_000;

/// The index and the queue of deliveries, without any disk.
#[derive(Debug)]
pub struct Probe {
    index: Mutex<Index>,
    touches: Touches,
}

impl Default for Probe {
    fn default() -> Self {
        let ranking = Ranking {
            policy: Replacement::Lfuda,
            age: 0,
        };
        Self {
            index: Mutex::new(Index::with_capacity(ranking, 0)),
            touches: Touches::default(),
        }
    }
}

impl Probe {
    /// Admits object `n`, evicting nothing.
    pub fn admit(&self, n: u64) {
        let size = (20_000, 5);
        drop(lock(&self.index).admit(key_hash(n), digest(n), size, 0));
    }

    /// Looks a key up and queues a delivery. Returns the body's length.
    pub fn lookup_and_touch(&self, key: &KeyHash) -> Option<u64> {
        let (slot, id, len) = {
            let index = lock(&self.index);
            let found = index.get(key)?;
            (found.slot, found.blob.id, found.blob.len)
        };
        self.touches.push(slot, id);
        Some(len)
    }

    /// Applies what is queued. Returns how many deliveries that were.
    pub fn apply(&self) -> usize {
        let touches = self.touches.take();
        let mut index = lock(&self.index);
        for &(slot, id) in &touches {
            index.touch(slot, id, 0);
        }
        touches.len()
    }

    /// Evicts one body.
    pub fn evict(&self) -> bool {
        lock(&self.index).victim(|_| false).is_some()
    }
}

/// The hash of the made-up key `n`.
pub fn key_hash(n: u64) -> KeyHash {
    KeyHash::of(&key(n))
}

/// The made-up key `n`.
pub fn key(n: u64) -> CacheKey {
    CacheKey::of_store_id(&format!(
        "http://mirror.example/9/BaseOS/x86_64/os/Packages/p-{n}.rpm"
    ))
}

fn digest(n: u64) -> Digest {
    Digest::of(&n.to_le_bytes())
}

/// Adds `count` objects to the index file of a directory that no store has open: names and heads
/// as real ones have, but no bodies. A start reads them like any others.
pub fn make_up_index(directory: &Path, count: u64, meta: &Meta) -> io::Result<()> {
    let layout = Layout::take(directory).map_err(io::Error::other)?;
    let table =
        Table::open(&layout.index(), 256 << 20, &Disk::default()).map_err(io::Error::other)?;
    let facts = table.load(|_, _| {}).map_err(io::Error::other)?.facts;
    let first = facts.last_id + 1;
    for start in (0..count).step_by(BATCH as usize) {
        let mut batch = Batch {
            facts: Facts {
                last_id: first + count,
                synced_id: first + count,
                ..facts
            },
            ..Batch::default()
        };
        for n in start..(start + BATCH).min(count) {
            let (hash, digest) = (key_hash(n), digest(n));
            let head = codec::encode_head(&key(n), &digest, 20_000, meta);
            let blob = Blob {
                digest,
                len: 20_000,
                id: first + n,
                rank: 1,
                tick: facts.tick + n,
                blocks: 5,
                uses: 1,
                used_at: 0,
                added_at: 0,
                names: 0,
                flags: 0,
            };
            batch.heads.push((hash, Some(Arc::from(head))));
            batch
                .blobs
                .push((blob.id, Some(codec::encode_blob(&blob, &[hash]))));
        }
        batch.heads.sort_by_key(|(hash, _)| *hash);
        table.commit(&batch).map_err(io::Error::other)?;
    }
    Ok(())
}
