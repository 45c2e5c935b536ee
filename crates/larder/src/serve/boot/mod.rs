//! The boot and the provisioning part beside the proxy: what `[boot]` and `[provision]` turn on.
//!
//! Both may share one HTTP listener: then `/`, `/m` and the scripts are provisioning's, and what is
//! left (`/boot/…`, `/menu.ipxe`, `/autoexec.ipxe`) is the boot part's. Both get files through the
//! proxy's own forward listener ([`cache`]), and the proxy's requests appear in the timelines of the
//! machines that made them ([`journey`]).
//!
//! They run on threads of their own: firmware gives up on a DHCP answer after a second or two, and on
//! the proxy's threads it would wait behind every machine that is being sent its kernel ([`threads`]).

mod cache;
mod journey;
mod threads;

use std::net::SocketAddr;
use std::sync::Arc;

use larder_boot::Handle;
use larder_provision::{First, Listening, Provision, listen_rpc, listen_shared_http};
use larder_proxy::record::Recorder;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::commands::{boot, provision_serve};
use crate::config::{Settings, settings};
use crate::output::Failure;

pub use cache::Cache;
pub use journey::{Event, Journey, Journeys, NO_SOCKET, SOCKET_FIELD};

/// The address of a socket, with the mode that is told.
pub type Address = (&'static str, SocketAddr);

/// The parts that run beside the proxy.
#[derive(Debug)]
pub struct Boot {
    journeys: Arc<Journeys>,
    threads: Threads,
    handle: Option<Handle>,
    listeners: Vec<Listening>,
    addresses: Vec<Address>,
    notices: Vec<String>,
}

/// Threads that are left to themselves when they are dropped: they may not be waited for where other
/// tasks run.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn(task),
            None => tokio::spawn(task),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Takes finished requests for the access log, and for the timelines.
pub fn recorder(log: Arc<dyn Recorder>, journeys: &Arc<Journeys>) -> Arc<dyn Recorder> {
    Arc::new(journey::Seen {
        log,
        journeys: Arc::clone(journeys),
    })
}

impl Boot {
    /// Starts what is turned on; `proxy` are the proxy's sockets.
    ///
    /// # Errors
    /// A socket that cannot be opened, a data directory that is none: nothing stays open then.
    pub async fn start(
        settings: &Settings,
        proxy: &[Address],
        journeys: Arc<Journeys>,
    ) -> Result<Self, Failure> {
        if !settings.boot.enabled && !settings.provision.enabled {
            return Ok(Self::nothing(journeys));
        }
        let threads = threads::start()
            .map_err(|error| Failure::step("cannot start threads for network boot", error))?;
        let threads = Threads(Some(threads));
        let (settings, proxy) = (settings.clone(), proxy.to_vec());
        let opened = threads.spawn(async move { Self::open(&settings, &proxy, journeys).await });
        let opened = opened.await;
        let mut started = opened.map_err(|error| Failure::step("cannot start", error))??;
        started.threads = threads;
        Ok(started)
    }

    fn nothing(journeys: Arc<Journeys>) -> Self {
        Self {
            threads: Threads(None),
            journeys,
            handle: None,
            listeners: Vec::new(),
            addresses: Vec::new(),
            notices: Vec::new(),
        }
    }

    async fn open(
        settings: &Settings,
        proxy: &[Address],
        journeys: Arc<Journeys>,
    ) -> Result<Self, Failure> {
        let mut started = Self::nothing(journeys);
        let cache = Cache::behind(proxy);
        let mut shared = None;
        if settings.provision.enabled {
            let http = started
                .provision(&settings.provision, cache.as_ref())
                .await?;
            let is_shared = settings.boot.http == settings.provision.http;
            shared = is_shared.then_some(http.port());
        }
        if settings.boot.enabled {
            started.network_boot(&settings.boot, cache.as_ref(), shared)?;
        }
        Ok(started)
    }

    async fn provision(
        &mut self,
        settings: &settings::Provision,
        cache: Option<&Cache>,
    ) -> Result<SocketAddr, Failure> {
        let failed = |error| Failure::step("cannot start provisioning", error);
        let (mut config, files) = provision_serve::from_settings(settings)?;
        config.rewrite.port = cache.and_then(Cache::port_for_machines);
        if config.rewrite.enabled && cache.is_none() {
            config.rewrite.enabled = false;
            let why = "provision.rewrite needs a forward listener; kernels come from their mirrors";
            self.notices.push(why.to_owned());
        }
        let fetch = cache.map(|cache| Arc::new(*cache) as Arc<dyn larder_provision::Fetch>);
        let provision = Provision::open(config, fetch).map_err(failed)?;
        let notes = provision.snapshot().notes;
        self.notices.extend(notes.iter().map(ToString::to_string));
        self.journeys.provision(Arc::clone(&provision));
        if let Some(address) = settings.grpc {
            let address = address.to_string();
            let rpc = listen_rpc(Arc::clone(&provision), &address, &files).await;
            let rpc = rpc.map_err(failed)?;
            self.addresses.push(("rpc", rpc.address()));
            self.listeners.push(rpc);
        }
        let journeys = Arc::clone(&self.journeys);
        let first: Arc<First> = Arc::new(move |request, client| journeys.answer(request, client));
        let address = settings.http.to_string();
        let http = listen_shared_http(provision, &address, None, first).await;
        let http = http.map_err(failed)?;
        let address = http.address();
        self.addresses.push(("provision", address));
        self.listeners.push(http);
        Ok(address)
    }

    fn network_boot(
        &mut self,
        settings: &settings::Boot,
        cache: Option<&Cache>,
        shared: Option<u16>,
    ) -> Result<(), Failure> {
        let mut config = boot::from_settings(settings)?;
        config.cache_port = cache.and_then(Cache::port_for_machines);
        if shared.is_some() {
            config.http = None;
            config.http_port = shared;
        }
        let fetch = cache.map(|cache| Arc::new(*cache) as Arc<dyn larder_boot::Fetch>);
        let never = std::future::pending();
        let started = larder_boot::Boot::start(config, fetch, never);
        let handle = started.map_err(|error| Failure::step("cannot start network boot", error))?;
        self.notices.extend(handle.notices());
        let sockets = handle.listening().iter();
        self.addresses
            .extend(sockets.map(|socket| (socket.mode, socket.address)));
        self.journeys.boot(handle.web());
        self.handle = Some(handle);
        Ok(())
    }

    /// The sockets that accept.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What to tell the operator once.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The machines that were heard of, for status pages.
    pub fn journeys(&self) -> &Arc<Journeys> {
        &self.journeys
    }

    /// Stops answering; requests under way end by themselves, or after half a minute.
    pub async fn stop(&mut self) {
        drop(self.handle.take());
        for listener in self.listeners.drain(..) {
            listener.stop().await;
        }
    }
}
