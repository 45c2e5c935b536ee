//! The addresses of this host, as the kernel lists them.
//!
//! Whether a socket can be bound to an address says nothing: with `ip_nonlocal_bind`, which hosts
//! that share an address have set, any address can be.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A list is used for so long even if all that is asked for is on it.
const KEPT: Duration = Duration::from_secs(30);
/// An address that is not on the list may have come since: it is read anew, but no more often.
const REREAD: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Listed {
    at: Instant,
    addresses: Vec<IpAddr>,
}

static LISTED: Mutex<Option<Listed>> = Mutex::new(None);

/// True if `ip` is an address of this host.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    if ip.is_loopback() {
        return true;
    }
    let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = listed.as_ref().is_some_and(|list| {
        let age = list.at.elapsed();
        age < REREAD || (age < KEPT && list.addresses.contains(&ip))
    });
    if !known {
        *listed = Some(Listed {
            at: Instant::now(),
            addresses: read(),
        });
    }
    listed
        .as_ref()
        .is_some_and(|list| list.addresses.contains(&ip))
}

/// Nothing where the kernel does not say: then only loopback is local.
fn read() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .map(|ip| ip.to_canonical())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_a_documentation_address_is_not() {
        for (text, local) in [
            ("127.0.0.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_local(text.parse().unwrap()), local, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_lists_is_local() {
        for ip in read() {
            assert!(is_local(ip), "{ip}");
        }
    }
}
