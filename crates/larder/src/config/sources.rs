//! Which configuration is meant, and reading it: the one place that opens configuration files.
//!
//! In this order: `--config` or `--squid-conf`; `$LARDER_CONFIG`; /etc/larder/larder.toml;
//! /etc/squid/squid.conf where only that exists, in a container (a Squid image's volume is taken
//! over by changing the image's name), unless it belongs to a Squid that is installed beside;
//! nothing, which is a good configuration too.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Problem, Problems, Source};
use super::settings::Settings;
use super::{squid, surroundings, toml};
use crate::args;
use crate::environment::Environment;

const LARDER_TOML: &str = "/etc/larder/larder.toml";
const SQUID_CONF: &str = "/etc/squid/squid.conf";
/// Marks that container engines leave.
const CONTAINER_MARKS: [&str; 2] = ["/run/.containerenv", "/.dockerenv"];
/// Where distributions put Squid.
const SQUID_PROGRAMS: [&str; 3] = [
    "/usr/sbin/squid",
    "/usr/bin/squid",
    "/usr/local/squid/sbin/squid",
];
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The text of config/larder.toml: what holds where the operator says nothing.
pub const BUILT_IN: &str = include_str!("../../../../config/larder.toml");

/// Where settings came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No file: config/larder.toml as compiled in.
    BuiltIn,
    /// A larder.toml.
    Toml(PathBuf),
    /// A squid.conf.
    Squid(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in defaults"),
            Self::Toml(path) | Self::Squid(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A configuration that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is worth knowing about it; no errors.
    pub notes: Problems,
    /// Where it came from.
    pub origin: Origin,
}

/// Everything that says which configuration is meant. Loading is repeated at a reload.
#[derive(Clone, Debug)]
pub struct Sources {
    named: args::Source,
    environment: Environment,
}

impl Sources {
    /// The configuration that a command line and an environment mean.
    pub fn new(named: &args::Source, environment: &Environment) -> Self {
        Self {
            named: named.clone(),
            environment: environment.clone(),
        }
    }

    /// What surrounds the process.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Finds and reads the configuration.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, and the notes about it.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let origin = self.origin();
        let mut notes = Problems::default();
        let settings = match &origin {
            Origin::BuiltIn => {
                let source = Source::new("built-in larder.toml", BUILT_IN);
                toml::read(&source, Path::new(""), &self.environment, &mut notes)
            }
            Origin::Toml(path) => {
                let source = read_file(path)?;
                let folder = path.parent().unwrap_or(Path::new(""));
                toml::read(&source, folder, &self.environment, &mut notes)
            }
            Origin::Squid(path) => squid::read(path, &mut notes),
        };
        if !notes.has_errors() {
            surroundings::review(&settings, &mut notes);
        }
        if notes.has_errors() {
            return Err(notes);
        }
        Ok(Loaded {
            settings,
            notes,
            origin,
        })
    }

    /// What a configuration that is not good says all the same of where the cache and the socket are:
    /// a command that asks a running larder has to find it.
    pub fn places(&self) -> Settings {
        let mut settings = Settings::default();
        let Origin::Toml(path) = self.origin() else {
            return settings;
        };
        let text = read_bytes(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = |table: &str, name: &str| said_in(&text, table, name);
        settings.cache.directory = said("cache", "directory").map(PathBuf::from);
        settings.admin.socket = said("admin", "socket");
        settings
    }

    fn origin(&self) -> Origin {
        if let Some(path) = &self.named.config {
            return Origin::Toml(path.clone());
        }
        if let Some(path) = &self.named.squid_conf {
            return Origin::Squid(path.clone());
        }
        if let Some(path) = self.environment.path("LARDER_CONFIG") {
            return Origin::Toml(path);
        }
        if Path::new(LARDER_TOML).exists() {
            return Origin::Toml(PathBuf::from(LARDER_TOML));
        }
        let contained = self.environment.text("container").is_some() || exists(&CONTAINER_MARKS);
        let ours = !exists(&SQUID_PROGRAMS) || is_mounted(Path::new(SQUID_CONF));
        if contained && ours && Path::new(SQUID_CONF).exists() {
            return Origin::Squid(PathBuf::from(SQUID_CONF));
        }
        Origin::BuiltIn
    }
}

/// A text of a table; where the whole is no TOML, the first line that may mean it counts.
fn said_in(text: &str, table: &str, name: &str) -> Option<String> {
    if let Ok(whole) = text.parse::<::toml::Table>() {
        return Some(whole.get(table)?.get(name)?.as_str()?.to_owned());
    }
    let header = format!("[{table}]");
    let within = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != header);
    let lines = within.skip(1).take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.parse::<::toml::Table>().ok())
        .find_map(|line| Some(line.get(name)?.as_str()?.to_owned()))
}

fn exists(paths: &[&str]) -> bool {
    paths.iter().any(|path| Path::new(path).exists())
}

/// Whether a file, or its folder, is a volume: field 5 of proc(5)'s mountinfo.
fn is_mounted(file: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(Path::new))
        .any(|at| at == file || Some(at) == file.parent())
}

/// Reads a file of a configuration, of a bounded length: a device that never ends is no such file.
pub(super) fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is over 256 MiB long",
        ));
    }
    Ok(bytes)
}

/// Reads a text. Octets that are no UTF-8 (old comments in Latin-1) become U+FFFD.
pub(super) fn read_file(path: &Path) -> Result<Arc<Source>, Problems> {
    match read_bytes(path) {
        Ok(bytes) => Ok(Source::new(
            path.display().to_string(),
            String::from_utf8_lossy(&bytes),
        )),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            Err(Problem::error(message)
                .mend("name a file that can be read")
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_is_not_good_still_says_where_the_socket_is() {
        let good = "nonsense = 1\n[admin]\nsocket = \"/s\" # here\n[cache]\ndirectory = '/c'\n";
        let torn = good.replace("nonsense = 1", "nonsense =");
        for text in [good, &torn] {
            assert_eq!(said_in(text, "admin", "socket").as_deref(), Some("/s"));
            assert_eq!(said_in(text, "cache", "directory").as_deref(), Some("/c"));
            assert_eq!(said_in(text, "admin", "directory"), None);
        }
    }
}
