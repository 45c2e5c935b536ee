//! Hardware addresses in every form that Go's `net.ParseMAC` takes, because matchbox's labels do.
//!
//! `01:23:45:67:89:ab`, `01-23-45-67-89-ab` and `0123.4567.89ab`, each for 6, 8 and 20 octets and
//! in either case. The text form is always lower case with colons.

use std::fmt;

/// A hardware address of 6, 8 or 20 octets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(Vec<u8>);

impl Mac {
    /// Reads one address; `None` for anything that Go's `net.ParseMAC` refuses.
    pub fn parse(text: &str) -> Option<Self> {
        let octets = match text.as_bytes().get(2) {
            Some(b':') => octets(text, ':', 2),
            Some(b'-') => octets(text, '-', 2),
            _ => octets(text, '.', 4),
        }?;
        matches!(octets.len(), 6 | 8 | 20).then_some(Self(octets))
    }

    /// The address with dashes, as iPXE's `${mac:hexhyp}` writes it.
    pub fn hyphenated(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            let colon = if position == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

/// Splits `text` at `separator` into groups of exactly `digits` hex digits.
fn octets(text: &str, separator: char, digits: usize) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(20);
    for group in text.split(separator) {
        if group.len() != digits || !group.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let value = u16::from_str_radix(group, 16).ok()?;
        if digits == 4 {
            octets.push((value >> 8) as u8);
        }
        octets.push(value as u8);
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_go_parse_mac_prints_with_colons() {
        let same = "52:da:00:89:d8:10";
        for text in [
            same,
            "52-DA-00-89-D8-10",
            "52da.0089.d810",
            "52:DA:00:89:d8:10",
        ] {
            assert_eq!(Mac::parse(text).unwrap().to_string(), same, "{text}");
        }
        let eui64 = "02:00:5e:10:00:00:00:01";
        assert_eq!(
            Mac::parse("0200.5e10.0000.0001").unwrap().to_string(),
            eui64
        );
        let infiniband = "00-00-00-00-fe-80-00-00-00-00-00-00-02-00-5e-10-00-00-00-01";
        assert_eq!(Mac::parse(infiniband).unwrap().hyphenated(), infiniband);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "52",
            "52:da:00:89:d8",
            "52:da:00:89:d8:1",
            "52:da-00:89:d8:10",
            "52:da:00:89:d8:1g",
            "52da0089d810",
            "52da.0089",
            "52:da:00:89:d8:10:",
            "é2:da:00:89:d8:10",
            "+2:da:00:89:d8:10",
        ] {
            assert_eq!(Mac::parse(text), None, "{text}");
        }
    }
}
