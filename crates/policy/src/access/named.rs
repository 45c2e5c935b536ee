//! The sets of addresses that have a name: what `private`, `loopback` and `public` mean, and which
//! addresses are out of reach by default.

use super::AddressSet;

const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];
/// RFC 3927, RFC 4291 §2.5.6.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];
/// RFC 1918, RFC 6598, RFC 4193.
const PRIVATE: [&str; 5] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "fc00::/7",
];
/// The kernel takes these for this host.
const UNSPECIFIED: [&str; 2] = ["0.0.0.0/8", "::"];
/// Where clouds hand credentials to their machines, beside 169.254.169.254.
const METADATA: [&str; 5] = [
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
];
/// Multicast and reserved addresses: no server has one.
const NO_HOST: [&str; 2] = ["224.0.0.0/3", "ff00::/8"];

impl AddressSet {
    /// Addresses of this host alone.
    pub fn loopback() -> Self {
        constant(&LOOPBACK)
    }

    /// Addresses that are valid on one link only.
    pub fn link_local() -> Self {
        constant(&LINK_LOCAL)
    }

    /// Addresses of private networks: RFC 1918, RFC 4193 and RFC 6598.
    pub fn private() -> Self {
        constant(&PRIVATE)
    }

    /// Addresses that no client has a reason to reach through a proxy: unspecified and link-local
    /// ones, and those of metadata services.
    pub fn out_of_reach() -> Self {
        constant(&UNSPECIFIED)
            .with(&constant(&METADATA))
            .with(&Self::link_local())
    }

    /// The word `public`: addresses that are neither private nor loopback nor out of reach, and
    /// that a host can have.
    pub fn public() -> Self {
        Self::private()
            .with(&Self::loopback())
            .with(&Self::out_of_reach())
            .with(&constant(&NO_HOST))
            .complement()
    }
}

fn constant(texts: &[&str]) -> AddressSet {
    AddressSet::parse(texts.iter().copied()).expect("the constants of this file are well-formed")
}
