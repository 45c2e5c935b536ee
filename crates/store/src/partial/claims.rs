//! Who draws which bytes of an object: pure decisions over what is there and what is being drawn.
//!
//! Bytes are drawn in runs that begin and end at blocks of 1 MiB where nothing else bounds them.
//! No byte is claimed twice. A run that another draws is waited for, unless the wanted bytes lie
//! so far ahead of it that asking for them separately is quicker: then the other's run ends there.

use std::time::{Duration, Instant};

use super::extents::Extents;

/// Unit in which an object is drawn, bytes.
pub(crate) const BLOCK: u64 = 1 << 20;
/// A run that gets to the wanted bytes within this time is waited for.
const SOON: Duration = Duration::from_millis(250);
/// A younger run says nothing yet about how fast it is.
const YOUNG: Duration = Duration::from_millis(100);

/// One run that is being drawn.
#[derive(Clone, Copy, Debug)]
struct Run {
    number: u64,
    start: u64,
    /// How far it has come.
    at: u64,
    /// Where it ends, which another may bring forward.
    end: u64,
    since: Instant,
    /// An origin sends it.
    agreed: bool,
    /// The run of another that this one is to end, once an origin has agreed to send it.
    instead_of: Option<u64>,
}

impl Run {
    /// True if the run will be at `position` before a request of its own would bring it.
    fn is_near(&self, position: u64, now: Instant) -> bool {
        let distance = position.saturating_sub(self.at);
        let took = now.saturating_duration_since(self.since).as_secs_f64();
        let rate = (self.at - self.start) as f64 / took.max(f64::EPSILON);
        distance <= BLOCK || distance as f64 <= rate * SOON.as_secs_f64()
    }
}

/// The runs that are being drawn.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    runs: Vec<Run>,
    next: u64,
}

/// What somebody who wants bytes does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// Everything wanted is there.
    Nothing,
    /// Others draw what is wanted next: look again when something has moved, or at the latest
    /// after this time.
    Others(Duration),
    /// The run is the caller's to draw.
    Mine {
        /// The number of the claim.
        number: u64,
        /// The first byte.
        start: u64,
        /// The end (exclusive) as things stand.
        end: u64,
    },
}

impl Claims {
    /// Claims the first run of the `wanted` spans that is neither there nor being drawn. `length`
    /// is the object's; `bound` gives the next position from a start on that is not to be drawn
    /// for some other reason.
    pub(crate) fn next(
        &mut self,
        wanted: &[(u64, u64)],
        there: &Extents,
        length: u64,
        bound: impl Fn(u64) -> u64,
        now: Instant,
    ) -> Claimed {
        for &(start, end) in wanted {
            let Some((gap, _)) = there.first_gap(start, end.min(length)) else {
                continue;
            };
            let limit = end.next_multiple_of(BLOCK).min(length);
            let Some(run) = self
                .runs
                .iter()
                .find(|run| (run.start..run.end).contains(&gap))
            else {
                let start = self.lower_bound(gap, there);
                let end = self.upper_bound(start, limit, there).min(bound(start));
                if end <= start {
                    // It lies on the disk, and is to be looked at first.
                    return Claimed::Others(YOUNG);
                }
                return self.claim(start, end, now);
            };
            let cut = gap - gap % BLOCK;
            if run.is_near(gap, now) || cut < run.at.saturating_add(BLOCK) {
                return Claimed::Others(SOON);
            }
            if now.saturating_duration_since(run.since) < YOUNG {
                return Claimed::Others(YOUNG);
            }
            let (other, end) = (run.number, run.end.min(limit).min(bound(cut)));
            if self.runs.iter().any(|run| run.instead_of == Some(other)) {
                // Somebody else is about to do that.
                return Claimed::Others(YOUNG);
            }
            let claimed = self.claim(cut, end, now);
            if let Some(run) = self.runs.last_mut() {
                run.instead_of = Some(other);
            }
            return claimed;
        }
        Claimed::Nothing
    }

    /// Claims a run whatever is there: for an answer that has come before anybody claimed it.
    pub(crate) fn claim(&mut self, start: u64, end: u64, now: Instant) -> Claimed {
        let number = self.next;
        self.next += 1;
        self.runs.push(Run {
            number,
            start,
            at: start,
            end,
            since: now,
            agreed: false,
            instead_of: None,
        });
        Claimed::Mine { number, start, end }
    }

    /// An origin has agreed to send the run. False: the run that it was to end has come too far by
    /// now, and this one is of no use.
    pub(crate) fn settle(&mut self, number: u64) -> bool {
        let Some(mine) = self.runs.iter().position(|run| run.number == number) else {
            return false;
        };
        let (start, other) = (self.runs[mine].start, self.runs[mine].instead_of.take());
        self.runs[mine].agreed = true;
        match self.runs.iter_mut().find(|run| Some(run.number) == other) {
            Some(other) if other.at > start => false,
            Some(other) => {
                other.end = other.end.min(start);
                true
            }
            None => true,
        }
    }

    /// What the runs still have to draw.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|run| (run.start, run.end))
    }

    /// Whether an origin has agreed to send the run that a position lies in; `None`: nobody draws it.
    pub(crate) fn is_agreed(&self, position: u64) -> Option<bool> {
        let mut runs = self.runs.iter();
        let run = runs.find(|run| (run.start..run.end).contains(&position));
        run.map(|run| run.agreed)
    }

    /// Takes at most `length` bytes into a run: what comes after its end is not its own. Returns
    /// how many were taken.
    pub(crate) fn advance(&mut self, number: u64, length: u64) -> u64 {
        let Some(run) = self.runs.iter_mut().find(|run| run.number == number) else {
            return 0;
        };
        let taken = length.min(run.end - run.at);
        run.at += taken;
        taken
    }

    /// Where a run is and where it ends.
    pub(crate) fn span(&self, number: u64) -> (u64, u64) {
        let run = self.runs.iter().find(|run| run.number == number);
        run.map_or((0, 0), |run| (run.at, run.end))
    }

    /// Nobody draws the run any more.
    pub(crate) fn end(&mut self, number: u64) {
        self.runs.retain(|run| run.number != number);
    }

    /// True if nothing is being drawn.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The start of the block of `gap`, or the end of what is there or being drawn within it.
    fn lower_bound(&self, gap: u64, there: &Extents) -> u64 {
        let block = gap - gap % BLOCK;
        let drawn = self.runs.iter().map(|run| run.end);
        let drawn = drawn.filter(|end| *end <= gap).max().unwrap_or(0);
        block.max(drawn).max(there.end_before(gap))
    }

    fn upper_bound(&self, start: u64, limit: u64, there: &Extents) -> u64 {
        let free = there.first_gap(start, limit).map_or(limit, |(_, end)| end);
        let drawn = self.runs.iter().map(|run| run.start);
        drawn.filter(|run| *run > start).fold(free, u64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = 10 * BLOCK + 17;

    fn free(_start: u64) -> u64 {
        u64::MAX
    }

    fn mine(number: u64, start: u64, end: u64) -> Claimed {
        Claimed::Mine { number, start, end }
    }

    #[test]
    fn a_span_is_drawn_in_whole_blocks_and_the_last_one_ends_with_the_object() {
        let (mut claims, there, now) = (Claims::default(), Extents::default(), Instant::now());
        let middle = claims.next(&[(BLOCK + 5, BLOCK + 9)], &there, LENGTH, free, now);
        assert_eq!(middle, mine(0, BLOCK, 2 * BLOCK));
        let last = claims.next(&[(LENGTH - 1, LENGTH)], &there, LENGTH, free, now);
        assert_eq!(last, mine(1, 10 * BLOCK, LENGTH));
    }

    #[test]
    fn what_is_there_or_being_drawn_bounds_a_run() {
        let (mut claims, mut there, now) = (Claims::default(), Extents::default(), Instant::now());
        there.insert(0, BLOCK + 100);
        there.insert(5 * BLOCK, 6 * BLOCK);
        let whole = [(0, LENGTH)];
        let first = claims.next(&whole, &there, LENGTH, free, now);
        assert_eq!(first, mine(0, BLOCK + 100, 5 * BLOCK));
        let others = claims.next(&whole, &there, LENGTH, free, now);
        assert_eq!(others, Claimed::Others(SOON));
        there.insert(BLOCK + 100, 5 * BLOCK);
        claims.end(0);
        let second = claims.next(&whole, &there, LENGTH, free, now);
        assert_eq!(second, mine(1, 6 * BLOCK, LENGTH));
    }

    #[test]
    fn no_run_is_claimed_where_bytes_of_an_earlier_run_are_to_be_looked_at() {
        let (mut claims, mut there, now) = (Claims::default(), Extents::default(), Instant::now());
        there.insert(0, 4 * BLOCK);
        let wanted = [(3 * BLOCK, 6 * BLOCK)];
        let bound = |start: u64| start.max(4 * BLOCK);
        let waits = claims.next(&wanted, &there, LENGTH, bound, now);
        assert_eq!(waits, Claimed::Others(YOUNG));
        assert!(claims.is_empty());
    }

    #[test]
    fn a_slow_run_ends_where_somebody_wants_bytes_far_ahead_and_a_fast_one_is_waited_for() {
        let there = Extents::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let far = [(8 * BLOCK, 8 * BLOCK + 10)];
        for (drawn, wanted) in [
            (BLOCK, mine(1, 8 * BLOCK, 9 * BLOCK)),
            (7 * BLOCK, Claimed::Others(SOON)),
        ] {
            let mut claims = Claims::default();
            claims.claim(0, LENGTH, now);
            assert_eq!(claims.advance(0, drawn), drawn);
            let young = claims.next(&far, &there, LENGTH, free, now + YOUNG / 2);
            assert!(matches!(young, Claimed::Others(_)), "{young:?}");
            assert_eq!(claims.next(&far, &there, LENGTH, free, later), wanted);
        }
    }

    #[test]
    fn a_run_that_came_too_far_meanwhile_is_not_ended() {
        let (mut claims, there, now) = (Claims::default(), Extents::default(), Instant::now());
        claims.claim(0, LENGTH, now);
        claims.advance(0, 10);
        let later = now + 240 * SOON;
        let far = [(4 * BLOCK + 3, 4 * BLOCK + 4)];
        claims.next(&far, &there, LENGTH, free, later);
        let again = claims.next(&far, &there, LENGTH, free, later);
        assert!(
            matches!(again, Claimed::Others(_)),
            "one at a time: {again:?}"
        );
        claims.advance(0, 4 * BLOCK);
        assert!(!claims.settle(1));
        claims.end(1);
        assert_eq!(claims.span(0), (4 * BLOCK + 10, LENGTH));
    }

    #[test]
    fn nothing_is_taken_beyond_an_end_that_was_brought_forward() {
        let (mut claims, there, now) = (Claims::default(), Extents::default(), Instant::now());
        claims.claim(0, LENGTH, now);
        claims.advance(0, 10);
        let later = now + 240 * SOON;
        let far = [(4 * BLOCK + 3, 4 * BLOCK + 4)];
        let taken = claims.next(&far, &there, LENGTH, free, later);
        assert_eq!(taken, mine(1, 4 * BLOCK, 5 * BLOCK));
        assert_eq!(claims.span(0), (10, LENGTH), "until an origin has agreed");
        assert!(claims.settle(1));
        assert_eq!(claims.advance(0, 100 * BLOCK), 4 * BLOCK - 10);
        assert_eq!(claims.span(0), (4 * BLOCK, 4 * BLOCK));
    }
}
