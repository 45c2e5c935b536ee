//! The groups directory in memory: parsed files, refreshed by what the watch reports.
//!
//! Files that are symbolic links are looked at on every request, since their target changes without
//! an event in the directory; where no watch is possible (network file systems) all files are.
//! A file read within a moment of its last change is read again next time, because a second change
//! may carry the same time stamp.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::de::DeserializeOwned;

use super::watch::{Changes, Watch};
use crate::{error::Error, mac::Mac, model::Group, select::Catalog};

/// Time stamps of the kernel advance in steps of a few milliseconds, of some file systems in
/// seconds: how long a change must lie back to be told from a later one.
const SETTLED: Duration = Duration::from_secs(2);

/// Something to tell the operator about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file.
    pub path: PathBuf,
    /// From 1; 0 when no place in the text is at fault.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong or without effect.
    pub text: String,
    /// The file is left out because of it.
    pub skipped: bool,
}

impl Note {
    /// Why a file is left out.
    pub(super) fn from_error(path: &Path, error: &Error) -> Self {
        let (line, column, text) = match error {
            Error::Malformed {
                line, column, text, ..
            } => (*line, *column, text.clone()),
            other => (0, 0, other.to_string()),
        };
        Self {
            path: path.to_owned(),
            line,
            column,
            text,
            skipped: true,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            column,
            text,
            ..
        } = self;
        match line {
            0 => write!(f, "{}: {text}", path.display()),
            _ => write!(f, "{}:{line}:{column}: {text}", path.display()),
        }
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a later change would look different.
    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = u64::try_from(self.changed.0.max(self.modified.0)).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed + 1);
        now.duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

/// One parsed file.
#[derive(Debug)]
struct Volume {
    stamp: Stamp,
    settled: bool,
    is_link: bool,
    group: Option<Arc<Group>>,
    note: Option<Note>,
}

/// The groups directory.
#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    watch: Option<Watch>,
    volumes: BTreeMap<OsString, Volume>,
    /// Links whose target is missing: it may come back, and nothing in this directory tells of it.
    dangling: BTreeSet<OsString>,
    catalog: Arc<Catalog>,
}

impl Shelf {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            watch: None,
            volumes: BTreeMap::new(),
            dangling: BTreeSet::new(),
            catalog: Arc::default(),
        }
    }

    /// The groups as they are on disk now.
    pub(super) fn catalog(&mut self) -> Arc<Catalog> {
        let now = SystemTime::now();
        let changes = match self
            .watch
            .as_mut()
            .map(|watch| watch.changes(&self.directory))
        {
            Some(Changes::Names(names)) => Some(names),
            Some(Changes::Everything) | None => {
                // Watching starts before reading: what changes in between is reported.
                self.watch = Watch::new(&self.directory);
                None
            }
        };
        let suspects = match changes {
            Some(names) => self.links().chain(names).collect(),
            None => self.all_names(),
        };
        let mut changed = false;
        for name in suspects {
            changed |= self.refresh(&name, now);
        }
        if changed {
            self.rebuild();
        }
        Arc::clone(&self.catalog)
    }

    /// What is wrong with the groups, or tied among them.
    pub(super) fn notes(&self) -> Vec<Note> {
        let files = self
            .volumes
            .values()
            .filter_map(|volume| volume.note.clone());
        files
            .chain(
                self.catalog
                    .ties()
                    .map(|(first, second)| self.tie(first, second)),
            )
            .collect()
    }

    /// The good groups with their files.
    pub(super) fn located(&self) -> Vec<(PathBuf, Arc<Group>)> {
        let good = self.volumes.iter().filter_map(|(name, volume)| {
            Some((
                self.directory.join(name),
                Arc::clone(volume.group.as_ref()?),
            ))
        });
        good.collect()
    }

    fn links(&self) -> impl Iterator<Item = OsString> + use<> {
        let links: Vec<OsString> = self
            .volumes
            .iter()
            .filter(|(_, volume)| volume.is_link)
            .map(|(name, _)| name)
            .chain(&self.dangling)
            .cloned()
            .collect();
        links.into_iter()
    }

    /// Every name that is in the directory or was.
    fn all_names(&self) -> BTreeSet<OsString> {
        let known = self.volumes.keys().chain(&self.dangling);
        let mut names: BTreeSet<OsString> = known.cloned().collect();
        if let Ok(entries) = fs::read_dir(&self.directory) {
            names.extend(entries.flatten().map(|entry| entry.file_name()));
        }
        names
    }

    /// Looks at one file again; whether the catalog may differ.
    fn refresh(&mut self, name: &OsStr, now: SystemTime) -> bool {
        let path = self.directory.join(name);
        let is_group = Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "json");
        let is_link = || fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink());
        let Some(metadata) = fs::metadata(&path).ok().filter(|m| is_group && !m.is_dir()) else {
            if is_group && is_link() {
                self.dangling.insert(name.to_owned());
            } else {
                self.dangling.remove(name);
            }
            return self.volumes.remove(name).is_some();
        };
        self.dangling.remove(name);
        let stamp = Stamp::of(&metadata);
        if self
            .volumes
            .get(name)
            .is_some_and(|old| old.settled && old.stamp == stamp)
        {
            return false;
        }
        let (group, note) = match super::read(&path).and_then(|text| parse_group(&path, &text)) {
            Ok(group) => {
                let note = no_id_note(&path, &group, name);
                (Some(Arc::new(group)), note)
            }
            Err(error) => (None, Some(Note::from_error(&path, &error))),
        };
        let old = self.volumes.get(name);
        let changed = old.is_none_or(|old| old.group != group || old.note != note);
        if let Some(note) = note.as_ref().filter(|_| changed) {
            let what = if note.skipped {
                "group skipped"
            } else {
                "group"
            };
            tracing::warn!("{what}: {note}");
        }
        let is_link = is_link();
        let settled = stamp.is_settled(now);
        self.volumes.insert(
            name.to_owned(),
            Volume {
                stamp,
                settled,
                is_link,
                group,
                note,
            },
        );
        changed
    }

    fn rebuild(&mut self) {
        let groups = self
            .volumes
            .values()
            .filter_map(|volume| volume.group.clone())
            .collect();
        let catalog = Catalog::new(groups);
        for (first, second) in catalog.ties() {
            tracing::warn!("{}", self.tie(first, second));
        }
        self.catalog = Arc::new(catalog);
    }

    fn tie(&self, first: &Group, second: &Group) -> Note {
        let text = format!(
            "groups {:?} and {:?} have equal selectors; {:?} is selected, matchbox might not",
            first.id, second.id, first.id
        );
        Note {
            path: self.directory.clone(),
            line: 0,
            column: 0,
            text,
            skipped: false,
        }
    }
}

/// Reads JSON as Go does: bytes that are no UTF-8 become replacement characters.
pub(super) fn parse<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, Error> {
    serde_json::from_str(&String::from_utf8_lossy(text)).map_err(|error| {
        let why = error.to_string();
        let why = why.split(" at line ").next().unwrap_or(&why);
        Error::Malformed {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
            text: byte_order_mark(text).unwrap_or(why).to_owned(),
        }
    })
}

/// What an editor put in front that JSON does not begin with (RFC 8259 §8.1), and that nobody sees.
fn byte_order_mark(text: &[u8]) -> Option<&'static str> {
    match text {
        [0xEF, 0xBB, 0xBF, ..] => {
            Some("begins with a byte order mark: save it as UTF-8 without one")
        }
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => Some("is UTF-16: save it as UTF-8"),
        _ => None,
    }
}

/// Reads a group; its `mac` selectors get the form that labels have.
pub(super) fn parse_group(path: &Path, text: &[u8]) -> Result<Group, Error> {
    let mut group: Group = parse(path, text)?;
    let wrong = |text| Error::Malformed {
        path: path.to_owned(),
        line: 0,
        column: 0,
        text,
    };
    if group.profile.is_empty() {
        return Err(wrong("a group needs a profile".to_owned()));
    }
    for (name, value) in &mut group.selector {
        if name.eq_ignore_ascii_case("mac") {
            let mac = Mac::parse(value).ok_or_else(|| {
                wrong(format!("selector {name} {value:?} is no hardware address"))
            })?;
            *value = mac.to_string();
        }
    }
    if group.id.is_empty() {
        group.id = path
            .file_stem()
            .map(|s| s.to_string_lossy().into_owned())
            .unwrap_or_default();
    }
    Ok(group)
}

/// A group whose file name differs from its id is found under the one and listed under the other.
fn no_id_note(path: &Path, group: &Group, name: &OsStr) -> Option<Note> {
    let stem = Path::new(name).file_stem()?.to_string_lossy();
    (stem != group.id).then(|| Note {
        path: path.to_owned(),
        line: 0,
        column: 0,
        text: format!(
            "the group's id is {:?}, clients ask for it by the file's name",
            group.id
        ),
        skipped: false,
    })
}
