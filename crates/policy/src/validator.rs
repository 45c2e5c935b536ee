//! Validators: conditional requests of clients against a stored head, conditional requests to
//! origins, and what a 304 does to the stored head.

use http::header::{
    AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, SET_COOKIE,
};

use crate::meta::{Fetched, Meta, UnixTime, date_of};
use crate::part::Span;

/// What a client's preconditions make of a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing stands in the way.
    Holds,
    /// 304, because If-None-Match names what is held.
    NotModifiedByTag,
    /// 304, because nothing is newer than If-Modified-Since.
    NotModifiedByDate,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of RFC 9110 §13.2.2.
pub fn precondition(request: &HeaderMap, meta: &Meta) -> Precondition {
    if request.contains_key(IF_MATCH) {
        if !any_tag(request, &IF_MATCH, meta.etag(), true) {
            return Precondition::Failed;
        }
    } else if let Some(since) = date_of(request, &IF_UNMODIFIED_SINCE)
        && meta
            .inputs()
            .last_modified
            .is_some_and(|modified| modified > since)
    {
        return Precondition::Failed;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return if any_tag(request, &IF_NONE_MATCH, meta.etag(), false) {
            Precondition::NotModifiedByTag
        } else {
            Precondition::Holds
        };
    }
    match (
        date_of(request, &IF_MODIFIED_SINCE),
        meta.inputs().last_modified,
    ) {
        (Some(since), Some(modified)) if modified <= since => Precondition::NotModifiedByDate,
        (Some(since), None) if meta.inputs().date <= since => Precondition::NotModifiedByDate,
        _ => Precondition::Holds,
    }
}

/// RFC 9110 §13.1.1, §13.1.2: `*`, or a list of tags; `strong` asks for strong comparison.
fn any_tag(
    request: &HeaderMap,
    field: &HeaderName,
    held: Option<&HeaderValue>,
    strong: bool,
) -> bool {
    request
        .get_all(field)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|text| {
            text.trim() == "*"
                || tags(text).into_iter().any(|tag| {
                    held.and_then(|held| held.to_str().ok())
                        .is_some_and(|held| tags_match(tag, held, strong))
                })
        })
}

/// The entity tags of a list (RFC 9110 §8.8.3). Between its quotes a tag may have commas, and a
/// backslash is one of its characters.
fn tags(list: &str) -> Vec<&str> {
    let mut is_within = false;
    let separated = list.split(|c| {
        is_within ^= c == '"';
        c == ',' && !is_within
    });
    separated.map(str::trim).collect()
}

/// RFC 9110 §8.8.3.2.
fn tags_match(a: &str, b: &str, strong: bool) -> bool {
    let (a_weak, b_weak) = (a.starts_with("W/"), b.starts_with("W/"));
    if strong && (a_weak || b_weak) {
        return false;
    }
    a.trim_start_matches("W/") == b.trim_start_matches("W/")
}

/// True if a Range may be answered: there is no If-Range, or it names exactly what is held
/// (RFC 9110 §13.1.5: strong comparison; a date must equal a Last-Modified that is strong).
pub fn if_range_holds(request: &HeaderMap, meta: &Meta) -> bool {
    let Some(value) = request.get(IF_RANGE) else {
        return true;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    let text = text.trim();
    if text.starts_with('"') || text.starts_with("W/") {
        return meta
            .etag()
            .and_then(|held| held.to_str().ok())
            .is_some_and(|held| tags_match(text, held, true));
    }
    let inputs = meta.inputs();
    match (UnixTime::from_http_date(text), inputs.last_modified) {
        // §8.8.2.2: a date is strong when the file was not touched in the second of the answer.
        (Some(named), Some(held)) => named == held && inputs.date > held,
        _ => false,
    }
}

/// The fields that ask an origin whether what is held is still good; `origin` is its label
/// ([`Fetched::origin`]), if there is one, and `url` what it is asked for. An entity tag is sent
/// only to the origin that gave it: mirrors of one file give different tags, and a foreign tag would
/// fetch the body again (RFC 9110 §13.1.3 lets the tag outrank the date).
pub fn conditional_fields(
    meta: &Meta,
    url: &str,
    origin: Option<&str>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::new();
    if let Some(tag) = meta.etag()
        && is_its_own(meta, url, origin)
    {
        fields.push((IF_NONE_MATCH, tag.clone()));
    }
    let since = match meta.last_modified() {
        Some(value) => Some(value.clone()),
        // As Squid does: the date of the answer serves where the origin gave nothing else.
        None if fields.is_empty() => HeaderValue::from_str(&meta.inputs().date.to_http_date()).ok(),
        None => None,
    };
    fields.extend(since.map(|value| (IF_MODIFIED_SINCE, value)));
    fields
}

/// True if what is held came from the origin of this label, or, where that is not known, from the
/// host of `url`.
fn is_its_own(meta: &Meta, url: &str, origin: Option<&str>) -> bool {
    match (meta.origin(), origin) {
        (Some(held), Some(asked)) => held == asked,
        _ => authority_of(url) == authority_of(meta.url()),
    }
}

fn authority_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// Removes a client's own conditions from a request that will fill the cache.
pub fn remove_conditions(headers: &mut HeaderMap) {
    for name in [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
    ] {
        headers.remove(name);
    }
    headers.remove(http::header::RANGE);
}

/// True if a 304 speaks of what is held: it names no other validator (RFC 9111 §4.3.4). Tags
/// decide where both have one, dates elsewhere. Tags of different origins are not compared; what
/// another origin tells of the length is.
pub fn confirms(meta: &Meta, answer: &HeaderMap, fetched: &Fetched) -> bool {
    let is_own = is_its_own(meta, &fetched.url, fetched.origin.as_deref());
    if is_own
        && let (Some(new), Some(held)) = (answer.get(ETAG), meta.etag())
        && let (Ok(new), Ok(held)) = (new.to_str(), held.to_str())
    {
        return tags_match(new, held, false);
    }
    if let (false, Some(told), Some(held)) = (is_own, told_length(answer), meta.content_length())
        && told != held
    {
        return false;
    }
    match (date_of(answer, &LAST_MODIFIED), meta.inputs().last_modified) {
        (Some(new), Some(held)) => new == held,
        _ => true,
    }
}

/// The length of the whole file by an answer that does not have all of it. Many servers say of a
/// 304 that it has none itself.
fn told_length(answer: &HeaderMap) -> Option<u64> {
    if answer.contains_key(CONTENT_RANGE) {
        return Span::of(answer).map(|span| span.length);
    }
    let told = answer.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    told.filter(|length| *length > 0)
}

/// The stored head after a 304 (RFC 9111 §3.2): fields of the answer replace those held, except
/// what describes the body that is held. Its entity tag stays with the origin that gave it when
/// another one confirms it. `answer` has end-to-end fields only.
#[must_use]
pub fn refreshed(meta: &Meta, answer: &HeaderMap, fetched: Fetched) -> Meta {
    let mut headers = meta.headers().clone();
    let is_own = is_its_own(meta, &fetched.url, fetched.origin.as_deref());
    // Both are of one message: those of the first answer say nothing about this one (§4.2.3).
    headers.remove(AGE);
    if !answer.contains_key(DATE)
        && let Ok(value) = HeaderValue::from_str(&fetched.response_time.to_http_date())
    {
        headers.insert(DATE, value);
    }
    for name in answer.keys() {
        let of_the_body = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE].contains(name)
            || matches!(name.as_str(), "content-md5" | "content-digest");
        let foreign = *name == ETAG && !is_own;
        if of_the_body || foreign || *name == SET_COOKIE {
            continue;
        }
        headers.remove(name);
        for value in answer.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    let held = meta.fetched();
    let (url, origin) = if is_own {
        (fetched.url, fetched.origin.or(held.origin))
    } else {
        (held.url, held.origin)
    };
    let fetched = Fetched {
        url,
        origin,
        vary: held.vary,
        ..fetched
    };
    Meta::new(meta.status(), headers, fetched)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEW: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn held(fields: &[(&'static str, &'static str)]) -> Meta {
        held_of(fields, None)
    }

    fn held_of(fields: &[(&'static str, &'static str)], origin: Option<&str>) -> Meta {
        let fetched = Fetched {
            url: "http://m/a".into(),
            origin: origin.map(str::to_owned),
            response_time: UnixTime(1_000_000_000),
            ..Fetched::default()
        };
        Meta::new(200, map(fields), fetched)
    }

    #[test]
    fn preconditions_follow_the_order_of_rfc_9110_13_2_2() {
        use Precondition::{Failed, Holds, NotModifiedByDate, NotModifiedByTag};
        let meta = held(&[("etag", "\"a\""), ("last-modified", OLD)]);
        for (fields, wanted) in [
            (&[][..], Holds),
            (&[("if-none-match", "\"a\"")], NotModifiedByTag),
            (&[("if-none-match", "W/\"a\"")], NotModifiedByTag),
            (&[("if-none-match", "\"x,\", \"a\"")], NotModifiedByTag),
            (&[("if-none-match", "*")], NotModifiedByTag),
            (
                &[("if-none-match", "\"b\""), ("if-modified-since", NEW)],
                Holds,
            ),
            (&[("if-modified-since", OLD)], NotModifiedByDate),
            (&[("if-modified-since", NEW)], NotModifiedByDate),
            (
                &[("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT")],
                Holds,
            ),
            (&[("if-modified-since", "yesterday")], Holds),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "W/\"a\"")], Failed),
            (
                &[
                    ("if-match", "\"a\""),
                    ("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT"),
                ],
                Holds,
            ),
            (
                &[("if-unmodified-since", "Sat, 05 Nov 1994 08:49:37 GMT")],
                Failed,
            ),
        ] {
            assert_eq!(precondition(&map(fields), &meta), wanted, "{fields:?}");
        }
    }

    #[test]
    fn if_range_wants_exactly_what_is_held() {
        let meta = held(&[("etag", "\"a\""), ("last-modified", OLD), ("date", NEW)]);
        for (field, wanted) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            (OLD, true),
            (NEW, false),
            ("nonsense", false),
        ] {
            assert_eq!(
                if_range_holds(&map(&[("if-range", field)]), &meta),
                wanted,
                "{field}"
            );
        }
        assert!(!if_range_holds(
            &map(&[("if-range", "W/\"a\"")]),
            &held(&[("etag", "W/\"a\"")])
        ));
        let same_second = held(&[("last-modified", OLD), ("date", OLD)]);
        assert!(!if_range_holds(&map(&[("if-range", OLD)]), &same_second));
    }

    #[test]
    fn a_tag_is_sent_only_to_the_origin_that_gave_it() {
        const BOTH: &str = "if-none-match if-modified-since";
        const DATED: &str = "if-modified-since";
        let tagged = [("etag", "\"a\"")];
        let both = [("etag", "\"a\""), ("last-modified", OLD)];
        for (fields, from, url, origin, wanted) in [
            // Nobody knows whose it is: the host of the URL tells.
            (&both[..], None, "http://m/other", None, BOTH),
            (&both, None, "http://m/a", Some("http://x:80"), BOTH),
            (&both, None, "http://n/a", Some("http://x:80"), DATED),
            (&tagged, None, "http://m/a", None, "if-none-match"),
            (&[], None, "http://n/a", None, DATED),
            // One URL, several origins.
            (&both, Some("x"), "http://m/a", Some("x"), BOTH),
            (&both, Some("x"), "http://m/a", Some("y"), DATED),
            (&tagged, Some("x"), "http://m/a", Some("x"), "if-none-match"),
            (&tagged, Some("x"), "http://m/a", Some("y"), DATED),
            // Several URLs, one origin.
            (&both, Some("x"), "http://n/a", Some("x"), BOTH),
        ] {
            let names: Vec<String> = conditional_fields(&held_of(fields, from), url, origin)
                .into_iter()
                .map(|(name, _)| name.to_string())
                .collect();
            assert_eq!(names.join(" "), wanted, "{from:?} {url} {origin:?}");
        }
    }

    #[test]
    fn a_foreign_304_is_known_by_date_and_length_and_leaves_the_tag() {
        let fields = [
            ("etag", "\"a\""),
            ("last-modified", OLD),
            ("content-length", "9"),
        ];
        let meta = held_of(&fields, Some("x"));
        let from = |origin: &str| Fetched {
            origin: Some(origin.to_owned()),
            ..meta.fetched()
        };
        for (origin, answer, wanted) in [
            ("x", &[("etag", "\"a\"")][..], true),
            ("x", &[("etag", "\"b\"")], false),
            ("y", &[("etag", "\"b\"")], true),
            ("y", &[("etag", "\"b\""), ("last-modified", OLD)], true),
            ("y", &[("etag", "\"a\""), ("last-modified", NEW)], false),
            ("y", &[("content-length", "9")], true),
            ("y", &[("content-length", "8")], false),
            // A 304 that has no body itself; a part of the whole.
            ("y", &[("content-length", "0")], true),
            (
                "y",
                &[("content-length", "1"), ("content-range", "bytes 0-0/9")],
                true,
            ),
        ] {
            let found = confirms(&meta, &map(answer), &from(origin));
            assert_eq!(found, wanted, "{origin} {answer:?}");
        }
        let answer = map(&[("etag", "W/\"a\""), ("x", "1")]);
        for (origin, tag) in [("x", "W/\"a\""), ("y", "\"a\"")] {
            let new = refreshed(&meta, &answer, from(origin));
            assert_eq!(new.etag().unwrap(), tag);
            assert_eq!((new.origin(), new.url()), (Some("x"), "http://m/a"));
            assert!(new.headers().contains_key("x"));
        }
    }

    #[test]
    fn a_304_renews_the_head_but_not_what_describes_the_body() {
        let meta = held(&[
            ("etag", "\"a\""),
            ("content-length", "5"),
            ("x", "1"),
            ("x", "2"),
        ]);
        let answer = map(&[
            ("cache-control", "max-age=9"),
            ("content-length", "0"),
            ("x", "3"),
            ("set-cookie", "a=b"),
        ]);
        let fetched = Fetched {
            response_time: UnixTime(2_000_000_000),
            ..Fetched::default()
        };
        let new = refreshed(&meta, &answer, fetched);
        assert_eq!(new.headers().get("content-length").unwrap(), "5");
        assert_eq!(new.headers().get_all("x").iter().count(), 1);
        assert_eq!(new.inputs().explicit_lifetime, Some(9));
        assert!(!new.headers().contains_key("set-cookie"));
    }

    #[test]
    fn a_304_that_names_another_validator_does_not_confirm() {
        let meta = held(&[("etag", "\"a\""), ("last-modified", OLD)]);
        for (url, answer, wanted) in [
            ("http://m/a", &[][..], true),
            ("http://m/a", &[("etag", "W/\"a\"")], true),
            ("http://m/a", &[("etag", "\"b\"")], false),
            ("http://other/a", &[("etag", "\"b\"")], true),
            ("http://other/a", &[("last-modified", NEW)], false),
        ] {
            let fetched = Fetched {
                url: url.into(),
                ..Fetched::default()
            };
            let found = confirms(&meta, &map(answer), &fetched);
            assert_eq!(found, wanted, "{url} {answer:?}");
        }
    }
}
