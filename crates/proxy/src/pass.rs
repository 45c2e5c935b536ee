//! Answers that go straight from the origin to one client; nothing is kept.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, DATE, HeaderValue, LOCATION};
use http::{Method, StatusCode};
use hyper::body::{Body as _, Incoming};
use larder_policy::headers::{CacheStatus, Forwarded, remove_hop_by_hop};
use larder_policy::key::CacheKey;
use larder_policy::part::{self, Answers};
use larder_policy::reason::Pass;
use larder_policy::url::Url;

use crate::asked::Asked;
use crate::body::Body;
use crate::fetch::as_asked;
use crate::origin::{Arrived, OriginError, Outgoing, Upload};
use crate::record::Outcome;
use crate::reply::{self, Reply};

/// Sends the request on as it is and hands the answer back.
pub(crate) async fn reply(asked: &Asked, body: Option<Incoming>, why: Pass) -> Reply {
    if asked.policy.offline {
        return reply::offline_miss();
    }
    let body = body.filter(|_| asked.has_body);
    let limit = asked.shared.limits.request_body;
    let length = body.as_ref().and_then(|body| body.size_hint().exact());
    if length.is_some_and(|length| length > limit) {
        return reply::body_too_large();
    }
    let is_plain = body.is_none() && matches!(asked.method, Method::GET | Method::HEAD);
    let asking = if is_plain {
        as_asked(asked).await
    } else {
        let upload = body.map(|body| Upload::new(body, limit));
        let outgoing = Outgoing::new(asked.method.clone(), asked.headers.clone(), upload);
        asked.shared.origins.fetch(asked, outgoing).await
    };
    match asking.and_then(|arrived| as_one_part(asked, arrived)) {
        Ok(arrived) => {
            invalidate(asked, &arrived).await;
            hand_on(
                asked,
                arrived,
                why.forwarded(),
                Some(why.as_str()),
                Outcome::Miss,
            )
        }
        Err(OriginError::BodyTooLarge) => reply::body_too_large(),
        Err(OriginError::BodyBroken) => reply::body_broken(),
        Err(error) => reply::origin_failed(asked, &error, why.forwarded(), false),
    }
}

/// A part goes on to a client only if it is one, of the range that was asked for: a downloader that
/// writes what comes where it wanted it would keep wrong bytes. A length that the chunks do not tell
/// is told, so that a cut is seen.
fn as_one_part(asked: &Asked, mut arrived: Arrived) -> Result<Arrived, OriginError> {
    let (Some(specs), StatusCode::PARTIAL_CONTENT) = (&asked.ranges, arrived.response.status())
    else {
        return Ok(arrived);
    };
    let told = arrived.length();
    match part::answers(specs, arrived.response.headers(), told) {
        Answers::No => Err(OriginError::OddPart(arrived.to.label())),
        Answers::With(length) => {
            if told.is_none() {
                let length = HeaderValue::from(length);
                arrived
                    .response
                    .headers_mut()
                    .insert(CONTENT_LENGTH, length);
            }
            Ok(arrived)
        }
        Answers::InParts => Ok(arrived),
    }
}

/// RFC 9111 §4.4: a successful unsafe request makes what is held under its URL unusable, and what
/// is held under the URLs of the same site that its answer names.
async fn invalidate(asked: &Asked, arrived: &Arrived) {
    let safe = matches!(
        asked.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    let status = arrived.response.status();
    if safe || !(status.is_success() || status.is_redirection()) {
        return;
    }
    forget(asked, &asked.url).await;
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = arrived.response.headers().get(name);
        let url = named
            .and_then(|value| value.to_str().ok())
            .and_then(|text| asked.url.resolve(text).ok())
            .filter(|url| url.host_field() == asked.url.host_field());
        if let Some(url) = url {
            forget(asked, &url).await;
        }
    }
}

/// Removes what is held, and what has just been drawn and is being put in place, under every key
/// that a GET of the URL could read: the one that it shares, and its own, which requests with
/// credentials have and answers about the mirror alone.
async fn forget(asked: &Asked, url: &Url) {
    let store = &asked.shared.store;
    let facts = crate::asked::facts(&asked.inlet, "GET", url);
    let mut keys = vec![CacheKey::of_url(url), asked.policy.naming(url, &facts).key];
    keys.dedup();
    for key in &keys {
        store.settled(key).await;
        store.invalidate(key).await;
    }
}

/// An origin's answer with its body streamed through.
pub(crate) fn hand_on(
    asked: &Asked,
    arrived: Arrived,
    forwarded: Forwarded,
    detail: Option<&'static str>,
    outcome: Outcome,
) -> Reply {
    let stall = asked.shared.origins.stall_timeout();
    let Arrived {
        response,
        lease,
        hierarchy,
        mirror,
        response_time,
        ..
    } = arrived;
    let origin_status = response.status().as_u16();
    let mut response = if response.body().is_end_stream() {
        // Nobody will read it to its end, which is here.
        lease.give_back();
        response.map(|_empty| Body::empty())
    } else {
        response.map(|incoming| Body::from_origin(incoming, lease, stall))
    };
    remove_hop_by_hop(response.headers_mut());
    let version = response.version();
    // Our own version: a body of unknown length goes out in chunks, so that a cut is seen.
    *response.version_mut() = http::Version::HTTP_11;
    if response.status() == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if !response.headers().contains_key(DATE)
        && let Ok(value) = HeaderValue::from_str(&response_time.to_http_date())
    {
        // RFC 9110 §6.6.1: when it was received.
        response.headers_mut().insert(DATE, value);
    }
    debug_assert!(!response.headers().contains_key(CONNECTION));
    let status = CacheStatus {
        forwarded: Some(forwarded),
        status: Some(origin_status),
        detail,
        ..CacheStatus::default()
    };
    reply::mark_of(asked, response.headers_mut(), status, None, version);
    Reply::of(response, outcome)
        .from(hierarchy, mirror)
        .named_by(asked)
}
