//! A client's packet, parsed.
//!
//! dhcproto reads the fixed header and refuses what is too short; the options are read from the bytes
//! (see [`super::options`]), since its own decoder of options asserts lengths that a stranger chooses. Nothing is judged here: who gets an answer is decided in [`crate::decide`].

use std::net::Ipv4Addr;

use dhcproto::v4::borrowed::Message;

use super::architecture::Architecture;
use super::hardware::HardwareAddress;
use super::ipxe::{Features, is_ipxe_user_class};
use super::options::{Options, code, find, u16_at_start};
use super::vendor::sub;

/// Magic cookie between the header and the options (RFC 2131 §3).
pub const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Where the options begin.
pub const OPTIONS_AT: usize = 240;

/// Longest hardware address that `chaddr` holds.
const HARDWARE_ADDRESS_MAX: usize = 16;

/// DHCP message types that matter here (RFC 2132 §9.6).
pub mod kind {
    /// A client looks for servers.
    pub const DISCOVER: u8 = 1;
    /// A server's first answer.
    pub const OFFER: u8 = 2;
    /// A client asks one server.
    pub const REQUEST: u8 = 3;
    /// A server's final answer.
    pub const ACK: u8 = 5;
    /// A configured client asks for more.
    pub const INFORM: u8 = 8;
}

/// Why a datagram is no client's DHCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotARequest {
    /// It ends before the options begin.
    #[error("shorter than a DHCP packet")]
    Short,
    /// It is a server's packet.
    #[error("a reply, not a request")]
    Reply,
    /// Its hardware address is longer than the field that holds it, or typeless.
    #[error("malformed hardware address")]
    HardwareAddress,
    /// It lacks the magic cookie or a message type: BOOTP.
    #[error("BOOTP, not DHCP")]
    Bootp,
}

/// The boot item that a client chose from a menu (option 43, sub-option 71).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChosenItem {
    /// The item's type.
    pub kind: u16,
    /// The layer: bit 15 asks for credentials, which nobody here has.
    pub layer: u16,
}

/// A DHCP request with the fields that answers depend on.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    bytes: &'a [u8],
    /// All options.
    pub options: Options<'a>,
    /// DHCP message type.
    pub kind: u8,
    /// Transaction.
    pub transaction: u32,
    /// Flags as sent; bit 15 asks for a broadcast answer.
    pub flags: u16,
    /// The client's own address, unspecified before it has one.
    pub client_address: Ipv4Addr,
    /// The relay's address, unspecified on the same link.
    pub relay: Ipv4Addr,
    /// Hardware type, 1 for Ethernet.
    pub hardware_kind: u8,
    /// Hardware address.
    pub hardware: HardwareAddress,
}

impl<'a> Request<'a> {
    /// Parses a datagram.
    ///
    /// # Errors
    /// [`NotARequest`] names what it is instead.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotARequest> {
        let header = Message::new(bytes).map_err(|_short| NotARequest::Short)?;
        let area = bytes.get(OPTIONS_AT..).ok_or(NotARequest::Short)?;
        if header.opcode() != dhcproto::v4::Opcode::BootRequest {
            return Err(NotARequest::Reply);
        }
        let (hardware_kind, length) = match bytes {
            [_, kind, length, ..] => (*kind, usize::from(*length)),
            _ => return Err(NotARequest::Short),
        };
        if length > HARDWARE_ADDRESS_MAX || (hardware_kind == 0 && length != 0) {
            return Err(NotARequest::HardwareAddress);
        }
        let options = Options::new(
            area,
            bytes.get(108..236).unwrap_or_default(),
            bytes.get(44..108).unwrap_or_default(),
        );
        let kind = options.find(code::MESSAGE_TYPE, 1).and_then(<[u8]>::first);
        let (Some(kind), Some(true)) = (kind, bytes.get(236..OPTIONS_AT).map(|c| c == COOKIE))
        else {
            return Err(NotARequest::Bootp);
        };
        Ok(Self {
            bytes,
            options,
            kind: *kind,
            transaction: header.xid(),
            flags: header.flags().into(),
            client_address: header.ciaddr(),
            relay: header.giaddr(),
            hardware_kind,
            hardware: HardwareAddress::new(header.chaddr()),
        })
    }

    /// The first 44 bytes, which replies begin with: operation to hardware address.
    pub fn head(&self) -> [u8; 44] {
        self.bytes.first_chunk().copied().unwrap_or([0; 44])
    }

    /// The vendor class (option 60), empty without one.
    pub fn vendor_class(&self) -> &'a [u8] {
        self.options.find(code::VENDOR_CLASS, 0).unwrap_or_default()
    }

    /// Architectures that option 93 lists, in order. An option that is no list of 16-bit codes names none.
    pub fn architectures(&self) -> impl Iterator<Item = Architecture> + use<'a> {
        let list = self.options.find(code::ARCHITECTURE, 2).unwrap_or_default();
        let list = if list.len().is_multiple_of(2) {
            list
        } else {
            &[]
        };
        list.chunks_exact(2)
            .filter_map(|pair| u16_at_start(pair).map(Architecture))
    }

    /// The architecture that larder serves: the first listed one with a boot program, else the first.
    pub fn architecture(&self) -> Option<Architecture> {
        self.architectures()
            .find(|listed| listed.platform().is_some())
            .or_else(|| self.architectures().next())
    }

    /// The machine's UUID option, if it has the length that PXE demands (17 with its type byte).
    pub fn machine_id(&self) -> Option<[u8; 17]> {
        self.options
            .find(code::MACHINE_ID, 17)?
            .first_chunk()
            .copied()
    }

    /// The menu item that the client chose, if this is a boot server request.
    pub fn chosen_item(&self) -> Option<ChosenItem> {
        let value = find(self.options.find(code::VENDOR_SPECIFIC, 1)?, sub::ITEM, 4)?;
        let kind = u16_at_start(value)?;
        let layer = u16_at_start(value.get(2..)?)?;
        Some(ChosenItem { kind, layer })
    }

    /// Tells whether an iPXE asks.
    pub fn is_ipxe(&self) -> bool {
        self.options
            .find(code::USER_CLASS, 1)
            .is_some_and(is_ipxe_user_class)
    }

    /// What the asking iPXE says that it can do; none without option 175.
    pub fn features(&self) -> Option<Features> {
        self.options.find(code::IPXE, 1).map(Features::read)
    }

    /// Option 82 as it came, to be copied back verbatim (RFC 3046 §2.2).
    pub fn relay_agent(&self) -> Option<&'a [u8]> {
        self.options.find(code::RELAY_AGENT, 1)
    }

    /// An address in a sub-option of option 82.
    pub fn relay_sub_address(&self, sub_option: u8) -> Option<Ipv4Addr> {
        find(self.relay_agent()?, sub_option, 4)?
            .first_chunk()
            .map(|octets: &[u8; 4]| (*octets).into())
    }

    /// An address that an option holds.
    pub fn address_option(&self, code: u8) -> Option<Ipv4Addr> {
        self.options
            .find(code, 4)?
            .first_chunk()
            .map(|octets: &[u8; 4]| (*octets).into())
    }

    /// Largest reply in bytes, UDP payload: what option 57 allows, at least the 548 of RFC 2131 §2.
    pub fn reply_limit(&self) -> usize {
        const SMALLEST: usize = 548;
        const LARGEST: usize = 16384;
        let asked = self
            .options
            .find(code::MAX_MESSAGE, 2)
            .and_then(u16_at_start);
        asked.map_or(SMALLEST, |size| match usize::from(size).checked_sub(28) {
            Some(payload) => payload.clamp(SMALLEST, LARGEST),
            None => LARGEST,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; OPTIONS_AT];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 1, 2, 3]);
        bytes[236..].copy_from_slice(&COOKIE);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn a_discover_is_parsed() {
        let bytes = packet(&[53, 1, 1, 93, 2, 0, 7, 77, 4, b'i', b'P', b'X', b'E', 255]);
        let request = Request::parse(&bytes).unwrap();
        assert_eq!(request.kind, kind::DISCOVER);
        assert_eq!(request.hardware.to_string(), "52:54:00:01:02:03");
        assert_eq!(request.architecture(), Some(Architecture(7)));
        assert!(request.is_ipxe());
        assert_eq!(request.machine_id(), None);
    }

    #[test]
    fn of_several_architectures_the_first_served_one_counts() {
        let bytes = packet(&[53, 1, 1, 93, 4, 0, 1, 0, 11, 255]);
        assert_eq!(
            Request::parse(&bytes).unwrap().architecture(),
            Some(Architecture(11))
        );
        let odd = packet(&[53, 1, 1, 93, 3, 0, 7, 0, 255]);
        assert_eq!(Request::parse(&odd).unwrap().architecture(), None);
    }

    #[test]
    fn what_is_no_request_is_named() {
        let good = packet(&[53, 1, 1, 255]);
        assert_eq!(Request::parse(&good[..239]).err(), Some(NotARequest::Short));
        assert_eq!(Request::parse(&[]).err(), Some(NotARequest::Short));
        let mut reply = good.clone();
        reply[0] = 2;
        assert_eq!(Request::parse(&reply).err(), Some(NotARequest::Reply));
        let mut long = good.clone();
        long[2] = 17;
        assert_eq!(
            Request::parse(&long).err(),
            Some(NotARequest::HardwareAddress)
        );
        let mut cookieless = good;
        cookieless[236] = 0;
        assert_eq!(Request::parse(&cookieless).err(), Some(NotARequest::Bootp));
        assert_eq!(
            Request::parse(&packet(&[255])).err(),
            Some(NotARequest::Bootp)
        );
    }

    #[test]
    fn the_reply_limit_follows_option_57_within_bounds() {
        let limit = |options: &[u8]| Request::parse(&packet(options)).unwrap().reply_limit();
        assert_eq!(limit(&[53, 1, 1, 255]), 548);
        assert_eq!(limit(&[53, 1, 1, 57, 2, 5, 0xc0, 255]), 1444);
        assert_eq!(limit(&[53, 1, 1, 57, 2, 1, 0, 255]), 548);
    }
}
