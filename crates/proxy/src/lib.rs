//! Who talks to whom: listeners, one request's story, origins, tunnels, the access record.
//!
//! A request's story is told by `handle`: what it asks for, whether it may, where it would go,
//! under which name it is kept, what is held, and then one of four answers: a hit, a
//! revalidation, a miss that fills, or a pass. Decisions are values of [`larder_policy`], bytes are
//! [`larder_store`]'s; this crate moves them.
//!
//! # Cancel safety
//!
//! hyper drops a handler when its client goes. Nothing that must outlive a client lives in one:
//! fetches that fill are spawned (`lead`), tunnels too.

mod asked;
mod body;
pub mod config;
mod connection;
mod draw;
mod dropped;
mod fetch;
mod handle;
mod hit;
mod lead;
mod listen;
mod miss;
mod origin;
mod own;
mod own_addresses;
mod parts;
mod pass;
mod patience;
pub mod record;
mod reply;
mod rest;
mod revalidate;
mod serve;
mod shared;
mod supply;
mod transport;
mod tunnel;
mod unkept;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use larder_policy::policy::Policy;
use larder_store::Store;
use tokio::sync::watch;

use config::Config;
use connection::Closing;
use record::Recorder;
use shared::Shared;

/// The proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be opened.
    #[error("cannot listen on {at}{}", hint(.1), at = .0)]
    Listen(SocketAddr, #[source] std::io::Error),
    /// A listener's certificate cannot be used.
    #[error("cannot speak TLS on {0}")]
    Certificate(
        SocketAddr,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
    /// TLS to origins cannot be set up.
    #[error("cannot set up TLS to origins")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What to do about a socket that cannot be opened.
fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            " (a Squid or another larder that runs? `ss -ltnp` tells who has the port)"
        }
        std::io::ErrorKind::PermissionDenied => {
            " (ports below 1024 want the capability CAP_NET_BIND_SERVICE)"
        }
        std::io::ErrorKind::AddrNotAvailable => " (this host has no such address)",
        _ => "",
    }
}

/// The proxy, before it runs.
#[derive(Debug)]
pub struct Proxy;

/// A running proxy.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    clients: Arc<listen::Clients>,
    addresses: Vec<(&'static str, SocketAddr)>,
    closing: watch::Sender<Closing>,
}

impl Proxy {
    /// Opens the sockets and serves until [`Handle::shutdown`]. Called within a Tokio runtime.
    ///
    /// # Errors
    /// A socket that cannot be opened, or certificate authorities that cannot be read; nothing is
    /// left running.
    pub fn start(
        config: Config,
        store: Store,
        recorder: Arc<dyn Recorder>,
    ) -> Result<Handle, StartError> {
        let never = config.upstream.never.clone();
        let origins = origin::Origins::new(config.upstream)
            .map_err(|error| StartError::Tls(Box::new(error)))?;
        let shared = Arc::new(Shared {
            store,
            policy: ArcSwap::new(config.policy),
            origins,
            unkept: unkept::Unkept::default(),
            name: config.name,
            recorder,
            limits: config.limits,
        });
        let clients = listen::Clients::new(
            shared.limits.connections,
            shared.limits.connections_per_client,
        );
        let mut bound = Vec::new();
        for listener in config.listeners {
            let failed = |error| StartError::Listen(listener.address, error);
            let socket = listen::bind(listener.address).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            let tls = listener.tls.as_ref().map(transport::Tls::load).transpose();
            let tls = tls.map_err(|error| StartError::Certificate(address, Box::new(error)))?;
            bound.push((socket, address, (listener, tls)));
        }
        let own = bound.iter().map(|(_, address, _)| *address);
        shared.origins.never_dial(own.chain(never).collect());
        let (closing, closed) = watch::channel(Closing::No);
        let mut addresses = Vec::new();
        for (socket, address, listener) in bound {
            addresses.push((listener.0.mode.as_str(), address));
            tokio::spawn(listen::accept(
                Arc::clone(&shared),
                Arc::clone(&clients),
                socket,
                listener,
                closed.clone(),
            ));
        }
        Ok(Handle {
            shared,
            clients,
            addresses,
            closing,
        })
    }
}

impl Handle {
    /// The mode and the real address of each socket.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// Judges requests that come from now on by another policy.
    pub fn reload(&self, policy: Arc<Policy>) {
        self.shared.policy.store(policy);
    }

    /// Closes the sockets and idle connections at once and gives requests under way `drain`.
    /// Returns true if all of them ended in time.
    pub async fn shutdown(&self, drain: Duration) -> bool {
        self.closing.send_replace(Closing::Draining);
        let in_time = tokio::time::timeout(drain, self.clients.gone())
            .await
            .is_ok();
        self.end().await;
        in_time
    }

    /// Ends all connections where they are, and waits until their records are written.
    pub async fn end(&self) {
        self.closing.send_replace(Closing::Now);
        // Handlers are dropped at once; a second is plenty.
        let gone = tokio::time::timeout(Duration::from_secs(1), self.clients.gone());
        drop(gone.await);
    }
}
