//! This host's interfaces with an IPv4 address.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;

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

#[cfg(test)]
mod tests {
    use super::*;

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
