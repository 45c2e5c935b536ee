//! Squid's freshness algorithm, exact: what `semantics = "squid"` runs.
//!
//! Its order is the point. An explicit expiry settles staleness alone (min, percent and max are not
//! looked at); `min` does not floor the share of the time since the last change; the overrides come
//! last, so that neither must-revalidate nor an expiry of more than `max_stale` ago is rescued by
//! them. The steps carry the letters a to j, in the order in which they are taken.

use http::header::{AGE, DATE, EXPIRES, HeaderMap};

use super::{MAX_STALE, RefreshRule, share};
use crate::cache_control::{CacheControl, delta_seconds};
use crate::meta::{Meta, UnixTime, date_of};

const DAY: i64 = 86_400;
/// Where no rule matches: min 0, 20 %, max 3 days.
const DEFAULT_PERCENT: u32 = 20;
const DEFAULT_MAX: i64 = 3 * DAY;
/// A response must be usable for so long to be kept without a validator (`minimum_expiry_time`).
const MINIMUM_EXPIRY_TIME: i64 = 60;

/// When a response was made, as Squid reckons it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was current at its origin.
    pub timestamp: UnixTime,
    /// When it expires by the origin's word.
    pub expires: Option<UnixTime>,
    /// When it last changed.
    pub last_modified: Option<UnixTime>,
}

impl Times {
    /// Reckons from a stored head. A Date that is missing, in the future or older than a day counts
    /// as the time of the response; an Age that says more wins; the origin's response time is taken
    /// off. The expiry moves with the timestamp.
    pub fn of(meta: &Meta) -> Self {
        let fetched = meta.fetched();
        let came = fetched.response_time;
        let said = date_of(meta.headers(), &DATE);
        let date = said
            .filter(|date| (0..=DAY).contains(&came.since(*date)))
            .unwrap_or(came);
        let delay = came.since(fetched.request_time).max(0);
        let age = age_field(meta.headers());
        let timestamp = date.min(came.plus(-age)).plus(-delay);
        let shift = said.map_or(0, |said| timestamp.since(said));
        let expires = expiry(meta, said, came).map(|expires| expires.plus(shift));
        Self {
            timestamp,
            expires,
            last_modified: meta.inputs().last_modified,
        }
    }
}

fn age_field(headers: &HeaderMap) -> i64 {
    let text = headers.get(AGE).and_then(|value| value.to_str().ok());
    i64::try_from(text.map_or(0, delta_seconds)).unwrap_or(0)
}

/// s-maxage, else max-age, else Expires; one that cannot be read is past.
fn expiry(meta: &Meta, date: Option<UnixTime>, came: UnixTime) -> Option<UnixTime> {
    let control = &meta.inputs().control;
    if let Some(lifetime) = control.s_maxage.or(control.max_age) {
        let lifetime = i64::try_from(lifetime).unwrap_or(i64::MAX);
        return Some(date.map_or(came, |date| date.plus(lifetime)));
    }
    meta.headers().get(EXPIRES)?;
    Some(date_of(meta.headers(), &EXPIRES).unwrap_or(came))
}

/// Why a stored response is used without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseBecause {
    /// e: the client accepts it as stale as it is.
    MaxStale,
    /// f: it is fresh.
    Fresh,
    /// h: expired, but `override-expire` and younger than `min`.
    OverrideExpire,
    /// i: stale by its last change, but `override-lastmod` and younger than `min`.
    OverrideLastmod,
}

/// Why the origin is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevalidateBecause {
    /// a: no-cache, private or `Vary: *`.
    Always,
    /// a: must-revalidate, proxy-revalidate or s-maxage, and stale.
    MustRevalidate,
    /// b: If-Modified-Since under `refresh-ims`.
    RefreshIms,
    /// c: the client's no-cache under `reload-into-ims`.
    ReloadIntoIms,
    /// d: the client's max-age.
    ClientMaxAge,
    /// g: staler than `max_stale`.
    MaxStale,
    /// h: expired.
    Expired,
    /// i: stale by its last change.
    LastModified,
    /// j: older than `max`, or than `min` with nothing else known.
    Age,
}

/// What Squid does with a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquidVerdict {
    /// It is used.
    Use(UseBecause),
    /// The origin is asked whether it is still good.
    Revalidate(RevalidateBecause),
    /// c: the client's no-cache, it is fetched anew, unconditionally.
    Reload,
}

impl SquidVerdict {
    /// True if the response is used without asking.
    pub fn is_fresh(self) -> bool {
        matches!(self, Self::Use(_))
    }

    /// True if a failure to ask is passed on to the client rather than hidden by the stale copy.
    pub fn forbids_stale(self) -> bool {
        use RevalidateBecause::{Always, MaxStale, MustRevalidate};
        matches!(
            self,
            Self::Revalidate(Always | MustRevalidate | MaxStale) | Self::Reload
        )
    }

    /// The letter of the step that decided.
    pub fn step(self) -> char {
        match self {
            Self::Revalidate(RevalidateBecause::Always | RevalidateBecause::MustRevalidate) => 'a',
            Self::Revalidate(RevalidateBecause::RefreshIms) => 'b',
            Self::Revalidate(RevalidateBecause::ReloadIntoIms) | Self::Reload => 'c',
            Self::Revalidate(RevalidateBecause::ClientMaxAge) => 'd',
            Self::Use(UseBecause::MaxStale) => 'e',
            Self::Use(UseBecause::Fresh) => 'f',
            Self::Revalidate(RevalidateBecause::MaxStale) => 'g',
            Self::Revalidate(RevalidateBecause::Expired)
            | Self::Use(UseBecause::OverrideExpire) => 'h',
            Self::Revalidate(RevalidateBecause::LastModified)
            | Self::Use(UseBecause::OverrideLastmod) => 'i',
            Self::Revalidate(RevalidateBecause::Age) => 'j',
        }
    }
}

/// Staleness, and by what it was judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Staleness {
    Fresh,
    Expired(i64),
    LastModified(i64),
    Age(i64),
}

impl Staleness {
    fn seconds(self) -> Option<i64> {
        match self {
            Self::Fresh => None,
            Self::Expired(by) | Self::LastModified(by) | Self::Age(by) => Some(by),
        }
    }
}

fn staleness(
    times: Times,
    rule: Option<&RefreshRule>,
    age: i64,
    check_time: UnixTime,
) -> Staleness {
    let (min, percent, max) = rule.map_or((0, DEFAULT_PERCENT, DEFAULT_MAX), |rule| {
        (rule.min, rule.percent, rule.max)
    });
    if let Some(expires) = times.expires {
        return match check_time.since(expires) {
            past if past < 0 => Staleness::Fresh,
            past => Staleness::Expired(past),
        };
    }
    if age > max {
        return Staleness::Age(age - max);
    }
    let unchanged = times
        .last_modified
        .map(|modified| times.timestamp.since(modified))
        .filter(|unchanged| *unchanged > 0);
    if let Some(unchanged) = unchanged {
        let lifetime = share(unchanged, percent);
        return if age < lifetime {
            Staleness::Fresh
        } else {
            Staleness::LastModified(age - lifetime)
        };
    }
    if age < min {
        Staleness::Fresh
    } else {
        Staleness::Age(age - min)
    }
}

/// Squid's decision about a stored response at `now`. `rule` is the first refresh rule that matches
/// its subject.
pub fn squid(
    meta: &Meta,
    rule: Option<&RefreshRule>,
    asked: &CacheControl,
    now: UnixTime,
) -> SquidVerdict {
    let times = Times::of(meta);
    let ahead = seconds(asked.min_fresh).unwrap_or(0);
    let check_time = now.plus(ahead);
    let age = now.since(times.timestamp).max(0).saturating_add(ahead);
    let stale = staleness(times, rule, age, check_time);
    if let Some(verdict) = forced(meta, rule, asked, age, stale) {
        return verdict;
    }
    let Some(by) = stale.seconds() else {
        return SquidVerdict::Use(UseBecause::Fresh);
    };
    // Asked only of what is stale: what is fresh is used by the next step anyway.
    if seconds(asked.max_stale).is_some_and(|allowed| by < allowed) {
        return SquidVerdict::Use(UseBecause::MaxStale);
    }
    if by > rule.and_then(|r| r.options.max_stale).unwrap_or(MAX_STALE) {
        return SquidVerdict::Revalidate(RevalidateBecause::MaxStale);
    }
    overridden(rule, age, stale)
}

/// Steps a to d: what asks the origin whatever the staleness says.
fn forced(
    meta: &Meta,
    rule: Option<&RefreshRule>,
    asked: &CacheControl,
    age: i64,
    stale: Staleness,
) -> Option<SquidVerdict> {
    use RevalidateBecause::{Always, ClientMaxAge, MustRevalidate, RefreshIms, ReloadIntoIms};
    let options = rule.map(|rule| rule.options).unwrap_or_default();
    let inputs = meta.inputs();
    let control = &inputs.control;
    if control.no_cache || control.private || inputs.vary_star {
        return Some(SquidVerdict::Revalidate(Always));
    }
    let strict = control.must_revalidate || control.proxy_revalidate || control.s_maxage.is_some();
    if strict && stale != Staleness::Fresh {
        return Some(SquidVerdict::Revalidate(MustRevalidate));
    }
    if asked.if_modified_since && options.refresh_ims {
        return Some(SquidVerdict::Revalidate(RefreshIms));
    }
    if asked.no_cache && !options.ignore_reload {
        return Some(if options.reload_into_ims {
            SquidVerdict::Revalidate(ReloadIntoIms)
        } else {
            SquidVerdict::Reload
        });
    }
    let unheard = |wanted: i64| control.immutable || (wanted == 0 && options.ignore_reload);
    seconds(asked.max_age)
        .filter(|&wanted| !unheard(wanted))
        .is_some_and(|wanted| wanted == 0 || age > wanted)
        .then_some(SquidVerdict::Revalidate(ClientMaxAge))
}

/// Steps h to j: a stale response is used all the same, or not.
fn overridden(rule: Option<&RefreshRule>, age: i64, stale: Staleness) -> SquidVerdict {
    let young =
        |wanted: fn(&RefreshRule) -> bool| rule.is_some_and(|rule| wanted(rule) && age < rule.min);
    match stale {
        Staleness::Fresh => SquidVerdict::Use(UseBecause::Fresh),
        Staleness::Expired(_) if young(|rule| rule.options.override_expire) => {
            SquidVerdict::Use(UseBecause::OverrideExpire)
        }
        Staleness::Expired(_) => SquidVerdict::Revalidate(RevalidateBecause::Expired),
        Staleness::LastModified(_) if young(|rule| rule.options.override_lastmod) => {
            SquidVerdict::Use(UseBecause::OverrideLastmod)
        }
        Staleness::LastModified(_) => SquidVerdict::Revalidate(RevalidateBecause::LastModified),
        Staleness::Age(_) => SquidVerdict::Revalidate(RevalidateBecause::Age),
    }
}

fn seconds(delta: Option<u64>) -> Option<i64> {
    delta.map(|delta| i64::try_from(delta).unwrap_or(i64::MAX))
}

/// Whether Squid keeps a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is kept.
    Keep,
    /// It is an error that is kept until then (`negative_ttl`).
    KeepError(UnixTime),
    /// It is handed on only.
    Refuse,
}

/// Squid's decision whether the answer to a GET is kept. `negative_ttl` is in seconds, 0 by
/// default. That a reply older than the copy held is refused, and that a Vary must be usable, is
/// for the caller.
pub fn admits(
    meta: &Meta,
    rule: Option<&RefreshRule>,
    negative_ttl: i64,
    now: UnixTime,
) -> Admission {
    let keep = |holds: bool| {
        if holds {
            Admission::Keep
        } else {
            Admission::Refuse
        }
    };
    if is_never_kept(meta, rule) {
        return Admission::Refuse;
    }
    let times = Times::of(meta);
    match meta.status() {
        200 | 203 | 300 | 301 | 308 | 410 => {
            let later = now.plus(MINIMUM_EXPIRY_TIME);
            let lasting = squid(meta, rule, &CacheControl::default(), later).is_fresh();
            let store_stale = rule.is_some_and(|rule| rule.options.store_stale);
            // A modification time falls back to the timestamp, so that a body is enough.
            keep(lasting || store_stale || meta.content_length() != Some(0))
        }
        302 | 307 => keep(times.expires.is_some_and(|e| e > times.timestamp)),
        204 | 305 | 400 | 403 | 404 | 405 | 414 | 421 | 500..=504 if negative_ttl > 0 => {
            Admission::KeepError(times.expires.unwrap_or_else(|| now.plus(negative_ttl)))
        }
        _ => Admission::Refuse,
    }
}

fn is_never_kept(meta: &Meta, rule: Option<&RefreshRule>) -> bool {
    let options = rule.map(|rule| rule.options).unwrap_or_default();
    let control = &meta.inputs().control;
    let shared_by_word =
        control.public || control.must_revalidate || control.no_cache || control.s_maxage.is_some();
    (control.no_store && !options.ignore_no_store)
        || (control.private && !options.ignore_private)
        || !control.no_cache_fields.is_empty()
        || (meta.inputs().authorized && !shared_by_word)
}
