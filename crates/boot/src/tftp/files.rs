//! What a name means: a file of the boot root, a generated script, a boot program of the distribution, or
//! what a URL holds.
//!
//! Names come from firmware and from strangers. Nothing outside the root is ever opened by a path that a
//! client made: the kernel resolves beneath the root (openat2), `..` is refused even where it would stay
//! inside, and links out of the root are followed only into the distribution's iPXE folders.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, ReadWriteFlags};

use crate::disk::Lane;
use crate::loaders;
use crate::look::Looks;
use crate::packet::hardware::HardwareAddress;

/// Longest name that is looked at.
const NAME_MAX: usize = 512;

/// A name as a client sent it, made safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Path below the root, without leading slashes and without the machine.
    pub path: String,
    /// The same with the machine, which may be a folder's name too.
    pub literal: String,
    /// The machine that a leading `<mac>/` names.
    pub machine: Option<HardwareAddress>,
}

/// Why a name gets no file.
#[derive(Debug, thiserror::Error)]
pub enum NoFile {
    /// There is none.
    #[error("file not found")]
    Missing,
    /// The name tries to leave the root, or is no name.
    #[error("the name is not allowed")]
    NotAllowed,
    /// A link leads out of the root.
    #[error("{name} is a link out of the boot root, to {target}")]
    LinkOut {
        /// The name.
        name: String,
        /// Where it leads; for the log, never for the client.
        target: PathBuf,
    },
    /// It is a folder or a device.
    #[error("not a file")]
    NotAFile,
    /// It is not for everybody (`tftp-secure`).
    #[error("the file is another user's")]
    Private,
    /// It cannot be read.
    #[error("cannot read it: {0}")]
    Unreadable(io::Error),
}

/// Cleans a name: backslashes become slashes, leading slashes and trailing rubbish of old ROMs (0xFF and
/// the like) go away, a leading hardware address names the machine.
///
/// # Errors
/// [`NoFile::NotAllowed`] for `..`, control characters and what is no text.
pub fn clean(name: &[u8]) -> Result<Name, NoFile> {
    let end = name
        .iter()
        .rposition(u8::is_ascii_graphic)
        .map_or(0, |last| last + 1);
    let text = name
        .get(..end)
        .and_then(|name| std::str::from_utf8(name).ok());
    let text = text.filter(|text| text.len() <= NAME_MAX && !text.chars().any(char::is_control));
    let text = text.ok_or(NoFile::NotAllowed)?.replace('\\', "/");
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(NoFile::NotAllowed);
    }
    let machine = parts.first().and_then(|first| first.parse().ok());
    let own = usize::from(machine.is_some() && parts.len() > 1);
    let path = parts.get(own..).unwrap_or_default().join("/");
    Ok(Name {
        path,
        literal: parts.join("/"),
        machine: machine.filter(|_| own == 1),
    })
}

/// Bytes to serve: in memory, or of an open file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Generated, or fetched.
    Memory(Bytes),
    /// An open file with its length when it was opened.
    File(Arc<File>, u64),
}

impl Content {
    /// Total length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// So many bytes from `offset` on; a file's are read where that holds up nobody.
    pub(crate) async fn read(&self, lane: &Lane, offset: u64, length: usize) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
                let start = usize::try_from(offset).map_err(|_beyond| cut())?;
                let end = start.checked_add(length).ok_or_else(cut)?;
                let whole = bytes.get(start..end).ok_or_else(cut)?;
                Ok(bytes.slice_ref(whole))
            }
            Self::File(file, _) => {
                let mut bytes = vec![0; length];
                if is_at_hand(file, offset, &mut bytes) {
                    return Ok(bytes.into());
                }
                let file = Arc::clone(file);
                let read = lane.work(move || {
                    file.read_exact_at(&mut bytes, offset)?;
                    Ok(Bytes::from(bytes))
                });
                read.await?
            }
        }
    }
}

/// Reads what the page cache holds, as it does of a file that a second machine loads; from a disk nothing is
/// waited for.
fn is_at_hand(file: &File, offset: u64, bytes: &mut [u8]) -> bool {
    let length = bytes.len();
    let mut room = [io::IoSliceMut::new(bytes)];
    let read = rustix::io::preadv2(file, &mut room, offset, ReadWriteFlags::NOWAIT);
    read.is_ok_and(|read| read == length)
}

/// Identity of a file's state, so that transfers at the same time share one open file.
type Stamp = (u64, u64, u64, i64, i64);

/// How names are looked up, and what is served under them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// Names are made lower-case first.
    pub is_lowercase: bool,
    /// Of the root, only files of larder's own user are served; by root, only those that all may read.
    pub is_secure: bool,
    /// A root that is not there yet is taken all the same, and looked for at each name.
    pub may_come_later: bool,
}

/// The files that may be served.
#[derive(Debug, Default)]
pub struct Files {
    root: Option<PathBuf>,
    /// The root's paths, as it was written and as it is, without the leading slash.
    roots: Vec<PathBuf>,
    programs: HashMap<String, PathBuf>,
    manner: Manner,
    open: Mutex<HashMap<Stamp, Weak<File>>>,
}

impl Files {
    /// Serves `root`, and boot programs by their bare names. A root that does not answer is taken as it is
    /// written, and looked for at each name.
    ///
    /// # Errors
    /// The root is not there.
    pub fn new(
        root: Option<&Path>,
        programs: HashMap<String, PathBuf>,
        manner: Manner,
        looks: &Looks,
    ) -> io::Result<Self> {
        let written = root.filter(|root| root.is_absolute());
        let look = move |root: &Path| match root.canonicalize() {
            Err(_missing) if manner.may_come_later => Ok(root.to_owned()),
            Ok(found) if !found.is_dir() && !manner.may_come_later => Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                found.display().to_string(),
            )),
            found => found,
        };
        let root = root.map(|root| looks.at(root, look).unwrap_or_else(|| Ok(root.to_owned())));
        let root = root.transpose()?;
        let known = written.into_iter().chain(root.as_deref());
        let without_slash = known.filter_map(|root| root.strip_prefix("/").ok());
        let roots = without_slash.filter(|root| *root != Path::new(""));
        Ok(Self {
            roots: roots.map(Path::to_owned).collect(),
            root,
            programs,
            manner,
            open: Mutex::default(),
        })
    }

    /// Finds a file by its cleaned name: in the root first, then among the boot programs. A name that
    /// ends in `.0` stands for the file without it too, since dnsmasq appended it for years.
    ///
    /// # Errors
    /// [`NoFile`].
    pub fn find(&self, path: &str) -> Result<Content, NoFile> {
        self.find_for(None, path)
    }

    /// The folder that is served; an empty path if there is none.
    pub(crate) fn root(&self) -> &Path {
        self.root.as_deref().unwrap_or(Path::new(""))
    }

    /// What a client's name may mean, best first: as it is, then without the machine in front, then without the
    /// root's own path, which clients of other servers write in front.
    pub(crate) fn spellings(&self, name: &Name) -> Vec<String> {
        let below = self.roots.iter().find_map(|root| {
            let rest = Path::new(&name.literal).strip_prefix(root).ok()?;
            rest.to_str().filter(|rest| !rest.is_empty())
        });
        let bare = (name.path != name.literal).then_some(name.path.as_str());
        let all = [Some(name.literal.as_str()), bare, below];
        let all = all.into_iter().flatten();
        all.map(|path| self.spelled(path).into_owned()).collect()
    }

    fn spelled<'p>(&self, path: &'p str) -> Cow<'p, str> {
        if self.manner.is_lowercase {
            path.to_ascii_lowercase().into()
        } else {
            path.into()
        }
    }

    /// Tells whether the root has a folder of this name; a client without one has the whole root as others do
    /// (dnsmasq's `tftp-unique-root`).
    pub(crate) fn has_folder(&self, name: &str) -> bool {
        let root = self.root.as_deref();
        root.is_some_and(|root| root.join(name).is_dir())
    }

    /// The same as [`Self::find`], below this folder of the root, if one is given.
    ///
    /// # Errors
    /// [`NoFile`].
    pub fn find_for(&self, own: Option<&str>, path: &str) -> Result<Content, NoFile> {
        let path = self.spelled(path);
        match self.find_exactly(own, &path) {
            Err(NoFile::Missing) => {
                let bare = path.strip_suffix(".0").ok_or(NoFile::Missing)?;
                self.find_exactly(own, bare)
            }
            found => found,
        }
    }

    fn find_exactly(&self, own: Option<&str>, path: &str) -> Result<Content, NoFile> {
        let in_root = match (&self.root, own) {
            (None, _) => Err(NoFile::Missing),
            (Some(root), None) => beneath(root, path),
            (Some(root), Some(own)) => beneath(root, &format!("{own}/{path}")),
        };
        let in_root = in_root.and_then(|file| self.permitted(file));
        let file = match in_root {
            Err(NoFile::Missing) => {
                let program = self.programs.get(path).ok_or(NoFile::Missing)?;
                File::open(program).map_err(NoFile::Unreadable)?
            }
            found => found?,
        };
        self.share(file)
    }

    /// Lets a file of the root through that may be served.
    fn permitted(&self, file: File) -> Result<File, NoFile> {
        if !self.manner.is_secure {
            return Ok(file);
        }
        let state = file.metadata().map_err(NoFile::Unreadable)?;
        let is_permitted = match rustix::process::geteuid() {
            user if user.is_root() => state.mode() & 0o004 != 0,
            user => state.uid() == user.as_raw(),
        };
        is_permitted.then_some(file).ok_or(NoFile::Private)
    }

    /// Takes an already open file of the same state instead of `file`, so that a thousand transfers of
    /// one file need one descriptor and one copy in the page cache.
    fn share(&self, file: File) -> Result<Content, NoFile> {
        let state = file.metadata().map_err(NoFile::Unreadable)?;
        if !state.is_file() {
            return Err(NoFile::NotAFile);
        }
        let stamp = (
            state.dev(),
            state.ino(),
            state.len(),
            state.mtime(),
            state.mtime_nsec(),
        );
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = open.get(&stamp).and_then(Weak::upgrade) {
            return Ok(Content::File(shared, state.len()));
        }
        open.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(file);
        open.insert(stamp, Arc::downgrade(&file));
        Ok(Content::File(file, state.len()))
    }
}

/// The root's entry that a path leads through: what is below another one may be on another disk. A name that
/// ends in `.0` stands for the one without it too.
pub(crate) fn entry<'p>(own: Option<&'p str>, path: &'p str) -> &'p str {
    let first = own.or_else(|| path.split('/').next()).unwrap_or(path);
    first.strip_suffix(".0").unwrap_or(first)
}

/// Opens `path` beneath `root`. Links are followed as long as they stay inside, absolute ones too, or lead
/// to a boot program of the distribution.
fn beneath(root: &Path, path: &str) -> Result<File, NoFile> {
    let folder = File::open(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NoFile::Missing,
        _ => NoFile::Unreadable(error),
    })?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match openat2(&folder, path, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        // No file system holds a name that is too long for it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Err(NoFile::Missing),
        Err(Errno::XDEV) => through_link(root, path),
        Err(Errno::LOOP) => Err(NoFile::NotAllowed),
        Err(error) => Err(NoFile::Unreadable(error.into())),
    }
}

/// Opens where a link leads if that is allowed. The target is opened without following links again, so
/// that one exchanged meanwhile leads nowhere.
fn through_link(root: &Path, path: &str) -> Result<File, NoFile> {
    let target = root
        .join(path)
        .canonicalize()
        .map_err(|_gone| NoFile::Missing)?;
    let root = root.canonicalize().map_err(|_gone| NoFile::Missing)?;
    if !target.starts_with(root) && !loaders::is_boot_program(&target) {
        return Err(NoFile::LinkOut {
            name: path.to_owned(),
            target,
        });
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_SYMLINKS;
    let file = openat2(CWD, &target, flags, Mode::empty(), resolve);
    file.map(File::from)
        .map_err(|error| NoFile::Unreadable(error.into()))
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
