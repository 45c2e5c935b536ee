//! Listeners of a provisioning server that runs alone: HTTP for machines, optionally with TLS.
//!
//! `start` binds, says where, and gives a handle with the real address; dropping the handle stops
//! accepting. A connection in flight ends by itself or by [`DRAIN`]; a client that does not take its
//! answer loses it by [`WRITE_TIMEOUT`], so that it holds no place for ever.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{Provision, error::Error, patience::Patient, tls};

/// Connections at a time; more wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// Connections that wait to be accepted. With 128, the usual number, the rest of five hundred machines that
/// are switched on together would ask again a second later.
const BACKLOG: u32 = 4096;
/// How long a client may take for its request head or its TLS handshake.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take none of the bytes that wait for it. iPXE itself gives up after two minutes.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_mins(2);
/// How long answers in flight may last once the server stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// A listener that accepts; dropped, it stops.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Listening {
    /// The address that it really has.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits for the answers in flight, at most [`DRAIN`].
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if self.task.await.is_err() {
            tracing::warn!(address = %self.address, "the listener's task panicked");
        }
    }
}

/// Binds `address` in Go's form: `HOST:PORT`, or `:PORT` for every address.
///
/// # Errors
///
/// [`Error::Address`] and [`Error::Bind`].
pub(crate) async fn bind(address: &str) -> Result<TcpListener, Error> {
    let failed = |error| Error::Bind(address.to_owned(), error);
    let Some(port) = address.strip_prefix(':') else {
        if !address.contains(':') {
            return Err(Error::Address(address.to_owned()));
        }
        return open_first(address).await.map_err(failed);
    };
    let port: u16 = port
        .parse()
        .map_err(|_not_a_port| Error::Address(address.to_owned()))?;
    match open((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(failed(error)),
        Err(_) => open((Ipv4Addr::UNSPECIFIED, port).into()).map_err(failed),
        Ok(listener) => Ok(listener),
    }
}

/// Opens the first address of a name that can be opened.
async fn open_first(address: &str) -> io::Result<TcpListener> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in tokio::net::lookup_host(address).await? {
        match open(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens a socket in whose queue a whole room of machines has its place.
fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers a request before provisioning sees it, or leaves it to provisioning: for a listener that
/// another part shares.
pub type First = dyn Fn(&http::Request<()>, SocketAddr) -> Option<Answering> + Send + Sync;

/// The answer of another part.
pub type Answering = Pin<Box<dyn Future<Output = http::Response<crate::http::Body>> + Send>>;

/// Serves machines on `address`; with a certificate and key, over TLS.
///
/// # Errors
///
/// An address that cannot be bound, files that make no TLS server.
pub async fn http(
    provision: Arc<Provision>,
    address: &str,
    tls: Option<(PathBuf, PathBuf)>,
) -> Result<Listening, Error> {
    shared_http(provision, address, tls, Arc::new(|_, _| None)).await
}

/// Serves machines on `address` as [`http`] does, where `first` has not answered.
///
/// # Errors
///
/// An address that cannot be bound, files that make no TLS server.
pub async fn shared_http(
    provision: Arc<Provision>,
    address: &str,
    tls: Option<(PathBuf, PathBuf)>,
    first: Arc<First>,
) -> Result<Listening, Error> {
    let acceptor = match tls {
        Some((certificate, key)) => Some(tls::for_machines(&certificate, &key)?),
        None => None,
    };
    let listener = bind(address).await?;
    accept(listener, move |stream, client, stopping| {
        let door = Door {
            provision: Arc::clone(&provision),
            first: Arc::clone(&first),
            client,
        };
        connection(door, acceptor.clone(), stream, stopping)
    })
}

/// Accepts until stopped; each connection is one task.
pub(crate) fn accept<F, C>(listener: TcpListener, connection: F) -> Result<Listening, Error>
where
    F: Fn(Stream, SocketAddr, watch::Receiver<bool>) -> C + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    accept_at_most(CONNECTIONS_MAX, listener, connection)
}

/// A client's connection.
pub(crate) type Stream = Patient<tokio::net::TcpStream>;

fn accept_at_most<F, C>(
    connections_max: usize,
    listener: TcpListener,
    connection: F,
) -> Result<Listening, Error>
where
    F: Fn(Stream, SocketAddr, watch::Receiver<bool>) -> C + Send + 'static,
    C: Future<Output = ()> + Send + 'static,
{
    let address = listener
        .local_addr()
        .map_err(|error| Error::Bind("a listener".to_owned(), error))?;
    let (stop, mut stopping) = watch::channel(false);
    let stopped = stopping.clone();
    let task = tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(connections_max));
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                next = next => next,
                // An error is the handle having been dropped.
                _ = stopping.changed() => break,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, client)) => {
                    let _ = stream.set_nodelay(true);
                    let stream = Patient::new(stream, WRITE_TIMEOUT, stopped.clone());
                    let serving = connection(stream, client, stopped.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: a busy loop would not free any.
                    tracing::warn!(%address, "accepting: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        while connections.try_join_next().is_some() {}
        if !connections.is_empty() {
            let (count, most) = (connections.len(), DRAIN.as_secs());
            tracing::info!(%address, "{count} connections may end by themselves, for {most} s at most");
        }
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(%address, "connections were cut after {} s", DRAIN.as_secs());
        }
    });
    Ok(Listening {
        address,
        stop,
        task,
    })
}

/// Waits until the listener stops, or its handle is dropped.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error is the handle having been dropped, which stops too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Who answers a client.
#[derive(Clone)]
struct Door {
    provision: Arc<Provision>,
    first: Arc<First>,
    client: SocketAddr,
}

impl Door {
    async fn answer(self, request: http::Request<Incoming>) -> http::Response<crate::http::Body> {
        // No answer depends on a body; it lives until there is one, so that hyper need not close.
        let (parts, body) = request.into_parts();
        let request = http::Request::from_parts(parts, ());
        let response = match (self.first)(&request, self.client) {
            Some(answering) => answering.await,
            None => self.provision.answer(&request, self.client).await,
        };
        drop(body);
        response
    }
}

async fn connection(
    door: Door,
    acceptor: Option<TlsAcceptor>,
    stream: Stream,
    stopping: watch::Receiver<bool>,
) {
    let client = door.client;
    match acceptor {
        None => talk(door, stream, stopping).await,
        Some(acceptor) => match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(door, stream, stopping).await,
            Ok(Err(error)) => tracing::debug!(%client, "TLS: {error}"),
            Err(_) => tracing::debug!(%client, "TLS: no handshake in time"),
        },
    }
}

async fn talk<S>(door: Door, stream: S, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = door.client;
    let service = service_fn(move |request: http::Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, std::convert::Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, "connection: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_house_stops_when_it_is_told() {
        let listener = bind("127.0.0.1:0").await.unwrap();
        // A client that holds its place whatever happens.
        let listening = accept_at_most(1, listener, |stream, _, _| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
        let listening = listening.unwrap();
        let address = listening.address();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let stopping = tokio::spawn(listening.stop());
        let refused = async {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        // Where it waits for a place first, nobody is ever refused.
        tokio::time::timeout(DRAIN, refused).await.unwrap();
        stopping.abort();
    }
}
