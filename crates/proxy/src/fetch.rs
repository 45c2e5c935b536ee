//! One answer for a fill, by way of redirects where the file is a package or an image: mirrors
//! redirect to other mirrors and from http to https, and a client that knows neither TLS nor the
//! other mirror gets the file all the same, kept under the name that it asked for.

use http::header::{AUTHORIZATION, COOKIE};
use larder_policy::route::Hop;
use larder_policy::url::Url;

use crate::asked::{Asked, accelerated, facts};
use crate::origin::{Arrived, OriginError, Outgoing};

/// Redirects that are followed for one answer.
const REDIRECTS_MAX: u32 = 5;

/// Sends what `outgoing` gives for a URL. The request that comes back is the one that was answered:
/// after a redirect its URL is the last one, its key the first.
pub(crate) async fn fetch(
    asked: &Asked,
    outgoing: impl Fn(&Asked) -> Outgoing,
) -> Result<(Asked, Arrived), OriginError> {
    let arrived = ask(asked, &outgoing).await?;
    // Credentials are for the host that they were given for.
    let personal = asked.headers.contains_key(AUTHORIZATION) || asked.headers.contains_key(COOKIE);
    if asked.class.is_package()
        && !personal
        && let Some(found) = follow(asked, &outgoing, &arrived).await
    {
        return Ok(found);
    }
    Ok((asked.clone(), arrived))
}

/// As [`fetch`], with a client's own GET or HEAD as it is.
pub(crate) async fn as_asked(asked: &Asked) -> Result<Arrived, OriginError> {
    let outgoing = |at: &Asked| Outgoing {
        method: at.method.clone(),
        ..Outgoing::get(at.headers.clone())
    };
    let (_at, arrived) = fetch(asked, outgoing).await?;
    Ok(arrived)
}

async fn ask(
    asked: &Asked,
    outgoing: &impl Fn(&Asked) -> Outgoing,
) -> Result<Arrived, OriginError> {
    asked.shared.origins.fetch(asked, outgoing(asked)).await
}

/// Where the redirects end, if that is a file; else the client gets the first redirect itself.
async fn follow(
    asked: &Asked,
    outgoing: &impl Fn(&Asked) -> Outgoing,
    first: &Arrived,
) -> Option<(Asked, Arrived)> {
    let mut location = redirected(asked, asked, first)?;
    for _ in 0..REDIRECTS_MAX {
        let at = Asked {
            url: location,
            redirected: true,
            ..asked.clone()
        };
        let arrived = ask(&at, outgoing).await.ok()?;
        match arrived.response.status().as_u16() {
            200 | 206 | 304 => return Some((at, arrived)),
            _ => location = redirected(asked, &at, &arrived)?,
        }
    }
    None
}

/// The URL of a redirect, met at one URL on behalf of the first, that may be followed
/// (RFC 9110 §15.4).
fn redirected(first: &Asked, asked: &Asked, arrived: &Arrived) -> Option<Url> {
    if !matches!(
        arrived.response.status().as_u16(),
        301 | 302 | 303 | 307 | 308
    ) {
        return None;
    }
    let location = arrived.response.headers().get(http::header::LOCATION)?;
    let url = asked.url.resolve(location.to_str().ok()?).ok()?;
    let allowed = asked
        .policy
        .access
        .decide(&facts(&asked.inlet, "GET", &url))
        .allowed;
    (allowed && stays_on_site(first, &url)).then_some(url)
}

/// An accelerator never reaches a host other than those of its mirror, nor an odd port of theirs.
pub(crate) fn stays_on_site(asked: &Asked, url: &Url) -> bool {
    // Where redirects have led changes nothing about that.
    let Some(name) = accelerated(&asked.inlet) else {
        return true;
    };
    let hops = asked
        .policy
        .routes
        .hops(&asked.url, &asked.facts(), Some(name));
    hops.into_iter().any(|hop| match hop {
        Hop::Origin(mirror, origin) => {
            let named = origin.authority.host == url.host()
                || mirror.hosts.iter().any(|host| host == url.host());
            let usual = url.port() == url.scheme().default_port();
            named && (usual || url.port() == origin.authority.port)
        }
        Hop::Direct | Hop::Secure | Hop::Parent(_) => asked.url.authority() == url.authority(),
    })
}
