//! Idle connections to origins, kept per destination.
//!
//! A connection remembers its address, so that a client whose rules forbid that address is never
//! handed it. It goes back only after a body was read to its end and the connection says that it
//! is ready again; hyper closes one on which an origin sends what nobody asked for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use larder_policy::route::Parent;
use larder_policy::url::{Authority, Scheme};

use super::dial::Dialled;
use super::strict_lines::StrictLines;
use super::{OriginError, OutBody};

/// Origins close idle connections after some time; a younger one is likely to be open.
const IDLE_MAX: Duration = Duration::from_secs(50);
/// Idle connections to all origins together.
const TOTAL_MAX: usize = 512;
/// A response head may have this many bytes.
const HEAD_BYTES_MAX: usize = 128 << 10;

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(super) scheme: Scheme,
    /// What is dialled.
    pub(super) authority: Authority,
    /// What is asked for through it, where it is a tunnel through a parent.
    pub(super) behind: Option<Behind>,
}

/// The far end of a tunnel through a parent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Behind {
    pub(super) authority: Authority,
    pub(super) credentials: Option<String>,
}

impl Destination {
    /// A server that is dialled itself.
    pub(super) fn direct(scheme: Scheme, authority: Authority) -> Self {
        Self {
            scheme,
            authority,
            behind: None,
        }
    }

    /// What tells this server from others, for the record of where bytes came from.
    pub(crate) fn label(&self) -> String {
        let server = self.behind.as_ref().map(|behind| &behind.authority);
        let scheme = self.scheme.as_str();
        format!("{scheme}://{}", server.unwrap_or(&self.authority))
    }

    /// A TLS server behind a parent.
    pub(super) fn behind(parent: &Parent, authority: Authority) -> Self {
        let behind = Behind {
            authority,
            credentials: parent.authorization.clone(),
        };
        Self {
            scheme: Scheme::Https,
            authority: parent.authority.clone(),
            behind: Some(behind),
        }
    }
}

/// All idle connections.
#[derive(Debug)]
pub(super) struct Pool {
    per_destination_max: usize,
    idle: Mutex<HashMap<Destination, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<OutBody>,
    asked: Arc<AtomicBool>,
    remote: SocketAddr,
    since: Instant,
}

impl Pool {
    pub(super) fn new(per_destination_max: usize) -> Self {
        Self {
            per_destination_max,
            idle: Mutex::new(HashMap::new()),
        }
    }

    /// The connection used last whose address is permitted.
    pub(super) fn take(
        self: &Arc<Self>,
        to: &Destination,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Option<Lease> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let list = idle.get_mut(to)?;
        list.retain(|one| !one.sender.is_closed() && one.since.elapsed() < IDLE_MAX);
        let at = list
            .iter()
            .rposition(|one| permitted(one.remote.ip().to_canonical()))?;
        let taken = list.swap_remove(at);
        if list.is_empty() {
            idle.remove(to);
        }
        Some(Lease {
            sender: taken.sender,
            asked: taken.asked,
            remote: taken.remote,
            to: to.clone(),
            pool: Arc::clone(self),
        })
    }

    fn put(&self, to: Destination, one: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        prune(&mut idle);
        if idle.values().map(Vec::len).sum::<usize>() >= TOTAL_MAX {
            // The oldest makes room.
            let oldest = idle
                .iter()
                .filter_map(|(to, list)| Some((list.first()?.since, to.clone())))
                .min_by_key(|(since, _)| *since);
            if let Some(list) = oldest.and_then(|(_, to)| idle.get_mut(&to)) {
                list.remove(0);
            }
        }
        let list = idle.entry(to).or_default();
        if list.len() < self.per_destination_max {
            list.push(one);
        }
    }

    /// Closes what has lain idle for too long.
    fn close_old(&self) {
        prune(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn prune(idle: &mut HashMap<Destination, Vec<Idle>>) {
    idle.retain(|_, list| {
        list.retain(|held| !held.sender.is_closed() && held.since.elapsed() < IDLE_MAX);
        !list.is_empty()
    });
}

/// The use of a connection for one exchange; dropped without [`Lease::give_back`], it closes.
#[derive(Debug)]
pub(crate) struct Lease {
    sender: SendRequest<OutBody>,
    /// Tells the reader below that a head comes next.
    asked: Arc<AtomicBool>,
    remote: SocketAddr,
    to: Destination,
    pool: Arc<Pool>,
}

impl Lease {
    /// The address that it leads to.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<OutBody>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.asked.store(true, Ordering::Relaxed);
        self.sender.send_request(request).await
    }

    /// The exchange is over: the connection is pooled as soon as it is ready for another.
    pub(crate) fn give_back(self) {
        let Self {
            mut sender,
            asked,
            remote,
            to,
            pool,
        } = self;
        tokio::spawn(async move {
            let ready = tokio::time::timeout(IDLE_MAX, sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(
                    to,
                    Idle {
                        sender,
                        asked,
                        remote,
                        since: Instant::now(),
                    },
                );
                tokio::time::sleep(IDLE_MAX).await;
                pool.close_old();
            }
        });
    }
}

/// Begins HTTP/1.1 on a new connection.
pub(super) async fn handshake(
    pool: &Arc<Pool>,
    to: Destination,
    dialled: Dialled,
) -> Result<Lease, OriginError> {
    let remote = dialled.remote;
    let asked = Arc::new(AtomicBool::new(false));
    let stream = StrictLines::new(dialled.stream, Arc::clone(&asked));
    let (sender, connection) = http1::Builder::new()
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| OriginError::Closed(remote, error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%remote, %error, "origin connection ended");
        }
    });
    Ok(Lease {
        sender,
        asked,
        remote,
        to,
        pool: Arc::clone(pool),
    })
}
