//! What a squid.conf says, as one plain value.
//!
//! What is not set is `None` where larder has a default of its own, and Squid's default where the
//! file is understood to mean it.

use std::net::IpAddr;
use std::time::Duration;

use larder_policy::access::AccessList;
use larder_policy::refresh::RefreshRule;
use larder_policy::store_id::StoreIdRule;

use crate::note::{Note, Position};

/// Squid's `maximum_object_size` where nothing is said, bytes.
pub const MAXIMUM_OBJECT_SIZE: u64 = 4 << 20;

/// Squid's `cache_mem` where nothing is said, bytes.
pub const CACHE_MEM: u64 = 256 << 20;

/// Everything that a squid.conf says and larder acts on.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The sockets to open, in order.
    pub http_ports: Vec<HttpPort>,
    /// Who may ask for what (`http_access`); no lines: nobody.
    pub access: AccessList,
    /// Where objects are kept; `None`: no cache_dir, or `null`: in `cache_mem` alone.
    pub cache_dir: Option<CacheDir>,
    /// Larger bodies are not kept, bytes (4 MB if the file says nothing).
    pub maximum_object_size: u64,
    /// Bound on memory for hot objects, bytes.
    pub cache_mem: Option<u64>,
    /// Which objects leave first.
    pub replacement: Option<Replacement>,
    /// Which URLs are one object.
    pub store_ids: StoreIdSource,
    /// Which requests store-ID rules look at; `None`: all.
    pub store_id_access: Option<AccessList>,
    /// How long objects stay fresh, first match wins.
    pub refresh: Vec<RefreshRule>,
    /// Errors are kept for so long (`negative_ttl`).
    pub negative_ttl: Duration,
    /// Nothing is asked upstream.
    pub offline: bool,
    /// Which requests may be kept (`cache allow|deny`); `None`: all.
    pub cache: Option<AccessList>,
    /// Where requests go instead of to the host that they name.
    pub peers: Vec<Peer>,
    /// Requests that go through a peer or not at all.
    pub never_direct: Option<AccessList>,
    /// Requests that go to the host that they name.
    pub always_direct: Option<AccessList>,
    /// The access logs; `None`: the file does not say.
    pub access_logs: Option<Vec<AccessLog>>,
    /// URLs are logged without what follows their `?` (on by default).
    pub strip_query_terms: bool,
    /// The name in Via and in pages (`unique_hostname` wins over `visible_hostname` in Via).
    pub visible_hostname: Option<String>,
    /// The name in Via alone.
    pub unique_hostname: Option<String>,
    /// Where the process number is written; `None`: not said, or `none`.
    pub pid_filename: Option<String>,
    /// What requests under way get at the end (30 seconds if the file says nothing).
    pub shutdown_lifetime: Duration,
    /// Name servers to ask; empty: those of the system.
    pub dns_nameservers: Vec<IpAddr>,
    /// What is worth saying about the file, in the order of its lines.
    pub notes: Vec<Note>,
}

/// One `http_port` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPort {
    /// Where the line stands.
    pub position: Position,
    /// The address; `None`: all of this host's.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// What its requests mean.
    pub mode: PortMode,
    /// Its name in `myportname` rules: `name=`, else what the line calls the socket.
    pub name: String,
}

/// What the requests of a port mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// Clients are configured to use it as a proxy.
    Forward,
    /// It stands in for a site.
    Accelerator(Accelerator),
}

/// The options of an accelerator port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accelerator {
    /// The site (`host` or `host:port`), used where the Host field is not.
    pub default_site: Option<String>,
    /// The Host field names the site (`vhost`, and `accel` alone); not with `no-vhost`.
    pub vhost: bool,
    /// The port of the site, in place of the one in the Host field.
    pub vport: Option<u16>,
    /// Requests may go to the site itself where no peer takes them.
    pub allow_direct: bool,
}

/// One `cache_dir` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheDir {
    /// Where the line stands.
    pub position: Position,
    /// The directory.
    pub directory: String,
    /// Its bound, bytes.
    pub max_bytes: u64,
}

/// Which objects leave first when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// The least recently used.
    Lru,
    /// The least frequently used, with aging.
    Lfuda,
    /// The largest and least used, with aging.
    Gdsf,
}

/// Where store IDs come from.
#[derive(Clone, Debug)]
pub enum StoreIdSource {
    /// There are none.
    None,
    /// From rules: `storeid_file_rewrite` and its file, run in-process.
    Rules(Vec<StoreIdRule>),
    /// From a program that speaks Squid's helper protocol.
    Helper(Helper),
}

/// A helper program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helper {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How many may run (`store_id_children`, 20 by default).
    pub children: usize,
    /// Requests that one takes at a time; 0: one, without channel numbers.
    pub concurrency: usize,
    /// Requests go on without a store ID while all helpers are busy (on by default).
    pub bypass: bool,
    /// What follows the URL on a line (`store_id_extras`); `None`: Squid's default.
    pub extras: Option<String>,
}

/// One `cache_peer` line, with its access lines.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Where the line stands.
    pub position: Position,
    /// `name=`, else the host.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it is.
    pub kind: PeerKind,
    /// Which requests may use it (`cache_peer_access`); `None`: all.
    pub access: Option<AccessList>,
}

/// What a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// An origin, asked as one (`originserver`).
    Origin {
        /// It is spoken to over TLS.
        tls: bool,
        /// The Host field that it is sent, in place of the request's.
        forced_domain: Option<String>,
    },
    /// A proxy.
    Parent {
        /// `user:password` of `login=`. Never to be shown.
        login: Option<Secret>,
    },
}

/// A password that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// One `access_log` line.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where the line stands.
    pub position: Position,
    /// Where the lines go.
    pub destination: LogDestination,
    /// The name of the format, `squid` by default.
    pub format: String,
    /// Which requests are logged; `None`: all.
    pub access: Option<AccessList>,
}

/// Where log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogDestination {
    /// Nowhere.
    None,
    /// To a file.
    File(String),
    /// To what is not supported: the words, as written.
    Unsupported(String),
}
