//! The data directory: `groups/ profiles/ ignition/ generic/ cloud/ script/`.
//!
//! Operators and terraform change it at any time, and the next request must see it. Profiles and
//! templates are one small file each and are read when they are asked for. Groups all take part in
//! every selection: they are parsed once and kept, and [`watch`] says which files changed since.
//!
//! A bad file is reported with its place and left out; the others work on. Writes go to a file of
//! their own beside the target and are renamed over it, so that a reader sees the old text or the
//! new, never half of it.

mod names;
mod shelf;
mod watch;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub use self::shelf::Note;
use self::shelf::Shelf;
use crate::{
    error::Error,
    mac::Mac,
    model::{self, Group, Profile},
    select::Catalog,
};

/// Files larger than this are not read: a template is text that a person wrote.
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 20;

/// The directories whose files are handed out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ignition/`.
    Ignition,
    /// `generic/`.
    Generic,
    /// `cloud/`.
    Cloud,
    /// `script/`, larder's own.
    Script,
}

impl Kind {
    /// The directory's name.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Ignition => "ignition",
            Self::Generic => "generic",
            Self::Cloud => "cloud",
            Self::Script => "script",
        }
    }
}

/// A matchbox data directory.
#[derive(Debug)]
pub struct Library {
    root: PathBuf,
    shelf: Mutex<Shelf>,
}

impl Library {
    /// Takes the directory into use; the directories in it may come later.
    ///
    /// # Errors
    ///
    /// [`Error::NoDataDirectory`] when `root` is no directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Error::NoDataDirectory(root.to_owned()));
        }
        let shelf = Mutex::new(Shelf::new(root.join("groups")));
        Ok(Self {
            root: root.to_owned(),
            shelf,
        })
    }

    /// All good groups as they are on disk now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.shelf
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .catalog()
    }

    /// What is wrong with the files of groups and profiles, or without effect in them.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = {
            let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
            shelf.catalog();
            shelf.notes()
        };
        for name in self.names("profiles", Some("json")) {
            let id = name.strip_suffix(".json").unwrap_or(&name);
            match self.profile(id) {
                Ok(profile) => notes.extend(self.remark(&profile, id)),
                Err(error) => notes.push(Note::from_error(&self.profile_path(id), &error)),
            }
        }
        notes
    }

    /// The group in `groups/ID.json`.
    pub fn group(&self, id: &str) -> Result<Group, Error> {
        let path = self
            .root
            .join("groups")
            .join(names::file("group", id, ".json")?);
        shelf::parse_group(&path, &read(&path)?)
    }

    /// Writes `groups/ID.json`.
    pub fn put_group(&self, group: &Group) -> Result<(), Error> {
        if group.id.is_empty() {
            return Err(Error::Incomplete("Id is required"));
        }
        if group.profile.is_empty() {
            return Err(Error::Incomplete("Group requires a Profile"));
        }
        for (name, value) in &group.selector {
            if name.eq_ignore_ascii_case("mac") && Mac::parse(value).is_none() {
                return Err(Error::NotAMac(value.clone()));
            }
        }
        let path = self
            .root
            .join("groups")
            .join(names::file("group", &group.id, ".json")?);
        write_atomically(&path, &model::to_json(group))
    }

    /// Removes `groups/ID.json`; a missing one is gone already.
    pub fn remove_group(&self, id: &str) -> Result<(), Error> {
        remove(
            &self
                .root
                .join("groups")
                .join(names::file("group", id, ".json")?),
        )
    }

    /// The profile in `profiles/ID.json`: the file's name counts, not the id in it.
    pub fn profile(&self, id: &str) -> Result<Profile, Error> {
        names::file("profile", id, ".json")?;
        let path = self.profile_path(id);
        let profile: Profile = shelf::parse(&path, &read(&path)?)?;
        if profile.id.is_empty() {
            let text = "a profile needs an id".to_owned();
            return Err(Error::Malformed {
                path,
                line: 0,
                column: 0,
                text,
            });
        }
        if let Some(note) = self.remark(&profile, id) {
            tracing::debug!("{note}");
        }
        Ok(profile)
    }

    /// All good profiles, by file name.
    pub fn profiles(&self) -> Vec<Profile> {
        let names = self.names("profiles", Some("json"));
        names
            .iter()
            .filter_map(|name| match self.profile(name.strip_suffix(".json")?) {
                Ok(profile) => Some(profile),
                Err(error) => {
                    tracing::warn!(
                        "profile skipped: {}",
                        Note::from_error(Path::new(name), &error)
                    );
                    None
                }
            })
            .collect()
    }

    /// Writes `profiles/ID.json`.
    pub fn put_profile(&self, profile: &Profile) -> Result<(), Error> {
        if profile.id.is_empty() {
            return Err(Error::Incomplete("Id is required"));
        }
        names::file("profile", &profile.id, ".json")?;
        write_atomically(&self.profile_path(&profile.id), &model::to_json(profile))
    }

    /// Removes `profiles/ID.json`; a missing one is gone already.
    pub fn remove_profile(&self, id: &str) -> Result<(), Error> {
        names::file("profile", id, ".json")?;
        remove(&self.profile_path(id))
    }

    /// One file as it is.
    pub fn file(&self, kind: Kind, name: &str) -> Result<Vec<u8>, Error> {
        read(
            &self
                .root
                .join(kind.directory())
                .join(names::file(kind.directory(), name, "")?),
        )
    }

    /// Writes one file.
    pub fn put_file(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let name = names::file(kind.directory(), name, "")?;
        write_atomically(&self.root.join(kind.directory()).join(name), bytes)
    }

    /// Removes one file; a missing one is gone already.
    pub fn remove_file(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let name = names::file(kind.directory(), name, "")?;
        remove(&self.root.join(kind.directory()).join(name))
    }

    /// The names of a directory's files, sorted.
    pub fn files(&self, kind: Kind) -> Vec<String> {
        self.names(kind.directory(), None)
    }

    fn profile_path(&self, id: &str) -> PathBuf {
        self.root.join("profiles").join(format!("{id}.json"))
    }

    /// What has no effect in a profile that is good otherwise.
    fn remark(&self, profile: &Profile, id: &str) -> Option<Note> {
        let old = profile.boot.as_ref().is_some_and(|boot| boot.old_cmdline);
        old.then(|| Note {
            path: self.profile_path(id),
            line: 0,
            column: 0,
            text: "boot.cmdline is ignored since matchbox 0.7: list the arguments in boot.args"
                .to_owned(),
            skipped: false,
        })
    }

    fn names(&self, directory: &str, extension: Option<&str>) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(directory)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| {
                extension.is_none_or(|wanted| {
                    Path::new(name)
                        .extension()
                        .is_some_and(|extension| extension == wanted)
                })
            })
            .collect();
        names.sort_unstable();
        names
    }
}

/// The operating system's words for an error, as Go prints them.
pub(crate) fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

/// Reads a regular file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Open {
        path: path.to_owned(),
        source,
    };
    // Before opening: opening a FIFO would wait for its writer.
    let bytes = {
        let metadata = fs::metadata(path).map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_file() {
            return Err(failed(io::Error::other("not a regular file")));
        }
        metadata.len()
    };
    if bytes > FILE_BYTES_MAX {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}

/// Replaces a file in one step, mode 0644, directories 0755.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;

    let failed = |source| Error::Write(path.to_owned(), source);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Write(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
