//! From a destination to a connection: resolve, judge every address, connect, and speak TLS where
//! the scheme asks for it.
//!
//! The rules look at the address that is really connected to, after each resolution, in every form
//! (v4-mapped addresses count as IPv4). Our own listeners are never dialled, whoever configured it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use larder_policy::route::Parent;
use larder_policy::url::{Authority, Scheme};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Address, OriginError, Origins};

/// RFC 8305 §5: Connection Attempt Delay.
const STAGGER: Duration = Duration::from_millis(250);
/// A parent's answer to CONNECT has a head no longer than this, bytes.
const PARENT_HEAD_MAX: usize = 16 << 10;

/// A connection, and where it leads.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: Stream,
    pub(crate) remote: SocketAddr,
}

/// A plain or TLS connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Origins {
    /// A connection for the requests of one hop.
    pub(super) async fn dial(
        &self,
        address: &Address,
        via: Option<&HeaderValue>,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Result<Dialled, OriginError> {
        let to = &address.to;
        let limit = self.config.connect_timeout;
        let connected = self.dial_plain(&to.authority, permitted).await?;
        let remote = connected.remote;
        let secured = async {
            let mut connected = connected;
            let tls_name = match &to.behind {
                Some(behind) => {
                    let credentials = behind.credentials.as_deref();
                    ask_parent(&mut connected, &behind.authority, via, credentials).await?;
                    Some(behind.authority.host.as_str())
                }
                None if to.scheme == Scheme::Https => Some(to.authority.host.as_str()),
                None => None,
            };
            match tls_name {
                Some(name) => self.secure(connected, name).await,
                None => Ok(connected),
            }
        };
        match tokio::time::timeout(limit, secured).await {
            Ok(result) => result,
            Err(_elapsed) => Err(OriginError::ConnectTimeout(remote)),
        }
    }

    /// A tunnel through a parent.
    pub(super) async fn dial_behind(
        &self,
        parent: &Parent,
        authority: &Authority,
        via: Option<&HeaderValue>,
    ) -> Result<Dialled, OriginError> {
        let mut connected = self.dial_plain(&parent.authority, |_| true).await?;
        let remote = connected.remote;
        let credentials = parent.authorization.as_deref();
        let asked = ask_parent(&mut connected, authority, via, credentials);
        match tokio::time::timeout(self.config.connect_timeout, asked).await {
            Ok(result) => result.map(|()| connected),
            Err(_elapsed) => Err(OriginError::ConnectTimeout(remote)),
        }
    }

    /// A TCP connection to an address that is permitted. Addresses are tried in their order, each
    /// a quarter of a second after the one before; the first that answers wins (RFC 8305).
    pub(super) async fn dial_plain(
        &self,
        authority: &Authority,
        permitted: impl Fn(IpAddr) -> bool,
    ) -> Result<Dialled, OriginError> {
        let mut failure = None;
        let mut attempts = JoinSet::new();
        let limit = self.config.connect_timeout;
        for address in self.resolve(authority).await? {
            if self.is_own(address) {
                failure.get_or_insert(OriginError::Itself(address));
            } else if !permitted(address.ip().to_canonical()) {
                failure.get_or_insert(OriginError::Forbidden(address));
            } else {
                let nth = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
                attempts.spawn(connect(address, STAGGER.saturating_mul(nth), limit));
            }
        }
        while let Some(attempt) = attempts.join_next().await {
            match attempt {
                Ok(Ok(dialled)) => return Ok(dialled),
                Ok(Err(error)) => failure = Some(error),
                // Only a panic ends an attempt without a result.
                Err(_panicked) => {}
            }
        }
        Err(failure.unwrap_or(OriginError::NoRoute))
    }

    async fn resolve(&self, authority: &Authority) -> Result<Vec<SocketAddr>, OriginError> {
        if let Some(ip) = authority.ip() {
            return Ok(vec![SocketAddr::new(ip, authority.port)]);
        }
        let unresolved = |error| OriginError::Unresolved(authority.host.clone(), error);
        let lookup = tokio::net::lookup_host((authority.host.as_str(), authority.port));
        let timeout = tokio::time::timeout(self.config.connect_timeout, lookup);
        let found: Vec<SocketAddr> = match timeout.await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(unresolved(error)),
            Err(_elapsed) => return Err(unresolved(std::io::ErrorKind::TimedOut.into())),
        };
        if found.is_empty() {
            return Err(unresolved(std::io::ErrorKind::NotFound.into()));
        }
        Ok(found)
    }

    async fn secure(&self, connected: Dialled, name: &str) -> Result<Dialled, OriginError> {
        let Dialled { stream, remote } = connected;
        let Stream::Plain(tcp) = stream else {
            return Ok(Dialled { stream, remote });
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_e| OriginError::BadTarget)?;
        match TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
        {
            Ok(tls) => Ok(Dialled {
                stream: Stream::Tls(Box::new(tls)),
                remote,
            }),
            Err(error) => Err(OriginError::Tls(remote, error)),
        }
    }
}

async fn connect(
    address: SocketAddr,
    after: Duration,
    limit: Duration,
) -> Result<Dialled, OriginError> {
    tokio::time::sleep(after).await;
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Latency matters more than packets; failure costs only that.
            drop(stream.set_nodelay(true));
            Ok(Dialled {
                stream: Stream::Plain(stream),
                remote: address,
            })
        }
        Ok(Err(error)) => Err(OriginError::Unreachable(address, error)),
        Err(_elapsed) => Err(OriginError::ConnectTimeout(address)),
    }
}

/// Asks a parent for a tunnel (RFC 9110 §9.3.6) and reads its answer's head. Via tells it whom the
/// request has passed, so that proxies that lead to each other notice (RFC 9110 §7.6.3).
async fn ask_parent(
    connected: &mut Dialled,
    authority: &Authority,
    via: Option<&HeaderValue>,
    credentials: Option<&str>,
) -> Result<(), OriginError> {
    let remote = connected.remote;
    let credentials = credentials
        .map(|text| format!("Proxy-Authorization: {text}\r\n"))
        .unwrap_or_default();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(via) = via {
        // As it came: members of others may be no ASCII.
        request.extend([b"Via: ", via.as_bytes(), b"\r\n"].concat());
    }
    request.extend([credentials.as_bytes(), b"\r\n"].concat());
    let unreachable = |error| OriginError::Unreachable(remote, error);
    connected
        .stream
        .write_all(&request)
        .await
        .map_err(unreachable)?;
    let mut head = Vec::new();
    // Byte by byte, so that nothing of the tunnel itself is read.
    while !head.ends_with(b"\r\n\r\n") {
        let byte = connected.stream.read_u8().await.map_err(unreachable)?;
        head.push(byte);
        if head.len() > PARENT_HEAD_MAX {
            return Err(OriginError::ParentRefused(remote));
        }
    }
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status.first() == Some(&b'2') {
        Ok(())
    } else {
        Err(OriginError::ParentRefused(remote))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
