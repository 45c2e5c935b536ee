//! What all requests share, and what one connection knows of its client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use larder_policy::policy::Policy;
use larder_policy::target::Mode;
use larder_store::Store;

use crate::config::Limits;
use crate::listen::Place;
use crate::origin::Origins;
use crate::record::Recorder;
use crate::unkept::Unkept;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Where the bytes are.
    pub(crate) store: Store,
    /// What requests are judged by; swapped on reload.
    pub(crate) policy: ArcSwap<Policy>,
    /// Connections to origins.
    pub(crate) origins: Origins,
    /// Files of which no part may be kept.
    pub(crate) unkept: Unkept,
    /// The name in Via and X-Cache.
    pub(crate) name: String,
    /// Takes access records.
    pub(crate) recorder: Arc<dyn Recorder>,
    /// Bounds on clients.
    pub(crate) limits: Limits,
}

/// One client connection: who, and through which door.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// The client's address, unmapped.
    pub(crate) client: IpAddr,
    /// The client's address is one of this host's.
    pub(crate) client_is_self: bool,
    /// What the listener's requests mean.
    pub(crate) mode: Mode,
    /// The listener's name.
    pub(crate) listener: String,
    /// Where the client reached us.
    pub(crate) local: SocketAddr,
    /// Its place among the connections, given back when nothing of it is left.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) place: Place,
}
