//! Parts of one file from several answers: when they may be put together (RFC 9110 §15.3.7.3,
//! RFC 9111 §3.4), and how a part is asked for so that only the same version answers with one.

use http::HeaderMap;
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderValue, LAST_MODIFIED,
};

use crate::class::Class;
use crate::meta::Meta;
use crate::range::Spec;

/// What a part is, by its Content-Range: `start..end` of a file of `length` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
    /// The whole file's length.
    pub length: u64,
}

impl Span {
    /// Reads the Content-Range of a 206 with one part; `None` where it is absent, of another unit,
    /// contradicts itself, or leaves the length open (RFC 9110 §14.4).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let (start, end, length) = content_range(headers)?;
        let length = length?;
        Some(Self { start, end, length })
    }
}

/// What a 206 is to the ranges that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// One part that answers them, of so many bytes.
    With(u64),
    /// Several parts, each with a head of its own; they are not read here.
    InParts,
    /// Its head contradicts itself, or it is of other bytes (RFC 9110 §14.4, §15.3.7).
    No,
}

/// Judges the head of a 206 whose body has `told` bytes, where the framing tells. Of several ranges
/// an origin may send one part that holds them; of one it may leave out the end, not the beginning.
pub fn answers(specs: &[Spec], headers: &HeaderMap, told: Option<u64>) -> Answers {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let in_parts = content_type.and_then(|value| value.get(..20));
    if in_parts.is_some_and(|kind| kind.eq_ignore_ascii_case(b"multipart/byteranges")) {
        return Answers::InParts;
    }
    let Some((start, end, whole)) = content_range(headers) else {
        return Answers::No;
    };
    let length = end - start;
    let is_wanted = match specs {
        [Spec::From(first, last)] => {
            start == *first && last.is_none_or(|last| end <= last.saturating_add(1))
        }
        [Spec::Last(most)] => length <= *most && whole.is_none_or(|whole| whole == end),
        _ => true,
    };
    if is_wanted && told.is_none_or(|told| told == length) {
        Answers::With(length)
    } else {
        Answers::No
    }
}

/// `start..end` and the whole length, if that is told, of the one Content-Range that there is.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let mut lines = headers.get_all(CONTENT_RANGE).iter();
    let text = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (unit, rest) = text.trim().split_once(' ')?;
    let (span, length) = rest.trim().split_once('/')?;
    let (start, last) = span.split_once('-')?;
    let (start, end) = (number(start)?, number(last)?.checked_add(1)?);
    let length = match length {
        "*" => None,
        told => Some(number(told)?),
    };
    let good = unit.eq_ignore_ascii_case("bytes")
        && start < end
        && length.is_none_or(|length| end <= length);
    good.then_some((start, end, length))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether a part belongs to the version of a file that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It does.
    Sure,
    /// It does if the bytes that both have are equal: another mirror's file of the same name, date
    /// and length.
    IfBytesAgree,
    /// It does not, or nobody can tell.
    No,
}

/// Where a part comes from, and how it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// The origin is the one that the file comes from.
    pub same_origin: bool,
    /// The request had the If-Range of [`if_range`]: a part that comes is of that version, and
    /// need not repeat its Last-Modified (RFC 9110 §15.3.7).
    pub by_if_range: bool,
    /// The class of the file.
    pub class: Class,
}

/// Judges the head of a part. `length`: the held file's, where it is known.
pub fn fit(held: &Meta, length: Option<u64>, part: &HeaderMap, span: Span, asking: Asking) -> Fit {
    let same = |name| part.get(&name) == held.headers().get(&name);
    if !same(CONTENT_ENCODING) || length.is_some_and(|length| length != span.length) {
        return Fit::No;
    }
    let Asking {
        same_origin,
        by_if_range,
        class,
    } = asking;
    let unsaid = by_if_range && !part.contains_key(LAST_MODIFIED);
    let dated = length.is_some() && strong_date(held).is_some() && (same(LAST_MODIFIED) || unsaid);
    match (strong_tag(held), part.get(ETAG)) {
        (Some(tag), Some(sent)) if sent == tag && (same_origin || dated) => Fit::Sure,
        // Another version, whatever its date says.
        (Some(_), _) if same_origin => Fit::No,
        // Tags that are weak say little, but that they differ says enough.
        (None, Some(sent)) if same_origin && held.etag().is_some_and(|tag| tag != sent) => Fit::No,
        (None, _) if same_origin && dated => Fit::Sure,
        _ if dated && !same_origin && class == Class::Immutable => Fit::IfBytesAgree,
        _ => Fit::No,
    }
}

/// True if parts of an answer with this head can be asked for later: it has a validator that tells
/// versions apart, and its origin does not refuse ranges.
pub fn is_resumable(meta: &Meta) -> bool {
    let refuses = meta.headers().get(ACCEPT_RANGES);
    let refuses = refuses.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"none"));
    meta.status() == 200 && !refuses && (strong_tag(meta).is_some() || strong_date(meta).is_some())
}

/// The If-Range by which the origin of what is held sends a part of the same version only
/// (RFC 9110 §13.1.5); `None` where there is no validator that is strong enough.
pub fn if_range(meta: &Meta) -> Option<HeaderValue> {
    strong_tag(meta).or(strong_date(meta)).cloned()
}

/// The Last-Modified, if it tells versions apart: the file was not touched in the second of the
/// answer (RFC 9110 §8.8.2.2).
pub fn strong_date(meta: &Meta) -> Option<&HeaderValue> {
    let inputs = meta.inputs();
    meta.last_modified()
        .filter(|_| inputs.last_modified.is_some_and(|held| inputs.date > held))
}

/// True if an answer with all of a file is of the version of which parts are held: its strong tag,
/// or where one has none its strong date and its length, are theirs.
pub fn is_same_version(meta: &Meta, length: u64, headers: &HeaderMap, of: Option<u64>) -> bool {
    if let (Some(held), Some(told)) = (strong_tag(meta), headers.get(ETAG)) {
        return held == told;
    }
    let dated = if_range(meta).is_some() && meta.last_modified().is_some();
    dated && headers.get(LAST_MODIFIED) == meta.last_modified() && of == Some(length)
}

/// The entity tag, if it is a strong one.
pub fn strong_tag(meta: &Meta) -> Option<&HeaderValue> {
    meta.etag().filter(|tag| tag.as_bytes().starts_with(b"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{Fetched, UnixTime};
    use http::header::HeaderName;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn meta(pairs: &[(&str, &str)]) -> Meta {
        let fetched = Fetched {
            response_time: UnixTime(1_700_000_000),
            ..Fetched::default()
        };
        Meta::new(200, fields(pairs), fetched)
    }

    const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const OLD: &str = "Mon, 13 Nov 2023 22:13:20 GMT";

    #[test]
    fn a_content_range_is_read_or_refused_whole() {
        let read = |text| Span::of(&fields(&[("content-range", text)]));
        let span = |start, end, length| Some(Span { start, end, length });
        assert_eq!(read("bytes 5-9/10"), span(5, 10, 10));
        assert_eq!(read("Bytes 0-0/1"), span(0, 1, 1));
        for text in [
            "bytes 5-9/*",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-10/10",
            "bytes +5-9/10",
            "items 5-9/10",
            "bytes 5-18446744073709551615/0",
            "5-9/10",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let twice = [
            ("content-range", "bytes 0-0/2"),
            ("content-range", "bytes 1-1/2"),
        ];
        assert_eq!(Span::of(&fields(&twice)), None);
    }

    #[test]
    fn a_part_answers_the_range_that_was_asked_for() {
        let ten = [Spec::From(10, Some(19))];
        let two = [Spec::From(0, Some(1)), Spec::From(10, Some(19))];
        for (specs, text, told, wanted) in [
            (&ten[..], "bytes 10-19/100", Some(10), Answers::With(10)),
            (&ten, "bytes 10-19/*", None, Answers::With(10)),
            (&ten, "bytes 10-15/16", Some(6), Answers::With(6)),
            (&ten, "bytes 10-19/100", Some(9), Answers::No),
            (&ten, "bytes 11-20/100", Some(10), Answers::No),
            (&ten, "bytes 10-20/100", Some(11), Answers::No),
            (&ten, "bytes 19-10/1024", Some(10), Answers::No),
            (&ten, "bytes 10-19/15", Some(10), Answers::No),
            (&ten, "items 10-19/100", Some(10), Answers::No),
            (
                &[Spec::From(10, None)],
                "bytes 10-99/100",
                Some(90),
                Answers::With(90),
            ),
            (
                &[Spec::Last(5)],
                "bytes 95-99/100",
                Some(5),
                Answers::With(5),
            ),
            (&[Spec::Last(5)], "bytes 90-94/100", Some(5), Answers::No),
            (&two, "bytes 0-19/100", Some(20), Answers::With(20)),
        ] {
            let found = answers(specs, &fields(&[("content-range", text)]), told);
            assert_eq!(found, wanted, "{specs:?} {text} {told:?}");
        }
        assert_eq!(answers(&ten, &fields(&[]), Some(10)), Answers::No);
        let several = [("content-type", "multipart/byteranges; boundary=x")];
        assert_eq!(answers(&two, &fields(&several), Some(99)), Answers::InParts);
    }

    #[test]
    fn parts_are_put_together_only_where_they_are_sure_to_be_of_one_version() {
        let span = Span {
            start: 5,
            end: 10,
            length: 10,
        };
        let tagged = [("etag", "\"a\""), ("last-modified", OLD)];
        let dated = [("last-modified", OLD)];
        let weak = [("etag", "W/\"a\""), ("last-modified", OLD)];
        let immutable = Class::Immutable;
        for (held, part, same_origin, class, wanted) in [
            (&tagged[..], &tagged[..], true, Class::Other, Fit::Sure),
            (
                &tagged,
                &[("etag", "\"b\""), ("last-modified", OLD)],
                true,
                immutable,
                Fit::No,
            ),
            (
                &tagged,
                &[("etag", "\"b\""), ("last-modified", OLD)],
                false,
                immutable,
                Fit::IfBytesAgree,
            ),
            (
                &tagged,
                &[("etag", "\"b\""), ("last-modified", OLD)],
                false,
                Class::Other,
                Fit::No,
            ),
            (&tagged, &tagged, false, Class::Other, Fit::Sure),
            (
                &[("etag", "\"a\"")],
                &[("etag", "\"a\"")],
                false,
                immutable,
                Fit::No,
            ),
            (&dated, &dated, true, Class::Other, Fit::Sure),
            (&dated, &dated, false, immutable, Fit::IfBytesAgree),
            (&dated, &[("last-modified", DATE)], true, immutable, Fit::No),
            (&weak, &weak, true, Class::Other, Fit::Sure),
            (&[], &[], true, immutable, Fit::No),
        ] {
            let asking = asking(same_origin, class);
            let found = fit(&meta(held), Some(10), &fields(part), span, asking);
            assert_eq!(found, wanted, "{held:?} {part:?} {same_origin} {class:?}");
        }
    }

    #[test]
    fn a_part_is_of_no_version_that_its_head_cannot_tell() {
        let span = Span {
            start: 5,
            end: 10,
            length: 10,
        };
        let tagged = [("etag", "\"a\""), ("last-modified", OLD)];
        let dated = [("last-modified", OLD)];
        let weak = [("etag", "W/\"a\""), ("last-modified", OLD)];
        let immutable = Class::Immutable;
        let held = meta(&tagged);
        let by_tag = asking(true, immutable);
        let encoded = fields(&[("etag", "\"a\""), ("content-encoding", "gzip")]);
        assert_eq!(fit(&held, Some(10), &encoded, span, by_tag), Fit::No);
        assert_eq!(
            fit(&held, Some(11), &fields(&tagged), span, by_tag),
            Fit::No
        );
        // A date says nothing where the length is not known, or the file was just touched.
        assert_eq!(
            fit(&meta(&dated), None, &fields(&dated), span, by_tag),
            Fit::No
        );
        let touched = [("last-modified", DATE), ("date", DATE)];
        let found = fit(&meta(&touched), Some(10), &fields(&touched), span, by_tag);
        assert_eq!(found, Fit::No);
        // Weak tags that differ.
        let other = [("etag", "W/\"b\""), ("last-modified", OLD)];
        let found = fit(&meta(&weak), Some(10), &fields(&other), span, by_tag);
        assert_eq!(found, Fit::No);
        // What If-Range has settled need not be said again.
        let silent = fields(&[]);
        assert_eq!(fit(&meta(&dated), Some(10), &silent, span, by_tag), Fit::No);
        let settled = Asking {
            by_if_range: true,
            ..by_tag
        };
        assert_eq!(
            fit(&meta(&dated), Some(10), &silent, span, settled),
            Fit::Sure
        );
    }

    fn asking(same_origin: bool, class: Class) -> Asking {
        Asking {
            same_origin,
            by_if_range: false,
            class,
        }
    }

    #[test]
    fn only_a_strong_validator_goes_into_if_range() {
        let sent = |pairs: &[(&str, &str)]| {
            let value = if_range(&meta(pairs));
            value.map(|value| value.to_str().unwrap().to_owned())
        };
        let date = ("date", DATE);
        assert_eq!(sent(&[("etag", "\"a\""), date]).as_deref(), Some("\"a\""));
        assert_eq!(sent(&[("etag", "W/\"a\""), date]), None);
        assert_eq!(sent(&[("last-modified", OLD), date]).as_deref(), Some(OLD));
        assert_eq!(sent(&[("last-modified", DATE), date]), None);
    }

    #[test]
    fn what_has_no_validator_or_refuses_ranges_is_not_asked_for_in_parts() {
        assert!(is_resumable(&meta(&[("etag", "\"a\"")])));
        assert!(is_resumable(&meta(&[("last-modified", OLD)])));
        assert!(!is_resumable(&meta(&[("etag", "W/\"a\"")])));
        assert!(!is_resumable(&meta(&[
            ("etag", "\"a\""),
            ("accept-ranges", "none")
        ])));
    }
}
