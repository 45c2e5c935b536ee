//! Byte ranges (RFC 9110 §14): what a Range field asks for, and what that is of a body whose
//! length is known.
//!
//! A field that is not understood counts as absent (§14.2), as does one that asks for more ranges
//! than a client of package mirrors ever sends. Ranges are answered in the order asked and never
//! merged over a gap: zchunk feeds the parts to its missing chunks in sequence.

use http::HeaderMap;
use http::header::RANGE;

/// zchunk asks for up to 256 ranges at once, zypper for 255.
pub const RANGES_MAX: usize = 256;

/// One member of a Range field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `first-last`, both counted from 0 and included; no last: to the end.
    From(u64, Option<u64>),
    /// `-n`: the last n bytes.
    Last(u64),
}

/// What a request asks for of one body: half-open spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything: a 200.
    Whole,
    /// Spans in the order asked, each not empty and within the body: a 206.
    Spans(Vec<(u64, u64)>),
    /// Nothing that the body has: a 416.
    Unsatisfiable,
}

/// Reads the Range field of a request; `None`: absent, of another unit, or not understood.
pub fn of_request(headers: &HeaderMap) -> Option<Vec<Spec>> {
    let mut lines = headers.get_all(RANGE).iter();
    let text = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let specs: Vec<Spec> = set
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .map(spec)
        .collect::<Option<_>>()?;
    (!specs.is_empty() && specs.len() <= RANGES_MAX).then_some(specs)
}

fn spec(member: &str) -> Option<Spec> {
    let (first, last) = member.split_once('-')?;
    if first.is_empty() {
        return number(last).map(Spec::Last);
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(Spec::From(first, None));
    }
    let last = number(last)?;
    (first <= last).then_some(Spec::From(first, Some(last)))
}

/// Digits only; one too large for 64 bits lies beyond any body.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// What `specs` select of a body of `length` bytes (RFC 9110 §14.1.2).
pub fn select(specs: &[Spec], length: u64) -> Selection {
    let spans: Vec<(u64, u64)> = specs
        .iter()
        .filter_map(|spec| span(*spec, length))
        .collect();
    if spans.is_empty() {
        return Selection::Unsatisfiable;
    }
    // Overlapping requests could ask for far more than the body: the whole is the bounded answer.
    let asked = spans
        .iter()
        .fold(0u64, |sum, (start, end)| sum.saturating_add(end - start));
    if spans.len() > 1 && asked > length.saturating_mul(2) {
        return Selection::Whole;
    }
    Selection::Spans(spans)
}

fn span(spec: Spec, length: u64) -> Option<(u64, u64)> {
    match spec {
        Spec::From(first, _) if first >= length => None,
        Spec::From(first, last) => Some((
            first,
            last.map_or(length, |last| last.saturating_add(1).min(length)),
        )),
        Spec::Last(0) => None,
        Spec::Last(_) if length == 0 => None,
        Spec::Last(n) => Some((length.saturating_sub(n), length)),
    }
}

/// The Content-Range of a span (RFC 9110 §14.4).
pub fn content_range((start, end): (u64, u64), length: u64) -> String {
    format!("bytes {start}-{}/{length}", end.saturating_sub(1))
}

/// The Content-Range of a 416.
pub fn unsatisfied_range(length: u64) -> String {
    format!("bytes */{length}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn selected(field: &str, length: u64) -> Option<Selection> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(field).unwrap());
        of_request(&headers).map(|specs| select(&specs, length))
    }

    #[test]
    fn spans_are_cut_to_the_body_and_kept_in_order() {
        use Selection::{Spans, Unsatisfiable, Whole};
        for (field, wanted) in [
            ("bytes=0-0", Some(Spans(vec![(0, 1)]))),
            ("bytes=5-", Some(Spans(vec![(5, 10)]))),
            ("bytes=5-99", Some(Spans(vec![(5, 10)]))),
            ("bytes=-3", Some(Spans(vec![(7, 10)]))),
            ("bytes=-99", Some(Spans(vec![(0, 10)]))),
            ("Bytes=8-9 , 0-1,,", Some(Spans(vec![(8, 10), (0, 2)]))),
            ("bytes=0-1,2-3", Some(Spans(vec![(0, 2), (2, 4)]))),
            ("bytes=0-1,20-30", Some(Spans(vec![(0, 2)]))),
            ("bytes=10-", Some(Unsatisfiable)),
            ("bytes=-0", Some(Unsatisfiable)),
            ("bytes=0-18446744073709551616", Some(Spans(vec![(0, 10)]))),
            ("bytes=99999999999999999999-", Some(Unsatisfiable)),
            ("bytes=0-,0-,0-", Some(Whole)),
            ("bytes=3-1", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=", None),
            ("bytes=1", None),
            ("items=0-1", None),
            ("bytes =0-1", None),
            ("bytes=0 - 1", None),
        ] {
            assert_eq!(selected(field, 10), wanted, "{field}");
        }
        assert_eq!(selected("bytes=-5", 0), Some(Unsatisfiable));
    }

    #[test]
    fn more_ranges_than_any_client_sends_count_as_none() {
        let many = |n: usize| {
            let set: Vec<String> = (0..n).map(|i| format!("{i}-{i}")).collect();
            selected(&format!("bytes={}", set.join(",")), 1000)
        };
        assert!(matches!(many(RANGES_MAX), Some(Selection::Spans(spans)) if spans.len() == 256));
        assert_eq!(many(RANGES_MAX + 1), None);
    }
}
