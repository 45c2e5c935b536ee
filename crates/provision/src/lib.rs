//! larder-provision: what does a machine become?
//!
//! A matchbox data directory and its clients work unchanged: groups select machines by their
//! labels, profiles say what they boot, templates say how they are set up. Machines ask over HTTP
//! ([`Provision::answer`], or [`listen_http`] when nothing else shares the port), administrators
//! and terraform change the directory over gRPC ([`listen_rpc`]) or with an editor.
//!
//! Beyond matchbox: kickstart endpoints that know a machine by its headers, machines that install
//! once, a timeline per machine, kernels through the cache by the [`Fetch`] trait.
//!
//! Invariants: what an endpoint of matchbox answers is byte for byte matchbox's (departures are
//! named where they are); a refusal has a [`Reason`] in the log, in a header and in the timeline;
//! a bad file never hides a good one; no client-given name leaves its directory.

mod check;
mod cloud;
mod config;
mod error;
mod fetch;
mod http;
mod ignition;
mod inventory;
mod labels;
mod library;
mod listen;
mod mac;
mod machines;
mod model;
mod patience;
pub mod pki;
mod reason;
mod rewrite;
mod rpc;
mod select;
mod sign;
mod template;
mod tls;
pub mod warm;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::sync::Semaphore;

pub use self::{
    check::{Check, Finding, Severity},
    config::{Compat, Config, Rewrite, TlsFiles},
    error::Error,
    fetch::{Fetch, Fetching},
    http::Body,
    inventory::{ansible, named_only},
    labels::Labels,
    library::{Kind, Library, Note},
    listen::{Answering, First, Listening, http as listen_http, shared_http as listen_shared_http},
    mac::Mac,
    machines::{Event, Machine, Machines, State, Step},
    model::{Boot, Group, Profile},
    reason::Reason,
    rpc::start as listen_rpc,
    select::{Catalog, matches},
    template::{Data, render},
};

/// The provisioning server without its listeners.
#[derive(Debug)]
pub struct Provision {
    config: Config,
    library: Arc<Library>,
    machines: Machines,
    /// What was wrong with the journal at the start.
    forgetful: Option<Note>,
    signer: Option<sign::Signer>,
    fetch: Option<FetchHandle>,
    /// A place for each request that may wait for the disk.
    disk: Arc<Semaphore>,
    /// A place for each asset that is looked up and opened.
    asset_places: Semaphore,
}

/// Requests that wait for the disk at a time. More wait for these: where it hangs they may not take every
/// thread that there is for such work, as others who share those have other disks.
const ON_DISK_MAX: usize = 64;

/// The cache, if there is one.
struct FetchHandle(Arc<dyn Fetch>);

impl std::fmt::Debug for FetchHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fetch")
    }
}

impl std::ops::Deref for FetchHandle {
    type Target = dyn Fetch;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

/// What is going on, for pages and metrics.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Good groups.
    pub groups: usize,
    /// Good profiles.
    pub profiles: usize,
    /// What is wrong in the data directory, and with the journal since the start.
    pub notes: Vec<Note>,
    /// Every machine that is known.
    pub machines: BTreeMap<Mac, Machine>,
}

impl Provision {
    /// Opens the data directory, the state of the machines and the signing key; `fetch` is the way
    /// to the cache.
    ///
    /// # Errors
    ///
    /// What matchbox would not start with either: a data path or an assets path that is no
    /// directory, a key ring that does not sign; and an unreadable state file.
    pub fn open(config: Config, fetch: Option<Arc<dyn Fetch>>) -> Result<Arc<Self>, Error> {
        let library = Arc::new(Library::open(&config.data)?);
        if let Some(assets) = config.assets.as_ref().filter(|assets| !assets.is_dir()) {
            return Err(Error::NoAssetsDirectory(assets.clone()));
        }
        let state = config.state.clone().unwrap_or_else(|| library.journal());
        let is_needed = config.install_once || library.installs_once();
        let forgetful = is_needed.then(|| machines::cannot_remember(&state));
        let machines = Machines::keep(state)?;
        let signer = match &config.key_ring {
            Some(ring) => Some(sign::Signer::open(
                ring,
                config.passphrase.as_deref().unwrap_or_default(),
            )?),
            None => None,
        };
        Ok(Arc::new(Self {
            config,
            library,
            machines,
            forgetful: forgetful.flatten(),
            signer,
            fetch: fetch.map(FetchHandle),
            disk: Arc::new(Semaphore::new(ON_DISK_MAX)),
            asset_places: Semaphore::new(ON_DISK_MAX),
        }))
    }

    /// Answers a machine's HTTP request.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it is done leaves no half-written state; a `done` is recorded
    /// before its answer.
    pub async fn answer<B>(
        self: &Arc<Self>,
        request: &::http::Request<B>,
        client: SocketAddr,
    ) -> ::http::Response<Body> {
        http::answer(self, request, client).await
    }

    /// Runs what may wait for the disk on a thread that may wait. It goes on when nobody waits for it any
    /// more: half of it is never done.
    async fn on_disk<T: Send + 'static, E: From<Reason> + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let place = Arc::clone(&self.disk).acquire_owned().await;
        let here = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&here);
            drop(place);
            done
        });
        done.await.unwrap_or_else(|_| Err(Reason::BrokenOff.into()))
    }

    /// The data directory.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The machines, for steps that others see (DHCP, TFTP, packages) and for `reinstall`.
    pub fn machines(&self) -> &Machines {
        &self.machines
    }

    /// Adds a step to the timeline of the machine that was last seen at `address`, if any was.
    pub fn observe_at(&self, address: IpAddr, step: Step, detail: &str) {
        if let Some(mac) = self.machines.at(address) {
            self.machines.observe(&mac, Some(address), step, detail);
        }
    }

    /// What is going on.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            groups: self.library.catalog().groups().len(),
            profiles: self.library.profiles().len(),
            notes: self
                .forgetful
                .iter()
                .cloned()
                .chain(self.library.notes())
                .collect(),
            machines: self.machines.all(),
        }
    }
}
