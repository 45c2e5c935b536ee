//! `larder check`: what is wrong with a configuration, or worth knowing about it.

use std::process::ExitCode;

use serde_json::json;

use crate::config::{Problems, Severity, Sources};
use crate::output::{self, Failure};

const EXAMPLES: &str = "\
Examples:
  larder check                                      the configuration that `serve` would use
  larder check --config /etc/larder/larder.toml
  larder check --squid-conf /etc/squid/squid.conf

Exit codes: 0 good (there may be notes), 2 not good.";

/// The words of `larder check`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// Reads the configuration as `serve` would, and says what was found.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let (origin, problems) = match sources.load() {
        Ok(loaded) => (Some(loaded.origin.to_string()), loaded.notes),
        Err(problems) => (None, problems),
    };
    if args.json {
        let good = !problems.has_errors();
        let report = json!({"good": good, "source": origin, "problems": problems.to_json()});
        output::text(&format!("{report:#}\n"))?;
    } else {
        output::notice(&problems.render(output::stderr_is_terminal()));
        output::text(&summary(origin.as_deref(), &problems))?;
    }
    Ok(if problems.has_errors() {
        ExitCode::from(output::USAGE)
    } else {
        ExitCode::SUCCESS
    })
}

fn summary(origin: Option<&str>, problems: &Problems) -> String {
    let counts: Vec<String> = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Note, "note"),
    ]
    .into_iter()
    .map(|(severity, word)| (problems.count(severity), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
    .collect();
    match (origin, counts.is_empty()) {
        (Some(origin), true) => format!("{origin}: good\n"),
        (Some(origin), false) => format!("{origin}: good, {}\n", counts.join(", ")),
        (None, _) => format!("not good: {}\n", counts.join(", ")),
    }
}
