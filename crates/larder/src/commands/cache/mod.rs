//! `larder cache`: what the cache holds, seen and changed, while larder runs or not.

mod export;
mod import;
mod ls;
mod manifest;
mod purge;
mod session;
mod show;
mod stats;
mod sums;
mod tell;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Sources;
use crate::output::Failure;

pub use session::{Access, Session, Which, failed};
pub use tell::ago;

const EXAMPLES: &str = "\
Examples:
  larder cache stats
  larder cache ls '*.rpm' --sort size --limit 20
  larder cache show http://ftp.example.org/pub/a-1.rpm
  larder cache purge 'http://ftp.example.org/*' --unused-for 90d
  larder cache verify --repair
  larder cache export mirror.tar --pattern '*/Packages/*'
  larder cache import mirror.tar
  larder cache import /mnt/dvd --as http://ftp.example.org/8/BaseOS/

A running larder is asked over its socket; a cache that nobody has open is opened.
Exit codes: 0 good, 1 failed (or nothing found, or damage that stays), 2 usage or configuration.";

/// The words of `larder cache`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// For programs: JSON, documented in docs/tour-cache.md
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How much there is, and what of it is used
    Stats,
    /// List objects
    Ls(ls::Args),
    /// Show what is held of a URL, with its head
    Show(show::Args),
    /// Let objects go
    Purge(purge::Args),
    /// Read every body and compare it with its digest
    Verify(verify::Args),
    /// Write objects to a folder, a tar file, or a cacache cache
    Export(export::Args),
    /// Take objects from a folder or a tar file
    Import(import::Args),
}

/// Runs the command.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let access = match args.what {
        What::Stats | What::Ls(_) | What::Show(_) | What::Export(_) => Access::Look,
        What::Purge(_) | What::Verify(_) => Access::Change,
        What::Import(_) => Access::Fill,
    };
    let session = Session::open(&args.which, sources, access)?;
    let done = match &args.what {
        What::Stats => stats::run(&session, args.json),
        What::Ls(words) => ls::run(&session, words, args.json),
        What::Show(words) => show::run(&session, words, args.json),
        What::Purge(words) => purge::run(&session, words, args.json),
        What::Verify(words) => verify::run(&session, words, args.json),
        What::Export(words) => export::run(&session, words, args.json),
        What::Import(words) => import::run(&session, words, args.json),
    };
    session.close();
    done
}
