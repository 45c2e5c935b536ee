//! Encodes replies, byte for byte in the form that boot firmware was tested against for twenty years.
//!
//! dhcproto sorts options by code and merges repeated ones; here they stand in the order given (53, 54,
//! 60, 97, 43, the rest, 82 last), the `sname` and `file` fields are filled, and the packet is padded to
//! 300 bytes as BOOTP demands (RFC 951). What does not fit the client's limit goes into unused fields by
//! option overload (RFC 2131 §4.1) or is left out, in the way of dnsmasq.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::options::code;
use super::request::{COOKIE, Request};

/// Smallest packet that old relays and ROMs take.
const PACKET_MIN: usize = 300;

/// Room in the `sname` field, its end mark included.
pub const SNAME_SIZE: usize = 64;

/// Room in the `file` field, its end mark included.
pub const FILE_SIZE: usize = 128;

/// The broadcast flag.
pub const BROADCAST: u16 = 0x8000;

/// Where a reply is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To 255.255.255.255 port 68, out of the interface that the request came in by.
    Broadcast,
    /// To a relay's port 67.
    Relay(Ipv4Addr),
    /// To one socket.
    Socket(SocketAddrV4),
}

/// A reply before it is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// DHCP message type.
    pub kind: u8,
    /// Flags.
    pub flags: u16,
    /// The client's address as it stands in the packet.
    pub client_address: Ipv4Addr,
    /// Never a lease: only what the client itself said, moved here by a boot server's answer.
    pub your_address: Ipv4Addr,
    /// The server to load the file from.
    pub next_server: Ipv4Addr,
    /// Server name field.
    pub server_name: Vec<u8>,
    /// File field: a name for TFTP, or a URL.
    pub file: Vec<u8>,
    /// Options behind the message type, in order.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Where it goes.
    pub to: Destination,
}

impl Reply {
    /// The first value of option `code`.
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options
            .iter()
            .find(|(own, _)| *own == code)
            .map(|(_, value)| value.as_slice())
    }

    /// Encodes the reply to `request`.
    pub fn encode(&self, request: &Request<'_>) -> Vec<u8> {
        let mut areas = Areas {
            options: COOKIE.to_vec(),
            file: Field::new(&self.file, FILE_SIZE),
            sname: Field::new(&self.server_name, SNAME_SIZE),
            overload_at: None,
            limit: request.reply_limit(),
        };
        let relay_agent = request.relay_agent().filter(|_| request.options.has_end());
        if let Some(value) = relay_agent {
            areas.limit = areas.limit.saturating_sub(value.len() + 2);
        }
        areas.put(code::MESSAGE_TYPE, &[self.kind]);
        for (code, value) in &self.options {
            areas.put(*code, value);
        }
        self.assemble(request, areas, relay_agent)
    }

    fn assemble(&self, request: &Request<'_>, areas: Areas, relay_agent: Option<&[u8]>) -> Vec<u8> {
        let head = request.head();
        let mut packet = Vec::with_capacity(PACKET_MIN);
        packet.push(2);
        packet.extend(head.get(1..10).unwrap_or_default());
        packet.extend(self.flags.to_be_bytes());
        for address in [
            self.client_address,
            self.your_address,
            self.next_server,
            request.relay,
        ] {
            packet.extend(address.octets());
        }
        packet.extend(head.get(28..).unwrap_or_default());
        packet.extend(areas.sname.padded());
        packet.extend(areas.file.padded());
        packet.extend(areas.options);
        if let Some((value, length)) =
            relay_agent.and_then(|v| Some((v, u8::try_from(v.len()).ok()?)))
        {
            packet.extend([code::RELAY_AGENT, length]);
            packet.extend(value);
        }
        packet.push(code::END);
        packet.resize(packet.len().max(PACKET_MIN), 0);
        packet
    }
}

/// A `sname` or `file` field: text, or options once it is overloaded.
struct Field {
    bytes: Vec<u8>,
    size: usize,
    has_options: bool,
}

impl Field {
    /// Takes text, cut so that a NUL remains behind it.
    fn new(text: &[u8], size: usize) -> Self {
        Self {
            bytes: text.iter().copied().take(size - 1).collect(),
            size,
            has_options: false,
        }
    }

    /// Gives itself up to options if it holds no text, and tells whether `length` more bytes fit.
    fn overload(&mut self, length: usize) -> bool {
        self.has_options |= self.bytes.is_empty();
        self.has_options && self.bytes.len() + length + 3 < self.size
    }

    /// The field's bytes in the packet.
    fn padded(mut self) -> Vec<u8> {
        if self.has_options {
            self.bytes.push(code::END);
        }
        self.bytes.resize(self.size, 0);
        self.bytes
    }
}

/// The three places where options may stand.
struct Areas {
    options: Vec<u8>,
    file: Field,
    sname: Field,
    /// Where the value of option 52 stands in `options`, once it is needed.
    overload_at: Option<usize>,
    limit: usize,
}

/// Bytes before the option area.
const HEAD: usize = 236;

impl Areas {
    /// Appends an option where there is room; one that fits nowhere is left out.
    fn put(&mut self, code: u8, value: &[u8]) {
        let Ok(length) = u8::try_from(value.len()) else {
            return;
        };
        let area = if HEAD + self.options.len() + value.len() + 3 < self.limit {
            Some(&mut self.options)
        } else {
            self.overloaded(value.len())
        };
        if let Some(area) = area {
            area.extend([code, length]);
            area.extend(value);
        }
    }

    /// Finds room in `file`, then in `sname`, if they hold no text, and marks them in option 52.
    fn overloaded(&mut self, length: usize) -> Option<&mut Vec<u8>> {
        if self.overload_at.is_none() && (self.file.bytes.is_empty() || self.sname.bytes.is_empty())
        {
            self.options.extend([code::OVERLOAD, 1, 0]);
            self.overload_at = Some(self.options.len() - 1);
        }
        let flags = self.options.get_mut(self.overload_at?)?;
        let in_file = self.file.overload(length);
        *flags |= u8::from(self.file.has_options);
        if in_file {
            return Some(&mut self.file.bytes);
        }
        let in_sname = self.sname.overload(length);
        *flags |= u8::from(self.sname.has_options) << 1;
        in_sname.then_some(&mut self.sname.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_bytes(more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
        bytes[8] = 3;
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 1, 2, 3]);
        bytes[236..].copy_from_slice(&COOKIE);
        bytes.extend([53, 1, 1]);
        bytes.extend(more);
        bytes.push(255);
        bytes
    }

    fn reply() -> Reply {
        Reply {
            kind: 2,
            flags: BROADCAST,
            client_address: Ipv4Addr::UNSPECIFIED,
            your_address: Ipv4Addr::UNSPECIFIED,
            next_server: Ipv4Addr::new(10, 77, 0, 2),
            server_name: Vec::new(),
            file: b"undionly.kpxe".to_vec(),
            options: vec![(54, vec![10, 77, 0, 2]), (60, b"PXEClient".to_vec())],
            to: Destination::Broadcast,
        }
    }

    #[test]
    fn header_and_order_are_kept_and_the_packet_padded() {
        let bytes = request_bytes(&[]);
        let packet = reply().encode(&Request::parse(&bytes).unwrap());
        assert_eq!(packet.len(), 300);
        assert_eq!(
            &packet[..12],
            &[2, 1, 6, 0, 0x11, 0x22, 0x33, 0x44, 3, 0, 0x80, 0]
        );
        assert_eq!(&packet[20..24], &[10, 77, 0, 2]);
        assert_eq!(&packet[108..122], b"undionly.kpxe\0");
        let options = b"\x35\x01\x02\x36\x04\x0a\x4d\x00\x02\x3c\x09PXEClient\xff";
        assert_eq!(&packet[240..240 + options.len()], options);
        assert!(packet[240 + options.len()..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn dhcproto_reads_what_is_written() {
        use dhcproto::Decodable;
        let bytes = request_bytes(&[]);
        let packet = reply().encode(&Request::parse(&bytes).unwrap());
        let message = dhcproto::v4::Message::decode(&mut dhcproto::Decoder::new(&packet)).unwrap();
        assert_eq!(message.opcode(), dhcproto::v4::Opcode::BootReply);
        assert_eq!(message.siaddr(), Ipv4Addr::new(10, 77, 0, 2));
        assert!(
            message
                .fname()
                .is_some_and(|name| name.starts_with(b"undionly.kpxe"))
        );
    }

    #[test]
    fn option_82_is_copied_back_verbatim_and_last() {
        let bytes = request_bytes(&[82, 6, 1, 4, b'p', b'o', b'r', b't']);
        let packet = reply().encode(&Request::parse(&bytes).unwrap());
        let tail = b"PXEClient\x52\x06\x01\x04port\xff";
        assert!(packet.windows(tail.len()).any(|window| window == tail));
    }

    #[test]
    fn what_does_not_fit_overloads_unused_fields_or_is_left_out() {
        let bytes = request_bytes(&[]);
        let mut long = reply();
        long.file.clear();
        long.options.push((43, vec![1; 250]));
        long.options.push((43, vec![2; 100]));
        long.options.push((43, vec![3; 200]));
        let packet = long.encode(&Request::parse(&bytes).unwrap());
        assert!(packet.len() <= 548);
        assert!(packet.windows(3).any(|window| window == [52, 1, 3]));
        assert_eq!(&packet[108..112], &[43, 100, 2, 2]);
        assert!(!packet.windows(3).any(|window| window == [43, 200, 3]));
    }
}
