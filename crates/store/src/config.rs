//! What the operator may say about the store.

use std::path::PathBuf;
use std::time::Duration;

/// How the store is to be kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache directory. Where it holds another cache's files (Squid's `cache_dir`), larder
    /// keeps to the folder `larder` in it.
    pub directory: PathBuf,
    /// Bytes that all of the store may occupy on disk, counted in allocated blocks. Clamped to
    /// the file system when the store is opened.
    pub size_max: u64,
    /// Bytes of memory for heads, small bodies and the index's page cache together. The index's
    /// own records (at most 160 bytes an object) come on top.
    pub memory_max: u64,
    /// Who leaves first when room is needed.
    pub replacement: Replacement,
    /// What survives a power loss.
    pub durability: Durability,
    /// When bodies that were written by an earlier run are hashed again.
    pub verify: Verify,
    /// How often every body is hashed in the background; `None`: never.
    pub scrub: Option<Duration>,
    /// What is worth storing when something has to leave for it.
    pub admission: Admission,
}

impl Config {
    /// The defaults for a directory: 20 GB, 256 MiB of memory, LFUDA, `fast`, `first-use`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            size_max: 20_000_000_000,
            memory_max: 256 << 20,
            replacement: Replacement::Lfuda,
            durability: Durability::Fast,
            verify: Verify::FirstUse,
            scrub: None,
            admission: Admission::All,
        }
    }
}

/// The replacement policies (Squid's `cache_replacement_policy heap …`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// Least frequently used with dynamic ageing: best share of bytes.
    Lfuda,
    /// Greedy-dual size frequency: best share of requests, small bodies first.
    Gdsf,
    /// Least recently used.
    Lru,
}

impl Replacement {
    /// The policy's name as the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lfuda => "lfuda",
            Self::Gdsf => "gdsf",
            Self::Lru => "lru",
        }
    }
}

/// What a complete object survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process at any instant. A power loss costs at most the objects since the
    /// last checkpoint (30 s); after an unclean stop those are hashed before their first use.
    Fast,
    /// A power loss too: body, folder and journal are synced before the object counts as kept.
    Full,
}

/// What is stored when something has to leave for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    All,
    /// What has been asked for more often, of late, than what would leave for it. One walk over a
    /// whole mirror then does not flush what is popular.
    Frequency,
}

/// When a body is hashed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// At its first whole delivery since the start; the end is withheld until the hash agrees.
    FirstUse,
    /// Only after an unclean stop, for what was not yet safe on disk.
    Never,
}
