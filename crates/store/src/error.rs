//! What can go wrong, a variant for each step.

use std::io;
use std::path::PathBuf;

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written to.
    #[error("cache directory {} cannot be written", path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the directory's lock.
    #[error("cache directory {} is held by another process", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is not larder's: nothing is made, changed or removed there.
    #[error("{} is no larder cache: {why}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What it is instead, and what to do.
        why: String,
    },
    /// A later version of the program laid the directory out.
    #[error("cache directory {} has format {found}, this version knows up to {known}", path.display())]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The format that its VERSION file names.
        found: String,
        /// The newest format that this version knows.
        known: u32,
    },
    /// A step on a file failed.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// True for what only the operator can mend; a server goes on without a cache otherwise.
    fn is_of_the_operator(kind: io::ErrorKind) -> bool {
        matches!(
            kind,
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotFound
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename
        )
    }

    pub(crate) fn is_the_operators(&self) -> bool {
        match self {
            Self::Held { .. } | Self::Foreign { .. } => true,
            Self::Newer { .. } => false,
            Self::NotWritable { source, .. } | Self::File { source, .. } => {
                Self::is_of_the_operator(source.kind())
            }
        }
    }

    /// The error and its causes in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        if let Some(source) = std::error::Error::source(self) {
            text.push_str(": ");
            text.push_str(&source.to_string());
        }
        text
    }
}

/// Why a fill does not begin: the answer passes through unstored.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The body is larger than the whole store may be.
    #[error("the body is larger than the cache")]
    TooLarge,
    /// Nothing more can leave to make room.
    #[error("no room: nothing can be evicted")]
    NoRoom,
    /// What would have to leave is asked for more often.
    #[error("not admitted: what would leave for it is asked for more often")]
    NotAdmitted,
    /// The index file cannot be had, and no more may wait for it.
    #[error("the index cannot be written, and too much waits for it")]
    IndexBehind,
    /// The disk is far behind with what has come already.
    #[error("the disk is behind with what has come already")]
    Behind,
    /// The cache is not written to at all.
    #[error("the cache is only read")]
    ReadOnly,
    /// The part file cannot be made.
    #[error("cannot make a part file")]
    Part(#[source] io::Error),
}

impl BeginError {
    /// A short word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::NoRoom => "no-room",
            Self::NotAdmitted => "not-admitted",
            Self::IndexBehind => "index-fault",
            Self::Behind => "disk-behind",
            Self::ReadOnly => "no-cache",
            Self::Part(_) => "disk-fault",
        }
    }
}

/// Why a fill ends without an object.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The object of which parts were held is one no more: another version has come.
    #[error("the parts that were held are of another version")]
    Gone,
    /// The origin sent more than it had announced.
    #[error("the body is longer than the announced {expected} bytes")]
    TooLong {
        /// What Content-Length said.
        expected: u64,
    },
    /// The origin sent less than it had announced.
    #[error("the body ended after {received} of {expected} bytes")]
    TooShort {
        /// What Content-Length said.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// Nothing more can leave to make room.
    #[error("no room: nothing can be evicted")]
    NoRoom,
    /// An administrator has purged it while it was fetched.
    #[error("purged while it was fetched")]
    Purged,
    /// The body could not be written or put in place.
    #[error("cannot write the body")]
    Write(#[source] io::Error),
}

impl FillError {
    /// A short word for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Gone => "other-version",
            Self::TooLong { .. } => "too-long",
            Self::TooShort { .. } => "too-short",
            Self::NoRoom => "no-room",
            Self::Purged => "purged",
            Self::Write(_) => "disk-fault",
        }
    }

    /// True for what is nobody's fault: an administrator's wish, or a cache that is in full use.
    pub fn is_in_order(&self) -> bool {
        match self {
            Self::Gone | Self::NoRoom | Self::Purged => true,
            Self::TooLong { .. } | Self::TooShort { .. } | Self::Write(_) => false,
        }
    }
}

/// Why a reader ends early; the client's connection has to be cut.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The fill that is being read has failed.
    #[error("the fill failed before its end")]
    FillFailed,
    /// The file is shorter than the object.
    #[error("the body's file is shorter than the body")]
    Short,
    /// An unclean stop may have damaged the body, and hashing it takes longer than a client waits.
    #[error("the body is still being compared with its digest")]
    Unchecked,
    /// The bytes are not those that were stored.
    #[error("the body does not have its digest")]
    Flipped,
    /// The file cannot be read.
    #[error("cannot read the body's file")]
    Read(#[source] io::Error),
}
