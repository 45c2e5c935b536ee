//! Asks a link as a booting machine would, and listens for all servers.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use dhcproto::Encodable;
use dhcproto::v4::borrowed;
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Error;
use crate::net::interfaces::Found;
use crate::net::raw::{RawSocket, datagram};
use crate::net::udp::Purpose;
use crate::packet::ipxe::is_no_pxedhcp;
use crate::packet::options::{code, find};
use crate::packet::request::OPTIONS_AT;

const LISTEN: Purpose = Purpose {
    what: "listening for DHCP servers",
    mend: "this cannot be: raw sockets share ports",
};

/// Architectures to ask for: servers answer BIOS and UEFI differently.
const ARCHITECTURES: [u16; 2] = [0, 7];

/// How long a TFTP server may take, and how often it is asked.
const TFTP_WAIT: Duration = Duration::from_millis(700);
const TFTP_TRIES: usize = 2;

/// A server that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The interface by which it answered.
    pub interface: String,
    /// Its address, as it names itself.
    pub address: Ipv4Addr,
    /// Whether it gives boot data alone and no address.
    pub is_proxy: bool,
    /// The address that it offered.
    pub offered: Option<Ipv4Addr>,
    /// The server that it names for files.
    pub next_server: Option<Ipv4Addr>,
    /// The boot file that it names.
    pub file: Option<String>,
    /// Whether it tells iPXE not to wait for proxies.
    pub is_no_pxedhcp: bool,
}

impl Server {
    /// What it offers, in words.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        parts.push(match self.offered {
            Some(address) => format!("offers address {address}"),
            None => "offers boot data without an address".to_owned(),
        });
        parts.extend(self.file.as_ref().map(|file| format!("boot file {file}")));
        parts.extend(self.next_server.map(|server| format!("from {server}")));
        parts.join(", ")
    }
}

/// How often the link is asked: a server that first looks whether an address is free (dnsmasq pings
/// it for three seconds) has nothing to say to the first question in that time.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// What others have for their answers once a main server has given its own.
const AFTER_MAIN: Duration = Duration::from_secs(4);

/// Sends a DISCOVER of a made-up machine for each architecture and gathers the offers.
///
/// # Errors
/// The raw socket cannot be opened.
pub(super) async fn ask(found: &Found, wait: Duration) -> Result<Vec<Server>, Error> {
    let socket = RawSocket::open(found, 68, LISTEN)?;
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let process = std::process::id();
    let broadcast = async || {
        for architecture in ARCHITECTURES {
            let Some(packet) = discover(process, architecture) else {
                continue;
            };
            if let Err(error) = socket.broadcast(&packet, from, to).await {
                tracing::warn!(%error, interface = found.interface.name, "cannot ask the link");
            }
        }
    };
    broadcast().await;
    let mut servers = BTreeMap::new();
    let (mut deadline, mut ask_again) = (Instant::now() + wait, Instant::now() + ASK_EVERY);
    let mut buffer = vec![0; 4096];
    while Instant::now() < deadline {
        let received = timeout_at(deadline.min(ask_again), socket.receive(&mut buffer)).await;
        let Ok(received) = received else {
            // As firmware does: a server may be busy with the first question still.
            broadcast().await;
            ask_again = Instant::now() + ASK_EVERY;
            continue;
        };
        let Ok(length) = received else { break };
        let frame = buffer.get(..length).unwrap_or_default();
        let offer = datagram(frame).and_then(|datagram| {
            let fallback = *datagram.from.ip();
            offer(datagram.payload, process, &found.interface.name, fallback)
        });
        if let Some(server) = offer {
            if !server.is_proxy {
                deadline = deadline.min(Instant::now() + AFTER_MAIN);
            }
            let known = servers
                .entry((server.address, server.is_proxy))
                .or_insert_with(|| server.clone());
            known.file = known.file.take().or(server.file);
            known.is_no_pxedhcp |= server.is_no_pxedhcp;
        }
    }
    Ok(servers.into_values().collect())
}

/// A DISCOVER as PXE firmware sends it, from a locally administered address.
fn discover(process: u32, architecture: u16) -> Option<Vec<u8>> {
    let [_, a, b, c] = process.to_be_bytes();
    let [high, low] = architecture.to_be_bytes();
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootRequest)
        .set_xid(transaction(process, architecture))
        .set_flags(Flags::default().set_broadcast())
        .set_chaddr(&[0x02, low, 0x50, a, b, c]);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Discover));
    let class = format!("PXEClient:Arch:{architecture:05}:UNDI:003001");
    options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
    options.insert(DhcpOption::Unknown(UnknownOption::new(
        OptionCode::ClientSystemArchitecture,
        vec![high, low],
    )));
    let wanted = [1, 3, 43, 54, 60, 66, 67, 175].map(OptionCode::from);
    options.insert(DhcpOption::ParameterRequestList(wanted.to_vec()));
    message.to_vec().ok()
}

fn transaction(process: u32, architecture: u16) -> u32 {
    process.rotate_left(16) ^ u32::from(architecture)
}

/// Reads an offer to one of our questions.
fn offer(payload: &[u8], process: u32, interface: &str, fallback: Ipv4Addr) -> Option<Server> {
    let message = borrowed::Message::new(payload).ok()?;
    let is_ours = ARCHITECTURES
        .iter()
        .any(|code| message.xid() == transaction(process, *code));
    if message.opcode() != Opcode::BootReply || !is_ours {
        return None;
    }
    // dhcproto's decoder of options asserts lengths that a stranger chooses; these are read by length.
    let area = payload.get(OPTIONS_AT..)?;
    let named = find(area, code::SERVER_ID, 4).and_then(<[u8]>::first_chunk::<4>);
    let address = named.map_or(fallback, |octets| Ipv4Addr::from(*octets));
    let file = find(area, code::BOOT_FILE, 1).unwrap_or_else(|| message.fname());
    let file = Some(
        String::from_utf8_lossy(file)
            .trim_end_matches('\0')
            .to_owned(),
    );
    let ipxe = find(area, code::IPXE, 1);
    let known = |address: Ipv4Addr| Some(address).filter(|address| !address.is_unspecified());
    Some(Server {
        interface: interface.to_owned(),
        address,
        is_proxy: message.yiaddr().is_unspecified(),
        offered: known(message.yiaddr()),
        next_server: known(message.siaddr()),
        file: file.filter(|file| !file.is_empty()),
        is_no_pxedhcp: ipxe.is_some_and(is_no_pxedhcp),
    })
}

/// Tells whether a TFTP server answers at all; that it has no such file is an answer.
pub(super) async fn is_tftp_answered(address: Ipv4Addr) -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else {
        return true;
    };
    let mut buffer = [0; 600];
    for _ in 0..TFTP_TRIES {
        if socket
            .send_to(b"\0\x01larder-doctor\0octet\0", (address, 69))
            .await
            .is_err()
        {
            return false;
        }
        if let Ok(Ok(_)) = timeout(TFTP_WAIT, socket.recv_from(&mut buffer)).await {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::request::Request;

    #[test]
    fn the_question_is_one_that_boot_servers_answer() {
        let packet = discover(77, 7).unwrap();
        let request = Request::parse(&packet).unwrap();
        assert_eq!(request.architecture().map(|code| code.0), Some(7));
        assert!(request.vendor_class().starts_with(b"PXEClient:Arch:00007"));
        assert_eq!(request.hardware.bytes().first(), Some(&2));
    }

    #[test]
    fn only_answers_to_our_questions_count() {
        let mut packet = discover(77, 0).unwrap();
        assert_eq!(offer(&packet, 77, "e0", Ipv4Addr::LOCALHOST), None);
        packet[0] = 2;
        let server = offer(&packet, 77, "e0", Ipv4Addr::LOCALHOST).unwrap();
        assert!(server.is_proxy);
        assert_eq!(offer(&packet, 78, "e0", Ipv4Addr::LOCALHOST), None);
        assert_eq!(offer(&packet[..100], 77, "e0", Ipv4Addr::LOCALHOST), None);
    }
}
