//! Walks the options of a DHCP packet as they lie in its bytes.
//!
//! Boot ROMs repeat options, leave the end mark out and put options into the `sname` and `file` fields;
//! what counts as "the" option then decides which file a machine gets. dhcproto keeps the last of a
//! repeated option and one code of option 93, so the options that answers depend on are read here: the
//! first occurrence that is long enough, in the option area, then in `file`, then in `sname` (RFC 2131
//! §4.1, option 52). A malformed length ends its area, as in dnsmasq; nothing here can panic.

/// Option codes that larder reads or writes (RFC 2132, 3004, 3046, 4578; 175 is iPXE's own).
pub mod code {
    /// Padding, one byte without length.
    pub const PAD: u8 = 0;
    /// Host name.
    pub const HOST_NAME: u8 = 12;
    /// Vendor-specific information; PXE's discovery control and menu.
    pub const VENDOR_SPECIFIC: u8 = 43;
    /// Requested IP address.
    pub const REQUESTED_ADDRESS: u8 = 50;
    /// Option overload: which of `file` and `sname` hold options.
    pub const OVERLOAD: u8 = 52;
    /// DHCP message type.
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier.
    pub const SERVER_ID: u8 = 54;
    /// Largest message the client takes, IP and UDP headers included.
    pub const MAX_MESSAGE: u8 = 57;
    /// Vendor class, `PXEClient:Arch:…` or `HTTPClient:Arch:…`.
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier.
    pub const CLIENT_ID: u8 = 61;
    /// TFTP server name.
    pub const TFTP_SERVER: u8 = 66;
    /// Boot file name, where the `file` field is too small or in use.
    pub const BOOT_FILE: u8 = 67;
    /// User class; iPXE sends `iPXE`.
    pub const USER_CLASS: u8 = 77;
    /// The client's name with its domain (RFC 4702).
    pub const FQDN: u8 = 81;
    /// Relay agent information.
    pub const RELAY_AGENT: u8 = 82;
    /// Client architecture, a list of 16-bit codes.
    pub const ARCHITECTURE: u8 = 93;
    /// Machine identifier, a zero byte and 16 bytes of UUID.
    pub const MACHINE_ID: u8 = 97;
    /// Subnet selection (RFC 3011).
    pub const SUBNET: u8 = 118;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    /// End of the options.
    pub const END: u8 = 255;
}

/// The options of one area, in order; ends at the end mark, at the area's end or at a malformed option.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    rest: &'a [u8],
}

/// Starts walking `area`, for example the value of option 43 or 175.
pub fn walk(area: &[u8]) -> Walk<'_> {
    Walk { rest: area }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&code, rest) = self.rest.split_first()?;
            match code {
                code::PAD => self.rest = rest,
                code::END => {
                    self.rest = &[];
                    return None;
                }
                _ => {
                    let option = rest
                        .split_first()
                        .and_then(|(&length, rest)| rest.split_at_checked(usize::from(length)));
                    let Some((value, rest)) = option else {
                        self.rest = &[];
                        return None;
                    };
                    self.rest = rest;
                    return Some((code, value));
                }
            }
        }
    }
}

/// Finds the first option `code` of `area` that has at least `length_min` bytes.
pub fn find(area: &[u8], code: u8, length_min: usize) -> Option<&[u8]> {
    walk(area)
        .find(|(found, value)| *found == code && value.len() >= length_min)
        .map(|(_, value)| value)
}

/// All option areas of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    main: &'a [u8],
    file: &'a [u8],
    sname: &'a [u8],
}

impl<'a> Options<'a> {
    /// Takes the option area behind the magic cookie and the two fields that may hold more.
    pub fn new(main: &'a [u8], file: &'a [u8], sname: &'a [u8]) -> Self {
        Self { main, file, sname }
    }

    /// Finds the first option `code` with at least `length_min` bytes, overloaded fields included.
    pub fn find(&self, code: u8, length_min: usize) -> Option<&'a [u8]> {
        find(self.main, code, length_min).or_else(|| {
            let overload = *find(self.main, code::OVERLOAD, 1)?.first()?;
            let in_file = (overload & 1 != 0)
                .then(|| find(self.file, code, length_min))
                .flatten();
            in_file.or_else(|| {
                (overload & 2 != 0)
                    .then(|| find(self.sname, code, length_min))
                    .flatten()
            })
        })
    }

    /// Tells whether the option area has an end mark, which dnsmasq asks of a relayed packet before it
    /// copies option 82 back.
    pub fn has_end(&self) -> bool {
        let mut walk = walk(self.main);
        let mut before = walk.rest;
        while walk.next().is_some() {
            before = walk.rest;
        }
        before.iter().find(|byte| **byte != code::PAD) == Some(&code::END)
    }
}

/// Reads a big-endian 16-bit number at the start of `value`.
pub fn u16_at_start(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_long_enough_occurrence_wins() {
        let area = [60, 1, b'x', 60, 3, b'P', b'X', b'E', 255, 60, 1, b'y'];
        assert_eq!(find(&area, 60, 1), Some(&b"x"[..]));
        assert_eq!(find(&area, 60, 2), Some(&b"PXE"[..]));
        assert_eq!(find(&area, 61, 0), None);
    }

    #[test]
    fn a_length_beyond_the_area_ends_the_walk() {
        assert_eq!(walk(&[53, 1, 1, 60, 200, 1, 2]).count(), 1);
        assert_eq!(walk(&[53]).count(), 0);
        assert_eq!(walk(&[0, 0, 0]).count(), 0);
    }

    #[test]
    fn overloaded_fields_are_read_in_the_order_file_then_sname() {
        let file = [93, 2, 0, 7, 255];
        let sname = [93, 2, 0, 9, 255];
        let both = Options::new(&[52, 1, 3, 255], &file, &sname);
        assert_eq!(both.find(93, 2), Some(&[0, 7][..]));
        let only_sname = Options::new(&[52, 1, 2, 255], &file, &sname);
        assert_eq!(only_sname.find(93, 2), Some(&[0, 9][..]));
        let none = Options::new(&[255], &file, &sname);
        assert_eq!(none.find(93, 2), None);
    }

    #[test]
    fn an_end_mark_counts_only_where_the_walk_reaches_it() {
        assert!(Options::new(&[53, 1, 1, 0, 0, 255], &[], &[]).has_end());
        assert!(!Options::new(&[53, 1, 1], &[], &[]).has_end());
        assert!(!Options::new(&[53, 9, 255], &[], &[]).has_end());
    }
}
