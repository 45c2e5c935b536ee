//! Parts that several words share: tag conditions, fields, servers and what `dhcp-match` compares.

use std::net::Ipv4Addr;
use std::path::Path;

use super::rules::{Condition, Server, Subject, Tagging};
use super::text::{fields, shown};
use super::value;

/// `dhcp-match`'s part behind the tag; none for an IPv6 option.
pub(super) fn matching(text: &str) -> Result<Option<Tagging>, String> {
    let (field, behind) = split(text);
    if value::is_v6(field)? {
        return Ok(None);
    }
    if let Some(number) = field.strip_prefix("vi-encap:") {
        // As C's atoi does: what is no number is 0.
        let digits = number.bytes().take_while(u8::is_ascii_digit).count();
        let digits = number.get(..digits).unwrap_or_default();
        let enterprise = digits.parse().unwrap_or_default();
        let pattern = value::pattern(124, behind)?;
        return Ok(Some(Tagging::Match {
            subject: Subject::Enterprise(enterprise),
            pattern,
        }));
    }
    let code = value::code(field)
        .ok_or_else(|| format!("{:?} is no option that dnsmasq knows", shown(field)))?;
    let Ok(code) = u8::try_from(code) else {
        // No packet has such an option.
        return Ok(None);
    };
    let pattern = value::pattern(code, behind)?;
    Ok(Some(Tagging::Match {
        subject: Subject::Option(code),
        pattern,
    }))
}

/// The mask of a range, from what stands behind its mode: `[MASK[,BROADCAST]][,TIME]`, of which only the mask
/// matters to a proxy.
pub(super) fn mask(fields: &[&str]) -> Result<Option<Ipv4Addr>, String> {
    let is_address = |field: &&&str| field.contains('.');
    let count = fields.iter().take(2).take_while(is_address).count();
    let (addresses, others) = fields.split_at(count);
    let parse = |field: &&str| {
        let parsed: Result<Ipv4Addr, _> = field.parse();
        parsed.map_err(|_not| format!("{:?} is no netmask or broadcast address", shown(field)))
    };
    let addresses: Vec<Ipv4Addr> = addresses.iter().map(parse).collect::<Result<_, _>>()?;
    match others {
        [] => Ok(addresses.first().copied()),
        [time] if is_time(time) => Ok(addresses.first().copied()),
        _ => Err(format!("{:?} is no lease time", shown(&others.join(",")))),
    }
}

/// Tells whether a text is a lease time: `300`, `12h`, `infinite`, or nothing.
fn is_time(text: &str) -> bool {
    let digits = text.strip_suffix(['s', 'm', 'h', 'd', 'w', 'S', 'M', 'H', 'D', 'W']);
    matches!(text, "infinite" | "deprecated") || value::decimal(digits.unwrap_or(text)).is_some()
}

pub(super) fn relay_bytes(text: &str) -> Vec<u8> {
    let shown = shown(text);
    let bytes = value::hexadecimal(&shown).filter(|_| shown.contains(':'));
    bytes
        .and_then(|bytes| bytes.into_iter().collect())
        .unwrap_or_else(|| shown.into_bytes())
}

/// Tells whether `log-facility` takes a text: a file, standard error, or one of syslog's facilities.
pub(super) fn is_facility(text: &str) -> bool {
    const NAMES: &str = "auth authpriv cron daemon ftp kern lpr mail mark news security syslog user uucp \
                         local0 local1 local2 local3 local4 local5 local6 local7";
    let mut names = NAMES.split(' ');
    text == "-" || text.contains('/') || names.any(|name| name.eq_ignore_ascii_case(text))
}

/// Splits off the first field.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((field, rest)) => (field.trim_end(), Some(rest.trim_start())),
        None => (text, None),
    }
}

pub(super) fn without_prefix(field: &str) -> &str {
    field
        .strip_prefix("tag:")
        .or_else(|| field.strip_prefix("net:"))
        .unwrap_or(field)
}

/// Reads a condition: both `!` and the old `#` negate.
pub(super) fn condition(text: &str) -> Condition {
    let text = shown(text.strip_prefix("set:").unwrap_or(text));
    let bare = text.strip_prefix(['!', '#']);
    Condition {
        is_negated: bare.is_some(),
        tag: bare.unwrap_or(&text).to_owned(),
    }
}

/// Takes the leading `tag:` and `net:` fields off.
pub(super) fn conditions(text: &str) -> (Vec<Condition>, Vec<&str>) {
    let fields = fields(text);
    let is_tag = |field: &&&str| field.starts_with("tag:") || field.starts_with("net:");
    let count = fields.iter().take_while(is_tag).count();
    let (tags, rest) = fields.split_at(count);
    (
        tags.iter()
            .map(|field| condition(without_prefix(field)))
            .collect(),
        rest.to_vec(),
    )
}

/// Reads a server: an address, a name to look up, or nothing.
pub(super) fn server(field: &str) -> Option<Server> {
    let text = shown(field);
    if text.is_empty() {
        return None;
    }
    Some(match text.parse() {
        Ok(address) => Server::at(address),
        Err(_a_name) => Server::named(text),
    })
}

/// Tells whether a file of a folder is one of those that `conf-dir` takes: `*END` takes only names that end
/// so, `END` leaves those out.
pub(super) fn is_wanted(path: &str, ends: &[String]) -> bool {
    let name = Path::new(path)
        .file_name()
        .map(|name| name.to_string_lossy());
    let name = name.unwrap_or_default();
    let is_backup = name.starts_with('#') && name.ends_with('#');
    let is_hidden = name.starts_with('.') || name.ends_with('~');
    let has_end = |end: &str| name.len() > end.len() && name.ends_with(end);
    let wanted: Vec<&str> = ends
        .iter()
        .filter_map(|end| end.strip_prefix('*'))
        .collect();
    let wanted: Vec<&str> = wanted.into_iter().filter(|end| !end.is_empty()).collect();
    let mut unwanted = ends
        .iter()
        .filter(|end| !end.is_empty() && !end.starts_with('*'));
    !is_backup
        && !is_hidden
        && (wanted.is_empty() || wanted.into_iter().any(has_end))
        && !unwanted.any(|end| has_end(end))
}

/// Tells whether a field of `dhcp-host` is the host's name: neither an address nor a lease time nor a mark.
pub(super) fn is_host_name(field: &str) -> bool {
    let is_mark = matches!(field, "" | "ignore" | "id:*");
    let is_address = field.starts_with('[') || field.parse::<Ipv4Addr>().is_ok();
    !is_mark && !is_address && !is_time(field)
}
