//! Thin sockets: interfaces, UDP that knows where a datagram came in, and raw frames.

pub mod interfaces;
pub mod raw;
pub mod udp;
