//! The tags of a request: the interface's name, what the request itself matches, the host's, the derived.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::rules::{Condition, HardwarePattern, Host, Pattern, Rules, Subject, Tagging};
use crate::decide::Interface;
use crate::packet::options::{code, find};
use crate::packet::request::Request;

/// Flag of option 81 that its name has DNS's wire form (RFC 4702 §2.1).
const FQDN_WIRE: u8 = 4;

/// A set of tags.
pub type Tags = BTreeSet<String>;

/// Tells whether all conditions hold; an empty list holds only where `untagged` says so.
pub fn hold(conditions: &[Condition], tags: &Tags, untagged: bool) -> bool {
    (untagged || !conditions.is_empty())
        && conditions
            .iter()
            .all(|condition| tags.contains(&condition.tag) != condition.is_negated)
}

/// Computes the tags that the request has whatever range it is served from; `is_here` tells of an address
/// whether it is in one of the client's subnets.
pub fn of(
    request: &Request<'_>,
    interface: &Interface,
    rules: &Rules,
    is_here: &dyn Fn(Ipv4Addr) -> bool,
) -> Tags {
    let mut tags = Tags::from([interface.name.clone()]);
    let matching = rules
        .tag_rules
        .iter()
        .filter(|rule| matches(&rule.when, request));
    tags.extend(matching.map(|rule| rule.tag.clone()));
    let lines = Lines {
        request,
        rules,
        tags: derived(tags.clone(), rules),
    };
    let is_known = |host: &Host| host.address.is_none_or(is_here);
    let by_address = lines.by_address(&is_known);
    if by_address.is_none() && lines.by_address(&|_| true).is_some() {
        tags.insert("known-othernet".to_owned());
    }
    if let Some(host) = by_address.or_else(|| lines.by_name(&is_known)) {
        tags.insert("known".to_owned());
        tags.extend(host.sets.iter().cloned());
    }
    derived(tags, rules)
}

/// Adds the tags of `tag-if`, each line once and in order, as dnsmasq does.
pub fn derived(mut tags: Tags, rules: &Rules) -> Tags {
    for derived in &rules.tag_ifs {
        let holds = derived.conditions.iter().all(|condition| {
            let found = match condition.tag.strip_suffix('*') {
                Some(prefix) => tags.iter().any(|tag| tag.starts_with(prefix)),
                None => tags.contains(&condition.tag),
            };
            found != condition.is_negated
        });
        if holds {
            tags.extend(derived.sets.iter().cloned());
        }
    }
    tags
}

/// The host lines as a client's request meets them: found by client identifier, by hardware address, by the
/// fewest wildcards, and else by the name that the client gives itself. Lines with matching tags go before lines
/// without, later lines before earlier ones.
struct Lines<'a> {
    request: &'a Request<'a>,
    rules: &'a Rules,
    tags: Tags,
}

impl<'a> Lines<'a> {
    fn fitting(&self, untagged: bool, is_known: &dyn Fn(&Host) -> bool) -> Vec<&'a Host> {
        let all = self.rules.hosts.iter().rev();
        all.filter(|host| hold(&host.conditions, &self.tags, untagged) && is_known(host))
            .collect()
    }

    fn by_address(&self, is_known: &dyn Fn(&Host) -> bool) -> Option<&'a Host> {
        let id = self.request.options.find(code::CLIENT_ID, 1);
        let found = |untagged| {
            let fitting = self.fitting(untagged, is_known);
            let by_id = id.and_then(|id| fitting.iter().copied().find(|host| has_id(host, id)));
            by_id.or_else(|| by_hardware(self.request, &fitting))
        };
        found(false).or_else(|| found(true))
    }

    fn by_name(&self, is_known: &dyn Fn(&Host) -> bool) -> Option<&'a Host> {
        let name = own_name(self.request)?;
        let name = name.split('.').next().filter(|name| !name.is_empty())?;
        let has_name = |host: &&Host| {
            let known = host.name.as_ref().filter(|_| host.client_id.is_none());
            host.hardware.is_empty() && known.is_some_and(|own| own.eq_ignore_ascii_case(name))
        };
        let found = |untagged| self.fitting(untagged, is_known).into_iter().find(has_name);
        found(false).or_else(|| found(true))
    }
}

/// Tells whether a line names this identifier. A text stands in the packet behind a zero, which tells its
/// type (RFC 2132 §9.14); some clients leave that out.
fn has_id(host: &Host, id: &[u8]) -> bool {
    let bare = id.strip_prefix(&[0]).unwrap_or(id);
    host.client_id
        .as_deref()
        .is_some_and(|own| own == id || own == bare)
}

fn by_hardware<'r>(request: &Request<'_>, fitting: &[&'r Host]) -> Option<&'r Host> {
    let exactness = |host: &Host| {
        let patterns = host.hardware.iter();
        let patterns = patterns.filter(|pattern| fits(pattern, request));
        patterns
            .map(|pattern| pattern.bytes.iter().flatten().count())
            .max()
    };
    let known = fitting
        .iter()
        .filter_map(|host| Some((exactness(host)?, *host)));
    known
        .fold(None, |best: Option<(usize, &Host)>, next| match best {
            Some(best) if best.0 >= next.0 => Some(best),
            _ => Some(next),
        })
        .map(|(_, host)| host)
}

/// The name that the client gives itself, with its domain: in option 81 (RFC 4702), else in option 12. One in
/// option 81 that can be no host's leaves it without any.
fn own_name(request: &Request<'_>) -> Option<String> {
    let bytes = match request.options.find(code::FQDN, 3) {
        Some([flags, _, _, name @ ..]) => {
            let is_wire = flags & FQDN_WIRE != 0;
            let name = if is_wire { dotted(name) } else { name.to_vec() };
            Some(name).filter(|name| is_legal(until_zero(name)))?
        }
        _ => request.options.find(code::HOST_NAME, 1)?.to_vec(),
    };
    Some(String::from_utf8_lossy(until_zero(&bytes)).into_owned())
}

fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A name of counted labels with dots between them.
fn dotted(wire: &[u8]) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut rest = wire;
    while let Some((count, tail)) = rest.split_first().filter(|(count, _)| **count != 0) {
        let Some((label, tail)) = tail.split_at_checked(usize::from(*count)) else {
            break;
        };
        labels.push(label);
        rest = tail;
    }
    labels.join(&b'.')
}

/// Tells whether a name begins with a host's name: letters, digits, and behind the first also `-` and `_`.
fn is_legal(name: &[u8]) -> bool {
    let host = name.split(|byte| *byte == b'.').next().unwrap_or_default();
    let is_first_good = host.first().is_some_and(u8::is_ascii_alphanumeric);
    is_first_good
        && host
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

fn fits(pattern: &HardwarePattern, request: &Request<'_>) -> bool {
    let bytes = request.hardware.bytes();
    pattern
        .kind
        .is_none_or(|kind| kind == request.hardware_kind)
        && pattern.bytes.len() == bytes.len()
        && pattern
            .bytes
            .iter()
            .zip(bytes)
            .all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
}

fn matches(rule: &Tagging, request: &Request<'_>) -> bool {
    match rule {
        Tagging::Match {
            subject: Subject::Option(code),
            pattern,
        } => request
            .options
            .find(*code, 1)
            .is_some_and(|value| found(pattern, value)),
        Tagging::Match {
            subject: Subject::Enterprise(number),
            pattern,
        } => vendor_classes(request, *number)
            .iter()
            .any(|class| found(pattern, class)),
        Tagging::VendorClass(text) => contains(request.vendor_class(), text),
        Tagging::UserClass(text) => request
            .options
            .find(code::USER_CLASS, 1)
            .is_some_and(|value| contains(&uncounted(value), text)),
        Tagging::RelayAgent(sub, bytes) => {
            request.relay_agent().and_then(|agent| find(agent, *sub, 1)) == Some(bytes)
        }
        Tagging::Hardware(pattern) => fits(pattern, request),
        Tagging::HostName { name, is_prefix } => {
            let own = own_name(request).unwrap_or_default();
            let head = own.get(..name.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(name)
                && !own.is_empty()
                && (*is_prefix || own.len() == name.len())
        }
    }
}

fn found(pattern: &Pattern, value: &[u8]) -> bool {
    match pattern {
        Pattern::Present => true,
        Pattern::Text(text) => contains(value, text),
        Pattern::Element(element) => value
            .chunks_exact(element.len().max(1))
            .any(|part| part == element),
        Pattern::Prefix(bytes) => {
            bytes.len() <= value.len()
                && bytes
                    .iter()
                    .zip(value)
                    .all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
        }
    }
}

fn contains(value: &[u8], part: &[u8]) -> bool {
    !value.is_empty() && (part.is_empty() || value.windows(part.len()).any(|window| window == part))
}

/// Zeroes the counts of a well-formed RFC 3004 user class, so that no text matches across them.
fn uncounted(value: &[u8]) -> Vec<u8> {
    let mut bytes = value.to_vec();
    let mut place = 0;
    let mut counts = Vec::new();
    while let Some(count) = value.get(place) {
        counts.push(place);
        place += usize::from(*count) + 1;
    }
    if place == value.len() {
        for count in counts {
            if let Some(byte) = bytes.get_mut(count) {
                *byte = 0;
            }
        }
    }
    bytes
}

/// The vendor classes of one enterprise in option 124 (RFC 3925 §3).
fn vendor_classes<'a>(request: &Request<'a>, enterprise: u32) -> Vec<&'a [u8]> {
    let mut classes = Vec::new();
    let mut rest = request.options.find(124, 5).unwrap_or_default();
    while let Some((number, tail)) = rest.split_first_chunk::<4>() {
        let Some((data, tail)) = tail
            .split_first()
            .and_then(|(length, tail)| tail.split_at_checked(usize::from(*length)))
        else {
            break;
        };
        rest = tail;
        if u32::from_be_bytes(*number) != enterprise {
            continue;
        }
        let mut data = data;
        while let Some((class, tail)) = data
            .split_first()
            .and_then(|(length, tail)| tail.split_at_checked(usize::from(*length)))
        {
            classes.push(class);
            data = tail;
        }
    }
    classes
}
