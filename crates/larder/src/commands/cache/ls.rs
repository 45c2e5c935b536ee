//! `larder cache ls`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use larder_admin::parameter;
use serde_json::Value;

use super::Session;
use super::tell::{Progress, ago, number, text};
use crate::config::units::show_size;
use crate::output::{self, Failure};

/// The words of `larder cache ls`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Which: a URL or store ID with `*`, `?` or `[…]`, or a part of one
    pattern: Option<String>,
    /// In which order
    #[arg(long, value_enum, default_value_t = Sort::Key)]
    sort: Sort,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    /// By URL or store ID
    Key,
    /// The largest first
    Size,
    /// The most often delivered first
    Uses,
    /// The last delivered first
    Used,
    /// The newest first
    Added,
    /// Who would leave next first
    Leaving,
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let sort = args.sort.to_possible_value();
    let mut query = vec![parameter(
        "sort",
        sort.as_ref().map_or("key", |sort| sort.get_name()),
    )];
    query.extend(
        args.pattern
            .iter()
            .map(|pattern| parameter("pattern", pattern)),
    );
    query.extend(
        args.limit
            .map(|limit| parameter("limit", &limit.to_string())),
    );
    let path = format!("/api/v1/objects?{}", query.join("&"));
    let mut progress = Progress::of("reading");
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut found, mut written) = (false, Ok(()));
    session.lines(&path, None, |line| {
        if progress.takes(&line) {
            return true;
        }
        found = true;
        let line = if json { line.to_string() } else { words(&line) };
        written = writeln!(out, "{line}");
        written.is_ok()
    })?;
    drop(progress);
    match written.and_then(|()| out.flush()) {
        // A reader that goes away (`| head`) has had enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::step("cannot write to standard output", error));
        }
        _ => {}
    }
    if let (false, Some(pattern)) = (found, &args.pattern) {
        output::notice(&format!("nothing matches {pattern}\n"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn words(object: &Value) -> String {
    let shared = if text(object, "key").starts_with("id:") {
        '*'
    } else {
        ' '
    };
    let size = show_size(number(object, "bytes"));
    let url = text(object, "url");
    if text(object, "state") == "partial" {
        // Nobody counts their deliveries: what is there of it is said instead.
        let held = show_size(number(object, "held"));
        return format!("{size:>10} {:>6} {held:>9} {shared} {url}", "partial");
    }
    format!(
        "{size:>10} {:>6} {:>9} {shared} {url}",
        number(object, "uses"),
        ago(number(object, "used")),
    )
}
