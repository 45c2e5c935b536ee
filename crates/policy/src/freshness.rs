//! How long a stored response stays fresh: class, refresh rule and RFC 9111 in one judgement.
//!
//! Where no refresh rule matches, the class decides: an immutable file is fresh for thirty days
//! whatever max-age or no-cache say, a root file is asked about at each use, the rest follows
//! RFC 9111 with a bounded heuristic (§4.2.2). Where a rule matches, Squid's algorithm decides,
//! with three departures: override-expire does not end a week after Expires; what ignore-private
//! or ignore-no-store admitted is not revalidated each time; and a rule that matches every URL
//! never keeps a root file fresh beyond a minute. A rule's max-stale and a stale-if-error, be it the
//! origin's or the client's, bound how stale a copy is used when the origin cannot be asked; without
//! them there is no bound. [`Semantics::Squid`] has none of this but the origin's stale-if-error: there
//! [`refresh::squid()`] alone decides.
//!
//! Class and rules speak of files: an answer of another status than 200 lives as long as RFC 9111
//! lets it, and a 404 for a second, or for a minute where the file is often missing.

use crate::cache_control::CacheControl;
use crate::class::{Class, is_often_missing};
use crate::meta::{Inputs, Meta, UnixTime};
use crate::policy::Semantics;
use crate::refresh::{self, RefreshRule};

const DAY: i64 = 86_400;
/// How long an immutable file is fresh.
const IMMUTABLE_LIFETIME: i64 = 30 * DAY;
/// A rule that matches everything keeps a root file no longer than this.
const CAUGHT_ROOT_LIFETIME: i64 = 60;
/// How long a 404 or 410 of a file that is often missing is believed, and how long any other: as
/// long as a herd that asks for the same file takes.
const MISSING_LIFETIME: i64 = 60;
const HERD_LIFETIME: i64 = 1;
/// RFC 9111 §4.2.2 suggests a tenth of the time since the last change.
const HEURISTIC_PERCENT: i64 = 10;

/// What is known about an entry's freshness at one moment. All times in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Freshness lifetime (RFC 9111 §4.2.1).
    pub lifetime: i64,
    /// Current age (RFC 9111 §4.2.3).
    pub age: i64,
    /// The origin is asked at each use, however fresh.
    pub always_ask: bool,
    /// It must not be used stale, even when the origin cannot be asked (RFC 9111 §4.2.4).
    pub strict: bool,
    /// It is staler than it may be used when the origin cannot be asked (RFC 5861 §4).
    pub outlasted: bool,
}

impl Judgement {
    /// True if it may be used without asking.
    pub fn is_fresh(&self) -> bool {
        !self.always_ask && self.age < self.lifetime
    }

    /// Remaining lifetime; negative when stale.
    pub fn ttl(&self) -> i64 {
        self.lifetime.saturating_sub(self.age)
    }
}

/// Judges a stored response at `now`. `rule` is the first refresh rule that matches its subject,
/// `request` what the client asks of freshness (it matters to Squid's algorithm alone).
pub fn judge(
    meta: &Meta,
    class: Class,
    rule: Option<&RefreshRule>,
    semantics: Semantics,
    request: &CacheControl,
    now: UnixTime,
) -> Judgement {
    let judged = match (semantics, rule) {
        (Semantics::Squid, rule) => by_squid(meta, rule, request, now),
        (Semantics::Larder, _) if meta.status() != 200 => by_standard(meta, DAY, now),
        (Semantics::Larder, Some(rule)) => by_rule(meta, class, rule, now),
        (Semantics::Larder, None) => by_class(meta, class, now),
    };
    Judgement {
        outlasted: is_outlasted(meta, class, semantics, request, judged),
        ..judged
    }
}

/// RFC 5861 §4: the origin's stale-if-error and the client's own say for how long a stale copy
/// stands in for an origin that fails. An immutable file is as good as it was, whatever its origin
/// says; Squid does not hear the client.
fn is_outlasted(
    meta: &Meta,
    class: Class,
    semantics: Semantics,
    request: &CacheControl,
    judged: Judgement,
) -> bool {
    let inputs = meta.inputs();
    let said = inputs.explicit_lifetime.map(seconds);
    let by_squid = semantics == Semantics::Squid;
    let lifetime = if by_squid {
        said.unwrap_or(judged.lifetime)
    } else {
        judged.lifetime.max(said.unwrap_or(0))
    };
    let origins = inputs.control.stale_if_error;
    let origins = origins.filter(|_| by_squid || class != Class::Immutable);
    let clients = request.stale_if_error.filter(|_| !by_squid);
    let bound = origins.into_iter().chain(clients).min().map(seconds);
    let staleness = judged.age.saturating_sub(lifetime);
    !judged.is_fresh() && bound.is_some_and(|bound| staleness >= bound)
}

fn by_class(meta: &Meta, class: Class, now: UnixTime) -> Judgement {
    let inputs = meta.inputs();
    let age = inputs.current_age(now);
    let said = inputs.explicit_lifetime.map(seconds);
    match class {
        Class::Immutable => Judgement {
            lifetime: said.unwrap_or(0).max(IMMUTABLE_LIFETIME),
            age,
            always_ask: false,
            strict: false,
            outlasted: false,
        },
        Class::Root => Judgement {
            lifetime: 0,
            age,
            always_ask: true,
            strict: is_strict(inputs),
            outlasted: false,
        },
        Class::Volatile => by_standard(meta, DAY / 24, now),
        Class::Image | Class::Other => by_standard(meta, DAY, now),
    }
}

/// RFC 9111 §4.2 with a bound on what is guessed.
fn by_standard(meta: &Meta, bound: i64, now: UnixTime) -> Judgement {
    let inputs = meta.inputs();
    let said = inputs.explicit_lifetime.map(seconds);
    Judgement {
        lifetime: said.unwrap_or_else(|| heuristic(meta, bound)),
        age: inputs.current_age(now),
        always_ask: inputs.control.no_cache || inputs.vary_star,
        strict: is_strict(inputs),
        outlasted: false,
    }
}

fn by_rule(meta: &Meta, class: Class, rule: &RefreshRule, now: UnixTime) -> Judgement {
    let inputs = meta.inputs();
    let age = inputs.current_age(now);
    let options = &rule.options;
    let mut lifetime = match inputs.explicit_lifetime.map(seconds) {
        Some(said) if options.override_expire => said.max(rule.min),
        Some(said) => said,
        None => rule_lifetime(inputs, rule),
    };
    let mut always_ask = (inputs.control.no_cache && !options.ignore_no_cache) || inputs.vary_star;
    if class == Class::Root && rule.catch_all {
        lifetime = lifetime.min(CAUGHT_ROOT_LIFETIME);
    }
    if inputs.control.private && !options.ignore_private {
        always_ask = true;
    }
    let strict = is_strict(inputs) && !options.ignore_must_revalidate;
    if strict && inputs.explicit_lifetime.is_some() {
        // Squid's order: must-revalidate comes before override-expire and is not rescued by it.
        lifetime = inputs.explicit_lifetime.map_or(lifetime, seconds);
    }
    let staleness = age.saturating_sub(lifetime);
    let too_stale = options.max_stale.is_some_and(|bound| staleness > bound);
    Judgement {
        lifetime,
        age,
        always_ask,
        strict: strict || too_stale,
        outlasted: false,
    }
}

/// What min, percent and max make of a response without an explicit lifetime (facts of Squid:
/// min floors only where Last-Modified is missing, or with override-lastmod).
fn rule_lifetime(inputs: &Inputs, rule: &RefreshRule) -> i64 {
    let by_date = inputs
        .last_modified
        .map(|modified| inputs.date.since(modified))
        .filter(|since| *since > 0)
        .map(|since| rule.share_of(since));
    let lifetime = match by_date {
        Some(lifetime) if rule.options.override_lastmod => lifetime.max(rule.min),
        Some(lifetime) => lifetime,
        None => rule.min,
    };
    lifetime.min(rule.max)
}

fn by_squid(
    meta: &Meta,
    rule: Option<&RefreshRule>,
    request: &CacheControl,
    now: UnixTime,
) -> Judgement {
    let inputs = meta.inputs();
    let verdict = refresh::squid(meta, rule, request, now);
    let age = inputs.current_age(now);
    Judgement {
        lifetime: if verdict.is_fresh() {
            age.saturating_add(1)
        } else {
            age
        },
        age,
        always_ask: !verdict.is_fresh(),
        strict: verdict.forbids_stale(),
        outlasted: false,
    }
}

/// RFC 9111 §4.2.2, for the statuses that are heuristically cacheable (RFC 9110 §15.1) or public.
fn heuristic(meta: &Meta, bound: i64) -> i64 {
    let inputs = meta.inputs();
    if !heuristic_status(meta.status()) && !inputs.control.public {
        return 0;
    }
    let missing = matches!(meta.status(), 404 | 410);
    if missing && is_often_missing(path_of(meta.url())) {
        return MISSING_LIFETIME;
    }
    let least = if missing { HERD_LIFETIME } else { 0 };
    inputs.last_modified.map_or(least, |modified| {
        percent_of(inputs.date.since(modified).max(least), HEURISTIC_PERCENT)
            .min(bound)
            .max(least)
    })
}

/// The path of a URL in normal form.
fn path_of(url: &str) -> &str {
    let path = url.split('?').next().unwrap_or(url);
    path.splitn(4, '/').nth(3).unwrap_or(path)
}

/// RFC 9110 §15.1.
pub fn heuristic_status(status: u16) -> bool {
    matches!(
        status,
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// RFC 9111 §4.2.4: directives that forbid stale use by a shared cache.
fn is_strict(inputs: &Inputs) -> bool {
    let control = &inputs.control;
    control.must_revalidate
        || control.proxy_revalidate
        || control.no_cache
        || control.s_maxage.is_some()
}

fn seconds(delta: u64) -> i64 {
    i64::try_from(delta).unwrap_or(i64::MAX)
}

/// `value` × `percent` / 100 in whole seconds; large values do not wrap.
fn percent_of(value: i64, percent: i64) -> i64 {
    i64::try_from(i128::from(value) * i128::from(percent) / 100).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Fetched;
    use http::{HeaderMap, HeaderName, HeaderValue};

    const NOW: i64 = 1_700_000_000;

    fn meta(fields: &[(&str, String)]) -> Meta {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let at = UnixTime(NOW);
        Meta::new(
            200,
            headers,
            Fetched {
                request_time: at,
                response_time: at,
                ..Fetched::default()
            },
        )
    }

    fn modified(before: i64) -> (&'static str, String) {
        ("last-modified", UnixTime(NOW - before).to_http_date())
    }

    fn control(text: &str) -> (&'static str, String) {
        ("cache-control", text.to_owned())
    }

    fn judged(class: Class, fields: &[(&str, String)]) -> (i64, bool) {
        let meta = meta(fields);
        let request = CacheControl::default();
        let judged = judge(
            &meta,
            class,
            None,
            Semantics::Larder,
            &request,
            UnixTime(NOW + 5),
        );
        assert_eq!(judged.age, 5);
        (judged.lifetime, judged.always_ask)
    }

    #[test]
    fn without_a_rule_the_class_decides() {
        assert_eq!(
            judged(Class::Immutable, &[control("max-age=0, no-cache")]),
            (30 * DAY, false)
        );
        assert_eq!(judged(Class::Root, &[control("max-age=99")]), (0, true));
        assert_eq!(
            judged(Class::Volatile, &[control("max-age=99")]),
            (99, false)
        );
        assert_eq!(
            judged(Class::Volatile, &[modified(10 * DAY)]),
            (3600, false)
        );
        assert_eq!(judged(Class::Volatile, &[modified(1000)]), (100, false));
        assert_eq!(judged(Class::Image, &[modified(100 * DAY)]), (DAY, false));
        assert_eq!(judged(Class::Other, &[control("no-cache")]), (0, true));
        assert_eq!(judged(Class::Other, &[]), (0, false));
    }

    #[test]
    fn rules_and_classes_speak_of_files_not_of_errors() {
        let judged = |status, url: &str, fields: &[(&str, String)]| {
            let good = meta(fields);
            let fetched = Fetched {
                url: url.to_owned(),
                ..good.fetched()
            };
            let meta = Meta::new(status, good.headers().clone(), fetched);
            let rule = RefreshRule {
                pattern: crate::store_id::Pattern::new(r"\.(rpm|img)$").unwrap(),
                min: 7 * DAY,
                percent: 90,
                max: 30 * DAY,
                options: refresh::Overrides::default(),
                catch_all: false,
                text: String::new(),
            };
            let request = CacheControl::default();
            let at = UnixTime(NOW);
            let larder = Semantics::Larder;
            judge(&meta, Class::Immutable, Some(&rule), larder, &request, at).lifetime
        };
        let rpm = "http://m/x-1.rpm";
        assert_eq!(judged(404, rpm, &[]), 1);
        assert_eq!(judged(404, rpm, &[control("max-age=9")]), 9);
        for name in [
            "images/updates.img",
            "repodata/repomd.xml.asc",
            "repodata/repomd.xml.key",
            "dists/stable/InRelease",
            "dists/stable/Release.gpg",
        ] {
            assert_eq!(judged(404, &format!("http://m/{name}"), &[]), 60, "{name}");
        }
        assert_eq!(judged(503, "http://m/images/updates.img", &[]), 0);
        assert_eq!(judged(200, rpm, &[]), 7 * DAY);
    }

    #[test]
    fn must_revalidate_and_its_like_forbid_stale_use() {
        for (text, strict) in [
            ("max-age=5", false),
            ("max-age=5, must-revalidate", true),
            ("max-age=5, proxy-revalidate", true),
            ("s-maxage=5", true),
            ("no-cache", true),
        ] {
            let meta = meta(&[control(text)]);
            let request = CacheControl::default();
            let judged = judge(
                &meta,
                Class::Other,
                None,
                Semantics::Larder,
                &request,
                UnixTime(NOW),
            );
            assert_eq!(judged.strict, strict, "{text}");
        }
    }

    #[test]
    fn heuristics_do_not_wrap() {
        assert_eq!(percent_of(i64::MAX, 200), i64::MAX);
    }
}
