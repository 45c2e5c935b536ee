//! What does this squid.conf mean? Squid's configuration, its store-ID file and its log format.
//!
//! [`read()`] takes a path and a way to read files, and gives a [`Configuration`] built on the
//! types of larder-policy, with notes; or every problem in it, each with its place and its mend. No
//! line is dropped in silence: it is applied, noted or refused. [`logline`] writes the native
//! access log.
//!
//! In reading order: text to statements (`source`), which directives there are (`words`) and what
//! is said of those that are not applied (`treat`), named
//! conditions (`acl`, `address`,
//! `ere`) and the lists made of them (`lists`), the directives with a grammar of
//! their own (`ports`, `peers`, `patterns`, `ids`, `logs`, `values`), all of it put together
//! (`read`), and what the whole is likely not to mean (`review`).

mod acl;
mod address;
mod configuration;
mod ere;
mod ids;
mod lists;
mod logline;
mod logs;
mod note;
mod patterns;
mod peers;
mod ports;
mod read;
mod review;
mod source;
mod suggest;
mod treat;
mod values;
mod words;

pub use configuration::{
    Accelerator, AccessLog, CACHE_MEM, CacheDir, Configuration, Helper, HttpPort, LogDestination,
    MAXIMUM_OBJECT_SIZE, Peer, PeerKind, PortMode, Replacement, Secret, StoreIdSource,
};
pub use logline::{Hierarchy, LogRecord, ResultCode, Tag, logline, write_logline};
pub use note::{Note, Position, Problem, Refused, Severity};
pub use read::read;
pub use source::Files;

#[cfg(test)]
mod tests;
