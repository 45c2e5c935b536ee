//! `larder cache purge`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::tell::{Progress, number, text};
use super::{Session, show};
use crate::config::units::{duration, show_size};
use crate::output::{self, Failure};

/// The words of `larder cache purge`. What is named and what is said of age both have to fit.
#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("something").required(true).multiple(true))]
pub(super) struct Args {
    /// A URL, a key, or a pattern with `*`, `?` or `[…]`
    #[arg(group = "something")]
    what: Vec<String>,
    /// The body with this SHA-256, and every object that has it
    #[arg(long, value_name = "SHA256", group = "something")]
    digest: Option<String>,
    /// What has not been delivered for this long, such as 90d
    #[arg(long, value_name = "TIME", group = "something", value_parser = time)]
    unused_for: Option<Duration>,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|error| error.to_string())
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let common = json!({
        "digest": args.digest,
        "unused_for": args.unused_for.map(|time| time.as_secs()),
        "dry_run": args.dry_run,
    });
    let mut wishes = Vec::new();
    for what in &args.what {
        let mut wish = common.clone();
        if what.contains(['*', '?', '[']) && !what.starts_with("url:") && !what.starts_with("id:") {
            wish["pattern"] = json!(what);
        } else {
            let keys = show::keys(session, what)?;
            wish["keys"] = keys.iter().map(ToString::to_string).collect();
        }
        wishes.push(wish);
    }
    if args.what.is_empty() {
        wishes.push(common);
    }
    let (mut objects, mut bytes, mut fetches) = (0, 0, 0);
    for wish in &wishes {
        let mut progress = Progress::of("reading");
        let mut written = Ok(ExitCode::SUCCESS);
        session.lines("/api/v1/purge", Some(wish), |line| {
            if progress.takes(&line) {
                return true;
            }
            if let Some(removed) = line.get("removed") {
                // What cannot be printed goes all the same.
                let printed = output::text(&said(removed, json));
                written = std::mem::replace(&mut written, Ok(ExitCode::SUCCESS)).and(printed);
            } else if let Some(done) = line.get("done") {
                objects += number(done, "objects");
                bytes += number(done, "bytes");
                fetches += number(done, "fetches");
            }
            true
        })?;
        drop(progress);
        written?;
    }
    let done = if args.dry_run { "would go" } else { "gone" };
    if json {
        let last = json!({"objects": objects, "bytes": bytes, "fetches": fetches, "dry_run": args.dry_run});
        output::text(&format!("{last}\n"))?;
    } else {
        let of_fetches = match fetches {
            0 => String::new(),
            some => format!("; {some} under way will not be kept"),
        };
        output::text(&format!(
            "{objects} objects, {} {done}{of_fetches}\n",
            show_size(bytes)
        ))?;
    }
    Ok(ExitCode::from(u8::from(objects + fetches == 0)))
}

fn said(removed: &Value, json: bool) -> String {
    if json {
        return format!("{removed}\n");
    }
    format!("{}\n", text(removed, "url"))
}
