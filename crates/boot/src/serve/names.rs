//! Names of servers: they are looked up while larder serves, as a resolver may come up after it, or be slow.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;

use crate::words::rules::Rules;

/// Looks up at once and then again and again with this pause, until each name has its address; each name
/// once a time, however many words name it. dnsmasq looks up at each answer.
pub(super) async fn look_up<Lookup, Found>(words: &Rules, pause: Duration, lookup: Lookup)
where
    Lookup: Fn(String) -> Found,
    Found: Future<Output = Option<Ipv4Addr>>,
{
    let mut told = BTreeSet::new();
    loop {
        let unfound: BTreeMap<&str, &str> = words
            .unfound()
            .map(|(word, name, _)| (name, word))
            .collect();
        for (name, word) in unfound {
            let Some(address) = lookup(name.to_owned()).await else {
                if told.insert(name) {
                    tracing::warn!(
                        "{word} names the server {name}, which has no IPv4 address here yet; until it has, this host is named in its place"
                    );
                }
                continue;
            };
            for (_, _, server) in words.unfound().filter(|(_, other, _)| *other == name) {
                server.found(address);
            }
            tracing::info!("the server {name} is {address}, and named in answers from now on");
        }
        if words.unfound().next().is_none() {
            return;
        }
        tokio::time::sleep(pause).await;
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
        let words = [
            "--pxe-service=x86PC,P,p,late.example",
            "--pxe-service=X86-64_EFI,P,p,late.example",
            "--port=0",
        ]
        .map(str::to_owned);
        let rules = crate::words::read::command_line(&words, &|_| Ok(Vec::new())).unwrap();
        let (tries, known) = (Cell::new(0), Ipv4Addr::new(10, 0, 0, 9));
        let lookup = |name: String| {
            assert_eq!(name, "late.example");
            tries.set(tries.get() + 1);
            std::future::ready((tries.get() == 3).then_some(known))
        };
        look_up(&rules, Duration::ZERO, lookup).await;
        // Once a time for both words.
        assert_eq!((tries.get(), rules.services[0].address()), (3, Some(known)));
        assert_eq!(rules.services[1].address(), Some(known));
    }

    #[tokio::test]
    async fn the_resolver_of_this_host_is_asked() {
        let found = address_of("localhost".to_owned()).await;
        assert_eq!(found, Some(Ipv4Addr::LOCALHOST));
    }
}
