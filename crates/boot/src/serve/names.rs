//! Names of servers that had no address at the start: a resolver may come up after larder.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;

use crate::words::rules::Rules;

/// Looks up again and again with this pause, until each name has its address. dnsmasq looks up at each
/// answer.
pub(super) async fn look_up_again<Lookup, Found>(words: &Rules, pause: Duration, lookup: Lookup)
where
    Lookup: Fn(String) -> Found,
    Found: Future<Output = Option<Ipv4Addr>>,
{
    while words.unfound().next().is_some() {
        tokio::time::sleep(pause).await;
        for (_, name, server) in words.unfound() {
            if let Some(address) = lookup(name.to_owned()).await {
                server.found(address);
                tracing::info!("the server {name} is {address}, and named in answers from now on");
            }
        }
    }
}

/// The first IPv4 address of a name, as this host looks names up.
pub(super) async fn address_of(name: String) -> Option<Ipv4Addr> {
    let mut found = lookup_host((name, 0)).await.ok()?;
    found.find_map(|address| match address {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn a_name_is_looked_up_until_it_has_an_address() {
        let words = ["--pxe-service=x86PC,P,p,late.example", "--port=0"].map(str::to_owned);
        let rules = crate::words::read::command_line(&words, &|_| Ok(Vec::new())).unwrap();
        let (tries, known) = (Cell::new(0), Ipv4Addr::new(10, 0, 0, 9));
        let lookup = |name: String| {
            assert_eq!(name, "late.example");
            tries.set(tries.get() + 1);
            std::future::ready((tries.get() == 3).then_some(known))
        };
        look_up_again(&rules, Duration::ZERO, lookup).await;
        assert_eq!((tries.get(), rules.services[0].address()), (3, Some(known)));
    }

    #[tokio::test]
    async fn the_resolver_of_this_host_is_asked() {
        let found = address_of("localhost".to_owned()).await;
        assert_eq!(found, Some(Ipv4Addr::LOCALHOST));
    }
}
