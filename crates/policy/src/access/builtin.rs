//! The access rules that hold where the operator gives none.
//!
//! They let a network's own machines reach package mirrors, and keep the proxy from being a way
//! into what only this host can reach: its own loopback services, its link, the credentials that a
//! cloud hands out.

use super::{AccessList, AddressSet, Condition, Matcher, PortSet, Rule};

impl AccessList {
    /// Clients from private and loopback addresses and this host's own; targets on ports 80, 443
    /// and 1025 to 65535, tunnels to 443. Link-local, metadata and unspecified addresses never,
    /// loopback addresses only for a loopback client.
    pub fn builtin() -> Self {
        let ports = PortSet::new([80..=80, 443..=443, 1025..=u16::MAX]);
        let clients = AddressSet::private()
            .with(&AddressSet::link_local())
            .with(&AddressSet::loopback());
        let loopback_client = Matcher::Client(AddressSet::loopback());
        Self::new(vec![
            deny(
                [Condition::not(Matcher::Port(ports))],
                "built-in: deny ports other than 80, 443 and 1025-65535",
            ),
            deny(
                [
                    Matcher::Method(vec!["CONNECT".to_owned()]).into(),
                    Condition::not(Matcher::Port(PortSet::new([443..=443]))),
                ],
                "built-in: deny CONNECT to ports other than 443",
            ),
            deny(
                [Matcher::To(AddressSet::out_of_reach()).into()],
                "built-in: deny link-local, metadata and unspecified addresses",
            ),
            deny(
                [
                    Matcher::To(AddressSet::loopback()).into(),
                    Condition::not(loopback_client),
                ],
                "built-in: deny loopback addresses to clients from elsewhere",
            ),
            Rule {
                allow: true,
                conditions: vec![
                    Matcher::AnyOf(vec![
                        Matcher::Client(clients).into(),
                        Matcher::ClientIsSelf.into(),
                    ])
                    .into(),
                ],
                text: "built-in: allow clients from private, loopback and this host's addresses"
                    .to_owned(),
            },
        ])
    }
}

fn deny<const N: usize>(conditions: [Condition; N], text: &str) -> Rule {
    Rule {
        allow: false,
        conditions: conditions.into(),
        text: text.to_owned(),
    }
}
