//! What is wrong with a data directory, found before a machine finds it.
//!
//! A group leads to a profile, that to a kernel, initrds and templates, those to the group's metadata: each
//! step is looked at as the endpoint that a machine asks would, and what would be answered with a 404 is an
//! error here, with its file, the place in it and the cause. What only may fail (a template that wants labels
//! which the check cannot know) is a warning, what has no effect a note.

mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    cloud, ignition,
    labels::{self, Labels},
    library::{Kind, Library, Note},
    machines,
    model::{Boot, Group, Profile},
    reason::Reason,
    template::{self, Data},
};

/// What a finding means for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something has no effect, or another one than in matchbox.
    Note,
    /// A machine's boot may fail.
    Warning,
    /// A machine's boot fails, or the file counts as missing.
    Error,
}

impl Severity {
    /// The severity's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Something wrong in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// From 1; 0 when no place in the text is at fault.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub text: String,
    /// What it means.
    pub severity: Severity,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path, line, column, ..
        } = self;
        match line {
            0 => write!(f, "{}: ", path.display())?,
            _ => write!(f, "{}:{line}:{column}: ", path.display())?,
        }
        write!(f, "{} ({})", self.text, self.severity.as_str())
    }
}

impl From<Note> for Finding {
    fn from(note: Note) -> Self {
        Self {
            path: note.path,
            line: note.line,
            column: note.column,
            text: note.text,
            severity: if note.skipped {
                Severity::Error
            } else {
                Severity::Note
            },
        }
    }
}

/// A data directory that is looked at, with what its profiles lead to.
#[derive(Debug)]
pub struct Check<'a> {
    library: &'a Library,
    assets: Option<&'a Path>,
    /// The groups of each profile, by its id.
    groups: BTreeMap<String, Vec<Arc<Group>>>,
}

impl<'a> Check<'a> {
    /// Looks at the directory as it is now; `assets` is what `/assets/` serves.
    pub fn new(library: &'a Library, assets: Option<&'a Path>) -> Self {
        let mut groups: BTreeMap<String, Vec<Arc<Group>>> = BTreeMap::new();
        for group in library.catalog().groups() {
            let of_profile = groups.entry(group.profile.clone()).or_default();
            of_profile.push(Arc::clone(group));
        }
        Self {
            library,
            assets,
            groups,
        }
    }

    /// Everything that is wrong, file by file.
    pub fn all(&self) -> Vec<Finding> {
        let mut found: Vec<Finding> = self.library.notes().into_iter().map(Into::into).collect();
        for (path, group) in self.library.located_groups() {
            found.extend(self.group(&path, &group));
        }
        for name in self.library.unreached_groups() {
            found.push(unreached(self.library.path("groups", &name)));
        }
        for path in self.library.dangling() {
            let text = "is a link to a file that is not there".to_owned();
            found.push(finding(path, Severity::Error, text));
        }
        if let Some(root) = self.library.unlike_any() {
            let text = "has no groups, no profiles and no templates: is it the data directory?";
            found.push(finding(root.to_owned(), Severity::Warning, text.to_owned()));
        }
        if self.library.installs_once() {
            let note = machines::cannot_remember(&self.library.journal());
            found.extend(note.map(|note| finding(note.path, Severity::Error, note.text)));
        }
        let mut named: BTreeMap<(Kind, String), Vec<Arc<Group>>> = BTreeMap::new();
        for (id, profile) in self.library.located_profiles() {
            found.extend(self.profile(&id, &profile));
            let groups = self.groups.get(&id).cloned().unwrap_or_default();
            for (kind, _, name) in files_of(&profile) {
                let of_file = named.entry((kind, name.to_owned())).or_default();
                of_file.extend(groups.iter().cloned());
            }
        }
        for name in self.library.files(Kind::Script) {
            named.insert((Kind::Script, name), Vec::new());
        }
        for ((kind, name), groups) in &named {
            found.extend(self.content(*kind, name, groups));
        }
        for kind in [Kind::Ignition, Kind::Generic, Kind::Cloud] {
            for name in self.library.files(kind) {
                if !named.contains_key(&(kind, name.clone())) {
                    found.extend(self.content(kind, &name, &[]).into_iter().map(unnamed));
                }
            }
        }
        found.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
        found.dedup();
        found
    }

    /// What is wrong with a group that was just written.
    pub fn group_of(&self, id: &str) -> Vec<Finding> {
        let path = self.library.path("groups", &format!("{id}.json"));
        match self.library.group(id) {
            Ok(_) if id.contains('/') => vec![unreached(path)],
            Ok(group) => self.group(&path, &group),
            Err(error) => vec![finding(path, Severity::Error, error.to_string())],
        }
    }

    /// What is wrong with a profile that was just written, and with the files that it names.
    pub fn profile_of(&self, id: &str) -> Vec<Finding> {
        let Ok(profile) = self.library.profile(id) else {
            return Vec::new();
        };
        let groups = self.groups.get(id).cloned().unwrap_or_default();
        let mut found = self.profile(id, &profile);
        for (kind, _, name) in files_of(&profile) {
            found.extend(self.content(kind, name, &groups));
        }
        found
    }

    /// What is wrong with a file that was just written, whether a profile names it yet or not.
    pub fn file_of(&self, kind: Kind, name: &str) -> Vec<Finding> {
        let mut groups = Vec::new();
        for (id, profile) in self.library.located_profiles() {
            let mut names = files_of(&profile);
            if names.any(|(of, _, named)| of == kind && named == name) {
                groups.extend(self.groups.get(&id).cloned().unwrap_or_default());
            }
        }
        self.content(kind, name, &groups)
    }

    /// Whether a group can select machines and leads them to a profile that can be used.
    fn group(&self, path: &Path, group: &Group) -> Vec<Finding> {
        let names = group.selector.keys();
        let misspelt = names.filter_map(|name| {
            let label = labels::IN_BOOT_SCRIPTS.iter().find(|label| label.eq_ignore_ascii_case(name));
            label.filter(|label| *label != name).map(|label| {
                let text = format!(
                    "selector {name:?} matches no machine that asks boot.ipxe: it sends {label:?}, and names count as they are written"
                );
                at(path, &["selector", name], Severity::Warning, text)
            })
        });
        misspelt.chain(self.led_to(path, group)).collect()
    }

    /// What is wrong with a group's profile.
    fn led_to(&self, path: &Path, group: &Group) -> Option<Finding> {
        let profile = self.library.profile(&group.profile);
        let text = match profile {
            Ok(profile) if profile.boot.is_some() => return None,
            Ok(profile) => {
                let text = format!(
                    "profile {:?} has no boot section: these machines get a 404 in place of a boot script",
                    profile.id
                );
                return Some(at(path, &["profile"], Severity::Warning, text));
            }
            Err(error) => format!("profile {:?} is not usable: {error}", group.profile),
        };
        Some(at(path, &["profile"], Severity::Error, text))
    }

    /// Whether what a profile names is there.
    fn profile(&self, id: &str, profile: &Profile) -> Vec<Finding> {
        let path = self.library.path("profiles", &format!("{id}.json"));
        let mut found = Vec::new();
        for (kind, field, name) in files_of(profile) {
            if let Err(error) = self.library.file(kind, name) {
                found.push(at(&path, &[field], Severity::Error, error.to_string()));
            }
        }
        if let Some(boot) = &profile.boot {
            found.extend(self.boot(&path, boot));
        }
        found
    }

    fn boot(&self, path: &Path, boot: &Boot) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut wrong = |field, text| {
            found.push(at(path, &["boot", field], Severity::Error, text));
        };
        if boot.kernel.is_empty() {
            wrong("kernel", "the boot section names no kernel".to_owned());
        }
        let texts = std::iter::once(("kernel", &boot.kernel))
            .chain(boot.initrd.iter().map(|text| ("initrd", text)));
        for (field, text) in texts {
            if text.chars().any(char::is_control) {
                let why = format!("{text:?} holds a control character, which would end its line");
                wrong(field, why);
            }
            for word in text.split_whitespace() {
                if let Some(why) = self.missing_asset(word) {
                    wrong(field, why);
                }
            }
        }
        if boot.args.iter().any(|text| text.contains(['\n', '\r'])) {
            wrong("args", "an argument holds a line break".to_owned());
        }
        found
    }

    /// Why an image beneath `/assets/` cannot be had, if that is so.
    fn missing_asset(&self, location: &str) -> Option<String> {
        let path = location.strip_prefix('/').unwrap_or(location);
        let path = path.strip_prefix("assets/")?;
        if path.contains("${") {
            return None;
        }
        let path = path.split(['?', '#']).next().unwrap_or(path);
        let Some(assets) = self.assets else {
            return Some(format!("{location}: there is no assets directory"));
        };
        let decoded = labels::percent_decode(path).and_then(|path| String::from_utf8(path).ok());
        let file = assets.join(decoded.as_deref().unwrap_or(path));
        match std::fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => None,
            Ok(_) => Some(format!("{location}: {} is no file", file.display())),
            Err(error) => Some(format!("{location}: {}: {error}", file.display())),
        }
    }

    /// What is wrong with the text of a file; one that is not there is its profile's finding.
    fn content(&self, kind: Kind, name: &str, groups: &[Arc<Group>]) -> Vec<Finding> {
        let Ok(bytes) = self.library.file(kind, name) else {
            return Vec::new();
        };
        let path = self.library.path(kind.directory(), name);
        if kind == Kind::Ignition && ignition::is_raw(name) {
            return raw_ignition(path, name, &bytes).into_iter().collect();
        }
        let text = match str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let (line, column) = place::of_byte(&bytes, error.valid_up_to());
                let text = "is not UTF-8: convert it".to_owned();
                return vec![Finding {
                    line,
                    column,
                    ..finding(path, Severity::Error, text)
                }];
            }
        };
        if let Err((line, column, text)) = template::check(text) {
            return vec![Finding {
                line,
                column,
                ..finding(path, Severity::Error, text)
            }];
        }
        rendered(kind, name, text, groups)
            .map(|(severity, text)| finding(path, severity, text))
            .into_iter()
            .collect()
    }
}

/// A group that nobody is selected into, as in matchbox.
fn unreached(path: PathBuf) -> Finding {
    let text = "groups in folders take no part in selection".to_owned();
    finding(path, Severity::Warning, text)
}

/// What is wrong with a file that no machine gets yet.
fn unnamed(found: Finding) -> Finding {
    Finding {
        text: format!("{}; no profile names the file", found.text),
        severity: Severity::Warning,
        ..found
    }
}

/// The files that a profile names, each with its field.
fn files_of(profile: &Profile) -> impl Iterator<Item = (Kind, &'static str, &str)> {
    let named = [
        (Kind::Ignition, "ignition_id", &profile.ignition_id),
        (Kind::Generic, "generic_id", &profile.generic_id),
        (Kind::Cloud, "cloud_id", &profile.cloud_id),
    ];
    let named = named.into_iter().filter(|(_, _, name)| !name.is_empty());
    named.map(|(kind, field, name)| (kind, field, name.as_str()))
}

fn raw_ignition(path: PathBuf, name: &str, bytes: &[u8]) -> Option<Finding> {
    let refused = ignition::check(name, bytes).err()?;
    let broken = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).err();
    let (line, column) = broken.map_or((0, 0), |error| (error.line(), error.column()));
    Some(Finding {
        line,
        column,
        ..finding(path, Severity::Error, cause(&refused))
    })
}

/// What a template gives for its groups, by their metadata and selectors alone; the first that is wrong.
fn rendered(
    kind: Kind,
    name: &str,
    source: &str,
    groups: &[Arc<Group>],
) -> Option<(Severity, String)> {
    let judge = |text: &str| match kind {
        Kind::Ignition => ignition::check(name, text.as_bytes()).err(),
        Kind::Cloud => cloud::check(name, text).err(),
        Kind::Generic | Kind::Script => None,
    };
    let mut unrendered: Option<(String, BTreeSet<&str>)> = None;
    for group in groups {
        let labels: Labels = group.selector.clone().into_iter().collect();
        match template::render(source, &Data::new(Some(group), &labels, "")) {
            Ok(text) => {
                if let Some(refused) = judge(&text) {
                    return Some((Severity::Error, cause(&refused)));
                }
            }
            Err(error) => {
                let (_, of) =
                    unrendered.get_or_insert_with(|| (error.to_string(), BTreeSet::new()));
                of.insert(&group.id);
            }
        }
    }
    if let Some((error, of)) = unrendered {
        let first = of.first().copied().unwrap_or_default();
        let more = match of.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let text = format!("with the labels and metadata of group {first:?}{more} alone: {error}");
        return Some((Severity::Warning, text));
    }
    // Nobody's template is judged as far as it is no template.
    let is_plain = !source.contains("{{") || source.trim_start().starts_with("variant:");
    let refused = judge(source).filter(|_| groups.is_empty() && is_plain)?;
    Some((Severity::Error, cause(&refused)))
}

/// A reason without the name of its file, which stands before it anyway.
fn cause(reason: &Reason) -> String {
    match reason {
        Reason::Ignition { why, .. } | Reason::Template { why, .. } => why.clone(),
        other => other.to_string(),
    }
}

fn finding(path: PathBuf, severity: Severity, text: String) -> Finding {
    Finding {
        path,
        line: 0,
        column: 0,
        text,
        severity,
    }
}

/// A finding at a field of a JSON file.
fn at(path: &Path, field: &[&str], severity: Severity, text: String) -> Finding {
    let place = std::fs::read(path).ok();
    let (line, column) = place
        .and_then(|bytes| place::of_field(&bytes, field))
        .unwrap_or((0, 0));
    Finding {
        line,
        column,
        ..finding(path.to_owned(), severity, text)
    }
}

#[cfg(test)]
mod tests;
