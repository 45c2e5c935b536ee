//! The cache directory: what lies where, who holds it, how large it may become.
//!
//! ```text
//! DIRECTORY/          or DIRECTORY/larder/ beside another cache's files, which are never touched
//!   VERSION           "larder cache 1"
//!   lock              held while a process has the store open; says which run wrote the index file
//!   content-v2/…      bodies, cacache's content layout
//!   parts/            fills in flight
//!   partials/         objects of which parts are held, and what of them
//!   journal/          changes that the index file does not have yet; `forgotten`: keys that no salvage brings back
//!   index.redb        names, heads, heat
//!   verify.at         where an interrupted audit goes on
//!   verify.lost       what audits have dropped, until it has been repaired
//!   scrub.at          where the background walk goes on
//!   index.damaged     one that did not open, while it is being salvaged
//!   index.hopeless    one of which nothing could be had
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::room::BLOCK;

/// The layout that this version writes.
const FORMAT: u32 = 1;
/// What a file system needs for itself beyond what it reports as free.
const MARGIN_PERCENT: u64 = 2;

/// The folder that is ours, locked.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// Open for as long as the lock is to be held.
    lock: Option<File>,
}

impl Layout {
    /// Takes the directory: makes the folders, the lock and the format mark. One that holds
    /// anything else is somebody else's, and not touched.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let not_writable = |source| OpenError::NotWritable {
            path: directory.to_owned(),
            source,
        };
        let root = root_of(directory);
        if !is_ours(&root)?
            && let Some(other) = others_file(&root).map_err(not_writable)?
        {
            let why =
                format!("{other} is in it: name an empty folder, or one that is not there yet");
            return Err(OpenError::Foreign { path: root, why });
        }
        fs::create_dir_all(&root).map_err(not_writable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(root.join("lock"))
            .map_err(not_writable)?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => OpenError::Held { path: root.clone() },
            TryLockError::Error(source) => not_writable(source),
        })?;
        check_version(&root)?;
        let layout = Self {
            root,
            lock: Some(lock),
        };
        for folder in [
            layout.content(),
            layout.parts(),
            layout.partials(),
            layout.journal(),
        ] {
            fs::create_dir_all(&folder).map_err(not_writable)?;
        }
        Ok(layout)
    }

    /// Sees to it that the directory is a cache already.
    pub(crate) fn expect(directory: &Path) -> Result<(), OpenError> {
        let root = root_of(directory);
        if is_ours(&root)? {
            return Ok(());
        }
        let why = "nothing has been kept in it".to_owned();
        Err(OpenError::Foreign { path: root, why })
    }

    /// Looks at a directory that somebody has laid out; nothing is made. Several may look at once,
    /// while nobody writes.
    pub(crate) fn look(directory: &Path) -> Result<Self, OpenError> {
        let root = root_of(directory);
        Self::expect(directory)?;
        let lock = File::open(root.join("lock")).ok();
        let taken = lock.as_ref().map(File::try_lock_shared);
        match taken {
            Some(Err(TryLockError::WouldBlock)) => Err(OpenError::Held { path: root }),
            // A file system without locks: nobody can have it either.
            _ => Ok(Self { root, lock }),
        }
    }

    /// Stands for a directory that cannot be had.
    pub(crate) fn nowhere(directory: &Path) -> Self {
        Self {
            root: directory.to_owned(),
            lock: None,
        }
    }

    /// True unless the directory has been pulled away: its lock is the one that is held.
    pub(crate) fn is_in_place(&self) -> bool {
        let Some(held) = self.lock.as_ref().and_then(|lock| lock.metadata().ok()) else {
            return true;
        };
        let there = fs::metadata(self.root.join("lock"));
        there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino()))
    }

    /// The run that has last had the index file; 0 where nobody has said.
    pub(crate) fn run(&self) -> u64 {
        let mut text = [0; 16];
        let lock = self.lock.as_ref();
        let read = lock.map(|lock| lock.read_exact_at(&mut text, 0));
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let number = u64::from_str_radix(text, 16).unwrap_or(0);
        if matches!(read, Some(Ok(()))) {
            number
        } else {
            0
        }
    }

    /// Says which run has the index file.
    pub(crate) fn set_run(&self, run: u64) -> io::Result<()> {
        let text = format!("{run:016x}\n");
        self.lock
            .as_ref()
            .map_or(Ok(()), |lock| lock.write_all_at(text.as_bytes(), 0))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn content(&self) -> PathBuf {
        self.root.join("content-v2").join("sha256")
    }

    pub(crate) fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partials")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    /// Where an index file lies that did not open, until what can be had of it has been had.
    pub(crate) fn damaged_index(&self) -> PathBuf {
        self.root.join("index.damaged")
    }

    /// Where an audit that was interrupted has come to.
    pub(crate) fn audit(&self) -> PathBuf {
        self.root.join("verify.at")
    }

    /// What audits have dropped and nobody has tried to repair yet.
    pub(crate) fn lost(&self) -> PathBuf {
        self.root.join("verify.lost")
    }

    /// Removes what fills of an earlier run have left. What cannot be removed is told, and stays.
    pub(crate) fn clean_parts(&self, refused: impl Fn(&io::Error)) -> io::Result<()> {
        for entry in fs::read_dir(self.parts())? {
            if let Err(e) = fs::remove_file(entry?.path()) {
                refused(&e);
            }
        }
        Ok(())
    }

    /// Makes the folders survive a power loss; those of bodies are synced with each body.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let content = self.content();
        for folder in content.ancestors() {
            File::open(folder)?.sync_all()?;
            if folder == self.root {
                break;
            }
        }
        // Whoever made the folder that it lies in may not let us read that.
        let around = self.root.canonicalize()?.parent().map(File::open);
        if let Some(Ok(around)) = around {
            around.sync_all().or_else(|e| match e.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied => Ok(()),
                _ => Err(e),
            })?;
        }
        Ok(())
    }

    /// Where an index file is put of which nothing can be had.
    pub(crate) fn hopeless_index(&self) -> PathBuf {
        self.root.join("index.hopeless")
    }

    /// Allocated bytes of the bodies in place; `None`: `goes_on` has become false before the end.
    pub(crate) fn content_bytes(&self, goes_on: impl Fn() -> bool) -> Option<u64> {
        let mut bytes = 0;
        for first in subfolders(&self.content()) {
            for second in subfolders(&first) {
                if !goes_on() {
                    return None;
                }
                bytes += within(&second);
            }
        }
        Some(bytes)
    }

    /// Allocated bytes of index and journal.
    pub(crate) fn index_bytes(&self) -> u64 {
        allocated(&self.index()) + allocated(&self.damaged_index()) + within(&self.journal())
    }

    /// Allocated bytes of the fills in flight and of the objects held in parts.
    pub(crate) fn parts_bytes(&self) -> u64 {
        within(&self.parts()) + within(&self.partials())
    }
}

/// True on a file system that is memory itself (tmpfs, ramfs).
pub(crate) fn is_in_memory(path: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(path).map(|about| u64::try_from(about.f_type));
    matches!(kind, Ok(Ok(TMPFS | RAMFS)))
}

/// What is in a folder of folders.
pub(crate) fn subfolders(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Allocated bytes of the files in a folder.
fn within(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| allocated(&entry.path())).sum()
}

/// Allocated bytes of a file; 0 if it is not there.
pub(crate) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.blocks() * 512)
}

/// The folder that is to be larder's own.
fn root_of(directory: &Path) -> PathBuf {
    if is_foreign(directory) {
        directory.join("larder")
    } else {
        directory.to_owned()
    }
}

/// True if larder has laid this folder out: its format mark says so, or, where that has been lost,
/// the index beside it.
fn is_ours(root: &Path) -> Result<bool, OpenError> {
    if fs::metadata(root).is_ok_and(|data| !data.is_dir()) {
        let (path, why) = (root.to_owned(), "it is a file".to_owned());
        return Err(OpenError::Foreign { path, why });
    }
    let marked = match read_version(root) {
        Err(OpenError::File { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            false
        }
        read => read?,
    };
    let has = |name: &str| root.join(name).is_file();
    Ok(marked || (has("lock") && (has("index.redb") || has("index.damaged"))))
}

/// A name in the folder that neither larder's first start nor a file system leaves there.
fn others_file(root: &Path) -> io::Result<Option<String>> {
    const NOTHING: [&str; 4] = ["lost+found", "lock", "VERSION", "VERSION.new"];
    const FOLDERS: [&str; 4] = ["content-v2", "parts", "partials", "journal"];
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_nothing = name.starts_with('.')
            || NOTHING.contains(&name.as_str())
            || (FOLDERS.contains(&name.as_str()) && is_empty(&root.join(&name)));
        // Somebody who starts at the same time may have marked the folder meanwhile.
        if !is_nothing && !is_ours(root).unwrap_or(false) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// True for a folder without anything but an empty folder for bodies.
fn is_empty(folder: &Path) -> bool {
    let inside = |folder: &Path| -> Option<Vec<_>> {
        fs::read_dir(folder).ok()?.collect::<io::Result<_>>().ok()
    };
    let is_bare = |entry: &fs::DirEntry| {
        entry.file_name() == "sha256" && inside(&entry.path()).is_some_and(|all| all.is_empty())
    };
    inside(folder).is_some_and(|all| all.iter().all(is_bare))
}

/// True if another cache's files lie here: Squid's spool has `00` … and `swap.state`.
fn is_foreign(directory: &Path) -> bool {
    ["swap.state", "00", "rock"]
        .iter()
        .any(|name| directory.join(name).exists())
}

/// Sees whether the directory is laid out as this version does it; an empty one is marked.
fn check_version(root: &Path) -> Result<(), OpenError> {
    match read_version(root) {
        // A power loss can leave a new file without its bytes: nothing newer is meant by it.
        Ok(false) => write_version(root, &root.join("VERSION")),
        Ok(true) => Ok(()),
        Err(OpenError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            write_version(root, &root.join("VERSION"))
        }
        Err(e) => Err(e),
    }
}

/// False: the mark has no bytes.
fn read_version(root: &Path) -> Result<bool, OpenError> {
    let path = root.join("VERSION");
    let text = fs::read(&path).map_err(|source| OpenError::File {
        step: "read",
        path,
        source,
    })?;
    let text = String::from_utf8_lossy(&text);
    if text.trim_matches(['\0', '\n']).is_empty() {
        return Ok(false);
    }
    let number = text.trim().strip_prefix("larder cache ");
    let found: String = text.trim().chars().take(60).collect();
    match number.and_then(|number| number.parse::<u32>().ok()) {
        Some(number) if number <= FORMAT => Ok(true),
        Some(_) => Err(OpenError::Newer {
            path: root.to_owned(),
            found,
            known: FORMAT,
        }),
        None => Err(OpenError::Foreign {
            path: root.to_owned(),
            why: format!(
                "its VERSION says {found:?}: name another folder; where it is one, remove that file"
            ),
        }),
    }
}

/// Writes the format mark beside its place and then puts it there: it is whole or absent.
fn write_version(root: &Path, path: &Path) -> Result<(), OpenError> {
    let new = root.join("VERSION.new");
    let write = || {
        let mut file = File::create(&new)?;
        writeln!(file, "larder cache {FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| OpenError::File {
        step: "write",
        path: path.to_owned(),
        source,
    })
}

/// What the file system below the cache directory is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSystem {
    /// Bytes that could be had if the cache held nothing.
    pub(crate) bytes_max: u64,
    /// Files likewise; `u64::MAX` where there is no limit.
    pub(crate) files_max: u64,
    /// What one folder occupies.
    pub(crate) folder_bytes: u64,
}

impl FileSystem {
    /// Asks, given what the cache holds already.
    pub(crate) fn of(root: &Path, bytes_held: u64, files_held: u64) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(root)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let margin =
            (stat.f_blocks.saturating_mul(stat.f_frsize) / 100 * MARGIN_PERCENT).max(BLOCK);
        let files_max = if stat.f_files == 0 {
            u64::MAX
        } else {
            let margin = (stat.f_files / 100).max(8);
            stat.f_favail
                .saturating_sub(margin)
                .saturating_add(files_held)
        };
        Ok(Self {
            bytes_max: free.saturating_sub(margin).saturating_add(bytes_held),
            files_max,
            folder_bytes: fs::metadata(root)?.blocks() * 512,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_and_free_again_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let held = Layout::take(folder.path()).expect("free");
        assert!(matches!(
            Layout::take(folder.path()),
            Err(OpenError::Held { .. })
        ));
        drop(held);
        assert!(Layout::take(folder.path()).is_ok());
    }

    #[test]
    fn beside_a_squid_spool_larder_keeps_to_its_own_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("00")).expect("made");
        fs::write(folder.path().join("swap.state"), b"squid").expect("written");
        let layout = Layout::take(folder.path()).expect("free");
        assert_eq!(layout.root(), folder.path().join("larder"));
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("readable")
            .map(|entry| entry.expect("readable").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["00", "larder", "swap.state"]);
        assert_eq!(
            fs::read(folder.path().join("swap.state")).expect("there"),
            b"squid"
        );
    }

    #[test]
    fn a_newer_format_is_named_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("VERSION"), "larder cache 99\n").expect("written");
        let error = Layout::take(folder.path()).expect_err("newer");
        assert!(error.to_string().contains("larder cache 99"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_folder_with_anybody_elses_files_is_refused_and_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || -> Vec<_> {
            let entries = fs::read_dir(folder.path()).expect("readable");
            entries
                .map(|entry| entry.expect("readable").file_name())
                .collect()
        };
        fs::create_dir(folder.path().join("parts")).expect("made");
        fs::write(folder.path().join("parts/gear.stl"), b"precious").expect("written");
        for version in [None, Some(""), Some("1.2.3\n")] {
            if let Some(version) = version {
                fs::write(folder.path().join("VERSION"), version).expect("written");
            }
            let before = names();
            for refused in [
                Layout::take(folder.path()),
                Layout::look(folder.path()),
                Layout::expect(folder.path()).and_then(|()| Layout::take(folder.path())),
            ] {
                assert!(
                    matches!(refused, Err(OpenError::Foreign { .. })),
                    "{refused:?}"
                );
            }
            assert_eq!(names(), before);
        }
        let kept = fs::read(folder.path().join("parts/gear.stl"));
        assert_eq!(kept.expect("there"), b"precious");
    }

    #[test]
    fn what_a_file_system_or_a_first_start_leaves_is_nobodys() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("lost+found")).expect("made");
        for name in [".hidden", "lock", "VERSION.new"] {
            fs::write(folder.path().join(name), b"").expect("written");
        }
        let looked = Layout::look(folder.path()).map(drop);
        assert!(
            matches!(looked, Err(OpenError::Foreign { .. })),
            "{looked:?}"
        );
        drop(Layout::take(folder.path()).expect("usable"));
        fs::write(folder.path().join("index.redb"), b"").expect("written");
        fs::remove_file(folder.path().join("VERSION")).expect("removed");
        assert!(
            Layout::take(folder.path()).is_ok(),
            "its mark is lost, and nothing else"
        );
    }

    #[test]
    fn a_directory_that_is_pulled_away_is_known_by_its_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let (here, away) = (folder.path().join("here"), folder.path().join("away"));
        let layout = Layout::take(&here).expect("free");
        assert!(layout.is_in_place());
        fs::rename(&here, &away).expect("moved");
        assert!(!layout.is_in_place());
        // What is mounted there instead is another.
        let other = Layout::take(&here).expect("free");
        assert!(!layout.is_in_place() && other.is_in_place());
        fs::remove_dir_all(&here).expect("removed");
        fs::rename(&away, &here).expect("moved");
        assert!(layout.is_in_place());
    }

    #[test]
    fn a_format_mark_without_its_bytes_is_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        for torn in ["", "\0\0\0"] {
            fs::write(folder.path().join("VERSION"), torn).expect("written");
            drop(Layout::take(folder.path()).expect("usable"));
            let mark = fs::read_to_string(folder.path().join("VERSION")).expect("there");
            assert_eq!(mark, "larder cache 1\n");
        }
    }

    #[test]
    fn a_path_below_a_file_is_not_writable() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, b"").expect("written");
        assert!(matches!(
            Layout::take(&file.join("x")),
            Err(OpenError::NotWritable { .. })
        ));
    }
}
