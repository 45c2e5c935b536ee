//! The order of leaving: a 4-ary min-heap over slot numbers, each slot knowing its place in it.
//!
//! One `u32` an entry: rank and place lie in the record that the caller owns (41 bytes an entry
//! where the usual map-and-heap crates take 42 to 80, and changing a rank needs no look-up). Four
//! children a node halve the depth, which is what a touch pays for.

/// A slot that is in no heap has this place.
pub(crate) const ABSENT: u32 = u32::MAX;

/// The records that a heap orders.
pub(crate) trait Slots {
    /// What is compared: the smallest leaves first.
    fn order(&self, slot: u32) -> (u64, u64);
    /// Where the slot stands; [`ABSENT`] if it does not.
    fn place(&self, slot: u32) -> u32;
    /// Notes where the slot stands now.
    fn set_place(&mut self, slot: u32, place: u32);
}

/// A min-heap of slots; every call takes the same records.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    items: Vec<u32>,
}

impl Heap {
    pub(crate) fn with_capacity(slots: usize) -> Self {
        Self {
            items: Vec::with_capacity(slots),
        }
    }

    pub(crate) fn first(&self) -> Option<u32> {
        self.items.first().copied()
    }

    /// Adds a slot that is not in the heap.
    pub(crate) fn push(&mut self, slots: &mut impl Slots, slot: u32) {
        push_lean(&mut self.items, slot);
        self.rise(slots, self.items.len() - 1);
    }

    /// Takes a slot out; one that is not in the heap is left alone.
    pub(crate) fn remove(&mut self, slots: &mut impl Slots, slot: u32) {
        let place = slots.place(slot);
        if place == ABSENT {
            return;
        }
        slots.set_place(slot, ABSENT);
        self.items.swap_remove(place as usize);
        if let Some(&moved) = self.items.get(place as usize) {
            slots.set_place(moved, place);
            self.settle(slots, place as usize);
        }
    }

    /// Restores the order after a slot's rank has changed.
    pub(crate) fn update(&mut self, slots: &mut impl Slots, slot: u32) {
        let place = slots.place(slot);
        if place != ABSENT {
            self.settle(slots, place as usize);
        }
    }

    fn settle(&mut self, slots: &mut impl Slots, place: usize) {
        let place = self.rise(slots, place);
        self.sink(slots, place);
    }

    fn rise(&mut self, slots: &mut impl Slots, mut place: usize) -> usize {
        let slot = self.items[place];
        let order = slots.order(slot);
        while place > 0 {
            let parent = (place - 1) / 4;
            let above = self.items[parent];
            if slots.order(above) <= order {
                break;
            }
            self.put(slots, place, above);
            place = parent;
        }
        self.put(slots, place, slot);
        place
    }

    fn sink(&mut self, slots: &mut impl Slots, mut place: usize) {
        let slot = self.items[place];
        let order = slots.order(slot);
        loop {
            let children = place * 4 + 1..(place * 4 + 5).min(self.items.len());
            let Some(child) = children.min_by_key(|&child| slots.order(self.items[child])) else {
                break;
            };
            let below = self.items[child];
            if slots.order(below) >= order {
                break;
            }
            self.put(slots, place, below);
            place = child;
        }
        self.put(slots, place, slot);
    }

    fn put(&mut self, slots: &mut impl Slots, place: usize, slot: u32) {
        self.items[place] = slot;
        slots.set_place(slot, place as u32);
    }
}

/// Pushes with a sixteenth of slack: doubling would hold up to twice the records' memory.
pub(crate) fn push_lean<T>(items: &mut Vec<T>, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 16).max(1024));
    }
    items.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Random;

    #[derive(Default)]
    struct Table(Vec<((u64, u64), u32)>);

    impl Slots for Table {
        fn order(&self, slot: u32) -> (u64, u64) {
            self.0[slot as usize].0
        }
        fn place(&self, slot: u32) -> u32 {
            self.0[slot as usize].1
        }
        fn set_place(&mut self, slot: u32, place: u32) {
            self.0[slot as usize].1 = place;
        }
    }

    #[test]
    fn the_first_is_the_smallest_of_a_naive_model_after_every_step() {
        let mut random = Random::new(1);
        let mut heap = Heap::default();
        let mut table = Table::default();
        let mut model: Vec<u32> = Vec::new();
        for step in 0..20_000u64 {
            match random.below(4) {
                0 | 1 => {
                    let slot = table.0.len() as u32;
                    table.0.push(((random.below(50), step), ABSENT));
                    heap.push(&mut table, slot);
                    model.push(slot);
                }
                2 if !model.is_empty() => {
                    let at = random.below(model.len() as u64) as usize;
                    let slot = model.swap_remove(at);
                    heap.remove(&mut table, slot);
                    assert_eq!(table.place(slot), ABSENT);
                }
                _ if !model.is_empty() => {
                    let slot = model[random.below(model.len() as u64) as usize];
                    table.0[slot as usize].0 = (random.below(50), step);
                    heap.update(&mut table, slot);
                }
                _ => {}
            }
            let wanted = model.iter().min_by_key(|&&slot| table.order(slot)).copied();
            assert_eq!(heap.first(), wanted, "after step {step}");
        }
    }
}
