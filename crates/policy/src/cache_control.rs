//! The Cache-Control field of requests and responses (RFC 9111 §5.2), read leniently where that
//! is safe: directive names in any case, values quoted or not, several field lines as one list.
//!
//! A number that cannot be read counts as 0 (stale), one that is too large as 2³¹ (RFC 9111
//! §1.2.2); of two different `max-age` the smaller one holds (§4.2.1 lets a cache choose).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, IF_MODIFIED_SINCE, PRAGMA};

/// The largest number of seconds that larder keeps (RFC 9111 §1.2.2).
pub const DELTA_SECONDS_MAX: u64 = 1 << 31;

/// The directives that larder acts on; numbers are seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the field is a list of independent words"
)]
pub struct CacheControl {
    /// `max-age`.
    pub max_age: Option<u64>,
    /// `s-maxage` (responses).
    pub s_maxage: Option<u64>,
    /// `min-fresh` (requests).
    pub min_fresh: Option<u64>,
    /// `max-stale` (requests); bare means any staleness.
    pub max_stale: Option<u64>,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Option<u64>,
    /// `no-cache` without field names.
    pub no_cache: bool,
    /// Field names of `no-cache="…"`, lower-case.
    pub no_cache_fields: Vec<String>,
    /// `no-store`.
    pub no_store: bool,
    /// `private`, qualified or not: a shared cache keeps neither form.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable` (RFC 8246). Squid's order alone looks at it: elsewhere what is fresh is asked
    /// about at a client's word only, which RFC 8246 §2 leaves to the client.
    pub immutable: bool,
    /// `only-if-cached` (requests).
    pub only_if_cached: bool,
    /// The request has If-Modified-Since. That is another field, and asks of freshness all the
    /// same: under `refresh-ims` the origin is asked.
    pub if_modified_since: bool,
}

impl CacheControl {
    /// Reads all Cache-Control lines of a message. A request's `Pragma: no-cache` counts as
    /// no-cache where no Cache-Control is present (RFC 9111 §5.4); a response's does not count.
    pub fn of_request(headers: &HeaderMap) -> Self {
        let mut read = Self::of_response(headers);
        read.if_modified_since = headers.contains_key(IF_MODIFIED_SINCE);
        if !headers.contains_key(CACHE_CONTROL) {
            read.no_cache = headers.get_all(PRAGMA).iter().any(|value| {
                value.to_str().is_ok_and(|text| {
                    text.split(',')
                        .any(|word| word.trim().eq_ignore_ascii_case("no-cache"))
                })
            });
        }
        read
    }

    /// Reads all Cache-Control lines of a response.
    pub fn of_response(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            let text = String::from_utf8_lossy(value.as_bytes());
            for directive in split_outside_quotes(&text) {
                read.add(directive);
            }
        }
        read
    }

    fn add(&mut self, directive: &str) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name.trim(), Some(unquoted(value.trim()))),
            None => (directive.trim(), None),
        };
        match name.to_ascii_lowercase().as_str() {
            "max-age" => lower(&mut self.max_age, value),
            "s-maxage" => lower(&mut self.s_maxage, value),
            "min-fresh" => lower(&mut self.min_fresh, value),
            "max-stale" => {
                self.max_stale = Some(value.map_or(DELTA_SECONDS_MAX, delta_seconds));
            }
            "stale-while-revalidate" => lower(&mut self.stale_while_revalidate, value),
            "stale-if-error" => lower(&mut self.stale_if_error, value),
            "no-cache" => {
                let fields = value.unwrap_or_default().split(',');
                let fields = fields.map(|field| field.trim().to_ascii_lowercase());
                let held = self.no_cache_fields.len();
                self.no_cache_fields
                    .extend(fields.filter(|field| !field.is_empty()));
                // One that names no field speaks of the whole.
                self.no_cache |= self.no_cache_fields.len() == held;
            }
            "no-store" => self.no_store = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "immutable" => self.immutable = true,
            "only-if-cached" => self.only_if_cached = true,
            _ => {}
        }
    }
}

/// Of two values the smaller holds.
fn lower(slot: &mut Option<u64>, value: Option<&str>) {
    let read = value.map_or(0, delta_seconds);
    *slot = Some(slot.map_or(read, |held| held.min(read)));
}

/// RFC 9111 §1.2.2: digits only; too large counts as 2³¹, anything else as 0.
pub fn delta_seconds(text: &str) -> u64 {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    text.parse::<u64>()
        .map_or(DELTA_SECONDS_MAX, |n| n.min(DELTA_SECONDS_MAX))
}

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value)
}

/// The members of a comma-separated list; commas within quoted strings do not separate. A quote that
/// nothing closes begins no string: it must not hide a `no-store` behind it.
pub fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut members = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                members.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text.get(start..).unwrap_or_default();
    if quoted {
        members.extend(last.split(','));
    } else {
        members.push(last);
    }
    members
        .into_iter()
        .map(str::trim)
        .filter(|member| !member.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(lines: &[&str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        CacheControl::of_response(&headers)
    }

    #[test]
    fn directives_are_read_in_any_case_quoted_and_over_several_lines() {
        let cc = read(&[
            "MAX-age=\"60\", No-Store",
            "S-MAXAGE=5,private=\"x, y\", no-cache=\"a, B\"",
        ]);
        assert_eq!((cc.max_age, cc.s_maxage), (Some(60), Some(5)));
        assert!(cc.no_store && cc.private && !cc.no_cache);
        assert_eq!(cc.no_cache_fields, ["a", "b"]);
    }

    #[test]
    fn a_quote_without_an_end_hides_nothing() {
        for text in [
            "max-age=60, x=\"a, no-store, private",
            "x=\"a\", y=\"no-store, no-store, private",
            "x=\"a\\\", no-store, private",
        ] {
            let cc = read(&[text]);
            assert!(cc.no_store && cc.private, "{text}");
        }
        assert!(!read(&["x=\"a, no-store\""]).no_store);
    }

    #[test]
    fn no_cache_that_names_no_field_speaks_of_the_whole() {
        for text in ["no-cache", "no-cache=\"\"", "no-cache=", "no-cache=\" , \""] {
            assert!(read(&[text]).no_cache, "{text}");
        }
        assert!(!read(&["no-cache=\"x\""]).no_cache);
    }

    #[test]
    fn numbers_never_wrap_and_nonsense_is_stale() {
        for (text, wanted) in [
            ("99999999999999999999999", DELTA_SECONDS_MAX),
            ("2147483649", DELTA_SECONDS_MAX),
            ("-1", 0),
            ("1.5", 0),
            ("", 0),
            ("60s", 0),
        ] {
            assert_eq!(
                read(&[&format!("max-age={text}")]).max_age,
                Some(wanted),
                "{text}"
            );
        }
        assert_eq!(read(&["max-age=100, max-age=7"]).max_age, Some(7));
        assert_eq!(read(&["max-age"]).max_age, Some(0));
        assert_eq!(read(&["max-stale"]).max_stale, Some(DELTA_SECONDS_MAX));
    }

    #[test]
    fn pragma_counts_only_in_requests_without_cache_control() {
        let mut headers = HeaderMap::new();
        headers.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
        assert!(CacheControl::of_request(&headers).no_cache);
        assert!(!CacheControl::of_response(&headers).no_cache);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3"));
        assert!(!CacheControl::of_request(&headers).no_cache);
    }
}
