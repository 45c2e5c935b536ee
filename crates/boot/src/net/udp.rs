//! UDP sockets that say where a datagram came in and send from the right address (IP_PKTINFO).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::error::Error;

/// Bytes of requests that may wait in the kernel.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A datagram's way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// This host's address to answer from: the one that was asked, or what the kernel names for a broadcast.
    pub to: Ipv4Addr,
    /// By which interface, as the kernel counts.
    pub interface: u32,
}

/// What a socket is for, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Purpose {
    /// In a word.
    pub what: &'static str,
    /// What to do if the port is taken.
    pub mend: &'static str,
}

/// A UDP socket on a port of all addresses.
#[derive(Debug)]
pub struct PortSocket {
    socket: UdpSocket,
}

impl PortSocket {
    /// Opens `port`. Shared ports can be bound beside another server that shares them too; the kernel
    /// then gives a broadcast to both and a unicast to one.
    ///
    /// # Errors
    /// The port is taken, or there is no permission.
    pub fn open(
        port: u16,
        is_shared: bool,
        device: Option<&str>,
        purpose: Purpose,
    ) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let open = || -> io::Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
            socket.set_reuse_address(is_shared)?;
            socket.set_broadcast(true)?;
            // A room full of machines asks in the same second; the kernel gives what it allows.
            let _as_it_is = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            if let Some(device) = device {
                socket.bind_device(Some(device.as_bytes()))?;
            }
            setsockopt(&socket, Ipv4PacketInfo, &true)?;
            let_routers_fragment(&socket)?;
            socket.bind(&address.into())?;
            UdpSocket::from_std(socket.into())
        };
        open()
            .map(|socket| Self { socket })
            .map_err(|error| explain(error, address, purpose))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Receives a datagram into `buffer`; one that is longer is cut.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Cancel safety
    /// Safe: a datagram is taken from the socket only when this returns.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        self.socket
            .async_io(Interest::READABLE, || {
                let mut control = nix::cmsg_space!(in_pktinfo);
                let mut parts = [IoSliceMut::new(buffer)];
                let fd = self.socket.as_raw_fd();
                let got =
                    recvmsg::<SockaddrIn>(fd, &mut parts, Some(&mut control), MsgFlags::empty())?;
                let from = got
                    .address
                    .map(|from| SocketAddrV4::new(from.ip(), from.port()));
                let from = from.ok_or(io::ErrorKind::InvalidData)?;
                let info = got.cmsgs()?.find_map(|message| match message {
                    ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
                    _ => None,
                });
                let info = info.ok_or(io::ErrorKind::InvalidData)?;
                // Not ipi_addr, which may be a broadcast address of the subnet (ip(7)).
                let to = Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes());
                let interface = u32::try_from(info.ipi_ifindex).unwrap_or_default();
                Ok((
                    got.bytes,
                    Way {
                        from,
                        to,
                        interface,
                    },
                ))
            })
            .await
    }

    /// Sends a datagram out of an interface, from its address.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send(
        &self,
        packet: &[u8],
        to: SocketAddrV4,
        interface: u32,
        source: Ipv4Addr,
    ) -> io::Result<()> {
        let to = SockaddrIn::from(to);
        let info = in_pktinfo {
            ipi_ifindex: i32::try_from(interface).unwrap_or_default(),
            ipi_spec_dst: in_addr {
                s_addr: u32::from_ne_bytes(source.octets()),
            },
            ipi_addr: in_addr { s_addr: 0 },
        };
        self.socket
            .async_io(Interest::WRITABLE, || {
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let parts = [IoSlice::new(packet)];
                sendmsg(
                    self.socket.as_raw_fd(),
                    &parts,
                    &control,
                    MsgFlags::empty(),
                    Some(&to),
                )?;
                Ok(())
            })
            .await
    }
}

/// Sends without the mark that forbids fragments: firmware's stacks know nothing of path MTU discovery, and
/// where the message that a packet is too big gets lost, so would every later packet of the size.
///
/// # Errors
/// What the kernel says.
pub fn let_routers_fragment(socket: impl AsFd) -> io::Result<()> {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
    set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT).map_err(Into::into)
}

/// Says why a socket cannot be opened, and what to do.
pub fn explain(error: io::Error, address: SocketAddr, purpose: Purpose) -> Error {
    let what = purpose.what;
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortTaken {
            what,
            address,
            mend: purpose.mend,
        },
        io::ErrorKind::PermissionDenied => Error::NoPermission {
            what,
            address,
            capability: "CAP_NET_BIND_SERVICE and CAP_NET_RAW",
        },
        _ => Error::Socket {
            what,
            address,
            source: error,
        },
    }
}
