//! Answers from bytes that the store has or is getting: preconditions and ranges are evaluated
//! here, once, for hits, followers and leaders alike.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, LAST_MODIFIED, VARY,
};
use http::{Method, Response, StatusCode};
use larder_policy::headers::CacheStatus;
use larder_policy::meta::Meta;
use larder_policy::range::{self, Selection};
use larder_policy::validator::{Precondition, if_range_holds, precondition};
use larder_store::{Entry, Reader, Tail};

use crate::asked::Asked;
use crate::body::{Body, Parts, Piece};
use crate::record::Outcome;
use crate::reply::{self, Reply};

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    /// A whole object.
    Entry(&'a Entry),
    /// A fill under way.
    Tail(&'a Tail),
}

impl Held<'_> {
    /// Its head.
    pub(crate) fn meta(&self) -> Arc<Meta> {
        match self {
            Self::Entry(entry) => Arc::clone(entry.meta()),
            Self::Tail(tail) => tail.meta(),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Entry(entry) => Some(entry.len()),
            Self::Tail(tail) => tail.length(),
        }
    }

    fn reader(&self, start: u64, end: Option<u64>) -> Reader {
        match self {
            Self::Entry(entry) => entry.reader(start, end.unwrap_or_else(|| entry.len())),
            Self::Tail(tail) => tail.reader(start, end),
        }
    }
}

/// How the answer is told: in `Cache-Status`, Age and the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The member of `Cache-Status`.
    pub(crate) status: CacheStatus,
    /// Current age, for what was held.
    pub(crate) age: Option<i64>,
    /// The log's word.
    pub(crate) outcome: Outcome,
}

/// Answers a GET or HEAD from `held`.
pub(crate) fn answer(asked: &Asked, held: &Held<'_>, told: Told) -> Reply {
    let meta = held.meta();
    if meta.status() == 200 {
        match precondition(&asked.headers, &meta) {
            Precondition::Holds => {}
            Precondition::NotModifiedByTag => return not_modified(asked, &meta, told, true),
            Precondition::NotModifiedByDate => return not_modified(asked, &meta, told, false),
            Precondition::Failed => return precondition_failed(),
        }
        if let (Some(specs), Some(length)) = (&asked.ranges, held.length())
            && if_range_holds(&asked.headers, &meta)
        {
            match range::select(specs, length) {
                Selection::Whole => {}
                Selection::Spans(spans) => return partial(asked, held, &spans, length, told),
                Selection::Unsatisfiable => return unsatisfiable(asked, length, told),
            }
        }
    }
    whole(asked, held, &meta, told)
}

/// The spans of an object of `length` bytes that the answer to a request will carry: none where
/// its condition or its range decides otherwise, or where it is a HEAD.
pub(crate) fn wanted(asked: &Asked, meta: &Meta, length: u64) -> Vec<(u64, u64)> {
    let whole = vec![(0, length)];
    if asked.method == Method::HEAD || precondition(&asked.headers, meta) != Precondition::Holds {
        return Vec::new();
    }
    match &asked.ranges {
        Some(specs) if if_range_holds(&asked.headers, meta) => match range::select(specs, length) {
            Selection::Whole => whole,
            Selection::Spans(spans) => spans,
            Selection::Unsatisfiable => Vec::new(),
        },
        _ => whole,
    }
}

fn whole(asked: &Asked, held: &Held<'_>, meta: &Meta, told: Told) -> Reply {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(meta.status()).unwrap_or(StatusCode::OK);
    *response.headers_mut() = stored_fields(meta, told);
    match held.length() {
        Some(length) => {
            let headers = response.headers_mut();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        None => {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
    }
    if asked.method != Method::HEAD {
        *response.body_mut() = Body::stored(held.reader(0, held.length()));
    }
    told_as(asked, response, told)
}

fn partial(asked: &Asked, held: &Held<'_>, spans: &[(u64, u64)], length: u64, told: Told) -> Reply {
    let meta = held.meta();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    *response.headers_mut() = stored_fields(&meta, told);
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let [span] = spans {
        if let Ok(value) = HeaderValue::from_str(&range::content_range(*span, length)) {
            headers.insert(CONTENT_RANGE, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(span.1 - span.0));
        *response.body_mut() = Body::stored(held.reader(span.0, Some(span.1)));
    } else {
        let (boundary, parts, body_length) = multipart(held, &meta, spans, length);
        let content_type = format!("multipart/byteranges; boundary={boundary}");
        if let Ok(value) = HeaderValue::from_str(&content_type) {
            headers.insert(CONTENT_TYPE, value);
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body_length));
        *response.body_mut() = Body::parts(parts);
    }
    told_as(asked, response, told)
}

/// RFC 9110 §14.6, in the shape that zchunk and libzypp parse: an unquoted boundary of letters and
/// digits, parts in the order asked, a numeric total in every part.
fn multipart(
    held: &Held<'_>,
    meta: &Meta,
    spans: &[(u64, u64)],
    length: u64,
) -> (String, Parts, u64) {
    let boundary = boundary(meta, length);
    let content_type = meta
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("application/octet-stream");
    let mut total = 0u64;
    let mut pieces = Vec::with_capacity(spans.len() * 2 + 1);
    for span in spans {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
            range::content_range(*span, length)
        );
        total += head.len() as u64 + (span.1 - span.0);
        pieces.push(Piece::Text(Bytes::from(head)));
        pieces.push(Piece::Span(Box::new(held.reader(span.0, Some(span.1)))));
    }
    let end = format!("\r\n--{boundary}--\r\n");
    total += end.len() as u64;
    pieces.push(Piece::Text(Bytes::from(end)));
    (boundary, Parts::new(pieces, total), total)
}

/// Letters and digits that no part is likely to hold; the same for the same answer.
fn boundary(meta: &Meta, length: u64) -> String {
    let stamp = meta.inputs().response_time.0.unsigned_abs();
    format!("larder{stamp:016x}{length:016x}")
}

/// RFC 9110 §15.4.5: the fields that a 304 carries.
fn not_modified(asked: &Asked, meta: &Meta, told: Told, by_tag: bool) -> Reply {
    const CARRIED: [HeaderName; 8] = [
        CACHE_CONTROL,
        CONTENT_LOCATION,
        DATE,
        ETAG,
        EXPIRES,
        LAST_MODIFIED,
        VARY,
        http::header::AGE,
    ];
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in CARRIED {
        for value in meta.headers().get_all(&name) {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    let outcome = match (told.outcome, by_tag) {
        (Outcome::Hit | Outcome::MemHit, true) => Outcome::InmHit,
        (Outcome::Hit | Outcome::MemHit, false) => Outcome::ImsHit,
        (other, _) => other,
    };
    told_as(asked, response, Told { outcome, ..told })
}

fn precondition_failed() -> Reply {
    let text = "What is held does not fulfil the request's condition.";
    let response = reply::page(StatusCode::PRECONDITION_FAILED, "Precondition Failed", text);
    Reply::of(response, Outcome::Hit)
}

/// RFC 9110 §15.5.17.
fn unsatisfiable(asked: &Asked, length: u64, told: Told) -> Reply {
    let text = "The file does not have the bytes that were asked for.";
    let mut response = reply::page(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "Range Not Satisfiable",
        text,
    );
    if let Ok(value) = HeaderValue::from_str(&range::unsatisfied_range(length)) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    told_as(asked, response, told)
}

/// The stored head; where the origin has not confirmed it, without the fields that it wants to be
/// asked about (RFC 9111 §5.2.2.4).
fn stored_fields(meta: &Meta, told: Told) -> HeaderMap {
    let mut headers = meta.headers().clone();
    if told.status.forwarded.is_none() || told.outcome == Outcome::RefreshFailOld {
        for name in &meta.inputs().control.no_cache_fields {
            headers.remove(name.as_str());
        }
    }
    headers
}

fn told_as(asked: &Asked, mut response: Response<Body>, told: Told) -> Reply {
    reply::mark(asked, response.headers_mut(), told.status, told.age);
    let reply = Reply::of(response, told.outcome).named_by(asked);
    match told.status.detail {
        Some(detail) => reply.with_detail(detail),
        None => reply,
    }
}
