//! `CONNECT`: bytes in both directions, as they come, until both sides have ended.
//!
//! The answer is `HTTP/1.1 200 Connection established` and an empty line, nothing else. Bytes that
//! a client sends before it has the answer belong to the tunnel. An end of one direction is passed
//! on and leaves the other one open (RFC 9112 §9.6 of half-closed connections); a tunnel in which
//! nothing moves for `tunnel-idle` ends.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, VIA};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use larder_policy::access::Facts;
use larder_policy::url::Authority;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::asked::has_body;
use crate::body::Body;
use crate::origin::{Dialled, OriginError};
use crate::record::{Hierarchy, Open, Outcome};
use crate::reply::{self, Reply};
use crate::shared::{Inlet, Shared};

/// Bytes that one direction of a tunnel holds at most.
const BUFFER_BYTES: usize = 32 << 10;
/// The answer's bytes on the wire, for the record.
const ESTABLISHED_BYTES: usize = "HTTP/1.1 200 Connection established\r\n\r\n".len();

/// Opens a tunnel to `authority`, if the rules let it.
pub(crate) async fn open(
    shared: Arc<Shared>,
    inlet: Arc<Inlet>,
    request: Request<Incoming>,
    authority: Authority,
    mut open: Open,
) -> Response<Body> {
    if has_body(request.headers()) {
        return open.finish(with_body());
    }
    let policy = shared.policy.load_full();
    let facts = facts(&inlet, &authority);
    if larder_policy::headers::is_loop(request.headers(), &shared.name) {
        return open.finish(reply::loop_detected());
    }
    let decision = policy.access.decide(&facts);
    if !decision.allowed {
        return open.finish(reply::denied(decision.text));
    }
    if policy.offline {
        return open.finish(reply::offline_miss());
    }
    let mut via = HeaderMap::new();
    via.extend(
        request
            .headers()
            .get_all(VIA)
            .iter()
            .map(|earlier| (VIA, earlier.clone())),
    );
    larder_policy::headers::add_via(&mut via, request.version(), &shared.name);
    let permitted = |ip: IpAddr| {
        policy
            .access
            .decide(&Facts {
                to: Some(ip),
                ..facts
            })
            .allowed
    };
    match shared
        .origins
        .tunnel(&policy.routes, &facts, &authority, via.get(VIA), permitted)
        .await
    {
        Ok(dialled) => {
            open.tunnelled(Hierarchy::Direct(dialled.remote.ip().to_canonical()));
            let idle = shared.limits.tunnel_idle;
            tokio::spawn(relay(request, dialled, idle, inlet, open));
            established()
        }
        Err(error) => open.finish(failed(&authority, &error)),
    }
}

/// What access rules look at.
fn facts<'a>(inlet: &'a Inlet, authority: &'a Authority) -> Facts<'a> {
    Facts {
        client: inlet.client,
        client_is_self: inlet.client_is_self,
        configured: false,
        method: "CONNECT",
        url: None,
        host: &authority.host,
        port: authority.port,
        listener_port: inlet.local.port(),
        listener_name: Some(&inlet.listener),
        to: authority.ip(),
    }
}

fn established() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    response
        .extensions_mut()
        .insert(ReasonPhrase::from_static(b"Connection established"));
    response
}

/// A body in a request for a tunnel means nothing (RFC 9110 §9.3.6), and whether its bytes belong to
/// the tunnel is what two readers could see differently.
fn with_body() -> Reply {
    let text = "A request for a tunnel has no body.";
    Reply::of(
        reply::page(StatusCode::BAD_REQUEST, "Bad Request", text),
        Outcome::None,
    )
}

fn failed(authority: &Authority, error: &OriginError) -> Reply {
    reply::log_failure(&authority.to_string(), error);
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let title = status.canonical_reason().unwrap_or("Bad Gateway");
    let outcome = if error.is_denial() {
        Outcome::Denied
    } else {
        Outcome::None
    };
    Reply::of(
        reply::page(status, title, &error.for_client(&authority.host)),
        outcome,
    )
    .from(error.hierarchy(), None)
}

/// Runs a tunnel to its end. `inlet` is held so that the client counts as connected.
async fn relay(
    request: Request<Incoming>,
    dialled: Dialled,
    idle: Duration,
    inlet: Arc<Inlet>,
    mut open: Open,
) {
    let upgraded = match hyper::upgrade::on(request).await {
        Ok(upgraded) => upgraded,
        Err(error) => {
            tracing::debug!(%error, client = %inlet.client, "the client left before its tunnel");
            return;
        }
    };
    open.sent(ESTABLISHED_BYTES);
    let (from_client, to_client) = tokio::io::split(TokioIo::new(upgraded));
    let (from_origin, to_origin) = tokio::io::split(dialled.stream);
    let pulse = Pulse::new();
    let (to_origin_bytes, to_client_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let up = one_way(from_client, to_origin, &pulse, &to_origin_bytes);
    let down = one_way(from_origin, to_client, &pulse, &to_client_bytes);
    // An end of one direction is passed on; an error of one ends both.
    let both = async { tokio::try_join!(up, down) };
    let ended = tokio::select! {
        result = both => result.is_ok(),
        () = pulse.stopped(idle) => false,
    };
    open.sent(usize::try_from(to_client_bytes.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
    if ended {
        open.complete();
    }
    drop(inlet);
}

thread_local! {
    /// What tunnels read into: one for all of a thread, so that one that lies idle holds nothing.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

/// Copies until the end of `from`, then ends `to`.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    pulse: &Pulse,
    copied: &AtomicU64,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        poll_fn(|cx| poll_some(&mut from, &mut read, cx)).await?;
        pulse.beat();
        if read.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&read).await?;
        to.flush().await?;
        copied.fetch_add(read.len() as u64, Ordering::Relaxed);
        pulse.beat();
    }
}

/// Reads what has come; lets the buffer go where nothing has.
fn poll_some(
    from: &mut (impl AsyncRead + Unpin),
    read: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<()>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        let polled = Pin::new(from).poll_read(cx, &mut buffer);
        if polled.is_pending() {
            *read = Vec::new();
        } else {
            read.clear();
            read.extend_from_slice(buffer.filled());
        }
        polled
    })
}

/// When a byte last moved.
#[derive(Debug)]
struct Pulse {
    began: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
        }
    }

    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Returns when no byte has moved for `idle`.
    async fn stopped(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
            let quiet = self.began.elapsed().saturating_sub(last);
            match idle.checked_sub(quiet) {
                None | Some(Duration::ZERO) => return,
                Some(rest) => tokio::time::sleep(rest).await,
            }
        }
    }
}
