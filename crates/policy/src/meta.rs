//! What is kept of a stored response beside its body, and the integers that freshness needs.
//!
//! [`Meta`] is the stored head as the origin sent it; [`Inputs`] are derived from it once, when it
//! is built or read back, so that a hit compares integers. The inputs are kept, not the verdict:
//! a reload with other refresh rules judges every stored object anew without touching the disk.

use http::header::{
    AGE, AUTHORIZATION, CONTENT_LENGTH, DATE, ETAG, EXPIRES, HeaderMap, LAST_MODIFIED, SET_COOKIE,
    VARY,
};
use http::{HeaderName, HeaderValue};

use crate::cache_control::{CacheControl, DELTA_SECONDS_MAX, delta_seconds, split_outside_quotes};

/// Seconds since 1970, as HTTP dates count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// Seconds from `earlier` to here; negative if `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time plus `seconds`.
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// Reads an HTTP date in any of its three forms (RFC 9110 §5.6.7).
    pub fn from_http_date(text: &str) -> Option<Self> {
        let at = httpdate::parse_http_date(text.trim()).ok()?;
        let seconds = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        i64::try_from(seconds).ok().map(Self)
    }

    /// The preferred form of an HTTP date (RFC 9110 §5.6.7).
    pub fn to_http_date(self) -> String {
        httpdate::fmt_http_date(self.into())
    }
}

impl From<std::time::SystemTime> for UnixTime {
    fn from(at: std::time::SystemTime) -> Self {
        at.duration_since(std::time::UNIX_EPOCH)
            .map_or(Self(0), |since| {
                Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
            })
    }
}

impl From<UnixTime> for std::time::SystemTime {
    fn from(at: UnixTime) -> Self {
        // Up to the year 9999: what an HTTP date can say.
        let seconds = at.0.clamp(0, 253_402_300_799);
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.unsigned_abs())
    }
}

/// The numbers and flags of a stored response from which its freshness follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The Date field, or the time of the response where that is missing or unreadable.
    pub date: UnixTime,
    /// Age at the time of the response (RFC 9111 §4.2.3, corrected_initial_age), seconds ≥ 0.
    pub initial_age: i64,
    /// When the response came.
    pub response_time: UnixTime,
    /// Last-Modified, where present and readable.
    pub last_modified: Option<UnixTime>,
    /// What the origin said of its lifetime (RFC 9111 §4.2.1), seconds; `None`: nothing.
    pub explicit_lifetime: Option<u64>,
    /// The response's Cache-Control.
    pub control: CacheControl,
    /// `Vary: *`.
    pub vary_star: bool,
    /// The response came with a Set-Cookie field.
    pub set_cookie: bool,
    /// The request carried Authorization.
    pub authorized: bool,
}

/// The head of a stored response.
#[derive(Clone, Debug)]
pub struct Meta {
    status: u16,
    headers: HeaderMap,
    url: String,
    origin: Option<String>,
    request_time: UnixTime,
    response_time: UnixTime,
    vary: Vec<(String, Option<Vec<u8>>)>,
    inputs: Inputs,
}

/// Where and when a response was fetched: what its head does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// The URL in normal form that was asked (not the store ID).
    pub url: String,
    /// Whose answer it is, in the words of whoever asked: what tells the origins of one pool, which
    /// are all asked for one URL, from each other. `None`: unknown.
    pub origin: Option<String>,
    /// When the request was sent.
    pub request_time: UnixTime,
    /// When the response head came.
    pub response_time: UnixTime,
    /// The request fields that the response's Vary names, with the request's values.
    pub vary: Vec<(String, Option<Vec<u8>>)>,
    /// The request carried Authorization.
    pub authorized: bool,
}

impl Meta {
    /// Keeps a head. `headers` are end-to-end fields only ([`crate::headers::remove_hop_by_hop`]).
    pub fn new(status: u16, headers: HeaderMap, fetched: Fetched) -> Self {
        let inputs = Inputs::of(&headers, &fetched);
        Self {
            status,
            headers,
            url: fetched.url,
            origin: fetched.origin,
            request_time: fetched.request_time,
            response_time: fetched.response_time,
            vary: fetched.vary,
            inputs,
        }
    }

    /// Status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// End-to-end fields as the origin sent them.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Where and when it was fetched.
    pub fn fetched(&self) -> Fetched {
        Fetched {
            url: self.url.clone(),
            origin: self.origin.clone(),
            request_time: self.request_time,
            response_time: self.response_time,
            vary: self.vary.clone(),
            authorized: self.inputs.authorized,
        }
    }

    /// The URL that was asked when it was fetched.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whose entity tag it has, if that is known ([`Fetched::origin`]).
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// The numbers that freshness needs.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The selecting request fields (RFC 9111 §4.1) and the values that chose this response.
    pub fn vary(&self) -> &[(String, Option<Vec<u8>>)] {
        &self.vary
    }

    /// Entity tag, where it is one line of visible text.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    /// Last-Modified as sent.
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.headers.get(LAST_MODIFIED)
    }

    /// Content-Length of the origin's answer.
    pub fn content_length(&self) -> Option<u64> {
        self.headers
            .get(CONTENT_LENGTH)?
            .to_str()
            .ok()?
            .parse()
            .ok()
    }
}

impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        self.status == other.status
            && self.headers == other.headers
            && self.fetched() == other.fetched()
    }
}

impl Inputs {
    fn of(headers: &HeaderMap, fetched: &Fetched) -> Self {
        let control = CacheControl::of_response(headers);
        let date = date_of(headers, &DATE).unwrap_or(fetched.response_time);
        Self {
            date,
            initial_age: initial_age(headers, date, fetched),
            response_time: fetched.response_time,
            last_modified: date_of(headers, &LAST_MODIFIED),
            explicit_lifetime: explicit_lifetime(headers, &control, date),
            control,
            vary_star: vary_names(headers).iter().any(|name| name == "*"),
            set_cookie: headers.contains_key(SET_COOKIE),
            authorized: fetched.authorized,
        }
    }

    /// RFC 9111 §4.2.3 current_age, seconds ≥ 0. A clock that was set back adds nothing.
    pub fn current_age(&self, now: UnixTime) -> i64 {
        self.initial_age
            .saturating_add(now.since(self.response_time).max(0))
    }
}

/// RFC 9111 §4.2.3: the larger of what the dates and what Age plus the delay say.
fn initial_age(headers: &HeaderMap, date: UnixTime, fetched: &Fetched) -> i64 {
    let apparent = fetched.response_time.since(date).max(0);
    let delay = fetched.response_time.since(fetched.request_time).max(0);
    let said = headers
        .get(AGE)
        .and_then(|value| value.to_str().ok())
        .map(|text| text.split(',').next().unwrap_or_default())
        .map_or(0, delta_seconds);
    let corrected = i64::try_from(said)
        .unwrap_or(i64::MAX)
        .saturating_add(delay);
    apparent.max(corrected).min(DELTA_SECONDS_MAX as i64)
}

/// RFC 9111 §4.2.1 for a shared cache: s-maxage, max-age, Expires − Date; unreadable: 0.
fn explicit_lifetime(headers: &HeaderMap, control: &CacheControl, date: UnixTime) -> Option<u64> {
    if let Some(said) = control.s_maxage.or(control.max_age) {
        return Some(said);
    }
    headers.get(EXPIRES)?;
    if headers.get_all(EXPIRES).iter().count() > 1 {
        return Some(0);
    }
    let until = date_of(headers, &EXPIRES).map_or(0, |expires| expires.since(date).max(0));
    Some(until.unsigned_abs().min(DELTA_SECONDS_MAX))
}

/// A date field that occurs once and can be read.
pub fn date_of(headers: &HeaderMap, name: &HeaderName) -> Option<UnixTime> {
    UnixTime::from_http_date(headers.get(name)?.to_str().ok()?)
}

/// The field names of all Vary lines, lower-case, in order.
pub fn vary_names(headers: &HeaderMap) -> Vec<String> {
    let mut names = Vec::new();
    for value in headers.get_all(VARY) {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        for name in split_outside_quotes(&text) {
            if !names.iter().any(|held| held == name) {
                names.push(name.to_owned());
            }
        }
    }
    // In whatever order they are named they mean the same.
    names.sort();
    names
}

/// The values that a request has for the fields that Vary names; `None`: absent. Several lines of
/// one field count as one list, and of the fields that negotiate neither case nor space tells two
/// apart (RFC 9111 §4.1).
pub fn selecting_fields(names: &[String], request: &HeaderMap) -> Vec<(String, Option<Vec<u8>>)> {
    names
        .iter()
        .map(|name| {
            let lines: Vec<&[u8]> = request
                .get_all(name.as_str())
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            (
                name.clone(),
                if lines.is_empty() {
                    None
                } else {
                    Some(normal(name, lines.join(&b", "[..])))
                },
            )
        })
        .collect()
}

/// The value of a field that negotiates (RFC 9110 §12.5) without its optional space, in lower case;
/// of any other field the value as it is.
fn normal(name: &str, mut value: Vec<u8>) -> Vec<u8> {
    let negotiates = matches!(
        name,
        "accept" | "accept-charset" | "accept-encoding" | "accept-language"
    );
    // A quoted parameter is left alone with all the rest.
    if negotiates && !value.contains(&b'"') {
        value.retain(|byte| !matches!(byte, b' ' | b'\t'));
        value.make_ascii_lowercase();
    }
    value
}

/// True if a request carries credentials that bind the answer to one user.
pub fn is_authorized(request: &HeaderMap) -> bool {
    request.contains_key(AUTHORIZATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(fields: &[(&str, &str)]) -> Inputs {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let fetched = Fetched {
            request_time: UnixTime(1_000_000),
            response_time: UnixTime(1_000_002),
            ..Fetched::default()
        };
        Meta::new(200, headers, fetched).inputs().clone()
    }

    fn date(at: i64) -> String {
        UnixTime(at).to_http_date()
    }

    #[test]
    fn age_is_the_larger_of_dates_and_age_field_and_never_wraps() {
        assert_eq!(inputs(&[("date", &date(999_990))]).initial_age, 12);
        assert_eq!(
            inputs(&[("date", &date(999_990)), ("age", "100")]).initial_age,
            102
        );
        assert_eq!(inputs(&[("date", &date(1_500_000))]).initial_age, 2);
        let huge = inputs(&[("age", "18446744073709551615")]);
        assert_eq!(huge.initial_age, DELTA_SECONDS_MAX as i64);
        assert!(huge.current_age(UnixTime(i64::MAX)) > 0);
        assert_eq!(inputs(&[]).current_age(UnixTime(0)), 2);
    }

    #[test]
    fn lifetime_prefers_s_maxage_then_max_age_then_expires() {
        let expires = date(1_000_060);
        let at = date(1_000_000);
        let all = [("date", at.as_str()), ("expires", expires.as_str())];
        assert_eq!(inputs(&all).explicit_lifetime, Some(60));
        assert_eq!(
            inputs(&[all[0], all[1], ("cache-control", "max-age=5")]).explicit_lifetime,
            Some(5)
        );
        assert_eq!(
            inputs(&[("cache-control", "max-age=5, s-maxage=9")]).explicit_lifetime,
            Some(9)
        );
        assert_eq!(inputs(&[]).explicit_lifetime, None);
    }

    #[test]
    fn an_expires_that_is_no_date_is_stale_and_all_three_forms_are_read() {
        assert_eq!(inputs(&[("expires", "0")]).explicit_lifetime, Some(0));
        for form in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(
                UnixTime::from_http_date(form),
                Some(UnixTime(784_111_777)),
                "{form}"
            );
        }
    }

    #[test]
    fn vary_is_one_list_and_absent_differs_from_empty() {
        let mut headers = HeaderMap::new();
        headers.append(VARY, HeaderValue::from_static("Accept, ACCEPT-Language"));
        headers.append(VARY, HeaderValue::from_static("accept"));
        let names = vary_names(&headers);
        assert_eq!(names, ["accept", "accept-language"]);
        let mut request = HeaderMap::new();
        request.append("accept", HeaderValue::from_static("a"));
        request.append("accept", HeaderValue::from_static("b"));
        let fields = selecting_fields(&names, &request);
        assert_eq!(fields[0].1.as_deref(), Some(&b"a,b"[..]));
        assert_eq!(fields[1].1, None);
    }
}
