//! Which bytes of a file are there: half-open spans that never touch or overlap.

use std::collections::BTreeMap;

/// A set of byte positions, kept as its longest spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extents {
    /// Start to end (exclusive).
    spans: BTreeMap<u64, u64>,
}

impl Extents {
    /// Adds `start..end`, joining what it touches. An empty span adds nothing.
    pub(crate) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        if let Some((&before, &reaches)) = self.spans.range(..=start).next_back()
            && reaches >= start
        {
            start = before;
            end = end.max(reaches);
        }
        while let Some((&next, &reaches)) = self.spans.range(start..).next()
            && next <= end
        {
            self.spans.remove(&next);
            end = end.max(reaches);
        }
        self.spans.insert(start, end);
    }

    /// Takes `start..end` out.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        let before = self.spans.range(..end).rev();
        let touched: Vec<(u64, u64)> = before
            .map(|(&from, &to)| (from, to))
            .take_while(|(_, to)| *to > start)
            .collect();
        for (from, to) in touched {
            self.spans.remove(&from);
            self.insert(from, to.min(start));
            self.insert(from.max(end), to);
        }
    }

    /// Where the span that holds `position` ends; `None`: the position is not in the set.
    pub(crate) fn end_at(&self, position: u64) -> Option<u64> {
        let (_, &end) = self.spans.range(..=position).next_back()?;
        (end > position).then_some(end)
    }

    /// Where the last span that ends at or before `position` ends; 0 if there is none.
    pub(crate) fn end_before(&self, position: u64) -> u64 {
        let spans = self.spans.range(..position).rev();
        spans
            .map(|(_, &end)| end)
            .find(|end| *end <= position)
            .unwrap_or(0)
    }

    /// Where the span that reaches up to `position` starts; `position` itself if there is none.
    pub(crate) fn start_before(&self, position: u64) -> u64 {
        let before = self.spans.range(..position).next_back();
        before
            .filter(|(_, end)| **end >= position)
            .map_or(position, |(start, _)| *start)
    }

    /// The first span of `start..end` that is not in the set.
    pub(crate) fn first_gap(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let from = self.end_at(start).unwrap_or(start);
        if from >= end {
            return None;
        }
        let next = self.spans.range(from..).next().map(|(&next, _)| next);
        Some((from, next.map_or(end, |next| next.min(end))))
    }

    /// True if all of `start..end` is in the set.
    pub(crate) fn covers(&self, start: u64, end: u64) -> bool {
        self.first_gap(start, end).is_none()
    }

    /// The first span.
    pub(crate) fn first(&self) -> Option<(u64, u64)> {
        self.spans
            .first_key_value()
            .map(|(&start, &end)| (start, end))
    }

    /// Positions in the set.
    pub(crate) fn total(&self) -> u64 {
        self.spans.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The set as a plain list of positions, for comparison.
    #[derive(Default)]
    struct Model(Vec<bool>);

    const SIZE: u64 = 64;

    #[test]
    fn any_order_of_changes_is_the_same_set_as_a_list_of_positions() {
        let mut seed = 7u64;
        let mut next = move |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..2_000 {
            let (mut extents, mut model) = (Extents::default(), Model(vec![false; 64]));
            for _ in 0..next(12) {
                let (a, b) = (next(SIZE + 1), next(SIZE + 1));
                let is_added = next(4) > 0;
                if is_added {
                    extents.insert(a.min(b), a.max(b));
                } else {
                    extents.remove(a.min(b), a.max(b));
                }
                for at in a.min(b)..a.max(b) {
                    model.0[at as usize] = is_added;
                }
            }
            let held = |at: u64| model.0.get(at as usize).copied().unwrap_or(false);
            assert_eq!(
                extents.total(),
                model.0.iter().filter(|held| **held).count() as u64
            );
            for at in 0..SIZE {
                let end = (at..=SIZE).find(|at| !held(*at)).filter(|end| *end > at);
                assert_eq!(extents.end_at(at), end);
                let gap = (at..SIZE).find(|at| !held(*at)).map(|from| {
                    let to = (from..SIZE).find(|at| held(*at)).unwrap_or(SIZE);
                    (from, to)
                });
                assert_eq!(extents.first_gap(at, SIZE), gap);
            }
        }
    }

    #[test]
    fn spans_that_touch_are_one() {
        let mut extents = Extents::default();
        extents.insert(0, 4);
        extents.insert(8, 12);
        extents.insert(4, 8);
        assert_eq!(extents.end_at(0), Some(12));
        assert!(extents.covers(3, 12) && !extents.covers(3, 13));
    }
}
