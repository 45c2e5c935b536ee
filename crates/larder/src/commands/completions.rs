//! `larder completions` and `larder man`: made from the command line's own description.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::Cli;
use crate::output::{self, Failure};

/// The words of `larder completions`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// Prints the completion script of a shell.
pub fn shell(args: &Args) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "larder", &mut script);
    output::bytes(&script)
}

/// Prints the manual page.
pub fn manual() -> Result<ExitCode, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::step("cannot write the manual page", error))?;
    output::bytes(&page)
}
