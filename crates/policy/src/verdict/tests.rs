//! What a refresh rule's words do to requests and answers, under either semantics.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::refresh::Overrides;
use crate::store_id::Pattern;
use crate::url::Url;

const CAME: i64 = 1_700_000_000;
const DAY: i64 = 86_400;

fn fields(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

fn rule(options: Overrides) -> RefreshRule {
    RefreshRule {
        pattern: Pattern::new("Release|deb").unwrap(),
        min: 0,
        percent: 20,
        max: 3 * DAY,
        options,
        catch_all: false,
        text: String::new(),
    }
}

fn rules(rule: &RefreshRule, semantics: Semantics) -> Rules<'_> {
    Rules {
        class: Class::Other,
        refresh: Some(rule),
        semantics,
        offline: false,
        object_bytes_max: u64::MAX,
    }
}

fn fetched() -> Fetched {
    Fetched {
        url: "http://m.example/x.deb".to_owned(),
        request_time: UnixTime(CAME),
        response_time: UnixTime(CAME),
        ..Fetched::default()
    }
}

/// Whether the origin is asked, for a request with these fields so many seconds after an answer
/// with those.
fn asks(
    options: Overrides,
    semantics: Semantics,
    held: &[(&str, &str)],
    request: &[(&str, &str)],
    age: i64,
) -> Option<Ask> {
    let rule = rule(options);
    let mut held = fields(held);
    let date = UnixTime(CAME).to_http_date();
    held.insert(DATE, HeaderValue::from_str(&date).unwrap());
    let meta = Meta::new(200, held, fetched());
    let control = CacheControl::of_request(&fields(request));
    let rules = rules(&rule, semantics);
    match before_fetch(&control, Some(&meta), rules, UnixTime(CAME + age)) {
        BeforeFetch::Hit(_) => None,
        BeforeFetch::Revalidate(why, _) => Some(why),
        other => panic!("{other:?}"),
    }
}

const BOTH: [Semantics; 2] = [Semantics::Larder, Semantics::Squid];

#[test]
fn refresh_ims_asks_the_origin_for_a_client_with_a_condition() {
    let release: [(&str, &str); 1] = [("last-modified", "Wed, 01 Nov 2023 00:00:00 GMT")];
    let condition = [("if-modified-since", "Wed, 01 Nov 2023 00:00:00 GMT")];
    let refresh_ims = Overrides {
        refresh_ims: true,
        ..Overrides::default()
    };
    for semantics in BOTH {
        let asks = |options, request| asks(options, semantics, &release, request, 60);
        assert_eq!(asks(refresh_ims, &condition), Some(Ask::Client));
        assert_eq!(asks(refresh_ims, &[]), None);
        assert_eq!(asks(Overrides::default(), &condition), None);
    }
}

#[test]
fn squids_order_hears_the_clients_words_as_squid_does() {
    let immutable = [("cache-control", "max-age=99, immutable")];
    let plain = [("cache-control", "max-age=99")];
    let stale_allowed = [("cache-control", "max-age=9, stale-while-revalidate=99")];
    let now = [("cache-control", "max-age=0")];
    let reload = [("cache-control", "no-cache")];
    let none = Overrides::default();
    let asks = |held, request, age| BOTH.map(|s| asks(none, s, held, request, age));
    assert_eq!(asks(&immutable, &now, 5), [Some(Ask::Client), None]);
    assert_eq!(asks(&plain, &now, 5), [Some(Ask::Client); 2]);
    assert_eq!(asks(&plain, &reload, 5), [Some(Ask::Client); 2]);
    assert_eq!(asks(&plain, &[], 99), [Some(Ask::Stale); 2]);
    let rule = rule(none);
    let meta = Meta::new(200, fields(&stale_allowed), fetched());
    let control = CacheControl::default();
    let [by_larder, by_squid] = BOTH.map(|semantics| {
        let rules = rules(&rule, semantics);
        before_fetch(&control, Some(&meta), rules, UnixTime(CAME + 20))
    });
    assert!(matches!(by_larder, BeforeFetch::HitWhileAsking(_)));
    assert!(matches!(by_squid, BeforeFetch::Revalidate(Ask::Stale, _)));
}

#[test]
fn a_copy_that_is_staler_than_max_stale_does_not_stand_in_for_the_origin() {
    let meta = Meta::new(200, fields(&[("cache-control", "max-age=9")]), fetched());
    for (max_stale, age, semantics, served) in [
        (None, 20 * DAY, Semantics::Larder, OnError::ServeStale),
        (Some(60), 60, Semantics::Larder, OnError::ServeStale),
        (Some(60), 70, Semantics::Larder, OnError::PassOn),
        (None, 20 * DAY, Semantics::Squid, OnError::PassOn),
        (Some(60), 70, Semantics::Squid, OnError::PassOn),
        (Some(60), 60, Semantics::Squid, OnError::ServeStale),
    ] {
        let rule = rule(Overrides {
            max_stale,
            ..Overrides::default()
        });
        let judged = freshness::judge(
            &meta,
            Class::Other,
            Some(&rule),
            semantics,
            &CacheControl::default(),
            UnixTime(CAME + age),
        );
        let found = on_error(judged, Class::Other, false, None);
        assert_eq!(found, served, "{max_stale:?} {age} {semantics:?}");
    }
}

/// Whether an answer is kept.
fn keeps(options: Overrides, semantics: Semantics, status: u16, head: &[(&str, &str)]) -> bool {
    let rule = rule(options);
    let url = Url::parse(&fetched().url).unwrap();
    let headers = fields(head);
    let answer = Answer {
        status,
        headers: &headers,
        length: headers
            .get("content-length")
            .and_then(|length| length.to_str().ok()?.parse().ok()),
    };
    let verdict = after_fetch(
        answer,
        &HeaderMap::new(),
        &CacheKey::of_url(&url),
        fetched(),
        rules(&rule, semantics),
    );
    matches!(verdict, AfterFetch::Store(..))
}

#[test]
fn store_stale_keeps_what_is_stale_at_once() {
    let store_stale = Overrides {
        store_stale: true,
        ..Overrides::default()
    };
    let stale = [("cache-control", "max-age=0"), ("content-length", "9")];
    let moved = [("location", "/y"), ("content-length", "0")];
    let none = Overrides::default();
    assert!(!keeps(none, Semantics::Larder, 200, &stale));
    assert!(keeps(store_stale, Semantics::Larder, 200, &stale));
    assert!(!keeps(none, Semantics::Larder, 301, &moved));
    for semantics in BOTH {
        assert!(keeps(store_stale, semantics, 301, &moved));
        let secret = [("cache-control", "no-store"), ("content-length", "9")];
        assert!(!keeps(store_stale, semantics, 200, &secret));
    }
}

#[test]
fn under_squids_semantics_squid_decides_what_is_kept() {
    let none = Overrides::default();
    for (status, head, by_larder, by_squid) in [
        // A body is enough for Squid: its time of arrival is a validator.
        (
            200,
            [("cache-control", "max-age=0"), ("content-length", "9")],
            false,
            true,
        ),
        (
            200,
            [("cache-control", "max-age=0"), ("content-length", "0")],
            false,
            false,
        ),
        (
            200,
            [("cache-control", "no-cache=\"x\""), ("content-length", "9")],
            false,
            false,
        ),
        (
            302,
            [("cache-control", "max-age=99"), ("content-length", "9")],
            true,
            true,
        ),
        (
            302,
            [("location", "/y"), ("content-length", "9")],
            false,
            false,
        ),
        (
            404,
            [("cache-control", "max-age=99"), ("content-length", "9")],
            true,
            false,
        ),
        (
            206,
            [("cache-control", "max-age=99"), ("content-length", "9")],
            false,
            false,
        ),
    ] {
        let kept = BOTH.map(|semantics| keeps(none, semantics, status, &head));
        assert_eq!(kept, [by_larder, by_squid], "{status} {head:?}");
    }
}

#[test]
fn a_reload_wants_no_copy_that_is_not_confirmed() {
    // RFC 9111 §5.2.1.4
    use OnError::{PassOn, ServeStale};
    for (class, status, wanted) in [
        (Class::Other, None, PassOn),
        (Class::Other, Some(503), PassOn),
        // A package manager that reloads goes on without its mirrors (§4.2.4), not against them.
        (Class::Root, None, ServeStale),
        (Class::Root, Some(503), PassOn),
        (Class::Immutable, None, ServeStale),
        (Class::Immutable, Some(503), PassOn),
        (Class::Immutable, Some(404), ServeStale),
    ] {
        let judged = Judgement {
            lifetime: 10,
            age: 60,
            always_ask: false,
            strict: false,
            outlasted: false,
        };
        let found = on_error(judged, class, true, status);
        assert_eq!(found, wanted, "{class:?} {status:?}");
    }
}
