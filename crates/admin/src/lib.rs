//! What is going on: health, metrics and a JSON API over a running larder or a stopped cache.
//!
//! The same API answers on a unix socket, on an administrators' TCP address, and (for the commands
//! on a stopped cache) within one process; what a caller may do depends on which door it came
//! through ([`Trust`]). Long answers are streams of JSON lines, so that progress is seen, and the
//! last line says that it is the last. What a list needs of memory is bounded, and so is the number
//! of lists that are made at a time.
//!
//! In reading order: who may do what ([`Trust`], `serve`), what is asked (`routes`), what is told of
//! objects (`objects`), what changes them (`change`), what is counted ([`Metrics`]), and the other
//! end of the line ([`Client`]).

mod change;
mod client;
mod events;
mod machines;
mod metrics;
mod objects;
mod parts;
mod routes;
mod serve;
mod sorted;
mod through;
pub mod variant;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use larder_store::Store;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

pub use client::{Client, ClientError, parameter};
pub use machines::{Counts, Machines, Refusal};
pub use metrics::Metrics;
pub use serve::{Trust, serve_tcp, serve_unix};
pub use through::fetch;

/// What is told of the program itself.
#[derive(Clone, Debug)]
pub struct About {
    /// The program's version.
    pub version: &'static str,
    /// When it started.
    pub started: SystemTime,
    /// The same by a clock that nobody sets.
    pub since: Instant,
    /// The cache directory.
    pub directory: PathBuf,
    /// Mode and address of each socket of the proxy; empty for a stopped cache.
    pub listeners: Vec<(String, SocketAddr)>,
    /// What knows the machines that are booted and provisioned.
    pub machines: Option<Arc<dyn Machines>>,
}

/// A wish that only the program itself can grant.
#[derive(Debug)]
pub enum Wish {
    /// Read the configuration again. The answer is what of it needs a restart, or what was wrong
    /// with it.
    Reload(oneshot::Sender<Result<Vec<&'static str>, String>>),
}

/// Everything that answers need.
#[derive(Debug)]
pub struct Admin {
    pub(crate) about: About,
    pub(crate) store: Store,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) wishes: Option<mpsc::Sender<Wish>>,
    /// What callers from beyond this host must know; `None`: they may do nothing.
    pub(crate) token: Option<String>,
    /// Places of those who go through all objects.
    walks: Arc<Semaphore>,
    /// The place of the one audit.
    audit: Arc<Semaphore>,
}

/// Who goes through all objects at a time; others wait for [`WALK_WAIT`].
const WALKS_MAX: usize = 4;
const WALK_WAIT: Duration = Duration::from_secs(10);

impl Admin {
    /// A running larder.
    pub fn running(
        about: About,
        store: Store,
        metrics: Arc<Metrics>,
        wishes: mpsc::Sender<Wish>,
        token: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            about,
            store,
            metrics: Some(metrics),
            wishes: Some(wishes),
            token,
            walks: Arc::new(Semaphore::new(WALKS_MAX)),
            audit: Arc::new(Semaphore::new(1)),
        })
    }

    /// A cache that no server has open.
    pub fn stopped(about: About, store: Store) -> Arc<Self> {
        Arc::new(Self {
            about,
            store,
            metrics: None,
            wishes: None,
            token: None,
            walks: Arc::new(Semaphore::new(WALKS_MAX)),
            audit: Arc::new(Semaphore::new(1)),
        })
    }

    /// A place among those who go through all objects. `None`: there is none for now.
    pub(crate) async fn walk(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.walks).acquire_owned();
        timeout(WALK_WAIT, place).await.ok()?.ok()
    }

    /// The right to audit. `None`: somebody else does.
    pub(crate) fn audit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.audit).try_acquire_owned().ok()
    }
}
