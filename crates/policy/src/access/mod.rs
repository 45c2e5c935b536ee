//! Who may ask for what: a list of rules of which the first that matches decides.
//!
//! The list is a value. Front-ends (larder.toml, squid.conf) build it from their own words, and the
//! proxy asks it twice: when a request's head is known, and again for every address that it is
//! about to dial, since a name says nothing about where it leads. Before an address is known, a
//! deny rule that looks at the address is skipped, and an allow rule is taken as if the address
//! suited; both are then decided for real at the dial ([`Unresolved`]).
//!
//! Deciding allocates nothing, except for patterns over URLs that carry escapes.

mod builtin;
mod matcher;
mod named;
mod sets;

use std::net::IpAddr;

use crate::url::Url;

pub use matcher::{Condition, Matcher, Protocol};
pub use sets::{AddressSet, HostSet, InvalidAddress, PortSet};

use matcher::Truth;

/// What is known of a request when a list is asked about it.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asks; a v4-mapped address is given as the IPv4 address that it stands for.
    pub client: IpAddr,
    /// The client's address is one of this host's own.
    pub client_is_self: bool,
    /// It goes to an origin that the configuration names: what rules say of ports and addresses is
    /// not about it.
    pub configured: bool,
    /// The method, as sent.
    pub method: &'a str,
    /// What is asked for, in normal form; `None` for `CONNECT`.
    pub url: Option<&'a Url>,
    /// The host that is asked for: lower-case name or address literal, without brackets.
    pub host: &'a str,
    /// The port that is asked for.
    pub port: u16,
    /// The port of the listener that took the request.
    pub listener_port: u16,
    /// The name of that listener, where it has one.
    pub listener_name: Option<&'a str>,
    /// The address about to be dialled, or the host where that is a literal; v4-mapped addresses
    /// unmapped. `None`: not known yet, or no connection is made.
    pub to: Option<IpAddr>,
}

/// What holds when no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultAction {
    /// Deny (larder.toml).
    #[default]
    Deny,
    /// Allow.
    Allow,
    /// The opposite of the last rule's action, as Squid does it; deny without any rule.
    OppositeOfLast,
}

/// What a rule means that looks at an address which is not known yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unresolved {
    /// A deny rule is skipped, an allow rule counts as if the address suited: for lists that are
    /// asked again at the dial.
    #[default]
    AskAgain,
    /// Neither matches: for lists that are asked once (Squid's fast lists without the data).
    NoMatch,
}

/// One line of an access list.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Allow, or deny.
    pub allow: bool,
    /// All of these must hold; an empty list always does.
    pub conditions: Vec<Condition>,
    /// How the rule is shown to people, such as `squid.conf:9 http_access deny !safe_ports`.
    pub text: String,
}

/// Rules in order; the first that matches decides.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// What holds when none matches.
    pub default: DefaultAction,
    /// What a rule means whose address is not known yet.
    pub unresolved: Unresolved,
}

/// What a list says of a request, and which rule said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The request may go on.
    pub allowed: bool,
    /// The index of the rule that decided; `None`: no rule matched.
    pub rule: Option<usize>,
    /// The rule as shown to people, or what the list does when no rule matches.
    pub text: &'a str,
}

impl AccessList {
    /// A list as larder.toml has it: no match is a denial.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Squid's `http_access`: no match is the opposite of the last line, and addresses are asked
    /// about again at the dial.
    pub fn squid(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            default: DefaultAction::OppositeOfLast,
            unresolved: Unresolved::AskAgain,
        }
    }

    /// Squid's other lists (`cache_peer_access`, `never_direct`, `store_id_access` …): as
    /// `http_access`, but asked once, so that an unknown address matches nothing.
    pub fn squid_selection(rules: Vec<Rule>) -> Self {
        Self {
            unresolved: Unresolved::NoMatch,
            ..Self::squid(rules)
        }
    }

    /// The decision about one request.
    pub fn decide(&self, facts: &Facts<'_>) -> Decision<'_> {
        let decided = self
            .rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.matches(facts, self.unresolved));
        match decided {
            Some((index, rule)) => Decision {
                allowed: rule.allow,
                rule: Some(index),
                text: &rule.text,
            },
            None => self.undecided(),
        }
    }

    fn undecided(&self) -> Decision<'_> {
        let (allowed, text) = match self.default {
            DefaultAction::Deny => (false, "no rule matches: deny"),
            DefaultAction::Allow => (true, "no rule matches: allow"),
            DefaultAction::OppositeOfLast => match self.rules.last() {
                Some(last) if last.allow => {
                    (false, "no rule matches: deny, the opposite of the last")
                }
                Some(_) => (true, "no rule matches: allow, the opposite of the last"),
                None => (false, "there are no rules: deny"),
            },
        };
        Decision {
            allowed,
            rule: None,
            text,
        }
    }
}

impl Rule {
    /// A pattern that gave up (its backtrack limit) fails closed: it is taken to match in a deny
    /// rule, and not to match in an allow rule.
    fn matches(&self, facts: &Facts<'_>, unresolved: Unresolved) -> bool {
        match matcher::all(&self.conditions, facts) {
            Truth::Yes => true,
            Truth::No => false,
            Truth::Unresolved => self.allow && unresolved == Unresolved::AskAgain,
            Truth::GaveUp => !self.allow,
        }
    }
}

#[cfg(test)]
mod tests;
