//! What memory holds of each object: where its blob is, which keys name it, when it leaves.
//!
//! At most 160 bytes an object at a million: two slabs (blobs and the links from keys to them),
//! a hash table of slot numbers over each, and the heap. Key texts and heads stay on disk. Blobs
//! are ranked, not keys: all keys of a victim go with it. Pure: no I/O, no clock, no locks.

use hashbrown::HashTable;

use crate::digest::{Digest, KeyHash};
use crate::heap::{ABSENT, Heap, Slots, push_lean};
use crate::rank::Ranking;

/// End of a chain of slots.
const NONE: u32 = u32::MAX;

/// Keys that may name one body. More would make records that no start reads, and a page that an
/// origin sends for any URL would cost each of its changes a walk along all of them.
pub(crate) const NAMES_MAX: u16 = if cfg!(test) { 40 } else { 4096 };

/// The blob was written or hashed since the start of this process.
pub(crate) const VERIFIED: u8 = 1;
/// The blob may not have reached the disk before an unclean stop: hash it before any use.
pub(crate) const SUSPECT: u8 = 2;
/// The blob's heat has changed since it was last written to the index file.
pub(crate) const WARM: u8 = 4;

/// One body and its heat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    /// Bytes of the body.
    pub(crate) len: u64,
    /// Grows with every admission, never used again: tells a blob from a later one in its slot.
    pub(crate) id: u64,
    pub(crate) rank: u64,
    /// The order of the last uses over all blobs.
    pub(crate) tick: u64,
    /// Allocated blocks of 4 KiB.
    pub(crate) blocks: u32,
    /// Deliveries; stays at its maximum rather than wrap.
    pub(crate) uses: u32,
    /// Unix seconds of the last use.
    pub(crate) used_at: u32,
    /// Unix seconds of the admission.
    pub(crate) added_at: u32,
    /// Keys that name it; the index counts them.
    pub(crate) names: u16,
    pub(crate) flags: u8,
}

impl Blob {
    pub(crate) fn allocated(&self) -> u64 {
        u64::from(self.blocks) * crate::room::BLOCK
    }

    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

#[derive(Debug)]
struct BlobSlot {
    blob: Blob,
    /// First link of the chain of keys, or the next free slot.
    first: u32,
    place: u32,
}

#[derive(Debug)]
struct Link {
    key: KeyHash,
    /// The blob's slot; [`NONE`] in a free slot.
    blob: u32,
    /// Next key of the same blob, or the next free slot.
    next: u32,
    /// Grows when the key gets another head or body.
    version: u32,
}

/// What a look-up by key tells.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) slot: u32,
    pub(crate) blob: &'a Blob,
    /// Changes whenever the key's head or body does.
    pub(crate) version: u32,
}

/// A blob that has left the index; its file is the caller's to remove.
#[derive(Debug)]
pub(crate) struct Gone {
    pub(crate) blob: Blob,
    /// The keys that named it.
    pub(crate) keys: Vec<KeyHash>,
}

/// What became of a key's blob when the key was taken away.
#[derive(Debug)]
pub(crate) enum Unlinked {
    /// There was no such key.
    Absent,
    /// Other keys still name the blob: its record lists one less.
    Shared { slot: u32, id: u64 },
    /// It was the last one.
    Last(Gone),
}

impl Unlinked {
    /// The blob, if it has left.
    pub(crate) fn last(self) -> Option<Gone> {
        match self {
            Self::Last(gone) => Some(gone),
            Self::Absent | Self::Shared { .. } => None,
        }
    }
}

/// What naming a body has changed.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) slot: u32,
    pub(crate) id: u64,
    /// What became of the body that the key named before.
    pub(crate) before: Unlinked,
    /// Another key of the body that has made way, where there would be too many.
    pub(crate) displaced: Option<KeyHash>,
}

/// The blob slab: apart from the rest, so that the heap can borrow it.
#[derive(Debug, Default)]
struct Blobs {
    slots: Vec<BlobSlot>,
    free: Option<u32>,
}

impl Slots for Blobs {
    fn order(&self, slot: u32) -> (u64, u64) {
        let blob = &self.slots[slot as usize].blob;
        (blob.rank, blob.tick)
    }
    fn place(&self, slot: u32) -> u32 {
        self.slots[slot as usize].place
    }
    fn set_place(&mut self, slot: u32, place: u32) {
        self.slots[slot as usize].place = place;
    }
}

/// Every object of the store, in memory.
#[derive(Debug)]
pub(crate) struct Index {
    blobs: Blobs,
    links: Vec<Link>,
    free_link: u32,
    by_key: HashTable<u32>,
    by_digest: HashTable<u32>,
    heap: Heap,
    pub(crate) ranking: Ranking,
    tick: u64,
    next_id: u64,
    next_version: u32,
    allocated: u64,
    /// Bytes of all bodies, and the same with each body counted once a key.
    content_bytes: u64,
    named_bytes: u64,
}

impl Index {
    /// Space for `objects` set aside at once, as a start knows how many there are.
    pub(crate) fn with_capacity(ranking: Ranking, objects: usize) -> Self {
        Self {
            blobs: Blobs {
                slots: Vec::with_capacity(objects),
                free: None,
            },
            links: Vec::with_capacity(objects),
            free_link: NONE,
            by_key: HashTable::with_capacity(objects),
            by_digest: HashTable::with_capacity(objects),
            heap: Heap::with_capacity(objects),
            ranking,
            tick: 1,
            next_id: 1,
            next_version: 1,
            allocated: 0,
            content_bytes: 0,
            named_bytes: 0,
        }
    }

    /// Number of keys.
    pub(crate) fn objects(&self) -> usize {
        self.by_key.len()
    }

    /// Number of bodies; fewer than objects where keys share one.
    pub(crate) fn bodies(&self) -> usize {
        self.by_digest.len()
    }

    /// Allocated bytes of all bodies.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes of all bodies.
    pub(crate) fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Bytes of all bodies, each counted once for every key that names it.
    pub(crate) fn named_bytes(&self) -> u64 {
        self.named_bytes
    }

    /// The largest id given so far.
    pub(crate) fn last_id(&self) -> u64 {
        self.next_id - 1
    }

    /// The counter behind [`Blob::tick`].
    pub(crate) fn tick(&self) -> u64 {
        self.tick
    }

    pub(crate) fn get(&self, key: &KeyHash) -> Option<Found<'_>> {
        let link = &self.links[self.link_of(key)? as usize];
        Some(Found {
            slot: link.blob,
            blob: &self.blobs.slots[link.blob as usize].blob,
            version: link.version,
        })
    }

    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<&Blob> {
        let slot = self.slot_by_digest(digest)?;
        Some(&self.blobs.slots[slot as usize].blob)
    }

    /// The blob in a slot, if it is still the one with this id.
    pub(crate) fn at(&self, slot: u32, id: u64) -> Option<&Blob> {
        let held = &self.blobs.slots.get(slot as usize)?.blob;
        (held.id == id).then_some(held)
    }

    /// The blob with its keys, if the slot still holds the one with this id.
    pub(crate) fn with_keys(&self, slot: u32, id: u64) -> Option<(&Blob, Vec<KeyHash>)> {
        self.at(slot, id).map(|blob| (blob, self.keys_of(slot)))
    }

    /// How many keys name the blob in a slot.
    pub(crate) fn names(&self, slot: u32) -> u32 {
        u32::from(self.blobs.slots[slot as usize].blob.names)
    }

    /// Lets `key` name the body `digest`: a new blob of `len` bytes in `blocks` blocks, or one
    /// that is here already. Counts one use.
    pub(crate) fn admit(
        &mut self,
        key: KeyHash,
        digest: Digest,
        (len, blocks): (u64, u32),
        now: u32,
    ) -> Named {
        let slot = if let Some(slot) = self.slot_by_digest(&digest) {
            self.use_once(slot, now);
            slot
        } else {
            let (tick, id) = (self.next_tick(), self.next_id);
            self.next_id += 1;
            self.add_blob(Blob {
                digest,
                len,
                id,
                rank: self.ranking.rank(1, len, tick),
                tick,
                blocks,
                uses: 1,
                used_at: now,
                added_at: now,
                names: 0,
                flags: VERIFIED,
            })
        };
        let id = self.blobs.slots[slot as usize].blob.id;
        let (before, displaced) = self.link(key, slot);
        Named {
            slot,
            id,
            before,
            displaced,
        }
    }

    /// Takes in what an earlier run has written down.
    pub(crate) fn restore(&mut self, blob: Blob, keys: &[KeyHash]) {
        if keys.is_empty() || self.slot_by_digest(&blob.digest).is_some() {
            return;
        }
        self.next_id = self.next_id.max(blob.id + 1);
        self.tick = self.tick.max(blob.tick + 1);
        let slot = self.add_blob(blob);
        for &key in keys.iter().take(usize::from(NAMES_MAX)) {
            self.link(key, slot);
        }
    }

    /// Sees to it that ids and ticks go on from where an earlier run was.
    pub(crate) fn resume_from(&mut self, last_id: u64, tick: u64) {
        self.next_id = self.next_id.max(last_id + 1);
        self.tick = self.tick.max(tick + 1);
    }

    /// Notes a new head under the key. Returns the key's new version.
    pub(crate) fn renew(&mut self, key: &KeyHash) -> Option<u32> {
        let at = self.link_of(key)?;
        let version = self.next_version();
        self.links[at as usize].version = version;
        Some(version)
    }

    /// Takes a key away.
    pub(crate) fn unlink(&mut self, key: &KeyHash) -> Unlinked {
        let Some(at) = self.link_of(key) else {
            return Unlinked::Absent;
        };
        let slot = self.links[at as usize].blob;
        self.drop_link(key);
        self.unchain(slot, at);
        self.free(at);
        let held = &self.blobs.slots[slot as usize];
        if held.first != NONE {
            let id = held.blob.id;
            return Unlinked::Shared { slot, id };
        }
        let blob = self.drop_blob(slot);
        let keys = vec![*key];
        Unlinked::Last(Gone { blob, keys })
    }

    /// Takes a blob and all of its keys away, if the slot still holds the one with this id.
    pub(crate) fn remove(&mut self, slot: u32, id: u64) -> Option<Gone> {
        self.at(slot, id)?;
        let keys = self.keys_of(slot);
        for key in &keys {
            if let Some(at) = self.link_of(key) {
                self.drop_link(key);
                self.free(at);
            }
        }
        let blob = self.drop_blob(slot);
        Some(Gone { blob, keys })
    }

    /// Counts a delivery. False if the blob has left meanwhile.
    pub(crate) fn touch(&mut self, slot: u32, id: u64, now: u32) -> bool {
        if self.at(slot, id).is_none() {
            return false;
        }
        self.use_once(slot, now);
        true
    }

    /// Sets a flag. True if it was not set before.
    pub(crate) fn set_flag(&mut self, slot: u32, id: u64, flag: u8) -> bool {
        let Some(was) = self.at(slot, id).map(|blob| blob.flags) else {
            return false;
        };
        self.blobs.slots[slot as usize].blob.flags = was | flag;
        was & flag == 0
    }

    /// Gives a blob the heat that an earlier record of it has.
    pub(crate) fn warm_up(&mut self, slot: u32, id: u64, from: &Blob) {
        if self.at(slot, id).is_none() {
            return;
        }
        let blob = &mut self.blobs.slots[slot as usize].blob;
        blob.uses = from.uses;
        blob.rank = from.rank;
        blob.used_at = from.used_at;
        blob.added_at = from.added_at;
        self.heap.update(&mut self.blobs, slot);
    }

    /// Clears a flag.
    pub(crate) fn clear_flag(&mut self, slot: u32, id: u64, flag: u8) {
        if self.at(slot, id).is_some() {
            self.blobs.slots[slot as usize].blob.flags &= !flag;
        }
    }

    fn use_once(&mut self, slot: u32, now: u32) {
        let tick = self.next_tick();
        let ranking = self.ranking;
        let blob = &mut self.blobs.slots[slot as usize].blob;
        blob.uses = blob.uses.saturating_add(1);
        blob.tick = tick;
        blob.used_at = now;
        blob.rank = ranking.rank(blob.uses, blob.len, tick);
        self.heap.update(&mut self.blobs, slot);
    }

    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    fn next_version(&mut self) -> u32 {
        self.next_version = self.next_version.wrapping_add(1);
        self.next_version
    }

    fn link_of(&self, key: &KeyHash) -> Option<u32> {
        self.by_key
            .find(key.spread(), |&at| self.links[at as usize].key == *key)
            .copied()
    }

    /// Where the body is, if it is here.
    pub(crate) fn slot_by_digest(&self, digest: &Digest) -> Option<u32> {
        self.by_digest
            .find(digest.spread(), |&slot| {
                self.blobs.slots[slot as usize].blob.digest == *digest
            })
            .copied()
    }

    fn keys_of(&self, slot: u32) -> Vec<KeyHash> {
        let mut keys = Vec::new();
        let mut at = self.blobs.slots[slot as usize].first;
        while at != NONE {
            let link = &self.links[at as usize];
            keys.push(link.key);
            at = link.next;
        }
        keys
    }

    fn add_blob(&mut self, blob: Blob) -> u32 {
        self.allocated += blob.allocated();
        self.content_bytes += blob.len;
        let (hash, record) = (
            blob.digest.spread(),
            BlobSlot {
                blob,
                first: NONE,
                place: ABSENT,
            },
        );
        let slot = if let Some(slot) = self.blobs.free {
            let next = self.blobs.slots[slot as usize].first;
            self.blobs.free = (next != NONE).then_some(next);
            self.blobs.slots[slot as usize] = record;
            slot
        } else {
            push_lean(&mut self.blobs.slots, record);
            self.blobs.slots.len() as u32 - 1
        };
        let slots = &self.blobs.slots;
        self.by_digest.insert_unique(hash, slot, |&slot| {
            slots[slot as usize].blob.digest.spread()
        });
        self.heap.push(&mut self.blobs, slot);
        slot
    }

    fn drop_blob(&mut self, slot: u32) -> Blob {
        self.heap.remove(&mut self.blobs, slot);
        let digest = self.blobs.slots[slot as usize].blob.digest;
        let slots = &self.blobs.slots;
        if let Ok(entry) = self.by_digest.find_entry(digest.spread(), |&slot| {
            slots[slot as usize].blob.digest == digest
        }) {
            entry.remove();
        }
        let next = self.blobs.free.replace(slot).unwrap_or(NONE);
        let held = &mut self.blobs.slots[slot as usize];
        held.first = next;
        let blob = held.blob.clone();
        held.blob.id = 0;
        self.allocated -= blob.allocated();
        self.content_bytes -= blob.len;
        blob
    }

    /// Lets the key name the slot's blob, whatever it named before. Returns what became of that,
    /// and the key that has made way, if one had to: the newest, which is found without a walk.
    fn link(&mut self, key: KeyHash, slot: u32) -> (Unlinked, Option<KeyHash>) {
        let version = self.next_version();
        let (mut before, mut displaced) = (Unlinked::Absent, None);
        if let Some(at) = self.link_of(&key) {
            if self.links[at as usize].blob == slot {
                self.links[at as usize].version = version;
                return (before, displaced);
            }
            before = self.unlink(&key);
        }
        let held = &self.blobs.slots[slot as usize];
        if held.blob.names >= NAMES_MAX {
            let newest = self.links[held.first as usize].key;
            self.unlink(&newest);
            displaced = Some(newest);
        }
        let held = &mut self.blobs.slots[slot as usize];
        held.blob.names += 1;
        self.named_bytes += held.blob.len;
        let first = &mut held.first;
        let link = Link {
            key,
            blob: slot,
            next: *first,
            version,
        };
        let at = if self.free_link == NONE {
            push_lean(&mut self.links, link);
            self.links.len() as u32 - 1
        } else {
            let at = self.free_link;
            self.free_link = self.links[at as usize].next;
            self.links[at as usize] = link;
            at
        };
        *first = at;
        let links = &self.links;
        self.by_key
            .insert_unique(key.spread(), at, |&at| links[at as usize].key.spread());
        (before, displaced)
    }

    fn drop_link(&mut self, key: &KeyHash) {
        let links = &self.links;
        if let Ok(entry) = self
            .by_key
            .find_entry(key.spread(), |&at| links[at as usize].key == *key)
        {
            entry.remove();
        }
    }

    /// Takes a link out of its blob's chain.
    fn unchain(&mut self, slot: u32, at: u32) {
        let next = self.links[at as usize].next;
        let mut before = self.blobs.slots[slot as usize].first;
        if before == at {
            self.blobs.slots[slot as usize].first = next;
            return;
        }
        while before != NONE {
            let link = &mut self.links[before as usize];
            if link.next == at {
                link.next = next;
                return;
            }
            before = link.next;
        }
    }

    fn free(&mut self, at: u32) {
        let link = &mut self.links[at as usize];
        let blob = &mut self.blobs.slots[link.blob as usize].blob;
        blob.names -= 1;
        self.named_bytes -= blob.len;
        link.blob = NONE;
        link.next = self.free_link;
        self.free_link = at;
    }
}

#[path = "index_parts.rs"]
mod parts;

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
