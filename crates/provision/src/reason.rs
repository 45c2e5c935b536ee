//! Why a request got a 404 (or another refusal): one enum for the log, `X-Larder-Reason` and the
//! machine's timeline. The page itself is matchbox's, which says nothing.

use http::HeaderValue;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No such path.
    #[error("no page {0:?} here")]
    NoPage(String),
    /// No group has selectors that match.
    #[error("no group matches the labels {0}")]
    NoGroup(String),
    /// The group's profile is missing or bad.
    #[error("group {group:?} names the profile {profile:?}: {why}")]
    NoProfile {
        /// The selected group.
        group: String,
        /// Its profile.
        profile: String,
        /// What is wrong with that.
        why: String,
    },
    /// The profile has no `boot`.
    #[error("profile {0:?} has no boot section")]
    NoBoot(String),
    /// The profile names no file of this kind.
    #[error("profile {profile:?} names no {kind} file")]
    NoName {
        /// The profile.
        profile: String,
        /// The directory.
        kind: &'static str,
    },
    /// The file is missing or unreadable.
    #[error("{0}")]
    NoFile(String),
    /// The file is there and larder may not read it.
    #[error("{0} may not be read by larder's user")]
    Unreadable(String),
    /// The template does not render.
    #[error("template {name:?}: {why}")]
    Template {
        /// The file.
        name: String,
        /// The engine's words.
        why: String,
    },
    /// The Ignition config may not be sent.
    #[error("ignition file {name:?} {why}")]
    Ignition {
        /// The file.
        name: String,
        /// What a person has to change.
        why: String,
    },
    /// The cloud-config is none.
    #[error("cloud file {0:?} starts with neither #cloud-config nor #!")]
    Cloud(String),
    /// Signatures are asked for and there is no key.
    #[error("no OpenPGP key signs here")]
    NoKey,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
    /// A call that needs a machine got none.
    #[error("the request names no machine (mac=ADDRESS)")]
    NoMachine,
    /// A machine says that it is done and was given nothing to install.
    #[error(
        "{0} was given no boot script and no kickstart to install by, and no group names its address"
    )]
    NotExpected(String),
    /// What the machine said could not be written down.
    #[error("not recorded: {0}")]
    NotRecorded(String),
    /// The URL is not one that a profile names.
    #[error("{0} is not under a URL that a profile names")]
    ForeignUrl(String),
    /// The cache could not get a URL.
    #[error("fetching {url}: {why}")]
    Fetch {
        /// The URL.
        url: String,
        /// The cache's words.
        why: String,
    },
    /// A fault of larder's: the answer was given up.
    #[error("the answer broke off: the log says more")]
    BrokenOff,
    /// The method changes nothing here.
    #[error("{0} is not answered here, use POST")]
    Method(String),
}

impl Reason {
    /// The reason as one header line of bounded length.
    pub(crate) fn header(&self) -> HeaderValue {
        let line: String = self
            .to_string()
            .chars()
            .map(|c| {
                if c.is_ascii() && !c.is_ascii_control() {
                    c
                } else {
                    '?'
                }
            })
            .take(400)
            .collect();
        HeaderValue::from_str(&line).unwrap_or(HeaderValue::from_static("unprintable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_stays_one_short_line_of_ascii() {
        let reason = Reason::NoFile(format!("a\r\nSet-Cookie: ä{}", "x".repeat(500)));
        let header = reason.header();
        assert!(header.len() == 400 && header.to_str().unwrap().starts_with("a??Set-Cookie: ?xx"));
    }
}
