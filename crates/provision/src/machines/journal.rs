//! The file that remembers machines: one JSON object a line, the last line of a machine counts.
//!
//! Lines are only ever appended, each by one `write`, so that a command can add one while the
//! server runs; whoever reads finds by the file's length that there is news. A line torn by a crash
//! is skipped. When the file is opened with many more lines than machines it is written anew.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    net::IpAddr,
    path::PathBuf,
};

use super::{Machine, State};
use crate::{error::Error, mac::Mac};

/// Lines beyond which the file is written anew when less than a quarter of them count.
const LINES_MAX: usize = 4096;

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
}

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            read_bytes: 0,
        }
    }

    /// The lines that came since the last call; all of them again if the file was replaced.
    pub(super) fn news(&mut self) -> Result<Vec<Line>, Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        let length = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(failed(error)),
        };
        if length == self.read_bytes {
            return Ok(Vec::new());
        }
        let first = self.read_bytes == 0;
        if length < self.read_bytes {
            self.read_bytes = 0;
        }
        let mut file = File::open(&self.path).map_err(failed)?;
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
        let lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
        if first {
            self.compact(lines)
        } else {
            Ok(lines)
        }
    }

    /// Adds one line, on a line of its own even after a torn one.
    pub(super) fn append(&mut self, line: &Line) -> Result<(), Error> {
        let failed = |error| Error::State(self.path.clone(), error);
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)
            .map_err(failed)?;
        let mut text = line.text();
        if ends_torn(&mut file).map_err(failed)? {
            text.insert(0, '\n');
        }
        file.write_all(text.as_bytes()).map_err(failed)
    }

    /// Writes the last line of each machine to a new file in the place of a long one.
    fn compact(&mut self, lines: Vec<Line>) -> Result<Vec<Line>, Error> {
        let count = lines.len();
        let last: BTreeMap<Mac, Line> = lines
            .iter()
            .map(|line| (line.mac.clone(), line.clone()))
            .collect();
        if count <= LINES_MAX || last.len() * 4 > count {
            return Ok(lines);
        }
        let failed = |error| Error::State(self.path.clone(), error);
        let text: String = last.values().map(Line::text).collect();
        let new = self.path.with_extension("new");
        fs::write(&new, &text)
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(failed)?;
        self.read_bytes = text.len() as u64;
        Ok(last.into_values().collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_written_anew_and_says_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines");
        let line = Line::of(
            &Mac::parse("52:54:00:00:00:01").unwrap(),
            &Machine::default(),
        );
        fs::write(&path, line.text().repeat(LINES_MAX + 1)).unwrap();
        let news = Journal::new(path.clone()).news().unwrap();
        assert_eq!(news, std::slice::from_ref(&line));
        assert_eq!(fs::read_to_string(&path).unwrap(), line.text());
    }
}
