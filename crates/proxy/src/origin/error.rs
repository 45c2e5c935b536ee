//! Why an origin gave no answer: whose fault it is, what status the client gets, and what each of
//! client and operator is told.

use std::io;
use std::net::SocketAddr;

use larder_policy::framing::FramingError;

use crate::record::Hierarchy;

/// No answer came from upstream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// No configured hop may take the request.
    #[error("no mirror or parent may take this request")]
    NoRoute,
    /// The name does not resolve.
    #[error("the name {0} does not resolve")]
    Unresolved(String, #[source] io::Error),
    /// Every address of the name is forbidden by an access rule.
    #[error("the address {0} is not allowed")]
    Forbidden(SocketAddr),
    /// The name leads to one of our own listeners.
    #[error("the address {0} is this proxy itself")]
    Itself(SocketAddr),
    /// The connection was refused or broke before it was there.
    #[error("no connection to {0}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// The connection did not come about in time.
    #[error("no connection to {0} in time")]
    ConnectTimeout(SocketAddr),
    /// The TLS handshake failed.
    #[error("no trusted TLS connection to {0}")]
    Tls(SocketAddr, #[source] io::Error),
    /// A parent would not make a tunnel.
    #[error("the parent at {0} refused the tunnel")]
    ParentRefused(SocketAddr),
    /// No answer in the time that an origin has where others are left.
    #[error("{0} was too slow, with others left to ask")]
    Slow(String),
    /// No response head came in time.
    #[error("{0} sent no answer in time")]
    Silent(SocketAddr),
    /// The connection ended without a response head.
    #[error("{0} closed the connection without an answer")]
    Closed(SocketAddr, #[source] hyper::Error),
    /// What came is no HTTP.
    #[error("{0} sent what is no HTTP")]
    Garbage(SocketAddr, #[source] hyper::Error),
    /// The end of its body cannot be told.
    #[error("{0} sent a body that cannot be read: {1}")]
    Unframed(SocketAddr, FramingError),
    /// 101, a 304 or a part, without having been asked for it.
    #[error("{0} answered something that was not asked")]
    Unasked(SocketAddr),
    /// The client's body is larger than may pass.
    #[error("the request's body is too large")]
    BodyTooLarge,
    /// The client's body did not come whole, or is none.
    #[error("the client broke off in its body")]
    BodyBroken,
    /// A part that its head contradicts, or other bytes than were asked for.
    #[error("{0} sent a part that is not the one asked for")]
    OddPart(String),
    /// The request cannot be written for this hop.
    #[error("the request cannot be written for this origin")]
    BadTarget,
}

impl OriginError {
    /// Tells apart what went wrong in an exchange.
    pub(crate) fn of_exchange(error: hyper::Error, remote: SocketAddr) -> Self {
        let closed = error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
            || error.is_body_write_aborted();
        let io =
            std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<io::Error>);
        if closed || (io && !error.is_parse()) {
            Self::Closed(remote, error)
        } else {
            Self::Garbage(remote, error)
        }
    }

    /// True for an idle connection that the origin had closed: the request was not answered and
    /// may be sent again (RFC 9110 §9.2.2: only methods that are idempotent come here).
    pub(crate) fn is_stale_connection(&self) -> bool {
        matches!(self, Self::Closed(..))
    }

    /// True if a rule forbade it.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Forbidden(_) | Self::Itself(_))
    }

    /// True if it says nothing of the origin: a rule forbade it, or the client is at fault.
    pub(crate) fn is_no_fault_of_origin(&self) -> bool {
        self.is_denial() || matches!(self, Self::BodyTooLarge | Self::BodyBroken)
    }

    /// The status that the client gets (RFC 9110 §15.6).
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) | Self::Itself(_) => 403,
            Self::NoRoute | Self::Unreachable(..) => 503,
            Self::ConnectTimeout(_) | Self::Silent(_) | Self::Slow(_) => 504,
            Self::BadTarget | Self::BodyBroken => 400,
            Self::BodyTooLarge => 413,
            Self::Unresolved(..)
            | Self::Tls(..)
            | Self::ParentRefused(_)
            | Self::Closed(..)
            | Self::Garbage(..)
            | Self::Unframed(..)
            | Self::OddPart(_)
            | Self::Unasked(_) => 502,
        }
    }

    /// What the person at the client is told; addresses stay with the operator.
    pub(crate) fn for_client(&self, host: &str) -> String {
        match self {
            Self::NoRoute => "No mirror is set up that could serve this request.".to_owned(),
            Self::Unresolved(..) => format!("The host name {host} does not resolve."),
            Self::Forbidden(_) => {
                format!("The address of {host} is not one that this proxy may connect to.")
            }
            Self::Itself(_) => format!("The host {host} is this proxy itself."),
            Self::Unreachable(..) => format!("The host {host} does not accept connections."),
            Self::ConnectTimeout(_) => format!("The host {host} could not be reached in time."),
            Self::Tls(..) => format!("No trusted TLS connection to {host} could be made."),
            Self::ParentRefused(_) => format!("The parent proxy would not connect to {host}."),
            Self::Silent(_) | Self::Slow(_) => format!("The host {host} did not answer in time."),
            Self::Closed(..) => format!("The host {host} closed the connection without an answer."),
            Self::Garbage(..) | Self::Unframed(..) | Self::Unasked(_) | Self::OddPart(_) => {
                format!("The host {host} sent an answer that is not valid HTTP.")
            }
            Self::BodyTooLarge => "The request carries more than may pass here.".to_owned(),
            Self::BodyBroken => "What the request carries broke off.".to_owned(),
            Self::BadTarget => "The address cannot be sent to its host.".to_owned(),
        }
    }

    /// Where the request got to, for the record.
    pub(crate) fn hierarchy(&self) -> Hierarchy {
        match self {
            Self::Unreachable(at, _)
            | Self::ConnectTimeout(at)
            | Self::Tls(at, _)
            | Self::ParentRefused(at)
            | Self::Silent(at)
            | Self::Closed(at, _)
            | Self::Garbage(at, _)
            | Self::Unframed(at, _)
            | Self::Unasked(at) => Hierarchy::Direct(at.ip().to_canonical()),
            Self::NoRoute
            | Self::Unresolved(..)
            | Self::Forbidden(_)
            | Self::Itself(_)
            | Self::Slow(_)
            | Self::BodyTooLarge
            | Self::BodyBroken
            | Self::OddPart(_)
            | Self::BadTarget => Hierarchy::None,
        }
    }
}
