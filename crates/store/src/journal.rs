//! The journal: what has changed since the index file was last brought up to date.
//!
//! `journal/N` files (N in 20 digits), each a row of checksummed records, appended with one
//! write before the change is seen by anyone: the end of the process at any instant loses no
//! complete object. When the keeper has brought a snapshot of the memory's state into the index
//! file, the files that were written before that snapshot are removed. A torn or flipped record
//! ends the reading of its file; an append that fails is cut off again, so that what follows it
//! can be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{self, Scan};
use crate::digest::{Digest, KeyHash};
use crate::disk::Disk;

const CHANGE_MAGIC: [u8; 4] = *b"lrJ1";

/// One change of the store's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A key got this head (which names the body's digest and length), the body being in place.
    Admit {
        /// The encoded head.
        head: Arc<[u8]>,
        /// Allocated blocks of the body.
        blocks: u32,
    },
    /// A key got a new head for the same body.
    Renew {
        /// The encoded head.
        head: Arc<[u8]>,
    },
    /// A key is forgotten.
    Forget {
        /// Its hash.
        key: KeyHash,
    },
    /// A body leaves, with every key that names it.
    Remove {
        /// Its digest.
        digest: Digest,
    },
    /// The responses of a key vary by these fields.
    Vary {
        /// The key's hash.
        key: KeyHash,
        /// The encoded names; empty: they vary no more.
        names: Vec<u8>,
    },
}

/// Appends changes to the newest file.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    file: File,
    number: u64,
    len: u64,
    /// Bytes of the files before it that were written by this run and may still be there.
    before: u64,
    /// The file ends in a part of a record that could not be cut off.
    torn: bool,
    synced: bool,
    disk: Disk,
}

impl Journal {
    /// Starts a new file behind those that are there. `synced`: each append reaches the disk.
    pub(crate) fn open(folder: &Path, synced: bool, disk: &Disk) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let number = numbers(folder)?.last().map_or(1, |last| last + 1);
        Ok(Self {
            folder: folder.to_owned(),
            file: create(folder, number, synced)?,
            number,
            len: 0,
            before: 0,
            torn: false,
            synced,
            disk: disk.clone(),
        })
    }

    /// One that keeps nothing.
    pub(crate) fn frozen(disk: &Disk) -> io::Result<Self> {
        Ok(Self {
            folder: PathBuf::new(),
            file: File::open("/dev/null")?,
            number: 0,
            len: 0,
            before: 0,
            torn: false,
            synced: false,
            disk: disk.clone(),
        })
    }

    /// Appends the changes with one write.
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.disk.is_frozen() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(changes.len() * 700);
        for change in changes {
            bytes.extend_from_slice(&encode(change));
        }
        if self.torn {
            // What follows a torn record is never read.
            self.rotate()?;
        }
        let gate = self.disk.pass();
        // A disk that fails may have taken a part.
        let part = if gate.is_ok() {
            &bytes[..]
        } else {
            &bytes[..bytes.len() / 2]
        };
        let written = self.file.write_all(part).and(gate).and_then(|()| {
            if self.synced {
                let len = self.len + bytes.len() as u64;
                self.file.sync_data()?;
                self.disk.note_journal_sync(self.number, len)
            } else {
                Ok(())
            }
        });
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(e) => {
                self.torn = self.file.set_len(self.len).is_err();
                Err(e)
            }
        }
    }

    /// Bytes in the newest file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes in all files of this run that no group commit has taken over.
    pub(crate) fn kept(&self) -> u64 {
        self.before + self.len
    }

    /// A group commit holds what the files before the newest say.
    pub(crate) fn taken_over(&mut self) {
        self.before = 0;
    }

    /// Goes on in a new file. Returns the number of the last file before it.
    pub(crate) fn rotate(&mut self) -> io::Result<u64> {
        self.disk.pass()?;
        self.file = create(&self.folder, self.number + 1, self.synced)?;
        self.number += 1;
        self.before += self.len;
        self.len = 0;
        self.torn = false;
        Ok(self.number - 1)
    }

    /// Removes the files up to this number: the index file holds what they say.
    pub(crate) fn discard_through(folder: &Path, number: u64) -> io::Result<()> {
        let numbers = numbers(folder)?.into_iter();
        let taken_over = numbers.filter(|held| *held <= number);
        // One that cannot be removed keeps no other; the first such error is told.
        let removed = taken_over.map(|held| fs::remove_file(path_of(folder, held)));
        removed.fold(Ok(()), Result::and)
    }

    /// Reads every change that is in the folder, oldest first, and tells if one was unreadable.
    pub(crate) fn replay(folder: &Path) -> io::Result<(Vec<Change>, bool)> {
        let mut changes = Vec::new();
        let mut torn = false;
        for number in numbers(folder)? {
            let bytes = fs::read(path_of(folder, number))?;
            torn |= !decode_all(&bytes, &mut changes);
        }
        Ok((changes, torn))
    }
}

/// Appending goes to the end even after a cut: files are opened so.
fn create(folder: &Path, number: u64, synced: bool) -> io::Result<File> {
    let file = OpenOptions::new()
        .create_new(true)
        .append(true)
        .open(path_of(folder, number))?;
    if synced {
        // The name has to last as the records do.
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}"))
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(number) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn encode(change: &Change) -> Vec<u8> {
    let mut out = codec::start(CHANGE_MAGIC, 700);
    match change {
        Change::Admit { head, blocks } => {
            out.push(1);
            out.extend_from_slice(&blocks.to_le_bytes());
            codec::put_bytes(&mut out, head);
        }
        Change::Renew { head } => {
            out.push(2);
            codec::put_bytes(&mut out, head);
        }
        Change::Forget { key } => {
            out.push(3);
            out.extend_from_slice(&key.0);
        }
        Change::Remove { digest } => {
            out.push(4);
            out.extend_from_slice(&digest.0);
        }
        Change::Vary { key, names } => {
            out.push(5);
            out.extend_from_slice(&key.0);
            codec::put_bytes(&mut out, names);
        }
    }
    codec::finish(out)
}

fn decode(record: &[u8]) -> Option<Change> {
    let mut scan = Scan(codec::payload(CHANGE_MAGIC, record)?);
    Some(match scan.byte()? {
        1 => Change::Admit {
            blocks: u32::from_le_bytes(scan.array()?),
            head: Arc::from(scan.bytes()?),
        },
        2 => Change::Renew {
            head: Arc::from(scan.bytes()?),
        },
        3 => Change::Forget {
            key: KeyHash(scan.array()?),
        },
        4 => Change::Remove {
            digest: Digest(scan.array()?),
        },
        5 => Change::Vary {
            key: KeyHash(scan.array()?),
            names: scan.bytes()?.to_vec(),
        },
        _ => return None,
    })
}

/// False if the bytes end in something that is no record.
fn decode_all(mut bytes: &[u8], changes: &mut Vec<Change>) -> bool {
    while !bytes.is_empty() {
        let Some((record, rest)) =
            codec::record_len(bytes).and_then(|len| bytes.split_at_checked(len))
        else {
            return false;
        };
        let Some(change) = decode(record) else {
            return false;
        };
        changes.push(change);
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Random;

    fn some_changes() -> Vec<Change> {
        vec![
            Change::Admit {
                head: Arc::from([1, 2, 3]),
                blocks: 7,
            },
            Change::Renew {
                head: Arc::from([4]),
            },
            Change::Forget {
                key: KeyHash([5; 16]),
            },
            Change::Remove {
                digest: Digest([6; 32]),
            },
            Change::Vary {
                key: KeyHash([7; 16]),
                names: b"accept".to_vec(),
            },
        ]
    }

    #[test]
    fn changes_read_back_in_order_over_several_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path(), false, &Disk::default()).expect("opens");
        let changes = some_changes();
        journal.append(&changes[..2]).expect("writes");
        let before = journal.rotate().expect("rotates");
        journal.append(&changes[2..]).expect("writes");
        assert_eq!(
            Journal::replay(folder.path()).expect("reads"),
            (changes.clone(), false)
        );
        Journal::discard_through(folder.path(), before).expect("removes");
        assert_eq!(
            Journal::replay(folder.path()).expect("reads").0,
            changes[2..]
        );
    }

    #[test]
    fn a_file_cut_anywhere_gives_a_prefix_of_what_was_written() {
        let mut whole = Vec::new();
        let changes = some_changes();
        for change in &changes {
            whole.extend(encode(change));
        }
        for cut in 0..whole.len() {
            let mut read = Vec::new();
            decode_all(&whole[..cut], &mut read);
            assert_eq!(read, changes[..read.len()], "cut at {cut}");
        }
    }

    #[test]
    fn byte_soup_is_refused_without_a_crash() {
        let mut random = Random::new(5);
        let mut whole = Vec::new();
        for change in &some_changes() {
            whole.extend(encode(change));
        }
        for _ in 0..50_000 {
            let mut soup = whole.clone();
            let at = random.below(soup.len() as u64) as usize;
            soup[at] ^= 1 << random.below(8);
            let mut read = Vec::new();
            assert!(!decode_all(&soup, &mut read) && read.len() < 5);
        }
    }
}
