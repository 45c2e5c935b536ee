//! Why a request gets no answer.

use crate::packet::architecture::Architecture;
use crate::packet::request::NotARequest;

/// Why larder keeps silent. Each reason is counted, logged and shown in a machine's timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Silence {
    /// No client's DHCP packet.
    NotARequest(NotARequest),
    /// The vendor class is no boot firmware's: an ordinary client, which the main server serves.
    NotBooting,
    /// The vendor class says PXE, but no option 93 says which.
    NoArchitecture,
    /// Nothing can be served to this architecture.
    UnknownArchitecture(Architecture),
    /// No boot program for this architecture is on this host.
    NoLoader(Architecture),
    /// A message type that is the main server's business on this port.
    OthersBusiness(u8),
    /// The chosen menu item is not ours.
    UnknownItem(u16),
    /// The client asks for signed boot images (BIS), which no server here has.
    CredentialsAsked,
    /// No proxied subnet holds this client.
    NoSubnet,
    /// The rules say to ignore this client.
    Ignored,
    /// Rules without a PXE service or prompt.
    NoService,
}

impl Silence {
    /// The reason in one word, for metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotARequest(_) => "not-a-request",
            Self::NotBooting => "not-booting",
            Self::NoArchitecture => "no-architecture",
            Self::UnknownArchitecture(_) => "unknown-architecture",
            Self::NoLoader(_) => "no-loader",
            Self::OthersBusiness(_) => "others-business",
            Self::UnknownItem(_) => "unknown-item",
            Self::CredentialsAsked => "credentials-asked",
            Self::NoSubnet => "no-subnet",
            Self::Ignored => "ignored",
            Self::NoService => "no-service",
        }
    }

    /// Tells whether a machine that wants to boot was turned away: worth a line in the log.
    pub fn is_notable(&self) -> bool {
        !matches!(
            self,
            Self::NotARequest(_) | Self::NotBooting | Self::OthersBusiness(_)
        )
    }
}

impl std::fmt::Display for Silence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotARequest(reason) => write!(out, "{reason}"),
            Self::NotBooting => out.write_str("no PXE or HTTP-boot client"),
            Self::NoArchitecture => {
                out.write_str("the client does not say its architecture (option 93)")
            }
            Self::UnknownArchitecture(which) => write!(out, "nothing boots on {which}"),
            Self::NoLoader(which) => write!(out, "no boot program for {which} on this host"),
            Self::OthersBusiness(kind) => {
                write!(out, "message type {kind} is the main DHCP server's")
            }
            Self::UnknownItem(kind) => write!(out, "menu item {kind} is not ours"),
            Self::CredentialsAsked => out.write_str("signed boot images (BIS) are not served"),
            Self::NoSubnet => out.write_str("no proxied subnet holds this client"),
            Self::Ignored => out.write_str("the rules ignore this client"),
            Self::NoService => out.write_str("the rules have no pxe-service and no pxe-prompt"),
        }
    }
}

impl From<NotARequest> for Silence {
    fn from(reason: NotARequest) -> Self {
        Self::NotARequest(reason)
    }
}
