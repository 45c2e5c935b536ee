//! matchbox's gRPC services: whoever holds a certificate of the authority may change everything.
//!
//! Five services on one HTTP/2 port behind mutual TLS. The calls are translations between the wire
//! messages and the [`Library`]; what they answer on failure is what terraform's provider and
//! bootcmd know: no match is `NotFound`, everything else `Unknown` with the system's words. Three
//! departures: labels of a selection are compared as those of a request are, a `mac` in its usual form
//! (matchbox compares what it was sent); removing what is gone already succeeds (terraform would stop at an error), and a put
//! without its message or with a name that leads out of its directory is `InvalidArgument`
//! (matchbox ends as a whole on the first and changes the name on the second).
//!
//! [`Library`]: crate::library::Library

mod convert;
mod serve;
mod services;

/// Code from the .proto files.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code"
)]
mod wire {
    pub(super) mod storagepb {
        tonic::include_proto!("storagepb");
    }
    pub(super) mod serverpb {
        tonic::include_proto!("serverpb");
    }
    pub(super) mod rpcpb {
        tonic::include_proto!("rpcpb");
    }
}

pub use self::serve::start;
