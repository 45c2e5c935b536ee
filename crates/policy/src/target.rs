//! What a request line asks for: a tunnel, a resource of some origin, or larder's own pages.
//!
//! The target URI decides, not the Host field (RFC 9112 §3.2.2); Host must still be there, once
//! and valid (§3.2). An accelerator rebuilds the URL on its own site and never reaches another
//! host; a forward listener takes absolute URLs, `CONNECT`, and `/http/HOST/PATH` for clients that
//! know no proxy.

use http::{HeaderMap, Method, Uri, Version};

use crate::url::{Authority, Scheme, Url, UrlError};

/// What the requests of a listener mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A proxy that clients are configured to use.
    Forward,
    /// A stand-in for one site.
    Accelerator(Site),
}

impl Mode {
    /// The word for logs: `forward` or `accelerator`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Accelerator(_) => "accelerator",
        }
    }
}

/// The site that an accelerator stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The authority of its URLs (`defaultsite=`, or the mirror's first host).
    pub authority: Authority,
    /// The name that a request has replaces it (Squid's `vhost`).
    pub vhost: bool,
    /// The mirror of larder.toml that it stands for, by name.
    pub mirror: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `CONNECT host:port`.
    Tunnel(Authority),
    /// A file of some origin.
    Resource(Url),
    /// A page of larder's own, by its path.
    Own(String),
    /// `OPTIONS *`: the server itself (RFC 9110 §9.3.7).
    Server,
}

/// Why a request line cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// HTTP/1.1 without Host (RFC 9112 §3.2).
    #[error("the request has no Host field")]
    NoHost,
    /// Several Host fields, or one that is no host (RFC 9112 §3.2).
    #[error("the Host field is not valid")]
    BadHost,
    /// The target is no valid URL.
    #[error("{0}")]
    BadUrl(#[from] UrlError),
    /// A form of target that the method or the listener does not have.
    #[error("this form of request target is not served here")]
    BadForm,
    /// `CONNECT` at an accelerator.
    #[error("tunnels are not served here")]
    NoTunnels,
}

impl TargetError {
    /// The status that the client gets.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadUrl(UrlError::UnsupportedScheme(_)) => 501,
            Self::NoTunnels => 405,
            Self::NoHost | Self::BadHost | Self::BadUrl(_) | Self::BadForm => 400,
        }
    }
}

/// The parts of a request that decide what it asks for.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: &'a Method,
    /// The request target as parsed.
    pub uri: &'a Uri,
    /// The protocol version.
    pub version: Version,
    /// The header fields (for Host).
    pub headers: &'a HeaderMap,
}

impl Target {
    /// Reads what a request asks for at a listener of this mode.
    pub fn of(request: RequestLine<'_>, mode: &Mode) -> Result<Self, TargetError> {
        let host = host_field(request)?;
        if request.method == Method::CONNECT {
            return match mode {
                Mode::Accelerator(_) => Err(TargetError::NoTunnels),
                Mode::Forward => tunnel(request.uri),
            };
        }
        if request.method == Method::OPTIONS && request.uri.path() == "*" {
            return Ok(Self::Server);
        }
        match mode {
            Mode::Forward => forward(request.uri),
            Mode::Accelerator(site) => accelerated(request.uri, site, host),
        }
    }
}

/// RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; HTTP/1.0 may leave it out. HTTP/2 has its
/// authority there by now, if it has one (RFC 9113 §8.3.1).
fn host_field(request: RequestLine<'_>) -> Result<Option<Authority>, TargetError> {
    let mut lines = request.headers.get_all(http::header::HOST).iter();
    let Some(value) = lines.next() else {
        let needed = request.version >= Version::HTTP_11;
        return if needed {
            Err(TargetError::NoHost)
        } else {
            Ok(None)
        };
    };
    if lines.next().is_some() {
        return Err(TargetError::BadHost);
    }
    let text = value.to_str().map_err(|_e| TargetError::BadHost)?;
    if text.is_empty() {
        return Ok(None);
    }
    Authority::parse(text, Some(80))
        .map(Some)
        .map_err(|_e| TargetError::BadHost)
}

/// RFC 9110 §9.3.6: host and port, both of them and nothing else.
fn tunnel(uri: &Uri) -> Result<Target, TargetError> {
    if uri.scheme().is_some() || uri.path_and_query().is_some() {
        return Err(TargetError::BadForm);
    }
    let authority = uri.authority().ok_or(TargetError::BadForm)?;
    Ok(Target::Tunnel(Authority::parse(authority.as_str(), None)?))
}

fn forward(uri: &Uri) -> Result<Target, TargetError> {
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) => {
            Ok(Target::Resource(absolute(scheme, authority.as_str(), uri)?))
        }
        (None, None) => origin_form(path_and_query(uri)),
        (Some(_), None) | (None, Some(_)) => Err(TargetError::BadForm),
    }
}

fn absolute(scheme: &str, authority: &str, uri: &Uri) -> Result<Url, UrlError> {
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => return Err(UrlError::UnsupportedScheme(other.to_owned())),
    };
    // apt-cacher-ng's way to name an https origin without a tunnel: http://HTTPS///host/path.
    if scheme == Scheme::Http
        && authority.eq_ignore_ascii_case("https")
        && let Some(rest) = path_and_query(uri).strip_prefix("///")
    {
        return Url::parse(&format!("https://{rest}"));
    }
    let authority = Authority::parse(authority, Some(scheme.default_port()))?;
    Url::from_parts(scheme, &authority, path_and_query(uri))
}

/// `/http/HOST/PATH` and `/https/HOST/PATH` name a file of an origin; other paths are our own.
fn origin_form(target: &str) -> Result<Target, TargetError> {
    for (prefix, scheme) in [("/http/", Scheme::Http), ("/https/", Scheme::Https)] {
        if let Some(rest) = target.strip_prefix(prefix) {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, path) = rest.split_at(at);
            let authority = Authority::parse(host, Some(scheme.default_port()))?;
            return Ok(Target::Resource(Url::from_parts(scheme, &authority, path)?));
        }
    }
    Ok(Target::Own(
        target.split('?').next().unwrap_or("/").to_owned(),
    ))
}

/// An absolute URL is cut down to its path; the site's own authority replaces whatever it named. Where
/// names count, that of the URL does, and Host is not looked at (RFC 9112 §3.2.2).
fn accelerated(uri: &Uri, site: &Site, host: Option<Authority>) -> Result<Target, TargetError> {
    let target = path_and_query(uri);
    if let Some(own) = target.strip_prefix("/.larder")
        && (own.is_empty() || own.starts_with(['/', '?']))
    {
        return Ok(Target::Own(own.split('?').next().unwrap_or("/").to_owned()));
    }
    let named = match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => {
            Some(Authority::parse(authority.as_str(), Some(80))?)
        }
        (Some(other), Some(_)) => {
            return Err(UrlError::UnsupportedScheme(other.to_owned()).into());
        }
        (None, None) => host,
        (Some(_), None) | (None, Some(_)) => return Err(TargetError::BadForm),
    };
    let authority = named
        .filter(|_| site.vhost)
        .unwrap_or_else(|| site.authority.clone());
    Ok(Target::Resource(Url::from_parts(
        Scheme::Http,
        &authority,
        target,
    )?))
}

fn path_and_query(uri: &Uri) -> &str {
    uri.path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(method: &str, uri: &str, host: &[&str], mode: &Mode) -> Result<Target, TargetError> {
        let mut headers = HeaderMap::new();
        for value in host {
            headers.append("host", HeaderValue::from_str(value).unwrap());
        }
        let method = method.parse().unwrap();
        let uri = uri.parse().unwrap();
        Target::of(
            RequestLine {
                method: &method,
                uri: &uri,
                version: Version::HTTP_11,
                headers: &headers,
            },
            mode,
        )
    }

    fn shown(result: Result<Target, TargetError>) -> String {
        match result {
            Ok(Target::Tunnel(authority)) => format!("tunnel {authority}"),
            Ok(Target::Resource(url)) => url.to_string(),
            Ok(Target::Own(path)) => format!("own {path}"),
            Ok(Target::Server) => "server".into(),
            Err(error) => format!("{} {error}", error.status()),
        }
    }

    #[test]
    fn a_forward_listener_follows_the_target_and_not_the_host_field() {
        for (method, uri, host, wanted) in [
            ("GET", "http://M/a", "other", "http://m/a"),
            ("GET", "https://m/a", "m", "https://m/a"),
            ("GET", "/", "larder:3128", "own /"),
            (
                "GET",
                "/http/m:8080/a?b",
                "larder:3128",
                "http://m:8080/a?b",
            ),
            ("GET", "/https/m/a", "larder:3128", "https://m/a"),
            ("GET", "/https/m", "larder:3128", "https://m/"),
            ("GET", "/favicon.ico", "larder", "own /favicon.ico"),
            ("CONNECT", "m:443", "m:443", "tunnel m:443"),
            ("CONNECT", "m", "m", "400 the port is not valid"),
            (
                "CONNECT",
                "http://m:443/",
                "m",
                "400 this form of request target is not served here",
            ),
            ("OPTIONS", "*", "m", "server"),
            ("GET", "ftp://m/a", "m", "501 the scheme ftp: is not served"),
            ("GET", "http://m:0/a", "m", "400 the port is not valid"),
            ("GET", "/http/", "m", "400 the host name is not valid"),
        ] {
            assert_eq!(
                shown(read(method, uri, &[host], &Mode::Forward)),
                wanted,
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn an_accelerator_never_leaves_its_site() {
        let site = Site {
            authority: Authority {
                host: "site".into(),
                port: 80,
            },
            vhost: false,
            mirror: None,
        };
        let fixed = Mode::Accelerator(site.clone());
        let vhost = Mode::Accelerator(Site {
            vhost: true,
            ..site
        });
        for (method, uri, mode, wanted) in [
            ("GET", "/a?b", &fixed, "http://site/a?b"),
            ("GET", "http://evil/a", &fixed, "http://site/a"),
            ("GET", "/http/evil/a", &fixed, "http://site/http/evil/a"),
            ("GET", "/a", &vhost, "http://named/a"),
            ("GET", "http://other:81/a", &vhost, "http://other:81/a"),
            ("GET", "HTTP://other/a", &vhost, "http://other/a"),
            (
                "GET",
                "ftp://evil/a",
                &fixed,
                "501 the scheme ftp: is not served",
            ),
            ("GET", "/.larder/", &fixed, "own /"),
            ("GET", "/.larderx", &fixed, "http://site/.larderx"),
            (
                "CONNECT",
                "m:443",
                &fixed,
                "405 tunnels are not served here",
            ),
        ] {
            assert_eq!(
                shown(read(method, uri, &["named"], mode)),
                wanted,
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn host_must_be_there_once_and_valid() {
        let of = |host: &[&str]| shown(read("GET", "http://m/", host, &Mode::Forward));
        assert_eq!(of(&[]), "400 the request has no Host field");
        assert_eq!(of(&["m", "m"]), "400 the Host field is not valid");
        assert_eq!(of(&["a b"]), "400 the Host field is not valid");
        assert_eq!(of(&["m/x"]), "400 the Host field is not valid");
        assert_eq!(of(&["u@m"]), "400 the Host field is not valid");
        assert_eq!(of(&[""]), "http://m/");
    }
}
