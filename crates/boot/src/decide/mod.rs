//! Who gets which answer: a pure function that ports 67 and 4011, `boot explain` and the tests share.
//!
//! Only PXE and HTTP-boot clients are answered: a DISCOVER on port 67, a REQUEST or INFORM on port 4011,
//! with a vendor class that says so and an architecture. Nothing else ever gets a packet from larder: no
//! lease, no NAK, no answer to a client that only wants an address. `your address` is never an address
//! that larder chose.

pub mod own;
pub mod past;
pub mod rules;
pub mod silence;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::SystemTime;

pub use self::past::Past;
pub use self::rules::{OfferStyle, OwnRules, Rules};
pub use self::silence::Silence;
use crate::packet::reply::Reply;
use crate::packet::request::Request;
use crate::words;

/// The two ports of a PXE server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Port {
    /// 67, where clients look for servers.
    Dhcp,
    /// 4011, where they ask the one they chose (PXE 2.1 §2.2.1).
    BootServer,
}

impl Port {
    /// What is served there, in a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "proxydhcp",
            Self::BootServer => "pxe",
        }
    }

    /// The port's number.
    pub fn number(self) -> u16 {
        match self {
            Self::Dhcp => 67,
            Self::BootServer => 4011,
        }
    }
}

/// The interface that a request came in by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index in the kernel.
    pub index: u32,
    /// The address from which answers are sent: its first one, or the one that was asked.
    pub address: Ipv4Addr,
    /// That address' mask.
    pub mask: Ipv4Addr,
    /// All its addresses with their masks, as the kernel lists them; empty for the one above alone.
    pub networks: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Largest IP packet.
    pub mtu: u16,
}

impl Interface {
    /// All its addresses with their masks.
    pub fn networks(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        let alone = self.networks.is_empty() && !self.address.is_unspecified();
        let only = alone.then_some((self.address, self.mask));
        self.networks.iter().copied().chain(only)
    }

    /// The interface as it answers from this address, if that is one of its own.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Self {
        let own = self.networks().find(|(own, _)| *own == address);
        let (address, mask) = own.unwrap_or((self.address, self.mask));
        Self {
            address,
            mask,
            ..self.clone()
        }
    }

    /// Tells whether a datagram to this address is for this host: to one of its addresses or to a broadcast.
    pub fn is_for_us(&self, to: Ipv4Addr) -> bool {
        let mut own = self.networks();
        to == Ipv4Addr::BROADCAST
            || own.any(|(own, mask)| to == own || to.to_bits() == own.to_bits() | !mask.to_bits())
    }
}

/// How a request reached larder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The port it was sent to.
    pub port: Port,
    /// The interface it came in by.
    pub interface: Interface,
    /// Who sent it.
    pub from: SocketAddrV4,
}

/// What an answer amounts to, for logs and timelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerKind {
    /// A file, straight in the packet.
    File,
    /// A script's or program's URL.
    Url,
    /// A menu to choose from.
    Menu,
    /// The offer that sends UEFI firmware to port 4011.
    SeeBootServer,
}

impl AnswerKind {
    /// The kind in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Url => "url",
            Self::Menu => "menu",
            Self::SeeBootServer => "see-4011",
        }
    }

    /// Reads the kind off a reply.
    pub fn of(reply: &Reply) -> Self {
        use crate::packet::options::code;
        let file = reply.option(code::BOOT_FILE).unwrap_or(&reply.file);
        if file.windows(3).any(|window| window == b"://") {
            Self::Url
        } else if !file.is_empty() {
            Self::File
        } else if reply.option(code::VENDOR_SPECIFIC).is_some() {
            Self::Menu
        } else {
            Self::SeeBootServer
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is answered.
    Reply(Box<Reply>),
    /// It is not, and why.
    Silence(Silence),
}

impl From<Reply> for Decision {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

impl From<Silence> for Decision {
    fn from(reason: Silence) -> Self {
        Self::Silence(reason)
    }
}

/// Decides on `request`, given what is remembered of the machine that sent it.
pub fn decide(
    request: &Request<'_>,
    arrival: &Arrival,
    rules: &Rules,
    past: &Past,
    now: SystemTime,
) -> Decision {
    match &rules.words {
        None => own::answer(request, arrival, &rules.own, past, now),
        Some(words) => words_then_own(request, arrival, words, rules, past, now),
    }
}

/// Answers as dnsmasq does, but for the clients whom its rules give nothing to boot from.
fn words_then_own(
    request: &Request<'_>,
    arrival: &Arrival,
    words: &words::rules::Rules,
    rules: &Rules,
    past: &Past,
    now: SystemTime,
) -> Decision {
    match words::answer::answer(request, arrival, words) {
        words::answer::Answer::Reply(reply) => (*reply).into(),
        words::answer::Answer::Silence(reason) => reason.into(),
        words::answer::Answer::Empty { script } => {
            let own = OwnRules {
                script,
                ..rules.own.clone()
            };
            own::answer(request, arrival, &own, past, now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_answers_from_any_of_its_addresses() {
        let mask = Ipv4Addr::new(255, 255, 255, 0);
        let [first, second] = [Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(192, 168, 9, 2)];
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            address: first,
            mask,
            networks: vec![(first, mask), (second, mask)],
            mtu: 1500,
        };
        assert_eq!(interface.at(second).address, second);
        assert_eq!(interface.at(Ipv4Addr::LOCALHOST).address, first);
        for own in [
            "255.255.255.255",
            "10.77.0.255",
            "192.168.9.255",
            "192.168.9.2",
        ] {
            assert!(interface.is_for_us(own.parse().unwrap()), "{own}");
        }
        for other in ["10.77.0.1", "10.78.0.255", "192.168.9.3"] {
            assert!(!interface.is_for_us(other.parse().unwrap()), "{other}");
        }
    }
}
