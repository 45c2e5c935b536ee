//! Where one hop's request goes and how it is written, and what its answer says of places in the
//! client's terms.

use std::sync::Arc;

use http::Uri;
use http::header::{
    CONTENT_LENGTH, CONTENT_LOCATION, HOST, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION,
};
use http_body_util::{Either, Empty};
use hyper::Request;
use larder_policy::route::{Hop, Origin, authority_field};
use larder_policy::url::{Authority, Scheme, Url};

use super::pool::Destination;
use super::upload::Moved;
use super::{OriginError, OutBody, Outgoing};
use crate::asked::Asked;

/// The usual port of https on the same host.
fn secure(authority: &Authority) -> Authority {
    Authority {
        host: authority.host.clone(),
        port: Scheme::Https.default_port(),
    }
}

/// Where one hop's request goes and how it is written.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) to: Destination,
    /// Exempt from port and address rules.
    pub(super) configured: bool,
    target: String,
    host: String,
    proxy_authorization: Option<String>,
    pub(super) mirror: Option<String>,
    /// Whose file is asked for: an origin of a pool has its own, everybody else has that of the host
    /// that the URL names.
    pub(super) speaker: String,
    /// What the origin of a pool calls itself and its files.
    home: Option<Home>,
}

impl Address {
    pub(super) fn of(hop: Hop<'_>, asked: &Asked) -> Self {
        let url = &asked.url;
        let named = url.host_field().to_owned();
        match hop {
            Hop::Direct => Self {
                to: Destination::direct(url.scheme(), url.authority()),
                configured: false,
                target: url.path_and_query().to_owned(),
                host: url.host_field().to_owned(),
                proxy_authorization: None,
                mirror: None,
                speaker: named,
                home: None,
            },
            Hop::Secure => Self {
                to: Destination::direct(Scheme::Https, secure(&url.authority())),
                configured: false,
                target: url.path_and_query().to_owned(),
                host: url.host_field().to_owned(),
                proxy_authorization: None,
                mirror: None,
                speaker: named,
                home: None,
            },
            Hop::Origin(mirror, origin) => Self {
                to: Destination::direct(origin.scheme, origin.authority.clone()),
                configured: true,
                target: origin.target(url),
                host: origin.host_field(url),
                proxy_authorization: None,
                mirror: Some(mirror.name.clone()),
                speaker: Destination::direct(origin.scheme, origin.authority.clone()).label(),
                home: Home::of(origin, url),
            },
            Hop::Parent(parent) => {
                let through_tunnel = url.scheme() == Scheme::Https;
                let to = if through_tunnel {
                    Destination::behind(parent, url.authority())
                } else {
                    Destination::direct(Scheme::Http, parent.authority.clone())
                };
                Self {
                    to,
                    configured: true,
                    // A parent is asked with the whole URL (RFC 9112 §3.2.2).
                    target: if through_tunnel {
                        url.path_and_query().to_owned()
                    } else {
                        url.as_str().to_owned()
                    },
                    host: authority_field(url.scheme(), &url.authority()),
                    proxy_authorization: parent.authorization.clone().filter(|_| !through_tunnel),
                    mirror: Some(parent.name.clone()),
                    speaker: named,
                    home: None,
                }
            }
        }
    }

    /// What tells it from other ways to the same file.
    pub(super) fn way(self) -> (Destination, String, String) {
        (self.to, self.host, self.target)
    }

    /// The request as this hop gets it: rebuilt, never copied from the wire.
    pub(super) fn request(
        &self,
        outgoing: &mut Outgoing,
    ) -> Result<(Request<OutBody>, Option<Arc<Moved>>), OriginError> {
        let uri: Uri = self.target.parse().map_err(|_e| OriginError::BadTarget)?;
        let host = HeaderValue::from_str(&self.host).map_err(|_e| OriginError::BadTarget)?;
        let (body, moved) = match outgoing.body.take() {
            Some(body) => {
                let moved = body.moved();
                (Either::Left(body), Some(moved))
            }
            None => (Either::Right(Empty::new()), None),
        };
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.extend(
            outgoing
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        if matches!(request.body(), Either::Right(_)) {
            request.headers_mut().remove(CONTENT_LENGTH);
        }
        if let Some(credentials) = &self.proxy_authorization {
            let value = HeaderValue::from_str(credentials).map_err(|_e| OriginError::BadTarget)?;
            request.headers_mut().insert(PROXY_AUTHORIZATION, value);
        }
        Ok((request, moved))
    }

    /// Says where an answer leads as its client would ask for it: an origin of a pool that stands
    /// under another name, or keeps its files in a folder, speaks of them by its own.
    pub(super) fn translate(&self, headers: &mut HeaderMap) {
        let Some(home) = &self.home else { return };
        for name in [LOCATION, CONTENT_LOCATION] {
            let told = headers.get(&name).and_then(|value| value.to_str().ok());
            let meant = told.and_then(|told| home.for_clients(told));
            if let Some(value) = meant.and_then(|meant| HeaderValue::from_str(&meant).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Where a file of a pool lies at one of its origins.
#[derive(Debug)]
struct Home {
    /// The file that is asked for.
    url: Url,
    /// What stands before each path.
    base: String,
}

impl Home {
    fn of(origin: &Origin, url: &Url) -> Option<Self> {
        let site = (origin.scheme.as_str(), origin.host_field(url));
        let text = format!("{}://{}{}", site.0, site.1, origin.target(url));
        Some(Self {
            url: Url::parse(&text).ok()?,
            base: origin.base_path.clone(),
        })
    }

    /// A reference in an answer (RFC 9110 §10.2.2), where it means another thing to clients than to
    /// the origin.
    fn for_clients(&self, told: &str) -> Option<String> {
        let meant = self.url.resolve(told).ok()?;
        let is_here =
            meant.scheme() == self.url.scheme() && meant.host_field() == self.url.host_field();
        let below = meant.path_and_query().strip_prefix(self.base.as_str());
        let fragment = told.find('#').and_then(|at| told.get(at..)).unwrap_or("");
        match below.filter(|below| is_here && below.starts_with('/')) {
            Some(below) => Some(format!("{below}{fragment}")),
            None if is_here && !self.base.is_empty() => {
                Some(format!("{}{fragment}", meant.as_str()))
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_origin_says_of_its_files_is_told_as_clients_ask_for_them() {
        let url = Url::parse("http://pool.test/p/a.rpm").unwrap();
        for (origin, told, meant) in [
            ("http://m.test/base/", "/base/b.rpm", Some("/b.rpm")),
            (
                "http://m.test/base/",
                "http://m.test/base/b.rpm?q#f",
                Some("/b.rpm?q#f"),
            ),
            ("http://m.test/base/", "b.rpm", Some("/p/b.rpm")),
            (
                "http://m.test/base/",
                "/other/b.rpm",
                Some("http://m.test/other/b.rpm"),
            ),
            (
                "http://m.test/base/",
                "/basement/b.rpm",
                Some("http://m.test/basement/b.rpm"),
            ),
            ("http://m.test/base/", "http://n.test/base/b.rpm", None),
            ("http://m.test/base/", "https://m.test/base/b.rpm", None),
            ("http://m.test/", "http://m.test/b.rpm", Some("/b.rpm")),
            ("http://m.test/", "../b.rpm", Some("/b.rpm")),
        ] {
            let home = Home::of(&Origin::parse(origin).unwrap(), &url).unwrap();
            assert_eq!(home.for_clients(told).as_deref(), meant, "{origin} {told}");
        }
    }
}
