//! The commands on the data directory's files: list, show, write, remove, select.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use larder_provision::{
    Check, Error, Finding, Group, Kind, Labels, Library, Profile, Severity, matches,
};
use serde_json::{Value, json};

use super::provision::failed;
use crate::output::{self, Failure};

/// What to do with files of one kind.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List their names
    Ls,
    /// Print one
    Get {
        /// Its name
        name: String,
    },
    /// Write one, whole or not at all
    Put {
        /// A file, `-` for standard input
        file: PathBuf,
        /// Its name, where the file does not say it
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove one; that it is gone already is fine
    Rm {
        /// Its name
        name: String,
    },
}

/// The words of `select`.
#[derive(clap::Args, Debug)]
pub(super) struct Select {
    /// The machine's labels
    #[arg(value_name = "LABEL=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// For programs
    #[arg(long)]
    json: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write LABEL=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `provision profile …`.
pub(super) fn profile(
    library: &Library,
    assets: Option<&Path>,
    verb: &Verb,
) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Ls => lines(
            library
                .located_profiles()
                .iter()
                .map(|(id, profile)| format!("{id}\t{}", profile.name)),
        ),
        Verb::Get { name } => object(&library.profile(name).map_err(failed)?),
        Verb::Put { file, name } => {
            let mut profile: Profile = read_object(file)?;
            if let Some(name) = name {
                profile.id.clone_from(name);
            }
            let put = library.put_profile(&profile);
            written(put, || Check::new(library, assets).profile_of(&profile.id))
        }
        Verb::Rm { name } => done(library.remove_profile(name)),
    }
}

/// `provision group …`.
pub(super) fn group(library: &Library, verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Ls => lines(
            library
                .catalog()
                .groups()
                .iter()
                .map(|group| format!("{}\t{}\t{}", group.id, group.profile, selector(group))),
        ),
        Verb::Get { name } => object(&library.group(name).map_err(failed)?),
        Verb::Put { file, name } => {
            let mut group: Group = read_object(file)?;
            if let Some(name) = name {
                group.id.clone_from(name);
            }
            let put = library.put_group(&group);
            written(put, || Check::new(library, None).group_of(&group.id))
        }
        Verb::Rm { name } => done(library.remove_group(name)),
    }
}

/// `provision ignition …`, `provision generic …`.
pub(super) fn file(library: &Library, kind: Kind, verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Ls => lines(library.files(kind).into_iter()),
        Verb::Get { name } => output::bytes(&library.file(kind, name).map_err(failed)?),
        Verb::Put { file, name } => {
            let own = file
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let name = name.clone().or(own.filter(|name| name != "-"));
            let name = name.ok_or_else(|| Failure::Usage("say --name NAME".to_owned()))?;
            let put = library.put_file(kind, &name, &read(file)?);
            written(put, || Check::new(library, None).file_of(kind, &name))
        }
        Verb::Rm { name } => done(library.remove_file(kind, name)),
    }
}

/// `provision select`.
pub(super) fn select(library: &Library, words: &Select) -> Result<ExitCode, Failure> {
    let labels: Labels = words.labels.iter().cloned().collect();
    let catalog = library.catalog();
    let Some(group) = catalog.select(&labels) else {
        output::notice("no group matches; selectors that do not:\n");
        for group in catalog
            .groups()
            .iter()
            .filter(|group| !matches(group, &labels))
        {
            output::notice(&format!("  {}: {}\n", group.id, selector(group)));
        }
        return Ok(ExitCode::from(output::FAILED));
    };
    let profile = library.profile(&group.profile);
    if words.json {
        let found = profile.as_ref().ok();
        return output::text(&format!(
            "{:#}\n",
            json!({"group": *group, "profile": found})
        ));
    }
    let fate = match &profile {
        Ok(profile) => profile.name.clone(),
        Err(error) => format!("not usable: {error}"),
    };
    output::text(&format!(
        "group   {} ({})\nprofile {} {fate}\n",
        group.id,
        selector(&group),
        group.profile
    ))?;
    Ok(if profile.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::FAILED)
    })
}

/// `provision check`.
pub(super) fn check(
    library: &Library,
    assets: Option<&Path>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let found = Check::new(library, assets).all();
    if json {
        let found = found.iter().map(described).collect();
        output::text(&format!("{:#}\n", Value::Array(found)))?;
    } else {
        lines(found.iter().map(ToString::to_string))?;
    }
    let bad = found.iter().any(|one| one.severity == Severity::Error);
    Ok(if bad {
        ExitCode::from(output::USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

fn described(finding: &Finding) -> Value {
    json!({
        "file": finding.path,
        "line": finding.line,
        "column": finding.column,
        "severity": finding.severity.as_str(),
        "text": finding.text,
    })
}

/// Tells what is wrong with what was written: it stands, as with terraform the rest may follow.
fn written(
    put: Result<(), Error>,
    found: impl FnOnce() -> Vec<Finding>,
) -> Result<ExitCode, Failure> {
    put.map_err(failed)?;
    for finding in found() {
        output::notice(&format!("written, but {finding}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn selector(group: &Group) -> String {
    let pairs: Vec<String> = group
        .selector
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if pairs.is_empty() {
        "every machine".to_owned()
    } else {
        pairs.join(" ")
    }
}

fn lines(lines: impl Iterator<Item = String>) -> Result<ExitCode, Failure> {
    let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
    output::text(&text)
}

fn object(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::step("cannot print it", error))?;
    output::text(&format!("{text}\n"))
}

fn done(result: Result<(), Error>) -> Result<ExitCode, Failure> {
    result.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| Failure::step(format!("cannot read {}", path.display()), error))
}

fn read_object<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    serde_json::from_slice(&read(path)?)
        .map_err(|error| Failure::step(format!("{} is not good", path.display()), error))
}
