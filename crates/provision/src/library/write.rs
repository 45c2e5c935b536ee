//! Writing and removing files of the data directory, whole or not at all, and for good.
//!
//! A new text goes to a file of its own beside the target and is renamed over it, so that a reader sees
//! the old one or the new, never half of it. It is on the disk before it has its name, and the name
//! before the answer: what terraform was told is stored outlives a power cut.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::FILE_BYTES_MAX;
use crate::error::Error;

/// A folder may be removed, as empty, between being made and being used.
const TRIES: usize = 8;

/// Replaces a file in one step, mode 0644; the folders between it and `root` are made, mode 0755.
pub(super) fn whole(path: &Path, bytes: &[u8], root: &Path) -> Result<(), Error> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::PutTooLarge {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
        });
    }
    let mut tries = 1..=TRIES;
    loop {
        let written = replace(path, bytes, root);
        let was_removed = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match written {
            Err(error) if was_removed(&error) && tries.next().is_some() => {}
            written => return written.map_err(|error| Error::Write(path.to_owned(), error)),
        }
    }
}

fn replace(path: &Path, bytes: &[u8], root: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(root);
    make(directory, root)?;
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync(directory)
}

/// Makes what is missing of a directory, each part known to the disk.
fn make(directory: &Path, root: &Path) -> io::Result<()> {
    if directory == root || directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(root);
    make(parent, root)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync(parent),
    }
}

/// Removes a file, if it is there, and the folders beneath `root`'s directories that it leaves empty.
pub(super) fn remove(path: &Path, root: &Path) -> Result<(), Error> {
    let failed = |error| Error::Write(path.to_owned(), error);
    match fs::remove_file(path) {
        // Beneath a file there is nothing either.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(());
        }
        removed => removed.map_err(failed)?,
    }
    let mut folder = path.parent().unwrap_or(root);
    // The directory of all files of a kind stays.
    while let Some(above) = folder.parent().filter(|above| *above != root) {
        // It is not empty, mostly.
        if fs::remove_dir(folder).is_err() {
            break;
        }
        folder = above;
    }
    sync(folder).map_err(failed)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lie_beneath_a_file_is_gone_already() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a.json");
        fs::write(&file, "{}").unwrap();
        remove(&file.join("x"), root.path()).unwrap();
        assert!(file.exists());
    }
}
