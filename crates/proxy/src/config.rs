//! What the proxy needs to know to run: plain values that the program fills in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_policy::policy::Policy;
use larder_policy::target::Mode;

/// Everything that [`crate::Proxy::start`] is given.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sockets to open; at least one.
    pub listeners: Vec<Listener>,
    /// The name that Via and X-Cache carry; unique per cache, so that loops are seen.
    pub name: String,
    /// How origins are spoken to.
    pub upstream: Upstream,
    /// Bounds on clients.
    pub limits: Limits,
    /// What requests are judged by.
    pub policy: Arc<Policy>,
}

/// One socket to open.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What its requests mean.
    pub mode: Mode,
    /// Its name in access rules and metrics.
    pub name: String,
    /// The certificate that it shows; `None`: it speaks no TLS.
    pub tls: Option<Tls>,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the listener's own certificate first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Tls {
    /// Reads the files and finds out whether they can be used.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn check(&self) -> Result<(), String> {
        crate::transport::Tls::load(self)
            .map(drop)
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            })
    }
}

/// How origins are spoken to.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Bound on one connection attempt, TLS included.
    pub connect_timeout: Duration,
    /// Bound on the wait for a response head.
    pub first_byte_timeout: Duration,
    /// Bound on a gap within a body.
    pub stall_timeout: Duration,
    /// Bound on what all mirrors together keep a client without a byte, where another could serve it.
    pub patience: Duration,
    /// Idle connections kept per origin.
    pub connections_per_host: usize,
    /// A PEM file of further certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Further sockets of this program: never dialled, as the listeners are not.
    pub never: Vec<SocketAddr>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(8),
            connections_per_host: 16,
            ca_file: None,
            never: Vec::new(),
        }
    }
}

/// Bounds on clients.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Client connections in all; further ones wait.
    pub connections: usize,
    /// Client connections from one address; further ones are closed.
    pub connections_per_client: usize,
    /// A request head may have this many bytes.
    pub header_bytes: usize,
    /// A request's body may have this many bytes.
    pub request_body: u64,
    /// Bound on the arrival of a request head, once it has begun.
    pub request_head: Duration,
    /// Bound on a client that neither sends nor takes a byte.
    pub idle: Duration,
    /// Bound on a tunnel in which no byte moves.
    pub tunnel_idle: Duration,
    /// What requests under way get at the end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 1000,
            header_bytes: 64 << 10,
            request_body: 1 << 30,
            request_head: Duration::from_secs(10),
            idle: Duration::from_mins(2),
            tunnel_idle: Duration::from_mins(15),
            drain: Duration::from_secs(30),
        }
    }
}
