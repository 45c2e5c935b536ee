//! `larder provision warm`: fetches what machines will ask for before the first of them does.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use larder_policy::target::Mode;
use larder_provision::Fetch;
use larder_provision::warm::{Warmed, warm};

use super::provision;
use crate::config::{Settings, Sources, parse_address};
use crate::output::{self, Failure};
use crate::serve::boot::Cache;

/// The words of `larder provision warm`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// The larder whose cache is filled [default: this host's, as configured]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    proxy: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    parse_address(text).ok_or_else(|| "write 10.0.0.2:3128 or :3128".to_owned())
}

/// Fetches one after the other, so that machines that boot meanwhile are not held up.
pub(super) fn run(
    args: &Args,
    data: Option<std::path::PathBuf>,
    sources: &Sources,
) -> Result<ExitCode, Failure> {
    let proxy = match args.proxy {
        Some(proxy) => proxy,
        None => own(&sources.load().map_err(Failure::Configuration)?.settings)?,
    };
    let profiles = provision::library(data, sources)?.profiles();
    let fetch: Arc<dyn Fetch> = Arc::new(Cache::at(proxy));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))?;
    let done = runtime.block_on(warm(&fetch, &profiles, tell));
    let failed = done.iter().filter(|one| one.outcome.is_err()).count();
    let bytes: u64 = done
        .iter()
        .filter_map(|one| one.outcome.as_ref().ok())
        .sum();
    output::text(&format!(
        "{} of {} fetched, {bytes} bytes\n",
        done.len() - failed,
        done.len()
    ))?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(output::FAILED)
    })
}

/// The forward listener of the larder that this configuration is for.
fn own(settings: &Settings) -> Result<SocketAddr, Failure> {
    let mut forward = settings
        .listen
        .iter()
        .filter(|listener| listener.mode == Mode::Forward);
    let first = forward.next().map(|listener| listener.address);
    first.ok_or_else(|| Failure::Usage("no forward listener is configured: say --proxy".to_owned()))
}

fn tell(one: &Warmed) {
    let (number, of, url) = (one.number, one.of, &one.url);
    let outcome = match &one.outcome {
        Ok(bytes) => format!("{bytes} bytes"),
        Err(why) => why.clone(),
    };
    output::notice(&format!("{number}/{of} {url}: {outcome}\n"));
}
