//! The commands: one file each, with its words (`Args`) and what it does (`run`).

pub mod boot;
mod boot_doctor;
pub mod cache;
pub mod check;
pub mod completions;
pub mod convert;
pub mod explain;
pub mod machines;
mod machines_rm;
pub mod matchbox;
pub mod provision;
mod provision_files;
pub mod provision_serve;
mod provision_warm;
pub mod reload;
pub mod serve;
pub mod status;

use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::config::Sources;
use crate::environment::Environment;
use crate::output::Failure;

/// Runs the command that was asked for.
pub fn run(cli: Cli, environment: &Environment) -> Result<ExitCode, Failure> {
    let sources = Sources::new(&cli.source, environment);
    match cli.command {
        Command::Boot(args) => boot::run(&args, &sources),
        Command::Cache(args) => cache::run(&args, &sources),
        Command::Check(args) => check::run(&args, &sources),
        Command::Explain(args) => explain::run(&args, &sources),
        Command::Convert(args) => convert::run(&args),
        Command::Completions(args) => completions::shell(&args),
        Command::Machines(args) => machines::run(args, &sources),
        Command::Matchbox(args) => matchbox::run(&args, environment),
        Command::Provision(args) => provision::run(args, &sources),
        Command::Reload(args) => reload::run(&args, &sources),
        Command::Serve(args) => serve::run(&args, &sources),
        Command::Status(args) => status::run(&args, &sources),
        Command::Man => completions::manual(),
    }
}
