//! What can go wrong when the boot part starts; each says what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::ipxe_text::Unfit;

/// Why the boot part does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The interfaces of this host cannot be listed.
    #[error("cannot list the network interfaces")]
    Interfaces(#[source] io::Error),
    /// A configured interface is not there.
    #[error("there is no interface {name} on this host (there are: {known})")]
    NoSuchInterface {
        /// The configured name.
        name: String,
        /// What there is.
        known: String,
    },
    /// An interface is down or has no IPv4 address, so that no broadcast would arrive on it.
    #[error("interface {name} is down or has no IPv4 address: {}", to_set_up(name))]
    NoAddress {
        /// The interface.
        name: String,
    },
    /// No interface can be served at all.
    #[error(
        "no interface with an IPv4 address to serve: name one in boot.interfaces, or give it an address"
    )]
    NothingToServe,
    /// Another program has the port.
    #[error("{address} ({what}) is taken by another program: {mend}")]
    PortTaken {
        /// What it would have served.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What to do.
        mend: &'static str,
    },
    /// The process lacks the right to bind.
    #[error("no permission to open {address} ({what}): run as root or grant {capability}")]
    NoPermission {
        /// What it would have served.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The missing capability.
        capability: &'static str,
    },
    /// A socket cannot be opened for another reason.
    #[error("cannot open {address} ({what})")]
    Socket {
        /// What it would have served.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The TFTP root cannot be opened.
    #[error("cannot open the boot root {path}")]
    Root {
        /// The configured folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A menu entry is unusable.
    #[error("boot menu {name}: {reason}")]
    Menu {
        /// The entry or file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting cannot stand in a script.
    #[error("boot.{name} {unfit}: {}", unfit.mend())]
    Script {
        /// The key.
        name: &'static str,
        /// Why.
        unfit: Unfit,
    },
}

/// How an interface gets ready to be served.
pub(crate) fn to_set_up(name: &str) -> String {
    format!(
        "set it up (ip link set {name} up), and give it one if it has none (ip address add … dev {name})"
    )
}
