//! What larder has seen of origins: who failed lately, who is fast. It only orders the hops of a
//! route; a hop that failed is tried last, never left out.
//!
//! After a failure an origin is put behind the others for a second, then two, four, up to a minute.
//! When that time is over one request tries it again; the others leave it alone until that one has an
//! answer, or its time is over too.

use std::cmp::Ordering as Order;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_policy::route::{Hop, Select};

use super::pool::Destination;

const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_mins(1);
/// Weight of the newest sample in the running means.
const NEWEST: f64 = 0.3;
/// What the fastest origin is chosen for, bytes.
const TYPICAL: f64 = 1_048_576.0;
/// A shorter transfer says nothing about a rate, bytes.
const SAMPLE_MIN: u64 = 256 << 10;
/// Origins that are remembered; forward proxies see many.
const REMEMBERED_MAX: usize = 4096;

/// All origins that were seen.
#[derive(Debug, Default)]
pub(super) struct Health {
    seen: Mutex<HashMap<Destination, Seen>>,
    turn: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    failures: u32,
    /// Not before this; `None`: well.
    retry_at: Option<Instant>,
    first_byte_s: Option<f64>,
    bytes_per_s: Option<f64>,
}

impl Seen {
    /// Estimated seconds for a typical file; unknown origins are worth a try.
    fn cost(&self) -> f64 {
        let transfer = self.bytes_per_s.map_or(0.0, |rate| TYPICAL / rate.max(1.0));
        self.first_byte_s.unwrap_or(0.0) + transfer
    }
}

fn mean(held: Option<f64>, sample: f64) -> f64 {
    held.map_or(sample, |held| held + NEWEST * (sample - held))
}

impl Health {
    fn seen(&self) -> MutexGuard<'_, HashMap<Destination, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, of: &Destination, change: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen();
        if seen.len() >= REMEMBERED_MAX && !seen.contains_key(of) {
            seen.retain(|_, one| one.retry_at.is_some());
            if seen.len() >= REMEMBERED_MAX {
                seen.clear();
            }
        }
        change(seen.entry(of.clone()).or_default());
    }

    /// An answer's head came after so long.
    pub(super) fn answered(&self, of: &Destination, after: Duration) {
        self.note(of, |seen| {
            seen.failures = 0;
            seen.retry_at = None;
            seen.first_byte_s = Some(mean(seen.first_byte_s, after.as_secs_f64()));
        });
    }

    /// So many bytes of a body came in so long.
    pub(super) fn delivered(&self, of: &Destination, bytes: u64, took: Duration) {
        if bytes >= SAMPLE_MIN {
            let rate = bytes as f64 / took.as_secs_f64().max(0.000_1);
            self.note(of, |seen| {
                seen.bytes_per_s = Some(mean(seen.bytes_per_s, rate));
            });
        }
    }

    /// It did not answer, or broke off.
    pub(super) fn failed(&self, of: &Destination) {
        self.note(of, |seen| {
            let wait = BACK_OFF_MIN.saturating_mul(1 << seen.failures.min(6));
            seen.failures = seen.failures.saturating_add(1);
            seen.retry_at = Some(Instant::now() + wait.min(BACK_OFF_MAX));
        });
    }

    /// The hops in the order in which they are tried.
    pub(super) fn ordered<'a>(
        &self,
        hops: Vec<Hop<'a>>,
        to: impl Fn(Hop<'a>) -> Destination,
    ) -> Vec<Hop<'a>> {
        let turn = self.turn.load(Ordering::Relaxed);
        let listed = listed(&self.seen(), hops, to, turn);
        listed.into_iter().map(|(hop, _, _)| hop).collect()
    }

    /// The same for a request that takes its turn: the next one begins with another, and where the
    /// first has been ill this one finds out whether it still is, within `patience`.
    pub(super) fn take_turn<'a>(
        &self,
        hops: Vec<Hop<'a>>,
        to: impl Fn(Hop<'a>) -> Destination,
        patience: Duration,
    ) -> Vec<Hop<'a>> {
        let takes_turns = |hop: &Hop<'_>| match hop {
            Hop::Origin(mirror, _) => mirror.select == Select::RoundRobin,
            Hop::Direct | Hop::Secure | Hop::Parent(_) => false,
        };
        let turn = if hops.iter().any(takes_turns) {
            self.turn.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        let mut seen = self.seen();
        let listed = listed(&seen, hops, &to, turn);
        if let Some((hop, state, false)) = listed.first()
            && listed.len() > 1
            && state.retry_at.is_some()
            && let Some(probed) = seen.get_mut(&to(*hop))
        {
            // This request is the probe; until it has an answer nobody else is. Its client may go.
            probed.retry_at = Some(Instant::now() + patience.max(BACK_OFF_MIN));
        }
        listed.into_iter().map(|(hop, _, _)| hop).collect()
    }
}

/// The hops in order, what was seen of each, and whether it is ill.
fn listed<'a>(
    seen: &HashMap<Destination, Seen>,
    hops: Vec<Hop<'a>>,
    to: impl Fn(Hop<'a>) -> Destination,
    turn: usize,
) -> Vec<(Hop<'a>, Seen, bool)> {
    let now = Instant::now();
    let mut listed: Vec<(Hop<'a>, Seen, bool)> = hops
        .into_iter()
        .map(|hop| {
            let state = seen.get(&to(hop)).cloned().unwrap_or_default();
            let ill = state.retry_at.is_some_and(|at| at > now);
            (hop, state, ill)
        })
        .collect();
    by_choice(&mut listed, turn);
    // Stable: within the well and within the ill the order stays.
    listed.sort_by_key(|(_, _, ill)| *ill);
    listed
}

/// Orders the origins of each pool as its `select` says; other hops keep their places.
fn by_choice(listed: &mut [(Hop<'_>, Seen, bool)], turn: usize) {
    let mut start = 0;
    while let Some((Hop::Origin(mirror, _), _, _)) = listed.get(start) {
        let (name, select) = (&mirror.name, mirror.select);
        let same = |hop: &Hop<'_>| matches!(hop, Hop::Origin(other, _) if other.name == *name);
        let length = listed
            .iter()
            .skip(start)
            .take_while(|(hop, _, _)| same(hop))
            .count();
        if let Some(pool) = listed.get_mut(start..start + length) {
            match select {
                Select::Ordered => {}
                Select::RoundRobin => pool.rotate_left(turn % length),
                Select::Fastest => pool.sort_by(|(_, a, _), (_, b, _)| {
                    a.cost().partial_cmp(&b.cost()).unwrap_or(Order::Equal)
                }),
            }
        }
        start += length;
    }
}

#[cfg(test)]
mod tests {
    use larder_policy::route::{Mirror, Origin};

    use super::*;

    const PATIENCE: Duration = Duration::from_mins(2);

    fn mirror(select: Select) -> Mirror {
        Mirror {
            name: "pool".to_owned(),
            hosts: Vec::new(),
            origins: ["http://a/", "http://b/", "http://c/"]
                .map(|text| Origin::parse(text).unwrap())
                .to_vec(),
            select,
            access: None,
        }
    }

    fn to(hop: Hop<'_>) -> Destination {
        match hop {
            Hop::Origin(_, origin) => Destination::direct(origin.scheme, origin.authority.clone()),
            Hop::Direct | Hop::Secure | Hop::Parent(_) => panic!("only origins here"),
        }
    }

    fn order(health: &Health, mirror: &Mirror) -> String {
        let hops = mirror
            .origins
            .iter()
            .map(|origin| Hop::Origin(mirror, origin))
            .collect();
        health
            .take_turn(hops, to, PATIENCE)
            .into_iter()
            .map(|hop| to(hop).authority.host)
            .collect()
    }

    fn named(mirror: &Mirror, index: usize) -> Destination {
        to(Hop::Origin(mirror, &mirror.origins[index]))
    }

    #[test]
    fn one_that_failed_comes_last_until_it_answers() {
        let (health, mirror) = (Health::default(), mirror(Select::Ordered));
        assert_eq!(order(&health, &mirror), "abc");
        health.failed(&named(&mirror, 0));
        assert_eq!(order(&health, &mirror), "bca");
        health.answered(&named(&mirror, 0), Duration::from_millis(1));
        assert_eq!(order(&health, &mirror), "abc");
    }

    #[test]
    fn when_its_time_is_over_one_request_tries_it() {
        let (health, mirror) = (Health::default(), mirror(Select::Ordered));
        health.failed(&named(&mirror, 0));
        health.note(&named(&mirror, 0), |seen| {
            seen.retry_at = Some(Instant::now());
        });
        assert_eq!(order(&health, &mirror), "abc");
        assert_eq!(order(&health, &mirror), "bca");
        // Nobody else does as long as that one waits.
        let retry_at = || health.seen()[&named(&mirror, 0)].retry_at;
        let long_after = Instant::now() + PATIENCE / 2;
        assert!(retry_at().is_some_and(|at| at > long_after));
        health.answered(&named(&mirror, 0), Duration::from_millis(1));
        assert_eq!(retry_at(), None);
    }

    #[test]
    fn who_only_looks_takes_no_turn_and_tries_nobody() {
        let (health, pool) = (Health::default(), mirror(Select::RoundRobin));
        let look = || {
            let hops = pool.origins.iter().map(|origin| Hop::Origin(&pool, origin));
            let hops = health.ordered(hops.collect(), to).into_iter();
            hops.map(|hop| to(hop).authority.host).collect::<String>()
        };
        assert_eq!([look(), look()], ["abc", "abc"]);
        assert_eq!(order(&health, &pool), "abc");
        assert_eq!([look(), look()], ["bca", "bca"]);
        health.failed(&named(&pool, 1));
        health.note(&named(&pool, 1), |seen| {
            seen.retry_at = Some(Instant::now());
        });
        assert_eq!([look(), look()], ["bca", "bca"]);
    }

    #[test]
    fn the_others_are_in_turn_or_by_speed() {
        let (health, pool) = (Health::default(), mirror(Select::RoundRobin));
        let turns = [
            order(&health, &pool),
            order(&health, &pool),
            order(&health, &pool),
        ];
        assert_eq!(turns, ["abc", "bca", "cab"]);
        let pool = mirror(Select::Fastest);
        for (index, millis) in [(0, 30), (1, 10), (2, 20)] {
            health.answered(&named(&pool, index), Duration::from_millis(millis));
        }
        assert_eq!(order(&health, &pool), "bca");
        health.delivered(&named(&pool, 1), 1 << 20, Duration::from_secs(9));
        assert_eq!(order(&health, &pool), "cab");
    }
}
