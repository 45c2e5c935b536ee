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
    /// Its first IPv4 address, from which answers are sent.
    pub address: Ipv4Addr,
    /// That address' mask.
    pub mask: Ipv4Addr,
    /// Largest IP packet.
    pub mtu: u16,
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
