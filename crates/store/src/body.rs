//! A body's file, from the first byte of its fill to the last reader that lets it go.
//!
//! One handle lives through all of it: as a part file it holds the fill's reservation, once in
//! place its blocks count as the blob's, and when the blob leaves while somebody still reads, the
//! blocks go on to count until the last reader drops it. So nothing in use is cut off, and
//! nothing that still occupies the disk is forgotten.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::disk::Disk;
use crate::lock;
use crate::room::{Reservation, Space};

/// Bytes read at once.
pub(crate) const PIECE: usize = 256 << 10;

/// What the file's blocks count as.
#[derive(Debug)]
enum Claim {
    /// A fill's reservation; the path is the part file's.
    Part(Reservation, PathBuf),
    /// The same of an object drawn in parts, whose file outlives its handles.
    Kept(Reservation, PathBuf),
    /// The blob's, in the index.
    Stored,
    /// Nothing else's: the blob has left.
    Lingering(Arc<Space>, u64),
}

/// An open body, or one that is about to be opened.
#[derive(Debug)]
pub(crate) struct BodyFile {
    file: OnceLock<File>,
    disk: Disk,
    claim: Mutex<Claim>,
}

impl BodyFile {
    /// Stands for a stored blob before it is opened, so that eviction leaves it alone.
    pub(crate) fn pinned(disk: &Disk) -> Self {
        Self {
            file: OnceLock::new(),
            disk: disk.clone(),
            claim: Mutex::new(Claim::Stored),
        }
    }

    /// Makes a part file.
    pub(crate) fn create(disk: &Disk, path: PathBuf, reservation: Reservation) -> io::Result<Self> {
        disk.pass()?;
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .mode(0o640)
            .open(&path)?;
        Ok(Self {
            file: OnceLock::from(file),
            disk: disk.clone(),
            claim: Mutex::new(Claim::Part(reservation, path)),
        })
    }

    /// Opens the file of an object drawn in parts, of this or an earlier run; a new one is given
    /// its whole length, and blocks as they are written.
    pub(crate) fn kept(
        disk: &Disk,
        path: PathBuf,
        length: u64,
        reservation: Reservation,
    ) -> io::Result<Self> {
        disk.pass()?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o640)
            .open(&path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
        }
        Ok(Self {
            file: OnceLock::from(file),
            disk: disk.clone(),
            claim: Mutex::new(Claim::Kept(reservation, path)),
        })
    }

    /// The file of an object drawn in parts is to leave with its last handle.
    pub(crate) fn let_go(&self) {
        let mut claim = lock(&self.claim);
        let mut left = None;
        *claim = match std::mem::replace(&mut *claim, Claim::Stored) {
            Claim::Kept(reservation, path) => {
                left = Some(path.clone());
                Claim::Part(reservation, path)
            }
            other => other,
        };
        // Others want the claim while they hold the state.
        drop(claim);
        if let Some(path) = left {
            remove_quietly(&path);
        }
    }

    /// A part file's reservation, bytes.
    pub(crate) fn room(&self) -> u64 {
        match &*lock(&self.claim) {
            Claim::Part(reservation, _) | Claim::Kept(reservation, _) => reservation.bytes(),
            Claim::Stored | Claim::Lingering(..) => u64::MAX,
        }
    }

    /// Sets a part file's reservation.
    pub(crate) fn set_room(&self, bytes: u64) {
        if let Claim::Part(reservation, _) | Claim::Kept(reservation, _) = &mut *lock(&self.claim) {
            reservation.set(bytes);
        }
    }

    /// Opens the blob's file if that has not been done.
    pub(crate) fn open(&self, root: &Path, digest: &Digest) -> io::Result<&File> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        self.disk.pass()?;
        let file = open_regular(&root.join(digest.content_path()))?;
        // Two may have opened it at once; the second's handle is simply closed.
        Ok(self.file.get_or_init(|| file))
    }

    /// The open file, to read or write once; an error if it never was opened.
    pub(crate) fn file(&self) -> io::Result<&File> {
        self.disk.pass()?;
        self.file
            .get()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Where the part file lies, while it is one.
    pub(crate) fn part_path(&self) -> Option<PathBuf> {
        match &*lock(&self.claim) {
            Claim::Part(_, path) | Claim::Kept(_, path) => Some(path.clone()),
            Claim::Stored | Claim::Lingering(..) => None,
        }
    }

    /// Grows the reservation of a part file.
    pub(crate) fn grow(&self, bytes: u64) {
        if let Claim::Part(reservation, _) | Claim::Kept(reservation, _) = &mut *lock(&self.claim) {
            reservation.grow(bytes);
        }
    }

    /// The file is in place and counts as the blob's; its reservation ends.
    pub(crate) fn stored(&self) {
        *lock(&self.claim) = Claim::Stored;
    }

    /// The blob has left the index; its blocks count until this handle is dropped.
    pub(crate) fn linger(&self, space: &Arc<Space>, bytes: u64) {
        space.linger(bytes);
        *lock(&self.claim) = Claim::Lingering(Arc::clone(space), bytes);
    }

    /// Removes the part file's name; its blocks are free when the last reader is gone.
    pub(crate) fn abandon(&self) {
        if let Some(path) = self.part_path() {
            remove_quietly(&path);
        }
    }
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        // The blocks are free once the file is closed: close it before they stop counting.
        drop(self.file.take());
        match &*lock(&self.claim) {
            Claim::Part(_, path) => remove_quietly(path),
            Claim::Kept(..) | Claim::Stored => {}
            Claim::Lingering(space, bytes) => space.ended(*bytes),
        }
    }
}

/// Removes a file that may be gone already.
fn remove_quietly(path: &Path) {
    if let Err(e) = fs::remove_file(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), error = %e, "a part file cannot be removed");
    }
}

/// How often the folders of a body are made again when the last other body in them takes them
/// along.
pub(crate) const FOLDER_TRIES: u32 = 16;

/// Puts a finished part file (or any file on the same file system) in place. `made` grows by the
/// folders made for it, also where it fails.
pub(crate) fn place(
    disk: &Disk,
    part: &Path,
    root: &Path,
    digest: &Digest,
    made: &mut u64,
) -> io::Result<()> {
    disk.pass()?;
    let target = root.join(digest.content_path());
    let folder = target.parent().unwrap_or(root);
    let mut tries = 0;
    loop {
        let step = match fs::rename(part, &target) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound && tries < FOLDER_TRIES => {
                make_folders(folder, made).and_then(|()| disk.pass())
            }
            Err(e) => Err(e),
        };
        tries += 1;
        match step {
            Err(e) if e.kind() != io::ErrorKind::NotFound || tries >= FOLDER_TRIES => {
                return Err(e);
            }
            // Made, or taken away again by the removal of a neighbour.
            _ => {}
        }
    }
}

/// Removes a body, and its folder with it if that was the last one there. Returns how many folders
/// went.
pub(crate) fn remove(root: &Path, digest: &Digest) -> io::Result<u64> {
    let path = root.join(digest.content_path());
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(path.parent().map_or(0, remove_folder)),
    }
}

/// Removes a folder of bodies if it is empty. Of those above it there are few: they stay.
pub(crate) fn remove_folder(folder: &Path) -> u64 {
    u64::from(fs::remove_dir(folder).is_ok())
}

/// Makes the two folders above a body; counts those that were new.
pub(crate) fn make_folders(folder: &Path, made: &mut u64) -> io::Result<()> {
    let mut make = |path: &Path| match fs::create_dir(path) {
        Ok(()) => {
            *made += 1;
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    };
    match make(folder) {
        // Of the upper ones there are few: mostly they are there.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            make(folder.parent().unwrap_or(folder))?;
            make(folder)
        }
        made => made,
    }
}

/// Makes body and name survive a power loss.
pub(crate) fn sync_in_place(
    disk: &Disk,
    file: &File,
    root: &Path,
    digest: &Digest,
) -> io::Result<()> {
    file.sync_data()?;
    let target = root.join(digest.content_path());
    let mut folder = target.parent();
    // The body's folder and the two above it, which may be new.
    for _ in 0..3 {
        let Some(path) = folder else { break };
        File::open(path)?.sync_all()?;
        folder = path.parent();
    }
    disk.note_body_sync(digest)
}

/// Opens a body to read. A pipe or a folder in its place is no body: nobody waits for a writer.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Hashes a file of exactly `len` bytes; `None` if it has another length or digest.
pub(crate) fn hash_agrees(file: &File, len: u64, digest: &Digest) -> io::Result<bool> {
    if file.metadata()?.len() != len {
        return Ok(false);
    }
    match hash_from(file, Sha256::new(), 0, len) {
        Ok(found) => Ok(found == *digest),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The digest of a file's first `len` bytes, of which `hasher` knows those before `at`.
pub(crate) fn hash_from(
    file: &File,
    mut hasher: Sha256,
    mut at: u64,
    len: u64,
) -> io::Result<Digest> {
    let left = usize::try_from(len - at).unwrap_or(PIECE);
    let mut buffer = vec![0; PIECE.min(left).max(1)];
    while at < len {
        let most = usize::try_from(len - at).map_or(PIECE, |left| left.min(buffer.len()));
        match file.read_at(buffer.get_mut(..most).unwrap_or_default(), at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                at += read as u64;
            }
        }
    }
    Ok(Digest(hasher.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_part_file_leaves_neither_a_name_nor_a_reservation() {
        let folder = tempfile::tempdir().expect("a folder");
        let space = Arc::new(Space::default());
        let path = folder.path().join("part");
        let part = BodyFile::create(
            &Disk::default(),
            path.clone(),
            Reservation::take(&space, 50),
        )
        .expect("made");
        assert!(path.exists() && space.reserved() == 50);
        drop(part);
        assert!(!path.exists() && space.reserved() == 0);
    }

    #[test]
    fn a_blob_that_left_counts_until_its_last_reader_is_gone() {
        let space = Arc::new(Space::default());
        let file = Arc::new(BodyFile::pinned(&Disk::default()));
        let reader = Arc::clone(&file);
        file.linger(&space, 70);
        drop(file);
        assert_eq!(space.lingering(), 70);
        drop(reader);
        assert_eq!(space.lingering(), 0);
    }

    #[test]
    fn a_body_put_in_place_has_cacaches_path_and_hashes_right_until_a_bit_flips() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("content-v2/sha256")).expect("made");
        let part = folder.path().join("part");
        fs::write(&part, b"body").expect("written");
        let digest = Digest::of(b"body");
        let mut made = 0;
        place(&Disk::default(), &part, folder.path(), &digest, &mut made).expect("placed");
        assert_eq!(made, 2);
        let path = folder.path().join(digest.content_path());
        assert!(hash_agrees(&File::open(&path).expect("there"), 4, &digest).expect("read"));
        fs::write(&path, b"bodz").expect("written");
        assert!(!hash_agrees(&File::open(&path).expect("there"), 4, &digest).expect("read"));
    }
}
