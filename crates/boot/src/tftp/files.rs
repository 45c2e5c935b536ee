//! What a name means: a file of the boot root, a generated script, a boot program of the distribution, or
//! what a URL holds.
//!
//! Names come from firmware and from strangers. Nothing outside the root is ever opened by a path that a
//! client made: the kernel resolves beneath the root (openat2), `..` is refused even where it would stay
//! inside, and links out of the root are followed only into the distribution's iPXE folders.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, ReadWriteFlags};

use crate::disk::Disk;
use crate::loaders;
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
    pub(crate) async fn read(&self, disk: &Disk, offset: u64, length: usize) -> io::Result<Bytes> {
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
                let read = disk.work(move || {
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
    /// Serves `root`, and boot programs by their bare names.
    ///
    /// # Errors
    /// The root is not there.
    pub fn new(
        root: Option<&Path>,
        programs: HashMap<String, PathBuf>,
        manner: Manner,
    ) -> io::Result<Self> {
        let written = root.filter(|root| root.is_absolute());
        let root = root.map(|root| match root.canonicalize() {
            Err(_missing) if manner.may_come_later => Ok(root.to_owned()),
            found => found,
        });
        let root = root.transpose()?;
        if let Some(root) = root
            .as_ref()
            .filter(|root| !root.is_dir() && !manner.may_come_later)
        {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                root.display().to_string(),
            ));
        }
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

    /// Finds what a client's name means: as it is first, then without the machine in front, then without the
    /// root's own path, which clients of other servers write in front.
    ///
    /// # Errors
    /// [`NoFile`].
    pub fn find_named(&self, own: Option<&str>, name: &Name) -> Result<Content, NoFile> {
        let below = self.roots.iter().find_map(|root| {
            let rest = Path::new(&name.literal).strip_prefix(root).ok()?;
            rest.to_str().filter(|rest| !rest.is_empty())
        });
        let bare = (name.path != name.literal).then_some(name.path.as_str());
        let others = bare.into_iter().chain(below);
        others.fold(
            self.find_for(own, &name.literal),
            |found, other| match found {
                Err(NoFile::Missing) => self.find_for(own, other),
                found => found,
            },
        )
    }

    /// The same, for a client that has this folder of the root for its own; if there is no such folder, it
    /// has the whole root as others do (dnsmasq's `tftp-unique-root`).
    ///
    /// # Errors
    /// [`NoFile`].
    pub fn find_for(&self, own: Option<&str>, path: &str) -> Result<Content, NoFile> {
        let lower = path.to_ascii_lowercase();
        let path = if self.manner.is_lowercase {
            lower.as_str()
        } else {
            path
        };
        let own = own.filter(|own| {
            let root = self.root.as_deref();
            root.is_some_and(|root| root.join(own).is_dir())
        });
        match self.find_exactly(own, path) {
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
mod tests {
    use super::*;

    fn cleaned(name: &[u8]) -> Option<String> {
        clean(name).ok().map(|name| name.path)
    }

    fn text(content: Result<Content, NoFile>) -> Result<Vec<u8>, String> {
        match content.map_err(|error| error.to_string())? {
            Content::Memory(bytes) => Ok(bytes.to_vec()),
            Content::File(file, length) => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                Ok(bytes)
            }
        }
    }

    #[test]
    fn names_are_made_safe() {
        assert_eq!(cleaned(b"undionly.kpxe").as_deref(), Some("undionly.kpxe"));
        assert_eq!(cleaned(b"//a\\b.efi\xff").as_deref(), Some("a/b.efi"));
        assert_eq!(cleaned(b"a/./b"), Some("a/b".to_owned()));
        for wrong in [
            &b".."[..],
            b"a/../b",
            b"..\\x",
            b"",
            b"/",
            b"a\0b",
            b"a\nb",
            b"\xff\xfe",
            b"\xc3\x28x",
        ] {
            assert_eq!(cleaned(wrong), None, "{wrong:?}");
        }
        assert_eq!(cleaned(&[b'x'; 600]), None);
    }

    #[test]
    fn a_leading_hardware_address_names_the_machine() {
        let name = clean(b"52:54:00:77:00:20/snponly.efi").unwrap();
        assert_eq!(name.machine.unwrap().to_string(), "52:54:00:77:00:20");
        assert_eq!(name.path, "snponly.efi");
        assert_eq!(clean(b"52:54:00:77:00:20").unwrap().machine, None);
    }

    #[test]
    fn files_of_the_root_go_before_programs_and_dot_zero_is_an_alias() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.kpxe"), "root").unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let program = elsewhere.path().join("b.efi");
        std::fs::write(&program, "program").unwrap();
        let programs = [("a.kpxe", &program), ("b.efi", &program)]
            .map(|(name, path)| (name.to_owned(), path.clone()));
        let files = Files::new(Some(folder.path()), programs.into(), Manner::default()).unwrap();
        assert_eq!(text(files.find("a.kpxe")), Ok(b"root".to_vec()));
        assert_eq!(text(files.find("a.kpxe.0")), Ok(b"root".to_vec()));
        assert_eq!(text(files.find("b.efi")), Ok(b"program".to_vec()));
        assert_eq!(text(files.find("c")), Err("file not found".to_owned()));
        let long = files.find(&"c".repeat(300));
        assert_eq!(text(long), Err("file not found".to_owned()));
    }

    #[test]
    fn names_are_taken_as_they_are_before_anything_is_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let own = "52:54:00:77:00:20";
        std::fs::create_dir(folder.path().join(own)).unwrap();
        for name in ["all", "52:54:00:77:00:20/grub.cfg"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = Files::new(Some(folder.path()), HashMap::new(), Manner::default()).unwrap();
        let of = |name: &str| text(files.find_named(None, &clean(name.as_bytes()).unwrap()));
        assert_eq!(
            of(&format!("{own}/grub.cfg")),
            Ok(format!("{own}/grub.cfg").into())
        );
        assert_eq!(of(&format!("{own}/all")), Ok(b"all".to_vec()));
        let root = folder.path().display();
        assert_eq!(of(&format!("{root}/all")), Ok(b"all".to_vec()));
        assert_eq!(
            of(&format!("{root}/{own}/grub.cfg")),
            Ok(format!("{own}/grub.cfg").into())
        );
        assert!(of(&format!("{root}x/all")).is_err() && of("/etc/passwd").is_err());
    }

    #[test]
    fn a_root_that_is_missing_may_come_later() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("later");
        let manner = Manner {
            may_come_later: true,
            ..Manner::default()
        };
        assert!(Files::new(Some(&root), HashMap::new(), Manner::default()).is_err());
        let files = Files::new(Some(&root), HashMap::new(), manner).unwrap();
        assert!(matches!(files.find("x"), Err(NoFile::Missing)));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("x"), "x").unwrap();
        assert_eq!(text(files.find("x")), Ok(b"x".to_vec()));
    }

    #[test]
    fn links_stay_inside_and_folders_are_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::write(folder.path().join("real"), "real").unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let link = |from: &Path, name: &str| {
            std::os::unix::fs::symlink(from, folder.path().join(name)).unwrap();
        };
        link(Path::new("real"), "relative");
        link(
            &folder.path().canonicalize().unwrap().join("real"),
            "absolute",
        );
        link(&secret, "out");
        link(outside.path(), "outside");
        let files = Files::new(Some(folder.path()), HashMap::new(), Manner::default()).unwrap();
        assert_eq!(text(files.find("relative")), Ok(b"real".to_vec()));
        assert_eq!(text(files.find("absolute")), Ok(b"real".to_vec()));
        assert!(matches!(files.find("out"), Err(NoFile::LinkOut { .. })));
        assert!(matches!(
            files.find("outside/secret"),
            Err(NoFile::LinkOut { .. })
        ));
        assert!(matches!(files.find("sub"), Err(NoFile::NotAFile)));
    }

    #[test]
    fn transfers_of_one_file_share_one_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), "x").unwrap();
        let files = Files::new(Some(folder.path()), HashMap::new(), Manner::default()).unwrap();
        let (first, second) = (files.find("x").unwrap(), files.find("x").unwrap());
        let (Content::File(first, _), Content::File(second, _)) = (first, second) else {
            panic!("in memory")
        };
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_client_with_a_folder_of_its_own_gets_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("10.0.0.9")).unwrap();
        for name in ["all", "10.0.0.9/own"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let files = Files::new(Some(folder.path()), HashMap::new(), Manner::default()).unwrap();
        let of = |own, name| text(files.find_for(own, name));
        let missing = Err("file not found".to_owned());
        assert_eq!(of(Some("10.0.0.9"), "own"), Ok(b"10.0.0.9/own".to_vec()));
        assert_eq!(of(Some("10.0.0.9"), "own.0"), Ok(b"10.0.0.9/own".to_vec()));
        assert_eq!(of(Some("10.0.0.9"), "all"), missing);
        assert_eq!(of(Some("10.0.0.8"), "all"), Ok(b"all".to_vec()));
        assert_eq!(of(None, "own"), missing);
    }

    #[test]
    fn of_the_root_only_permitted_files_are_served_where_that_is_asked_for() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "x").unwrap();
        let manner = Manner {
            is_secure: true,
            ..Manner::default()
        };
        let files = Files::new(Some(folder.path()), HashMap::new(), manner).unwrap();
        assert_eq!(text(files.find("x")), Ok(b"x".to_vec()), "one's own file");
        if rustix::process::geteuid().is_root() {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(files.find("x"), Err(NoFile::Private)));
        } else {
            let others = Files::new(Some(Path::new("/etc")), HashMap::new(), manner).unwrap();
            assert!(matches!(others.find("passwd"), Err(NoFile::Private)));
        }
    }
}
