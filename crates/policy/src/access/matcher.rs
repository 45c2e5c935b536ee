//! The conditions of access rules, and how they are evaluated.
//!
//! A condition can be undecided: the address may not be known yet, or a pattern may have given up.
//! So truth has four values here, and only the rule says what the undecided ones mean for it.

use std::borrow::Cow;

use super::{AddressSet, Facts, HostSet, PortSet};
use crate::store_id::Pattern;
use crate::url::Scheme;

/// How a request's target is spoken to, as Squid's `proto` sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// An `http://` URL.
    Http,
    /// An `https://` URL.
    Https,
    /// A tunnel: what is spoken in it is not seen.
    None,
}

/// One thing that a request can match.
#[derive(Clone, Debug)]
pub enum Matcher {
    /// Every request.
    Any,
    /// No request.
    Never,
    /// The client's address.
    Client(AddressSet),
    /// The client's address is one of this host's own.
    ClientIsSelf,
    /// The address that is dialled.
    To(AddressSet),
    /// The host that is asked for.
    Host(HostSet),
    /// The host that is asked for, by pattern.
    HostPattern(Vec<Pattern>),
    /// The port that is asked for.
    Port(PortSet),
    /// The method, in any case.
    Method(Vec<String>),
    /// The scheme of the URL.
    Protocol(Vec<Protocol>),
    /// The whole URL, escapes decoded; `host:port` for a tunnel.
    UrlPattern(Vec<Pattern>),
    /// Path and query of the URL, escapes decoded; a tunnel has none.
    PathPattern(Vec<Pattern>),
    /// The listener's port.
    ListenerPort(PortSet),
    /// The listener's name.
    ListenerName(Vec<String>),
    /// All of these.
    AllOf(Vec<Condition>),
    /// At least one of these.
    AnyOf(Vec<Condition>),
}

/// A matcher, or its opposite.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The condition holds where the matcher does not.
    pub negated: bool,
    /// What is looked at.
    pub matcher: Matcher,
}

impl From<Matcher> for Condition {
    fn from(matcher: Matcher) -> Self {
        Self {
            negated: false,
            matcher,
        }
    }
}

impl Condition {
    /// Holds where `matcher` does not.
    pub fn not(matcher: Matcher) -> Self {
        Self {
            negated: true,
            matcher,
        }
    }

    fn truth(&self, facts: &Facts<'_>) -> Truth {
        match (self.matcher.truth(facts), self.negated) {
            (Truth::Yes, true) => Truth::No,
            (Truth::No, true) => Truth::Yes,
            (truth, _) => truth,
        }
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    /// It depends on an address that is not known yet.
    Unresolved,
    /// A pattern reached its backtrack limit.
    GaveUp,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}

/// True if all hold; one that does not settles it, whatever the undecided ones would say.
pub(super) fn all(conditions: &[Condition], facts: &Facts<'_>) -> Truth {
    fold(conditions, facts, Truth::No, Truth::Yes)
}

fn any(conditions: &[Condition], facts: &Facts<'_>) -> Truth {
    fold(conditions, facts, Truth::Yes, Truth::No)
}

/// The `settling` value of one condition is the value of all; without it an undecided one counts,
/// a pattern that gave up before an address that is not known.
fn fold(conditions: &[Condition], facts: &Facts<'_>, settling: Truth, otherwise: Truth) -> Truth {
    let mut folded = otherwise;
    for condition in conditions {
        match condition.truth(facts) {
            truth if truth == settling => return settling,
            Truth::GaveUp => folded = Truth::GaveUp,
            Truth::Unresolved if folded != Truth::GaveUp => folded = Truth::Unresolved,
            Truth::Unresolved | Truth::Yes | Truth::No => {}
        }
    }
    folded
}

impl Matcher {
    fn truth(&self, facts: &Facts<'_>) -> Truth {
        match self {
            Self::Any => Truth::Yes,
            Self::Never => Truth::No,
            Self::Client(set) => set.contains(facts.client).into(),
            Self::ClientIsSelf => facts.client_is_self.into(),
            // As where an address is not known: a deny rule is skipped, an allow rule holds.
            Self::To(_) | Self::Port(_) if facts.configured => Truth::Unresolved,
            Self::To(set) => facts
                .to
                .map_or(Truth::Unresolved, |to| set.contains(to).into()),
            Self::Host(set) => set.contains(facts.host).into(),
            Self::HostPattern(patterns) => any_pattern(patterns, facts.host),
            Self::Port(set) => set.contains(facts.port).into(),
            Self::Method(methods) => methods
                .iter()
                .any(|method| method.eq_ignore_ascii_case(facts.method))
                .into(),
            Self::Protocol(protocols) => protocols.contains(&protocol(facts)).into(),
            Self::UrlPattern(patterns) => match facts.url {
                Some(url) => any_pattern(patterns, &decoded(url.as_str())),
                None => any_pattern(patterns, &format!("{}:{}", facts.host, facts.port)),
            },
            Self::PathPattern(patterns) => facts.url.map_or(Truth::No, |url| {
                any_pattern(patterns, &decoded(url.path_and_query()))
            }),
            Self::ListenerPort(set) => set.contains(facts.listener_port).into(),
            Self::ListenerName(names) => facts
                .listener_name
                .is_some_and(|name| names.iter().any(|wanted| wanted == name))
                .into(),
            Self::AllOf(conditions) => all(conditions, facts),
            Self::AnyOf(conditions) => any(conditions, facts),
        }
    }
}

fn protocol(facts: &Facts<'_>) -> Protocol {
    match facts.url.map(crate::url::Url::scheme) {
        Some(Scheme::Http) => Protocol::Http,
        Some(Scheme::Https) => Protocol::Https,
        None => Protocol::None,
    }
}

fn any_pattern(patterns: &[Pattern], text: &str) -> Truth {
    let mut seen = Truth::No;
    for pattern in patterns {
        match pattern.is_match(text) {
            Ok(true) => return Truth::Yes,
            Ok(false) => {}
            Err(_) => seen = Truth::GaveUp,
        }
    }
    seen
}

/// Escapes decoded, as Squid does it before it matches `url_regex`: `%2F` must not carry a request
/// past a rule about `/`. Octets that are no UTF-8 become U+FFFD.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = hex_pair(after).filter(|_| first == b'%');
        octets.push(escaped.unwrap_or(first));
        rest = escaped.map_or(after, |_| after.get(2..).unwrap_or_default());
    }
    Cow::Owned(String::from_utf8_lossy(&octets).into_owned())
}

fn hex_pair(octets: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*octets.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}
