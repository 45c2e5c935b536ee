//! What the operator wants, as the decision needs it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::packet::architecture::Cpu;
use crate::packet::hardware::HardwareAddress;
use crate::words;

/// How an offer leads the firmware to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OfferStyle {
    /// File and server in the offer, option 43 says to use them and to discover nothing.
    Direct,
    /// File and server in the offer without option 43; the firmware asks port 4011 for them again.
    /// UEFI firmware that ignores option 43 needs this.
    BootServer,
    /// A menu of one item; the firmware asks port 4011 for it.
    Menu,
}

impl OfferStyle {
    /// The style as it is configured.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::BootServer => "4011",
            Self::Menu => "menu",
        }
    }
}

impl fmt::Display for OfferStyle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The text names no offer style.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no offer style (auto, direct, 4011 or menu)")]
pub struct NotAStyle(pub String);

impl FromStr for OfferStyle {
    type Err = NotAStyle;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "direct" => Ok(Self::Direct),
            "4011" => Ok(Self::BootServer),
            "menu" => Ok(Self::Menu),
            _ => Err(NotAStyle(text.to_owned())),
        }
    }
}

/// Which boot programs this host has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Programs {
    /// The program for firmware of each kind.
    pub by_cpu: BTreeMap<Cpu, String>,
    /// The program for BIOS machines whose own iPXE can do too little: one with drivers of its own, since
    /// `undionly` on top of a native iPXE loses the network card.
    pub bios_with_drivers: Option<String>,
}

/// Rules of larder's own answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnRules {
    /// Boot programs found on this host.
    pub programs: Programs,
    /// Port of larder's own script endpoint; none if HTTP is not served.
    pub http_port: Option<u16>,
    /// Script URL that larder's own script chains to.
    pub next: Option<String>,
    /// Script URL that iPXE is handed as it is, from dnsmasq's words.
    pub script: Option<String>,
    /// Host to name in URLs; none for the address that the request came in by.
    pub host: Option<Ipv4Addr>,
    /// Offer styles of single machines.
    pub styles: BTreeMap<HardwareAddress, OfferStyle>,
    /// Whether a Raspberry Pi finds its files in the boot root.
    pub has_pi_files: bool,
    /// Whether nothing is served by TFTP.
    pub lacks_tftp: bool,
}

impl OwnRules {
    /// URL of `path` on larder's own HTTP endpoint, as a client of `here` reaches it.
    pub fn url(&self, here: Ipv4Addr, path: &str) -> Option<String> {
        let host = self.host.unwrap_or(here);
        self.http_port.map(|port| match port {
            80 => format!("http://{host}/{path}"),
            port => format!("http://{host}:{port}/{path}"),
        })
    }

    /// URL of the script that an iPXE gets.
    ///
    /// It is larder's own even where `next` is set: that script tries `next`, and shows what went wrong
    /// instead of leaving a dead prompt. Without an HTTP port `next` is handed out as it is.
    pub fn script_url(&self, here: Ipv4Addr) -> Option<String> {
        let own = || self.url(here, "boot.ipxe").or_else(|| self.next.clone());
        self.script.clone().or_else(own)
    }
}

/// All rules: dnsmasq's words if there are any, larder's own for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Rules spelled in dnsmasq's words.
    pub words: Option<words::rules::Rules>,
    /// Larder's own.
    pub own: OwnRules,
}
