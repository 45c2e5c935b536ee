//! How long those who wait for bytes are kept waiting: one time for all who can be asked for them,
//! however many there are. Package managers give up after ten seconds without a byte.

use std::time::{Duration, Instant};

/// Of all the patience this much is there anew where it is used up before anybody was asked, one
/// part in so many.
const MORE: u32 = 3;
/// Who had less than one part in so many to answer had no time to.
const ENOUGH: u32 = 16;

/// The patience of one who waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    since: Instant,
    all: Duration,
}

impl Patience {
    /// `all` from `since` on.
    pub(crate) fn new(since: Instant, all: Duration) -> Self {
        Self { since, all }
    }

    /// The same from now on: something came.
    pub(crate) fn renewed(self) -> Self {
        Self::new(Instant::now(), self.all)
    }

    /// As long as it was, but not so short that nobody could answer within it.
    pub(crate) fn or_some_more(self) -> Self {
        let more = self.all / MORE;
        let latest = Instant::now().checked_sub(self.all.saturating_sub(more));
        Self {
            since: latest.map_or(self.since, |latest| latest.max(self.since)),
            ..self
        }
    }

    /// How long it has lasted.
    pub(crate) fn lasted(self) -> Duration {
        self.since.elapsed()
    }

    /// It is over.
    pub(crate) fn is_over(self) -> bool {
        self.lasted() >= self.all
    }

    /// The share that one has before so many others; alone, nobody has to hurry.
    pub(crate) fn before(self, others: usize) -> Option<Duration> {
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let shares = others.checked_add(1).filter(|_| others > 0)?;
        Some(self.all.saturating_sub(self.lasted()) / shares)
    }

    /// The share of one for whom another may stand in.
    pub(crate) fn half(self) -> Duration {
        self.all.saturating_sub(self.lasted()) / 2
    }

    /// True if one that has let so much of it pass can be said to be ill.
    pub(crate) fn is_enough(self, share: Duration) -> bool {
        share > self.all / ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Duration = Duration::from_secs(800);

    #[test]
    fn all_who_are_asked_share_it() {
        for others in 1..9 {
            // Each takes all that it may, and the last is asked while some is left.
            let mut patience = Patience::new(Instant::now(), ALL);
            for left in (1..=others).rev() {
                let share = patience.before(left).unwrap();
                assert!(share > ALL / 20, "{left} of {others}: {share:?}");
                patience.since = patience.since.checked_sub(share).unwrap();
            }
            assert!(!patience.is_over());
            assert_eq!(patience.before(0), None);
        }
    }

    #[test]
    fn a_share_of_what_is_nearly_used_up_says_nothing_of_who_had_it() {
        let fresh = Patience::new(Instant::now(), ALL);
        assert!(fresh.is_enough(fresh.half()));
        assert!((1..9).all(|others| fresh.before(others).is_some_and(|it| fresh.is_enough(it))));
        // What a late one leaves to the next.
        let late = Instant::now().checked_sub(ALL * 9 / 10).unwrap();
        let late = Patience::new(late, ALL);
        assert!(!late.is_over() && !late.is_enough(late.half()));
        let more = late.or_some_more();
        assert!(more.is_enough(more.half()));
    }

    #[test]
    fn what_is_used_up_leaves_a_third() {
        let long_ago = Instant::now().checked_sub(2 * ALL).unwrap();
        let patience = Patience::new(long_ago, ALL);
        assert!(patience.is_over() && patience.half().is_zero());
        let more = patience.or_some_more();
        assert!(!more.is_over() && more.half() <= ALL / 6);
        let fresh = Patience::new(Instant::now(), ALL);
        assert_eq!(fresh.or_some_more().since, fresh.since);
        assert!(more.renewed().half() > ALL / 3);
    }
}
