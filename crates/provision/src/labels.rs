//! What a machine says of itself: the query parameters of its request, as matchbox reads them.
//!
//! The first value of each parameter counts and its name keeps its case. `mac`, in any case, is
//! printed in one form and dropped when it is not a hardware address; everything else is an opaque
//! string. What Go's `url.ParseQuery` leaves out (a bad `%` escape, and since Go 1.17 a pair with a
//! `;`) is left out here.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::{config::Compat, mac::Mac};

/// The labels that `/boot.ipxe` sends a machine on with.
pub(crate) const IN_BOOT_SCRIPTS: [&str; 6] =
    ["uuid", "mac", "domain", "hostname", "serial", "arch"];

/// Label names and values, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Reads the labels of a raw query string.
    pub fn from_query(query: &str, compat: Compat) -> Self {
        let mut first = BTreeMap::new();
        for (name, value) in pairs(query, compat) {
            first.entry(name).or_insert(value);
        }
        first.into_iter().collect()
    }

    /// The value of `name`, or the empty string: a label that is absent equals one that is empty.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// All labels, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The machine's address, from the label `mac` in any case.
    pub fn mac(&self) -> Option<Mac> {
        self.0
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("mac"))
            .and_then(|(_, value)| Mac::parse(value))
    }

    /// The same labels and one more, unless there is one of that name already.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Some((name, value)) = normal(name.to_owned(), value.to_owned()) {
            self.0.entry(name).or_insert(value);
        }
        self
    }
}

impl FromIterator<(String, String)> for Labels {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(
            pairs
                .into_iter()
                .filter_map(|(name, value)| normal(name, value))
                .collect(),
        )
    }
}

/// What an installer says in headers when it fetches its kickstart: labels of the serial number,
/// architecture and release, and every hardware address in the order of the interfaces.
///
/// anaconda sends `X-Anaconda-*` always, `X-RHN-Provisioning-MAC-N: IFACE MAC` with
/// `inst.ks.sendmac` and `X-System-Serial-Number` with `inst.ks.sendsn`.
pub(crate) fn of_installer(headers: &HeaderMap) -> (Vec<(&'static str, String)>, Vec<Mac>) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let named = [
        ("serial", "x-system-serial-number"),
        ("arch", "x-anaconda-architecture"),
        ("release", "x-anaconda-system-release"),
    ];
    let labels = named
        .into_iter()
        .filter_map(|(label, header)| Some((label, text(header)?.trim().to_owned())))
        .collect();
    let macs = (0..64)
        .map_while(|number| text(&format!("x-rhn-provisioning-mac-{number}")))
        .filter_map(|value| Mac::parse(value.split_whitespace().last()?))
        .collect();
    (labels, macs)
}

/// A label as matchbox keeps it, or nothing when it is a `mac` that is none.
fn normal(name: String, value: String) -> Option<(String, String)> {
    if !name.eq_ignore_ascii_case("mac") {
        return Some((name, value));
    }
    let Some(mac) = Mac::parse(&value) else {
        tracing::warn!(mac = value, "ignoring an unparseable hardware address");
        return None;
    };
    Some((name, mac.to_string()))
}

/// The decoded pairs of a query string in their order.
fn pairs(query: &str, compat: Compat) -> impl Iterator<Item = (String, String)> {
    let semicolon_separates = compat == Compat::V0_7;
    query
        .split(move |c| c == '&' || (semicolon_separates && c == ';'))
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((query_unescape(name)?, query_unescape(value)?))
        })
}

/// Decodes `+` and `%XX` as Go's `url.QueryUnescape`; `None` for an escape that is not one.
fn query_unescape(text: &str) -> Option<String> {
    let decoded = percent_decode(&text.replace('+', " "))?;
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// Decodes `%XX`; `None` for an escape that is not one.
pub(crate) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push((high * 16 + low) as u8);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(query: &str) -> Vec<(String, String)> {
        Labels::from_query(query, Compat::V0_11)
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_first_value_of_a_parameter_counts() {
        assert_eq!(labels("a=1&a=2"), [pair("a", "1")]);
    }

    #[test]
    fn names_keep_their_case_and_macs_get_one_form() {
        assert_eq!(
            labels("UUID=A1&MAC=52-DA-00-89-D8-10"),
            [pair("MAC", "52:da:00:89:d8:10"), pair("UUID", "A1"),]
        );
    }

    #[test]
    fn a_mac_that_is_none_is_dropped() {
        assert_eq!(labels("mac=not-a-mac&os=x"), [pair("os", "x")]);
    }

    #[test]
    fn broken_escapes_and_semicolons_drop_their_pair_alone() {
        assert_eq!(labels("a=%zz&b=%2&c=x;d&e=a+b%2Fc"), [pair("e", "a b/c")]);
        let old = Labels::from_query("c=x;d=y", Compat::V0_7);
        assert_eq!((old.get("c"), old.get("d")), ("x", "y"));
    }

    #[test]
    fn installer_headers_name_the_machine() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-rhn-provisioning-mac-0",
            "eth0 52:54:00:00:00:01".parse().unwrap(),
        );
        headers.insert(
            "x-rhn-provisioning-mac-1",
            "eth1 52:54:00:00:00:02".parse().unwrap(),
        );
        headers.insert("x-system-serial-number", "ABC".parse().unwrap());
        let (labels, macs) = of_installer(&headers);
        assert_eq!(labels, [("serial", "ABC".to_owned())]);
        assert_eq!(macs.len(), 2);
    }
}
