//! Keys that were forgotten while a damaged index waits to be salvaged, which still names them.
//!
//! The new index does not know them, so nothing but this keeps what was purged or invalidated from
//! coming back. A file of key hashes in the journal's folder, for as long as there is a damaged
//! index: a salvage that is interrupted goes on with the next start.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::digest::KeyHash;
use crate::disk::Disk;

const NAME: &str = "forgotten";

/// The keys, in memory and in their file.
#[derive(Debug)]
pub(crate) struct Forgotten {
    keys: HashSet<KeyHash>,
    path: PathBuf,
    disk: Disk,
    synced: bool,
}

impl Forgotten {
    /// Goes on with what the journal's folder has. `synced`: each note reaches the disk.
    pub(crate) fn open(folder: &Path, synced: bool, disk: &Disk) -> io::Result<Self> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            read => read.unwrap_or_default(),
        };
        let (keys, _torn) = bytes.as_chunks::<16>();
        Ok(Self {
            keys: keys.iter().copied().map(KeyHash).collect(),
            path,
            disk: disk.clone(),
            synced,
        })
    }

    pub(crate) fn has(&self, key: &KeyHash) -> bool {
        self.keys.contains(key)
    }

    /// Notes more of them; memory has them even if the file cannot.
    pub(crate) fn note(&mut self, keys: impl IntoIterator<Item = KeyHash>) -> io::Result<()> {
        let new: Vec<KeyHash> = keys
            .into_iter()
            .filter(|key| self.keys.insert(*key))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.disk.pass()?;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        // What a torn write has left does not shift what follows.
        let len = file.metadata()?.len();
        file.set_len(len - len % 16)?;
        file.write_all(
            new.iter()
                .map(|key| key.0)
                .collect::<Vec<_>>()
                .as_flattened(),
        )?;
        if self.synced {
            file.sync_data()?;
        }
        Ok(())
    }

    /// No damaged index can bring anything back.
    pub(crate) fn end(folder: &Path) -> io::Result<()> {
        match fs::remove_file(folder.join(NAME)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_behind_a_torn_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Forgotten::open(folder.path(), false, &Disk::default()).expect("opens");
        let [a, b] = [KeyHash([1; 16]), KeyHash([2; 16])];
        open().note([a]).expect("noted");
        let path = folder.path().join(NAME);
        let mut torn = fs::read(&path).expect("there");
        torn.extend([9; 5]);
        fs::write(&path, torn).expect("written");
        open().note([b, a]).expect("noted");
        assert!(open().has(&a) && open().has(&b) && open().keys.len() == 2);
        Forgotten::end(folder.path()).expect("ends");
        assert!(!open().has(&a));
    }
}
