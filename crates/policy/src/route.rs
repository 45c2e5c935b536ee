//! Where a request goes: to the host that its URL names, to the origins of a configured mirror, or
//! through a parent proxy.
//!
//! The answer is a list of hops in the order in which they are tried. Hops that the operator
//! configured are marked: they are exempt from port and address rules. An accelerated request never
//! goes to the host that its URL names (as Squid without `allow-direct`).

use crate::access::{AccessList, Facts};
use crate::url::{Authority, Scheme, Url};

/// Which Host field an origin is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The authority of the request's URL (Squid's `cache_peer … originserver`).
    OfUrl,
    /// The origin's own authority (a mirror of larder.toml).
    OfOrigin,
    /// A fixed text (Squid's `forceddomain=`).
    Fixed(String),
}

/// One server of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it listens.
    pub authority: Authority,
    /// What stands before each path, without a `/` at the end; often empty.
    pub base_path: String,
    /// Which Host field it is sent.
    pub host: HostField,
}

impl Origin {
    /// Reads `https://host/base/`.
    pub fn parse(text: &str) -> Result<Self, crate::url::UrlError> {
        if text.contains(['?', '#']) {
            return Err(crate::url::UrlError::NotASite);
        }
        let url = Url::parse(text)?;
        Ok(Self {
            scheme: url.scheme(),
            authority: url.authority(),
            base_path: url.path().trim_end_matches('/').to_owned(),
            host: HostField::OfOrigin,
        })
    }

    /// The request target for `url` at this origin.
    pub fn target(&self, url: &Url) -> String {
        format!("{}{}", self.base_path, url.path_and_query())
    }

    /// The Host field for `url` at this origin.
    pub fn host_field(&self, url: &Url) -> String {
        match &self.host {
            HostField::OfUrl => url.host_field().to_owned(),
            HostField::OfOrigin => authority_field(self.scheme, &self.authority),
            HostField::Fixed(text) => text.clone(),
        }
    }
}

/// `host` or `host:port`, the default port left out (RFC 9110 §7.2).
pub fn authority_field(scheme: Scheme, authority: &Authority) -> String {
    let full = authority.to_string();
    if authority.port == scheme.default_port() {
        full.strip_suffix(&format!(":{}", authority.port))
            .unwrap_or(&full)
            .to_owned()
    } else {
        full
    }
}

/// How the origins of a mirror are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The first that works.
    #[default]
    Ordered,
    /// The one measured fastest.
    Fastest,
    /// Each in turn.
    RoundRobin,
}

/// A pool of equivalent origins.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name in configuration, log and metrics.
    pub name: String,
    /// Names by which forward clients ask for it, lower-case; the first is the canonical one.
    pub hosts: Vec<String>,
    /// The servers, in order of preference; never empty.
    pub origins: Vec<Origin>,
    /// How one is chosen.
    pub select: Select,
    /// Which requests may use it (`cache_peer_access`); `None`: those for `hosts`.
    pub access: Option<AccessList>,
}

impl Mirror {
    /// The authority of its URLs: the first of `hosts`, else the first origin's.
    pub fn canonical(&self) -> Authority {
        match (self.hosts.first(), self.origins.first()) {
            (Some(host), _) => Authority {
                host: host.clone(),
                port: 80,
            },
            (None, Some(origin)) => origin.authority.clone(),
            (None, None) => Authority {
                host: self.name.clone(),
                port: 80,
            },
        }
    }

    fn serves(&self, url: &Url, facts: &Facts<'_>) -> bool {
        match &self.access {
            Some(access) => access.decide(facts).allowed,
            None => self.names(url),
        }
    }

    fn names(&self, url: &Url) -> bool {
        url.port() == url.scheme().default_port() && self.hosts.iter().any(|h| h == url.host())
    }
}

/// A proxy that requests are sent through.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its name in log and metrics.
    pub name: String,
    /// Where it listens.
    pub authority: Authority,
    /// The value of Proxy-Authorization, if it wants one. Never shown.
    pub authorization: Option<String>,
    /// Which requests may use it; `None`: all.
    pub access: Option<AccessList>,
}

/// One place to try.
#[derive(Clone, Copy, Debug)]
pub enum Hop<'a> {
    /// The host that the URL names: access rules look at each address.
    Direct,
    /// The same over TLS, though the URL says http.
    Secure,
    /// A configured origin.
    Origin(&'a Mirror, &'a Origin),
    /// A configured parent proxy.
    Parent(&'a Parent),
}

/// Which hosts are asked over TLS though their clients say http.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// None.
    #[default]
    Never,
    /// All; where no TLS connection comes about, in plain.
    Auto,
    /// These and no other way: names in small letters, `*.NAME` for all below one.
    Hosts(Vec<String>),
}

impl Upgrade {
    fn holds(&self, host: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Auto => true,
            Self::Hosts(hosts) => hosts.iter().any(|held| match held.strip_prefix('*') {
                Some(below) => host.len() > below.len() && host.ends_with(below),
                None => held == host,
            }),
        }
    }

    /// The ways to the host of a URL. A port of its own says that the URL means what it says.
    fn ways(&self, url: &Url) -> Vec<Hop<'static>> {
        let usual = url.scheme() == Scheme::Http && url.port() == Scheme::Http.default_port();
        match self {
            _ if !usual || !self.holds(url.host()) => vec![Hop::Direct],
            Self::Hosts(_) => vec![Hop::Secure],
            Self::Auto | Self::Never => vec![Hop::Secure, Hop::Direct],
        }
    }
}

/// All configured mirrors and parents.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Mirrors, in the order of the configuration.
    pub mirrors: Vec<Mirror>,
    /// Parents, in the order of the configuration.
    pub parents: Vec<Parent>,
    /// Requests that go through a parent or mirror or not at all (`never_direct`).
    pub never_direct: Option<AccessList>,
    /// Requests that go to the origin itself (`always_direct`).
    pub always_direct: Option<AccessList>,
    /// Accelerated requests that may go to the host that they name (`allow-direct`); `None`: none.
    pub allow_direct: Option<AccessList>,
    /// Hosts that are asked over TLS though their clients say http.
    pub upgrade: Upgrade,
    /// Tunnels go through a parent only where they cannot go direct, as Squid's do.
    pub tunnels_prefer_direct: bool,
}

impl Routes {
    /// The hops for a request, in the order to try them; empty: nowhere to go.
    pub fn hops(&self, url: &Url, facts: &Facts<'_>, accelerated: Option<&str>) -> Vec<Hop<'_>> {
        let allowed = |list: &Option<AccessList>| {
            list.as_ref().is_some_and(|list| list.decide(facts).allowed)
        };
        let may_go_direct = accelerated.is_none() || allowed(&self.allow_direct);
        if may_go_direct && allowed(&self.always_direct) {
            return self.upgrade.ways(url);
        }
        let named = accelerated.filter(|name| self.mirrors.iter().any(|m| m.name == *name));
        let mut hops: Vec<Hop<'_>> = self
            .mirrors
            .iter()
            .filter(|mirror| match named {
                Some(name) => mirror.name == name,
                None => mirror.serves(url, facts),
            })
            .flat_map(|mirror| {
                mirror
                    .origins
                    .iter()
                    .map(move |origin| Hop::Origin(mirror, origin))
            })
            .collect();
        hops.extend(self.parents_for(facts).map(Hop::Parent));
        if may_go_direct && !allowed(&self.never_direct) && !hops_are_final(&hops) {
            hops.extend(self.upgrade.ways(url));
        }
        hops
    }

    /// The parents that a request may use (tunnels too).
    pub fn parents_for(&self, facts: &Facts<'_>) -> impl Iterator<Item = &Parent> {
        self.parents.iter().filter(|parent| match &parent.access {
            Some(access) => access.decide(facts).allowed,
            None => true,
        })
    }

    /// The hops for a tunnel, in the order to try them: origins have no part in it.
    pub fn tunnel_hops(&self, facts: &Facts<'_>) -> Vec<Hop<'_>> {
        let allowed = |list: &Option<AccessList>| {
            list.as_ref().is_some_and(|list| list.decide(facts).allowed)
        };
        if allowed(&self.always_direct) {
            return vec![Hop::Direct];
        }
        let mut hops: Vec<Hop<'_>> = self.parents_for(facts).map(Hop::Parent).collect();
        if !allowed(&self.never_direct) {
            let first = if self.tunnels_prefer_direct {
                0
            } else {
                hops.len()
            };
            hops.insert(first, Hop::Direct);
        }
        hops
    }

    /// True if a request goes to origins that larder.toml or the command line names. (Squid's peers
    /// are judged by Squid's rules.)
    pub fn are_configured(&self, url: &Url, accelerated: Option<&str>) -> bool {
        self.mirrors.iter().any(|mirror| {
            mirror.access.is_none() && (accelerated == Some(&mirror.name) || mirror.names(url))
        })
    }

    /// The URL under which a mirror's files are kept: requests for any of its `hosts` share it.
    pub fn canonical(&self, url: &Url) -> Option<Url> {
        let mirror = self
            .mirrors
            .iter()
            .find(|mirror| mirror.access.is_none() && mirror.names(url))?;
        Some(url.rebased(Scheme::Http, &mirror.canonical()))
    }
}

/// A mirror of larder.toml stands for its hosts: they are not asked beside it. A Squid peer (with
/// an access list) is only preferred.
fn hops_are_final(hops: &[Hop<'_>]) -> bool {
    hops.iter()
        .any(|hop| matches!(hop, Hop::Origin(mirror, _) if mirror.access.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Matcher, Rule};

    fn everything() -> AccessList {
        AccessList::squid_selection(vec![Rule {
            allow: true,
            conditions: Vec::new(),
            text: String::new(),
        }])
    }

    fn tunnel(routes: &Routes) -> Vec<&'static str> {
        let facts = Facts {
            client: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            client_is_self: true,
            configured: false,
            method: "CONNECT",
            url: None,
            host: "m.example",
            port: 443,
            listener_port: 3128,
            listener_name: None,
            to: None,
        };
        routes
            .tunnel_hops(&facts)
            .iter()
            .map(|hop| match hop {
                Hop::Direct => "direct",
                Hop::Secure => "secure",
                Hop::Parent(_) => "parent",
                Hop::Origin(..) => "origin",
            })
            .collect()
    }

    #[test]
    fn tunnels_go_where_direct_rules_and_parents_let_them() {
        let parent = Parent {
            name: "p".to_owned(),
            authority: Authority {
                host: "p.example".to_owned(),
                port: 3128,
            },
            authorization: None,
            access: None,
        };
        let routes = Routes {
            parents: vec![parent],
            ..Routes::default()
        };
        assert_eq!(tunnel(&routes), ["parent", "direct"]);
        let squid = Routes {
            tunnels_prefer_direct: true,
            ..routes.clone()
        };
        assert_eq!(tunnel(&squid), ["direct", "parent"]);
        let never = Routes {
            never_direct: Some(everything()),
            ..squid.clone()
        };
        assert_eq!(tunnel(&never), ["parent"]);
        let always = Routes {
            always_direct: Some(everything()),
            ..never
        };
        assert_eq!(tunnel(&always), ["direct"]);
    }

    #[test]
    fn an_accelerator_goes_direct_only_where_it_may() {
        let url = Url::parse("http://site.example/").unwrap();
        let facts = |listener| Facts {
            client: std::net::IpAddr::from([10, 0, 0, 1]),
            client_is_self: false,
            configured: false,
            method: "GET",
            url: Some(&url),
            host: url.host(),
            port: 80,
            listener_port: 80,
            listener_name: Some(listener),
            to: None,
        };
        let rule = Rule {
            allow: true,
            conditions: vec![Matcher::ListenerName(vec!["open".to_owned()]).into()],
            text: String::new(),
        };
        let routes = Routes {
            allow_direct: Some(AccessList::squid_selection(vec![rule])),
            ..Routes::default()
        };
        let direct = |listener, accelerated| {
            let hops = routes.hops(&url, &facts(listener), accelerated);
            matches!(hops[..], [Hop::Direct])
        };
        assert!(direct("open", Some("")));
        assert!(!direct("closed", Some("")));
        assert!(direct("closed", None));
    }
}
