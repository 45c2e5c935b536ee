//! The index file `index.redb`: the only file that names redb.
//!
//! ```text
//! heads  key hash 16   -> encoded head
//! blobs  blob id u64   -> encoded blob with its key hashes (all that a start has to read)
//! vary   key hash 16   -> field names
//! facts  "facts"       -> age of the ranking, counters, last checkpoint
//! ```
//!
//! Written by the keeper alone, in group commits; read for heads that are not in memory. Commits
//! are durable and save redb's allocator state (`quick_repair`), so that an open after the end of
//! the process needs no walk over the file. redb trusts the pages that it has written and may
//! panic on others; every call is fenced, and a fault is an error like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition,
};

use crate::backend::Backend;
use crate::codec::{self, Scan};
use crate::digest::KeyHash;
use crate::disk::Disk;
use crate::index::Blob;
use crate::patience::is_of_the_disk;

const HEADS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("heads");
const BLOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("blobs");
const VARY: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("vary");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const FACTS_MAGIC: [u8; 4] = *b"lrF1";

/// Why the index file does not serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("the index file is not usable: {0}")]
    Redb(Box<redb::Error>),
    #[error("the index file is damaged")]
    Damaged,
    #[error("the index file has been given up")]
    Closed,
}

impl TableError {
    /// The system's word, where it says nothing about the file's content.
    pub(crate) fn of_the_disk(&self) -> Option<std::io::Error> {
        let Self::Redb(error) = self else {
            return None;
        };
        match &**error {
            redb::Error::Io(source) if is_of_the_disk(source) => Some(copy(source)),
            _ => None,
        }
    }
}

/// The same error once more: its code where the system gave one, else its kind.
fn copy(error: &std::io::Error) -> std::io::Error {
    match error.raw_os_error() {
        Some(code) => std::io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

impl<E: Into<redb::Error>> From<E> for TableError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// Numbers that outlive a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The age of the replacement policy.
    pub(crate) age: u64,
    /// The last blob id given.
    pub(crate) last_id: u64,
    /// The last tick given.
    pub(crate) tick: u64,
    /// Blobs up to this id are known to be on the disk.
    pub(crate) synced_id: u64,
    /// [`RUNNING`], [`ENDED`] or [`ENDED_UNTIDY`].
    pub(crate) clean: u64,
    /// Look-ups that found something, over all runs.
    pub(crate) hits: u64,
    /// Look-ups that found nothing, over all runs.
    pub(crate) misses: u64,
    /// Bytes evicted, over all runs.
    pub(crate) evicted: u64,
    /// The replacement policy that gave the ranks ([`crate::rank::Ranking::number`]).
    pub(crate) policy: u64,
    /// Bytes of the objects delivered from the cache, over all runs.
    pub(crate) hit_bytes: u64,
    /// Bytes stored, over all runs.
    pub(crate) fill_bytes: u64,
    /// The run that wrote this; 0 where an earlier version did.
    pub(crate) run: u64,
}

/// [`Facts::clean`]: the run that wrote this has not ended, or not in order.
pub(crate) const RUNNING: u64 = 0;
/// It ended in order.
pub(crate) const ENDED: u64 = 1;
/// It ended in order, but files that it could not remove may still be there.
pub(crate) const ENDED_UNTIDY: u64 = 2;

impl Facts {
    /// True unless the run ended in order, with all that it had admitted on the disk: its last
    /// checkpoint may have failed.
    pub(crate) fn is_unclean(&self) -> bool {
        self.clean == RUNNING || self.synced_id < self.last_id
    }

    fn numbers(&self) -> [u64; 12] {
        [
            self.age,
            self.last_id,
            self.tick,
            self.synced_id,
            self.clean,
            self.hits,
            self.misses,
            self.evicted,
            self.policy,
            self.hit_bytes,
            self.fill_bytes,
            self.run,
        ]
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = codec::start(FACTS_MAGIC, 96);
        for number in self.numbers() {
            out.extend_from_slice(&number.to_le_bytes());
        }
        codec::finish(out)
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let mut scan = Scan(codec::payload(FACTS_MAGIC, record)?);
        let mut next = || scan.array().map(u64::from_le_bytes);
        Some(Self {
            age: next()?,
            last_id: next()?,
            tick: next()?,
            synced_id: next()?,
            clean: next()?,
            hits: next()?,
            misses: next()?,
            evicted: next()?,
            policy: next()?,
            hit_bytes: next()?,
            fill_bytes: next()?,
            run: next().unwrap_or(0),
        })
    }
}

/// One group commit: what is to stand in the file afterwards; `None`: nothing under that name.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) heads: Vec<(KeyHash, Option<Arc<[u8]>>)>,
    pub(crate) blobs: Vec<(u64, Option<Vec<u8>>)>,
    pub(crate) vary: Vec<(KeyHash, Option<Vec<u8>>)>,
    pub(crate) facts: Facts,
}

/// What a start reads.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) facts: Facts,
    pub(crate) vary: Vec<(KeyHash, Vec<u8>)>,
    /// Records that could not be read.
    pub(crate) unreadable: u64,
}

/// The open index file.
#[derive(Debug)]
pub(crate) struct Table {
    database: RwLock<Option<Database>>,
    place: Option<Place>,
}

/// What an opening needs.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    cache_bytes: usize,
    disk: Disk,
}

impl Place {
    fn open(&self) -> Result<Database, TableError> {
        fenced(|| {
            let backend = Backend::open(&self.path, &self.disk).map_err(redb::Error::Io)?;
            let database = Builder::new()
                .set_cache_size(self.cache_bytes)
                .create_with_backend(backend)?;
            let mut write = database.begin_write()?;
            write.set_quick_repair(true);
            write.open_table(HEADS)?;
            write.open_table(BLOBS)?;
            write.open_table(VARY)?;
            write.open_table(FACTS)?;
            write.commit()?;
            Ok(database)
        })
    }
}

impl Table {
    /// Opens or makes the file. `cache_bytes`: redb's page cache.
    pub(crate) fn open(path: &Path, cache_bytes: usize, disk: &Disk) -> Result<Self, TableError> {
        let place = Place {
            path: path.to_owned(),
            cache_bytes,
            disk: disk.clone(),
        };
        Ok(Self {
            database: RwLock::new(Some(place.open()?)),
            place: Some(place),
        })
    }

    /// Opens the file once more: redb refuses everything after one failed write, even when the
    /// disk works again.
    pub(crate) fn reopen(&self) -> Result<(), TableError> {
        let place = self.place.as_ref().ok_or(TableError::Closed)?;
        let mut held = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = held.take();
        // Its closing writes too, and may fail as the last write did.
        let _ = fenced(|| {
            drop(old);
            Ok(())
        });
        *held = Some(place.open()?);
        Ok(())
    }

    /// A table that holds nothing and refuses commits: the index file cannot be had.
    pub(crate) fn absent() -> Self {
        Self {
            database: RwLock::new(None),
            place: None,
        }
    }

    /// Hands every blob to `each` and returns the rest of what a start needs.
    pub(crate) fn load(
        &self,
        mut each: impl FnMut(Blob, Vec<KeyHash>),
    ) -> Result<Loaded, TableError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let mut loaded = Loaded::default();
            if let Some(record) = read.open_table(FACTS)?.get("facts")? {
                match Facts::decode(record.value()) {
                    Some(facts) => loaded.facts = facts,
                    None => loaded.unreadable += 1,
                }
            }
            for entry in read.open_table(BLOBS)?.iter()? {
                let (id, record) = entry?;
                match codec::decode_blob(record.value()) {
                    Some((blob, keys)) if blob.id == id.value() => each(blob, keys),
                    _ => loaded.unreadable += 1,
                }
            }
            for entry in read.open_table(VARY)?.iter()? {
                let (key, names) = entry?;
                loaded
                    .vary
                    .push((KeyHash(key.value()), names.value().to_vec()));
            }
            Ok(loaded)
        })
    }

    /// How many bodies the file names.
    pub(crate) fn bodies(&self) -> Result<u64, TableError> {
        use redb::ReadableTableMetadata as _;
        self.with(|database| Ok(database.begin_read()?.open_table(BLOBS)?.len()?))
    }

    /// The encoded head of a key.
    pub(crate) fn head(&self, key: &KeyHash) -> Result<Option<Vec<u8>>, TableError> {
        self.with(|database| {
            let read = database.begin_read()?;
            let head = read.open_table(HEADS)?.get(key.0)?;
            Ok(head.map(|record| record.value().to_vec()))
        })
    }

    /// The encoded heads of some keys, in one reading.
    pub(crate) fn heads(&self, keys: &[KeyHash]) -> Result<Vec<Option<Vec<u8>>>, TableError> {
        self.with(|database| {
            let heads = database.begin_read()?.open_table(HEADS)?;
            keys.iter()
                .map(|key| Ok(heads.get(key.0)?.map(|record| record.value().to_vec())))
                .collect()
        })
    }

    /// Brings the file up to date; durable when it returns.
    pub(crate) fn commit(&self, batch: &Batch) -> Result<(), TableError> {
        self.with(|database| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            write.set_quick_repair(true);
            {
                let mut heads = write.open_table(HEADS)?;
                for (key, head) in &batch.heads {
                    match head {
                        Some(head) => drop(heads.insert(key.0, &head[..])?),
                        None => drop(heads.remove(key.0)?),
                    }
                }
                let mut blobs = write.open_table(BLOBS)?;
                for (id, blob) in &batch.blobs {
                    match blob {
                        Some(blob) => drop(blobs.insert(id, &blob[..])?),
                        None => drop(blobs.remove(id)?),
                    }
                }
                let mut vary = write.open_table(VARY)?;
                for (key, names) in &batch.vary {
                    match names {
                        Some(names) => drop(vary.insert(key.0, &names[..])?),
                        None => drop(vary.remove(key.0)?),
                    }
                }
                write
                    .open_table(FACTS)?
                    .insert("facts", &batch.facts.encode()[..])?;
            }
            write.commit()?;
            Ok(())
        })
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let held = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = held.as_ref().ok_or(TableError::Closed)?;
        fenced(|| call(database))
    }
}

fn fenced<T>(call: impl FnOnce() -> Result<T, TableError>) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(TableError::Damaged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_batch_says_stands_in_the_file_after_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index.redb");
        let facts = Facts {
            age: 5,
            clean: 1,
            ..Facts::default()
        };
        let table = Table::open(&path, 1 << 20, &Disk::default()).expect("opens");
        let key = KeyHash([1; 16]);
        let head: Arc<[u8]> = Arc::from(&b"head"[..]);
        let batch = Batch {
            heads: vec![(key, Some(head)), (KeyHash([2; 16]), None)],
            vary: vec![(key, Some(b"accept".to_vec()))],
            facts,
            ..Batch::default()
        };
        table.commit(&batch).expect("commits");
        drop(table);
        let table = Table::open(&path, 1 << 20, &Disk::default()).expect("opens again");
        assert_eq!(
            table.head(&key).expect("reads").as_deref(),
            Some(&b"head"[..])
        );
        let loaded = table.load(|_, _| {}).expect("loads");
        assert_eq!((loaded.facts, loaded.vary.len()), (facts, 1));
    }

    #[test]
    fn a_file_of_garbage_is_an_error_and_no_crash() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index.redb");
        std::fs::write(&path, vec![0x5a; 100_000]).expect("writes");
        assert!(Table::open(&path, 1 << 20, &Disk::default()).is_err());
    }
}
