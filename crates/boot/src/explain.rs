//! What a machine would be answered, without a packet on the wire.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::SystemTime;

use serde::Serialize;

use crate::decide::{Arrival, Decision, Interface, Past, Port, Rules, decide};
use crate::packet::architecture::Architecture;
use crate::packet::hardware::HardwareAddress;
use crate::packet::options::code;
use crate::packet::request::{COOKIE, Request, kind};

/// A machine to ask for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Its hardware address.
    pub mac: HardwareAddress,
    /// Its architecture.
    pub architecture: Architecture,
    /// Whether iPXE asks, not its firmware.
    pub is_ipxe: bool,
}

/// What one port answers.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// The port.
    pub port: u16,
    /// Who asks, in words.
    pub client: String,
    /// What it is answered, or why not.
    pub answer: String,
    /// The file or URL, if one is named.
    pub file: Option<String>,
    /// The server of that file.
    pub server: Option<Ipv4Addr>,
}

/// Asks both ports.
pub fn explain(asked: Asked, rules: &Rules, interface: &Interface) -> Vec<Explained> {
    [Port::Dhcp, Port::BootServer]
        .map(|port| explain_port(asked, rules, interface, port))
        .to_vec()
}

fn explain_port(asked: Asked, rules: &Rules, interface: &Interface, port: Port) -> Explained {
    let packet = packet(asked, port);
    let arrival = Arrival {
        port,
        interface: interface.clone(),
        from: SocketAddrV4::new(interface.address, 68),
    };
    let client = if asked.is_ipxe {
        format!("iPXE on {}", asked.architecture)
    } else {
        asked.architecture.to_string()
    };
    let mut explained = Explained {
        port: port.number(),
        client,
        answer: String::new(),
        file: None,
        server: None,
    };
    let decided = Request::parse(&packet).map(|request| {
        decide(
            &request,
            &arrival,
            rules,
            &Past::default(),
            SystemTime::UNIX_EPOCH,
        )
    });
    match decided {
        Err(reason) => explained.answer = reason.to_string(),
        Ok(Decision::Silence(reason)) => explained.answer = format!("silence: {reason}"),
        Ok(Decision::Reply(reply)) => {
            explained.answer = crate::decide::AnswerKind::of(&reply).as_str().into();
            let file = reply.option(code::BOOT_FILE).unwrap_or(&reply.file);
            explained.file =
                Some(String::from_utf8_lossy(file).into_owned()).filter(|file| !file.is_empty());
            explained.server = Some(reply.next_server).filter(|server| !server.is_unspecified());
        }
    }
    explained
}

/// The packet that such a machine sends.
pub(crate) fn packet(asked: Asked, port: Port) -> Vec<u8> {
    use crate::packet::architecture::Transport;
    let is_http = asked
        .architecture
        .platform()
        .is_some_and(|(_, way)| way == Transport::Http);
    let class = if is_http { "HTTPClient" } else { "PXEClient" };
    let class = format!("{class}:Arch:{:05}:UNDI:003001", asked.architecture.0);
    let kind = if port == Port::Dhcp {
        kind::DISCOVER
    } else {
        kind::REQUEST
    };
    let mut packet = vec![1, 1, 6, 0];
    packet.resize(28, 0);
    packet.extend(asked.mac.bytes());
    packet.resize(236, 0);
    packet.extend(COOKIE);
    let mut put = |code: u8, value: &[u8]| {
        packet.extend([code, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
        packet.extend(value);
    };
    put(code::MESSAGE_TYPE, &[kind]);
    put(code::VENDOR_CLASS, class.as_bytes());
    put(code::ARCHITECTURE, &asked.architecture.0.to_be_bytes());
    if asked.is_ipxe {
        put(code::USER_CLASS, b"iPXE");
        put(code::IPXE, &[0x13, 1, 1, 0x18, 1, 1]);
    }
    packet.push(code::END);
    packet
}
