//! RFC 9111, section by section, as tables over the pure decisions. What needs sockets (collapsing,
//! invalidation, what a client gets) is in the proxy's stories.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use http::{HeaderMap, HeaderName, HeaderValue};
use larder_policy::cache_control::CacheControl;
use larder_policy::class::Class;
use larder_policy::freshness::{Judgement, judge};
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime};
use larder_policy::policy::Semantics;
use larder_policy::url::Url;
use larder_policy::validator::{
    Precondition, conditional_fields, confirms, precondition, refreshed,
};
use larder_policy::verdict::{
    AfterConfirmation, AfterFetch, Answer, BeforeFetch, OnError, Rules, after_confirmation,
    after_fetch, before_fetch, on_error, selects,
};

const NOW: i64 = 1_700_000_000;
const URL: &str = "http://origin.example/page";

fn fields(text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(
            HeaderName::from_bytes(name.trim().as_bytes()).unwrap(),
            HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    headers
}

fn date(after_now: i64) -> String {
    UnixTime(NOW + after_now).to_http_date()
}

fn rules() -> Rules<'static> {
    Rules {
        class: Class::Other,
        refresh: None,
        semantics: Semantics::Larder,
        offline: false,
        object_bytes_max: 1 << 30,
    }
}

fn fetched(request: &HeaderMap) -> Fetched {
    Fetched {
        url: URL.to_owned(),
        origin: None,
        request_time: UnixTime(NOW),
        response_time: UnixTime(NOW),
        vary: Vec::new(),
        authorized: request.contains_key("authorization"),
    }
}

fn stored(status: u16, answer: &str, request: &str) -> Option<(Meta, CacheKey)> {
    let (answer, request) = (fields(answer), fields(request));
    let key = CacheKey::of_url(&Url::parse(URL).unwrap());
    let answer = Answer {
        status,
        headers: &answer,
        length: Some(1),
    };
    match after_fetch(answer, &request, &key, fetched(&request), rules()) {
        AfterFetch::Store(meta, key) => Some((*meta, key)),
        AfterFetch::PassThrough(_) => None,
    }
}

fn is_stored(status: u16, answer: &str, request: &str) -> bool {
    stored(status, answer, request).is_some()
}

fn meta(answer: &str) -> Meta {
    Meta::new(200, fields(answer), fetched(&HeaderMap::new()))
}

fn judged(answer: &str, after: i64) -> Judgement {
    let request = CacheControl::default();
    let larder = Semantics::Larder;
    judge(
        &meta(answer),
        Class::Other,
        None,
        larder,
        &request,
        UnixTime(NOW + after),
    )
}

fn before(answer: &str, request: &str, after: i64) -> BeforeFetch {
    let control = CacheControl::of_request(&fields(request));
    before_fetch(
        &control,
        Some(&meta(answer)),
        rules(),
        UnixTime(NOW + after),
    )
}

fn is_hit(answer: &str, request: &str, after: i64) -> bool {
    matches!(before(answer, request, after), BeforeFetch::Hit(_))
}

#[test]
fn section_3_what_may_be_stored() {
    for (status, answer, request, wanted) in [
        (200, "Cache-Control: max-age=60", "", true),
        (200, "Cache-Control: s-maxage=60", "", true),
        (200, &format!("Expires: {}", date(60)), "", true),
        (200, &format!("Last-Modified: {}", date(-1000)), "", true),
        (200, "Cache-Control: public\nETag: \"x\"", "", true),
        // Nothing to go by.
        (200, "X: y", "", false),
        (200, "Cache-Control: no-store, max-age=60", "", false),
        (200, "Cache-Control: NO-STORE, max-age=60", "", false),
        (200, "Cache-Control: private, max-age=60", "", false),
        (200, "Cache-Control: private=\"x\", max-age=60", "", false),
        // RFC 9110 §14.4: without meaning, unless it tells that the body is a part.
        (200, "Cache-Control: max-age=60\nContent-Range: x", "", true),
        (
            200,
            "Cache-Control: max-age=60\nContent-Range: bytes 0-0/1",
            "",
            true,
        ),
        (
            200,
            "Cache-Control: max-age=60\nContent-Range: bytes 0-0/2",
            "",
            false,
        ),
        (
            200,
            "Cache-Control: max-age=60\nContent-Range: Bytes 0-0/*",
            "",
            false,
        ),
        // 206 and 304 are answers to other questions.
        (
            206,
            "Cache-Control: max-age=60\nContent-Range: bytes 0-0/1",
            "",
            false,
        ),
        (304, "Cache-Control: max-age=60", "", false),
        // Heuristically cacheable, and not.
        (301, "Cache-Control: max-age=60", "", true),
        (302, "Cache-Control: max-age=60", "", true),
        (302, "Location: /x", "", false),
        (404, "Cache-Control: max-age=60", "", true),
        (503, "Cache-Control: max-age=60", "", false),
        (200, "Cache-Control: max-age=60\nVary: *", "", false),
    ] {
        assert_eq!(
            is_stored(status, answer, request),
            wanted,
            "{status} {answer}"
        );
    }
}

#[test]
fn section_3_1_hop_fields_and_cookies_are_not_kept() {
    let (meta, _) = stored(200, "Cache-Control: max-age=60\nSet-Cookie: a=b\nX: y", "").unwrap();
    assert!(!meta.headers().contains_key("set-cookie"));
    assert!(meta.headers().contains_key("x"));
}

#[test]
fn section_3_5_answers_to_authorization() {
    let authorized = "Authorization: Basic eDp5";
    for (answer, wanted) in [
        ("Cache-Control: max-age=60", false),
        ("Cache-Control: max-age=60, public", true),
        ("Cache-Control: max-age=60, must-revalidate", true),
        ("Cache-Control: s-maxage=60", true),
        (&format!("Expires: {}", date(60)), false),
    ] {
        assert_eq!(is_stored(200, answer, authorized), wanted, "{answer}");
    }
}

#[test]
fn section_4_1_selecting_fields() {
    let answer = "Cache-Control: max-age=60\nVary: Accept-Language, X-Kind";
    let request = "Accept-Language: de\nX-Kind: a";
    let (meta, key) = stored(200, answer, request).unwrap();
    for (asked, wanted) in [
        (request, true),
        ("Accept-Language: en\nX-Kind: a", false),
        ("Accept-Language: de", false),
        ("", false),
        ("Accept-Language: de\nX-Kind: a\nOther: z", true),
        ("Accept-Language: DE\nX-Kind: a", true),
        ("Accept-Language: de\nX-Kind: A", false),
    ] {
        assert_eq!(selects(&fields(asked), &meta), wanted, "{asked}");
    }
    assert!(key.has_variant());
}

#[test]
fn section_4_2_1_the_lifetime() {
    for (answer, wanted) in [
        ("Cache-Control: s-maxage=10, max-age=20", 10),
        (
            &*format!("Cache-Control: max-age=20\nExpires: {}", date(99)),
            20,
        ),
        (&*format!("Date: {}\nExpires: {}", date(0), date(99)), 99),
        (&*format!("Date: {}\nExpires: {}", date(50), date(99)), 49),
        ("Expires: 0", 0),
        ("Expires: sometime", 0),
        // Of two that differ the shorter one, of one that cannot be read none.
        ("Cache-Control: max-age=20, max-age=10", 10),
        ("Cache-Control: max-age=10\nCache-Control: max-age=20", 10),
        ("Cache-Control: max-age=ten", 0),
        ("Cache-Control: max-age=-5", 0),
        ("Cache-Control: max-age=\"15\"", 15),
        ("Cache-Control: max-age=99999999999999999999", 1 << 31),
        ("Cache-Control: MAX-AGE=7", 7),
    ] {
        assert_eq!(judged(answer, 0).lifetime, wanted, "{answer}");
    }
}

#[test]
fn section_4_2_1_dates_in_all_three_forms() {
    // RFC 9110 §5.6.7
    for expires in [
        "Tue, 14 Nov 2023 22:13:30 GMT",
        "Tuesday, 14-Nov-23 22:13:30 GMT",
        "Tue Nov 14 22:13:30 2023",
    ] {
        let answer = format!("Date: {}\nExpires: {expires}", date(0));
        assert_eq!(judged(&answer, 0).lifetime, 10, "{expires}");
    }
}

#[test]
fn section_4_2_2_the_heuristic() {
    let answer = format!("Date: {}\nLast-Modified: {}", date(0), date(-1000));
    assert_eq!(judged(&answer, 0).lifetime, 100);
    // Not where a lifetime is told.
    let told = format!("{answer}\nCache-Control: max-age=5");
    assert_eq!(judged(&told, 0).lifetime, 5);
    // Not from the future.
    let odd = format!("Date: {}\nLast-Modified: {}", date(0), date(1000));
    assert_eq!(judged(&odd, 0).lifetime, 0);
}

#[test]
fn section_4_2_3_the_age() {
    for (answer, after, wanted) in [
        (format!("Date: {}", date(0)), 5, 5),
        (format!("Date: {}", date(-100)), 5, 105),
        (format!("Date: {}\nAge: 30", date(0)), 5, 35),
        (format!("Date: {}\nAge: 30", date(-100)), 5, 105),
        // A list: the first value. Nonsense: no value.
        (format!("Date: {}\nAge: 30, 99", date(0)), 5, 35),
        (format!("Date: {}\nAge: x", date(0)), 5, 5),
        // A clock that is ahead of ours.
        (format!("Date: {}", date(1000)), 5, 5),
    ] {
        assert_eq!(judged(&answer, after).age, wanted, "{answer}");
    }
}

#[test]
fn section_4_2_4_stale_only_where_it_is_allowed() {
    for (answer, wanted) in [
        ("Cache-Control: max-age=1", OnError::ServeStale),
        ("Cache-Control: max-age=1, must-revalidate", OnError::PassOn),
        (
            "Cache-Control: max-age=1, proxy-revalidate",
            OnError::PassOn,
        ),
        ("Cache-Control: s-maxage=1", OnError::PassOn),
        ("Cache-Control: no-cache", OnError::PassOn),
    ] {
        let judged = judged(answer, 60);
        for status in [None, Some(500), Some(502), Some(503), Some(504)] {
            let found = on_error(judged, Class::Other, false, status);
            assert_eq!(found, wanted, "{answer}");
        }
    }
}

#[test]
fn section_5_2_2_and_rfc_5861_a_bound_on_what_stands_in_for_a_failed_origin() {
    use OnError::{PassOn, ServeStale};
    for (answer, request, after, wanted) in [
        ("max-age=10", "", 9999, ServeStale),
        ("max-age=10, stale-if-error=20", "", 29, ServeStale),
        ("max-age=10, stale-if-error=20", "", 30, PassOn),
        ("max-age=10, stale-if-error=0", "", 10, PassOn),
        (
            "max-age=10, stale-if-error=20, must-revalidate",
            "",
            11,
            PassOn,
        ),
        ("max-age=10", "stale-if-error=20", 29, ServeStale),
        ("max-age=10", "stale-if-error=20", 30, PassOn),
        (
            "max-age=10, stale-if-error=99",
            "stale-if-error=0",
            11,
            PassOn,
        ),
        (
            "max-age=10, stale-if-error=5",
            "stale-if-error=99",
            20,
            PassOn,
        ),
        // It speaks of stale copies: a fresh one is none.
        ("max-age=10, stale-if-error=0", "max-age=0", 5, ServeStale),
    ] {
        let control = CacheControl::of_request(&fields(&format!("Cache-Control: {request}")));
        let meta = meta(&format!("Cache-Control: {answer}"));
        let judged = |class| {
            let larder = Semantics::Larder;
            let now = UnixTime(NOW + after);
            judge(&meta, class, None, larder, &control, now)
        };
        let found = on_error(judged(Class::Other), Class::Other, false, Some(503));
        assert_eq!(found, wanted, "{answer} / {request} / {after}");
        if request.is_empty() {
            let class = Class::Immutable;
            assert_eq!(on_error(judged(class), class, false, None), ServeStale);
        }
    }
}

#[test]
fn section_4_negative_answers_are_kept_where_they_are_looked_for() {
    let asked = Url::parse("http://alias.example/updates.img").unwrap();
    let fetched = Fetched {
        url: asked.as_str().to_owned(),
        ..fetched(&HeaderMap::new())
    };
    let shared = Url::parse("http://first.example/updates.img").unwrap();
    for (key, wanted) in [
        (CacheKey::of_url(&shared), CacheKey::of_url(&shared)),
        (CacheKey::of_store_id("x"), CacheKey::of_url(&asked)),
    ] {
        let answer = Answer {
            status: 404,
            headers: &fields("Cache-Control: max-age=60"),
            length: Some(0),
        };
        let verdict = after_fetch(answer, &HeaderMap::new(), &key, fetched.clone(), rules());
        let AfterFetch::Store(_, found) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(found, wanted);
    }
}

#[test]
fn section_4_3_1_what_is_sent_to_validate() {
    let held = format!("ETag: \"x\"\nLast-Modified: {}", date(-5));
    let sent: HeaderMap = conditional_fields(&meta(&held), URL, None)
        .into_iter()
        .collect();
    assert_eq!(sent["if-none-match"], "\"x\"");
    assert_eq!(sent["if-modified-since"], date(-5).as_str());
}

#[test]
fn section_4_3_2_conditions_of_clients() {
    use Precondition::{Failed, Holds, NotModifiedByDate, NotModifiedByTag};
    let held = format!(
        "Date: {}\nETag: \"x\"\nLast-Modified: {}",
        date(0),
        date(-100)
    );
    for (request, wanted) in [
        ("If-None-Match: \"x\"".to_owned(), NotModifiedByTag),
        ("If-None-Match: W/\"x\"".to_owned(), NotModifiedByTag),
        ("If-None-Match: \"a\", \"x\"".to_owned(), NotModifiedByTag),
        ("If-None-Match: *".to_owned(), NotModifiedByTag),
        ("If-None-Match: \"y\"".to_owned(), Holds),
        (
            format!("If-Modified-Since: {}", date(-100)),
            NotModifiedByDate,
        ),
        (
            format!("If-Modified-Since: {}", date(-50)),
            NotModifiedByDate,
        ),
        (format!("If-Modified-Since: {}", date(-101)), Holds),
        ("If-Modified-Since: sometime".to_owned(), Holds),
        // A tag outranks a date.
        (
            format!("If-None-Match: \"y\"\nIf-Modified-Since: {}", date(0)),
            Holds,
        ),
        // RFC 9110 §8.8.3: a tag may have commas, and nothing escapes its end.
        ("If-None-Match: \"a,b\", \"x\"".to_owned(), NotModifiedByTag),
        ("If-None-Match: \"a\\\", \"x\"".to_owned(), NotModifiedByTag),
        ("If-None-Match: \"a, x\"".to_owned(), Holds),
        ("If-Match: \"y\"".to_owned(), Failed),
        ("If-Match: \"x\"".to_owned(), Holds),
        (format!("If-Unmodified-Since: {}", date(-200)), Failed),
    ] {
        assert_eq!(
            precondition(&fields(&request), &meta(&held)),
            wanted,
            "{request}"
        );
    }
    // Without Last-Modified the date of the answer serves.
    let dated = meta(&format!("Date: {}", date(-10)));
    let request = fields(&format!("If-Modified-Since: {}", date(-10)));
    assert_eq!(precondition(&request, &dated), NotModifiedByDate);
}

#[test]
fn section_4_3_4_which_304_confirms() {
    let held = meta(&format!("ETag: \"x\"\nLast-Modified: {}", date(-100)));
    for (answer, wanted) in [
        ("ETag: \"x\"".to_owned(), true),
        ("ETag: W/\"x\"".to_owned(), true),
        ("ETag: \"y\"".to_owned(), false),
        ("X: y".to_owned(), true),
        (format!("Last-Modified: {}", date(-100)), true),
        (format!("Last-Modified: {}", date(-99)), false),
        (format!("ETag: \"x\"\nLast-Modified: {}", date(-99)), true),
    ] {
        let fetched = fetched(&HeaderMap::new());
        let found = confirms(&held, &fields(&answer), &fetched);
        assert_eq!(found, wanted, "{answer}");
    }
}

#[test]
fn section_3_2_what_a_304_changes() {
    let held = meta(
        "ETag: \"x\"\nCache-Control: max-age=1\nContent-Length: 1\nContent-Encoding: gzip\n\
         Age: 1000\nX-Old: a\nX-Both: b",
    );
    let answer = fields("Cache-Control: max-age=9\nContent-Length: 0\nX-Both: c\nX-New: d");
    let now = Fetched {
        response_time: UnixTime(NOW + 50),
        ..fetched(&HeaderMap::new())
    };
    let merged = refreshed(&held, &answer, now);
    let of = |name: &str| merged.headers().get(name).map(|v| v.to_str().unwrap());
    assert_eq!(of("cache-control"), Some("max-age=9"));
    assert_eq!(of("x-both"), Some("c"));
    assert_eq!(of("x-new"), Some("d"));
    assert_eq!(of("x-old"), Some("a"));
    assert_eq!(of("content-length"), Some("1"));
    assert_eq!(of("content-encoding"), Some("gzip"));
    assert_eq!(of("age"), None);
    assert_eq!(of("date"), Some(&*date(50)));
}

#[test]
fn section_3_a_head_that_a_304_has_changed_is_judged_as_a_new_one_is() {
    use AfterConfirmation::{Gone, Renewed, Untouched};
    for (held, answer, request, wanted) in [
        ("", "X: y", "", Renewed),
        ("", "Cache-Control: max-age=9, no-store", "", Gone),
        ("", "Cache-Control: max-age=9, private", "", Gone),
        ("", "Vary: *", "", Gone),
        ("", "Vary: Accept-Language", "", Gone),
        ("Vary: X-Kind", "Vary: X-Kind", "X-Kind: a", Renewed),
        ("Vary: X-Kind", "Vary: X-Kind, X-Other", "X-Kind: a", Gone),
        ("Vary: X-A, X-B", "Vary: X-B, X-A", "X-A: a", Renewed),
        ("Vary: X-A, X-B", "Vary: X-B", "X-A: a", Renewed),
        ("", "X: y", "Authorization: Basic eDp5", Untouched),
        (
            "",
            "Cache-Control: public",
            "Authorization: Basic eDp5",
            Renewed,
        ),
    ] {
        let held = format!("ETag: \"x\"\nCache-Control: max-age=1\n{held}");
        let anonymous = request.replace("Authorization: Basic eDp5", "");
        let (meta, key) = stored(200, held.trim_end(), &anonymous).unwrap();
        let request = fields(request);
        let merged = refreshed(&meta, &fields(answer), fetched(&request));
        let found = after_confirmation(&merged, 1, &request, &key, rules());
        assert_eq!(found, wanted, "{held} {answer}");
    }
}

#[test]
fn section_5_2_1_what_a_request_may_ask() {
    let fresh = "Cache-Control: max-age=100";
    for (answer, request, after, wanted) in [
        (fresh, "", 50, true),
        (fresh, "", 100, false),
        // §5.2.1.1
        (fresh, "Cache-Control: max-age=60", 50, true),
        (fresh, "Cache-Control: max-age=40", 50, false),
        (fresh, "Cache-Control: max-age=0", 0, false),
        // §5.2.1.2
        (fresh, "Cache-Control: max-stale=10", 105, true),
        (fresh, "Cache-Control: max-stale=10", 111, false),
        (fresh, "Cache-Control: max-stale", 9999, true),
        (
            "Cache-Control: max-age=100, must-revalidate",
            "Cache-Control: max-stale",
            105,
            false,
        ),
        // §5.2.1.3
        (fresh, "Cache-Control: min-fresh=40", 50, true),
        (fresh, "Cache-Control: min-fresh=60", 50, false),
        // §5.2.1.4, §5.4
        (fresh, "Cache-Control: no-cache", 50, false),
        (fresh, "Pragma: no-cache", 50, false),
        (
            fresh,
            "Pragma: no-cache\nCache-Control: max-age=1000",
            50,
            true,
        ),
        // Unknown words are passed over.
        (
            fresh,
            "Cache-Control: sometimes, maybe=\"a, no-cache\"",
            50,
            true,
        ),
    ] {
        assert_eq!(
            is_hit(answer, request, after),
            wanted,
            "{answer} / {request} / {after}"
        );
    }
}

#[test]
fn section_5_2_1_7_only_if_cached() {
    let request = "Cache-Control: only-if-cached";
    let fresh = "Cache-Control: max-age=100";
    assert!(is_hit(fresh, request, 0));
    assert_eq!(before(fresh, request, 200), BeforeFetch::OnlyIfCached);
    let control = CacheControl::of_request(&fields(request));
    let nothing = before_fetch(&control, None, rules(), UnixTime(NOW));
    assert_eq!(nothing, BeforeFetch::OnlyIfCached);
}

#[test]
fn section_5_2_2_what_an_answer_may_ask() {
    for (answer, wanted) in [
        ("Cache-Control: max-age=100", true),
        // §5.2.2.4: unqualified it is asked about at each use, qualified only the fields are.
        ("Cache-Control: max-age=100, no-cache", false),
        ("Cache-Control: max-age=100, no-cache=\"\"", false),
        ("Cache-Control: max-age=100, no-cache=\"x\"", true),
        // §5.4: Pragma means nothing in an answer.
        ("Cache-Control: max-age=100\nPragma: no-cache", true),
        // RFC 8246
        ("Cache-Control: max-age=100, immutable", true),
    ] {
        assert_eq!(is_hit(answer, "", 50), wanted, "{answer}");
    }
}

#[test]
fn rfc_5861_stale_while_it_is_asked() {
    let answer = "Cache-Control: max-age=10, stale-while-revalidate=20";
    assert!(matches!(
        before(answer, "", 25),
        BeforeFetch::HitWhileAsking(_)
    ));
    assert!(matches!(
        before(answer, "", 31),
        BeforeFetch::Revalidate(..)
    ));
    let strict = "Cache-Control: max-age=10, stale-while-revalidate=20, must-revalidate";
    assert!(matches!(
        before(strict, "", 25),
        BeforeFetch::Revalidate(..)
    ));
    let client = "Cache-Control: no-cache";
    assert!(matches!(
        before(answer, client, 25),
        BeforeFetch::Revalidate(..)
    ));
}
