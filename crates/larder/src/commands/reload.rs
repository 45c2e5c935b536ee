//! `larder reload`: a running larder reads its configuration again.

use std::process::ExitCode;

use serde_json::json;

use super::cache::{Session, Which, failed};
use crate::config::Sources;
use crate::output::{self, Failure};

/// The words of `larder reload`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Asks for it. A configuration that is not good changes nothing: exit code 2, and what is wrong.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let session = Session::of_running(&args.which, sources)?;
    let nothing = json!({});
    let asked = session.client.post("/api/v1/reload", &nothing);
    let answer = session.wait(asked).map_err(failed)?;
    let good = answer["good"].as_bool() == Some(true);
    if args.json {
        output::text(&format!("{answer:#}\n"))?;
    } else if good {
        output::text("the configuration has been read again\n")?;
        for what in answer["restart"].as_array().into_iter().flatten() {
            let what = what.as_str().unwrap_or_default();
            output::notice(&format!("{what} changed: this needs a restart\n"));
        }
    } else {
        output::notice(answer["problems"].as_str().unwrap_or_default());
        output::notice("the configuration is not good: nothing has changed\n");
    }
    Ok(ExitCode::from(if good { 0 } else { output::USAGE }))
}
