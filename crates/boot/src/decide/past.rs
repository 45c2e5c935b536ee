//! What is remembered of a machine, as far as decisions depend on it.

use std::time::{Duration, SystemTime};

use super::rules::OfferStyle;

/// After this long without a word from a machine, its failures no longer count.
const FORGIVEN_AFTER: Duration = Duration::from_mins(10);

/// Rounds (DISCOVERs with a new transaction) that nobody followed before another offer style is tried.
pub const ROUNDS_PER_STYLE: u32 = 3;

/// Boot program loads without a script fetch that make a boot loop.
pub const LOADS_OF_A_LOOP: u32 = 3;

/// What is remembered of one machine. The default is a machine never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Past {
    /// Rounds in a row whose offer was not followed by a 4011 request, a transfer or a script fetch.
    pub rounds_unfollowed: u32,
    /// Loads of a boot program in a row without a script fetch.
    pub loads_without_script: u32,
    /// When it was last heard of.
    pub seen: Option<SystemTime>,
    /// A style that worked before.
    pub proven_style: Option<OfferStyle>,
}

impl Past {
    /// The style to offer in, if none is configured for the machine: what worked before, else the usual
    /// one, else after failures the next of `alternatives`, over and over.
    pub fn style(&self, alternatives: &[OfferStyle], now: SystemTime) -> Option<OfferStyle> {
        let first = self
            .proven_style
            .or_else(|| alternatives.first().copied())?;
        let is_recent = self.seen.is_some_and(|seen| {
            now.duration_since(seen)
                .is_ok_and(|age| age < FORGIVEN_AFTER)
        });
        let turn = if is_recent {
            self.rounds_unfollowed / ROUNDS_PER_STYLE
        } else {
            0
        };
        let start = alternatives
            .iter()
            .position(|style| *style == first)
            .unwrap_or(0);
        let place = (start + usize::try_from(turn).ok()?) % alternatives.len().max(1);
        alternatives.get(place).copied()
    }

    /// Tells whether the machine loads its boot program again and again and never asks for a script.
    pub fn is_looping(&self) -> bool {
        self.loads_without_script >= LOADS_OF_A_LOOP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OfferStyle::{BootServer, Direct, Menu};

    const STYLES: [OfferStyle; 3] = [BootServer, Direct, Menu];

    fn after(rounds: u32, minutes: u64) -> Option<OfferStyle> {
        let seen = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let past = Past {
            rounds_unfollowed: rounds,
            seen: Some(seen),
            ..Past::default()
        };
        past.style(&STYLES, seen + Duration::from_secs(60 * minutes))
    }

    #[test]
    fn styles_alternate_after_failures() {
        let styles: Vec<_> = (0..10).filter_map(|rounds| after(rounds, 0)).collect();
        let usual = [
            BootServer, BootServer, BootServer, Direct, Direct, Direct, Menu, Menu, Menu,
            BootServer,
        ];
        assert_eq!(styles, usual);
    }

    #[test]
    fn old_failures_are_forgiven() {
        assert_eq!(after(4, 9), Some(Direct));
        assert_eq!(after(4, 10), Some(BootServer));
    }

    #[test]
    fn what_worked_before_comes_first() {
        let past = Past {
            proven_style: Some(Direct),
            ..Past::default()
        };
        assert_eq!(past.style(&STYLES, SystemTime::UNIX_EPOCH), Some(Direct));
        let past = Past {
            rounds_unfollowed: 3,
            seen: Some(SystemTime::UNIX_EPOCH),
            ..past
        };
        assert_eq!(past.style(&STYLES, SystemTime::UNIX_EPOCH), Some(Menu));
    }
}
