//! Header fields that larder removes, adds and reads on the way through.
//!
//! What goes on is rebuilt from parsed fields, never copied from the wire: hop-by-hop fields and
//! those that Connection names stop here (RFC 9110 §7.6.1), Via grows by one member in both
//! directions and ends loops (§7.6.3), `Cache-Status` tells what the cache did (RFC 9211).

use std::fmt::Write as _;

use http::header::{
    AGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, EXPIRES, HOST, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// RFC 9211.
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Squid's word for hit and miss, kept for scripts that look for it.
pub const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Removes the fields that concern one connection only: the known ones and those that Connection
/// names. Connection cannot remove Host, what frames the message, nor what caches go by: a sender
/// must not list fields that are for all recipients.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        for name in connection_names(headers) {
            if !is_end_to_end(&name) {
                headers.remove(name);
            }
        }
    }
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATION_INFO,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// Leaves the first line of fields that have one value (RFC 9110 §5.3): of several nobody could say
/// which the next reader takes, and a copy would keep the doubt. Lines that lists and freshness read
/// are left to those who read them.
pub fn keep_first_of_singletons(headers: &mut HeaderMap) {
    for name in [
        CONTENT_LOCATION,
        CONTENT_TYPE,
        DATE,
        ETAG,
        LAST_MODIFIED,
        LOCATION,
    ] {
        let mut lines = headers.get_all(&name).iter();
        if let (Some(first), Some(_)) = (lines.next().cloned(), lines.next()) {
            headers.insert(name, first);
        }
    }
}

/// Fields that are never one connection's alone, whatever Connection says.
fn is_end_to_end(name: &HeaderName) -> bool {
    [
        AGE,
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        DATE,
        ETAG,
        EXPIRES,
        HOST,
        LAST_MODIFIED,
        SET_COOKIE,
        VARY,
        VIA,
    ]
    .contains(name)
}

/// Those that Connection names; what is no name hides no other.
fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok())
        .collect()
}

/// Adds this hop to Via (RFC 9110 §7.6.3).
pub fn add_via(headers: &mut HeaderMap, version: http::Version, name: &str) {
    let protocol = match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    let own = format!("{protocol} {name} (larder)");
    let earlier = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
    let members: Vec<&[u8]> = earlier.chain([own.as_bytes()]).collect();
    if let Ok(value) = HeaderValue::from_bytes(&members.join(&b", "[..])) {
        headers.insert(VIA, value);
    }
}

/// True if the request has been here before: Via carries our own name (RFC 9110 §7.6.3). Octets of
/// others that are no ASCII hide no member.
pub fn is_loop(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(VIA).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split(',').any(|member| {
            member
                .split_whitespace()
                .nth(1)
                .is_some_and(|by| by.eq_ignore_ascii_case(name))
        })
    })
}

/// Why a request went upstream, in RFC 9211's words (§2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache was told not to handle it.
    Bypass,
    /// The method is never answered from the cache.
    Method,
    /// Nothing is held under this key.
    UriMiss,
    /// Something is held, but for other selecting fields.
    VaryMiss,
    /// The request's own directives asked for it.
    Request,
    /// What is held was stale.
    Stale,
    /// Only a part is held.
    Partial,
}

impl Forwarded {
    /// The token of RFC 9211 §2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One member of Cache-Status (RFC 9211 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatus {
    /// Why it went upstream; `None`: a hit.
    pub forwarded: Option<Forwarded>,
    /// The status that the origin gave.
    pub status: Option<u16>,
    /// The answer is being stored.
    pub stored: bool,
    /// The request joined another one's fetch.
    pub collapsed: bool,
    /// Remaining freshness lifetime, seconds; negative when stale.
    pub ttl: Option<i64>,
    /// A word more.
    pub detail: Option<&'static str>,
}

impl CacheStatus {
    /// The value that follows the members of caches further upstream.
    pub fn to_value(self) -> String {
        let mut text = String::from("larder");
        match self.forwarded {
            None => text.push_str("; hit"),
            Some(why) => {
                text.push_str("; fwd=");
                text.push_str(why.as_str());
            }
        }
        // Writing to a String cannot fail.
        if let Some(status) = self.status {
            let _ = write!(text, "; fwd-status={status}");
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl) = self.ttl {
            let _ = write!(text, "; ttl={ttl}");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail={detail}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn hop_by_hop_fields_and_those_that_connection_names_stop_here() {
        let mut map = headers(&[
            ("connection", "close, X-One, Host"),
            ("connection", "content-length"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("host", "m"),
            ("content-length", "3"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("keep-alive", "5"),
        ]);
        remove_hop_by_hop(&mut map);
        let mut left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-two"]);
    }

    #[test]
    fn a_word_of_connection_that_is_no_name_hides_no_other() {
        let mut map = headers(&[("x-one", "1"), ("x-two", "2")]);
        let words = HeaderValue::from_bytes(b"\xe4, x-one").unwrap();
        map.insert(CONNECTION, words);
        remove_hop_by_hop(&mut map);
        assert_eq!(
            map.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["x-two"]
        );
    }

    #[test]
    fn of_fields_that_have_one_value_the_first_line_stays() {
        let mut map = headers(&[
            ("etag", "\"a\""),
            ("etag", "\"b\""),
            ("vary", "a"),
            ("vary", "b"),
            ("date", "x"),
        ]);
        keep_first_of_singletons(&mut map);
        let lines = |name: &str| map.get_all(name).iter().count();
        assert_eq!((lines("etag"), lines("vary"), lines("date")), (1, 2, 1));
        assert_eq!(map.get("etag").unwrap(), "\"a\"");
    }

    #[test]
    fn via_grows_by_one_member_and_shows_loops() {
        let mut map = headers(&[("via", "1.0 a"), ("via", "1.1 b (x)")]);
        assert!(!is_loop(&map, "me"));
        add_via(&mut map, http::Version::HTTP_11, "me");
        assert_eq!(map.get(VIA).unwrap(), "1.0 a, 1.1 b (x), 1.1 me (larder)");
        assert!(is_loop(&map, "ME"));
        assert!(!is_loop(&map, "larder"));
    }

    #[test]
    fn via_keeps_members_that_are_no_ascii() {
        let mut map = HeaderMap::new();
        let other = HeaderValue::from_bytes(b"1.1 b (\xe4)").unwrap();
        map.insert(VIA, other);
        add_via(&mut map, http::Version::HTTP_11, "me");
        assert_eq!(
            map.get(VIA).unwrap().as_bytes(),
            b"1.1 b (\xe4), 1.1 me (larder)"
        );
        assert!(is_loop(&map, "me"));
        assert!(!is_loop(&map, "larder"));
    }

    #[test]
    fn cache_status_has_the_members_of_rfc_9211() {
        let hit = CacheStatus {
            ttl: Some(60),
            ..CacheStatus::default()
        };
        assert_eq!(hit.to_value(), "larder; hit; ttl=60");
        let miss = CacheStatus {
            forwarded: Some(Forwarded::UriMiss),
            status: Some(200),
            stored: true,
            collapsed: true,
            ..CacheStatus::default()
        };
        assert_eq!(
            miss.to_value(),
            "larder; fwd=uri-miss; fwd-status=200; stored; collapsed"
        );
    }
}
