//! What a configuration says that cannot come true on this host, though no value of it is wrong by itself.
//!
//! `serve` tells it once at the start, the doctor when it is asked, and `check` before anything is opened.

use std::net::Ipv4Addr;

use crate::config::Config;
use crate::here;

/// Something that will not be as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is, in one word for scripts.
    pub id: &'static str,
    /// The key of `[boot]` that says so.
    pub key: &'static str,
    /// What will be instead.
    pub detail: String,
    /// What to do.
    pub mend: &'static str,
}

/// Where a configuration is served.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The port of larder's own scripts; none if there are none.
    pub port: Option<u16>,
    /// Addresses of the served interfaces.
    pub addresses: &'a [Ipv4Addr],
    /// Whether URLs can be fetched through a cache.
    pub has_cache: bool,
}

/// Says what of a configuration will not be as it is written.
pub fn review(config: &Config, site: Site<'_>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let own_port = site.port.filter(|_| config.http.is_some());
    let is_own = |address| site.addresses.contains(&address);
    let leads_back =
        |next: &&String| own_port.is_some_and(|port| here::is_own_script(next, port, &is_own));
    if let Some(next) = config.next.as_ref().filter(leads_back) {
        remarks.push(Remark {
            id: "script-loops",
            key: "next",
            detail: format!(
                "boot.next is {next}, larder's own script, which would load itself without end; machines get larder's menu instead"
            ),
            mend: "take boot.next out; or, if another server of this host is meant, let boot.http be another port than its own",
        });
    }
    let is_hidden = config.http.is_some_and(|http| http.ip().is_loopback());
    let far = site.addresses.iter().find(|own| !own.is_loopback());
    if let Some((address, port)) = far.filter(|_| is_hidden).zip(own_port) {
        remarks.push(Remark {
            id: "scripts-unreachable",
            key: "http",
            detail: format!(
                "machines are sent to http://{address}:{port}/ for their scripts, but boot.http is for this host alone"
            ),
            mend: "let boot.http be a port of all addresses, such as \":8080\"",
        });
    }
    if !site.has_cache && !config.files.is_empty() {
        let names: Vec<&str> = config.files.keys().map(String::as_str).collect();
        remarks.push(Remark {
            id: "files-without-cache",
            key: "file",
            detail: format!(
                "no cache runs here to fetch [[boot.file]] through; not served: {}",
                names.join(", ")
            ),
            mend: "run larder serve with a forward listener, or put the files into boot.root",
        });
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

    fn said(config: &Config, has_cache: bool) -> Vec<(&'static str, &'static str)> {
        let site = Site {
            port: config.http.map(|http| http.port()),
            addresses: &[HERE],
            has_cache,
        };
        let remarks = review(config, site);
        remarks.iter().map(|told| (told.id, told.key)).collect()
    }

    #[test]
    fn a_script_that_would_load_itself_is_told() {
        let with = |next: &str| Config {
            next: Some(next.to_owned()),
            ..Config::default()
        };
        let own = with("http://10.77.0.2:8080/boot.ipxe");
        assert_eq!(said(&own, true), [("script-loops", "next")]);
        let shared = Config {
            http: None,
            http_port: Some(8080),
            ..own
        };
        assert!(said(&shared, true).is_empty());
        assert!(said(&with("http://10.77.0.2:8082/boot.ipxe"), true).is_empty());
        assert!(said(&with("http://10.77.0.9:8080/boot.ipxe"), true).is_empty());
    }

    #[test]
    fn scripts_that_no_machine_reaches_are_told() {
        let with = |http: SocketAddr| Config {
            http: Some(http),
            ..Config::default()
        };
        let hidden = with(SocketAddr::from(([127, 0, 0, 1], 8080)));
        assert_eq!(said(&hidden, true), [("scripts-unreachable", "http")]);
        assert!(said(&with(SocketAddr::from((HERE, 8080))), true).is_empty());
        assert!(said(&Config::default(), true).is_empty());
    }

    #[test]
    fn urls_without_a_cache_to_fetch_them_are_told() {
        let mut config = Config::default();
        config.files.insert("m.efi".into(), "http://h/m".into());
        assert_eq!(said(&config, false), [("files-without-cache", "file")]);
        assert!(said(&config, true).is_empty());
    }
}
