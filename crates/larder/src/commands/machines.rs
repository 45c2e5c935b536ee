//! `larder machines`: who booted here, how far it came, and why not further.
//!
//! A running larder on this host is asked first, over its administrators' socket: it knows the whole
//! way, and what it is told it does itself, so that nobody else writes its files. Whoever may not open
//! that socket still gets the list, at `/machines.json` of its boot or provisioning port, which answers
//! to loopback alone. A provisioning server that runs alone has no such socket: it tells the list, and its
//! files are the way to change something. Without any there is what the data directory remembers: which
//! machines are installed. Whoever tells of them, JSON has one shape; what is not known is null or empty in it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use larder_admin::ClientError;
use larder_provision::{Error, Library, Mac, Machines, ansible, named_only};
use serde_json::{Value, json};

use super::cache::{Session, Which};
use super::{machines_rm, provision};
use crate::config::{Settings, Sources};
use crate::output::{self, Failure};
use crate::serve::boot::{Journey, NO_SOCKET, SOCKET_FIELD};

const EXAMPLES: &str = "\
Examples:
  larder machines                                  who booted, and how far it came
  larder machines show 52:54:00:12:34:56           every step of one machine
  larder machines reinstall 52:54:00:12:34:56      install it again at its next boot
  larder machines rm 52:54:00:12:34:56             forget it
  larder machines rm --older 90d                   forget what no group names and nobody heard of since
  larder machines --format ansible                 an inventory

Exit codes: 0 good, 1 failed, 2 usage or configuration.";

/// A larder on this host answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer longer than this is none of larder's.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How machines are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// For programs
    Json,
    /// An inventory for Ansible, of the machines that groups name by their addresses
    Ansible,
}

/// The words of `larder machines`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Ask no running larder: read this matchbox data directory
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Ask no running larder: read this list of installed machines [default: .larder/machines in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The unix socket of the running larder that is meant
    #[arg(long, global = true, value_name = "PATH", conflicts_with_all = ["data", "state"])]
    socket: Option<PathBuf>,
    /// How to print them
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
    /// In an inventory: machines that no group names too. Whoever reaches the server may have made them up
    #[arg(long, global = true)]
    all: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

impl Args {
    /// The words of `larder provision machines`.
    pub(super) fn of(data: Option<PathBuf>, state: Option<PathBuf>, verb: Verb) -> Self {
        Self {
            data,
            state,
            socket: None,
            format: Format::default(),
            all: false,
            verb: Some(verb),
        }
    }
}

/// What to do with machines.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List those that are known
    Ls,
    /// Print every step of one machine
    Show {
        /// Its hardware address
        mac: String,
    },
    /// Let a machine install again at its next boot
    Reinstall {
        /// Its hardware address
        mac: String,
    },
    /// Forget machines: one that boots from the network later is new, and installs
    Rm(machines_rm::Words),
}

/// The administrators' page of the machines.
const PAGE: &str = "/api/v1/machines";

/// Does what was asked for.
pub fn run(args: Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let Args {
        data,
        state,
        format,
        ..
    } = args;
    if format == Format::Ansible && !matches!(args.verb, None | Some(Verb::Ls)) {
        let why = "an inventory is of all machines: `larder machines --format ansible`";
        return Err(Failure::Usage(why.to_owned()));
    }
    let which = Which {
        socket: args.socket,
        ..Which::default()
    };
    let running = if data.is_some() || state.is_some() {
        Running::NotAsked
    } else {
        Running::find(&which, sources)?
    };
    let remembered = || provision::remembered(data, state, sources);
    match args.verb {
        None | Some(Verb::Ls) if format == Format::Ansible => {
            let whole = match running {
                Running::Session(session) => session.get(&format!("{PAGE}?format=ansible"))?,
                Running::Page(Page { alone: false, .. }) => return Err(out_of_reach()),
                _ => inventory_of(&remembered()?)?,
            };
            inventory(whole, args.all)
        }
        None | Some(Verb::Ls) => {
            let journeys = match running.journeys()? {
                Some(journeys) => journeys,
                None => Journey::remembered(remembered()?.1.all()),
            };
            match format {
                Format::Json => json(&journeys),
                _ => output::text(&table(&journeys)),
            }
        }
        Some(Verb::Show { mac }) => show(running, &mac, format),
        Some(Verb::Reinstall { mac }) => {
            let mac = match running {
                Running::Session(session) => reinstall(&session, &mac)?,
                Running::Page(Page { alone: false, .. }) => return Err(out_of_reach()),
                _ => {
                    let mac = address(&mac)?;
                    let (_, machines) = remembered()?;
                    machines.reinstall(&mac).map_err(provision::failed)?;
                    mac.to_string()
                }
            };
            match format {
                Format::Json => json(&json!({ "mac": mac, "state": "new" })),
                _ => output::text(&format!("{mac} installs again at its next boot\n")),
            }
        }
        Some(Verb::Rm(words)) => {
            let heard = running.journeys()?.unwrap_or_default();
            let gone = machines_rm::run(&words, &heard, &remembered()?)?;
            let lines = gone.iter().map(|mac| format!("{mac} is forgotten\n"));
            match format {
                Format::Json => json(&gone),
                _ => output::text(&lines.collect::<String>()),
            }
        }
    }
}

/// The inventory that a data directory alone gives.
fn inventory_of((library, machines): &(Library, Machines)) -> Result<Value, Failure> {
    let text = ansible(&library.catalog(), &machines.all());
    serde_json::from_str(&text).map_err(|error| Failure::step("no inventory", error))
}

/// Prints an inventory; of machines that nobody has named only with `all`.
fn inventory(mut whole: Value, all: bool) -> Result<ExitCode, Failure> {
    let left_out = if all { 0 } else { named_only(&mut whole) };
    if left_out > 0 {
        let text = format!(
            "machines that no group names are left out: {left_out} (--all lists them too)\n"
        );
        output::notice(&text);
    }
    json(&whole)
}

pub(super) fn address(mac: &str) -> Result<Mac, Failure> {
    Mac::parse(mac).ok_or_else(|| provision::failed(Error::NotAMac(mac.to_owned())))
}

/// A larder on this host that runs and knows machines.
enum Running {
    /// Its socket, which does everything.
    Session(Box<Session>),
    /// The list that its boot or provisioning port tells.
    Page(Page),
    Nobody,
    /// The files are meant.
    NotAsked,
}

/// What a port tells of machines to this host alone.
#[derive(Debug, PartialEq)]
struct Page {
    journeys: Vec<Journey>,
    /// Whether it is a server without a socket, of which only the files can be changed.
    alone: bool,
}

impl Running {
    /// What it tells of its machines, if there is one.
    fn journeys(self) -> Result<Option<Vec<Journey>>, Failure> {
        match self {
            Self::Nobody | Self::NotAsked => Ok(None),
            Self::Page(page) => Ok(Some(page.journeys)),
            Self::Session(session) => serde_json::from_value(session.get(PAGE)?)
                .map(Some)
                .map_err(|error| Failure::step("an answer that makes no sense", error)),
        }
    }

    fn find(which: &Which, sources: &Sources) -> Result<Self, Failure> {
        if let Some(session) = Session::that_answers(PAGE, which, sources)? {
            return Ok(Self::Session(Box::new(session)));
        }
        if let Some(socket) = &which.socket {
            let step = format!("nobody who knows machines answers on {}", socket.display());
            return Err(Failure::step(step, "is it larder's, and may you open it?"));
        }
        let loaded = sources.load().map_err(Failure::Configuration)?;
        Ok(ask(&loaded.settings).map_or(Self::Nobody, Self::Page))
    }
}

/// Its files are no way around a running larder: they may be another's.
fn out_of_reach() -> Failure {
    Failure::step(
        "a larder that boots machines runs here, and its administrators' socket cannot be opened",
        "ask as its user or its group, name the socket with --socket, or the files with --data",
    )
}

/// Lets the running larder do it; the machine's address in its usual form.
fn reinstall(session: &Session, mac: &str) -> Result<String, Failure> {
    let order = json!({ "reinstall": mac });
    match session.wait(session.client.post(PAGE, &order)) {
        Ok(told) => Ok(told["mac"].as_str().unwrap_or(mac).to_owned()),
        Err(ClientError::Refused { why, .. }) => Err(Failure::step("nothing is changed", why)),
        Err(error) => Err(super::cache::failed(error)),
    }
}

/// The machines that a running larder knows; `None` if there is none.
fn ask(settings: &Settings) -> Option<Page> {
    let listeners = BTreeSet::from([settings.provision.http, settings.boot.http]);
    listeners.into_iter().find_map(|listener| {
        let ip = match listener.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        ask_at(SocketAddr::new(ip, listener.port()))
    })
}

fn ask_at(address: SocketAddr) -> Option<Page> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!("GET /machines.json HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_good = head.split(' ').nth(1) == Some("200");
    let journeys = serde_json::from_str(body).ok().filter(|_| is_good)?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let alone = fields
        .any(|(name, value)| name.eq_ignore_ascii_case(SOCKET_FIELD) && value.trim() == NO_SOCKET);
    Some(Page { journeys, alone })
}

fn json(journeys: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let text = serde_json::to_string_pretty(journeys)
        .map_err(|error| Failure::step("cannot write JSON", error))?;
    output::text(&format!("{text}\n"))
}

/// One line a machine.
fn table(journeys: &[Journey]) -> String {
    let rows = journeys.iter().map(|journey| {
        let last = journey.events.last();
        let last = last.map(|event| format!("{} {}", event.step, event.detail));
        [
            journey.mac.clone(),
            journey.address.map(|ip| ip.to_string()).unwrap_or_default(),
            journey.state.clone().unwrap_or_default(),
            journey.profile.clone(),
            last.unwrap_or_default(),
        ]
    });
    let head = ["MAC", "ADDRESS", "STATE", "PROFILE", "LAST STEP"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let line = |[mac, address, state, profile, last]: &[String; 5]| {
        let [first, second, third, fourth] = widths;
        let line =
            format!("{mac:first$}  {address:second$}  {state:third$}  {profile:fourth$}  {last}");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn show(running: Running, mac: &str, format: Format) -> Result<ExitCode, Failure> {
    let wanted = address(mac)?.to_string();
    let why = match running {
        Running::NotAsked => {
            "timelines live in the memory of the running larder: leave out --data and --state"
        }
        _ => "no larder that boots machines runs on this host, and timelines live in its memory",
    };
    let journeys = running.journeys()?;
    let journeys = journeys.ok_or_else(|| Failure::step("no timeline", why))?;
    let Some(journey) = journeys.iter().find(|journey| journey.mac == wanted) else {
        let why = format!("{wanted} was not heard of since larder started");
        return Err(Failure::step("no timeline", why));
    };
    if format == Format::Json {
        return json(journey);
    }
    let traits = [
        ("address", journey.address.map(|ip| ip.to_string())),
        ("uuid", journey.uuid.clone()),
        ("architecture", journey.architecture.clone()),
        ("vendor", journey.vendor.clone()),
        ("state", journey.state.clone()),
        ("group", Some(journey.group.clone())),
        ("profile", Some(journey.profile.clone())),
    ];
    let mut text = format!("{wanted}\n");
    for (name, value) in traits {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _infallible = writeln!(text, "  {name:12} {value}");
        }
    }
    for event in &journey.events {
        let at = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(event.at));
        let times = match event.count {
            1 => String::new(),
            count => format!(" ({count} times)"),
        };
        let (step, detail) = (&event.step, &event.detail);
        let _infallible = writeln!(text, "{at}  {step:12} {detail}{times}");
    }
    output::text(&text)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const LIST: &str = r#"[{"mac":"52:54:00:00:00:01","address":"10.0.0.9","seen":[1,2],
        "events":[{"at":1,"step":"offer","detail":"program x","count":2}]}]"#;

    /// A server that gives one answer.
    fn answering(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_running_larder_is_asked_and_what_it_does_not_say_is_left_open() {
        let address = answering(format!("HTTP/1.0 200 OK\r\nX: y\r\n\r\n{LIST}"));
        let page = ask_at(address).unwrap();
        assert_eq!((page.journeys[0].events[0].count, page.alone), (2, false));
        let table = table(&page.journeys);
        let line = table.lines().nth(1).unwrap();
        assert!(line.starts_with("52:54:00:00:00:01  10.0.0.9"), "{table}");
        assert!(line.ends_with("offer program x"), "{table}");
    }

    #[test]
    fn a_server_without_a_socket_says_so() {
        let address = answering(format!(
            "HTTP/1.1 200 OK\r\nx-larder-socket: none\r\n\r\n{LIST}"
        ));
        assert!(ask_at(address).unwrap().alone);
    }

    #[test]
    fn another_server_is_not_believed() {
        for answer in [
            "HTTP/1.0 404 Not Found\r\n\r\n[]",
            "HTTP/1.0 200 OK\r\n\r\n<html>",
            "220 smtp",
        ] {
            assert_eq!(ask_at(answering(answer.to_owned())), None, "{answer}");
        }
    }
}
