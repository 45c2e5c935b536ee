//! TFTP as boot firmware needs it: RFC 1350, 2347, 2348, 2349 and 7440, read-only.
//!
//! Packets and transfers are pure ([`packet`], [`transfer`]); [`files`] finds what a name means and never
//! leaves the root; [`server`] moves datagrams.

pub mod files;
pub mod packet;
pub mod server;
pub mod transfer;
