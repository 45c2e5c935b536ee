//! Port 67, interface by interface: one that comes while larder runs gets its socket, and so does one that
//! was taken away and made anew, which to the kernel is another one of the same name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::DHCP;
use super::core::{Core, LOOK_EVERY};
use super::dhcp;
use super::supervise::{Complaint, supervised};
use crate::config::{Config, SocketKind};
use crate::decide::Port;
use crate::error::Error;
use crate::net::interfaces::Found;
use crate::net::raw::{RawSocket, RoutedSocket};
use crate::net::udp::PortSocket;

/// Port 67 as it is opened.
pub(super) struct Doors {
    /// One socket for all interfaces, or one for each by its index.
    open: BTreeMap<Option<u32>, Door>,
    /// In packet mode, the way out by the kernel's routes.
    routed: Option<Arc<RoutedSocket>>,
}

/// A socket of port 67.
enum Door {
    Udp(PortSocket),
    Raw(RawSocket, SocketAddr),
}

impl Doors {
    /// Opens what is served at the start.
    ///
    /// # Errors
    /// The port is taken, or there is no permission.
    pub(super) fn open(config: &Config, served: &[Found]) -> Result<Self, Error> {
        let port = config.ports.dhcp;
        let mut open = BTreeMap::new();
        if is_by_link(config) {
            for found in served {
                open.insert(Some(found.interface.index), door(config, found)?);
            }
        } else {
            let door = Door::Udp(PortSocket::open(port, true, None, DHCP)?);
            open.insert(None, door);
        }
        let is_raw = config.socket == SocketKind::Packet;
        let routed = is_raw.then(|| RoutedSocket::open(port, DHCP)).transpose()?;
        let routed = routed.map(Arc::new);
        Ok(Self { open, routed })
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let address = |door: &Door| match door {
            Door::Udp(socket) => socket.address().ok(),
            Door::Raw(_, address) => Some(*address),
        };
        self.open.values().filter_map(address).collect()
    }

    /// Serves, and keeps up with the served interfaces, until it is dropped.
    pub(super) async fn serve(self, core: Arc<Core>) {
        let mut tasks = JoinSet::new();
        let mut complaint = Complaint::default();
        let routed = self.routed;
        let mut open: BTreeMap<Option<u32>, AbortHandle> = BTreeMap::new();
        for (index, door) in self.open {
            open.insert(index, run(door, index, routed.as_ref(), &core, &mut tasks));
        }
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            while tasks.try_join_next().is_some() {}
            if !is_by_link(&core.config) {
                continue;
            }
            let served = core.links.served();
            let is_served = |index| served.iter().any(|own| Some(own.interface.index) == index);
            open.retain(|index, task| {
                let stays = is_served(*index);
                if !stays {
                    task.abort();
                }
                stays
            });
            for found in &served {
                let index = Some(found.interface.index);
                if open.contains_key(&index) {
                    continue;
                }
                match door(&core.config, found) {
                    Ok(door) => {
                        let task = run(door, index, routed.as_ref(), &core, &mut tasks);
                        open.insert(index, task);
                    }
                    Err(error) => complaint.cannot_open(&found.interface.name, &error),
                }
            }
        }
    }
}

/// Tells whether each interface has a socket of its own: frames always do, and beside a main server on the
/// same host datagrams do where interfaces are named.
fn is_by_link(config: &Config) -> bool {
    config.socket == SocketKind::Packet || !config.interfaces.is_empty()
}

fn door(config: &Config, found: &Found) -> Result<Door, Error> {
    let port = config.ports.dhcp;
    Ok(match config.socket {
        SocketKind::Udp => {
            let name = Some(found.interface.name.as_str());
            Door::Udp(PortSocket::open(port, true, name, DHCP)?)
        }
        SocketKind::Packet => {
            let address = SocketAddr::from((found.interface.address, port));
            Door::Raw(RawSocket::open(found, port, DHCP)?, address)
        }
    })
}

fn run(
    door: Door,
    index: Option<u32>,
    routed: Option<&Arc<RoutedSocket>>,
    core: &Arc<Core>,
    tasks: &mut JoinSet<()>,
) -> AbortHandle {
    let core = Arc::clone(core);
    match (door, index.zip(routed)) {
        (Door::Raw(socket, _), Some((index, routed))) => {
            let (socket, routed) = (Arc::new(socket), Arc::clone(routed));
            tasks.spawn(supervised("proxydhcp", move || {
                let (socket, routed) = (Arc::clone(&socket), Arc::clone(&routed));
                dhcp::serve_raw(socket, index, routed, Arc::clone(&core))
            }))
        }
        (Door::Udp(socket), _) => {
            let socket = Arc::new(socket);
            tasks.spawn(supervised("proxydhcp", move || {
                dhcp::serve(Arc::clone(&socket), Port::Dhcp, Arc::clone(&core))
            }))
        }
        // Frames always come with an index and a way out.
        (Door::Raw(..), None) => tasks.spawn(async {}),
    }
}
