//! TFTP's packets: requests parsed, answers encoded (RFC 1350, 2347, 2348, 2349, 7440).

/// Default block size (RFC 1350).
pub const BLOCK_SIZE_DEFAULT: u16 = 512;

/// Smallest and largest block sizes of RFC 2348.
pub const BLOCK_SIZES: std::ops::RangeInclusive<u16> = 8..=65464;

/// Operation codes.
mod opcode {
    pub(super) const READ: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const DATA: u16 = 3;
    pub(super) const ACK: u16 = 4;
    pub(super) const ERROR: u16 = 5;
    pub(super) const OPTIONS_ACK: u16 = 6;
}

/// Error codes (RFC 1350 §5, RFC 2347).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum ErrorCode {
    /// See the text.
    Other = 0,
    /// File not found.
    NotFound = 1,
    /// Access violation.
    Access = 2,
    /// Illegal operation.
    IllegalOperation = 4,
    /// Unknown transfer.
    UnknownTransfer = 5,
}

/// A read request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// The file's name, as sent.
    pub name: Vec<u8>,
    /// Options that larder knows; others and malformed ones are ignored (RFC 2347).
    pub options: Options,
}

/// Options of a request, or those that are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Block size in bytes (RFC 2348).
    pub block_size: Option<u16>,
    /// The file's size in bytes; in a request any value asks for it (RFC 2349).
    pub transfer_size: Option<u64>,
    /// Retransmission time in seconds (RFC 2349).
    pub timeout_seconds: Option<u8>,
    /// Blocks in flight (RFC 7440).
    pub window_size: Option<u16>,
}

/// A packet from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Wants a file.
    Read(ReadRequest),
    /// Wants to write, which nobody may.
    Write,
    /// Wants a file in netascii or another mode than octet, which nobody gets: what boots is never text
    /// whose line ends may be changed.
    OtherMode,
    /// Has got all blocks up to this one.
    Ack(u16),
    /// Gives up, with its code and text.
    Error(u16, String),
    /// Has no place here.
    Unknown,
}

/// Most options that are read of one request; what follows is ignored.
const OPTIONS_MAX: usize = 16;

/// Parses a datagram. What is malformed is [`Incoming::Unknown`].
pub fn parse(bytes: &[u8]) -> Incoming {
    let Some((code, rest)) = bytes.split_first_chunk::<2>() else {
        return Incoming::Unknown;
    };
    let number = || {
        rest.first_chunk()
            .map(|bytes: &[u8; 2]| u16::from_be_bytes(*bytes))
    };
    match u16::from_be_bytes(*code) {
        opcode::READ => read_request(rest).unwrap_or(Incoming::Unknown),
        opcode::WRITE => Incoming::Write,
        opcode::ACK => number().map_or(Incoming::Unknown, Incoming::Ack),
        opcode::ERROR => number().map_or(Incoming::Unknown, |code| {
            let text = rest.get(2..).unwrap_or_default();
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(..text.len().min(80)).unwrap_or_default());
            Incoming::Error(
                code,
                text.chars()
                    .map(|c| if c.is_control() { '?' } else { c })
                    .collect(),
            )
        }),
        _ => Incoming::Unknown,
    }
}

/// Parses name, mode and options. The mode's end mark may be missing, as some ROMs leave it out.
fn read_request(bytes: &[u8]) -> Option<Incoming> {
    let mut fields = bytes.split(|byte| *byte == 0);
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && name.len() < bytes.len())?;
    if !fields.next()?.eq_ignore_ascii_case(b"octet") {
        return Some(Incoming::OtherMode);
    }
    let mut options = Options::default();
    for _ in 0..OPTIONS_MAX {
        let (Some(option), Some(value)) = (fields.next(), fields.next()) else {
            break;
        };
        options.read(option, value);
    }
    Some(Incoming::Read(ReadRequest {
        name: name.to_vec(),
        options,
    }))
}

impl Options {
    /// Reads one option; its first occurrence counts, and a value out of bounds makes it unasked.
    fn read(&mut self, name: &[u8], value: &[u8]) {
        let number = || std::str::from_utf8(value).ok()?.parse::<u64>().ok();
        let Some(number) = number() else { return };
        match name.to_ascii_lowercase().as_slice() {
            b"blksize" if self.block_size.is_none() => {
                self.block_size = match u16::try_from(number) {
                    Ok(size) if size >= *BLOCK_SIZES.start() => Some(size.min(*BLOCK_SIZES.end())),
                    Ok(_) => None,
                    Err(_) => Some(*BLOCK_SIZES.end()),
                };
            }
            b"tsize" if self.transfer_size.is_none() => self.transfer_size = Some(number),
            b"timeout" if self.timeout_seconds.is_none() => {
                self.timeout_seconds = u8::try_from(number).ok().filter(|seconds| *seconds > 0);
            }
            b"windowsize" if self.window_size.is_none() => {
                self.window_size = u16::try_from(number).ok().filter(|blocks| *blocks > 0);
            }
            _ => {}
        }
    }

    /// Tells whether no option is there, so that none is to be acknowledged.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Encodes the acknowledgement of options, with their names in lower case.
pub fn options_ack(options: &Options) -> Vec<u8> {
    let mut packet = opcode::OPTIONS_ACK.to_be_bytes().to_vec();
    let mut put = |name: &str, value: Option<u64>| {
        if let Some(value) = value {
            packet.extend(format!("{name}\0{value}\0").bytes());
        }
    };
    put("tsize", options.transfer_size);
    put("blksize", options.block_size.map(u64::from));
    put("timeout", options.timeout_seconds.map(u64::from));
    put("windowsize", options.window_size.map(u64::from));
    packet
}

/// Encodes a data packet's head; the block follows it.
pub fn data_head(block: u16) -> [u8; 4] {
    let [code_high, code_low] = opcode::DATA.to_be_bytes();
    let [high, low] = block.to_be_bytes();
    [code_high, code_low, high, low]
}

/// Encodes an error. The text never names paths of this host.
pub fn error(code: ErrorCode, text: &str) -> Vec<u8> {
    let mut packet = opcode::ERROR.to_be_bytes().to_vec();
    packet.extend((code as u16).to_be_bytes());
    packet.extend(text.bytes());
    packet.push(0);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> ReadRequest {
        match parse(bytes) {
            Incoming::Read(request) => request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ovmf_asks_for_size_block_and_window() {
        let request =
            read(b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0");
        assert_eq!(request.name, b"snponly.efi");
        let options = Options {
            block_size: Some(1468),
            transfer_size: Some(0),
            timeout_seconds: None,
            window_size: Some(4),
        };
        assert_eq!(request.options, options);
    }

    #[test]
    fn option_names_are_blind_to_case_and_values_are_checked() {
        let value = |text: &str| {
            read(format!("\0\u{1}x\0OCTET\0BLKSIZE\0{text}\0").as_bytes())
                .options
                .block_size
        };
        assert_eq!(value("1024"), Some(1024));
        assert_eq!(value("7"), None);
        assert_eq!(value("0"), None);
        assert_eq!(value("65535"), Some(65464));
        assert_eq!(value("99999999"), Some(65464));
        assert_eq!(value("abc"), None);
        assert_eq!(value("-5"), None);
        assert!(
            read(b"\0\x01x\0octet\0foo\x001\0timeout\x000\0windowsize\x000\0")
                .options
                .is_empty()
        );
    }

    #[test]
    fn a_missing_last_end_mark_is_forgiven_and_worse_is_not() {
        assert_eq!(read(b"\0\x01x\0octet").name, b"x");
        for wrong in [&b"\0\x01x"[..], b"\0\x01\0octet\0", b"\0", b"", b"\0\x09"] {
            assert_eq!(parse(wrong), Incoming::Unknown, "{wrong:?}");
        }
        for mode in ["netascii", "NetASCII", "mail", ""] {
            let request = format!("\0\u{1}x\0{mode}\0");
            assert_eq!(parse(request.as_bytes()), Incoming::OtherMode, "{mode}");
        }
        assert_eq!(parse(b"\0\x02x\0octet\0"), Incoming::Write);
        assert_eq!(parse(b"\0\x04\0"), Incoming::Unknown);
    }

    #[test]
    fn a_flood_of_options_is_cut() {
        let mut bytes = b"\0\x01x\0octet\0".to_vec();
        for _ in 0..5000 {
            bytes.extend(b"x\x001\0");
        }
        bytes.extend(b"blksize\x001024\0");
        assert!(read(&bytes).options.is_empty());
    }

    #[test]
    fn sizes_beyond_four_gigabytes_are_written_whole() {
        let options = Options {
            transfer_size: Some(5_000_000_000),
            ..Options::default()
        };
        assert_eq!(options_ack(&options), b"\0\x06tsize\x005000000000\0");
    }
}
