//! Answers and their heads: what every answer carries, and the pages that larder writes itself.
//!
//! A page tells the client what to do in a sentence; the operator's text (addresses, causes) goes
//! to the log.

use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, VIA,
};
use http::{Response, StatusCode};
use larder_policy::framing::FramingError;
use larder_policy::headers::{CACHE_STATUS, CacheStatus, Forwarded, X_CACHE};
use larder_policy::meta::UnixTime;
use larder_policy::target::TargetError;

use crate::asked::Asked;
use crate::body::Body;
use crate::origin::OriginError;
use crate::record::{Hierarchy, Outcome};

/// What is held stands in for an origin that failed (RFC 5861 §4).
pub(crate) const STALE_IF_ERROR: &str = "stale-if-error";

/// An answer and what its record says.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response<Body>,
    pub(crate) outcome: Outcome,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) mirror: Option<String>,
    pub(crate) store_id_rule: Option<usize>,
    pub(crate) detail: Option<&'static str>,
}

impl Reply {
    /// An answer that came from no origin.
    pub(crate) fn of(response: Response<Body>, outcome: Outcome) -> Self {
        Self {
            response,
            outcome,
            hierarchy: Hierarchy::None,
            mirror: None,
            store_id_rule: None,
            detail: None,
        }
    }

    /// Where it came from.
    pub(crate) fn from(mut self, hierarchy: Hierarchy, mirror: Option<String>) -> Self {
        self.hierarchy = hierarchy;
        self.mirror = mirror;
        self
    }

    /// What the request was named by, for the metrics.
    pub(crate) fn named_by(mut self, asked: &Asked) -> Self {
        self.store_id_rule = asked.naming.rule;
        self
    }

    /// A word more, for log and `Cache-Status`.
    pub(crate) fn with_detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }
}

/// Adds what every answer that went through the cache carries: Age where it was held
/// (RFC 9111 §5.1), Via, `Cache-Status`, `X-Cache`.
pub(crate) fn mark(asked: &Asked, headers: &mut HeaderMap, status: CacheStatus, age: Option<i64>) {
    mark_of(asked, headers, status, age, http::Version::HTTP_11);
}

/// The same for an answer that came in this version of HTTP (RFC 9110 §7.6.3).
pub(crate) fn mark_of(
    asked: &Asked,
    headers: &mut HeaderMap,
    status: CacheStatus,
    age: Option<i64>,
    version: http::Version,
) {
    let name = &asked.shared.name;
    // Where nothing was held, the origin's own Age stays.
    if let Some(age) = age {
        headers.insert(AGE, HeaderValue::from(age.max(0)));
    }
    let mut via = HeaderMap::new();
    for value in headers.get_all(VIA) {
        via.append(VIA, value.clone());
    }
    larder_policy::headers::add_via(&mut via, version, name);
    if let Some(value) = via.remove(VIA) {
        headers.insert(VIA, value);
    }
    // As Squid has it: what the origin confirmed, or could not speak of, was a hit.
    let is_confirmed = status.status == Some(304) && age.is_some();
    let is_kept = status.detail == Some(STALE_IF_ERROR);
    let word = if status.forwarded.is_none() || is_confirmed || is_kept {
        "HIT"
    } else {
        "MISS"
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{word} from {name}")) {
        headers.insert(X_CACHE, value);
    }
    if let Ok(value) = HeaderValue::from_str(&status.to_value()) {
        // RFC 9211 §2: our member comes after those of caches nearer to the origin.
        headers.append(CACHE_STATUS, value);
    }
}

/// A page that larder writes itself: a title, and a sentence for the person at the client.
pub(crate) fn page(status: StatusCode, title: &str, text: &str) -> Response<Body> {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1>\n<p>{text}</p>\n<p><small>larder</small></p></body></html>\n",
        title = escaped(title),
        text = escaped(text),
    );
    html_page(status, html)
}

/// A complete HTML document as an answer.
pub(crate) fn html_page(status: StatusCode, html: String) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(html.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    stamp(headers);
    *response.status_mut() = status;
    *response.body_mut() = Body::bytes(html);
    response
}

/// Adds Date, which an answer of our own must have (RFC 9110 §6.6.1).
pub(crate) fn stamp(headers: &mut HeaderMap) {
    let now = UnixTime::from(std::time::SystemTime::now());
    if let Ok(value) = HeaderValue::from_str(&now.to_http_date()) {
        headers.insert(DATE, value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The request line cannot be served.
pub(crate) fn refused(error: &TargetError) -> Reply {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let title = status.canonical_reason().unwrap_or("Bad Request");
    let mut response = page(
        status,
        title,
        &format!("This request cannot be served: {error}."),
    );
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response
            .headers_mut()
            .insert(http::header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Reply::of(response, Outcome::None)
}

/// The request's length can be read two ways, or its coding is unknown (RFC 9112 §6.1, §6.3). The
/// connection ends: what follows on it is nobody's to interpret.
pub(crate) fn unframed(why: FramingError) -> Reply {
    let status = match why {
        FramingError::Coding => StatusCode::NOT_IMPLEMENTED,
        FramingError::Ambiguous => StatusCode::BAD_REQUEST,
    };
    let title = status.canonical_reason().unwrap_or("Bad Request");
    let mut response = page(
        status,
        title,
        &format!("This request cannot be read: {why}."),
    );
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    Reply::of(response, Outcome::None)
}

/// RFC 9110 §15.5.14. The connection ends: the rest of the body is not read.
pub(crate) fn body_too_large() -> Reply {
    let text = "What this request carries is larger than this proxy passes on.";
    let mut response = page(StatusCode::PAYLOAD_TOO_LARGE, "Content Too Large", text);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    Reply::of(response, Outcome::None)
}

/// The request's body broke off, or is none (RFC 9112 §8). Where it would end cannot be told.
pub(crate) fn body_broken() -> Reply {
    let text = "What this request carries ends before its end, or cannot be read.";
    let mut response = page(StatusCode::BAD_REQUEST, "Bad Request", text);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    Reply::of(response, Outcome::None)
}

/// RFC 6585 §5: `header-bytes` is the bound. The connection ends.
pub(crate) fn head_too_large() -> Reply {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let text = "The head of this request is larger than this proxy reads.";
    let mut response = page(status, "Request Header Fields Too Large", text);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    Reply::of(response, Outcome::None)
}

/// An access rule says no; the page names it.
pub(crate) fn denied(rule: &str) -> Reply {
    let text = format!(
        "The rule \u{201c}{rule}\u{201d} does not let this request through. Ask the administrator \
         of this proxy if it should."
    );
    Reply::of(
        page(StatusCode::FORBIDDEN, "Forbidden", &text),
        Outcome::Denied,
    )
}

/// RFC 9110 §7.6.3: Via shows that the request has been here.
pub(crate) fn loop_detected() -> Reply {
    let text = "This request has come through this proxy before. Two proxies point at each other.";
    Reply::of(
        page(StatusCode::LOOP_DETECTED, "Loop Detected", text),
        Outcome::None,
    )
}

/// RFC 9111 §5.2.1.7.
pub(crate) fn only_if_cached() -> Reply {
    let text = "The request asked for a cached copy only, and none that is fresh is held.";
    Reply::of(
        page(StatusCode::GATEWAY_TIMEOUT, "Not Held", text),
        Outcome::None,
    )
}

/// A walk has come to where none should: a fault of ours, and the page says so.
pub(crate) fn lost_way() -> Reply {
    let text =
        "This proxy has lost its way with this request. It may go through when it is repeated.";
    tracing::error!("a request's walk came to no answer");
    Reply::of(
        page(StatusCode::BAD_GATEWAY, "Bad Gateway", text),
        Outcome::None,
    )
}

/// Nothing is held and the proxy is offline.
pub(crate) fn offline_miss() -> Reply {
    let text = "This proxy works offline and does not hold this file.";
    Reply::of(
        page(StatusCode::GATEWAY_TIMEOUT, "Offline", text),
        Outcome::None,
    )
    .with_detail("offline")
}

/// No origin answered: the page says what kind of failure, the log says the rest.
/// `forwarded` says why one was asked; `is_unconfirmed`: it was about a copy that may not be used
/// without its word.
pub(crate) fn origin_failed(
    asked: &Asked,
    error: &OriginError,
    forwarded: Forwarded,
    is_unconfirmed: bool,
) -> Reply {
    if matches!(error, OriginError::Itself(_)) && asked.url.path() == "/" {
        // The listener was asked for by its host's name.
        return crate::own::page("/", &asked.inlet);
    }
    log_failure(asked.url.as_str(), error);
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let status = if is_unconfirmed && status.is_server_error() {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        status
    };
    let title = status.canonical_reason().unwrap_or("Bad Gateway");
    let outcome = if error.is_denial() {
        Outcome::Denied
    } else {
        Outcome::Miss
    };
    let mut response = page(status, title, &error.for_client(asked.url.host()));
    let told = CacheStatus {
        forwarded: Some(forwarded),
        detail: Some("origin-failed"),
        ..CacheStatus::default()
    };
    mark(asked, response.headers_mut(), told, None);
    Reply::of(response, outcome).from(error.hierarchy(), None)
}

/// The fetch that this client waited for with others failed.
pub(crate) fn failed_for_all(asked: &Asked, status: u16, forwarded: Forwarded) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let title = status.canonical_reason().unwrap_or("Bad Gateway");
    let text = "The host of this file gave no answer that could be used.";
    let mut response = page(status, title, text);
    let told = CacheStatus {
        forwarded: Some(forwarded),
        collapsed: true,
        detail: Some("origin-failed"),
        ..CacheStatus::default()
    };
    mark(asked, response.headers_mut(), told, None);
    Reply::of(response, Outcome::CollapsedMiss)
}

/// One line for the operator: which origin, what happened.
pub(crate) fn log_failure(what: &str, error: &OriginError) {
    let cause = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::warn!(target = what, cause, "{error}");
}
