//! Sockets: bind, accept within the limits, drain at the end.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::Listener;
use crate::connection::{self, Closing};
use crate::dropped;
use crate::own_addresses::is_local;
use crate::shared::{Inlet, Shared};
use crate::transport::Tls;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// What accept waits after an error that will not pass by itself (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens one socket. A `[::]` listener takes IPv4 clients too.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The client connections of all listeners.
#[derive(Debug)]
pub(crate) struct Clients {
    permits: Arc<Semaphore>,
    total: u32,
    per_client_max: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// One counted client connection; lives as long as anything that the connection does.
#[derive(Debug)]
pub(crate) struct Place {
    clients: Arc<Clients>,
    client: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts();
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

impl Clients {
    pub(crate) fn new(total: usize, per_client_max: usize) -> Arc<Self> {
        let total = u32::try_from(total).unwrap_or(u32::MAX).clamp(1, 1 << 28);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
            per_client_max,
            by_client: Mutex::new(HashMap::new()),
        })
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a client, unless it has all that one client gets.
    fn admit(self: &Arc<Self>, client: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let mut counts = self.counts();
        let count = counts.entry(client).or_default();
        if *count >= self.per_client_max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Place {
            clients: Arc::clone(self),
            client,
            _permit: permit,
        })
    }

    /// Returns when no connection is left.
    pub(crate) async fn gone(&self) {
        // The semaphore is never closed.
        drop(self.permits.acquire_many(self.total).await);
    }
}

/// Accepts until `closing` says that larder stops; then the socket is closed at once.
pub(crate) async fn accept(
    shared: Arc<Shared>,
    clients: Arc<Clients>,
    listener: TcpListener,
    (config, tls): (Listener, Option<Tls>),
    closing: watch::Receiver<Closing>,
) {
    let mut stop = closing.clone();
    loop {
        let accepted = tokio::select! {
            accepted = next(&shared, &clients, &listener) => accepted,
            () = connection::stopping(&mut stop) => return,
        };
        match accepted {
            Some((stream, remote, permit)) => {
                let client = remote.ip().to_canonical();
                let Some(place) = clients.admit(client, permit) else {
                    tracing::debug!(%client, "too many connections from one client");
                    continue;
                };
                let Some(inlet) = inlet(&stream, client, &config, place) else {
                    continue;
                };
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(connection::serve(
                    shared,
                    inlet,
                    stream,
                    tls,
                    closing.clone(),
                ));
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Waits for a place, then for a client: beyond the limit clients wait in the backlog.
async fn next(
    shared: &Shared,
    clients: &Clients,
    listener: &TcpListener,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&clients.permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => Some((stream, remote, permit)),
        Err(error) => {
            if larder_store::is_of_too_many_files(&error) {
                // A client needs one more than a body that nobody reads.
                shared.store.close_idle_files();
            }
            dropped::cannot_accept(&error);
            None
        }
    }
}

/// Who came in, and by which door; `None` if the client has gone again.
fn inlet(
    stream: &TcpStream,
    client: IpAddr,
    config: &Listener,
    place: Place,
) -> Option<Arc<Inlet>> {
    // Latency matters more than packets; failure costs only that.
    drop(stream.set_nodelay(true));
    let local = stream.local_addr().ok()?;
    let client_is_self = client == local.ip().to_canonical() || is_local(client);
    Some(Arc::new(Inlet {
        client,
        client_is_self,
        mode: config.mode.clone(),
        listener: config.name.clone(),
        local,
        place,
    }))
}
