//! `larder provision`: runs the provisioning server alone, and looks after its data directory.
//!
//! Everything but `serve` and `machines` works on the files themselves: a running server sees a change
//! with its next request, so no connection to it is needed.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use larder_provision::{Error, Kind, Library, Machines};

use super::{machines, provision_files as files, provision_serve as server, provision_warm};
use crate::config::Sources;
use crate::output::{self, Failure};

const EXAMPLES: &str = "\
Examples:
  larder provision serve --data /var/lib/matchbox --http :8080
  larder provision pki init --san matchbox.example.com --san 192.0.2.10
  larder provision profile ls
  larder provision group put node1.json
  larder provision select mac=52:54:00:12:34:56 os=installed
  larder provision warm
  larder provision machines reinstall 52:54:00:12:34:56

Exit codes: 0 good, 1 failed, 2 usage or configuration.";

/// The words of `larder provision`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The matchbox data directory [default: as configured, else /var/lib/matchbox]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the provisioning server without the proxy
    Serve(server::Args),
    /// Keys and certificates of the gRPC port
    #[command(subcommand)]
    Pki(Pki),
    /// Profiles: what a machine boots
    #[command(subcommand)]
    Profile(files::Verb),
    /// Groups: which machines get which profile
    #[command(subcommand)]
    Group(files::Verb),
    /// Ignition configs
    #[command(subcommand)]
    Ignition(files::Verb),
    /// Generic templates
    #[command(subcommand)]
    Generic(files::Verb),
    /// Say which group and profile a machine gets
    Select(files::Select),
    /// Say what is wrong with the data directory: files, what they lead to, templates, images
    Check {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Fetch what all profiles boot, and their trees' installer images, into the cache
    Warm(provision_warm::Args),
    /// Machines: installed or not
    Machines {
        /// The list of installed machines [default: .larder/machines in the data directory]
        #[arg(long, global = true, value_name = "FILE")]
        state: Option<PathBuf>,
        #[command(subcommand)]
        verb: machines::Verb,
    },
}

#[derive(Debug, Subcommand)]
enum Pki {
    /// Make an authority, a server and a client certificate
    Init {
        /// A name or address by which clients reach the server; may be given several times
        #[arg(long, required = true, value_name = "NAME")]
        san: Vec<String>,
        /// Where the files go
        #[arg(long, default_value = "/etc/matchbox", value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Does what was asked for.
pub fn run(args: Args, sources: &Sources) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Serve(words) => server::run(&words, args.data, sources),
        Command::Pki(Pki::Init { san, dir }) => pki_init(&dir, &san),
        Command::Profile(verb) => {
            let (library, assets) = shelves(args.data, sources)?;
            files::profile(&library, assets.as_deref(), &verb)
        }
        Command::Group(verb) => files::group(&library(args.data, sources)?, &verb),
        Command::Ignition(verb) => {
            files::file(&library(args.data, sources)?, Kind::Ignition, &verb)
        }
        Command::Generic(verb) => files::file(&library(args.data, sources)?, Kind::Generic, &verb),
        Command::Select(words) => files::select(&library(args.data, sources)?, &words),
        Command::Warm(words) => provision_warm::run(&words, args.data, sources),
        Command::Check { json } => {
            let (library, assets) = shelves(args.data, sources)?;
            files::check(&library, assets.as_deref(), json)
        }
        Command::Machines { state, verb } => {
            machines::run(machines::Args::of(args.data, state, verb), sources)
        }
    }
}

/// The data directory, and what it remembers of machines.
pub(super) fn remembered(
    data: Option<PathBuf>,
    state: Option<PathBuf>,
    sources: &Sources,
) -> Result<(Library, Machines), Failure> {
    let data = data_directory(data, sources)?;
    let library = Library::open(&data).map_err(failed)?;
    let state = state.unwrap_or_else(|| state_file(&data));
    let machines = Machines::open(state).map_err(failed)?;
    Ok((library, machines))
}

/// The data directory that is meant: the flag's, else the configuration's.
fn data_directory(flag: Option<PathBuf>, sources: &Sources) -> Result<PathBuf, Failure> {
    match flag {
        Some(directory) => Ok(directory),
        None => Ok(sources
            .load()
            .map_err(Failure::Configuration)?
            .settings
            .provision
            .data),
    }
}

pub(super) fn library(data: Option<PathBuf>, sources: &Sources) -> Result<Library, Failure> {
    Library::open(&data_directory(data, sources)?).map_err(failed)
}

/// The data directory that is meant, and the assets that go with it, if there are any.
fn shelves(
    data: Option<PathBuf>,
    sources: &Sources,
) -> Result<(Library, Option<PathBuf>), Failure> {
    let mut settings = sources
        .load()
        .map_err(Failure::Configuration)?
        .settings
        .provision;
    if let Some(data) = data {
        settings.data = data;
        settings.assets = None;
    }
    let library = Library::open(&settings.data).map_err(failed)?;
    Ok((library, server::assets(&settings)))
}

/// Where a server on this data directory remembers its machines.
pub(super) fn state_file(data: &Path) -> PathBuf {
    data.join(".larder/machines")
}

/// A failure of provisioning, whose own words say what was tried.
pub(super) fn failed(error: Error) -> Failure {
    Failure::step("provisioning", error)
}

fn pki_init(directory: &Path, names: &[String]) -> Result<ExitCode, Failure> {
    let now = std::time::SystemTime::now();
    let days = now
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() / 86_400);
    // Certificates begin with the year; a year's first day may come one too early, which is fine.
    let year = 1970 + i32::try_from(days * 400 / 146_097).unwrap_or_default();
    let written = larder_provision::pki::init(directory, names, year).map_err(failed)?;
    let lines: Vec<String> = written
        .iter()
        .map(|path| format!("{}\n", path.display()))
        .collect();
    output::text(&lines.concat())
}
