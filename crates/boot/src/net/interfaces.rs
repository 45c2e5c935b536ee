//! This host's interfaces with an IPv4 address.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::LinkAddr;

use crate::decide::Interface;
use crate::error::Error;

/// An interface, with or without address.
#[derive(Debug, Clone)]
pub struct Found {
    /// The interface; its address is unspecified if it has none.
    pub interface: Interface,
    /// Its link-layer address.
    pub link: Option<LinkAddr>,
    /// Whether it is the loopback interface.
    pub is_loopback: bool,
}

/// Lists the interfaces that are up.
///
/// # Errors
/// What the kernel says.
pub fn list() -> io::Result<Vec<Found>> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for entry in getifaddrs()?.filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)) {
        let name = entry.interface_name;
        let known = found.entry(name.clone()).or_insert_with(|| Found {
            interface: Interface {
                index: 0,
                address: Ipv4Addr::UNSPECIFIED,
                mask: Ipv4Addr::UNSPECIFIED,
                mtu: mtu(&name),
                name,
            },
            link: None,
            is_loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        });
        let Some(address) = entry.address else {
            continue;
        };
        if let Some(link) = address.as_link_addr() {
            known.link = Some(*link);
            known.interface.index = u32::try_from(link.ifindex()).unwrap_or_default();
        }
        if let Some(own) = address
            .as_sockaddr_in()
            .filter(|_| known.interface.address.is_unspecified())
        {
            known.interface.address = own.ip();
            let mask = entry
                .netmask
                .as_ref()
                .and_then(|mask| mask.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip));
            known.interface.mask = mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
        }
    }
    Ok(found.into_values().collect())
}

/// The interface's MTU as the kernel tells it; Ethernet's where it does not.
fn mtu(name: &str) -> u16 {
    let told = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok();
    let told = told.and_then(|text| text.trim().parse::<u32>().ok());
    told.map_or(1500, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
}

/// Which interfaces to serve.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// By name; empty for all with an address.
    pub names: Vec<String>,
    /// Not these.
    pub except: Vec<String>,
    /// Only those with one of these addresses; empty for all.
    pub addresses: Vec<Ipv4Addr>,
}

impl Choice {
    /// Picks the interfaces to serve, with what each is missing.
    ///
    /// # Errors
    /// A named interface is not there or has no address, or nothing is left to serve.
    pub fn pick(&self, all: &[Found]) -> Result<Vec<Found>, Error> {
        for name in &self.names {
            let named = all.iter().find(|found| found.interface.name == *name);
            match named {
                None => {
                    let known: Vec<&str> = all
                        .iter()
                        .map(|found| found.interface.name.as_str())
                        .collect();
                    return Err(Error::NoSuchInterface {
                        name: name.clone(),
                        known: known.join(", "),
                    });
                }
                Some(found) if found.interface.address.is_unspecified() => {
                    return Err(Error::NoAddress { name: name.clone() });
                }
                Some(_) => {}
            }
        }
        let picked: Vec<Found> = all
            .iter()
            .filter(|found| self.takes(found))
            .cloned()
            .collect();
        if picked.is_empty() {
            Err(Error::NothingToServe)
        } else {
            Ok(picked)
        }
    }

    /// Tells whether an interface is served.
    fn takes(&self, found: &Found) -> bool {
        let interface = &found.interface;
        let is_named = self.names.contains(&interface.name);
        !interface.address.is_unspecified()
            && !self.except.contains(&interface.name)
            && (is_named || (self.names.is_empty() && !found.is_loopback))
            && (self.addresses.is_empty() || self.addresses.contains(&interface.address))
    }
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

    /// The served interface with an index.
    pub fn by_index(&self, index: u32) -> Option<Interface> {
        let seen = self.seen();
        let mut all = seen.iter().map(|found| &found.interface);
        all.find(|interface| interface.index == index).cloned()
    }

    /// Tells whether an address is that of a served interface.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        let seen = self.seen();
        seen.iter().any(|found| found.interface.address == address)
    }

    /// The addresses of the served interfaces.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let seen = self.seen();
        seen.iter().map(|found| found.interface.address).collect()
    }

    /// The interface on a client's own subnet, else the first one served.
    pub fn near(&self, client: IpAddr) -> Option<Interface> {
        let seen = self.seen();
        let mut all = seen.iter().map(|found| &found.interface);
        let is_near = |interface: &&Interface| match client {
            IpAddr::V4(client) => {
                let mask = interface.mask.to_bits();
                client.to_bits() & mask == interface.address.to_bits() & mask
            }
            IpAddr::V6(_) => false,
        };
        let first = seen.first().map(|found| &found.interface);
        all.find(is_near).or(first).cloned()
    }

    /// Takes what this host has by now, and says what changed, a line each.
    pub fn refresh(&self, all: &[Found]) -> Vec<String> {
        // A served interface that lost its address is for a while no reason to end.
        let fresh: Vec<Found> = all
            .iter()
            .filter(|found| self.choice.takes(found))
            .cloned()
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
            mtu: 1500,
        };
        Found {
            interface,
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
}
