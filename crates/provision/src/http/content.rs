//! Content with ranges and conditions, as Go's `http.ServeContent` answers them (RFC 9110 §13, §14).
//!
//! Ranges are worked out on numbers alone; the body is then a row of pieces, each bytes at hand or
//! a stretch of a file. A file that turns out shorter than it was cuts the connection: no client
//! may take half a kernel for a whole one.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, SeekFrom},
    time::SystemTime,
};

use bytes::Bytes;
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
    },
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::reply::{self, Body};

/// Bytes read from a file at a time.
const CHUNK: u64 = 256 << 10;
/// More ranges than this are answered by the whole.
const RANGES_MAX: usize = 64;

/// Where the bytes are.
#[derive(Debug)]
pub(crate) enum Source {
    Memory(Bytes),
    File(File),
}

/// Something to serve.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) source: Source,
    pub(crate) bytes: u64,
    pub(crate) media_type: &'static str,
    pub(crate) modified: Option<SystemTime>,
}

impl Content {
    /// Rendered text: its type is sniffed, its age unknown.
    pub(crate) fn rendered(text: impl Into<Bytes>) -> Self {
        let bytes = text.into();
        Self {
            bytes: bytes.len() as u64,
            media_type: super::sniff::content_type(&bytes),
            source: Source::Memory(bytes),
            modified: None,
        }
    }
}

/// Answers a request for `content`.
pub(crate) fn serve(method: &Method, headers: &HeaderMap, content: Content) -> Response<Body> {
    let modified = content.modified.map(whole_seconds);
    if let Some(status) = precondition(method, headers, modified) {
        let mut response = Response::new(Body::default());
        *response.status_mut() = status;
        set_modified(response.headers_mut(), modified);
        return response;
    }
    let ranges = match wanted_ranges(method, headers, modified) {
        None => Ranges::Whole,
        Some(text) => ranges(text, content.bytes),
    };
    match ranges {
        Ranges::Invalid => reply::error(StatusCode::RANGE_NOT_SATISFIABLE, "invalid range\n"),
        Ranges::Beyond => {
            let page = "invalid range: failed to overlap\n";
            let mut response = reply::error(StatusCode::RANGE_NOT_SATISFIABLE, page);
            let all = format!("bytes */{}", content.bytes);
            insert(response.headers_mut(), CONTENT_RANGE, &all);
            response
        }
        Ranges::Whole => {
            let pieces = vec![Piece::Stretch {
                start: 0,
                bytes: content.bytes,
            }];
            let content_type = content.media_type.to_owned();
            respond(StatusCode::OK, content, modified, pieces, &content_type)
        }
        Ranges::One(start, bytes) => {
            let range = content_range(start, bytes, content.bytes);
            let content_type = content.media_type.to_owned();
            let pieces = vec![Piece::Stretch { start, bytes }];
            let status = StatusCode::PARTIAL_CONTENT;
            let mut response = respond(status, content, modified, pieces, &content_type);
            insert(response.headers_mut(), CONTENT_RANGE, &range);
            response
        }
        Ranges::Several(ranges) => {
            let boundary = format!("{:016x}", RandomState::new().build_hasher().finish());
            let pieces = multipart(&ranges, &boundary, &content);
            let content_type = format!("multipart/byteranges; boundary={boundary}");
            respond(
                StatusCode::PARTIAL_CONTENT,
                content,
                modified,
                pieces,
                &content_type,
            )
        }
    }
}

/// HTTP dates have whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs())
}

/// 304 or 412 where a condition says so, in the order of RFC 9110 §13.2.2. Nothing here has an entity tag:
/// none that a client names is the current one, and only `*` is met.
fn precondition(
    method: &Method,
    headers: &HeaderMap,
    modified: Option<SystemTime>,
) -> Option<StatusCode> {
    let tags = |name| headers.get(name).filter(|tags| !tags.is_empty());
    let is_any = |tags: &HeaderValue| tags.as_bytes().trim_ascii() == b"*";
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    let failed = match tags(IF_MATCH) {
        Some(tags) => !is_any(tags),
        None => date(IF_UNMODIFIED_SINCE)
            .zip(modified)
            .is_some_and(|(date, modified)| modified > date),
    };
    if failed {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    match tags(IF_NONE_MATCH) {
        Some(tags) if !is_any(tags) => None,
        Some(_) if !is_read => Some(StatusCode::PRECONDITION_FAILED),
        Some(_) => Some(StatusCode::NOT_MODIFIED),
        None => {
            let (date, modified) = date(IF_MODIFIED_SINCE).zip(modified)?;
            (is_read && modified <= date).then_some(StatusCode::NOT_MODIFIED)
        }
    }
}

/// The Range header, unless If-Range names another state.
fn wanted_ranges<'a>(
    method: &Method,
    headers: &'a HeaderMap,
    modified: Option<SystemTime>,
) -> Option<&'a str> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Some(range);
    }
    let Some(condition) = headers.get(IF_RANGE) else {
        return Some(range);
    };
    let date = condition
        .to_str()
        .ok()
        .and_then(|text| httpdate::parse_http_date(text).ok());
    (date.is_some() && date == modified).then_some(range)
}

/// What a Range header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ranges {
    Whole,
    One(u64, u64),
    Several(Vec<(u64, u64)>),
    Invalid,
    Beyond,
}

/// Reads `bytes=a-b,c-,-d` against a length, as `(start, length)`.
fn ranges(header: &str, total: u64) -> Ranges {
    let Some(list) = header.strip_prefix("bytes=") else {
        return Ranges::Invalid;
    };
    let mut found = Vec::new();
    let mut beyond = false;
    for spec in list
        .split(',')
        .map(str::trim)
        .filter(|spec| !spec.is_empty())
    {
        match one_range(spec, total) {
            Spec::Invalid => return Ranges::Invalid,
            Spec::Beyond => beyond = true,
            Spec::Within(start, bytes) => found.push((start, bytes)),
        }
    }
    if found.is_empty() {
        // Of nothing every range is the whole.
        return if beyond && total > 0 {
            Ranges::Beyond
        } else {
            Ranges::Whole
        };
    }
    let asked: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    if asked > total || found.len() > RANGES_MAX {
        return Ranges::Whole;
    }
    match found.as_slice() {
        [(start, bytes)] => Ranges::One(*start, *bytes),
        _ => Ranges::Several(found),
    }
}

/// One range of a list.
enum Spec {
    Within(u64, u64),
    Beyond,
    Invalid,
}

/// One range as Go's `parseRange` takes it: numbers as its `strconv.ParseInt`, thus with a sign if it must
/// be, and none beyond 63 bits; the last no bytes (`-0`) are a range too. Departure: of an empty file every
/// suffix is the whole, where Go answers 206 with a range that ends before it begins.
fn one_range(spec: &str, total: u64) -> Spec {
    let number = |text: &str| {
        let number: i64 = text.parse().ok()?;
        u64::try_from(number).ok()
    };
    let Some((first, last)) = spec.split_once('-') else {
        return Spec::Invalid;
    };
    let (first, last) = (first.trim(), last.trim());
    if first.is_empty() {
        let suffix = number(last).filter(|_| !last.starts_with('-'));
        return match suffix {
            None => Spec::Invalid,
            Some(_) if total == 0 => Spec::Beyond,
            Some(suffix) => {
                let bytes = suffix.min(total);
                Spec::Within(total - bytes, bytes)
            }
        };
    }
    let Some(start) = number(first) else {
        return Spec::Invalid;
    };
    if start >= total {
        return Spec::Beyond;
    }
    match number(last) {
        _ if last.is_empty() => Spec::Within(start, total - start),
        Some(end) if start <= end => Spec::Within(start, end.min(total - 1) - start + 1),
        _ => Spec::Invalid,
    }
}

fn content_range(start: u64, bytes: u64, total: u64) -> String {
    format!(
        "bytes {start}-{}/{total}",
        (start + bytes).saturating_sub(1)
    )
}

/// A part of a body.
#[derive(Debug)]
enum Piece {
    Text(String),
    Stretch { start: u64, bytes: u64 },
}

/// The pieces of a multipart/byteranges body (RFC 9110 §14.6).
fn multipart(ranges: &[(u64, u64)], boundary: &str, content: &Content) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(ranges.len() * 2 + 1);
    for (position, (start, bytes)) in ranges.iter().enumerate() {
        let newline = if position == 0 { "" } else { "\r\n" };
        let range = content_range(*start, *bytes, content.bytes);
        let content_type = content.media_type;
        pieces.push(Piece::Text(format!(
            "{newline}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {content_type}\r\n\r\n"
        )));
        pieces.push(Piece::Stretch {
            start: *start,
            bytes: *bytes,
        });
    }
    pieces.push(Piece::Text(format!("\r\n--{boundary}--\r\n")));
    pieces
}

fn respond(
    status: StatusCode,
    content: Content,
    modified: Option<SystemTime>,
    pieces: Vec<Piece>,
    content_type: &str,
) -> Response<Body> {
    let length: u64 = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Stretch { bytes, .. } => *bytes,
        })
        .sum();
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    insert(headers, CONTENT_TYPE, content_type);
    set_modified(headers, modified);
    *response.body_mut() = body(content.source, pieces);
    response
}

fn set_modified(headers: &mut HeaderMap, modified: Option<SystemTime>) {
    if let Some(modified) = modified {
        insert(headers, LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
}

/// Sets a header to text made of numbers, dates and constants.
fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn body(source: Source, pieces: Vec<Piece>) -> Body {
    let file = match source {
        Source::Memory(bytes) => return reply::body(in_memory(&bytes, pieces)),
        Source::File(file) => file,
    };
    let state = (file, VecDeque::from(pieces), false);
    let frames = stream::try_unfold(state, |(mut file, mut pieces, positioned)| async move {
        let Some(piece) = pieces.pop_front() else {
            return Ok::<_, io::Error>(None);
        };
        let (start, bytes) = match piece {
            Piece::Text(text) => {
                return Ok(Some((Frame::data(text.into()), (file, pieces, false))));
            }
            Piece::Stretch { bytes: 0, .. } => {
                return Ok(Some((Frame::data(Bytes::new()), (file, pieces, false))));
            }
            Piece::Stretch { start, bytes } => (start, bytes),
        };
        if !positioned {
            file.seek(SeekFrom::Start(start)).await?;
        }
        let mut chunk = Vec::with_capacity(usize::try_from(bytes.min(CHUNK)).unwrap_or(0));
        let read = (&mut file)
            .take(bytes.min(CHUNK))
            .read_buf(&mut chunk)
            .await? as u64;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let more = bytes > read;
        if more {
            pieces.push_front(Piece::Stretch {
                start: start + read,
                bytes: bytes - read,
            });
        }
        Ok(Some((Frame::data(chunk.into()), (file, pieces, more))))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn in_memory(bytes: &Bytes, pieces: Vec<Piece>) -> Bytes {
    let stretch = |start: u64, length: u64| {
        let start = usize::try_from(start)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        bytes.slice(start..start.saturating_add(length).min(bytes.len()))
    };
    if let [Piece::Stretch { start, bytes }] = pieces.as_slice() {
        return stretch(*start, *bytes);
    }
    let mut joined = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => joined.extend_from_slice(text.as_bytes()),
            Piece::Stretch { start, bytes } => joined.extend_from_slice(&stretch(start, bytes)),
        }
    }
    joined.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_go_reads_them() {
        for (header, total, wanted) in [
            ("bytes=0-4", 10, Ranges::One(0, 5)),
            ("bytes=5-", 10, Ranges::One(5, 5)),
            ("bytes=-3", 10, Ranges::One(7, 3)),
            ("bytes=-30", 10, Ranges::One(0, 10)),
            ("bytes=5-99", 10, Ranges::One(5, 5)),
            ("bytes=0-0, 9-", 10, Ranges::Several(vec![(0, 1), (9, 1)])),
            ("bytes=0-,0-", 10, Ranges::Whole),
            ("bytes=10-", 10, Ranges::Beyond),
            ("bytes=0-", 0, Ranges::Whole),
            ("bytes=-5", 0, Ranges::Whole),
            ("bytes=", 10, Ranges::Whole),
            ("bytes=4-2", 10, Ranges::Invalid),
            ("bytes=x-", 10, Ranges::Invalid),
            ("bytes=+1-", 10, Ranges::One(1, 9)),
            ("lines=0-", 10, Ranges::Invalid),
            ("bytes=-0", 10, Ranges::One(10, 0)),
            ("bytes=--1", 10, Ranges::Invalid),
            ("bytes=0--0", 10, Ranges::One(0, 1)),
            ("bytes=20-x", 10, Ranges::Beyond),
            ("bytes=9223372036854775807-", 10, Ranges::Beyond),
            ("bytes=9223372036854775808-", 10, Ranges::Invalid),
            ("bytes=0-99999999999999999999", 10, Ranges::Invalid),
            ("bytes=-99999999999999999999", 10, Ranges::Invalid),
        ] {
            assert_eq!(ranges(header, total), wanted, "{header} of {total}");
        }
    }
}
