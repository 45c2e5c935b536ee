//! How much an object is worth keeping: LFUDA, GDSF, LRU as pure arithmetic.
//!
//! The smallest rank leaves first; of equal ranks the least recently used. Both ageing policies
//! set their age to the rank of the last victim, so that what was popular long ago falls behind
//! what is popular now. Integers, not floats: ranks are persisted and compared over years, and a
//! saturating count cannot wrap as Squid's 16-bit one does.

use crate::config::Replacement;

/// Fixed-point bits of a GDSF rank: one use of a 1 MiB body still counts 2^20 units.
const GDSF_SHIFT: u32 = 40;

/// The replacement policy and its age.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ranking {
    pub(crate) policy: Replacement,
    /// The rank of the last victim; 0 before the first.
    pub(crate) age: u64,
}

impl Ranking {
    /// What stands for the policy on disk: ranks of one mean nothing to another.
    pub(crate) fn number(&self) -> u64 {
        match self.policy {
            Replacement::Lfuda => 1,
            Replacement::Gdsf => 2,
            Replacement::Lru => 3,
        }
    }

    /// The rank after a use: `uses` is the count with this one, `tick` grows with every use.
    pub(crate) fn rank(&self, uses: u32, len: u64, tick: u64) -> u64 {
        let uses = u64::from(uses);
        match self.policy {
            Replacement::Lfuda => self.age.saturating_add(uses),
            Replacement::Gdsf => self
                .age
                .saturating_add((uses << (GDSF_SHIFT - 8)) / (len >> 8).max(1)),
            Replacement::Lru => tick,
        }
    }

    /// Notes that an object of this rank had to leave.
    pub(crate) fn retired(&mut self, rank: u64) {
        if self.policy != Replacement::Lru {
            self.age = self.age.max(rank);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_outranks_a_favourite_of_long_ago_once_the_age_has_passed_it() {
        let mut ranking = Ranking {
            policy: Replacement::Lfuda,
            age: 0,
        };
        let favourite = ranking.rank(5, 10, 1);
        assert!(ranking.rank(1, 10, 2) < favourite);
        ranking.retired(5);
        assert!(ranking.rank(1, 10, 3) > favourite);
    }

    #[test]
    fn gdsf_prefers_small_bodies_and_never_overflows() {
        let ranking = Ranking {
            policy: Replacement::Gdsf,
            age: 0,
        };
        assert!(ranking.rank(1, 10_000, 0) > ranking.rank(10, 1_000_000, 0));
        assert!(ranking.rank(2, 1 << 31, 0) > ranking.rank(1, 1 << 31, 0));
        let old = Ranking {
            policy: Replacement::Gdsf,
            age: u64::MAX,
        };
        assert_eq!(old.rank(u32::MAX, 0, 0), u64::MAX);
    }

    #[test]
    fn lru_looks_at_nothing_but_the_time_of_use() {
        let mut ranking = Ranking {
            policy: Replacement::Lru,
            age: 0,
        };
        ranking.retired(99);
        assert_eq!((ranking.rank(7, 1, 42), ranking.age), (42, 0));
    }
}
