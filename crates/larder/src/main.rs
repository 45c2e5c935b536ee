//! The program `larder`: reads its command line and environment, runs one command, and turns what
//! came of it into an exit code.
//!
//! Everything else is in the library beside it, so that integration tests can name it.

use std::process::ExitCode;

use clap::Parser;
use larder::args::Cli;
use larder::environment::Environment;

fn main() -> ExitCode {
    let environment = Environment::of_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => return larder::output::command_line(&said),
    };
    match larder::commands::run(cli, &environment) {
        Ok(code) => code,
        Err(failure) => larder::output::failure(&failure),
    }
}
