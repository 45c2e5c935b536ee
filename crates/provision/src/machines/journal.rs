//! The file that remembers machines: one JSON object a line, the last line of a machine counts.
//!
//! Lines are only ever appended, each by one `write` under the file's lock, so that a command can
//! add one while the server runs; whoever reads finds by the file's length that there is news. A
//! line torn by a crash is skipped. A file with many more lines than machines is written anew, by
//! the server alone and under the same lock, with its owner and mode: the commands of another user
//! neither take it away from the server nor lose what it appends at that moment.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, AtFlags, FlockOperation, OFlags},
    io::Errno,
};

use super::{Machine, State};
use crate::{error::Error, mac::Mac};

/// Lines beyond which the file is written anew when less than a quarter of them count.
pub(super) const LINES_MAX: usize = 4096;
/// Others hold the lock for one line, or for one file of a few megabytes.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Then it is an error.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// What the file says of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) mac: Mac,
    pub(super) state: State,
    pub(super) since: u64,
    pub(super) address: Option<IpAddr>,
    pub(super) group: String,
    pub(super) profile: String,
    /// The machine is no longer one that is known; to readers who do not know this it is new.
    pub(super) forgotten: bool,
}

/// A line as it is written.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    mac: String,
    state: State,
    since: u64,
    address: Option<IpAddr>,
    #[serde(default)]
    group: String,
    #[serde(default)]
    profile: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    forgotten: bool,
}

impl Line {
    pub(super) fn of(mac: &Mac, machine: &Machine) -> Self {
        Self {
            mac: mac.clone(),
            state: machine.state,
            since: machine.since,
            address: machine.address,
            group: machine.group.clone(),
            profile: machine.profile.clone(),
            forgotten: false,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let line: Written = serde_json::from_str(text).ok()?;
        let Written {
            mac,
            state,
            since,
            address,
            group,
            profile,
            forgotten,
        } = line;
        Some(Self {
            mac: Mac::parse(&mac)?,
            state,
            since,
            address,
            group,
            profile,
            forgotten,
        })
    }

    fn text(&self) -> String {
        let line = Written {
            mac: self.mac.to_string(),
            state: self.state,
            since: self.since,
            address: self.address,
            group: self.group.clone(),
            profile: self.profile.clone(),
            forgotten: self.forgotten,
        };
        let mut text = serde_json::to_string(&line).expect("strings and numbers always serialise");
        text.push('\n');
        text
    }
}

/// The file and how much of it is known.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    read_bytes: u64,
    /// Device and number of the file that was read: another one in its place is read from its start.
    file: Option<(u64, u64)>,
    /// Lines in it, as far as it was read.
    lines: usize,
    /// Beyond so many it is written anew.
    lines_max: usize,
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_bytes: 0,
            file: None,
            lines: 0,
            lines_max: LINES_MAX,
        }
    }

    /// The lines that came since the last call; all of them again if the file was replaced. Never writes.
    pub(super) fn news(&mut self) -> Result<Vec<Line>, Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        let mut file = match open(OpenOptions::new().read(true), &self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget();
                return Ok(Vec::new());
            }
            file => file.map_err(failed)?,
        };
        self.news_of(&mut file)
    }

    fn news_of(&mut self, file: &mut File) -> Result<Vec<Line>, Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        let metadata = file.metadata().map_err(failed)?;
        if self.file != Some(identity(&metadata)) || metadata.len() < self.read_bytes {
            self.forget();
            self.file = Some(identity(&metadata));
        }
        if metadata.len() == self.read_bytes {
            return Ok(Vec::new());
        }
        let failed = |error| Error::State(self.path.clone(), error);
        file.seek(SeekFrom::Start(self.read_bytes))
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        bytes.truncate(whole);
        self.read_bytes += whole as u64;
        let text = String::from_utf8_lossy(&bytes);
        self.lines += text.lines().count();
        Ok(text.lines().filter_map(Line::parse).collect())
    }

    pub(super) fn forget(&mut self) {
        (self.read_bytes, self.file, self.lines) = (0, None, 0);
    }

    /// Adds one line to the locked file, on a line of its own even after a torn one.
    pub(super) fn append(&mut self, locked: &Locked, line: &Line) -> io::Result<()> {
        let mut file = &locked.file;
        let mut text = line.text();
        if ends_torn(file)? {
            text.insert(0, '\n');
        }
        let metadata = file.metadata()?;
        if let Err(error) = file.write_all(text.as_bytes()) {
            locked.file.set_len(metadata.len())?;
            return Err(error);
        }
        if metadata.len() == 0 {
            self.forget();
            self.file = Some(identity(&metadata));
        }
        // What this process wrote need not be read by it.
        if self.file == Some(identity(&metadata)) && self.read_bytes == metadata.len() {
            self.read_bytes += text.len() as u64;
            self.lines += text.lines().count();
        }
        Ok(())
    }

    /// Whether it has many more lines than there are machines to tell of.
    pub(super) fn is_long(&self, machines: usize) -> bool {
        self.lines > self.lines_max && self.lines > machines.saturating_mul(4)
    }

    /// Writes what `lines` says of everything that was read to a new file in the place of the locked one,
    /// with the same owner and mode. Others that append wait for that and find the new file. When it fails,
    /// the file may grow to twice its lines before it is tried again.
    pub(super) fn compact(
        &mut self,
        locked: &mut Locked,
        lines: impl FnOnce(Vec<Line>) -> Vec<Line>,
    ) -> Result<(), Error> {
        let news = self.news_of(&mut locked.file)?;
        self.lines_max = self.lines.saturating_mul(2);
        let lines = lines(news);
        let text: String = lines.iter().map(Line::text).collect();
        let new = locked
            .replace(&self.path, &text)
            .map_err(|error| Error::State(self.path.clone(), error))?;
        self.file = Some(identity(&new));
        (self.read_bytes, self.lines) = (text.len() as u64, lines.len());
        self.lines_max = LINES_MAX;
        Ok(())
    }
}

/// The journal's file while no other process may write to it.
#[derive(Debug)]
pub(super) struct Locked {
    file: File,
    /// Nobody had made it before.
    is_new: bool,
    bytes: u64,
}

impl Locked {
    /// Opens the file at `path` and waits for its lock, until `deadline` at most; it is still the one at this
    /// path then. Makes it, for its owner's eyes alone: whoever can open it can lock it.
    pub(super) fn at(path: &Path, deadline: Instant) -> io::Result<Self> {
        let is_new = !path.exists();
        if is_new {
            fs::create_dir_all(directory_of(path))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true).mode(0o600);
        loop {
            let file = open(&mut options, path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let ours = file.metadata()?;
                    let there = fs::metadata(path).map(|there| identity(&there));
                    if there.is_ok_and(|there| there == identity(&ours)) {
                        let bytes = ours.len();
                        return Ok(Self {
                            file,
                            is_new,
                            bytes,
                        });
                    }
                }
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => {
                    let text = "another process has locked it for too long";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sees to it that what was appended is on the disk itself; what is not is taken back.
    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        let synced = self.file.sync_data().and_then(|()| {
            if self.is_new {
                sync_directory(path)?;
            }
            Ok(())
        });
        if synced.is_err() {
            self.file.set_len(self.bytes)?;
        }
        synced
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<Metadata> {
        // Where another file is linked to, that one is written anew.
        replace(&fs::canonicalize(path)?, text, &self.file.metadata()?)
    }
}

/// Why this process could not write to the journal, if that is so; touches nothing.
pub(super) fn is_writable(path: &Path) -> io::Result<()> {
    if path.exists() {
        let mut options = OpenOptions::new();
        return open(options.append(true).read(true), path).map(drop);
    }
    // It is made with the directories that lead to it.
    let is_there = |it: &&Path| it.as_os_str().is_empty() || it.symlink_metadata().is_ok();
    let there = path.ancestors().skip(1).find(is_there);
    let there = there.filter(|it| !it.as_os_str().is_empty());
    let rights = Access::WRITE_OK | Access::EXEC_OK;
    let directory = there.unwrap_or(Path::new("."));
    Ok(rustix::fs::accessat(
        rustix::fs::CWD,
        directory,
        rights,
        AtFlags::EACCESS,
    )?)
}

/// Takes from others who are neither its owner nor of its group the right to open the file, and to lock it.
pub(super) fn close_to_others(path: &Path) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let mut permissions = metadata.permissions();
    let others = permissions.mode() & 0o007;
    if !metadata.is_file() || others == 0 {
        return Ok(());
    }
    permissions.set_mode(permissions.mode() - others);
    fs::set_permissions(path, permissions)
}

/// Opens a regular file; a pipe in its place would never answer.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.custom_flags(at_once).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(
            "is a pipe, device or directory, not a file",
        ));
    }
    Ok(file)
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Puts a file with this text, and the owner and mode of `former`, in the place of `path`.
fn replace(path: &Path, text: &str, former: &Metadata) -> io::Result<Metadata> {
    let directory = directory_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    let made = file.as_file().metadata()?;
    if (made.uid(), made.gid()) != (former.uid(), former.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(former.uid()), Some(former.gid()))?;
    }
    file.as_file().set_permissions(former.permissions())?;
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|error| error.error)?;
    sync_directory(path)?;
    file.metadata()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// The directory of a file: a name alone is one in the working directory.
fn directory_of(path: &Path) -> &Path {
    let named = path.parent().filter(|it| !it.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Whether the file's last byte is no line end.
fn ends_torn(mut file: &File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
