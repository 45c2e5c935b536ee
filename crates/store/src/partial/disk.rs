//! What of partial objects outlives the process.
//!
//! Beside each file lies a record: the head, and the number and CRC-32 of every whole block that
//! is there. It is replaced as a whole after each run. A start believes the record and no block:
//! each is read and compared before its first use, so that a file whose bytes a power loss has
//! taken, or a disk has changed, costs those blocks and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use larder_policy::key::CacheKey;
use tokio::task::spawn_blocking;

use super::admin::Verdict;
use super::claims::BLOCK;
use super::{Partial, block_of, room_of};
use crate::body::BodyFile;
use crate::codec::{self, Head, Scan};
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::{Digest, KeyHash};
use crate::error::FillError;
use crate::lock;
use crate::room::Reservation;
use crate::running::Running;

const MAGIC: [u8; 4] = *b"LPa1";
/// Blocks of an earlier run that are compared in one go.
const CHECKED_AT_ONCE: u32 = 16;
const RECORD: &str = "record";

/// What is known of the blocks on the disk.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Blocks of an earlier run and their checksums, not compared yet.
    pub(super) unchecked: BTreeMap<u32, u32>,
    /// Checksums of blocks that are there.
    sums: BTreeMap<u32, u32>,
}

/// A file's path for a new partial object; no two are the same.
pub(crate) fn new_path(core: &Core, key: &CacheKey) -> PathBuf {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let stamp = since.map_or(0, |since| since.as_nanos());
    let number = core.next_part.fetch_add(1, Ordering::Relaxed);
    let hash = u128::from_be_bytes(KeyHash::of(key).0);
    core.layout
        .partials()
        .join(format!("{hash:032x}-{stamp:x}-{number:x}"))
}

fn record_path(file: &Path) -> PathBuf {
    file.with_extension(RECORD)
}

/// Removes the record of a partial object that is one no more.
pub(super) fn remove_record(partial: &Partial, core: &Core) {
    if let Err(e) = fs::remove_file(record_path(&partial.inner.path))
        && e.kind() != io::ErrorKind::NotFound
    {
        core.counters.fault(Fault::Remove, &e);
    }
}

impl Partial {
    pub(crate) fn is_over(&self) -> bool {
        self.inner.over.load(Ordering::Acquire)
    }

    pub(crate) fn disk_fault(&self, error: io::Error) -> FillError {
        if let Some(core) = self.inner.core.upgrade() {
            core.write_failed(&error);
        }
        FillError::Write(error)
    }

    /// Writes down what is there. A record that cannot be written costs what a later run would
    /// have of it. Blocking.
    pub(crate) fn note_now(&self) {
        let Some(core) = self.inner.core.upgrade() else {
            return;
        };
        if let Err(e) = self.write_record() {
            core.write_failed(&e);
        }
    }

    /// Writes down what is there, if that is more than was written last. Blocking.
    pub(super) fn note_news(&self) {
        if !self.unsummed().is_empty() {
            self.note_now();
        }
    }

    fn write_record(&self) -> io::Result<()> {
        // Held throughout: the last record is the newest. What clients wait for is `kept`, which is
        // not held while the disk is read or written.
        let _noting = lock(&self.inner.noting);
        if self.is_over() {
            return Ok(());
        }
        let file = self.inner.file.file()?;
        let new: Vec<(u32, u32)> = self
            .unsummed()
            .into_iter()
            .map(|block| Ok((block, sum_of(file, self.span_of(block))?)))
            .collect::<io::Result<_>>()?;
        let blocks: Vec<(u32, u32)> = {
            let mut kept = lock(&self.inner.kept);
            kept.sums.extend(new);
            let blocks = kept.unchecked.iter().chain(&kept.sums);
            blocks.map(|(block, sum)| (*block, *sum)).collect()
        };
        let path = record_path(&self.inner.path);
        let beside = path.with_extension("new");
        fs::write(&beside, self.record(&blocks))?;
        fs::rename(&beside, &path)?;
        if self.is_over() {
            // It left meanwhile, and may have found no record to take along.
            remove(&path);
        }
        Ok(())
    }

    /// Blocks that are there whole and have no checksum yet.
    fn unsummed(&self) -> Vec<u32> {
        let blocks = u32::try_from(self.inner.length.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let kept = lock(&self.inner.kept);
        self.inner.running.with_extents(|there| {
            (0..blocks)
                .filter(|block| !kept.sums.contains_key(block))
                .filter(|block| {
                    let (start, end) = self.span_of(*block);
                    there.covers(start, end)
                })
                .collect()
        })
    }

    fn record(&self, blocks: &[(u32, u32)]) -> Vec<u8> {
        let head = codec::encode_head(
            &self.inner.key,
            &Digest([0; 32]),
            self.inner.length,
            &self.meta(),
        );
        let mut record = codec::start(MAGIC, head.len() + 8 * blocks.len());
        codec::put_bytes(&mut record, &head);
        codec::put_bytes(&mut record, self.inner.origin.as_bytes());
        for (block, sum) in blocks {
            record.extend_from_slice(&block.to_le_bytes());
            record.extend_from_slice(&sum.to_le_bytes());
        }
        codec::finish(record)
    }

    /// The first block of an earlier run that lies where the first of the wanted bytes is missing.
    pub(super) fn first_unchecked(&self, spans: &[(u64, u64)]) -> Option<u32> {
        let kept = lock(&self.inner.kept);
        if kept.unchecked.is_empty() {
            return None;
        }
        let gap = self.inner.running.with_extents(|there| {
            spans
                .iter()
                .find_map(|(start, end)| there.first_gap(*start, *end))
        });
        let block = block_of(gap?.0);
        kept.unchecked.contains_key(&block).then_some(block)
    }

    /// Compares blocks of an earlier run from `first` on: those that are what they were are there
    /// from now on, others are missing.
    pub(super) async fn check_kept(&self, first: u32) {
        let this = self.clone();
        // The only failure is a panic in it, which has been said; the blocks are then missing.
        let _ = spawn_blocking(move || this.check_now(first)).await;
    }

    fn check_now(&self, first: u32) {
        for block in first..first.saturating_add(CHECKED_AT_ONCE) {
            let kept = &self.inner.kept;
            let Some(expected) = lock(kept).unchecked.get(&block).copied() else {
                break;
            };
            let (start, end) = self.span_of(block);
            // Until it is known it stays among the unchecked: nobody draws it anew.
            let found = self
                .inner
                .file
                .file()
                .and_then(|file| sum_of(file, (start, end)));
            let mut kept = lock(kept);
            if kept.unchecked.remove(&block).is_none() {
                // Another was faster.
                continue;
            }
            if found.is_ok_and(|found| found == expected) {
                kept.sums.insert(block, expected);
                self.inner.running.publish(start, end);
            } else if let Some(core) = self.inner.core.upgrade() {
                core.counters.fault(Fault::Flipped, &self.inner.key);
            }
        }
        self.inner.moved.notify_waiters();
    }

    /// Compares the first block from number `from` on with what was noted of it; one that is not
    /// that is missing from now on. `None`: there is none. Blocking.
    pub(super) fn verify_from(&self, from: u32) -> Option<(u32, Verdict)> {
        // What others work beside stays as it is.
        let is_idle = self.is_idle();
        if self.is_over() {
            return None;
        }
        let (block, expected, was_unchecked) = {
            let kept = lock(&self.inner.kept);
            let earlier = kept.unchecked.range(from..).next();
            let of_now = kept.sums.range(from..).next().filter(|_| is_idle);
            let (block, sum) = earlier.into_iter().chain(of_now).min()?;
            (*block, *sum, kept.unchecked.contains_key(block))
        };
        let span = self.span_of(block);
        // Clients wait for `kept`: it is not held while the disk is read.
        let found = self.inner.file.file().and_then(|file| sum_of(file, span));
        let verdict = match found {
            Ok(found) if found == expected => Verdict::Whole,
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => Verdict::Unread(e),
            _ => {
                let mut kept = lock(&self.inner.kept);
                if was_unchecked {
                    if kept.unchecked.remove(&block).is_none() {
                        // It has been compared, and may have been drawn anew, meanwhile.
                        return Some((block, Verdict::Whole));
                    }
                } else {
                    if kept.sums.get(&block) != Some(&expected) {
                        return Some((block, Verdict::Whole));
                    }
                    kept.sums.remove(&block);
                    self.inner.running.retract(span.0, span.1);
                }
                if let Some(core) = self.inner.core.upgrade() {
                    core.counters.fault(Fault::Flipped, &self.inner.key);
                }
                Verdict::Damaged
            }
        };
        Some((block, verdict))
    }
}

/// What a record says.
pub(super) struct Record {
    pub(super) head: Head,
    pub(super) origin: String,
    /// Checksums of the blocks that are there.
    pub(super) blocks: BTreeMap<u32, u32>,
}

/// Reads the record beside a file; `None`: there is none, or it is no record. An error says nothing
/// about it.
pub(super) fn read_record(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(record_path(path)) {
        Ok(record) => Ok(decode_record(&record)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn decode_record(record: &[u8]) -> Option<Record> {
    let mut scan = Scan(codec::payload(MAGIC, record)?);
    let head = codec::decode_head(scan.bytes()?)?;
    let origin = scan.text()?.to_owned();
    let mut blocks = BTreeMap::new();
    while let Some(block) = scan.array() {
        let block = u32::from_le_bytes(block);
        let sum = u32::from_le_bytes(scan.array()?);
        let is_within = u64::from(block) < head.len.div_ceil(BLOCK);
        blocks.extend(is_within.then_some((block, sum)));
    }
    Some(Record {
        head,
        origin,
        blocks,
    })
}

/// The bytes of a block in an object of this length.
pub(super) fn span_of(block: u32, length: u64) -> (u64, u64) {
    let start = u64::from(block) * BLOCK;
    (start, (start + BLOCK).min(length))
}

fn sum_of(file: &fs::File, (start, end): (u64, u64)) -> io::Result<u32> {
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start)?;
    Ok(crc32fast::hash(&bytes))
}

impl Core {
    /// Finds the partial objects of earlier runs; what belongs to none of them is removed.
    /// Blocking.
    pub(crate) fn load_partials(self: &Arc<Self>) {
        let folder = self.layout.partials();
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        for path in paths.iter().filter(|path| path.extension().is_none()) {
            match self.load_partial(path) {
                Ok(true) => {}
                Ok(false) => {
                    remove(path);
                    remove(&record_path(path));
                }
                // Too many open files, a failing disk: the next start may have it.
                Err(e) => self.counters.fault(Fault::Read, &e),
            }
        }
        for path in paths.iter().filter(|path| path.extension().is_some()) {
            let is_used = path.extension().is_some_and(|name| name == RECORD)
                && path.with_extension("").exists();
            if !is_used {
                remove(path);
            }
        }
        // What could be neither read nor removed takes its room all the same.
        self.count_strays();
        // The maximum may be a smaller one by now.
        self.drop_partials(self.excess());
    }

    /// False: there is no such object.
    fn load_partial(self: &Arc<Self>, path: &Path) -> io::Result<bool> {
        let Some(record) = read_record(path)? else {
            return Ok(false);
        };
        let Record {
            head,
            origin,
            blocks: unchecked,
        } = record;
        let data = fs::metadata(path)?;
        if data.len() != head.len {
            return Ok(false);
        }
        let room = room_of(data.blocks() * 512);
        let reservation = Reservation::take(&self.space, room);
        let file = BodyFile::kept(&self.disk, path.to_owned(), head.len, reservation)?;
        let file = Arc::new(file);
        let meta = Arc::new(head.meta);
        let running = Running::in_parts(self, meta, head.len, Arc::clone(&file));
        let partial = Partial::new(self, &head.key, origin, running, file);
        lock(&partial.inner.kept).unchecked = unchecked;
        self.shelve(&partial);
        Ok(true)
    }

    /// Lets partial objects leave until `bytes` are free of what they occupied, or none is idle.
    /// Blocking.
    pub(crate) fn drop_partials(&self, bytes: u64) {
        let mut freed = 0;
        while freed < bytes
            && let Some(oldest) = self.shelf.oldest_idle()
        {
            // What its file holds: of an earlier run no byte counts as there before it is compared.
            freed = u64::saturating_add(freed, oldest.file().room().max(1));
            oldest.leave(self);
        }
    }

    /// Writes down what is there of all partial objects. Blocking.
    pub(crate) fn note_partials(&self) {
        for partial in self.shelf.all() {
            partial.note_now();
        }
    }
}

fn remove(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), error = %e, "a file of a partial object cannot be removed");
    }
}
