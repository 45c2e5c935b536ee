//! All words of dnsmasq 2.90, with the form of their argument and what larder makes of them.
//!
//! `dhcp-option-pxe` is taken as well. dnsmasq 2.90 itself refuses it (`dnsmasq --test --dhcp-option-pxe=…`
//! says so; it came later), but a proxy sends no option otherwise, and files that name it are about just
//! that: refusing them would help nobody. It is the one word here that 2.90 does not know.

/// Whether a word takes an argument, in getopt's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Never.
    Nothing,
    /// Always: `--word value` or `--word=value`.
    Value,
    /// As `--word=value` only.
    Optional,
}

/// What larder makes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It has an effect.
    Boot,
    /// It is how the seed's scripts start dnsmasq; harmless here.
    Start,
    /// It concerns DNS.
    Dns,
    /// It concerns leases that a main DHCP server gives.
    Lease,
    /// It concerns IPv6.
    V6,
}

use Meaning::{Boot, Dns, Lease, Start, V6};
use Takes::{Nothing, Optional, Value};

/// One meaning's words by the form of their argument.
type Group = (Meaning, Takes, &'static str);

const GROUPS: &[Group] = &[
    (
        Boot,
        Nothing,
        "log-dhcp quiet-dhcp quiet-tftp tftp-secure tftp-no-fail tftp-lowercase",
    ),
    (Boot, Nothing, "tftp-single-port tftp-no-blocksize"),
    (
        Boot,
        Value,
        "dhcp-range dhcp-option dhcp-option-force dhcp-option-pxe dhcp-boot dhcp-vendorclass",
    ),
    (
        Boot,
        Value,
        "dhcp-userclass dhcp-match dhcp-name-match dhcp-mac dhcp-host dhcp-ignore dhcp-pxe-vendor",
    ),
    (
        Boot,
        Value,
        "dhcp-circuitid dhcp-remoteid dhcp-subscrid tag-if pxe-prompt pxe-service tftp-root",
    ),
    (
        Boot,
        Value,
        "tftp-max tftp-mtu tftp-port-range interface except-interface no-dhcp-interface",
    ),
    (
        Boot,
        Value,
        "no-dhcpv4-interface listen-address conf-dir dhcp-hostsfile dhcp-optsfile dhcp-hostsdir",
    ),
    (Boot, Value, "dhcp-optsdir dhcp-reply-delay"),
    (Boot, Optional, "enable-tftp conf-file tftp-unique-root"),
    (
        Start,
        Nothing,
        "no-daemon keep-in-foreground bind-interfaces bind-dynamic log-debug no-ident no-ping",
    ),
    (Start, Nothing, "test version help"),
    (Start, Value, "port log-facility"),
    (Start, Optional, "user group pid-file log-queries log-async"),
    (
        Lease,
        Nothing,
        "read-ethers dhcp-authoritative leasefile-ro script-on-renewal dhcp-no-override",
    ),
    (
        Lease,
        Nothing,
        "dhcp-fqdn dhcp-sequential-ip dhcp-client-update script-arp dhcp-rapid-commit",
    ),
    (Lease, Nothing, "dhcp-ignore-clid"),
    (
        Lease,
        Value,
        "dhcp-lease dhcp-lease-max dhcp-script bridge-interface shared-network dhcp-scriptuser",
    ),
    (Lease, Value, "dhcp-luascript dhcp-relay dhcp-ttl"),
    (
        Lease,
        Optional,
        "dhcp-leasefile bootp-dynamic dhcp-ignore-names dhcp-broadcast dhcp-alternate-port",
    ),
    (Lease, Optional, "dhcp-proxy dhcp-generate-names"),
    (V6, Nothing, "enable-ra quiet-dhcp6 quiet-ra"),
    (V6, Value, "no-dhcpv6-interface dhcp-duid ra-param"),
    (
        Dns,
        Nothing,
        "no-hosts no-poll bogus-priv selfmx filterwin2k filter-A filter-AAAA strict-order no-resolv",
    ),
    (
        Dns,
        Nothing,
        "expand-hosts localmx no-negcache no-round-robin domain-needed localise-queries",
    ),
    (
        Dns,
        Nothing,
        "clear-on-reload stop-dns-rebind all-servers rebind-localhost-ok strip-mac strip-subnet",
    ),
    (
        Dns,
        Nothing,
        "proxy-dnssec conntrack dnssec dnssec-debug dnssec-no-timecheck dns-loop-detect",
    ),
    (
        Dns,
        Value,
        "servers-file mx-host mx-target domain domain-suffix bogus-nxdomain ignore-address filter-rr",
    ),
    (
        Dns,
        Value,
        "server rev-server local address conf-script local-ttl cache-rr addn-hosts hostsdir",
    ),
    (
        Dns,
        Value,
        "query-port alias edns-packet-max srv-host txt-record caa-record dns-rr dns-forward-max",
    ),
    (
        Dns,
        Value,
        "ptr-record naptr-record interface-name rebind-domain-ok neg-ttl max-ttl min-cache-ttl",
    ),
    (
        Dns,
        Value,
        "max-cache-ttl min-port max-port cname add-cpe-id host-record auth-zone auth-server",
    ),
    (
        Dns,
        Value,
        "auth-ttl auth-soa auth-sec-servers auth-peer ipset nftset connmark-allowlist synth-domain",
    ),
    (
        Dns,
        Value,
        "trust-anchor dnssec-timestamp dnssec-limits dumpfile dumpmask dynamic-host port-limit",
    ),
    (Dns, Value, "max-tcp-connections"),
    (
        Dns,
        Optional,
        "resolv-file cache-size local-service enable-dbus enable-ubus add-mac add-subnet",
    ),
    (
        Dns,
        Optional,
        "connmark-allowlist-enable dnssec-check-unsigned umbrella fast-dns-retry use-stale-cache",
    ),
];

/// Short options; those that take a value have it in the same or the next argument.
const SHORT: &[(char, &str, bool)] = &[
    ('a', "listen-address", true),
    ('A', "address", true),
    ('b', "bogus-priv", false),
    ('B', "bogus-nxdomain", true),
    ('c', "cache-size", true),
    ('C', "conf-file", true),
    ('d', "no-daemon", false),
    ('D', "domain-needed", false),
    ('e', "selfmx", false),
    ('E', "expand-hosts", false),
    ('f', "filterwin2k", false),
    ('F', "dhcp-range", true),
    ('g', "group", true),
    ('G', "dhcp-host", true),
    ('h', "no-hosts", false),
    ('H', "addn-hosts", true),
    ('i', "interface", true),
    ('I', "except-interface", true),
    ('j', "dhcp-userclass", true),
    ('J', "dhcp-ignore", true),
    ('k', "keep-in-foreground", false),
    ('K', "dhcp-authoritative", false),
    ('l', "dhcp-leasefile", true),
    ('L', "localmx", false),
    ('m', "mx-host", true),
    ('M', "dhcp-boot", true),
    ('n', "no-poll", false),
    ('N', "no-negcache", false),
    ('o', "strict-order", false),
    ('O', "dhcp-option", true),
    ('p', "port", true),
    ('P', "edns-packet-max", true),
    ('q', "log-queries", false),
    ('Q', "query-port", true),
    ('R', "no-resolv", false),
    ('r', "resolv-file", true),
    ('S', "server", true),
    ('s', "domain", true),
    ('t', "mx-target", true),
    ('T', "local-ttl", true),
    ('u', "user", true),
    ('U', "dhcp-vendorclass", true),
    ('v', "version", false),
    ('V', "alias", true),
    ('W', "srv-host", true),
    ('w', "help", false),
    ('x', "pid-file", true),
    ('X', "dhcp-lease-max", true),
    ('y', "localise-queries", false),
    ('Y', "txt-record", true),
    ('z', "bind-interfaces", false),
    ('Z', "read-ethers", false),
    ('1', "enable-dbus", false),
    ('2', "no-dhcp-interface", true),
    ('3', "bootp-dynamic", false),
    ('4', "dhcp-mac", true),
    ('5', "no-ping", false),
    ('6', "dhcp-script", true),
    ('7', "conf-dir", true),
    ('8', "log-facility", true),
    ('9', "leasefile-ro", false),
    ('0', "dns-forward-max", true),
];

/// A known word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its long name.
    pub name: &'static str,
    /// Its argument.
    pub takes: Takes,
    /// What larder makes of it.
    pub meaning: Meaning,
}

fn all() -> impl Iterator<Item = Known> {
    GROUPS.iter().flat_map(|(meaning, takes, names)| {
        names.split(' ').map(|name| Known {
            name,
            takes: *takes,
            meaning: *meaning,
        })
    })
}

/// The names of the words with a meaning.
pub fn named(meaning: Meaning) -> impl Iterator<Item = &'static str> {
    let all = all().filter(move |known| known.meaning == meaning);
    all.map(|known| known.name)
}

/// Finds a word by its whole name, as in a file.
pub fn long(name: &str) -> Option<Known> {
    all().find(|known| known.name == name)
}

/// Finds a word by its name or an abbreviation that only one word has, as getopt_long does.
pub fn long_or_abbreviated(name: &str) -> Option<Known> {
    long(name).or_else(|| {
        let mut fitting = all().filter(|known| !name.is_empty() && known.name.starts_with(name));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first)
    })
}

/// Finds a word by its letter, and whether its value follows.
pub fn short(letter: char) -> Option<(Known, bool)> {
    let (_, name, has_value) = SHORT.iter().find(|(known, ..)| *known == letter)?;
    Some((long(name)?, *has_value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_word_stands_in_two_groups() {
        let names: Vec<_> = all().map(|known| known.name).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), unique.len());
        assert_eq!(names.len(), 190);
    }

    #[test]
    fn every_letter_has_its_word() {
        for (letter, name, _) in SHORT {
            assert_eq!(short(*letter).map(|(known, _)| known.name), Some(*name));
        }
    }

    #[test]
    fn abbreviations_must_be_unambiguous() {
        assert_eq!(
            long_or_abbreviated("dhcp-userc").map(|k| k.name),
            Some("dhcp-userclass")
        );
        assert_eq!(
            long_or_abbreviated("dhcp-option").map(|k| k.name),
            Some("dhcp-option")
        );
        assert_eq!(long_or_abbreviated("dhcp-"), None);
        assert_eq!(long_or_abbreviated("pxe-servise"), None);
    }
}
