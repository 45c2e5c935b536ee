//! `larder status`: how a running larder is.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::cache::{Session, Which, ago};
use crate::config::Sources;
use crate::config::units::show_size;
use crate::output::{self, Failure};

/// The words of `larder status`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Asks it.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let session = Session::of_running(&args.which, sources)?;
    let status = session.get("/api/v1/status")?;
    output::text(&if args.json {
        format!("{status:#}\n")
    } else {
        words(&status)
    })
}

fn words(status: &Value) -> String {
    let cache = &status["cache"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut out = format!(
        "larder {} runs as process {}, since {} ({} s)\n",
        status["version"].as_str().unwrap_or_default(),
        number(&status["pid"]),
        ago(number(&status["started"])),
        Duration::from_secs(number(&status["uptime"])).as_secs(),
    );
    for listener in status["listeners"].as_array().into_iter().flatten() {
        let part = |name: &str| listener[name].as_str().unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "listens        {} on {}",
            part("mode"),
            part("address")
        );
    }
    let _ = writeln!(
        out,
        "cache          {}",
        status["directory"].as_str().unwrap_or_default()
    );
    let (used, max) = (number(&cache["used"]), number(&cache["max"]));
    let _ = writeln!(
        out,
        "holds          {} objects, {} of {}",
        number(&cache["objects"]),
        show_size(used),
        show_size(max),
    );
    if let Some(why) = cache["read_only"].as_str() {
        let _ = writeln!(out, "read-only      nothing is stored: {why}");
    }
    if cache["index_damaged"] == true {
        let _ = writeln!(
            out,
            "index          is damaged: a restart of larder rebuilds it"
        );
    }
    let _ = writeln!(out, "fetches        {} now", number(&cache["fills"]));
    if let Some(rebuilding) = cache.get("rebuilding").filter(|value| !value.is_null()) {
        let (done, of) = (number(&rebuilding["done"]), number(&rebuilding["of"]));
        let _ = writeln!(out, "index          is rebuilt: {done} of {of} objects");
    }
    let faults = cache["faults"].as_object().into_iter().flatten();
    for (kind, count) in faults.filter(|(_, count)| number(count) > 0) {
        let _ = writeln!(out, "faults         {kind}: {}", number(count));
    }
    out
}
