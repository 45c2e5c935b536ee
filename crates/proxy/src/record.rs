//! One access record per request: what the log line, the metrics and `Cache-Status` say is decided
//! here and nowhere else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::CONTENT_TYPE;
use hyper::{Request, Response};

use crate::body::{Body, BodyError};
use crate::reply::Reply;
use crate::shared::{Inlet, Shared};

/// How a request ended, in the words of Squid's log (result code without suffixes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Fresh, from disk.
    Hit,
    /// Fresh, from memory.
    MemHit,
    /// Fetched.
    Miss,
    /// Joined a fetch under way.
    CollapsedMiss,
    /// Revalidated, unchanged.
    RefreshUnmodified,
    /// Revalidated, new body.
    RefreshModified,
    /// Revalidation failed, stale copy served.
    RefreshFailOld,
    /// Revalidation failed, error passed on.
    RefreshFailErr,
    /// 304 to the client's If-Modified-Since.
    ImsHit,
    /// 304 to the client's If-None-Match.
    InmHit,
    /// Served offline.
    OfflineHit,
    /// Refused by an access rule.
    Denied,
    /// A tunnel.
    Tunnel,
    /// Answered by larder itself, or refused before it was understood.
    None,
}

/// Where the bytes came from, in the words of Squid's log (hierarchy code).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// From the cache, or nowhere.
    None,
    /// The host that the URL names, at this address.
    Direct(IpAddr),
    /// A configured origin or parent, at this address.
    FirstUpParent(IpAddr),
}

/// One finished request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the answer was finished.
    pub finished: SystemTime,
    /// How long it took.
    pub elapsed: Duration,
    /// Who asked (v4-mapped addresses unmapped).
    pub client: IpAddr,
    /// The listener's name.
    pub listener: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The client went, or was cut off, before the end.
    pub aborted: bool,
    /// Status that the client was sent; 0 where none was.
    pub status: u16,
    /// Bytes sent to the client, head included.
    pub sent_bytes: u64,
    /// Bytes of body among them.
    pub body_bytes: u64,
    /// The method; empty where none was understood.
    pub method: String,
    /// What was asked for: URL, authority of a tunnel, or `error:…`.
    pub url: String,
    /// Where the bytes came from.
    pub hierarchy: Hierarchy,
    /// Content type of the answer.
    pub content_type: Option<String>,
    /// The mirror that was asked, for the metrics.
    pub mirror: Option<String>,
    /// The store-ID rule that named the object.
    pub store_id_rule: Option<usize>,
    /// More, for people: `Cache-Status`'s detail.
    pub detail: Option<&'static str>,
}

/// Takes finished requests: the access log and the metrics. Must not block.
pub trait Recorder: Send + Sync + std::fmt::Debug {
    /// Called once for every request.
    fn record(&self, record: &Record);
}

/// A request under way: becomes a [`Record`] when its answer's body ends or is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    recorder: Arc<dyn Recorder>,
    started: Instant,
    record: Record,
    /// The body came to its end, or there is none to wait for.
    complete: bool,
}

impl Open {
    /// Begins when a request's head was read.
    pub(crate) fn new<B>(shared: &Shared, inlet: &Inlet, request: &Request<B>) -> Self {
        Self::begin(
            shared,
            inlet,
            request.method().to_string(),
            request.uri().to_string(),
        )
    }

    /// A head that the parser refused, with the status of the parser's own empty answer: logged
    /// as Squid logs it.
    pub(crate) fn invalid(shared: &Shared, inlet: &Inlet, status: u16) -> Self {
        let mut open = Self::begin(
            shared,
            inlet,
            "NONE".to_owned(),
            "error:invalid-request".to_owned(),
        );
        open.record.status = status;
        open.complete = true;
        open
    }

    fn begin(shared: &Shared, inlet: &Inlet, method: String, url: String) -> Self {
        Self {
            recorder: Arc::clone(&shared.recorder),
            started: Instant::now(),
            record: Record {
                finished: SystemTime::UNIX_EPOCH,
                elapsed: Duration::ZERO,
                client: inlet.client,
                listener: inlet.listener.clone(),
                outcome: Outcome::None,
                aborted: false,
                status: 0,
                sent_bytes: 0,
                body_bytes: 0,
                method,
                url,
                hierarchy: Hierarchy::None,
                content_type: None,
                mirror: None,
                store_id_rule: None,
                detail: None,
            },
            complete: false,
        }
    }

    /// What was asked for, in normal form.
    pub(crate) fn asked_for(&mut self, url: &str) {
        url.clone_into(&mut self.record.url);
    }

    /// Where a tunnel went.
    pub(crate) fn tunnelled(&mut self, hierarchy: Hierarchy) {
        self.record.outcome = Outcome::Tunnel;
        self.record.status = 200;
        self.record.hierarchy = hierarchy;
    }

    /// The one place where an answer's head is known: the response that goes out, its record
    /// attached to its body.
    pub(crate) fn finish(mut self, reply: Reply) -> Response<Body> {
        let Reply {
            response,
            outcome,
            hierarchy,
            mirror,
            store_id_rule,
            detail,
        } = reply;
        self.record.outcome = outcome;
        self.record.hierarchy = hierarchy;
        self.record.mirror = mirror;
        self.record.store_id_rule = store_id_rule;
        self.record.detail = detail;
        self.record.status = response.status().as_u16();
        self.record.content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        self.record.sent_bytes = head_bytes(&response);
        let no_body = self.record.method == "HEAD"
            || response.body().is_empty()
            || matches!(self.record.status, 204 | 304);
        self.complete = no_body;
        response.map(|body| body.recorded(self))
    }

    /// Bytes of body were handed to the connection.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.record.sent_bytes += bytes as u64;
        self.record.body_bytes += bytes as u64;
    }

    /// The body came to its end.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }

    /// The body broke: one log line, since the client cannot be told.
    pub(crate) fn broke(&mut self, error: &BodyError) {
        let cause = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::warn!(
            url = self.record.url,
            sent = self.record.body_bytes,
            cause,
            "{error}: the client's connection is cut"
        );
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.record.finished = SystemTime::now();
        self.record.elapsed = self.started.elapsed();
        self.record.aborted = !self.complete;
        self.recorder.record(&self.record);
    }
}

/// The bytes that a response head has on the wire: status line, fields, empty line.
fn head_bytes(response: &Response<Body>) -> u64 {
    let reason = response
        .status()
        .canonical_reason()
        .unwrap_or_default()
        .len();
    let line = "HTTP/1.1 200 \r\n".len() + reason;
    let fields: usize = response
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum();
    (line + fields + "\r\n".len()) as u64
}
