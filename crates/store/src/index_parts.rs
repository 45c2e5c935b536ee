//! Going through all of the index, a part at a time.

use std::ops::Range;

use super::{ABSENT, Blob, Index, KeyHash, NONE};

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
}
