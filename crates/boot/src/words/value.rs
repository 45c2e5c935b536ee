//! Values of `dhcp-option` and `dhcp-match`: dnsmasq guesses from a text whether it is an address list, a
//! number, hexadecimal bytes or a string, and some options settle the question.

use std::net::Ipv4Addr;

use super::rules::{HardwarePattern, Pattern};
use super::text::{fields, shown};

/// What an option's value is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Anything,
    Addresses,
    Name,
    Number(usize),
}

/// dnsmasq's names for options, with their codes (`--help dhcp`).
pub(super) const NAMES: &[(&str, u8)] = &[
    ("netmask", 1),
    ("time-offset", 2),
    ("router", 3),
    ("dns-server", 6),
    ("log-server", 7),
    ("lpr-server", 9),
    ("hostname", 12),
    ("boot-file-size", 13),
    ("domain-name", 15),
    ("swap-server", 16),
    ("root-path", 17),
    ("extension-path", 18),
    ("ip-forward-enable", 19),
    ("non-local-source-routing", 20),
    ("policy-filter", 21),
    ("max-datagram-reassembly", 22),
    ("default-ttl", 23),
    ("mtu", 26),
    ("all-subnets-local", 27),
    ("broadcast", 28),
    ("router-discovery", 31),
    ("router-solicitation", 32),
    ("static-route", 33),
    ("trailer-encapsulation", 34),
    ("arp-timeout", 35),
    ("ethernet-encap", 36),
    ("tcp-ttl", 37),
    ("tcp-keepalive", 38),
    ("nis-domain", 40),
    ("nis-server", 41),
    ("ntp-server", 42),
    ("vendor-encap", 43),
    ("netbios-ns", 44),
    ("netbios-dd", 45),
    ("netbios-nodetype", 46),
    ("netbios-scope", 47),
    ("x-windows-fs", 48),
    ("x-windows-dm", 49),
    ("requested-address", 50),
    ("lease-time", 51),
    ("option-overload", 52),
    ("message-type", 53),
    ("server-identifier", 54),
    ("parameter-request", 55),
    ("message", 56),
    ("max-message-size", 57),
    ("T1", 58),
    ("T2", 59),
    ("vendor-class", 60),
    ("client-id", 61),
    ("nis+-domain", 64),
    ("nis+-server", 65),
    ("tftp-server", 66),
    ("bootfile-name", 67),
    ("mobile-ip-home", 68),
    ("smtp-server", 69),
    ("pop3-server", 70),
    ("nntp-server", 71),
    ("irc-server", 74),
    ("user-class", 77),
    ("rapid-commit", 80),
    ("FQDN", 81),
    ("agent-id", 82),
    ("client-arch", 93),
    ("client-interface-id", 94),
    ("client-machine-id", 97),
    ("posix-timezone", 100),
    ("tzdb-timezone", 101),
    ("ipv6-only", 108),
    ("subnet-select", 118),
    ("domain-search", 119),
    ("sip-server", 120),
    ("classless-static-route", 121),
    ("vendor-id-encap", 125),
    ("tftp-server-address", 150),
    ("server-ip-address", 255),
];

/// dnsmasq's names for options of DHCPv6 (`--help dhcp6`).
const NAMES_V6: &[&str] = &[
    "sip-server-domain",
    "sip-server",
    "dns-server",
    "domain-search",
    "nis-server",
    "nis+-server",
    "nis-domain",
    "nis+-domain",
    "sntp-server",
    "information-refresh-time",
    "posix-timezone",
    "tzdb-timezone",
    "ntp-server",
    "bootfile-url",
    "bootfile-param",
];

/// The code of an option written as a number, which may be none that a packet holds, or as `option:NAME`.
pub fn code(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return decimal(text);
    }
    let name = text.strip_prefix("option:")?;
    NAMES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, code)| i32::from(*code))
}

/// Tells whether a field is about an option of DHCPv6.
///
/// # Errors
/// There is no such option.
pub fn is_v6(field: &str) -> Result<bool, String> {
    let Some(name) = field.strip_prefix("option6:") else {
        return Ok(false);
    };
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let mut names = NAMES_V6.iter();
    if is_number || names.any(|known| known.eq_ignore_ascii_case(name)) {
        Ok(true)
    } else {
        Err(format!(
            "{:?} is no option that dnsmasq knows",
            shown(field)
        ))
    }
}

fn form(code: u8) -> Form {
    match code {
        1
        | 3
        | 6
        | 7
        | 9
        | 16
        | 21
        | 28
        | 32
        | 33
        | 41
        | 42
        | 44
        | 45
        | 48..=50
        | 54
        | 65
        | 68..=71
        | 74
        | 150
        | 255 => Form::Addresses,
        15 | 17 | 18 | 40 | 64 | 66 | 67 | 100 | 101 => Form::Name,
        19 | 20 | 23 | 27 | 31 | 34 | 36 | 37 | 46 => Form::Number(1),
        13 | 22 | 26 | 93 => Form::Number(2),
        2 | 35 | 38 | 58 | 59 | 108 => Form::Number(4),
        _ => Form::Anything,
    }
}

/// A number as dnsmasq reads those that are no options: digits alone, of which none are zero, in a C `int`.
pub(super) fn decimal(text: &str) -> Option<i32> {
    let text = shown(text);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let saturated = match text.as_str() {
        "" => 0,
        digits => digits.parse::<i64>().unwrap_or(i64::MAX),
    };
    is_number.then_some(saturated as i32)
}

/// A value, read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Hex(Vec<Option<u8>>),
    Number(Vec<u8>),
    Addresses(Vec<u8>),
    Text(Vec<u8>),
}

/// Reads a hardware address: bytes as [`hexadecimal`] reads them, behind a hexadecimal kind and a dash if
/// need be. Kind 0 is any.
pub fn hardware(text: &str) -> Option<HardwarePattern> {
    let (kind, bytes) = match text.split_once('-') {
        Some((kind, bytes)) => (u8::from_str_radix(kind, 16).ok()?, bytes),
        None => (0, text),
    };
    let bytes = hexadecimal(bytes)?;
    let kind = Some(kind).filter(|kind| *kind != 0);
    Some(HardwarePattern { kind, bytes })
}

/// Reads hexadecimal bytes between colons; `*` is a wildcard.
pub fn hexadecimal(text: &str) -> Option<Vec<Option<u8>>> {
    text.split(':')
        .map(|pair| match pair {
            "*" => Some(None),
            pair if pair.len() <= 2 => u8::from_str_radix(pair, 16).ok().map(Some),
            _ => None,
        })
        .collect()
}

fn read(code: Option<u8>, text: &str) -> Result<Value, String> {
    let form = code.map_or(Form::Anything, form);
    let is_one_field = !text.contains(',');
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let may_guess = matches!(form, Form::Anything | Form::Number(_));
    let may_guess = may_guess && is_one_field;
    let is_hexadecimal = may_guess && text.contains(':') && !text.contains('-');
    if let Some(bytes) = hexadecimal(text).filter(|_| is_hexadecimal) {
        return Ok(Value::Hex(bytes));
    }
    if let Some(number) = number(form, text).filter(|_| may_guess) {
        return Ok(Value::Number(number));
    }
    let looks_like_addresses = has_digit
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b".,/ ".contains(&byte));
    match form {
        Form::Addresses => addresses(text).map(Value::Addresses),
        Form::Name => Ok(Value::Text(shown(text).into_bytes())),
        _ if looks_like_addresses => addresses(text).map(Value::Addresses),
        _ => Ok(Value::Text(shown(text).into_bytes())),
    }
}

/// A decimal number, as wide as its option, its suffix (`b`, `s`, `i`) or its size says.
fn number(form: Form, text: &str) -> Option<Vec<u8>> {
    let (digits, width) = match text.as_bytes().last()? {
        b'b' => (text.strip_suffix('b')?, Some(1)),
        b's' => (text.strip_suffix('s')?, Some(2)),
        b'i' => (text.strip_suffix('i')?, Some(4)),
        _ => (text, None),
    };
    if digits.is_empty() {
        // A size alone is a number without bytes.
        return width.map(|_| Vec::new());
    }
    let value: i64 = digits.parse().ok()?;
    let value = value as u32;
    let by_size = match value {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 4,
    };
    let width = width.unwrap_or(match form {
        Form::Number(width) => width,
        _ => by_size,
    });
    value.to_be_bytes().get(4 - width..).map(<[u8]>::to_vec)
}

fn addresses(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for field in fields(text) {
        let (address, size) = match field.split_once('/') {
            Some((address, size)) => (address, Some(size)),
            None => (field, None),
        };
        let address: Ipv4Addr = address
            .parse()
            .map_err(|_not| format!("{:?} is no IPv4 address", shown(field)))?;
        // A network is its size and as many bytes as that needs (RFC 3442).
        let size = size.map(|size| decimal(size).unwrap_or_default() as u8);
        let needed = size.map_or(4, |size| usize::from(size.div_ceil(8)));
        bytes.extend(size);
        bytes.extend(address.octets().into_iter().take(needed));
    }
    Ok(bytes)
}

/// Reads the value of an option that is sent; the code settles its form, or nothing does inside option 43.
///
/// # Errors
/// What dnsmasq refuses too, in words.
pub fn sent(code: Option<u8>, text: &str) -> Result<Vec<u8>, String> {
    let bytes = match read(code, text)? {
        // What is sent has no wildcards: a star makes it a text.
        Value::Hex(bytes) => {
            let all: Option<Vec<u8>> = bytes.into_iter().collect();
            all.unwrap_or_else(|| shown(text).into_bytes())
        }
        Value::Number(bytes) | Value::Addresses(bytes) | Value::Text(bytes) => bytes,
    };
    if bytes.len() > 253 {
        Err("the value is longer than 253 bytes".into())
    } else {
        Ok(bytes)
    }
}

/// Reads the value that a `dhcp-match` compares.
///
/// # Errors
/// As [`sent`].
pub fn pattern(code: u8, text: Option<&str>) -> Result<Pattern, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Pattern::Present);
    };
    Ok(match read(Some(code), text)? {
        Value::Hex(bytes) => Pattern::Prefix(bytes),
        Value::Number(bytes) | Value::Addresses(bytes) => Pattern::Element(bytes),
        Value::Text(text) => Pattern::Text(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_settles_how_wide_a_number_is() {
        assert_eq!(pattern(93, Some("7")), Ok(Pattern::Element(vec![0, 7])));
        assert_eq!(pattern(175, Some("19")), Ok(Pattern::Element(vec![19])));
        assert_eq!(pattern(200, Some("300")), Ok(Pattern::Element(vec![1, 44])));
        assert_eq!(
            pattern(200, Some("1i")),
            Ok(Pattern::Element(vec![0, 0, 0, 1]))
        );
    }

    #[test]
    fn hexadecimal_matches_take_wildcards() {
        let bytes = vec![Some(0), None, Some(0xfe)];
        assert_eq!(pattern(97, Some("00:*:fe")), Ok(Pattern::Prefix(bytes)));
        assert_eq!(sent(None, "00:*:fe"), Ok(b"00:*:fe".to_vec()));
    }

    #[test]
    fn what_is_neither_is_text() {
        let text = Pattern::Text(b"PXEClient:Arch:00007".to_vec());
        assert_eq!(pattern(60, Some("PXEClient:Arch:00007")), Ok(text));
        assert_eq!(sent(None, "some text"), Ok(b"some text".to_vec()));
        assert_eq!(sent(Some(67), "0"), Ok(b"0".to_vec()));
    }

    #[test]
    fn address_lists_are_read_and_checked() {
        assert_eq!(
            sent(None, "10.0.0.1, 10.0.0.2"),
            Ok(vec![10, 0, 0, 1, 10, 0, 0, 2])
        );
        assert!(sent(Some(3), "10.0.0").is_err());
        assert!(sent(Some(6), "here").is_err());
    }

    #[test]
    fn names_stand_for_codes() {
        assert_eq!(code("option:client-arch"), Some(93));
        assert_eq!(code("93"), Some(93));
        assert_eq!(code("option:nonsense"), None);
        assert_eq!(code("client-arch"), None);
        assert_eq!(code("256"), Some(256));
        assert!(is_v6("option6:bootfile-url").unwrap() && is_v6("option6:61").unwrap());
        assert!(is_v6("option6:bogus").is_err());
    }
}
