//! The file operations whose failing the store has to survive, each behind a gate, and what of
//! them a power loss would take back.
//!
//! In a running program the gates are open and nothing is noted. A test closes the n-th gate, with
//! any error, for every n of a scripted session: so each place where a disk can fail is seen to
//! fail. Another lets the index file's writes be noted until they are synced, kills the process,
//! and takes back any of those that were not ([`Unsynced`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::codec::Scan;
use crate::digest::Digest;
use crate::lock;

/// Where syncs are noted: beside the notes of the index.
const SYNCED: &str = "synced";

/// Which operation fails.
#[derive(Debug)]
struct Plan {
    passed: AtomicU64,
    fail_at: AtomicU64,
    /// How many in a row fail from there on.
    failures: AtomicU64,
    kind: io::ErrorKind,
}

/// The gates that file operations pass.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    plan: Option<Arc<Plan>>,
    notes: Option<Arc<Notes>>,
    /// Nothing on it is changed.
    frozen: bool,
}

/// What a test wants noted.
#[derive(Debug)]
struct Notes {
    /// Writes to the index since its last sync.
    index: Mutex<File>,
    /// Syncs of bodies and of the journal, a line each.
    synced: Mutex<File>,
}

impl Disk {
    /// Lets `failures` operations fail, beginning with number `fail_at` (from 0).
    pub fn failing(fail_at: u64, failures: u64, kind: io::ErrorKind) -> Self {
        Self {
            plan: Some(Arc::new(Plan {
                passed: AtomicU64::new(0),
                fail_at: AtomicU64::new(fail_at),
                failures: AtomicU64::new(failures),
                kind,
            })),
            ..Self::default()
        }
    }

    /// Notes in a file what has been written to the index and not yet synced.
    pub fn noting(notes: &Path) -> io::Result<Self> {
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).open(path)
        };
        let notes = Notes {
            index: Mutex::new(open(notes)?),
            synced: Mutex::new(open(&notes.with_added_extension(SYNCED))?),
        };
        Ok(Self {
            notes: Some(Arc::new(notes)),
            ..Self::default()
        })
    }

    /// A disk of which nothing is changed.
    pub(crate) fn frozen() -> Self {
        Self {
            frozen: true,
            ..Self::default()
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// From the `after`-th operation on every one fails; `None`: none does.
    pub fn set_failing(&self, after: Option<u64>) {
        if let Some(plan) = &self.plan {
            let passed = plan.passed.load(Ordering::Relaxed);
            let fail_at = after.map_or(0, |after| passed + after);
            let failures = if after.is_some() { u64::MAX } else { 0 };
            plan.fail_at.store(fail_at, Ordering::Relaxed);
            plan.failures.store(failures, Ordering::Relaxed);
        }
    }

    /// How many operations have come to a gate so far.
    pub fn operations(&self) -> u64 {
        self.plan
            .as_ref()
            .map_or(0, |plan| plan.passed.load(Ordering::Relaxed))
    }

    /// Passes a gate, or fails as planned.
    pub(crate) fn pass(&self) -> io::Result<()> {
        let Some(plan) = &self.plan else {
            return Ok(());
        };
        let number = plan.passed.fetch_add(1, Ordering::Relaxed);
        let fail_at = plan.fail_at.load(Ordering::Relaxed);
        let failures = plan.failures.load(Ordering::Relaxed);
        if (fail_at..fail_at.saturating_add(failures)).contains(&number) {
            return Err(plan.kind.into());
        }
        Ok(())
    }

    /// Notes what a write is going to replace, and by what.
    pub(crate) fn note_write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        let Some(notes) = &self.notes else {
            return Ok(());
        };
        let mut old = vec![0; data.len()];
        let mut read = 0;
        while let Some(rest) = old.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        append(&notes.index, file.metadata()?.len(), offset, [&old, data])
    }

    /// Notes that the file's length is going to change: bytes that a cut takes come back too.
    pub(crate) fn note_length(&self, file: &File, len: u64) -> io::Result<()> {
        let Some(notes) = &self.notes else {
            return Ok(());
        };
        let held = file.metadata()?.len();
        let mut cut = vec![0; usize::try_from(held.saturating_sub(len)).unwrap_or(0)];
        if !cut.is_empty() {
            file.read_exact_at(&mut cut, len)?;
        }
        append(&notes.index, held, len.min(held), [&cut, &[]])
    }

    /// What was noted is on the disk.
    pub(crate) fn note_sync(&self) -> io::Result<()> {
        match &self.notes {
            Some(notes) => {
                let mut notes = lock(&notes.index);
                notes.set_len(0)?;
                io::Seek::rewind(&mut *notes)
            }
            None => Ok(()),
        }
    }

    /// Notes that a body and its name are on the disk.
    pub(crate) fn note_body_sync(&self, digest: &Digest) -> io::Result<()> {
        self.note_line(&format!("body {digest}\n"))
    }

    /// Notes that so many bytes of a journal file are on the disk.
    pub(crate) fn note_journal_sync(&self, number: u64, len: u64) -> io::Result<()> {
        self.note_line(&format!("journal {number} {len}\n"))
    }

    fn note_line(&self, line: &str) -> io::Result<()> {
        match &self.notes {
            Some(notes) => lock(&notes.synced).write_all(line.as_bytes()),
            None => Ok(()),
        }
    }
}

fn append(notes: &Mutex<File>, held: u64, offset: u64, bytes: [&[u8]; 2]) -> io::Result<()> {
    let mut record = Vec::new();
    for number in [held, offset] {
        record.extend_from_slice(&number.to_le_bytes());
    }
    for bytes in bytes {
        crate::codec::put_bytes(&mut record, bytes);
    }
    lock(notes).write_all(&record)
}

/// What no sync had followed when the process ended.
#[derive(Debug)]
pub struct Unsynced {
    index: PathBuf,
    writes: Vec<Write>,
    synced: String,
}

#[derive(Debug)]
struct Write {
    held: u64,
    offset: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Unsynced {
    /// Reads what [`Disk::noting`] has noted of the index in a cache directory.
    pub fn read(notes: &Path, directory: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(notes)?;
        let mut scan = Scan(&bytes);
        let mut next = || {
            Some(Write {
                held: u64::from_le_bytes(scan.array()?),
                offset: u64::from_le_bytes(scan.array()?),
                old: scan.bytes()?.to_vec(),
                new: scan.bytes()?.to_vec(),
            })
        };
        Ok(Self {
            index: directory.join("index.redb"),
            writes: std::iter::from_fn(&mut next).collect(),
            synced: std::fs::read_to_string(notes.with_added_extension(SYNCED))?,
        })
    }

    /// True if a body was synced by itself.
    pub fn is_body_synced(&self, digest: &Digest) -> bool {
        let line = format!("body {digest}");
        self.synced.lines().any(|noted| noted == line)
    }

    /// Bytes of a journal file that were synced.
    pub fn journal_synced(&self, number: u64) -> u64 {
        let noted = self.synced.lines().filter_map(|line| {
            let (of, len) = line.strip_prefix("journal ")?.split_once(' ')?;
            (of.parse() == Ok(number)).then(|| len.parse().ok())?
        });
        noted.max().unwrap_or(0)
    }

    /// How many writes there are.
    pub fn count(&self) -> usize {
        self.writes.len()
    }

    /// Takes all of them back but those that `kept` picks: a disk writes in any order.
    pub fn lose(&self, mut kept: impl FnMut() -> bool) -> io::Result<()> {
        let index = OpenOptions::new().write(true).open(&self.index)?;
        for write in self.writes.iter().rev() {
            index.write_all_at(&write.old, write.offset)?;
            index.set_len(write.held)?;
        }
        for write in &self.writes {
            if kept() {
                index.write_all_at(&write.new, write.offset)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_were_not_synced_are_taken_back_and_synced_ones_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, notes) = (
            folder.path().join("index.redb"),
            folder.path().join("notes"),
        );
        std::fs::write(&path, b"0123456789").expect("written");
        let disk = Disk::noting(&notes).expect("made");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .expect("there");
        let write = |at, bytes: &[u8]| {
            disk.note_write(&file, at, bytes).expect("noted");
            file.write_all_at(bytes, at).expect("written");
        };
        write(0, b"AB");
        disk.note_sync().expect("noted");
        write(1, b"xyz");
        write(8, b"more");
        disk.note_length(&file, 5).expect("noted");
        file.set_len(5).expect("cut");
        let unsynced = Unsynced::read(&notes, folder.path()).expect("read");
        assert_eq!(unsynced.count(), 3);
        unsynced.lose(|| false).expect("taken back");
        assert_eq!(std::fs::read(&path).expect("there"), b"AB23456789");
        unsynced.lose(|| true).expect("taken back");
        assert_eq!(&std::fs::read(&path).expect("there")[..4], b"Axyz");
    }
}
