//! Addresses as Squid reads them in `src` and `dst`: with netmasks, with parts left out, and ranges
//! with a prefix.

use std::net::Ipv4Addr;

use larder_policy::access::{AddressSet, InvalidAddress};

/// One value: an address, a network or a range, each end with parts left out or not, the whole with
/// a prefix or a netmask or without.
pub(crate) fn set(text: &str) -> Result<AddressSet, InvalidAddress> {
    let (ends, mask) = match text.split_once('/') {
        Some((ends, mask)) => (ends, Some(prefix_of(mask))),
        None => (text, None),
    };
    let Some((first, last)) = ends.split_once('-') else {
        let address = whole(ends);
        let written = mask.map_or(address.clone(), |mask| format!("{address}/{mask}"));
        return AddressSet::parse([written.as_str()]);
    };
    let (first, last) = (whole(first), whole(last));
    let bounds = |first: Ipv4Addr, last: Ipv4Addr, prefix: u32| {
        let host_bits = u32::MAX.checked_shr(prefix).unwrap_or(0);
        let low = Ipv4Addr::from_bits(first.to_bits() & !host_bits);
        let high = Ipv4Addr::from_bits(last.to_bits() | host_bits);
        format!("{low}-{high}")
    };
    // Squid masks both ends, and the client's address before it is compared with them.
    let masked = || {
        let prefix: u32 = mask
            .as_deref()?
            .parse()
            .ok()
            .filter(|prefix| *prefix <= 32)?;
        Some(bounds(first.parse().ok()?, last.parse().ok()?, prefix))
    };
    let written = match &mask {
        None => format!("{first}-{last}"),
        Some(whole) if whole == "128" && first.contains(':') => format!("{first}-{last}"),
        Some(_) => masked().ok_or_else(|| InvalidAddress::Malformed(text.to_owned()))?,
    };
    AddressSet::parse([written.as_str()])
}

/// `255.0.0.0` as `8` (of a mask with holes Squid counts the ones before the first); anything else
/// as it is.
fn prefix_of(mask: &str) -> String {
    match mask.parse::<Ipv4Addr>() {
        Ok(mask) => mask.to_bits().leading_ones().to_string(),
        Err(_) => mask.to_owned(),
    }
}

/// `10.1` as `10.0.0.1`: the last part stands for all that are left out (inet_aton).
fn whole(text: &str) -> String {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let Some((last, first)) = parts.as_deref().and_then(<[u32]>::split_last) else {
        return text.to_owned();
    };
    let room = 32_u32.saturating_sub(8 * u32::try_from(first.len()).unwrap_or(4));
    let fits = first.iter().all(|part| *part < 256)
        && u64::from(*last) < 1_u64.checked_shl(room).unwrap_or(0);
    if !(1..3).contains(&first.len()) || !fits {
        return text.to_owned();
    }
    let head = (0..)
        .zip(first)
        .map(|(place, part)| part << (24 - 8 * place));
    Ipv4Addr::from_bits(head.sum::<u32>() | last).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_squid_reads_them() {
        for (text, inside, outside) in [
            ("10.0.0.0/255.0.0.0", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/255.0.255.0", "10.255.0.1", "11.0.0.0"),
            ("10.1", "10.0.0.1", "10.1.0.0"),
            ("10.1/16", "10.0.7.7", "10.1.0.0"),
            ("172.16.1", "172.16.0.1", "172.16.1.0"),
            ("1.2.3.4-1.2.3.9", "1.2.3.9", "1.2.3.10"),
            ("1.2.3.4-1.2.3.9/32", "1.2.3.9", "1.2.3.10"),
            ("1.2.3.4-1.2.5.0/24", "1.2.5.255", "1.2.6.0"),
            ("1.2.3.4-1.2.5.0/255.255.255.0", "1.2.3.0", "1.2.2.255"),
            ("2001:db8::1-2001:db8::9", "2001:db8::9", "2001:db8::a"),
            ("fc00::/7", "fd00::1", "fe80::1"),
        ] {
            let set = set(text).unwrap();
            assert!(set.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!set.contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "10.0.0.0/33",
            "1.2.3.4.5",
            "10.0.0.256",
            "a-b",
            "10.0.0.9-10.0.0.1",
            "1.2.3.4-1.2.3.9/33",
            "",
        ] {
            assert!(set(text).is_err(), "{text}");
        }
    }
}
