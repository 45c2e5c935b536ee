//! The data directory: `groups/ profiles/ ignition/ generic/ cloud/ script/`.
//!
//! Operators and terraform change it at any time, and the next request must see it. Profiles and
//! templates are one small file each and are read when they are asked for. Groups all take part in
//! every selection: they are parsed once and kept, and [`watch`] says which files changed since.
//!
//! A bad file is reported with its place and left out; the others work on. Writes ([`write`]) are
//! whole or not at all.

mod names;
mod shelf;
mod trees;
mod watch;
mod write;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub use self::shelf::Note;
use self::{shelf::Shelf, trees::Trees};
use crate::{
    error::Error,
    mac::Mac,
    model::{self, Group, Profile},
    rewrite,
    select::Catalog,
    warm,
};

/// Files larger than this are not read: a template is text that a person wrote.
pub(crate) const FILE_BYTES_MAX: u64 = 8 << 20;

/// The directories whose files are handed out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// The directories of a data directory.
const DIRECTORIES: [&str; 6] = [
    "groups", "profiles", "ignition", "generic", "cloud", "script",
];

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
    trees: Mutex<Trees>,
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
            trees: Mutex::default(),
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
                Ok(profile) => notes.extend(self.remarks(&profile, id)),
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
            .join(names::new_file("group", &group.id, ".json")?);
        self.write(&path, &model::to_json(group))
    }

    /// Removes `groups/ID.json`; a missing one is gone already.
    pub fn remove_group(&self, id: &str) -> Result<(), Error> {
        let name = names::file("group", id, ".json")?;
        write::remove(&self.root.join("groups").join(name), &self.root)
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
        for note in self.remarks(&profile, id) {
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

    /// The trees in which the kernels and initrds of all good profiles lie.
    pub(crate) fn trees(&self) -> Arc<BTreeSet<String>> {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.get(&self.root.join("profiles"), || {
            let urls = warm::urls(&self.profiles());
            let trees = urls
                .iter()
                .filter_map(|url| rewrite::normal(rewrite::tree_of(url)?));
            trees.collect()
        })
    }

    /// Writes `profiles/ID.json`.
    pub fn put_profile(&self, profile: &Profile) -> Result<(), Error> {
        if profile.id.is_empty() {
            return Err(Error::Incomplete("Id is required"));
        }
        names::new_file("profile", &profile.id, ".json")?;
        self.write(&self.profile_path(&profile.id), &model::to_json(profile))
    }

    /// Removes `profiles/ID.json`; a missing one is gone already.
    pub fn remove_profile(&self, id: &str) -> Result<(), Error> {
        names::file("profile", id, ".json")?;
        write::remove(&self.profile_path(id), &self.root)
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
        let name = names::new_file(kind.directory(), name, "")?;
        self.write(&self.root.join(kind.directory()).join(name), bytes)
    }

    /// Removes one file; a missing one is gone already.
    pub fn remove_file(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let name = names::file(kind.directory(), name, "")?;
        write::remove(&self.root.join(kind.directory()).join(name), &self.root)
    }

    /// The names of a directory's files, sorted.
    pub fn files(&self, kind: Kind) -> Vec<String> {
        self.names(kind.directory(), None)
    }

    /// Where a file of one of the directories is.
    pub(crate) fn path(&self, directory: &str, name: &str) -> PathBuf {
        self.root.join(directory).join(name)
    }

    /// All good groups with their files.
    pub(crate) fn located_groups(&self) -> Vec<(PathBuf, Arc<Group>)> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.catalog();
        shelf.located()
    }

    /// Whether a group or a profile says of itself that its machines install once.
    pub(crate) fn installs_once(&self) -> bool {
        let groups = self.catalog();
        let mut groups = groups.groups().iter();
        groups.any(|group| group.install_once() == Some(true))
            || self
                .profiles()
                .iter()
                .any(|profile| profile.install_once == Some(true))
    }

    /// Where the machines are remembered that were installed, unless it is said otherwise.
    pub fn journal(&self) -> PathBuf {
        self.root.join(".larder/machines")
    }

    /// Groups in folders, which nobody is selected into.
    pub(crate) fn unreached_groups(&self) -> Vec<String> {
        let mut names = self.names("groups", Some("json"));
        names.retain(|name| name.contains('/'));
        names
    }

    /// All good profiles with the ids by which groups and [`Self::profile`] name them: those of their files.
    pub fn located_profiles(&self) -> Vec<(String, Profile)> {
        let names = self.names("profiles", Some("json"));
        let ids = names.iter().filter_map(|name| name.strip_suffix(".json"));
        ids.filter_map(|id| Some((id.to_owned(), self.profile(id).ok()?)))
            .collect()
    }

    /// A disk that hangs, for as long as this is held.
    #[cfg(test)]
    pub(crate) fn hanging(&self) -> impl Drop + '_ {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn profile_path(&self, id: &str) -> PathBuf {
        self.root.join("profiles").join(format!("{id}.json"))
    }

    /// What has no effect in a profile that is good otherwise.
    fn remarks(&self, profile: &Profile, id: &str) -> impl Iterator<Item = Note> + use<> {
        let old = profile.boot.as_ref().is_some_and(|boot| boot.old_cmdline);
        let old = old.then(|| {
            "boot.cmdline is ignored since matchbox 0.7: list the arguments in boot.args".to_owned()
        });
        let other = (profile.id != id).then(|| {
            let own = &profile.id;
            format!("the profile's id is {own:?}, groups and clients name it by its file: {id:?}")
        });
        let path = self.profile_path(id);
        old.into_iter().chain(other).map(move |text| Note {
            path: path.clone(),
            line: 0,
            column: 0,
            text,
            skipped: false,
        })
    }

    /// Links of these directories that lead to nothing: each is a file that counts as missing.
    pub(crate) fn dangling(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in DIRECTORIES {
            for entry in fs::read_dir(self.root.join(directory))
                .into_iter()
                .flatten()
                .flatten()
            {
                let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
                let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
                if is_link && !is_hidden && fs::metadata(entry.path()).is_err() {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// The directory itself, where it has none of those that a data directory has.
    pub(crate) fn unlike_any(&self) -> Option<&Path> {
        let is_like = DIRECTORIES.iter().any(|name| self.root.join(name).is_dir());
        (!is_like).then_some(self.root.as_path())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        write::whole(path, bytes, &self.root)
    }

    /// The names of a directory's files and of those in its folders, which have names like `a/b`.
    fn names(&self, directory: &str, extension: Option<&str>) -> Vec<String> {
        let mut names = Vec::new();
        let mut folders = vec![(self.root.join(directory), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name().into_string());
                // What begins with a dot is nobody's: half a write that was cut short, an editor's.
                let Some(name) = name.ok().filter(|name| !name.starts_with('.')) else {
                    continue;
                };
                let is_wanted = |wanted| path.extension().is_some_and(|found| found == wanted);
                // Links to folders are not followed: they may lead in circles.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push((path, format!("{prefix}{name}/")));
                } else if path.is_file() && extension.is_none_or(is_wanted) {
                    names.push(format!("{prefix}{name}"));
                }
            }
        }
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

#[cfg(test)]
mod tests;
