//! `larder serve`: runs the proxy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use larder_policy::route::{Mirror, Origin, Select};
use larder_policy::target::{Mode, Site};
use larder_policy::url::Url;
use larder_proxy::config::Listener;

use crate::config::{Loaded, Problem, Problems, Settings, Severity, Sources, clash, parse_address};
use crate::output::{self, Failure};
use crate::serve;

const EXAMPLES: &str = "\
Examples:
  larder serve
  larder serve --cache-dir /srv/cache --listen 127.0.0.1:3128
  larder serve --config /etc/larder/larder.toml
  larder serve --squid-conf /etc/squid/squid.conf
  larder serve --accelerate :80=https://ftp.example.org/

Prints `listening mode=… address=…` to standard error for each socket once it accepts.
Signals: HUP reloads, USR1 reopens logs, TERM drains, INT or a second TERM ends now.
Exit codes: 0 ended by a signal, 1 failed, 2 usage or configuration.";

/// The words of `larder serve`.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Keep objects here
    #[arg(long, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Be a forward proxy here, and nowhere else; may be given several times
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Stand in for a mirror here, and for no others; may be given several times
    #[arg(long, value_name = "ADDR=URL", value_parser = Accelerate::parse)]
    pub accelerate: Vec<Accelerate>,
    /// The administrators' page; `off` for none
    #[arg(long, value_name = "ADDR", value_parser = admin_address)]
    pub admin: Option<AdminAddress>,
    /// The administrators' unix socket; `off` for none
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,
    /// Ask nothing upstream: what is held is served, anything else is a 504
    #[arg(long)]
    pub offline: bool,
}

/// `ADDR=URL`.
#[derive(Clone, Debug)]
pub struct Accelerate {
    address: SocketAddr,
    url: Url,
    origin: Origin,
}

/// An address, or nowhere.
#[derive(Clone, Copy, Debug)]
pub struct AdminAddress(Option<SocketAddr>);

fn address(text: &str) -> Result<SocketAddr, String> {
    parse_address(text).ok_or_else(|| "write [::]:3128, 10.0.0.1:3128 or :3128".to_owned())
}

fn admin_address(text: &str) -> Result<AdminAddress, String> {
    match text {
        "" | "off" => Ok(AdminAddress(None)),
        _ => address(text).map(|address| AdminAddress(Some(address))),
    }
}

impl Accelerate {
    fn parse(text: &str) -> Result<Self, String> {
        let (at, url) = text
            .split_once('=')
            .ok_or("write ADDR=URL, such as :80=http://host/")?;
        let parse = || -> Result<_, larder_policy::url::UrlError> {
            Ok((Url::parse(url)?, Origin::parse(url)?))
        };
        let (url, origin) = parse().map_err(|error| error.to_string())?;
        Ok(Self {
            address: address(at)?,
            url,
            origin,
        })
    }

    /// The mirror that it stands for. Forward clients that ask for the same host share its objects,
    /// unless the URL has a base path: theirs would have it twice.
    fn mirror(&self) -> Mirror {
        let default_port = self.url.port() == self.url.scheme().default_port();
        let shared = default_port && self.origin.base_path.is_empty();
        Mirror {
            name: self.url.host_field().to_owned(),
            hosts: shared
                .then(|| self.url.host().to_owned())
                .into_iter()
                .collect(),
            origins: vec![self.origin.clone()],
            select: Select::default(),
            access: None,
        }
    }
}

/// Runs the proxy until a signal ends it.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let loaded = sources.load().map_err(Failure::Configuration)?;
    let warnings = loaded.notes.at_least(Severity::Warning);
    output::notice(&warnings.render(output::stderr_is_terminal()));
    match loaded.notes.count(Severity::Note) {
        0 => {}
        notes => output::notice(&format!("notes: {notes}; `larder check` shows them\n")),
    }
    let settings = with_flags(loaded, args).map_err(Failure::Configuration)?;
    let load = || with_flags(sources.load()?, args);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))?;
    let code = runtime.block_on(serve::serve(settings, sources.environment(), &load));
    // What still runs (fills without a client) is cut off: its part files go at the next start.
    runtime.shutdown_background();
    code
}

/// Each flag replaces what the configuration says of the same thing.
fn with_flags(loaded: Loaded, args: &Args) -> Result<Settings, Problems> {
    let mut settings = loaded.settings;
    if let Some(directory) = &args.cache_dir {
        settings.cache.directory = Some(directory.clone());
    }
    if let Some(admin) = args.admin {
        settings.admin.address = admin.0;
        settings.admin.address_required = true;
    }
    if let Some(socket) = &args.socket {
        settings.admin.socket = Some(socket.clone());
    }
    settings.offline |= args.offline;
    if !args.listen.is_empty() {
        settings
            .listen
            .retain(|listener| listener.mode != Mode::Forward);
        settings
            .listen
            .extend(args.listen.iter().map(|&address| forward(address)));
    }
    if !args.accelerate.is_empty() {
        settings
            .listen
            .retain(|listener| listener.mode == Mode::Forward);
        for wanted in &args.accelerate {
            let mirror = wanted.mirror();
            settings.listen.push(accelerator(wanted.address, &mirror));
            if !settings
                .routes
                .mirrors
                .iter()
                .any(|other| other.name == mirror.name)
            {
                settings.routes.mirrors.push(mirror);
            }
        }
    }
    listeners_fit(&settings)?;
    Ok(settings)
}

fn forward(address: SocketAddr) -> Listener {
    Listener {
        address,
        mode: Mode::Forward,
        name: "forward".to_owned(),
        tls: None,
    }
}

fn accelerator(address: SocketAddr, mirror: &Mirror) -> Listener {
    let site = Site {
        authority: mirror.canonical(),
        vhost: false,
        mirror: Some(mirror.name.clone()),
    };
    Listener {
        address,
        mode: Mode::Accelerator(site),
        name: "accelerator".to_owned(),
        tls: None,
    }
}

/// There is a listener, and none is in another's way.
fn listeners_fit(settings: &Settings) -> Result<(), Problems> {
    if settings.listen.is_empty() {
        let problem = Problem::error("there is no listener");
        return Err(problem.mend("add [[listen]], http_port or --listen").into());
    }
    for (index, listener) in settings.listen.iter().enumerate() {
        let before = settings.listen.iter().take(index);
        if before
            .clone()
            .any(|other| clash(other.address, listener.address))
        {
            let message = format!("two listeners on port {}", listener.address.port());
            return Err(Problem::error(message)
                .mend("give each a port of its own")
                .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;
    use crate::environment::Environment;

    fn settings(args: &Args) -> Result<Settings, Problems> {
        let environment = Environment::of_pairs([("LARDER_CONFIG", "/dev/null")]);
        with_flags(
            Sources::new(&args::Source::default(), &environment).load()?,
            args,
        )
    }

    fn accelerate(text: &str) -> Args {
        Args {
            accelerate: vec![Accelerate::parse(text).unwrap()],
            ..Args::default()
        }
    }

    #[test]
    fn listen_replaces_the_forward_listeners_alone() {
        let mut args = accelerate(":80=http://ftp.example.org/");
        args.listen = vec![address("127.0.0.1:8128").unwrap()];
        let settings = settings(&args).unwrap();
        let addresses: Vec<String> = settings
            .listen
            .iter()
            .map(|listener| listener.address.to_string())
            .collect();
        assert_eq!(addresses, ["127.0.0.1:8128", "[::]:80"]);
    }

    #[test]
    fn an_accelerated_host_is_shared_with_forward_clients_unless_it_has_a_base_path() {
        let plain = settings(&accelerate(":80=https://ftp.example.org/")).unwrap();
        assert_eq!(plain.routes.mirrors[0].hosts, ["ftp.example.org"]);
        let based = settings(&accelerate(":80=https://ftp.example.org/pub/")).unwrap();
        assert!(based.routes.mirrors[0].hosts.is_empty());
    }

    #[test]
    fn a_flag_may_not_put_two_listeners_on_one_port() {
        let problems = settings(&accelerate(":3128=http://ftp.example.org/")).unwrap_err();
        assert!(
            problems
                .render(false)
                .contains("two listeners on port 3128")
        );
    }

    #[test]
    fn what_is_no_accelerator_is_refused() {
        for text in ["http://x/", ":80=ftp://x/", "nowhere=http://x/"] {
            assert!(Accelerate::parse(text).is_err(), "{text}");
        }
    }
}
