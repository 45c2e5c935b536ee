//! Going through all of the index, a part at a time, and choosing what leaves.

use std::ops::Range;

use super::{ABSENT, Blob, Gone, Index, KeyHash, NONE};

impl Index {
    /// How far [`Index::blobs_in`] and [`Index::links_in`] go.
    pub(crate) fn places(&self) -> usize {
        self.blobs.slots.len().max(self.links.len())
    }

    /// Blobs and their slots, in no useful order: a part of them, so that the lock may be let go.
    pub(crate) fn blobs_in(&self, part: Range<usize>) -> impl Iterator<Item = (u32, &Blob)> {
        let slots = self.blobs.slots.iter().enumerate();
        let held = slots.skip(part.start).take(part.len());
        held.filter(|(_, slot)| slot.place != ABSENT)
            .map(|(at, slot)| (at as u32, &slot.blob))
    }

    /// Keys likewise.
    pub(crate) fn links_in(&self, part: Range<usize>) -> impl Iterator<Item = (KeyHash, &Blob)> {
        let links = self.links.iter().skip(part.start).take(part.len());
        let held = links.filter(|link| link.blob != NONE);
        held.map(|link| (link.key, &self.blobs.slots[link.blob as usize].blob))
    }

    /// Every blob and its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Blob)> {
        self.blobs_in(0..usize::MAX)
    }

    /// The next blobs to leave for which `held` is false, until so many bytes and files are free or
    /// there are `most` of them; those passed over keep their rank. The age of the policy follows
    /// the victims.
    pub(crate) fn victims(
        &mut self,
        (bytes, files): (u64, u64),
        most: usize,
        held: impl Fn(&Blob) -> bool,
    ) -> Vec<Gone> {
        let (mut gone, mut set_aside) = (Vec::new(), Vec::new());
        let mut freed = 0;
        while (freed < bytes || (gone.len() as u64) < files) && gone.len() < most {
            let Some(slot) = self.heap.first() else {
                break;
            };
            let blob = &self.blobs.slots[slot as usize].blob;
            let (id, rank) = (blob.id, blob.rank);
            if held(blob) {
                // For all of the victims: each of them would come upon it again.
                self.heap.remove(&mut self.blobs, slot);
                set_aside.push(slot);
                continue;
            }
            self.ranking.retired(rank);
            if let Some(victim) = self.remove(slot, id) {
                freed += victim.blob.allocated();
                gone.push(victim);
            }
        }
        for slot in set_aside {
            self.heap.push(&mut self.blobs, slot);
        }
        gone
    }

    /// The next blob to leave for which `held` is false.
    pub(crate) fn victim(&mut self, held: impl Fn(&Blob) -> bool) -> Option<Gone> {
        self.victims((0, 1), 1, held).pop()
    }

    /// The keys of the blob that leaves first.
    pub(crate) fn first_keys(&self) -> Vec<KeyHash> {
        let first = self.heap.first();
        first.map_or_else(Vec::new, |slot| self.keys_of(slot))
    }

    /// Ranks everything anew, by counts and last uses: another policy gave the ranks.
    pub(crate) fn rerank(&mut self) {
        self.ranking.age = 0;
        let ranking = self.ranking;
        for at in 0..self.blobs.slots.len() {
            let blob = &mut self.blobs.slots[at].blob;
            blob.rank = ranking.rank(blob.uses, blob.len, blob.tick);
            self.heap.update(&mut self.blobs, at as u32);
        }
    }
}
