//! The normal form of a URL: computed once per request, used for access rules, route, store ID,
//! refresh rules, cache key and the request that goes upstream.
//!
//! Scheme and host lower-case, default port dropped, escapes in upper-case hex, unreserved octets
//! decoded, then dot segments removed (RFC 3986 §6.2.2). Escapes of reserved octets (`%2F`) and
//! empty segments (`//`) are kept, since they can name different files; the query is kept byte for
//! byte; the fragment is dropped. One exception exists, in the key alone ([`Url::key_text`]):
//! `%2B` in the path counts as `+`, because dnf asks for `libstdc%2b%2b` where apt and curl ask
//! for `libstdc++`, and every mirror serves the same file for both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How an origin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP, default port 80.
    Http,
    /// HTTP over TLS, default port 443.
    Https,
}

impl Scheme {
    /// The scheme as written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL of this scheme means when it names none.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text is not a URL that larder can serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// No `scheme://` at the start.
    #[error("the address has no scheme://")]
    NoScheme,
    /// A scheme other than http and https.
    #[error("the scheme {0}: is not served")]
    UnsupportedScheme(String),
    /// `user:password@` before the host (RFC 9110 §4.2.4: treat as an error).
    #[error("the address carries a user name")]
    UserInfo,
    /// An empty host, or octets that no host name has.
    #[error("the host name is not valid")]
    BadHost,
    /// A port that is no number from 1 to 65535.
    #[error("the port is not valid")]
    BadPort,
    /// A query or fragment where an address of a server is meant.
    #[error("the address of a server has no ?query and no #fragment")]
    NotASite,
    /// White space or a control character.
    #[error("the address contains white space or control characters")]
    BadCharacter,
}

/// A host and a port, as `CONNECT` names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Lower-case name or address literal, without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

impl Authority {
    /// Reads `host:port` or `[v6]:port`; the port may be absent only if `default_port` is given.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, UrlError> {
        if text.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default_port.ok_or(UrlError::BadPort)?,
        };
        Ok(Self {
            host: normal_host(host)?,
            port,
        })
    }

    /// The address, where the host is a literal.
    pub fn ip(&self) -> Option<IpAddr> {
        host_ip(&self.host)
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
    }
}

/// An http or https URL in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
    /// Where the path starts in `text`.
    path_at: usize,
}

impl Url {
    /// Reads an absolute URL and brings it into normal form.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(UrlError::UnsupportedScheme(other.to_owned())),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        let authority = Authority::parse(authority, Some(scheme.default_port()))?;
        Self::from_parts(scheme, &authority, path_and_query)
    }

    /// Puts a URL together from an authority and an origin-form target (`/path?query`).
    pub fn from_parts(
        scheme: Scheme,
        authority: &Authority,
        path_and_query: &str,
    ) -> Result<Self, UrlError> {
        if path_and_query.bytes().any(|b| b <= b' ' || b == 0x7f) {
            return Err(UrlError::BadCharacter);
        }
        let target = path_and_query.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let mut text = site(scheme, authority);
        let path_at = text.len();
        text.push_str(&normal_path(path));
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        Ok(Self {
            text,
            scheme,
            host: authority.host.clone(),
            port: authority.port,
            path_at,
        })
    }

    /// The same path and query under another scheme and authority.
    #[must_use]
    pub fn rebased(&self, scheme: Scheme, authority: &Authority) -> Self {
        let mut text = site(scheme, authority);
        let path_at = text.len();
        text.push_str(self.path_and_query());
        Self {
            text,
            scheme,
            host: authority.host.clone(),
            port: authority.port,
            path_at,
        }
    }

    /// The URL that a reference in a field of this URL's answer means (RFC 3986 §5.2): absolute,
    /// or relative to this one.
    pub fn resolve(&self, reference: &str) -> Result<Self, UrlError> {
        let reference = reference.trim();
        let path_end = reference.find(['?', '#']).unwrap_or(reference.len());
        if reference
            .get(..path_end)
            .is_some_and(|path| path.contains("://"))
        {
            return Self::parse(reference);
        }
        if reference.starts_with("//") {
            return Self::parse(&format!("{}:{reference}", self.scheme.as_str()));
        }
        let target = if reference.starts_with('/') {
            reference.to_owned()
        } else if reference.starts_with('?') {
            format!("{}{reference}", self.path())
        } else {
            let folder = self.path().rfind('/').map_or(0, |at| at + 1);
            format!("{}{reference}", self.path().get(..folder).unwrap_or("/"))
        };
        Self::from_parts(self.scheme, &self.authority(), &target)
    }

    /// The whole URL in normal form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Lower-case host name or address literal, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, where the host is a literal.
    pub fn host_ip(&self) -> Option<IpAddr> {
        host_ip(&self.host)
    }

    /// The port, default filled in.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    pub fn authority(&self) -> Authority {
        Authority {
            host: self.host.clone(),
            port: self.port,
        }
    }

    /// `host` or `host:port`, as the Host field has it (RFC 9110 §7.2).
    pub fn host_field(&self) -> &str {
        let start = self.scheme.as_str().len() + "://".len();
        self.text.get(start..self.path_at).unwrap_or_default()
    }

    /// Path and query: the origin-form request target.
    pub fn path_and_query(&self) -> &str {
        self.text.get(self.path_at..).unwrap_or("/")
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        let target = self.path_and_query();
        target.split('?').next().unwrap_or(target)
    }

    /// The query without its `?`, byte for byte.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query()
            .split_once('?')
            .map(|(_, query)| query)
    }

    /// The last segment of the path.
    pub fn file_name(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// The text under which the URL is kept: normal form, with `%2B` of the path as `+`.
    pub fn key_text(&self) -> String {
        let (head, target) = self.text.split_at(self.path_at);
        match target.split_once('?') {
            Some((path, query)) => format!("{head}{}?{query}", path.replace("%2B", "+")),
            None => format!("{head}{}", target.replace("%2B", "+")),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `scheme://host`, with the port where it is not the scheme's own.
fn site(scheme: Scheme, authority: &Authority) -> String {
    let host = Bracketed(&authority.host);
    if authority.port == scheme.default_port() {
        format!("{}://{host}", scheme.as_str())
    } else {
        format!("{}://{host}:{}", scheme.as_str(), authority.port)
    }
}

/// Writes an IPv6 literal in brackets, anything else as it is.
struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') {
            write!(f, "[{}]", self.0)
        } else {
            f.write_str(self.0)
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::BadHost)?;
        host.parse::<Ipv6Addr>().map_err(|_e| UrlError::BadHost)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(UrlError::BadHost),
        };
    }
    Ok(match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

fn parse_port(digits: &str) -> Result<u16, UrlError> {
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::BadPort);
    }
    match digits.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        Ok(_) | Err(_) => Err(UrlError::BadPort),
    }
}

/// Lower-case, one trailing dot removed (it names the same host), only octets that names have.
fn normal_host(host: &str) -> Result<String, UrlError> {
    if host.contains(':') {
        return host
            .parse::<Ipv6Addr>()
            .map(|ip| ip.to_string())
            .map_err(|_e| UrlError::BadHost);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let named = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    if host.is_empty() || host.len() > 253 || !named || host.split('.').any(str::is_empty) {
        return Err(UrlError::BadHost);
    }
    Ok(host.to_ascii_lowercase())
}

fn host_ip(host: &str) -> Option<IpAddr> {
    host.parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| {
            host.parse::<Ipv6Addr>()
                .map(|v6| IpAddr::V6(v6).to_canonical())
        })
        .ok()
}

fn normal_path(path: &str) -> String {
    let decoded = rooted(decode_unreserved(path));
    if decoded.contains("/.") {
        remove_dot_segments(&decoded)
    } else {
        decoded
    }
}

fn rooted(path: String) -> String {
    if path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    }
}

/// RFC 3986 §6.2.2.1 and §6.2.2.2: hex digits upper-case, unreserved octets decoded, once (§2.4).
/// An escape that is none (`%zz`) stays as it is, and what follows it is decoded only where that
/// makes no escape of it: `%2%65` would become `%2e`, which the next reader takes for a dot.
fn decode_unreserved(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    let mut stray: Option<usize> = None;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let escape = rest.get(at + 1..at + 3).unwrap_or_default();
        let is_in_reach = stray.is_some_and(|stray| out.len() - stray <= 2);
        match hex_octet(escape) {
            Some(octet)
                if (octet.is_ascii_alphanumeric() || b"-._~".contains(&octet))
                    && !(is_in_reach && octet.is_ascii_hexdigit()) =>
            {
                out.push(char::from(octet));
            }
            Some(_) => {
                out.push('%');
                out.push_str(&escape.to_ascii_uppercase());
            }
            None => {
                stray = Some(out.len());
                out.push('%');
                rest = rest.get(at + 1..).unwrap_or_default();
                continue;
            }
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

fn hex_octet(digits: &str) -> Option<u8> {
    if digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// RFC 3986 §5.2.4, keeping empty segments.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_dots = false;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_in_dots = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if ends_in_dots || kept.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        Url::parse(text).map_or_else(|e| format!("error: {e}"), |url| url.as_str().to_owned())
    }

    #[test]
    fn the_normal_form_folds_what_names_the_same_file_and_nothing_else() {
        for (given, wanted) in [
            ("HTTP://Mirror.Example:80/A/b", "http://mirror.example/A/b"),
            ("https://m:443/", "https://m/"),
            ("http://m:8080", "http://m:8080/"),
            ("http://m?x", "http://m/?x"),
            ("http://m/%7euser/%2fa%2B", "http://m/~user/%2Fa%2B"),
            ("http://m/a/./b/../c", "http://m/a/c"),
            ("http://m/a/%2e%2E/c", "http://m/c"),
            ("http://m/../../c", "http://m/c"),
            ("http://m/a/..", "http://m/"),
            ("http://m/a/.", "http://m/a/"),
            ("http://m//a///b", "http://m//a///b"),
            ("http://m//../a", "http://m/a"),
            ("http://m/a/.hidden/..b", "http://m/a/.hidden/..b"),
            ("http://m/a%zz%4", "http://m/a%zz%4"),
            ("http://m/%2%65%2%65/secret", "http://m/%2%65%2%65/secret"),
            ("http://m/%%32e%%32e/x", "http://m/%%32e%%32e/x"),
            ("http://m/%252e%252e/x", "http://m/%252e%252e/x"),
            ("http://m/%zz%41%41", "http://m/%zzAA"),
            ("http://m/a?q=%7e/../x#frag", "http://m/a?q=%7e/../x"),
            ("http://m./a", "http://m/a"),
            ("http://[::0001]:80/a", "http://[::1]/a"),
            ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ] {
            assert_eq!(normal(given), wanted, "{given}");
        }
    }

    #[test]
    fn the_normal_form_of_a_normal_form_is_itself() {
        // Pieces that may join into escapes and dot segments.
        const PIECES: [&str; 14] = [
            "%", "%2", "%25", "%2e", "%2E", "%32", "%65", "%2f", "2", "e", ".", "..", "/", "\u{e4}",
        ];
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap()
        };
        for _ in 0..20_000 {
            let soup: String = (0..next() % 12).map(|_| PIECES[next() % 14]).collect();
            let once = normal(&format!("http://m/{soup}"));
            assert_eq!(normal(&once), once, "{soup}");
            // Nor does the next reader's own decoding make a way up of what had none.
            let is_up = |text: &str| text.split('/').any(|segment| segment == "..");
            assert!(!is_up(&once), "{soup}");
            let spells_up = once.to_ascii_lowercase().replace("%2e", ".");
            assert!(!is_up(&spells_up), "{soup}");
        }
    }

    #[test]
    fn what_is_no_http_url_is_told_apart() {
        for (given, wanted) in [
            ("mirror/a", UrlError::NoScheme),
            ("ftp://m/a", UrlError::UnsupportedScheme("ftp".into())),
            ("http:///a", UrlError::BadHost),
            ("http://u:p@m/a", UrlError::UserInfo),
            ("http://m:0/", UrlError::BadPort),
            ("http://m:99999/", UrlError::BadPort),
            ("http://m:/", UrlError::BadPort),
            ("http://m:+80/", UrlError::BadPort),
            ("http://a..b/", UrlError::BadHost),
            ("http://a%41/", UrlError::BadHost),
            ("http://[::1/", UrlError::BadHost),
            ("http://[fe80::1%25eth0]/", UrlError::BadHost),
            ("http://m/a b", UrlError::BadCharacter),
            ("http://m/a\tb", UrlError::BadCharacter),
        ] {
            assert_eq!(Url::parse(given), Err(wanted), "{given}");
        }
    }

    #[test]
    fn plus_and_its_escape_share_a_key_but_not_the_request_target() {
        let dnf = Url::parse("http://m/p/libstdc%2b%2b.rpm?a=%2b").unwrap();
        let apt = Url::parse("http://m/p/libstdc++.rpm?a=%2b").unwrap();
        assert_eq!(dnf.key_text(), apt.key_text());
        assert_eq!(dnf.path_and_query(), "/p/libstdc%2B%2B.rpm?a=%2b");
    }

    #[test]
    fn parts_can_be_read_back() {
        let url = Url::parse("http://M.example:8080/d/f.rpm?x=1").unwrap();
        assert_eq!(url.host_field(), "m.example:8080");
        assert_eq!(
            (url.path(), url.query(), url.file_name()),
            ("/d/f.rpm", Some("x=1"), "f.rpm")
        );
        let other = Authority {
            host: "n".into(),
            port: 443,
        };
        assert_eq!(
            url.rebased(Scheme::Https, &other).as_str(),
            "https://n/d/f.rpm?x=1"
        );
        assert_eq!(
            Url::parse("http://[::ffff:127.0.0.1]/").unwrap().host_ip(),
            "127.0.0.1".parse().ok()
        );
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        let base = Url::parse("http://m.example/a/b/c?q").unwrap();
        for (reference, wanted) in [
            (
                "https://other.example:8443/x",
                "https://other.example:8443/x",
            ),
            ("//other.example/x", "http://other.example/x"),
            ("/x/../y", "http://m.example/y"),
            ("d", "http://m.example/a/b/d"),
            ("../d", "http://m.example/a/d"),
            ("?r", "http://m.example/a/b/c?r"),
            ("d?u=http://z/", "http://m.example/a/b/d?u=http://z/"),
        ] {
            assert_eq!(base.resolve(reference).unwrap().as_str(), wanted);
        }
        assert!(base.resolve("ftp://other.example/").is_err());
        assert!(base.resolve("/a b").is_err());
    }
}
