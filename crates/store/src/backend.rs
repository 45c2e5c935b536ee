//! The index file's bytes: redb's storage, behind the same gates as every other file.
//!
//! redb's own locks are not needed: the cache directory's lock says who may open the index. Where
//! nothing may be changed, what redb writes at its opening is kept in memory above the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use redb::StorageBackend;

use crate::disk::Disk;
use crate::lock;

/// Bytes of the file that are replaced together in memory.
const PAGE: u64 = 4096;

/// The open index file.
#[derive(Debug)]
pub(crate) struct Backend {
    file: File,
    disk: Disk,
    /// What would have been written, where nothing may be.
    above: Option<Mutex<Above>>,
}

/// Changes that are only in memory.
#[derive(Debug)]
struct Above {
    len: u64,
    pages: HashMap<u64, Vec<u8>>,
}

impl Backend {
    /// Opens the file, making it if it is not there.
    pub(crate) fn open(path: &Path, disk: &Disk) -> io::Result<Self> {
        disk.pass()?;
        let frozen = disk.is_frozen();
        let file = OpenOptions::new()
            .read(true)
            .write(!frozen)
            .create(!frozen)
            .truncate(false)
            .open(path)?;
        let len = file.metadata()?.len();
        let pages = HashMap::new();
        Ok(Self {
            file,
            disk: disk.clone(),
            above: frozen.then(|| Mutex::new(Above { len, pages })),
        })
    }

    /// A page as it is in the file; beyond its end there are zeros.
    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        let mut read = 0;
        while let Some(rest) = page.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, number * PAGE + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(page)
    }

    /// Goes over a range page by page: the page's number, the range within it, and within the whole.
    fn each(
        offset: u64,
        len: usize,
        mut each: impl FnMut(u64, Range<usize>, Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let most = (PAGE as usize - within).min(len - done);
            each(at / PAGE, within..within + most, done..done + most)?;
            done += most;
        }
        Ok(())
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match &self.above {
            Some(above) => Ok(lock(above).len),
            None => self.file.metadata().map(|data| data.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(above) = &self.above else {
            return self.file.read_exact_at(out, offset);
        };
        let above = lock(above);
        if offset + out.len() as u64 > above.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::each(offset, out.len(), |number, within, of| {
            let target = out.get_mut(of).unwrap_or_default();
            if let Some(page) = above.pages.get(&number) {
                target.copy_from_slice(page.get(within).unwrap_or_default());
            } else {
                let page = self.page(number)?;
                target.copy_from_slice(page.get(within).unwrap_or_default());
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(above) = &self.above {
            lock(above).len = len;
            return Ok(());
        }
        self.disk.pass()?;
        self.disk.note_length(&self.file, len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.above.is_some() {
            return Ok(());
        }
        self.disk.pass()?;
        self.file.sync_data()?;
        self.disk.note_sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(above) = &self.above {
            let mut above = lock(above);
            return Self::each(offset, data.len(), |number, within, of| {
                let page = match above.pages.entry(number) {
                    Entry::Occupied(page) => page.into_mut(),
                    Entry::Vacant(free) => free.insert(self.page(number)?),
                };
                let target = page.get_mut(within).unwrap_or_default();
                target.copy_from_slice(data.get(of).unwrap_or_default());
                Ok(())
            });
        }
        self.disk.pass()?;
        self.disk.note_write(&self.file, offset, data)?;
        self.file.write_all_at(data, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_above_a_file_is_read_back_and_the_file_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("index.redb");
        let old: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        std::fs::write(&path, &old).expect("written");
        let backend = Backend::open(&path, &Disk::frozen()).expect("opens");
        backend.write(4_000, &[0xee; 5_000]).expect("kept");
        backend.set_len(20_000).expect("kept");
        backend.write(19_990, b"0123456789").expect("kept");
        let mut read = vec![0; 20_000];
        backend.read(0, &mut read).expect("read");
        let mut wanted = old.clone();
        wanted.resize(20_000, 0);
        wanted[4_000..9_000].fill(0xee);
        wanted[19_990..].copy_from_slice(b"0123456789");
        assert!(read == wanted);
        assert!(backend.read(19_999, &mut [0; 2]).is_err());
        assert!(std::fs::read(&path).expect("there") == old);
    }
}
