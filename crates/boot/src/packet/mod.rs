//! The bytes of DHCP as boot firmware speaks it: requests parsed, replies encoded, no I/O.

pub mod architecture;
pub mod hardware;
pub mod ipxe;
pub mod options;
pub mod reply;
pub mod request;
pub mod vendor;
