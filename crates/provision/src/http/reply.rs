//! The few kinds of answers, with the headers that Go's `net/http` gives them.

use std::io;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::reason::Reason;

/// The body of every answer. An error in it cuts the connection.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What scripts and most templates are.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";
/// The header with the cause of a refusal.
pub(crate) const REASON: HeaderName = HeaderName::from_static("x-larder-reason");

/// A body of known bytes.
pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A whole answer.
pub(crate) fn whole(
    status: StatusCode,
    content_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<Body> {
    let bytes = bytes.into();
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    *response.body_mut() = body(bytes);
    response
}

/// 200 with text.
pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    whole(StatusCode::OK, PLAIN, text)
}

/// An error page as Go's `http.Error` writes it.
pub(crate) fn error(status: StatusCode, page: &'static str) -> Response<Body> {
    let mut response = whole(status, PLAIN, page);
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Go's 404 page; the cause is in a header.
pub(crate) fn not_found(reason: &Reason) -> Response<Body> {
    refused(StatusCode::NOT_FOUND, "404 page not found\n", reason)
}

/// Another error page with its cause.
pub(crate) fn refused(status: StatusCode, page: &'static str, reason: &Reason) -> Response<Body> {
    let mut response = error(status, page);
    response.headers_mut().insert(REASON, reason.header());
    response
}

/// A redirect as Go's file server writes it: neither page nor type, and the query goes along.
pub(crate) fn moved_file(location: &str, query: &str) -> Response<Body> {
    let location = match query {
        "" => location.to_owned(),
        query => format!("{location}?{query}"),
    };
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    response
}

/// A redirect as Go's `http.Redirect` writes it to a GET.
pub(crate) fn moved(location: &str) -> Response<Body> {
    let page = format!(
        "<a href=\"{}\">Moved Permanently</a>.\n\n",
        escape_html(location)
    );
    let mut response = whole(
        StatusCode::MOVED_PERMANENTLY,
        "text/html; charset=utf-8",
        page,
    );
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Nobody may keep this answer: it is one machine's, and it may hold a password.
pub(crate) fn never_cached(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store, private"));
    response
}

/// Escapes text for HTML as Go's `html.EscapeString`.
pub(crate) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
