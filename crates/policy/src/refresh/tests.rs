//! Squid's refresh decisions as tables.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::cache_control::CacheControl;
use crate::meta::{Fetched, Meta, UnixTime};

const CAME: i64 = 1_700_000_000;
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// `refresh_pattern -i \.(deb|rpm|…)$ 10080 90% 43200 override-expire ignore-no-store …`
fn packages() -> RefreshRule {
    RefreshRule {
        options: Overrides {
            override_expire: true,
            ignore_no_store: true,
            ignore_private: true,
            ..Overrides::default()
        },
        ..rule(r"(?i)\.(deb|rpm|tar|tar.gz|tgz)$", 7 * DAY, 90, 30 * DAY)
    }
}

fn rule(pattern: &str, min: i64, percent: u32, max: i64) -> RefreshRule {
    let pattern = Pattern::new(pattern).unwrap();
    RefreshRule {
        catch_all: pattern.is_catch_all(),
        text: pattern.to_string(),
        pattern,
        min,
        percent,
        max,
        options: Overrides::default(),
    }
}

fn with(options: Overrides) -> RefreshRule {
    RefreshRule {
        options,
        ..rule(".", 7 * DAY, 90, 30 * DAY)
    }
}

fn meta(status: u16, fields: &[(&str, &str)], delay: i64) -> Meta {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let fetched = Fetched {
        request_time: UnixTime(CAME - delay),
        response_time: UnixTime(CAME),
        authorized: fields
            .iter()
            .any(|(name, _)| *name == "x-asked-with-authorization"),
        ..Fetched::default()
    };
    Meta::new(status, headers, fetched)
}

fn date(since_came: i64) -> String {
    UnixTime(CAME + since_came).to_http_date()
}

/// A reply with a Date, `Last-Modified` so many seconds before it, and Cache-Control.
fn reply(modified_before: Option<i64>, control: &str) -> Meta {
    let (now, modified) = (date(0), modified_before.map(|before| date(-before)));
    let mut fields = vec![("date", now.as_str())];
    fields.extend(modified.as_deref().map(|text| ("last-modified", text)));
    fields.extend((!control.is_empty()).then_some(("cache-control", control)));
    meta(200, &fields, 0)
}

fn request(control: &str) -> CacheControl {
    let mut headers = HeaderMap::new();
    if !control.is_empty() {
        headers.insert("cache-control", HeaderValue::from_str(control).unwrap());
    }
    CacheControl::of_request(&headers)
}

fn at(meta: &Meta, rule: &RefreshRule, asked: &str, age: i64) -> SquidVerdict {
    squid(meta, Some(rule), &request(asked), UnixTime(CAME + age))
}

/// The last second at which it is used, given that it is used at once and not for ever.
fn used_until(meta: &Meta, rule: &RefreshRule) -> i64 {
    let used = |age: i64| at(meta, rule, "", age).is_fresh();
    let (mut low, mut high) = (0, 400 * DAY);
    assert!(used(low) && !used(high));
    while high - low > 1 {
        let middle = i64::midpoint(low, high);
        if used(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[test]
fn the_seeds_rules_judge_the_known_replies() {
    let packages = packages();
    // An rpm of a mirror, changed 100 days ago: 90 % would be 90 days, max cuts at 30.
    assert_eq!(used_until(&reply(Some(100 * DAY), ""), &packages), 30 * DAY);
    // A fresh update, changed an hour ago: 90 % of that; min does not help.
    assert_eq!(used_until(&reply(Some(HOUR), ""), &packages), 54 * 60 - 1);
    // Nothing known: min.
    assert_eq!(used_until(&reply(None, ""), &packages), 7 * DAY - 1);
    // A CDN's hour: then override-expire, until min.
    let cdn = reply(Some(100 * DAY), "max-age=3600");
    assert_eq!(used_until(&cdn, &packages), 7 * DAY - 1);
    assert_eq!(at(&cdn, &packages, "", HOUR - 1).step(), 'f');
    assert_eq!(at(&cdn, &packages, "", HOUR).step(), 'h');
    assert_eq!(
        at(&cdn, &packages, "", 7 * DAY),
        SquidVerdict::Revalidate(RevalidateBecause::Expired)
    );
    // must-revalidate comes before override-expire.
    assert_eq!(
        at(&reply(None, "max-age=0, must-revalidate"), &packages, "", 0),
        SquidVerdict::Revalidate(RevalidateBecause::MustRevalidate)
    );
    // repomd.xml, changed 10 hours ago, falls to the last rule: two hours without asking.
    let repomd = reply(Some(10 * HOUR), "");
    assert_eq!(
        used_until(&repomd, &rule(".", 0, 20, 3 * DAY)),
        2 * HOUR - 1
    );
}

#[test]
fn without_a_rule_the_share_is_a_fifth_and_the_bound_three_days() {
    let used = |before: Option<i64>, age: i64| {
        let asked = CacheControl::default();
        squid(&reply(before, ""), None, &asked, UnixTime(CAME + age)).is_fresh()
    };
    assert!(used(Some(10 * HOUR), 2 * HOUR - 1) && !used(Some(10 * HOUR), 2 * HOUR));
    assert!(used(Some(100 * DAY), 3 * DAY) && !used(Some(100 * DAY), 3 * DAY + 1));
    assert!(!used(None, 0));
}

type Step<'a> = (Option<i64>, &'a str, Overrides, &'a str, i64, &'a str);

fn check_steps(steps: &[Step<'_>]) {
    for (modified, control, options, asked, age, wanted) in steps {
        let verdict = at(&reply(*modified, control), &with(*options), asked, *age);
        let got = format!(
            "{}{}",
            verdict.step(),
            if verdict.is_fresh() { '+' } else { '-' }
        );
        assert_eq!(
            got, *wanted,
            "{modified:?} {control} {options:?} {asked} {age}"
        );
    }
}

#[test]
fn steps_a_to_d_ask_whatever_the_staleness() {
    let plain = Overrides::default();
    let private = Overrides {
        ignore_private: true,
        ..plain
    };
    let ignore_reload = Overrides {
        ignore_reload: true,
        ..plain
    };
    let into_ims = Overrides {
        reload_into_ims: true,
        ..plain
    };
    let expire = Overrides {
        override_expire: true,
        ..plain
    };
    check_steps(&[
        (None, "no-cache, max-age=9", plain, "", 0, "a-"),
        (None, "private, max-age=9", private, "", 0, "a-"),
        (None, "max-age=9, must-revalidate", expire, "", 8, "f+"),
        (None, "max-age=9, must-revalidate", expire, "", 9, "a-"),
        (None, "max-age=9, proxy-revalidate", expire, "", 9, "a-"),
        (None, "s-maxage=9", expire, "", 9, "a-"),
        (None, "max-age=99", plain, "no-cache", 0, "c-"),
        (None, "max-age=99", into_ims, "no-cache", 0, "c-"),
        (None, "max-age=99", ignore_reload, "no-cache", 0, "f+"),
        (None, "max-age=99", plain, "max-age=0", 0, "d-"),
        (None, "max-age=99", ignore_reload, "max-age=0", 0, "f+"),
        (None, "max-age=99", ignore_reload, "max-age=5", 6, "d-"),
        (None, "max-age=99", plain, "max-age=5", 5, "f+"),
        (None, "max-age=99, immutable", plain, "max-age=0", 5, "f+"),
    ]);
}

#[test]
fn steps_e_to_j_weigh_the_staleness() {
    let plain = Overrides::default();
    let expire = Overrides {
        override_expire: true,
        ..plain
    };
    let lastmod = Overrides {
        override_lastmod: true,
        ..plain
    };
    let patient = Overrides {
        max_stale: Some(60),
        ..expire
    };
    check_steps(&[
        (None, "max-age=9", plain, "max-stale", DAY, "e+"),
        (None, "max-age=9", plain, "max-stale=5", 13, "e+"),
        (None, "max-age=9", plain, "max-stale=5", 14, "h-"),
        (None, "max-age=9", plain, "min-fresh=5", 3, "f+"),
        (None, "max-age=9", plain, "min-fresh=5", 4, "h-"),
        (None, "max-age=9", expire, "", 9 + DAY, "h+"),
        (None, "max-age=9", patient, "", 69, "h+"),
        (None, "max-age=9", patient, "", 70, "g-"),
        (Some(HOUR), "", plain, "", HOUR, "i-"),
        (Some(HOUR), "", lastmod, "", HOUR, "i+"),
        (Some(HOUR), "", lastmod, "", 7 * DAY, "i-"),
        (Some(400 * DAY), "", lastmod, "", 30 * DAY + 1, "j-"),
        (None, "", plain, "", 7 * DAY, "j-"),
    ]);
}

#[test]
fn override_expire_ends_a_week_after_the_expiry() {
    let options = Overrides {
        override_expire: true,
        ..Overrides::default()
    };
    let rule = RefreshRule {
        min: 30 * DAY,
        ..with(options)
    };
    assert_eq!(used_until(&reply(None, "max-age=60"), &rule), 7 * DAY + 60);
    let old = meta(200, &[("date", &date(0)), ("expires", &date(-8 * DAY))], 0);
    assert_eq!(at(&old, &rule, "", 0).step(), 'g');
}

#[test]
fn refresh_ims_and_vary_star_ask_the_origin() {
    let asked = CacheControl {
        if_modified_since: true,
        ..CacheControl::default()
    };
    let rule = with(Overrides {
        refresh_ims: true,
        ..Overrides::default()
    });
    let fresh = reply(None, "max-age=99");
    assert_eq!(
        squid(&fresh, Some(&rule), &asked, UnixTime(CAME)).step(),
        'b'
    );
    let plain = with(Overrides::default());
    assert!(squid(&fresh, Some(&plain), &asked, UnixTime(CAME)).is_fresh());
    let varies = meta(200, &[("vary", "*"), ("cache-control", "max-age=99")], 0);
    assert_eq!(at(&varies, &plain, "", 0).step(), 'a');
}

#[test]
fn a_failure_to_ask_is_hidden_only_where_squid_hides_it() {
    let rule = with(Overrides::default());
    for (control, age, forbidden) in [
        ("max-age=9", 10, false),
        ("max-age=9", 9 + 8 * DAY, true),
        ("max-age=9, must-revalidate", 10, true),
        ("no-cache", 0, true),
    ] {
        let verdict = at(&reply(None, control), &rule, "", age);
        assert_eq!(verdict.forbids_stale(), forbidden, "{control} {age}");
    }
}

#[test]
fn timestamps_follow_date_age_and_the_origins_delay() {
    for (fields, delay, wanted) in [
        (vec![("date", date(-100))], 0, -100),
        (vec![("date", date(100))], 0, 0),
        (vec![("date", date(-DAY - 1))], 0, 0),
        (vec![], 0, 0),
        (
            vec![("date", date(-100)), ("age", "40".to_owned())],
            3,
            -103,
        ),
        (
            vec![("date", date(-100)), ("age", "400".to_owned())],
            3,
            -403,
        ),
        (vec![("age", "junk".to_owned())], 0, 0),
    ] {
        let borrowed: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let times = Times::of(&meta(200, &borrowed, delay));
        assert_eq!(times.timestamp.since(UnixTime(CAME)), wanted, "{fields:?}");
    }
}

#[test]
fn the_expiry_moves_with_the_timestamp() {
    let expiry = |fields: &[(&str, &str)]| {
        let times = Times::of(&meta(200, fields, 0));
        times.expires.map(|expires| expires.since(UnixTime(CAME)))
    };
    let (before, after) = (date(-100), date(60));
    assert_eq!(expiry(&[("date", &before), ("expires", &after)]), Some(60));
    assert_eq!(
        expiry(&[("date", &before), ("cache-control", "max-age=30")]),
        Some(-70)
    );
    assert_eq!(
        expiry(&[("date", &date(1000)), ("cache-control", "max-age=30")]),
        Some(30)
    );
    assert_eq!(
        expiry(&[("cache-control", "max-age=30")]),
        Some(0),
        "no Date: now"
    );
    assert_eq!(expiry(&[("date", &date(0)), ("expires", "0")]), Some(0));
    assert_eq!(expiry(&[("date", &date(0))]), None);
}

fn admitted(status: u16, fields: &[(&str, &str)], negative_ttl: i64) -> String {
    let today = date(0);
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| {
            (
                *name,
                if *value == "now" {
                    today.as_str()
                } else {
                    value
                },
            )
        })
        .collect();
    let plain = rule(".", 0, 20, 3 * DAY);
    let now = UnixTime(CAME);
    match admits(&meta(status, &fields, 0), Some(&plain), negative_ttl, now) {
        Admission::Keep => "keep".to_owned(),
        Admission::KeepError(until) => format!("until {}", until.since(now)),
        Admission::Refuse => "refuse".to_owned(),
    }
}

const DATED: (&str, &str) = ("date", "now");
const EMPTY: (&str, &str) = ("content-length", "0");
const LASTING: (&str, &str) = ("cache-control", "max-age=600");
const AUTHORIZED: (&str, &str) = ("x-asked-with-authorization", "");

#[test]
fn admission_follows_the_status() {
    for (status, fields, negative_ttl, wanted) in [
        (200, vec![], 0, "keep"),
        (200, vec![EMPTY], 0, "refuse"),
        (200, vec![EMPTY, DATED, LASTING], 0, "keep"),
        (206, vec![], 0, "refuse"),
        (301, vec![], 0, "keep"),
        (302, vec![], 0, "refuse"),
        (302, vec![DATED, LASTING], 0, "keep"),
        (404, vec![DATED, LASTING], 0, "refuse"),
        (404, vec![DATED, LASTING], 30, "until 600"),
        (404, vec![], 30, "until 30"),
        (503, vec![], 30, "until 30"),
        (418, vec![], 30, "refuse"),
    ] {
        assert_eq!(
            admitted(status, &fields, negative_ttl),
            wanted,
            "{status} {fields:?}"
        );
    }
}

#[test]
fn admission_heeds_the_origins_word() {
    for (fields, wanted) in [
        (vec![("cache-control", "no-store")], "refuse"),
        (vec![("cache-control", "private")], "refuse"),
        (vec![("cache-control", "no-cache=\"x\"")], "refuse"),
        (vec![AUTHORIZED], "refuse"),
        (vec![AUTHORIZED, ("cache-control", "public")], "keep"),
    ] {
        assert_eq!(admitted(200, &fields, 0), wanted, "{fields:?}");
    }
}

#[test]
fn the_options_admit_what_the_origin_forbids() {
    let kept = |options: Overrides, fields: &[(&str, &str)]| {
        let answer = admits(
            &meta(200, fields, 0),
            Some(&with(options)),
            0,
            UnixTime(CAME),
        );
        answer == Admission::Keep
    };
    let plain = Overrides::default();
    let no_store = [("cache-control", "no-store")];
    let private = [("cache-control", "private")];
    let empty = [("content-length", "0"), ("cache-control", "max-age=0")];
    assert!(kept(
        Overrides {
            ignore_no_store: true,
            ..plain
        },
        &no_store
    ));
    assert!(kept(
        Overrides {
            ignore_private: true,
            ..plain
        },
        &private
    ));
    assert!(!kept(
        Overrides {
            ignore_private: true,
            ..plain
        },
        &no_store
    ));
    assert!(kept(
        Overrides {
            store_stale: true,
            ..plain
        },
        &empty
    ));
    assert!(!kept(plain, &empty));
}

#[test]
fn the_first_rule_that_matches_applies() {
    let rules = RefreshRules::new(vec![
        packages(),
        rule("/repodata/", 0, 0, 0),
        rule("^ftp:", 0, 0, 0),
        rule("/never1", 0, 0, 0),
        rule("/never2", 0, 0, 0),
        rule(".", 0, 20, 3 * DAY),
    ]);
    for (subject, wanted) in [
        (
            "http://m/repodata/a.RPM",
            Some(r"(?i)\.(deb|rpm|tar|tar.gz|tgz)$"),
        ),
        ("http://m/repodata/repomd.xml", Some("/repodata/")),
        ("http://m/", Some(".")),
        ("", None),
    ] {
        let got = rules.rule_for(subject).map(|rule| rule.text.as_str());
        assert_eq!(got, wanted, "{subject}");
    }
    assert_eq!(
        rules.rules().iter().filter(|rule| rule.catch_all).count(),
        1
    );
}

#[test]
fn shares_do_not_wrap() {
    assert_eq!(share(i64::MAX, u32::MAX), i64::MAX);
    assert_eq!(share(5, 90), 4);
}
