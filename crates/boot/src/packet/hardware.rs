//! A client's hardware address, as it stands in `chaddr`, in file names and in URLs.

use std::fmt;
use std::str::FromStr;

/// A hardware address of at most 16 bytes; almost always an Ethernet MAC of 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HardwareAddress {
    bytes: [u8; 16],
    length: u8,
}

impl HardwareAddress {
    /// Takes the first 16 bytes of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut own = [0; 16];
        let length = bytes.len().min(own.len());
        for (to, from) in own.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self {
            bytes: own,
            length: length as u8,
        }
    }

    /// The address' bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or(&self.bytes)
    }

    /// Tells whether the vendor prefix is one of the Raspberry Pi's, whose boot ROM reports
    /// architecture 0 and yet is no PC.
    pub fn is_raspberry_pi(&self) -> bool {
        const PREFIXES: [[u8; 3]; 7] = [
            [0xb8, 0x27, 0xeb],
            [0xdc, 0xa6, 0x32],
            [0xe4, 0x5f, 0x01],
            [0x28, 0xcd, 0xc1],
            [0xd8, 0x3a, 0xdd],
            [0x2c, 0xcf, 0x67],
            [0x88, 0xa2, 0x9e],
        ];
        self.length == 6
            && PREFIXES
                .iter()
                .any(|prefix| self.bytes().starts_with(prefix))
    }
}

impl fmt::Display for HardwareAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes().iter().enumerate() {
            if index > 0 {
                out.write_str(":")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The text is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hardware address (six pairs of hex digits, with : or - between them)")]
pub struct NotAHardwareAddress(pub String);

impl FromStr for HardwareAddress {
    type Err = NotAHardwareAddress;

    /// Reads `52:54:00:12:34:56` and `52-54-00-12-34-56`, in either case of letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAHardwareAddress(text.to_owned());
        let pairs: Vec<&str> = text.split([':', '-']).collect();
        if pairs.len() != 6 {
            return Err(wrong());
        }
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|pair| {
                (pair.len() == 2)
                    .then(|| u8::from_str_radix(pair, 16).ok())
                    .flatten()
            })
            .collect();
        bytes.map(|bytes| Self::new(&bytes)).ok_or_else(wrong)
    }
}

impl serde::Serialize for HardwareAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_one_is_written() {
        let address: HardwareAddress = "52-54-00-AB-cd-01".parse().unwrap();
        assert_eq!(address.to_string(), "52:54:00:ab:cd:01");
        assert_eq!("52:54:00:ab:cd:01".parse(), Ok(address));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0g",
            "5:54:00:ab:cd:001",
            "++:54:00:ab:cd:01",
        ] {
            assert!(text.parse::<HardwareAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_raspberry_pi_is_known_by_its_prefix() {
        assert!(HardwareAddress::new(&[0xdc, 0xa6, 0x32, 1, 2, 3]).is_raspberry_pi());
        assert!(!HardwareAddress::new(&[0x52, 0x54, 0, 1, 2, 3]).is_raspberry_pi());
    }
}
