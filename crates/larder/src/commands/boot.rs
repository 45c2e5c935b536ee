//! `larder boot`: the network-boot server beside an untouched DHCP server.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use larder_boot::config::{Config, SocketKind};
use larder_boot::decide::{OfferStyle, Rules};
use larder_boot::explain::{Asked, explain};
use larder_boot::export::{Format, export};
use larder_boot::ipxe_text::{self, Unfit};
use larder_boot::loaders::SecureBoot;
use larder_boot::look::Looks;
use larder_boot::menu::{Entry, SECONDS_MAX};
use larder_boot::net::interfaces;
use larder_boot::packet::architecture::Architecture;
use larder_boot::packet::hardware::HardwareAddress;
use larder_boot::serve::core::{choice, own_rules};
use larder_boot::words::instead::Instead;
use larder_boot::{Boot, loaders, words};

use super::boot_doctor;
use crate::config::{Sources, parse_address, settings};
use crate::output::{self, FAILED, Failure};

const EXAMPLES: &str = "\
Examples:
  larder boot serve                                 every machine on the link gets larder's menu
  larder boot serve --next http://matchbox:8080/boot.ipxe
  larder boot serve -- --dhcp-range=10.0.0.0,proxy --enable-tftp --tftp-root=/srv/tftp \\
      --pxe-service=x86PC,Boot,undionly.kpxe        dnsmasq's words
  larder boot explain --mac 52:54:00:12:34:56 --arch x64
  larder boot doctor                                why does a machine not boot?

Exit codes: 0 good, 1 failed or something is wrong, 2 usage or configuration.";

/// What `--version` among dnsmasq's words prints.
const VERSION: &str = concat!(
    "larder ",
    env!("CARGO_PKG_VERSION"),
    ", with the words of dnsmasq 2.90\n"
);

/// The words of `larder boot`.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: BootCommand,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum BootCommand {
    /// Serve proxyDHCP, TFTP and boot scripts
    Serve(ServeArgs),
    /// Say what would keep machines from booting
    Doctor(boot_doctor::Args),
    /// Say what a machine would be answered
    Explain(ExplainArgs),
    /// Print the lines for a main DHCP server that must carry the boot data itself
    Export(ExportArgs),
}

/// What `[boot]` says, from the command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct BootArgs {
    /// Serve this interface alone; may be given several times
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Serve the files of this folder
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Serve boot scripts here
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,
    /// Go on to this script in place of larder's menu
    #[arg(long, value_name = "URL", value_parser = script_url)]
    next: Option<String>,
    /// Answer beside a DHCP server on this host that holds port 67 alone
    #[arg(long)]
    packet_socket: bool,
    /// Put this serial console on kernel command lines, such as ttyS0,115200
    #[arg(long, value_name = "CONSOLE", value_parser = console)]
    serial: Option<String>,
    /// Boot the local disk after so many seconds in the menu; 0 waits for ever
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=i64::from(SECONDS_MAX)))]
    menu_seconds: Option<u32>,
    /// Fetch what menus boot through a larder on this port of this host
    #[arg(long, value_name = "PORT")]
    cache_port: Option<u16>,
    /// Read dnsmasq's configuration file
    #[arg(long, value_name = "FILE")]
    dnsmasq_conf: Option<PathBuf>,
    /// dnsmasq's words, as on its command line
    #[arg(
        last = true,
        value_name = "DNSMASQ-WORDS",
        conflicts_with = "dnsmasq_conf"
    )]
    words: Vec<String>,
}

#[derive(clap::Args, Clone, Debug)]
struct ServeArgs {
    #[command(flatten)]
    boot: BootArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct ExplainArgs {
    /// The machine's hardware address
    #[arg(long)]
    mac: HardwareAddress,
    /// Its architecture: bios, x64, ia32, arm64, http, or a number of option 93
    #[arg(long, value_parser = architecture)]
    arch: Architecture,
    /// Ask as iPXE does
    #[arg(long)]
    ipxe: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    boot: BootArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct ExportArgs {
    /// isc, kea or dnsmasq
    #[arg(long, value_parser = Format::from_str)]
    format: Format,
    #[command(flatten)]
    boot: BootArgs,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    parse_address(text).ok_or_else(|| "write [::]:8080, 10.0.0.1:8080 or :8080".to_owned())
}

fn script_url(text: &str) -> Result<String, String> {
    fitting(text, ipxe_text::script_url)
}

fn console(text: &str) -> Result<String, String> {
    fitting(text, ipxe_text::console)
}

fn fitting(text: &str, judge: fn(&str) -> Result<(), Unfit>) -> Result<String, String> {
    let judged = judge(text).map(|()| text.to_owned());
    judged.map_err(|unfit| format!("it {unfit}: {}", unfit.mend()))
}

fn architecture(text: &str) -> Result<Architecture, String> {
    Architecture::from_name(text)
        .ok_or_else(|| "write bios, x64, ia32, arm64, http or a number".to_owned())
}

/// Runs the subcommand.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let words = match &args.command {
        BootCommand::Serve(args) => &args.boot.words,
        BootCommand::Doctor(args) => &args.boot.words,
        BootCommand::Explain(args) => &args.boot.words,
        BootCommand::Export(args) => &args.boot.words,
    };
    let instead = words::instead::instead(words, &read_files).map_err(usage)?;
    match instead {
        Some(Instead::Version) => return output::text(VERSION),
        Some(Instead::Words) => return output::text(&words::instead::all_words()),
        Some(Instead::Options) => return output::text(&words::instead::all_options()),
        Some(Instead::Test) | None => {}
    }
    match &args.command {
        BootCommand::Serve(args) if instead.is_some() => {
            read_config(&args.boot, sources)?;
            output::notice("larder: syntax check OK.\n");
            Ok(ExitCode::SUCCESS)
        }
        BootCommand::Serve(args) => serve(read_config(&args.boot, sources)?),
        BootCommand::Doctor(args) => boot_doctor::run(args, &config(&args.boot, sources)?),
        BootCommand::Explain(args) => explained(args, &config(&args.boot, sources)?),
        BootCommand::Export(args) => exported(args.format, &config(&args.boot, sources)?),
    }
}

/// What the configuration says, then what the command line says of the same things, with the addresses of
/// the servers that the words name.
fn config(args: &BootArgs, sources: &Sources) -> Result<Config, Failure> {
    let mut config = read_config(args, sources)?;
    if let Some(words) = &mut config.words {
        let said = words.notes.len();
        words.look_up(&address_of);
        tell(words.notes.iter().skip(said));
    }
    Ok(config)
}

fn tell<'a>(notes: impl IntoIterator<Item = &'a words::Note>) {
    for note in notes {
        output::notice(&format!("note: {note}\n"));
    }
}

/// The same; the names of servers have no addresses yet. Who serves looks them up beside its answers: a
/// resolver that does not answer would keep every machine waiting otherwise.
fn read_config(args: &BootArgs, sources: &Sources) -> Result<Config, Failure> {
    let loaded = sources.load().map_err(Failure::Configuration)?;
    let mut config = from_settings(&loaded.settings.boot)?;
    if let Some(words) = dnsmasq(args)? {
        tell(&words.notes);
        config = config.with_words(words);
    }
    if !args.interface.is_empty() {
        config.interfaces.clone_from(&args.interface);
    }
    config.root = args.root.clone().or(config.root);
    config.http = args.http.or(config.http);
    config.next = args.next.clone().or(config.next);
    config.serial = args.serial.clone().or(config.serial);
    config.menu_seconds = args.menu_seconds.unwrap_or(config.menu_seconds);
    config.cache_port = args.cache_port.or(config.cache_port);
    if args.packet_socket {
        config.socket = SocketKind::Packet;
    }
    Ok(config)
}

/// `[boot]` of larder.toml as the boot part understands it.
///
/// # Errors
/// A machine's address or offer style is none.
pub fn from_settings(boot: &settings::Boot) -> Result<Config, Failure> {
    let mut config = Config {
        interfaces: boot.interfaces.clone(),
        root: boot.root.clone(),
        http: Some(boot.http),
        next: boot.next.clone(),
        serial: boot.serial.clone(),
        menu_seconds: boot.menu_seconds,
        has_install_menus: boot.install_menus,
        files: boot.files.clone(),
        ..Config::default()
    };
    if boot.secure_boot {
        config.secure_boot = SecureBoot::Shim;
    }
    if boot.packet_socket {
        config.socket = SocketKind::Packet;
    }
    config.menu.extend(boot.menu.iter().map(|entry| Entry {
        title: entry.title.clone(),
        repo: entry.repo.clone(),
        kernel: entry.kernel.clone(),
        initrd: entry.initrd.clone(),
        args: entry.args.join(" "),
        chain: entry.chain.clone(),
        console: None,
        form: larder_boot::menu::Form::Usual,
    }));
    for machine in &boot.machines {
        let mac = machine.mac.parse().map_err(usage)?;
        let style = machine
            .offer_style
            .as_deref()
            .filter(|style| *style != "auto");
        if let Some(style) = style {
            config
                .styles
                .insert(mac, OfferStyle::from_str(style).map_err(usage)?);
        }
    }
    Ok(config)
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

/// dnsmasq's rules, if the command line names any.
fn dnsmasq(args: &BootArgs) -> Result<Option<words::rules::Rules>, Failure> {
    let rules = match &args.dnsmasq_conf {
        Some(file) => {
            let content = std::fs::read(file)
                .map_err(|error| usage(format!("cannot read {}: {error}", file.display())))?;
            let content = words::text::decoded(&content);
            words::read::file(&file.display().to_string(), &content, &read_files)
        }
        None if args.words.is_empty() => return Ok(None),
        None => words::read::command_line(&args.words, &read_files),
    };
    rules.map(Some).map_err(usage)
}

/// The first IPv4 address of a name, as this host looks names up.
fn address_of(name: &str) -> Option<Ipv4Addr> {
    let mut found = (name, 0).to_socket_addrs().ok()?;
    found.find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    })
}

/// Reads a file, or the files of a folder in the order of their names, as dnsmasq does.
pub fn read_files(path: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut paths = vec![path.to_owned()];
    if path.is_dir() {
        let entries: std::io::Result<Vec<PathBuf>> = std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.path()))
            .collect();
        paths = entries?;
        paths.retain(|path| {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let is_backup = name.starts_with('#') && name.ends_with('#');
            path.is_file() && !name.starts_with('.') && !name.ends_with('~') && !is_backup
        });
        paths.sort();
    }
    paths
        .into_iter()
        .map(|path| {
            let content = std::fs::read(&path)?;
            let content = words::text::decoded(&content);
            Ok((path.display().to_string(), content))
        })
        .collect()
}

fn serve(config: Config) -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))?;
    let code = runtime.block_on(async {
        let mut signals =
            Signals::listen().map_err(|error| Failure::step("cannot listen for signals", error))?;
        let started = Boot::start(config, None, async move { signals.end().await });
        let mut handle = started.map_err(|error| Failure::step("cannot start", error))?;
        for notice in handle.notices() {
            output::notice(&format!("note: {notice}\n"));
        }
        for socket in handle.listening() {
            output::notice(&format!(
                "listening mode={} address={}\n",
                socket.mode, socket.address
            ));
        }
        if handle.stopped().await {
            Ok(ExitCode::SUCCESS)
        } else {
            Ok(ExitCode::from(FAILED))
        }
    });
    // Nobody waits for a name that is still being looked up.
    runtime.shutdown_background();
    code
}

/// The signals that end a server.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// What scripts and log rotation send to dnsmasq, which lives on.
    others: [(&'static str, tokio::signal::unix::Signal); 3],
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            others: [
                ("SIGHUP", signal(SignalKind::hangup())?),
                ("SIGUSR1", signal(SignalKind::user_defined1())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ],
        })
    }

    async fn end(&mut self) {
        let [hangup, first, second] = &mut self.others;
        loop {
            let name = tokio::select! {
                _told = self.interrupt.recv() => return,
                _told = self.terminate.recv() => return,
                _told = hangup.1.recv() => hangup.0,
                _told = first.1.recv() => first.0,
                _told = second.1.recv() => second.0,
            };
            tracing::info!("{name} changes nothing: configuration is read at the start");
        }
    }
}

/// The rules as `serve` would have them, without opening a socket.
fn rules(config: &Config) -> Rules {
    let looks = Looks::default();
    let programs = loaders::find(config.root.as_deref(), config.secure_boot, &looks).programs;
    let http_port = config.http.map(|address| address.port());
    Rules {
        words: config.words.clone(),
        own: own_rules(config, programs, http_port, &looks),
    }
}

fn explained(args: &ExplainArgs, config: &Config) -> Result<ExitCode, Failure> {
    let asked = Asked {
        mac: args.mac,
        architecture: args.arch,
        is_ipxe: args.ipxe,
    };
    let interface = first_interface(config)?;
    let answers = explain(asked, &rules(config), &interface);
    if args.json {
        let json = serde_json::to_string_pretty(&answers)
            .map_err(|error| Failure::step("cannot write JSON", error))?;
        return output::text(&format!("{json}\n"));
    }
    let mut text = format!(
        "{} on {} ({})\n",
        args.mac, interface.name, interface.address
    );
    for answer in answers {
        let file = answer
            .file
            .map(|file| format!(" {file}"))
            .unwrap_or_default();
        let server = answer
            .server
            .map(|server| format!(" from {server}"))
            .unwrap_or_default();
        let _infallible = writeln!(
            text,
            "port {:<5} {}: {}{file}{server}",
            answer.port, answer.client, answer.answer
        );
    }
    text.push_str("IPv6: PXE over IPv6 is not served\n");
    output::text(&text)
}

fn exported(format: Format, config: &Config) -> Result<ExitCode, Failure> {
    let interface = first_interface(config)?;
    output::text(&export(format, &rules(config).own, interface.address))
}

fn first_interface(config: &Config) -> Result<larder_boot::decide::Interface, Failure> {
    let all =
        interfaces::list().map_err(|error| Failure::step("cannot list the interfaces", error))?;
    let served = choice(config)
        .pick(&all)
        .map_err(|error| Failure::step("cannot explain", error))?;
    let first = served.into_iter().next();
    first
        .map(|found| found.interface)
        .ok_or_else(|| usage("there is no interface to serve"))
}
