//! Why something was decided: enums whose words are shared by log, metrics and `Cache-Status`.

use crate::headers::Forwarded;

/// Why a request goes to the origin and its answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Not GET or HEAD.
    Method,
    /// The request has a body.
    RequestBody,
    /// The request said no-store.
    RequestNoStore,
    /// A condition that is for the origin alone to judge (RFC 9111 §4.3.2).
    Precondition,
    /// A rule of the operator says so (`cache deny`).
    Rule,
    /// A range of something that is not held.
    ColdRange,
    /// HEAD of something that is not held.
    ColdHead,
    /// The leader's answer was not to be kept.
    NotShared,
    /// The store has no room or cannot write.
    NoRoom,
}

impl Pass {
    /// The word for log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::RequestBody => "request-body",
            Self::RequestNoStore => "request-no-store",
            Self::Precondition => "precondition",
            Self::Rule => "rule",
            Self::ColdRange => "cold-range",
            Self::ColdHead => "cold-head",
            Self::NotShared => "not-shared",
            Self::NoRoom => "no-room",
        }
    }

    /// The reason in RFC 9211's words.
    pub fn forwarded(self) -> Forwarded {
        match self {
            Self::Method => Forwarded::Method,
            Self::RequestNoStore | Self::Precondition => Forwarded::Request,
            Self::ColdRange | Self::ColdHead | Self::NotShared | Self::NoRoom => Forwarded::UriMiss,
            Self::RequestBody | Self::Rule => Forwarded::Bypass,
        }
    }
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// Status that is never kept, or not without an explicit lifetime.
    Status,
    /// The origin said no-store.
    NoStore,
    /// The origin said private.
    Private,
    /// RFC 9111 §3.5.
    Authorization,
    /// `Vary: *`.
    VaryStar,
    /// A part of a body.
    Partial,
    /// Longer than `max-object-size`.
    TooLarge,
    /// A web page where a package was asked for.
    NotAPackage,
    /// It could neither be fresh nor be validated.
    Useless,
    /// RFC 9111 §3 for another reason.
    Rfc9111,
    /// Its end cannot be told from a broken connection (RFC 9112 §8).
    Unframed,
    /// The store has no room or cannot write.
    NoRoom,
    /// An operator's rule (`cache deny`).
    Rule,
}

impl NotStored {
    /// The word for log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::VaryStar => "vary-star",
            Self::Partial => "partial",
            Self::TooLarge => "too-large",
            Self::NotAPackage => "not-a-package",
            Self::Useless => "useless",
            Self::Unframed => "unframed",
            Self::NoRoom => "no-room",
            Self::Rfc9111 => "rfc9111",
            Self::Rule => "rule",
        }
    }
}

/// Why an entry that is held is asked about before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Its freshness lifetime is over.
    Stale,
    /// The client asked for it (no-cache, max-age=0).
    Client,
    /// The origin or the file's class wants it at each use.
    Always,
}

impl Ask {
    /// The word for log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Client => "client",
            Self::Always => "always",
        }
    }

    /// The reason in RFC 9211's words.
    pub fn forwarded(self) -> Forwarded {
        match self {
            Self::Client => Forwarded::Request,
            Self::Stale | Self::Always => Forwarded::Stale,
        }
    }
}
