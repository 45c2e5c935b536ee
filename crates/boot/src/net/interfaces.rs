//! This host's interfaces with an IPv4 address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{LinkAddr, SockaddrIn, SockaddrIn6};

use crate::decide::Interface;
use crate::error::Error;

/// The loopback interface's index in every network namespace of Linux.
const LOOPBACK: u32 = 1;

/// An interface, with or without address.
#[derive(Debug, Clone)]
pub struct Found {
    /// The interface; its address is unspecified if it has none.
    pub interface: Interface,
    /// Its IPv6 addresses, at which scripts are asked for.
    pub v6: Vec<Ipv6Addr>,
    /// Its link-layer address.
    pub link: Option<LinkAddr>,
    /// Whether it is the loopback interface.
    pub is_loopback: bool,
}

/// Lists the interfaces; those that are down count as having no address.
///
/// # Errors
/// What the kernel says.
pub fn list() -> io::Result<Vec<Found>> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for entry in getifaddrs()? {
        let name = link_of(&entry.interface_name).to_owned();
        let known = found.entry(name.clone()).or_insert_with(|| Found {
            interface: Interface {
                index: 0,
                address: Ipv4Addr::UNSPECIFIED,
                mask: Ipv4Addr::UNSPECIFIED,
                networks: Vec::new(),
                mtu: mtu(&name),
                name,
            },
            v6: Vec::new(),
            link: None,
            is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        });
        let is_up = entry.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = entry.address.filter(|_| is_up) else {
            continue;
        };
        if let Some(link) = address.as_link_addr() {
            known.link = Some(*link);
            known.interface.index = u32::try_from(link.ifindex()).unwrap_or_default();
        }
        known
            .v6
            .extend(address.as_sockaddr_in6().map(SockaddrIn6::ip));
        if let Some(own) = address.as_sockaddr_in() {
            let mask = entry
                .netmask
                .as_ref()
                .and_then(|mask| mask.as_sockaddr_in().map(SockaddrIn::ip));
            let mask = mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
            known.interface.networks.push((own.ip(), mask));
        }
    }
    let with_first = found.into_values().map(|mut found| {
        if let Some((address, mask)) = found.interface.networks.first().copied() {
            (found.interface.address, found.interface.mask) = (address, mask);
        }
        found
    });
    Ok(with_first.collect())
}

/// The interface that an address' label belongs to: `eth0:1` is a further address of `eth0`.
fn link_of(label: &str) -> &str {
    label.split(':').next().unwrap_or(label)
}

/// The interface's MTU as the kernel tells it; Ethernet's where it does not.
fn mtu(name: &str) -> u16 {
    let told = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok();
    let told = told.and_then(|text| text.trim().parse::<u32>().ok());
    told.map_or(1500, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// Which interfaces to serve, in dnsmasq's way: those of a listed name and those with a listed address,
/// of which a trailing `*` of a name stands for any rest.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// By name; all with an address if neither names nor addresses are listed.
    pub names: Vec<String>,
    /// Not these, unless one of their addresses is listed.
    pub except: Vec<String>,
    /// Never these.
    pub never: Vec<String>,
    /// By address.
    pub addresses: Vec<Ipv4Addr>,
    /// What of a named interface may come later.
    pub later: Later,
}

/// What of a named interface need not be there at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Later {
    /// Nothing: a name that is mistyped, or a link without address, is told at once.
    #[default]
    Nothing,
    /// Its address, as under dnsmasq's `bind-interfaces`.
    Address,
    /// All of it, as dnsmasq has it by itself.
    Interface,
}

impl Choice {
    /// Picks the interfaces to serve.
    ///
    /// # Errors
    /// A named interface is not there or has no address, or nothing is left to serve.
    pub fn pick(&self, all: &[Found]) -> Result<Vec<Found>, Error> {
        let missing = self
            .names
            .iter()
            .filter_map(|name| presence(name, all).err());
        let mut fatal = missing.filter(|missing| match self.later {
            Later::Nothing => true,
            Later::Address => !matches!(missing, Error::NoAddress { .. }),
            Later::Interface => false,
        });
        if let Some(missing) = fatal.next() {
            return Err(missing);
        }
        let picked: Vec<Found> = all.iter().filter_map(|found| self.taken(found)).collect();
        let is_awaited = self.later != Later::Nothing && !self.names.is_empty();
        if picked.is_empty() && !is_awaited {
            Err(Error::NothingToServe)
        } else {
            Ok(picked)
        }
    }

    /// The names of which no interface is there yet, or none with an address.
    pub fn awaited<'s>(&'s self, all: &'s [Found]) -> impl Iterator<Item = &'s str> {
        let names = self.names.iter().filter(|_| self.later != Later::Nothing);
        let is_awaited = |name: &&String| presence(name, all).is_err();
        names.filter(is_awaited).map(String::as_str)
    }

    /// Tells whether some interfaces are left out.
    fn is_narrow(&self) -> bool {
        let lists = [&self.names, &self.except, &self.never];
        !self.addresses.is_empty() || lists.iter().any(|list| !list.is_empty())
    }

    /// The interface as it is served, if it is: one that is listed by a further address answers from that.
    fn taken(&self, found: &Found) -> Option<Found> {
        let interface = &found.interface;
        let is_in = |list: &[String]| list.iter().any(|name| stands_for(name, &interface.name));
        if interface.address.is_unspecified() || is_in(&self.never) {
            return None;
        }
        let is_open = self.names.is_empty() && self.addresses.is_empty();
        let is_named = is_in(&self.names) || (is_open && !found.is_loopback);
        if is_named && !is_in(&self.except) {
            return Some(found.clone());
        }
        let mut listed = interface.networks();
        let (address, _) = listed.find(|(own, _)| self.addresses.contains(own))?;
        let interface = interface.at(address);
        Some(Found {
            interface,
            ..found.clone()
        })
    }
}

/// Tells whether a written name stands for an interface, as dnsmasq's `wildcard_match` does.
pub fn stands_for(written: &str, name: &str) -> bool {
    match written.split_once('*') {
        Some((head, _)) => name.len() > head.len() && name.starts_with(head),
        None => written == name,
    }
}

/// Looks for a named interface.
///
/// # Errors
/// It is not there or has no address.
pub fn presence(name: &str, all: &[Found]) -> Result<(), Error> {
    let mut named = all
        .iter()
        .filter(|found| stands_for(name, &found.interface.name))
        .peekable();
    if named.peek().is_none() {
        let known: Vec<&str> = all
            .iter()
            .map(|found| found.interface.name.as_str())
            .collect();
        return Err(Error::NoSuchInterface {
            name: name.to_owned(),
            known: known.join(", "),
        });
    }
    let has_address = named.any(|found| !found.interface.address.is_unspecified());
    has_address.then_some(()).ok_or_else(|| Error::NoAddress {
        name: name.to_owned(),
    })
}

/// The served interfaces as they were last seen; addresses come, go and change while larder runs.
#[derive(Debug)]
pub struct Links {
    choice: Choice,
    seen: RwLock<Vec<Found>>,
}

impl Links {
    /// Serves `choice`, of which these were there at the start.
    pub fn new(choice: Choice, served: Vec<Found>) -> Self {
        Self {
            choice,
            seen: RwLock::new(served),
        }
    }

    fn seen(&self) -> RwLockReadGuard<'_, Vec<Found>> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The served interfaces.
    pub fn served(&self) -> Vec<Found> {
        self.seen().clone()
    }

    /// The served interface with an index.
    pub fn by_index(&self, index: u32) -> Option<Interface> {
        let seen = self.seen();
        let mut all = seen.iter().map(|found| &found.interface);
        all.find(|interface| interface.index == index).cloned()
    }

    /// Tells whether who asks by this interface is heard: it is served, or the asker is this host itself.
    pub fn hears(&self, index: u32) -> bool {
        index == LOOPBACK || self.by_index(index).is_some()
    }

    /// Tells whether who connects to this address of this host is heard.
    pub fn hears_at(&self, own: IpAddr) -> bool {
        let own = own.to_canonical();
        if !self.choice.is_narrow() || own.is_loopback() {
            return true;
        }
        match own {
            IpAddr::V4(own) => self.has(own),
            IpAddr::V6(own) => self.seen().iter().any(|found| found.v6.contains(&own)),
        }
    }

    /// Tells whether an address is that of a served interface.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.addresses().contains(&address)
    }

    /// The addresses of the served interfaces.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let seen = self.seen();
        let networks = seen.iter().flat_map(|found| found.interface.networks());
        networks.map(|(address, _)| address).collect()
    }

    /// The interface on a client's own subnet with its address there, else the first one served.
    pub fn near(&self, client: IpAddr) -> Option<Interface> {
        let seen = self.seen();
        let IpAddr::V4(client) = client else {
            return seen.first().map(|found| found.interface.clone());
        };
        let near = seen.iter().find_map(|found| {
            let is_near = |(own, mask): &(Ipv4Addr, Ipv4Addr)| {
                client.to_bits() & mask.to_bits() == own.to_bits() & mask.to_bits()
            };
            let (own, _) = found.interface.networks().find(is_near)?;
            Some(found.interface.at(own))
        });
        near.or_else(|| seen.first().map(|found| found.interface.clone()))
    }

    /// Takes what this host has by now, and says what changed, a line each.
    pub fn refresh(&self, all: &[Found]) -> Vec<String> {
        // A served interface that lost its address is for a while no reason to end.
        let fresh: Vec<Found> = all
            .iter()
            .filter_map(|found| self.choice.taken(found))
            .collect();
        let before = {
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, fresh.clone())
        };
        let is_same = |one: &Found, other: &Found| one.interface == other.interface;
        let without = |from: &[Found], others: &[Found]| -> Vec<Interface> {
            let missing = from
                .iter()
                .filter(|found| !others.iter().any(|other| is_same(found, other)));
            missing.map(|found| found.interface.clone()).collect()
        };
        let gone = without(&before, &fresh).into_iter().filter(|gone| {
            let mut names = fresh.iter().map(|found| &found.interface.name);
            !names.any(|name| *name == gone.name)
        });
        let gone = gone.map(|gone| format!("{} ({}) is served no longer", gone.name, gone.address));
        let new = without(&fresh, &before);
        let new = new
            .into_iter()
            .map(|new| format!("{} is served at {}", new.name, new.address));
        gone.chain(new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_address_is_seen_and_told() {
        let links = Links::new(Choice::default(), Choice::default().pick(&host()).unwrap());
        let client = IpAddr::from([10, 0, 0, 77]);
        let address = |links: &Links| links.by_index(1).map(|interface| interface.address);
        assert_eq!(address(&links), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert!(links.refresh(&host()).is_empty(), "nothing changed");
        let mut moved = host();
        moved[1].interface.address = Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(links.refresh(&moved), ["eth0 is served at 10.0.0.9"]);
        assert_eq!(address(&links), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(
            links.near(client).map(|near| near.address),
            Some(Ipv4Addr::new(10, 0, 0, 9))
        );
        moved[1].interface.address = Ipv4Addr::UNSPECIFIED;
        assert_eq!(
            links.refresh(&moved),
            ["eth0 (10.0.0.9) is served no longer"]
        );
        assert_eq!((address(&links), links.near(client)), (None, None));
        assert_eq!(links.refresh(&host()), ["eth0 is served at 10.0.0.2"]);
    }

    fn found(name: &str, address: [u8; 4], is_loopback: bool) -> Found {
        let interface = Interface {
            name: name.into(),
            index: 1,
            address: address.into(),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            networks: Vec::new(),
            mtu: 1500,
        };
        Found {
            interface,
            v6: Vec::new(),
            link: None,
            is_loopback,
        }
    }

    fn host() -> Vec<Found> {
        vec![
            found("lo", [127, 0, 0, 1], true),
            found("eth0", [10, 0, 0, 2], false),
            found("eth1", [0, 0, 0, 0], false),
        ]
    }

    #[test]
    fn all_with_an_address_but_loopback_are_served() {
        let picked = Choice::default().pick(&host()).unwrap();
        assert_eq!(
            picked
                .iter()
                .map(|f| f.interface.name.as_str())
                .collect::<Vec<_>>(),
            ["eth0"]
        );
    }

    #[test]
    fn a_named_interface_must_be_there_and_have_an_address() {
        let choice = |name: &str| Choice {
            names: vec![name.into()],
            ..Choice::default()
        };
        assert!(matches!(
            choice("eth1").pick(&host()),
            Err(Error::NoAddress { .. })
        ));
        assert!(matches!(
            choice("eth7").pick(&host()),
            Err(Error::NoSuchInterface { .. })
        ));
        assert_eq!(choice("lo").pick(&host()).unwrap().len(), 1);
    }

    #[test]
    fn nothing_left_is_an_error() {
        let choice = Choice {
            except: vec!["eth0".into()],
            ..Choice::default()
        };
        assert!(matches!(choice.pick(&host()), Err(Error::NothingToServe)));
    }

    fn names(choice: &Choice) -> Vec<String> {
        let picked = choice.pick(&host()).unwrap_or_default();
        let names = picked.into_iter().map(|found| found.interface.name);
        names.collect()
    }

    #[test]
    fn names_and_addresses_are_united_as_in_dnsmasq() {
        let both = Choice {
            names: vec!["eth0".into()],
            addresses: vec![Ipv4Addr::LOCALHOST],
            ..Choice::default()
        };
        assert_eq!(names(&both), ["lo", "eth0"]);
        let except = Choice {
            except: vec!["eth*".into()],
            addresses: vec![Ipv4Addr::new(10, 0, 0, 2)],
            ..Choice::default()
        };
        assert_eq!(names(&except), ["eth0"], "a listed address goes before");
        let never = Choice {
            never: vec!["e*".into()],
            ..except
        };
        assert!(names(&never).is_empty());
    }

    #[test]
    fn a_star_stands_for_any_rest() {
        let wild = Choice {
            names: vec!["et*".into()],
            ..Choice::default()
        };
        assert_eq!(names(&wild), ["eth0"]);
        assert!(stands_for("v*", "v0") && !stands_for("v*", "v") && !stands_for("v", "v0"));
    }

    #[test]
    fn what_may_come_later_is_awaited() {
        let choice = Choice {
            names: vec!["tap9".into(), "eth1".into()],
            later: Later::Interface,
            ..Choice::default()
        };
        assert!(choice.pick(&host()).unwrap().is_empty());
        let all = host();
        assert_eq!(choice.awaited(&all).collect::<Vec<_>>(), ["tap9", "eth1"]);
        let links = Links::new(choice, Vec::new());
        let mut grown = host();
        grown.push(found("tap9", [10, 9, 0, 1], false));
        assert_eq!(links.refresh(&grown), ["tap9 is served at 10.9.0.1"]);
    }

    #[test]
    fn under_bind_interfaces_a_link_must_be_there_and_its_address_may_come() {
        let choice = |name: &str| Choice {
            names: vec!["eth0".into(), name.into()],
            later: Later::Address,
            ..Choice::default()
        };
        assert_eq!(choice("eth1").pick(&host()).unwrap().len(), 1);
        let all = host();
        assert_eq!(choice("eth1").awaited(&all).collect::<Vec<_>>(), ["eth1"]);
        assert!(matches!(
            choice("tap9").pick(&host()),
            Err(Error::NoSuchInterface { .. })
        ));
    }

    #[test]
    fn every_address_of_an_interface_is_its_own() {
        let mut two = found("eth0", [10, 0, 0, 2], false);
        let mask = two.interface.mask;
        let second = Ipv4Addr::new(192, 168, 9, 2);
        two.interface.index = 7;
        two.interface.networks = vec![(two.interface.address, mask), (second, mask)];
        let links = Links::new(Choice::default(), vec![two.clone()]);
        assert!(links.has(second));
        let near = links.near(IpAddr::from([192, 168, 9, 50])).unwrap();
        assert_eq!((near.name.as_str(), near.address), ("eth0", second));
        let listed = Choice {
            addresses: vec![second],
            ..Choice::default()
        };
        let picked = listed.pick(&[two]).unwrap();
        assert_eq!(picked[0].interface.address, second);
        assert_eq!(link_of("eth0:1"), "eth0");
    }

    #[test]
    fn only_served_links_and_this_host_itself_are_heard() {
        let choice = Choice {
            names: vec!["eth0".into()],
            ..Choice::default()
        };
        let mut eth0 = found("eth0", [10, 0, 0, 2], false);
        eth0.interface.index = 7;
        eth0.v6 = vec!["fe80::7".parse().unwrap()];
        let links = Links::new(choice, vec![eth0.clone()]);
        assert!(links.hears(7) && links.hears(LOOPBACK) && !links.hears(8));
        let at = |address: &str| links.hears_at(address.parse().unwrap());
        assert!(at("10.0.0.2") && at("::ffff:10.0.0.2") && at("127.0.0.1") && at("::1"));
        assert!(at("fe80::7") && !at("10.9.0.1") && !at("fe80::8"));
        let open = Links::new(Choice::default(), vec![eth0]);
        assert!(open.hears_at(IpAddr::from([10, 9, 0, 1])));
    }
}
