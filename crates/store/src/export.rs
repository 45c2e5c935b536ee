//! Writes a complete cacache cache: its content, and the index entries that the store itself does
//! without.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cacache::WriteOpts;
use serde_json::Value;

use crate::digest::Digest;

/// A cacache cache that is being written.
#[derive(Debug)]
pub struct Cacache {
    folder: PathBuf,
}

/// What cacache notes of one object.
#[derive(Clone, Debug)]
pub struct Noted<'a> {
    /// The key under which it is found.
    pub key: &'a str,
    /// The body's digest.
    pub digest: Digest,
    /// Bytes of the body.
    pub len: u64,
    /// Unix seconds of its arrival.
    pub time: u64,
    /// More, for whoever reads it.
    pub metadata: Value,
}

impl Cacache {
    /// Writes into a folder, making it if it is not there.
    pub fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// True if the folder has a body with this digest.
    pub fn has(&self, digest: &Digest) -> bool {
        self.folder.join(digest.content_path()).exists()
    }

    /// Moves a file whose digest has been compared into place.
    pub fn place(&self, file: &Path, digest: &Digest) -> io::Result<()> {
        let target = self.folder.join(digest.content_path());
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(file, target)
    }

    /// Lets a key name a body that is in place.
    pub fn name(&self, noted: &Noted<'_>) -> io::Result<()> {
        let integrity =
            cacache::Integrity::from_hex(noted.digest.to_string(), cacache::Algorithm::Sha256);
        let integrity = integrity.map_err(io::Error::other)?;
        let options = WriteOpts::new()
            .algorithm(cacache::Algorithm::Sha256)
            .integrity(integrity)
            .size(usize::try_from(noted.len).unwrap_or(usize::MAX))
            .time(u128::from(noted.time) * 1000)
            .metadata(noted.metadata.clone());
        cacache::index::insert(&self.folder, noted.key, options)
            .map(drop)
            .map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_cacache_crate_lists_reads_and_verifies_what_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("cache");
        let cache = Cacache::create(&target).expect("made");
        let file = folder.path().join("body");
        fs::write(&file, b"body").expect("written");
        let digest = Digest::of(b"body");
        cache.place(&file, &digest).expect("placed");
        for key in ["url:http://a/b", "id:http://c/d"] {
            let noted = Noted {
                key,
                digest,
                len: 4,
                time: 1_700_000_000,
                metadata: serde_json::json!({"url": "http://a/b"}),
            };
            cache.name(&noted).expect("named");
        }
        let mut keys: Vec<String> = cacache::list_sync(&target)
            .map(|entry| entry.expect("readable").key)
            .collect();
        keys.sort();
        assert_eq!(keys, ["id:http://c/d", "url:http://a/b"]);
        assert_eq!(
            cacache::read_sync(&target, "id:http://c/d").expect("whole"),
            b"body"
        );
        let entry = cacache::metadata_sync(&target, "url:http://a/b").expect("read");
        let entry = entry.expect("there");
        assert_eq!(
            (entry.size, entry.metadata["url"].as_str()),
            (4, Some("http://a/b"))
        );
        let path = target.join(digest.content_path());
        fs::write(path, b"bodz").expect("written");
        assert!(cacache::read_sync(&target, "id:http://c/d").is_err());
    }
}
