//! Sets of addresses, hosts and ports, made for fast membership tests: lists of mirrors with
//! hundreds of lines are usual.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// A text that names no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Neither an address nor a network nor a range.
    #[error("`{0}` is no address, network or range of addresses")]
    Malformed(String),
    /// A range whose end lies before its start, or in the other family.
    #[error("the range `{0}` ends before it begins")]
    Backwards(String),
}

/// A set of addresses. IPv4 addresses and their v4-mapped forms are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    v4: Ranges,
    v6: Ranges,
}

impl AddressSet {
    /// Reads addresses (`10.0.0.1`), networks (`10.0.0.0/8`, `fc00::/7`) and ranges
    /// (`10.0.0.1-10.0.0.9`).
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidAddress> {
        let mut set = Self::default();
        for text in texts {
            let (first, last) = parse_range(text)?;
            set.add(first, last)
                .ok_or_else(|| InvalidAddress::Backwards(text.to_owned()))?;
        }
        Ok(set.merged())
    }

    /// Every address.
    pub fn everything() -> Self {
        Self::default().complement()
    }

    /// True for no address at all.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// All addresses of this set and of `other`.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.v4.0.extend_from_slice(&other.v4.0);
        self.v6.0.extend_from_slice(&other.v6.0);
        self.merged()
    }

    /// The addresses that are not in this set.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self {
            v4: self.v4.complement(u128::from(u32::MAX)),
            v6: self.v6.complement(u128::MAX),
        }
    }

    /// True if `address` is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4.to_bits().into()),
            IpAddr::V6(v6) => self.v6.contains(v6.to_bits()),
        }
    }

    /// `None` if the range holds no address. The set must be merged afterwards.
    fn add(&mut self, first: IpAddr, last: IpAddr) -> Option<()> {
        match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
                let range = (first.to_bits().into(), last.to_bits().into());
                self.v4.0.push(range);
            }
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
                self.v6.0.push((first.to_bits(), last.to_bits()));
            }
            _ => return None,
        }
        Some(())
    }

    fn merged(mut self) -> Self {
        self.v4.merge();
        self.v6.merge();
        self
    }
}

/// First and last of each range: sorted, disjoint, not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Sorts ranges and joins those that touch.
    fn merge(&mut self) {
        self.0.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(self.0.len());
        for &(first, last) in &self.0 {
            match merged.last_mut() {
                Some(held) if first <= held.1.saturating_add(1) => held.1 = held.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }

    /// What lies between the ranges, from 0 up to `top`.
    fn complement(&self, top: u128) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(0);
        for &(first, last) in &self.0 {
            if let Some(start) = next.filter(|&start| start < first) {
                gaps.push((start, first - 1));
            }
            next = last.checked_add(1).filter(|&after| after <= top);
        }
        gaps.extend(next.map(|start| (start, top)));
        Self(gaps)
    }

    fn contains(&self, value: u128) -> bool {
        let at = self.0.partition_point(|&(first, _)| first <= value);
        at.checked_sub(1)
            .and_then(|before| self.0.get(before))
            .is_some_and(|&(_, last)| value <= last)
    }
}

fn parse_range(text: &str) -> Result<(IpAddr, IpAddr), InvalidAddress> {
    let malformed = || InvalidAddress::Malformed(text.to_owned());
    if let Some((first, last)) = text.split_once('-') {
        let first = first.trim().parse().map_err(|_e| malformed())?;
        let last = last.trim().parse().map_err(|_e| malformed())?;
        return Ok((first, last));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address, address));
    }
    let net: IpNet = text.parse().map_err(|_e| malformed())?;
    Ok((net.network(), net.broadcast()))
}

/// A set of host names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSet {
    exact: HashSet<String>,
    /// Without the leading dot; their subdomains are members.
    below: HashSet<String>,
}

impl HostSet {
    /// Reads names: `x.org` is that host alone, `.x.org` that domain and all below it (Squid),
    /// `*.x.org` only what is below it. Case does not matter.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            if let Some(domain) = name.strip_prefix("*.") {
                set.below.insert(domain.to_owned());
            } else if let Some(domain) = name.strip_prefix('.') {
                set.below.insert(domain.to_owned());
                set.exact.insert(domain.to_owned());
            } else {
                set.exact.insert(name);
            }
        }
        set
    }

    /// True if `host`, given in lower case, is in the set.
    pub fn contains(&self, host: &str) -> bool {
        self.exact.contains(host)
            || (!self.below.is_empty()
                && host
                    .match_indices('.')
                    .filter_map(|(dot, _)| host.get(dot + 1..))
                    .any(|domain| self.below.contains(domain)))
    }
}

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    /// The ports in any of the given ranges.
    pub fn new(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> Self {
        Self(ranges.into_iter().collect())
    }

    /// Reads `80` or `1025-65535`; `None` if it is neither.
    pub fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| text.parse::<u16>().ok()).flatten()
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        (first <= last).then_some(first..=last)
    }

    /// True if `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}
