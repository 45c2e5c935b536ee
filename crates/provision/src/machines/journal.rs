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
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{fs::FlockOperation, io::Errno};

use super::{Machine, State};
use crate::{error::Error, mac::Mac};

/// Lines beyond which the file is written anew when less than a quarter of them count.
pub(super) const LINES_MAX: usize = 4096;
/// Others hold the lock for one line, or for one file of a few megabytes.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Then it is an error.
const LOCK_TRIES: u32 = 500;

/// What the file says of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) mac: Mac,
    pub(super) state: State,
    pub(super) since: u64,
    pub(super) address: Option<IpAddr>,
    pub(super) group: String,
    pub(super) profile: String,
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
        } = line;
        Some(Self {
            mac: Mac::parse(&mac)?,
            state,
            since,
            address,
            group,
            profile,
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
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_bytes: 0,
            file: None,
            lines: 0,
        }
    }

    /// The lines that came since the last call; all of them again if the file was replaced. Never writes.
    pub(super) fn news(&mut self) -> Result<Vec<Line>, Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        let mut file = match File::open(&self.path) {
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

    fn forget(&mut self) {
        (self.read_bytes, self.file, self.lines) = (0, None, 0);
    }

    /// Adds one line, on a line of its own even after a torn one. With `lasts` it is on the disk itself
    /// when this returns.
    pub(super) fn append(&mut self, line: &Line, lasts: bool) -> Result<(), Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        let is_new = !self.path.exists();
        if let Some(directory) = self.path.parent().filter(|_| is_new) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(true).read(true);
        let mut file = self.locked(&options).map_err(failed)?;
        let mut text = line.text();
        if ends_torn(&mut file).map_err(failed)? {
            text.insert(0, '\n');
        }
        let metadata = file.metadata().map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        if lasts {
            file.sync_data().map_err(failed)?;
        }
        if lasts && is_new {
            sync_directory(&self.path).map_err(failed)?;
        }
        let is_first = is_new && metadata.len() == 0;
        if is_first {
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
        self.lines > LINES_MAX && self.lines > machines.saturating_mul(4)
    }

    /// Writes what `lines` says of everything that was read to a new file in the place of this one, with
    /// the same owner and mode. Others that append wait for that and find the new file.
    pub(super) fn compact(
        &mut self,
        lines: impl FnOnce(Vec<Line>) -> Vec<Line>,
    ) -> Result<(), Error> {
        let path = self.path.clone();
        let failed = |error| Error::State(path.clone(), error);
        let mut file = self.locked(OpenOptions::new().read(true)).map_err(failed)?;
        let lines = lines(self.news_of(&mut file)?);
        let text: String = lines.iter().map(Line::text).collect();
        // Where another file is linked to, that one is written anew.
        let target = fs::canonicalize(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let new = replace(&target, &text, &metadata).map_err(failed)?;
        self.file = Some(identity(&new));
        (self.read_bytes, self.lines) = (text.len() as u64, lines.len());
        Ok(())
    }

    /// Opens the file and locks it against other processes; it is still the one at this path then.
    fn locked(&self, options: &OpenOptions) -> io::Result<File> {
        for _ in 0..LOCK_TRIES {
            let file = options.open(&self.path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let there = fs::metadata(&self.path).map(|there| identity(&there));
                    if there.is_ok_and(|there| {
                        file.metadata().is_ok_and(|ours| identity(&ours) == there)
                    }) {
                        return Ok(file);
                    }
                }
                Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
        let text = "another process has locked it for too long";
        Err(io::Error::new(io::ErrorKind::WouldBlock, text))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Puts a file with this text, and the owner and mode of `former`, in the place of `path`.
fn replace(path: &Path, text: &str, former: &Metadata) -> io::Result<Metadata> {
    let directory = path.parent().unwrap_or(Path::new("."));
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
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether the file's last byte is no line end.
fn ends_torn(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
