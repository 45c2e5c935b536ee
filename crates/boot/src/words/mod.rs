//! dnsmasq's words as a front-end: what a command line or a dnsmasq.conf says of network boot.
//!
//! [`text`] splits words as getopt and dnsmasq's file reader do, [`table`] knows all of dnsmasq 2.90's
//! names, [`read`] turns those that concern proxyDHCP and TFTP into [`rules::Rules`], [`tags`] computes a
//! request's tags, and [`answer`] replies as dnsmasq 2.90 does. Words about DNS, leases and DHCPv6 are
//! noted and ignored; an address range is refused, since larder never gives a lease.

pub mod answer;
pub mod convert;
pub mod instead;
mod parts;
pub mod read;
pub mod rules;
pub mod script;
pub mod table;
pub mod tags;
pub mod text;
mod tftp;
pub mod value;

/// Where a word stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// Nowhere: the words as a whole.
    Words,
    /// On the command line, the n-th argument from 1.
    Argument(usize),
    /// In a file, line from 1.
    Line {
        /// The file's name.
        file: String,
        /// The line.
        line: usize,
    },
}

impl std::fmt::Display for Position {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Words => out.write_str("dnsmasq's words"),
            Self::Argument(place) => write!(out, "argument {place}"),
            Self::Line { file, line } => write!(out, "{file}:{line}"),
        }
    }
}

/// A word that cannot be taken, with what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {reason}")]
pub struct WordError {
    /// Where.
    pub position: Position,
    /// What is wrong, with the mend.
    pub reason: String,
}

/// A word that is taken without effect, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub position: Position,
    /// The word as written.
    pub word: String,
    /// Why it has no effect, or what it means here, as the rest of a sentence about the word.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {} {}", self.position, self.word, self.text)
    }
}
