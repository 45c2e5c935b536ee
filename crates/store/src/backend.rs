//! The index file's bytes: redb's storage, behind the same gates as every other file.
//!
//! redb's own locks are not needed: the cache directory's lock says who may open the index.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use redb::StorageBackend;

use crate::disk::Disk;

/// The open index file.
#[derive(Debug)]
pub(crate) struct Backend {
    file: File,
    disk: Disk,
}

impl Backend {
    /// Opens the file, making it if it is not there.
    pub(crate) fn open(path: &Path, disk: &Disk) -> io::Result<Self> {
        disk.pass()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            file,
            disk: disk.clone(),
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.pass()?;
        self.disk.note_length(&self.file, len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.pass()?;
        self.file.sync_data()?;
        self.disk.note_sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.pass()?;
        self.disk.note_write(&self.file, offset, data)?;
        self.file.write_all_at(data, offset)
    }
}
