//! What can go wrong outside of a single request; why one request gets a 404 is [`Reason`].
//!
//! [`Reason`]: crate::Reason

use std::{io, net::SocketAddr, path::PathBuf};

/// A failure of the provisioning server or of one of its commands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's data directory is missing or a file.
    #[error("data path {0:?} is not a directory")]
    NoDataDirectory(PathBuf),
    /// The operator's assets directory is missing or a file.
    #[error("assets path {0:?} is not a directory")]
    NoAssetsDirectory(PathBuf),
    /// A file of the data directory could not be opened; worded as Go does, for matchbox's clients.
    #[error("open {path}: {text}", path = path.display(), text = crate::library::os_text(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written or removed.
    #[error("writing {0:?}")]
    Write(PathBuf, #[source] io::Error),
    /// A file of the data directory is larger than [`crate::library::FILE_BYTES_MAX`].
    #[error("{path:?} has {bytes} bytes, more than the {max} that are read", max = crate::library::FILE_BYTES_MAX)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// What is to be written is larger than what would be read again.
    #[error("{path:?} would have {bytes} bytes, more than the {max} that are read: nothing was written", max = crate::library::FILE_BYTES_MAX)]
    PutTooLarge {
        /// The file.
        path: PathBuf,
        /// The length of what was to be written.
        bytes: u64,
    },
    /// A group or profile does not hold what it should.
    #[error("{path:?} at line {line}, column {column}: {text}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1; 0 when no place in the text is at fault.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        text: String,
    },
    /// A client's name would leave its directory, or is none.
    #[error("{kind} name {name:?} {why}")]
    Name {
        /// The directory.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A client's group or profile lacks a field.
    #[error("{0}")]
    Incomplete(&'static str),
    /// The list of installed machines could not be read or written.
    #[error("machine state {0:?}")]
    State(PathBuf, #[source] io::Error),
    /// There is no room for another machine, as all that are known are installed.
    #[error("{0} machines are known and all are installed: no room for another one")]
    MachinesFull(usize),
    /// A machine that is to be installed again was never seen.
    #[error(
        "{0} was never seen here, and installs anyway when it first boots; `larder machines` lists those that are known"
    )]
    UnknownMachine(String),
    /// A hardware address of a command is none.
    #[error("{0:?} is not a hardware address")]
    NotAMac(String),
    /// A listener's address is in use or not ours.
    #[error("listening on {0}")]
    Bind(String, #[source] io::Error),
    /// A listener's address is no address.
    #[error("{0:?} is not an address of the form HOST:PORT")]
    Address(String),
    /// A listener vanished.
    #[error("accepting on {0}")]
    Accept(SocketAddr, #[source] io::Error),
    /// A PEM file is missing, empty or garbage.
    #[error("{what} {path:?} {why}")]
    Pem {
        /// Certificate, key or authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Key and certificate do not make a server.
    #[error("TLS of {0:?}")]
    Tls(PathBuf, #[source] rustls::Error),
    /// `pki init` found files that it would have to overwrite.
    #[error("{0:?} exists already; nothing was written")]
    PkiExists(PathBuf),
    /// `pki init` was given a name that clients cannot use.
    #[error("the name {0:?} {1}; nothing was written")]
    San(String, &'static str),
    /// `pki init` could not make a key or certificate.
    #[error("making the {0} certificate")]
    PkiMake(&'static str, #[source] rcgen::Error),
    /// The OpenPGP key ring holds no key that can sign.
    #[error("OpenPGP key ring {path:?} {why}")]
    KeyRing {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// The error and what caused it, on one line.
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            // It says its cause in its own words already.
            Some(_) if matches!(self, Self::Open { .. }) => self.to_string(),
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }
}
