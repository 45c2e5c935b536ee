//! What is printed, and the exit code that goes with it.
//!
//! Exit codes: 0 good, 1 failed while running, 2 usage or configuration. A reader that goes away
//! (`larder … | head`) is no failure.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::process::ExitCode;

use crate::config::Problems;

/// Failed while running.
pub const FAILED: u8 = 1;
/// Usage or configuration.
pub const USAGE: u8 = 2;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is not good.
    #[error("the configuration is not good")]
    Configuration(Problems),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A step failed while running.
    #[error("{step}")]
    Step {
        /// What was tried, as a sentence without full stop.
        step: String,
        /// What came of it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Failure {
    /// A step that failed.
    pub fn step(step: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Step {
            step: step.into(),
            source: source.into(),
        }
    }
}

/// Prints text on standard output.
pub fn text(text: &str) -> Result<ExitCode, Failure> {
    bytes(text.as_bytes())
}

/// Prints bytes on standard output.
pub fn bytes(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::step("cannot write to standard output", error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints text on standard error; that it cannot be printed is nothing to stop for.
pub fn notice(text: &str) {
    let mut out = std::io::stderr().lock();
    let _unread = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// True if people look at standard error, and colours are welcome there.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// What clap says: help and version on standard output, errors on standard error.
pub fn command_line(said: &clap::Error) -> ExitCode {
    let _unread = said.print();
    if said.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints why a command came to nothing.
pub fn failure(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Configuration(problems) => {
            notice(&problems.render(stderr_is_terminal()));
            ExitCode::from(USAGE)
        }
        Failure::Usage(_) => {
            notice(&format!("error: {failure}\n"));
            ExitCode::from(USAGE)
        }
        Failure::Step { .. } => {
            notice(&format!("error: {}\n", chain(failure)));
            ExitCode::from(FAILED)
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _never = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
