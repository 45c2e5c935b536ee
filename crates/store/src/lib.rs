//! Where the bytes are: look-up, fill, follow, evict, recover.
//!
//! A cache key names a head and, through it, a body. Bodies are files named by their SHA-256 in
//! cacache's content layout; heads, names and heat are in one index file; what has changed since
//! its last group commit is in a small journal. Memory holds a compact record of each object.
//!
//! In reading order: the handle ([`Store`]), from a key to its entry (`lookup`, [`Entry`],
//! [`Reader`]), one fetch for many ([`Join`], [`Slot`]), its bytes ([`Fill`], [`Tail`]), objects of
//! which parts are held ([`Partial`], [`Draw`]), room (`evict`, `room`), what is hashed before it is
//! trusted (`check`), what memory holds (`index`, `heap`, `rank`), what the disk holds (`layout`,
//! `body`, `codec`, `journal`, `table`), the thread that keeps them together (`keeper`), and the
//! start after whatever happened (`recover`), or where nothing may be changed (`look`).
//!
//! Invariants:
//! 1. An object is found only once its length and digest are known and its file is in place.
//! 2. No reader ends short of its body without an error.
//! 3. The blocks of everything here stay under the maximum, and nothing in use is cut off.
//! 4. A dropped slot or fill has failed; one follower becomes the next lead.
//! 5. Whatever the disk does, an object is served whole and right, or not at all.

mod admission;
mod audit;
mod backend;
mod body;
mod browse;
mod check;
mod codec;
mod collapse;
mod config;
mod core;
mod counters;
mod digest;
mod disk;
mod entry;
mod error;
mod evict;
pub mod export;
mod fill;
mod folders;
mod forgotten;
mod heap;
mod hot;
mod index;
mod journal;
mod keeper;
mod layout;
mod line;
mod look;
mod lookup;
#[doc(hidden)]
pub mod measure;
pub(crate) mod partial;
mod patience;
mod pump;
mod rank;
mod reader;
mod recover;
mod room;
mod running;
mod salvage;
mod settle;
mod slices;
mod snapshot;
mod store;
mod table;
#[cfg(test)]
mod test_support;
mod unwritable;
mod vary;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use audit::{Checked, Damaged, Progress};
pub use browse::{Object, OpenBody, Order};
pub use collapse::{Follower, Join, Outcome, Slot};
pub use config::{Admission, Config, Durability, Replacement, Verify};
pub use counters::Fault;
pub use digest::{Digest, KeyHash};
#[doc(hidden)]
pub use disk::{Disk, Unsynced};
pub use entry::Entry;
pub use error::{BeginError, FillError, OpenError, ReadError};
pub use fill::Fill;
pub use partial::{Draw, Opening, Partial, PartialAudit, PartialObject, Promise, RunEnd};
pub use patience::is_of_too_many_files;
pub use reader::Reader;
pub use running::Tail;
pub use snapshot::Snapshot;
pub use store::Store;

/// Takes a lock; a panic elsewhere while it was held leaves what it guards usable, because every
/// change under a lock of this crate is complete before anything can fail.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
