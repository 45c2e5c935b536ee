//! One client connection: HTTP/1 or HTTP/2 over hyper, with limits on a client that neither sends nor takes.
//!
//! There is no limit on how long an answer may take as long as bytes move. Three things end a
//! connection: a head that does not arrive within `request-head` of its first byte, a connection
//! that lies idle for `idle`, and a client that takes no byte for `idle` while some wait for it. In
//! HTTP/2 that is told stream by stream: one that takes nothing ends the connection for new requests,
//! and for those under way once none of them takes anything.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use larder_policy::lines::Lines;
use larder_policy::target::Mode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::body::Body;
use crate::config::Limits;
use crate::handle::handle;
use crate::record::Open;
use crate::shared::{Inlet, Shared};
use crate::transport::{self, Spoken, Stream, Tls};

/// A request head has no more fields; `header-bytes` bounds their length.
const FIELDS_MAX: usize = 500;
/// Requests that one HTTP/2 connection may have under way.
const STREAMS_MAX: u32 = 128;
/// What is offered to an HTTP/2 client at once, bytes: as much as a frame holds (RFC 9113 §4.2). Whether
/// it takes anything is seen when it has taken that, and a slow one must not be taken for one that
/// takes nothing.
const OFFERED_MAX: usize = 16 << 10;
/// How often a connection's state is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Serves one client until it goes, a limit ends it, or `closing` says that larder stops.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    inlet: Arc<Inlet>,
    stream: TcpStream,
    tls: Option<Tls>,
    mut closing: watch::Receiver<Closing>,
) {
    let limit = if tls.is_some() {
        shared.limits.request_head
    } else {
        shared.limits.idle
    };
    let may_be_two = matches!(inlet.mode, Mode::Accelerator(_));
    let opened = tokio::select! {
        opened = transport::open(stream, tls.as_ref(), may_be_two, shared.limits.request_head) => {
            opened
        }
        () = tokio::time::sleep(limit) => return,
        () = stopping(&mut closing) => return,
    };
    let (stream, spoken) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(client = %inlet.client, %error, "no connection came about");
            return;
        }
    };
    let state = Arc::new(State::new(spoken));
    let stream = TokioIo::new(Watched {
        stream,
        state: Arc::clone(&state),
        lines: (spoken == Spoken::One).then(Lines::of_requests),
    });
    let service = Service {
        shared: Arc::clone(&shared),
        inlet: Arc::clone(&inlet),
        state: Arc::clone(&state),
    };
    let service = service_fn(move |request| service.clone().answer(request));
    let result = match spoken {
        Spoken::One => {
            let connection = http_1(&shared.limits).serve_connection(stream, service);
            let connection = connection.with_upgrades();
            let end = |connection: Pin<&mut http1::UpgradeableConnection<_, _>>| {
                connection.graceful_shutdown();
            };
            run(connection, end, &state, &shared.limits, &mut closing).await
        }
        Spoken::Two => {
            let connection = http_2(&shared.limits).serve_connection(stream, service);
            let end =
                |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
            run(connection, end, &state, &shared.limits, &mut closing).await
        }
    };
    if let Some(Err(error)) = result {
        log_end(&shared, &inlet, &error);
    }
}

/// Runs a connection to its end; `None`: a limit or the end of larder cut it.
async fn run<C>(
    connection: C,
    end: impl FnOnce(Pin<&mut C>),
    state: &State,
    limits: &Limits,
    closing: &mut watch::Receiver<Closing>,
) -> Option<hyper::Result<()>>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Some(result),
        () = state.overdue(limits) => return None,
        () = state.neglected(limits) => {}
        () = stopping(closing) => {}
    }
    end(connection.as_mut());
    tokio::select! {
        result = connection.as_mut() => Some(result),
        () = state.overdue(limits) => None,
        () = ending(closing) => None,
    }
}

fn http_1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .half_close(true)
        .title_case_headers(true)
        .auto_date_header(false)
        .max_headers(FIELDS_MAX)
        .max_buf_size(limits.header_bytes.max(8 << 10));
    builder
}

fn http_2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let head = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_header_list_size(head)
        .max_concurrent_streams(STREAMS_MAX);
    builder
}

/// What answers the requests of one connection.
#[derive(Clone, Debug)]
struct Service {
    shared: Arc<Shared>,
    inlet: Arc<Inlet>,
    state: Arc<State>,
}

impl Service {
    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let owed = Owed::new(&self.state);
        let request = as_http_1(request);
        // A body whose framing hyper has already interpreted could have been read another way by
        // someone before us: such a connection serves no further request (RFC 9112 §11.2).
        let last = request.headers().contains_key(TRANSFER_ENCODING);
        // What comes after a CONNECT is for the tunnel, and if there is none it is no request.
        let tunnel = request.method() == Method::CONNECT;
        let old = request.version() < Version::HTTP_11;
        let mut response = handle(self.shared, self.inlet, request).await;
        let unframed = old && !response.headers().contains_key(CONTENT_LENGTH);
        if last || (tunnel && !response.status().is_success()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        let owed = owed.told_by_the_end(unframed);
        Ok(response.map(|body| body.owed(owed)))
    }
}

/// HTTP/2's authority in the place where HTTP/1 has it (RFC 9113 §8.3.1), so that everything after
/// this knows one form.
fn as_http_1(mut request: Request<Incoming>) -> Request<Incoming> {
    if request.version() != Version::HTTP_2 || request.method() == Method::CONNECT {
        return request;
    }
    let authority = request.uri().authority().cloned();
    let host = authority.and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(target);
    }
    join_crumbs(request.headers_mut());
    request
}

/// Cookie, which HTTP/2 may send in pieces, as the one line that HTTP/1 has (RFC 9113 §8.2.3).
fn join_crumbs(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().cloned().collect();
    if crumbs.len() > 1 {
        let crumbs: Vec<&[u8]> = crumbs.iter().map(HeaderValue::as_bytes).collect();
        if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            headers.insert(COOKIE, whole);
        }
    }
}

/// How far larder is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Closing {
    /// It serves.
    No,
    /// No new requests; those under way have time.
    Draining,
    /// Connections end where they are.
    Now,
}

/// Returns when larder stops, or whoever could say so is gone.
pub(crate) async fn stopping(closing: &mut watch::Receiver<Closing>) {
    drop(
        closing
            .wait_for(|closing| *closing >= Closing::Draining)
            .await,
    );
}

/// Returns when nothing is waited for any more.
async fn ending(closing: &mut watch::Receiver<Closing>) {
    drop(closing.wait_for(|closing| *closing == Closing::Now).await);
}

/// A head that hyper refused has had hyper's empty answer; it gets its line in the log.
fn log_end(shared: &Shared, inlet: &Inlet, error: &hyper::Error) {
    if error.is_parse() {
        let status = if error.is_parse_too_large() { 431 } else { 400 };
        drop(Open::invalid(shared, inlet, status));
    }
    tracing::debug!(client = %inlet.client, %error, "client connection ended");
}

/// What a connection is doing, and since when.
#[derive(Debug)]
struct State {
    began: Instant,
    /// Which version of HTTP is spoken: HTTP/2's frames come at any time, and none of them alone is
    /// a head that has begun.
    spoken: Spoken,
    /// Milliseconds since `began` when a byte last moved, in either direction.
    moved_ms: AtomicU64,
    /// Milliseconds since `began` when the first byte of a head came, plus one; 0: no head is
    /// under way. A connection that is silent from the start is idle.
    head_ms: AtomicU64,
    /// Answers that are being made or sent.
    owed: AtomicUsize,
    /// Bytes wait for a client that does not take them.
    blocked: AtomicBool,
    /// A body broke whose end only the end of the connection tells: it ends in a reset.
    cut: AtomicBool,
    /// The HTTP/2 answers of which something waits for the client to take it, and since when. What
    /// else moves on the connection says nothing about them.
    offered: Mutex<HashMap<u64, Instant>>,
    /// Answers so far.
    answers: AtomicU64,
}

/// An answer that the connection owes its client, from the request's head to the body's end.
#[derive(Debug)]
pub(crate) struct Owed {
    state: Arc<State>,
    /// The end of the connection is what tells the client that the body is whole (HTTP/1.0).
    unframed: bool,
    /// Tells it from the other answers of its connection.
    number: u64,
}

impl Owed {
    fn new(state: &Arc<State>) -> Self {
        state.owed.fetch_add(1, Ordering::Relaxed);
        state.head_ms.store(0, Ordering::Relaxed);
        Self {
            state: Arc::clone(state),
            unframed: false,
            number: state.answers.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn told_by_the_end(self, unframed: bool) -> Self {
        let mut owed = self;
        owed.unframed = unframed;
        owed.offers();
        owed
    }

    /// Something is there for the client to take; until it has, nobody asks for more.
    pub(crate) fn offers(&self) {
        if self.state.spoken == Spoken::Two {
            self.state.offered().insert(self.number, Instant::now());
        }
    }

    /// What is offered at once, bytes.
    pub(crate) fn piece_max(&self) -> usize {
        match self.state.spoken {
            Spoken::One => usize::MAX,
            Spoken::Two => OFFERED_MAX,
        }
    }

    /// The client has taken what there was and waits for us.
    pub(crate) fn waits(&self) {
        if self.state.spoken == Spoken::Two {
            self.state.offered().remove(&self.number);
        }
    }

    /// The body broke off.
    pub(crate) fn broke(&self) {
        if self.unframed {
            self.state.cut.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.waits();
        self.state.owed.fetch_sub(1, Ordering::Relaxed);
        let now = self.state.now_ms();
        self.state.moved_ms.store(now, Ordering::Relaxed);
    }
}

impl State {
    fn new(spoken: Spoken) -> Self {
        Self {
            began: Instant::now(),
            spoken,
            moved_ms: AtomicU64::new(0),
            head_ms: AtomicU64::new(0),
            owed: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            offered: Mutex::default(),
            answers: AtomicU64::new(0),
        }
    }

    fn offered(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many answers have been offered for longer than `idle`.
    fn untaken(&self, idle: Duration) -> usize {
        let offered = self.offered();
        offered.values().filter(|at| at.elapsed() > idle).count()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn received(&self) {
        let now = self.now_ms();
        self.moved_ms.store(now, Ordering::Relaxed);
        let is_head = self.spoken == Spoken::One && self.owed.load(Ordering::Relaxed) == 0;
        if is_head && self.head_ms.load(Ordering::Relaxed) == 0 {
            self.head_ms.store(now + 1, Ordering::Relaxed);
        }
    }

    fn sent(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
        self.blocked.store(false, Ordering::Relaxed);
    }

    /// Returns when a limit ends the connection.
    async fn overdue(&self, limits: &Limits) {
        let look = LOOK_EVERY.min(limits.request_head).min(limits.idle);
        loop {
            tokio::time::sleep(look).await;
            if self.is_overdue(limits) {
                return;
            }
        }
    }

    /// Returns when a client has let one answer of several lie.
    async fn neglected(&self, limits: &Limits) {
        if self.spoken == Spoken::One {
            return std::future::pending().await;
        }
        let look = LOOK_EVERY.min(limits.idle);
        while self.untaken(limits.idle) == 0 {
            tokio::time::sleep(look).await;
        }
    }

    fn is_overdue(&self, limits: &Limits) -> bool {
        let now = self.now_ms();
        let since = |at: u64| Duration::from_millis(now.saturating_sub(at));
        let head = self.head_ms.load(Ordering::Relaxed);
        if head > 0 && since(head - 1) > limits.request_head {
            return true;
        }
        let quiet = since(self.moved_ms.load(Ordering::Relaxed)) > limits.idle;
        let owed = self.owed.load(Ordering::Relaxed);
        let waits = owed == 0 || self.blocked.load(Ordering::Relaxed);
        let takes_nothing = owed > 0 && self.untaken(limits.idle) >= owed;
        takes_nothing || (quiet && waits)
    }
}

/// The client's socket, seen by its [`State`].
#[derive(Debug)]
struct Watched {
    stream: Stream,
    state: Arc<State>,
    /// Of HTTP/1.
    lines: Option<Lines>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.state.cut.load(Ordering::Relaxed) {
            // A reset in place of an orderly end; failure leaves the orderly one.
            drop(socket2::SockRef::from(self.stream.socket()).set_linger(Some(Duration::ZERO)));
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() > before {
            self.state.received();
            if let Some(lines) = &mut self.lines {
                transport::mark(lines, buf, before);
            }
        }
        polled
    }
}

impl Watched {
    fn note(&self, polled: &Poll<std::io::Result<usize>>) {
        match polled {
            Poll::Ready(_) => self.state.sent(),
            Poll::Pending => self.state.blocked.store(true, Ordering::Relaxed),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;
    use hyper::body::Body as _;

    use super::*;

    /// The pieces in which a body is offered.
    fn pieces(spoken: Spoken, whole: &Bytes) -> Vec<Bytes> {
        let state = Arc::new(State::new(spoken));
        let mut body = Body::bytes(whole.clone()).owed(Owed::new(&state));
        let mut cx = Context::from_waker(Waker::noop());
        let mut pieces = Vec::new();
        let mut left = whole.len() as u64;
        loop {
            assert_eq!(body.size_hint().exact(), Some(left));
            assert_eq!(body.is_empty(), left == 0);
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(frame)) => pieces.push(frame.unwrap().into_data().unwrap()),
                Poll::Ready(None) => return pieces,
                Poll::Pending => panic!("it is there"),
            }
            left -= pieces.last().map_or(0, |piece| piece.len() as u64);
        }
    }

    #[test]
    fn a_client_of_http_2_is_offered_no_more_than_a_frame_at_once() {
        let whole: Bytes = (0..100_000).map(|at| (at % 251) as u8).collect();
        let all = pieces(Spoken::Two, &whole);
        assert!(all.iter().all(|piece| piece.len() <= OFFERED_MAX));
        assert_eq!((all.len(), all.concat()), (7, whole.to_vec()));
        assert_eq!(pieces(Spoken::One, &whole), [whole]);
    }
}
