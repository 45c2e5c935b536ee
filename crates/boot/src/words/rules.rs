//! The boot rules that dnsmasq's words spell out, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::{Note, Position};

/// A tag condition: `name`, or `!name` (`#name` in the old spelling) for its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The tag.
    pub tag: String,
    /// Whether the tag must be absent.
    pub is_negated: bool,
}

/// A `dhcp-range` in proxy mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Any address of the subnet; unspecified for the subnet of whatever interface is asked.
    pub network: Ipv4Addr,
    /// Its mask; the interface's if none is given.
    pub mask: Option<Ipv4Addr>,
    /// Tag that clients of this range get.
    pub sets: Option<String>,
    /// Conditions under which the range counts.
    pub conditions: Vec<Condition>,
}

/// A server as a line names it: by its address, or by a name that has an address once it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    name: Option<String>,
    /// All copies of the rules learn it at once.
    address: Arc<OnceLock<Ipv4Addr>>,
}

impl Server {
    /// A server at an address.
    pub fn at(address: Ipv4Addr) -> Self {
        Self {
            name: None,
            address: Arc::new(OnceLock::from(address)),
        }
    }

    /// A server with a name, which is still to be looked up.
    pub fn named(name: String) -> Self {
        Self {
            name: Some(name),
            address: Arc::default(),
        }
    }

    /// Its name, if the line gives one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its address, if it is known.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.address.get().copied()
    }

    /// Takes the address of its name, unless it has one.
    pub fn found(&self, address: Ipv4Addr) {
        self.address.get_or_init(|| address);
    }
}

/// A `pxe-service` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Architecture code.
    pub architecture: u16,
    /// Menu text.
    pub text: String,
    /// Item type: from 0x8000 in order for files, a given number, or 0 for local boot.
    pub kind: u16,
    /// File name or URL; none for a numbered type.
    pub file: Option<String>,
    /// Server, if it is another one.
    pub server: Option<Server>,
}

impl Service {
    /// The other server's address, if it is known.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.server.as_ref().and_then(Server::address)
    }
}

/// A `dhcp-boot` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// File name or URL; empty for none.
    pub file: String,
    /// Server, if one is given.
    pub server: Option<Server>,
}

/// An option that goes into replies: into option 43, or (`dhcp-option-pxe`) beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentOption {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Vendor class that option 60 must contain; none for any PXE vendor.
    pub vendor: Option<String>,
    /// Code, inside option 43 or of the packet.
    pub code: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// How a `dhcp-match` value is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The option is there.
    Present,
    /// The option begins with these bytes; none is a wildcard.
    Prefix(Vec<Option<u8>>),
    /// The text occurs anywhere.
    Text(Vec<u8>),
    /// The option is a list of elements of this length and holds this one.
    Element(Vec<u8>),
}

/// Which part of a request a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// An option.
    Option(u8),
    /// An identified vendor class of option 124 (RFC 3925).
    Enterprise(u32),
}

/// Hardware addresses as a line writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwarePattern {
    /// Kind of hardware; none for any.
    pub kind: Option<u8>,
    /// Bytes; none is a wildcard.
    pub bytes: Vec<Option<u8>>,
}

impl HardwarePattern {
    /// No address at all.
    pub const NONE: Self = Self {
        kind: None,
        bytes: Vec::new(),
    };
}

/// A rule that sets a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tagging {
    /// `dhcp-match`.
    Match {
        /// What it looks at.
        subject: Subject,
        /// What it must hold.
        pattern: Pattern,
    },
    /// `dhcp-vendorclass`: substring of option 60.
    VendorClass(Vec<u8>),
    /// `dhcp-userclass`: substring of option 77.
    UserClass(Vec<u8>),
    /// `dhcp-circuitid`, `dhcp-remoteid`, `dhcp-subscrid`: a whole sub-option of option 82.
    RelayAgent(u8, Vec<u8>),
    /// `dhcp-mac`: hardware address with wildcards.
    Hardware(HardwarePattern),
    /// `dhcp-name-match`: the client's host name, or its beginning.
    HostName {
        /// The name.
        name: String,
        /// Whether a longer name counts.
        is_prefix: bool,
    },
}

/// A tag and the rule that sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRule {
    /// The tag.
    pub tag: String,
    /// When it is set.
    pub when: Tagging,
}

/// A `dhcp-host` line, as far as it sets tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Hardware addresses with wildcards.
    pub hardware: Vec<HardwarePattern>,
    /// Host name, without its domain.
    pub name: Option<String>,
    /// Its address, which says to which subnet the line belongs; none for any.
    pub address: Option<Ipv4Addr>,
    /// Client identifier.
    pub client_id: Option<Vec<u8>>,
    /// Tags it sets.
    pub sets: Vec<String>,
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// A `tag-if` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagIf {
    /// Tags it sets.
    pub sets: Vec<String>,
    /// Conditions; a trailing `*` stands for any rest.
    pub conditions: Vec<Condition>,
}

/// Which folder of the root is a client's own (`tftp-unique-root`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueRoot {
    /// By its IPv4 address, `10.0.0.9`.
    Address,
    /// By its hardware address, `52-54-00-12-34-56`.
    Hardware,
}

/// What the words say of TFTP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TftpWords {
    /// `enable-tftp`.
    pub is_enabled: bool,
    /// The interfaces of `enable-tftp=INTERFACE`; empty for all that are served.
    pub interfaces: Vec<String>,
    /// `tftp-root`.
    pub root: Option<PathBuf>,
    /// `tftp-root=FOLDER,INTERFACE`, by the interface's name.
    pub roots_by_link: Vec<(String, PathBuf)>,
    /// `tftp-no-fail`: a root that is not there is no reason to end.
    pub may_root_be_missing: bool,
    /// `tftp-lowercase`.
    pub is_lowercase: bool,
    /// `tftp-no-blocksize`.
    pub has_no_blocksize: bool,
    /// `tftp-single-port`.
    pub is_single_port: bool,
    /// `tftp-secure`.
    pub is_secure: bool,
    /// `tftp-unique-root`.
    pub unique_root: Option<UniqueRoot>,
    /// `tftp-mtu`.
    pub mtu: Option<u16>,
    /// `tftp-max`.
    pub transfers_max: Option<usize>,
    /// `tftp-port-range`.
    pub port_range: Option<(u16, u16)>,
}

/// All that the words say of network boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Proxied subnets, in the order of the words.
    pub ranges: Vec<Range>,
    /// Menu lines, in order.
    pub services: Vec<Service>,
    /// Boot files, in order.
    pub boots: Vec<Boot>,
    /// Options inside option 43, prompts among them, in order.
    pub vendor_options: Vec<SentOption>,
    /// Options of `dhcp-option-pxe`, in order.
    pub pxe_options: Vec<SentOption>,
    /// Vendor class prefixes that count as PXE, in order; dnsmasq tries the last first.
    pub pxe_vendors: Vec<String>,
    /// Tag rules.
    pub tag_rules: Vec<TagRule>,
    /// Hosts, in order.
    pub hosts: Vec<Host>,
    /// Derived tags, in order.
    pub tag_ifs: Vec<TagIf>,
    /// Tag lists whose clients get no answer.
    pub ignored: Vec<Vec<Condition>>,
    /// Whether a `pxe-service` or `pxe-prompt` turned the proxy on.
    pub is_pxe: bool,
    /// Interfaces to serve; empty for all.
    pub interfaces: Vec<String>,
    /// Interfaces not to serve, unless by a listed address.
    pub except_interfaces: Vec<String>,
    /// Interfaces never to serve.
    pub no_dhcp_interfaces: Vec<String>,
    /// Whether all named interfaces must be there at the start, if without address (`bind-interfaces`).
    pub binds_at_once: bool,
    /// Addresses to serve.
    pub listen_addresses: Vec<Ipv4Addr>,
    /// TFTP.
    pub tftp: TftpWords,
    /// What was taken without effect.
    pub notes: Vec<Note>,
    /// The names of all words, whatever became of them.
    pub said: BTreeSet<&'static str>,
}

impl Rules {
    /// The ranges that hold none of these addresses (each with its mask): only machines behind a relay are
    /// answered for them.
    pub fn ranges_elsewhere(&self, own: &[(Ipv4Addr, Ipv4Addr)]) -> impl Iterator<Item = &Range> {
        self.ranges.iter().filter(move |range| {
            let is_here = |(address, mask): &(Ipv4Addr, Ipv4Addr)| {
                let mask = range.mask.unwrap_or(*mask).to_bits();
                address.to_bits() & mask == range.network.to_bits() & mask
            };
            !range.network.is_unspecified() && !own.iter().any(is_here)
        })
    }

    /// The servers whose names have no address yet, each with its word and name.
    pub fn unfound(&self) -> impl Iterator<Item = (&'static str, &str, &Server)> {
        let services = self.services.iter();
        let services = services.map(|service| ("pxe-service", service.server.as_ref()));
        let boots = self.boots.iter();
        let boots = boots.map(|boot| ("dhcp-boot", boot.server.as_ref()));
        services.chain(boots).filter_map(|(word, server)| {
            let server = server.filter(|server| server.address().is_none())?;
            Some((word, server.name()?, server))
        })
    }

    /// Looks the servers' names up, each of them once; dnsmasq does so at each answer. For a name without address this host
    /// stands in until it has one, since an answer without server leads nowhere, and a note says so.
    pub fn look_up(&mut self, lookup: &dyn Fn(&str) -> Option<Ipv4Addr>) {
        let mut notes = Vec::new();
        let mut addresses = BTreeMap::new();
        for (word, name, server) in self.unfound() {
            if let Some(address) = addresses.entry(name).or_insert_with(|| lookup(name)) {
                server.found(*address);
                continue;
            }
            notes.push(Note {
                position: Position::Words,
                word: word.to_owned(),
                text: format!(
                    "names the server {name}, which has no IPv4 address here yet; until it has, this host is named in its place"
                ),
            });
        }
        self.notes.extend(notes);
    }

    /// Vendor class prefixes in the order that dnsmasq tries them.
    pub fn pxe_vendors(&self) -> impl Iterator<Item = &str> {
        let own = self.pxe_vendors.is_empty().then_some("PXEClient");
        self.pxe_vendors.iter().rev().map(String::as_str).chain(own)
    }
}
