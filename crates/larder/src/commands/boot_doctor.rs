//! `larder boot doctor`: what would keep machines from booting.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use larder_boot::config::Config;
use larder_boot::doctor::{Report, examine};

use super::boot::BootArgs;
use crate::output::{self, FAILED, Failure};

const EXIT_CODES: &str = "\
Exit codes: 0 nothing stands in the way, 1 failed or something does, 2 usage or configuration. Remarks leave it at 0.
That no DHCP server gives addresses is a remark as soon as a machine has booted from a larder that runs here: servers
that know their machines, and those behind relays, do not answer a made-up one.";

/// The words of `larder boot doctor`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Listen at most so long for other servers
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    wait: u64,
    /// What would be served.
    #[command(flatten)]
    pub(super) boot: BootArgs,
}

/// Examines this host and its links; exit code 1 if something is wrong.
pub(super) fn run(args: &Args, config: &Config) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))?;
    let report = runtime.block_on(examine(config, Duration::from_secs(args.wait.min(60))));
    let report = report.map_err(|error| Failure::step("cannot examine this host", error))?;
    let text = if args.json {
        let json = serde_json::to_string_pretty(&report);
        json.map_err(|error| Failure::step("cannot write JSON", error))? + "\n"
    } else {
        written(&report)
    };
    output::text(&text)?;
    Ok(if report.is_healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    })
}

fn written(report: &Report) -> String {
    let mut text = String::new();
    for server in &report.servers {
        let _infallible = writeln!(
            text,
            "server {} on {}: {}",
            server.address,
            server.interface,
            server.summary()
        );
    }
    for finding in &report.findings {
        let remark = if finding.is_problem { "" } else { " (remark)" };
        let _infallible = writeln!(
            text,
            "{}{remark}: {}\n  {}",
            finding.id, finding.detail, finding.mend
        );
    }
    if report.findings.is_empty() {
        text.push_str("nothing found that would keep a machine from booting\n");
    }
    text
}
