//! What the operator decided, as plain values: the meeting point of the two front-ends.
//!
//! `Settings::default()` and config/larder.toml say the same; a test compares them. What decides
//! about requests is gathered into one [`Policy`], what decides about sockets and bounds into the
//! proxy's own configuration.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_policy::access::AccessList;
use larder_policy::class::Class;
use larder_policy::policy::{Policy, Semantics};
use larder_policy::refresh::RefreshRules;
use larder_policy::route::Routes;
use larder_policy::store_id::StoreIds;
use larder_policy::target::Mode;
use larder_proxy::config::{Limits, Listener, Upstream};
use larder_store::{Admission, Durability, Replacement, Verify};

/// The port of a forward proxy where nothing else is said.
pub const FORWARD_PORT: u16 = 3128;

/// Everything that the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cache.
    pub cache: Cache,
    /// The sockets of the proxy.
    pub listen: Vec<Listener>,
    /// Mirrors and parents.
    pub routes: Routes,
    /// Who may ask for what.
    pub access: AccessList,
    /// Which URLs are one object.
    pub store_ids: StoreIds,
    /// Which requests store-ID rules look at; `None`: all.
    pub store_id_access: Option<AccessList>,
    /// `[ranges]`: classes of which a range fetches the whole file.
    pub whole_for_ranges: Vec<Class>,
    /// How long objects stay fresh.
    pub refresh: RefreshRules,
    /// Whose rules decide about freshness.
    pub semantics: Semantics,
    /// Which requests may be kept; `None`: all.
    pub cache_access: Option<AccessList>,
    /// Nothing is asked upstream.
    pub offline: bool,
    /// How origins are spoken to.
    pub upstream: Upstream,
    /// Bounds on clients.
    pub limits: Limits,
    /// The administrators' page and socket.
    pub admin: Admin,
    /// What is logged, and where.
    pub log: Log,
    /// Network boot.
    pub boot: Boot,
    /// Provisioning.
    pub provision: Provision,
    /// The name that Via and X-Cache carry; `None`: the host's, and a mark of the cache directory.
    pub visible_name: Option<String>,
    /// A file that holds the process's number while it runs.
    pub pid_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, FORWARD_PORT));
        Self {
            cache: Cache::default(),
            listen: vec![Listener {
                address: everywhere,
                mode: Mode::Forward,
                name: "forward".to_owned(),
                tls: None,
            }],
            routes: Routes::default(),
            access: AccessList::builtin(),
            store_ids: StoreIds::default(),
            store_id_access: None,
            whole_for_ranges: vec![Class::Root],
            refresh: RefreshRules::default(),
            semantics: Semantics::Larder,
            cache_access: None,
            offline: false,
            upstream: Upstream::default(),
            limits: Limits::default(),
            admin: Admin::default(),
            log: Log::default(),
            boot: Boot::default(),
            provision: Provision::default(),
            visible_name: None,
            pid_file: None,
        }
    }
}

impl Settings {
    /// What requests are judged by.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::new(Policy {
            access: self.access.clone(),
            routes: self.routes.clone(),
            store_ids: self.store_ids.clone(),
            store_id_access: self.store_id_access.clone(),
            refresh: self.refresh.clone(),
            semantics: self.semantics,
            cache_access: self.cache_access.clone(),
            object_bytes_max: self.cache.object_bytes_max,
            whole_for_ranges: self.whole_for_ranges.clone(),
            offline: self.offline,
        })
    }
}

/// `[cache]`.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Where; `None`: /var/cache/larder, or $XDG_CACHE_HOME/larder where that cannot be written.
    pub directory: Option<PathBuf>,
    /// Bytes on disk.
    pub size_max: u64,
    /// Larger bodies are not kept, bytes.
    pub object_bytes_max: u64,
    /// Bytes of memory for heads and small bodies.
    pub memory_max: u64,
    /// Who leaves first.
    pub replacement: Replacement,
    /// What survives a power loss.
    pub durability: Durability,
    /// When bodies are hashed again.
    pub verify: Verify,
    /// How often every body is hashed in the background; `None`: never.
    pub scrub: Option<Duration>,
    /// What is worth storing when something has to leave for it.
    pub admission: Admission,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            directory: None,
            size_max: 20_000_000_000,
            object_bytes_max: 4 << 30,
            memory_max: 256 << 20,
            replacement: Replacement::Lfuda,
            durability: Durability::Fast,
            verify: Verify::FirstUse,
            scrub: Some(Duration::from_hours(30 * 24)),
            admission: Admission::All,
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Where the page is served; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// The unix socket: a path, `off`, or `None` for the default place.
    pub socket: Option<String>,
    /// What clients from beyond loopback must know. Never shown.
    pub token: Option<String>,
    /// The command line names the address: that it cannot be had is no mere warning.
    pub address_required: bool,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: Some(SocketAddr::from(([127, 0, 0, 1], 3180))),
            socket: None,
            token: None,
            address_required: false,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// The least grave message that is printed.
    pub level: tracing::Level,
    /// For people or for programs.
    pub format: LogFormat,
    /// The access log.
    pub access: AccessLog,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: tracing::Level::INFO,
            format: LogFormat::Text,
            access: AccessLog::default(),
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// `[log.access]`.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {
    /// Where lines go.
    pub place: AccessLogPlace,
    /// What a line looks like.
    pub format: AccessFormat,
    /// URLs are logged without what follows their `?`.
    pub strip_query: bool,
}

/// Where access-log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogPlace {
    /// Nowhere.
    #[default]
    Off,
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
    /// The first of these files that can be written, else nowhere (squid.conf without
    /// `access_log`).
    FirstWritable(Vec<PathBuf>),
}

/// What an access-log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// `key=value` pairs.
    Larder,
    /// Squid's native ten fields.
    #[default]
    Squid,
    /// Apache's combined format.
    Combined,
    /// One JSON object.
    Json,
}

/// `[boot]`.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Started by `serve` too.
    pub enabled: bool,
    /// The interfaces; empty: all with an IPv4 address.
    pub interfaces: Vec<String>,
    /// The TFTP root.
    pub root: Option<PathBuf>,
    /// Where scripts are served over HTTP.
    pub http: SocketAddr,
    /// The script that iPXE gets; `None`: larder's own menu.
    pub next: Option<String>,
    /// Answers are sent through packet sockets, not UDP ones.
    pub packet_socket: bool,
    /// The serial console that menus put on kernel command lines, such as `ttyS0,115200`.
    pub serial: Option<String>,
    /// UEFI machines get the signed chain.
    pub secure_boot: bool,
    /// Seconds until the menu boots the local disk by itself; 0 waits for ever.
    pub menu_seconds: u32,
    /// The built-in install menus follow the operator's entries.
    pub install_menus: bool,
    /// The entries of larder's own menu.
    pub menu: Vec<MenuEntry>,
    /// Names that TFTP serves from a URL, through the cache.
    pub files: BTreeMap<String, String>,
    /// Machines with ways of their own.
    pub machines: Vec<Machine>,
}

impl Default for Boot {
    fn default() -> Self {
        Self {
            enabled: false,
            interfaces: Vec::new(),
            root: None,
            http: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
            next: None,
            packet_socket: false,
            serial: None,
            secure_boot: false,
            menu_seconds: 30,
            install_menus: true,
            menu: Vec::new(),
            files: BTreeMap::new(),
            machines: Vec::new(),
        }
    }
}

/// `[[boot.menu]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuEntry {
    /// What the menu shows.
    pub title: String,
    /// The URL that `${repo}` stands for in the others.
    pub repo: String,
    /// The URL of the kernel; empty where there is a chain.
    pub kernel: String,
    /// The URLs of the initial file systems.
    pub initrd: Vec<String>,
    /// The kernel's arguments.
    pub args: Vec<String>,
    /// The URL of a script to go on to, in place of a kernel.
    pub chain: String,
}

/// `[[boot.machine]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its hardware address, as written.
    pub mac: String,
    /// How it is offered its boot file, as written.
    pub offer_style: Option<String>,
}

/// `[provision]`.
#[derive(Clone, Debug)]
pub struct Provision {
    /// Started by `serve` too.
    pub enabled: bool,
    /// The matchbox data directory.
    pub data: PathBuf,
    /// What `/assets/` serves; `None`: `assets` in the data directory.
    pub assets: Option<PathBuf>,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where gRPC is served; `None`: nowhere.
    pub grpc: Option<SocketAddr>,
    /// The server's certificate chain, PEM.
    pub cert_file: PathBuf,
    /// The server's key, PEM.
    pub key_file: PathBuf,
    /// The authority of client certificates, PEM.
    pub ca_file: PathBuf,
    /// The matchbox release that is imitated, as written.
    pub compat: String,
    /// Installed machines boot from their disk.
    pub install_once: bool,
    /// `/ipxe` adds the `initrd=` arguments that UEFI kernels need.
    pub initrd_args: bool,
    /// Kernels, initrds and repositories are fetched through larder's forward listener.
    pub rewrite: bool,
}

impl Default for Provision {
    fn default() -> Self {
        Self {
            enabled: false,
            data: PathBuf::from("/var/lib/matchbox"),
            assets: None,
            http: SocketAddr::from((Ipv6Addr::UNSPECIFIED, 8080)),
            grpc: None,
            cert_file: PathBuf::from("/etc/matchbox/server.crt"),
            key_file: PathBuf::from("/etc/matchbox/server.key"),
            ca_file: PathBuf::from("/etc/matchbox/ca.crt"),
            compat: "0.11".to_owned(),
            install_once: false,
            initrd_args: false,
            rewrite: false,
        }
    }
}
