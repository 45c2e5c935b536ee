//! How does a machine boot? proxyDHCP, TFTP and iPXE scripts beside an untouched main DHCP server.
//!
//! The way of a request: a socket in [`net`] receives it, [`packet`] parses it, [`decide`] (pure) says who
//! gets which answer, and the answer goes back out. Files travel by [`tftp`] or by [`web`], which also
//! serves the scripts that iPXE runs. [`words`] is the front-end for those who come from dnsmasq.
//! [`timeline`] remembers what each machine asked and got. [`serve::Boot`] wires all of it.
//!
//! Invariants: no packet to a client that is not boot firmware; no lease, ever; nothing outside the boot
//! root leaves this host but the distributions' iPXE programs; no datagram makes anything here panic.

pub mod config;
pub mod decide;
mod disk;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod export;
pub mod fetch;
pub mod here;
pub mod ipxe_text;
pub mod loaders;
pub mod look;
pub mod menu;
pub mod net;
pub mod packet;
pub mod range;
pub mod review;
pub mod script;
pub mod serve;
mod stall;
pub mod tftp;
pub mod timeline;
pub mod web;
pub mod words;

pub use config::Config;
pub use error::Error;
pub use fetch::{Fetch, Fetched};
pub use serve::{Boot, Handle};
