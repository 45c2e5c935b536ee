//! Which folders of bodies are known to be there: most bodies of a young cache need a new one, and
//! to find that out by a failed call costs as much as to make it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::body::{self, FOLDER_TRIES};
use crate::digest::Digest;
use crate::disk::Disk;

/// A bit for each of the 65,536 folders. Only a hint: others may remove a folder at any time.
#[derive(Debug)]
pub(crate) struct Folders(Vec<AtomicU64>);

impl Default for Folders {
    fn default() -> Self {
        Self((0..1024).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Folders {
    fn bit(number: u16) -> (usize, u64) {
        (usize::from(number / 64), 1 << (number % 64))
    }

    fn is_known(&self, number: u16) -> bool {
        let (at, bit) = Self::bit(number);
        let word = self.0.get(at);
        word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn know(&self, number: u16, is_there: bool) {
        let (at, bit) = Self::bit(number);
        if let Some(word) = self.0.get(at) {
            if is_there {
                word.fetch_or(bit, Ordering::Relaxed);
            } else {
                word.fetch_and(!bit, Ordering::Relaxed);
            }
        }
    }

    /// Makes a body's file in its place, and the folders above it; counts those that were new.
    /// What lies there without a name makes way; whoever has it open goes on with what it was.
    /// `made` grows also where it fails.
    pub(crate) fn create(
        &self,
        disk: &Disk,
        root: &Path,
        digest: &Digest,
        made: &mut u64,
    ) -> io::Result<File> {
        disk.pass()?;
        let (path, number) = (root.join(digest.content_path()), digest.folder_number());
        let mut tries = 0;
        loop {
            if !self.is_known(number) {
                body::make_folders(&root.join(digest.content_folder()), made)?;
                self.know(number, true);
                disk.pass()?;
            }
            let mut how = OpenOptions::new();
            let opened = how.create_new(true).write(true).mode(0o640).open(&path);
            tries += 1;
            match opened {
                Err(e) if e.kind() == ErrorKind::NotFound && tries < FOLDER_TRIES => {
                    self.know(number, false);
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists && tries < FOLDER_TRIES => {
                    fs::remove_file(&path)?;
                }
                opened => return opened,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_body_is_made_in_place_whatever_happened_to_its_folder_and_leaves_readers_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::create_dir_all(root.join("content-v2/sha256")).expect("made");
        let (folders, digest) = (Folders::default(), Digest::of(b"body"));
        let path = root.join(digest.content_path());
        let disk = Disk::default();
        let create = |made: &mut u64| folders.create(&disk, root, &digest, made);
        let mut made = 0;
        let mut file = create(&mut made).expect("made");
        file.write_all(b"body").expect("written");
        assert_eq!(made, 2);
        let reader = File::open(&path).expect("there");
        create(&mut made).expect("made again");
        assert_eq!(
            reader.metadata().expect("open").len(),
            4,
            "cut under a reader"
        );
        assert_eq!(body::remove(root, &digest).expect("removed"), 1);
        create(&mut made).expect("made in a new folder");
        assert_eq!(made, 3);
        assert!(path.exists());
    }
}
