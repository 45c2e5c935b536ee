//! What the operator says of network boot, as plain data with defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use crate::decide::OfferStyle;
use crate::loaders::SecureBoot;
use crate::menu::Entry;
use crate::packet::hardware::HardwareAddress;
use crate::words;

/// How port 67 is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SocketKind {
    /// An ordinary UDP socket, shared with a main server that shares its own.
    #[default]
    Udp,
    /// Raw frames, beside a main server on the same host that holds the port alone.
    Packet,
}

/// The ports to serve; the defaults are the only ones that firmware asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// DHCP.
    pub dhcp: u16,
    /// PXE boot server.
    pub boot_server: u16,
    /// TFTP.
    pub tftp: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            dhcp: 67,
            boot_server: 4011,
            tftp: 69,
        }
    }
}

/// Bounds of the TFTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TftpLimits {
    /// Transfers at once; further requests wait for the client's next try.
    pub transfers_max: usize,
    /// Largest IP packet, if it is less than the interface's.
    pub mtu: Option<u16>,
    /// Whether block sizes are negotiated.
    pub has_block_size: bool,
    /// Whether all transfers go by port 69, for firewalls that let nothing else through.
    pub is_single_port: bool,
    /// Source ports of transfers, for firewalls; none for any.
    pub port_range: Option<(u16, u16)>,
}

impl Default for TftpLimits {
    fn default() -> Self {
        Self {
            transfers_max: 2000,
            mtu: None,
            has_block_size: true,
            is_single_port: false,
            port_range: None,
        }
    }
}

/// The boot part's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Interfaces to serve; empty for all with an IPv4 address.
    pub interfaces: Vec<String>,
    /// Folder of files to serve.
    pub root: Option<PathBuf>,
    /// Whether files are served by TFTP.
    pub is_tftp: bool,
    /// Address of the script endpoint; none if another listener serves it.
    pub http: Option<SocketAddr>,
    /// Port to name in URLs if another listener serves the scripts.
    pub http_port: Option<u16>,
    /// Script URL to go on to, in place of a menu.
    pub next: Option<String>,
    /// How port 67 is opened.
    pub socket: SocketKind,
    /// Whether UEFI machines get the signed chain.
    pub secure_boot: SecureBoot,
    /// The operator's menu entries.
    pub menu: Vec<Entry>,
    /// Whether the built-in install menus follow them.
    pub has_install_menus: bool,
    /// Seconds until the menu boots the local disk by itself; 0 waits for ever.
    pub menu_seconds: u32,
    /// Serial console to put on kernel command lines, as `ttyS0,115200`.
    pub serial: Option<String>,
    /// Port of the cache, through which menus fetch what they boot; none to fetch from the mirrors.
    pub cache_port: Option<u16>,
    /// Offer styles of single machines.
    pub styles: BTreeMap<HardwareAddress, OfferStyle>,
    /// Names that stand for a URL's body.
    pub files: BTreeMap<String, String>,
    /// TFTP's bounds.
    pub tftp: TftpLimits,
    /// Ports.
    pub ports: Ports,
    /// Rules in dnsmasq's words.
    pub words: Option<words::rules::Rules>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            root: None,
            is_tftp: true,
            http: Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8080)),
            http_port: None,
            next: None,
            socket: SocketKind::default(),
            secure_boot: SecureBoot::default(),
            menu: Vec::new(),
            has_install_menus: true,
            menu_seconds: 30,
            serial: None,
            cache_port: None,
            styles: BTreeMap::new(),
            files: BTreeMap::new(),
            tftp: TftpLimits::default(),
            ports: Ports::default(),
            words: None,
        }
    }
}

impl Config {
    /// Takes over what dnsmasq's words say beside the rules themselves.
    #[must_use]
    pub fn with_words(mut self, words: words::rules::Rules) -> Self {
        self.interfaces.clone_from(&words.interfaces);
        self.is_tftp = words.tftp.is_enabled;
        self.root.clone_from(&words.tftp.root);
        self.tftp.has_block_size = !words.tftp.has_no_blocksize;
        self.tftp.is_single_port = words.tftp.is_single_port;
        self.tftp.mtu = words.tftp.mtu;
        self.tftp.port_range = words.tftp.port_range;
        if let Some(transfers) = words.tftp.transfers_max {
            self.tftp.transfers_max = transfers;
        }
        self.words = Some(words);
        self
    }
}
