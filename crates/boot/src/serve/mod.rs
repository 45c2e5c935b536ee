//! Starts the boot part: finds what there is, opens the sockets, runs until it is told to stop.

pub mod copies;
pub mod core;
mod dhcp;
mod doors;
mod names;
pub(crate) mod shares;
pub(crate) mod supervise;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use self::copies::Copies;
use self::core::{Core, choice, keep_up, own_rules};
use self::doors::Doors;
use self::supervise::supervised;
use crate::config::Config;
use crate::decide::{Port, Rules};
use crate::disk::Disk;
use crate::error::Error;
use crate::fetch::Fetch;
use crate::here;
use crate::ipxe_text;
use crate::loaders::{self, Loaders, Missing};
use crate::look::Looks;
use crate::menu;
use crate::net::interfaces::{self, Found, Links};
use crate::net::udp::{PortSocket, Purpose, explain};
use crate::review::{Site, review};
use crate::tftp;
use crate::tftp::files::{Files, Manner};
use crate::timeline::{Machine, Timeline};
use crate::web::{self, Web};
use crate::words;

/// Under dnsmasq's words, how many ports behind a taken one are tried for the script endpoint.
const HTTP_PORTS_TRIED: u16 = 100;

/// Where matchbox serves gRPC.
const MATCHBOX_RPC: u16 = 8081;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

const DHCP: Purpose = Purpose {
    what: "proxyDHCP",
    mend: "a DHCP server on this host holds it alone; set boot.socket = \"packet\" to answer beside it",
};
const BOOT_SERVER: Purpose = Purpose {
    what: "PXE boot server",
    mend: "another PXE server runs on this host; stop it, since machines can follow only one",
};
const TFTP: Purpose = Purpose {
    what: "TFTP",
    mend: "another TFTP server runs on this host; stop it, or serve its files from boot.root",
};
const HTTP: Purpose = Purpose {
    what: "boot scripts",
    mend: "set boot.http to a free port",
};

/// A socket that accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listening {
    /// What for: `proxydhcp`, `pxe`, `tftp` or `boot-http`.
    pub mode: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// What is going on, for status pages and doctors.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Sockets.
    pub listening: Vec<Listening>,
    /// Boot programs by architecture.
    pub programs: BTreeMap<String, String>,
    /// Architectures that nothing can be served to.
    pub missing: Vec<Missing>,
    /// Replies by kind.
    pub replies: BTreeMap<&'static str, u64>,
    /// Silences by reason.
    pub silences: BTreeMap<&'static str, u64>,
    /// TFTP transfers by result.
    pub transfers: BTreeMap<&'static str, u64>,
    /// Machines, last heard of first.
    pub machines: Vec<Machine>,
}

/// The boot part.
#[derive(Debug)]
pub struct Boot;

/// A running boot part; dropping it stops it.
#[derive(Debug)]
pub struct Handle {
    listening: Vec<Listening>,
    core: Arc<Core>,
    web: Arc<Web>,
    missing: Vec<Missing>,
    notices: Vec<String>,
    /// The one task that runs all others; true if it ended because it was told to.
    whole: JoinSet<bool>,
}

impl Boot {
    /// Opens all sockets and serves until `shutdown` is done. Called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error`] says what cannot be opened and what to do; nothing stays open then.
    pub fn start(
        config: Config,
        fetch: Option<Arc<dyn Fetch>>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Handle, Error> {
        raise_descriptor_limit();
        let all = interfaces::list().map_err(Error::Interfaces)?;
        let served = choice(&config).pick(&all)?;
        let looks = Looks::default();
        let loaders = loaders::find(config.root.as_deref(), config.secure_boot, &looks);
        let (http, notice) = open_http(&config, &served)?;
        let mut notices = awaited(&config, &all);
        notices.extend(ranges_elsewhere(&config, &served));
        notices.extend(notice);
        let sockets = open(&config, &served)?;
        let core = Arc::new(core(
            config,
            fetch,
            served,
            (&loaders, &looks),
            http.as_ref(),
        )?);
        let web = Arc::new(Web::new(Arc::clone(&core)));
        notices.extend(remarks(&core));
        notices.extend(unanswered(&looks));
        let mut handle = Handle {
            listening: Vec::new(),
            core,
            web,
            missing: loaders.missing,
            notices,
            whole: JoinSet::new(),
        };
        let mut tasks = handle.run(sockets, http);
        handle.whole.spawn(async move {
            tokio::select! {
                () = shutdown => {
                    tasks.shutdown().await;
                    true
                }
                _ended = tasks.join_next() => {
                    tracing::error!("a task of network boot ended; no machine is answered any longer");
                    false
                }
            }
        });
        Ok(handle)
    }
}

impl Handle {
    /// The sockets that accept, with their real addresses.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Answers HTTP requests, for a listener that the boot part shares with others.
    pub fn web(&self) -> Arc<Web> {
        Arc::clone(&self.web)
    }

    /// What to tell the operator once: another port than the configured one, missing boot programs.
    pub fn notices(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|missing| {
            format!(
                "no boot program for {}: {}",
                missing.architecture, missing.mend
            )
        });
        self.notices.iter().cloned().chain(missing).collect()
    }

    /// What is going on.
    pub fn snapshot(&self) -> Snapshot {
        let [replies, silences, transfers] = self
            .core
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let programs = &self.core.rules.own.programs.by_cpu;
        Snapshot {
            listening: self.listening.clone(),
            programs: programs
                .iter()
                .map(|(cpu, file)| (cpu.to_string(), file.clone()))
                .collect(),
            missing: self.missing.clone(),
            replies,
            silences,
            transfers,
            machines: self.core.timeline.machines(),
        }
    }

    /// Waits until the boot part has stopped, and tells whether it was told to.
    pub async fn stopped(&mut self) -> bool {
        let ended = self.whole.join_next().await;
        ended.is_none_or(|ended| ended.unwrap_or(false))
    }

    fn run(&mut self, sockets: Sockets, http: Option<TcpListener>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let Sockets {
            doors,
            boot_server,
            tftp,
        } = sockets;
        for address in doors.addresses() {
            self.note("proxydhcp", Some(address));
        }
        tasks.spawn(doors.serve(Arc::clone(&self.core)));
        self.note("pxe", boot_server.address().ok());
        let core = Arc::clone(&self.core);
        tasks.spawn(supervised("pxe", move || {
            dhcp::serve(
                Arc::clone(&boot_server),
                Port::BootServer,
                Arc::clone(&core),
            )
        }));
        if let Some(socket) = tftp {
            self.note("tftp", socket.address().ok());
            let (socket, core) = (Arc::new(socket), Arc::clone(&self.core));
            tasks.spawn(supervised("tftp", move || {
                tftp::server::serve(Arc::clone(&socket), Arc::clone(&core))
            }));
        }
        if let Some(listener) = http {
            self.note("boot-http", listener.local_addr().ok());
            let (listener, web) = (Arc::new(listener), Arc::clone(&self.web));
            tasks.spawn(supervised("boot-http", move || {
                web::serve(Arc::clone(&listener), Arc::clone(&web))
            }));
        }
        let core = Arc::clone(&self.core);
        tasks.spawn(supervised("housekeeping", move || {
            keep_up(Arc::clone(&core))
        }));
        tasks
    }

    fn note(&mut self, mode: &'static str, address: Option<SocketAddr>) {
        self.listening
            .extend(address.map(|address| Listening { mode, address }));
    }
}

/// All UDP sockets.
struct Sockets {
    doors: Doors,
    boot_server: Arc<PortSocket>,
    tftp: Option<PortSocket>,
}

fn open(config: &Config, served: &[Found]) -> Result<Sockets, Error> {
    let ports = config.ports;
    let doors = Doors::open(config, served)?;
    let boot_server = PortSocket::open(ports.boot_server, false, None, BOOT_SERVER)?;
    let boot_server = Arc::new(boot_server);
    let tftp = config
        .is_tftp
        .then(|| PortSocket::open(ports.tftp, false, None, TFTP))
        .transpose()?;
    Ok(Sockets {
        doors,
        boot_server,
        tftp,
    })
}

/// Says which named interfaces are still to come.
fn awaited(config: &Config, all: &[Found]) -> Vec<String> {
    let choice = choice(config);
    let awaited = choice.awaited(all);
    awaited
        .map(|name| {
            format!("interface {name} is not there yet or has no IPv4 address; it is served as soon as it is")
        })
        .collect()
}

/// Says which of the words' ranges are on no served link: a number that was copied from another site keeps
/// every machine here waiting.
fn ranges_elsewhere(config: &Config, served: &[Found]) -> Vec<String> {
    let own = served.iter().flat_map(|found| found.interface.networks());
    let own: Vec<_> = own.collect();
    let shown: Vec<String> = served
        .iter()
        .map(|found| &found.interface)
        .map(|own| {
            format!(
                "{}/{} on {}",
                own.address,
                own.mask.to_bits().count_ones(),
                own.name
            )
        })
        .collect();
    let words = config.words.iter();
    words
        .flat_map(|words| words.ranges_elsewhere(&own))
        .map(|range| {
            format!(
                "dhcp-range {} holds no address of this host ({}): only machines behind a relay are answered for it",
                range.network,
                shown.join(", ")
            )
        })
        .collect()
}

/// What of the configuration will not be as it is written, a line each.
fn remarks(core: &Core) -> Vec<String> {
    let site = Site {
        port: core.rules.own.http_port,
        addresses: &core.links.addresses(),
        has_cache: core.fetch.is_some(),
    };
    let remarks = review(&core.config, site).into_iter();
    remarks
        .map(|remark| format!("{}: {}", remark.detail, remark.mend))
        .collect()
}

/// Says what did not answer in time to be taken into account.
fn unanswered(looks: &Looks) -> Vec<String> {
    let silent = looks.silent().into_iter();
    silent
        .map(|path| {
            format!(
                "{} does not answer: its files are served once it does, boot programs and Raspberry Pi files there are \
                 found at the next start",
                path.display()
            )
        })
        .collect()
}

/// Opens the script endpoint. Under dnsmasq's words nobody asked for it, and the same host may well run
/// another server on its port: then the next free one does as well.
fn open_http(
    config: &Config,
    served: &[Found],
) -> Result<(Option<TcpListener>, Option<String>), Error> {
    let Some(wanted) = config.http else {
        return Ok((None, None));
    };
    let tries = if config.words.is_some() {
        HTTP_PORTS_TRIED
    } else {
        0
    };
    let mut address = wanted;
    let left = ports_of_others(config, served);
    loop {
        let is_left = left.contains(&address.port());
        let bound = if is_left {
            Err(std::io::ErrorKind::AddrInUse.into())
        } else {
            bind(address)
        };
        match bound {
            Ok(listener) => {
                let notice = (address != wanted).then(|| {
                    format!(
                        "port {} is another server's; boot scripts are on {}",
                        wanted.port(),
                        address.port()
                    )
                });
                return Ok((Some(listener), notice));
            }
            Err(error) => {
                let next = address
                    .port()
                    .checked_add(1)
                    .filter(|next| *next <= wanted.port().saturating_add(tries));
                match next.filter(|_| error.kind() == std::io::ErrorKind::AddrInUse) {
                    Some(port) => address.set_port(port),
                    None => return Err(explain(error, wanted, HTTP)),
                }
            }
        }
    }
}

/// Ports that are left to the servers on this host that dnsmasq's words send machines to: those may start
/// later, and matchbox takes 8081 as well.
fn ports_of_others(config: &Config, served: &[Found]) -> Vec<u16> {
    let own = served.iter().flat_map(|found| found.interface.networks());
    let own: Vec<Ipv4Addr> = own.map(|(address, _)| address).collect();
    let is_own = |address| own.contains(&address);
    let urls = config.words.iter().flat_map(words::script::named);
    let ports = urls.filter_map(|url| here::part(url, &is_own));
    let mut ports: Vec<u16> = ports.map(|(port, _)| port).collect();
    if !ports.is_empty() {
        ports.push(MATCHBOX_RPC);
    }
    ports
}

/// Binds a TCP socket; on a host without IPv6 the wildcard address of IPv4 stands in.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    match listen(address) {
        Err(error)
            if address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
                && error.kind() != std::io::ErrorKind::AddrInUse =>
        {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// Opens a TCP socket in whose queue a whole room of machines has its place.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn core(
    config: Config,
    fetch: Option<Arc<dyn Fetch>>,
    served: Vec<Found>,
    (loaders, looks): (&Loaders, &Looks),
    http: Option<&TcpListener>,
) -> Result<Core, Error> {
    let words = config.words.as_ref();
    let manner = words.map(|words| Manner {
        is_lowercase: words.tftp.is_lowercase,
        is_secure: words.tftp.is_secure,
        may_come_later: words.tftp.may_root_be_missing,
    });
    let manner = manner.unwrap_or_default();
    let files = |root: Option<&Path>| {
        let files = Files::new(root, loaders.paths.clone(), manner, looks).map(Arc::new);
        let path = root.unwrap_or(Path::new("")).to_owned();
        files.map_err(|source| Error::Root { path, source })
    };
    let by_link = words.map_or(&[][..], |words| &words.tftp.roots_by_link);
    let files_by_link = by_link
        .iter()
        .map(|(name, root)| Ok((name.clone(), files(Some(root))?)))
        .collect::<Result<_, Error>>()?;
    let files = files(config.root.as_deref())?;
    let bound = http.and_then(|listener| listener.local_addr().ok());
    let http_port = bound.map(|address| address.port()).or(config.http_port);
    let own = own_rules(&config, loaders.programs.clone(), http_port, looks);
    let menu = script_texts(&config)?;
    Ok(Core {
        links: Links::new(choice(&config), served),
        rules: Rules {
            words: config.words.clone(),
            own,
        },
        config,
        disk: Disk::default(),
        files,
        files_by_link,
        menu,
        timeline: Timeline::default(),
        fetch,
        copies: Copies::default(),
        counts: Mutex::default(),
    })
}

/// Checks all that scripts are made of, and gives the menu's entries.
fn script_texts(config: &Config) -> Result<Vec<menu::Entry>, Error> {
    let mut entries = config.menu.clone();
    for entry in &entries {
        menu::check(entry)?;
    }
    if config.has_install_menus {
        entries.extend(menu::install_menus()?);
    }
    let next = config.next.as_deref().map(ipxe_text::script_url);
    let serial = config.serial.as_deref().map(ipxe_text::console);
    for (name, judged) in [("next", next), ("serial", serial)] {
        let judged = judged.unwrap_or(Ok(()));
        judged.map_err(|unfit| Error::Script { name, unfit })?;
    }
    Ok(entries)
}

/// A thousand transfers need a thousand sockets: takes all descriptors that the process may have.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "cannot raise the number of open files");
    }
}
