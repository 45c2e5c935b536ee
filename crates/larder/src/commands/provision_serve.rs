//! The provisioning server alone: `larder provision serve`, and what `larder matchbox` runs.

#![allow(
    clippy::struct_field_names,
    reason = "the names are those of the command line"
)]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use larder_provision::{Config, Listening, Provision, TlsFiles, listen_rpc, listen_shared_http};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use super::provision::{failed, state_file};
use crate::config::{Sources, settings};
use crate::output::{self, Failure};
use crate::serve::boot::Journeys;

/// The words of `larder provision serve`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Args {
    /// What /assets/ serves [default: assets in the data directory, if it is there]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Where machines ask
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Where terraform asks; needs the certificates of `pki init`
    #[arg(long, value_name = "ADDR")]
    grpc: Option<String>,
    /// Where `pki init` wrote its files
    #[arg(long, value_name = "DIR")]
    pki: Option<PathBuf>,
    /// The matchbox release to imitate: 0.11 or 0.7
    #[arg(long, value_name = "RELEASE")]
    compat: Option<larder_provision::Compat>,
    /// Machines boot from their disk once they said that they are installed
    #[arg(long)]
    install_once: bool,
    /// Add the initrd= arguments that UEFI kernels need
    #[arg(long)]
    initrd_args: bool,
    /// Lead kernels, initrds and repositories through the larder at this URL
    #[arg(long, value_name = "URL")]
    rewrite: Option<String>,
    /// A host that an accelerator stands in for; may be given several times
    #[arg(long, value_name = "HOST=URL", value_parser = accelerator)]
    accelerator: Vec<(String, String)>,
    /// Say what is done at debug level
    #[arg(long)]
    debug: bool,
}

/// What the server is started with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) http: String,
    pub(super) web_tls: Option<(PathBuf, PathBuf)>,
    pub(super) rpc: Option<(String, TlsFiles)>,
    pub(super) level: Level,
}

fn accelerator(text: &str) -> Result<(String, String), String> {
    let (host, url) = text.split_once('=').ok_or("write HOST=URL")?;
    Ok((host.to_owned(), url.to_owned()))
}

/// Runs the server until a signal ends it.
pub(super) fn run(
    args: &Args,
    data: Option<PathBuf>,
    sources: &Sources,
) -> Result<ExitCode, Failure> {
    let settings = sources
        .load()
        .map_err(Failure::Configuration)?
        .settings
        .provision;
    let (http, grpc) = (settings.http, settings.grpc);
    let settings = overridden(args, data, settings);
    let (mut config, files) = from_settings(&settings)?;
    if let Some(compat) = args.compat {
        config.compat = compat;
    }
    config.rewrite.enabled = args.rewrite.is_some() || !args.accelerator.is_empty();
    config.rewrite.base = args.rewrite.clone().unwrap_or_default();
    config.rewrite.accelerators.clone_from(&args.accelerator);
    let grpc = args
        .grpc
        .clone()
        .or(grpc.map(|address| address.to_string()));
    serve(Plan {
        config,
        http: args.http.clone().unwrap_or_else(|| http.to_string()),
        web_tls: None,
        rpc: grpc.map(|address| (address, files)),
        level: if args.debug {
            Level::DEBUG
        } else {
            Level::INFO
        },
    })
}

/// Each word replaces what the configuration says of the same thing.
fn overridden(
    args: &Args,
    data: Option<PathBuf>,
    mut settings: settings::Provision,
) -> settings::Provision {
    if let Some(data) = data {
        settings.data = data;
    }
    settings.assets = args.assets.clone().or(settings.assets);
    settings.install_once |= args.install_once;
    settings.initrd_args |= args.initrd_args;
    if let Some(directory) = &args.pki {
        settings.cert_file = directory.join("server.crt");
        settings.key_file = directory.join("server.key");
        settings.ca_file = directory.join("ca.crt");
    }
    settings
}

/// What `/assets/` serves: as configured, else that folder of the data directory, if it is there.
pub(super) fn assets(settings: &settings::Provision) -> Option<PathBuf> {
    let default = settings.data.join("assets");
    let configured = settings.assets.clone();
    configured.or_else(|| default.is_dir().then_some(default))
}

/// `[provision]` of larder.toml as the provisioning part understands it.
///
/// # Errors
/// A release of matchbox that is none.
pub fn from_settings(settings: &settings::Provision) -> Result<(Config, TlsFiles), Failure> {
    let mut config = Config {
        assets: assets(settings),
        compat: settings.compat.parse().map_err(Failure::Usage)?,
        install_once: settings.install_once,
        initrd_args: settings.initrd_args,
        ..Config::default()
    };
    config.state = Some(state_file(&settings.data));
    config.data.clone_from(&settings.data);
    config.rewrite.enabled = settings.rewrite;
    let files = TlsFiles {
        certificate: settings.cert_file.clone(),
        key: settings.key_file.clone(),
        authority: settings.ca_file.clone(),
    };
    Ok((config, files))
}

/// Starts what is planned and waits for a signal.
pub(super) fn serve(plan: Plan) -> Result<ExitCode, Failure> {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(plan.level);
    // A second one is refused where a test began the first.
    let _first = subscriber.try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))?;
    let code = runtime.block_on(run_until_signal(plan));
    end(runtime);
    code
}

/// For so long what still works for a request may go on once the listeners are closed.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Ends whatever the requests left behind: nobody waits for its answer any more.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(END_PATIENCE);
}

async fn run_until_signal(plan: Plan) -> Result<ExitCode, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::step("cannot listen for signals", error));
    let mut term = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let provision = Provision::open(plan.config, None).map_err(failed)?;
    for note in provision.snapshot().notes {
        output::notice(&format!("{note}\n"));
    }
    let mut listening: Vec<Listening> = Vec::new();
    if let Some((address, files)) = &plan.rpc {
        let rpc = listen_rpc(std::sync::Arc::clone(&provision), address, files).await;
        listening.push(rpc.map_err(failed)?);
    }
    let journeys = Journeys::of_provisioning_alone(std::sync::Arc::clone(&provision));
    let first = std::sync::Arc::new(move |request: &_, client| journeys.answer(request, client));
    let http = listen_shared_http(provision, &plan.http, plan.web_tls, first)
        .await
        .map_err(failed)?;
    output::notice(&format!(
        "listening mode=provision address={}\n",
        http.address()
    ));
    for rpc in &listening {
        output::notice(&format!("listening mode=rpc address={}\n", rpc.address()));
    }
    listening.push(http);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    }
    for listener in listening {
        tokio::select! {
            () = listener.stop() => {}
            _ = term.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_does_not_keep_the_program() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build();
        let runtime = runtime.unwrap();
        let (release, waits) = std::sync::mpsc::channel::<()>();
        let (begins, begun) = std::sync::mpsc::channel();
        runtime.spawn_blocking(move || {
            begins.send(()).unwrap();
            waits.recv()
        });
        begun.recv().unwrap();
        // Where it waited for the work, this would not return: nothing releases it before.
        end(runtime);
        drop(release);
    }
}
