//! Raw Ethernet frames, for a port that a main DHCP server on the same host holds alone.
//!
//! A packet socket sees what arrives whatever UDP socket has the port. Frames are built and taken apart
//! here: Ethernet, IPv4 without options or fragments, UDP. The kernel filters by port before a byte is
//! copied, so that other traffic costs nothing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use nix::sys::socket::LinkAddr;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::interfaces::Found;
use super::udp::{Purpose, explain};
use crate::error::Error;

/// IPv4's protocol number on Ethernet.
const ETHERTYPE_IPV4: u16 = 0x0800;

/// UDP's protocol number in IPv4.
const UDP: u8 = 17;

/// The protocol of raw sockets that only send, with a header of their own.
const IPPROTO_RAW: i32 = 255;

/// Bytes before a UDP payload: Ethernet, IPv4 without options, UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct RawSocket {
    /// A packet socket in the clothes of a UDP one, which is how tokio takes foreign descriptors; only
    /// readiness and plain reads and writes are used of it.
    socket: UdpSocket,
    link: LinkAddr,
}

/// A UDP datagram taken from a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// What.
    pub payload: &'a [u8],
}

impl RawSocket {
    /// Opens a socket that receives UDP datagrams to `port` on an interface.
    ///
    /// # Errors
    /// No permission, or no link-layer address.
    pub fn open(found: &Found, port: u16, purpose: Purpose) -> Result<Self, Error> {
        let address = SocketAddr::from((found.interface.address, port));
        let wrong = |error| explain(error, address, purpose);
        let link = found
            .link
            .ok_or_else(|| wrong(io::ErrorKind::Unsupported.into()))?;
        let open = || -> io::Result<UdpSocket> {
            let protocol = Protocol::from(i32::from(ETHERTYPE_IPV4.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
            socket.attach_filter(&filter(port))?;
            nix::sys::socket::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &link)?;
            // Until now the socket took what came by any interface to any port.
            while io::Read::read(&mut &socket, &mut [0]).is_ok() {}
            UdpSocket::from_std(socket.into())
        };
        Ok(Self {
            socket: open().map_err(wrong)?,
            link,
        })
    }

    /// Receives a frame.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Cancel safety
    /// Safe: a frame is taken from the socket only when this returns.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = || io::Read::read(&mut &*SockRef::from(&self.socket), buffer);
        self.socket.async_io(Interest::READABLE, read).await
    }

    /// Broadcasts a datagram on the link.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn broadcast(
        &self,
        payload: &[u8],
        from: SocketAddrV4,
        to: SocketAddrV4,
    ) -> io::Result<()> {
        let source = self.link.addr().unwrap_or_default();
        let frame = frame(payload, source, from, to);
        let write = || SockRef::from(&self.socket).send(&frame).map(|_sent| ());
        self.socket.async_io(Interest::WRITABLE, write).await
    }
}

/// Sends datagrams from a port that another server holds: the kernel routes what is built here.
#[derive(Debug)]
pub struct RoutedSocket(Socket);

impl RoutedSocket {
    /// Opens a socket that only sends (raw(7): `IPPROTO_RAW` receives nothing).
    ///
    /// # Errors
    /// No permission.
    pub fn open(port: u16, purpose: Purpose) -> Result<Self, Error> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let kind = Type::RAW.nonblocking();
        Socket::new(Domain::IPV4, kind, Some(Protocol::from(IPPROTO_RAW)))
            .map(Self)
            .map_err(|error| explain(error, address, purpose))
    }

    /// Sends a datagram where the kernel's routes lead.
    ///
    /// # Errors
    /// What the kernel says; a full queue loses the datagram.
    pub fn send(&self, payload: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> io::Result<()> {
        let to_host = SocketAddr::from((*to.ip(), 0));
        self.0
            .send_to(&packet(payload, from, to), &to_host.into())
            .map(|_sent| ())
    }
}

/// Takes a frame apart; none if it is no whole UDP datagram.
pub fn datagram(frame: &[u8]) -> Option<Datagram<'_>> {
    let (ethernet, packet) = frame.split_at_checked(14)?;
    if ethernet.get(12..14)? != ETHERTYPE_IPV4.to_be_bytes() {
        return None;
    }
    let first = *packet.first()?;
    let head_length = usize::from(first & 15) * 4;
    let (head, rest) = packet.split_at_checked(head_length)?;
    let fragment = u16::from_be_bytes(*head.get(6..)?.first_chunk()?);
    if first >> 4 != 4 || *head.get(9)? != UDP || fragment & 0x3fff != 0 {
        return None;
    }
    let address = |at: usize| {
        head.get(at..)?
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets))
    };
    let number = |at: usize| {
        rest.get(at..)?
            .first_chunk::<2>()
            .map(|bytes| u16::from_be_bytes(*bytes))
    };
    let payload = rest.get(8..usize::from(number(4)?))?;
    let from = SocketAddrV4::new(address(12)?, number(0)?);
    Some(Datagram {
        from,
        to: SocketAddrV4::new(address(16)?, number(2)?),
        payload,
    })
}

/// Builds a broadcast frame.
pub fn frame(payload: &[u8], source: [u8; 6], from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADERS + payload.len());
    frame.extend([0xff; 6]);
    frame.extend(source);
    frame.extend(ETHERTYPE_IPV4.to_be_bytes());
    frame.extend(packet(payload, from, to));
    frame
}

/// Builds an IPv4 packet.
fn packet(payload: &[u8], from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let length = |of: usize| u16::try_from(of).unwrap_or(u16::MAX).to_be_bytes();
    let [total_high, total_low] = length(28 + payload.len());
    let mut head = vec![0x45, 0, total_high, total_low, 0, 0, 0, 0, 64, UDP, 0, 0];
    head.extend(from.ip().octets());
    head.extend(to.ip().octets());
    let sum = checksum(&head).to_be_bytes();
    for (place, byte) in [10, 11].into_iter().zip(sum) {
        if let Some(to) = head.get_mut(place) {
            *to = byte;
        }
    }
    let mut packet = head;
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(length(8 + payload.len()));
    // No UDP checksum: optional in IPv4 (RFC 768), and one layer less to get wrong.
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).filter_map(<[u8]>::first_chunk::<2>);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A classic BPF program: IPv4, UDP, no later fragment, to `port`.
fn filter(port: u16) -> [SockFilter; 11] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_BEHIND: u16 = 0x48;
    const HEAD_LENGTH: u16 = 0xb1;
    const EQUAL: u16 = 0x15;
    const BITS: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let step = |code, yes, no, value| SockFilter::new(code, yes, no, value);
    [
        step(LOAD_HALF, 0, 0, 12),
        step(EQUAL, 0, 8, ETHERTYPE_IPV4.into()),
        step(LOAD_BYTE, 0, 0, 23),
        step(EQUAL, 0, 6, UDP.into()),
        step(LOAD_HALF, 0, 0, 20),
        step(BITS, 4, 0, 0x1fff),
        step(HEAD_LENGTH, 0, 0, 14),
        step(LOAD_HALF_BEHIND, 0, 0, 16),
        step(EQUAL, 0, 1, port.into()),
        step(RETURN, 0, 0, 0xffff),
        step(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_taken_apart_as_it_was_built() {
        let from = "10.0.0.2:67".parse().unwrap();
        let to = "255.255.255.255:68".parse().unwrap();
        let frame = frame(b"payload", [2, 0, 0, 0, 0, 1], from, to);
        assert_eq!(
            datagram(&frame),
            Some(Datagram {
                from,
                to,
                payload: b"payload"
            })
        );
        assert_eq!(checksum(&frame[14..34]), 0);
    }

    #[test]
    fn what_the_kernel_routes_names_its_own_source() {
        let from = "10.0.0.2:67".parse().unwrap();
        let to = "10.9.0.1:67".parse().unwrap();
        let packet = packet(b"payload", from, to);
        assert_eq!(packet[20..24], [0, 67, 0, 67]);
        assert_eq!((&packet[12..16], packet.len()), (&[10, 0, 0, 2][..], 35));
    }

    #[test]
    fn what_is_no_whole_datagram_is_none() {
        let whole = frame(
            b"payload",
            [0; 6],
            "10.0.0.2:67".parse().unwrap(),
            "10.0.0.3:68".parse().unwrap(),
        );
        for length in 0..whole.len() {
            assert_eq!(datagram(&whole[..length]), None, "{length}");
        }
        let mut fragment = whole.clone();
        fragment[20] = 0x20;
        assert_eq!(datagram(&fragment), None);
        let mut tcp = whole;
        tcp[23] = 6;
        assert_eq!(datagram(&tcp), None);
    }
}
