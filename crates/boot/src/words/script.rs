//! Which script the words give to a machine's iPXE, before that iPXE has asked.
//!
//! Newer builds fetch `autoexec.ipxe` from where they were loaded before they ask for an address. What
//! the firmware asked a moment earlier tells which script they are about to be given: the same request,
//! read as its iPXE would send it.

use std::net::SocketAddrV4;

use super::answer::{given_url, is_url};
use super::rules::Rules;
use crate::decide::{Arrival, Interface, Port};
use crate::explain::{Asked, packet};
use crate::ipxe_text;
use crate::packet::architecture::{Architecture, Transport};
use crate::packet::hardware::HardwareAddress;
use crate::packet::options::code;
use crate::packet::request::{OPTIONS_AT, Request};

/// The features that each distribution's build has: HTTP, and kernels on BIOS.
const FEATURES: [u8; 6] = [0x13, 1, 1, 0x18, 1, 1];

/// Kinds of firmware that a machine which nobody heard of may have.
const KINDS: [Architecture; 3] = [Architecture(0), Architecture(7), Architecture(11)];

/// What is known of the words' script for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Given {
    /// The machine has not asked by DHCP yet.
    #[default]
    Unheard,
    /// The words give it none, or leave it the choice.
    Nothing,
    /// They give it this URL.
    Script(String),
}

/// Tells whether the words give any iPXE a script.
pub fn is_named(rules: &Rules) -> bool {
    named(rules).next().is_some()
}

/// All scripts that the words name.
pub fn named(rules: &Rules) -> impl Iterator<Item = &str> {
    let services = rules.services.iter();
    let services = services.filter_map(|service| service.file.as_deref());
    let boots = rules.boots.iter().map(|boot| boot.file.as_str());
    services.chain(boots).filter(|file| is_url(file))
}

/// What the words give to the iPXE of the machine which sent this.
pub fn given(datagram: &[u8], arrival: &Arrival, rules: &Rules) -> Given {
    of(datagram, arrival, rules).map_or(Given::Nothing, Given::Script)
}

/// The URL that the words give to the iPXE of the machine which sent this; none if they give it none, or
/// if somebody chooses it from a menu.
fn of(datagram: &[u8], arrival: &Arrival, rules: &Rules) -> Option<String> {
    let request = Request::parse(datagram).ok()?;
    if request.is_ipxe() {
        return scriptable(given_url(&request, arrival, rules));
    }
    let as_ipxe = as_ipxe(datagram, &request);
    let request = Request::parse(&as_ipxe).ok()?;
    scriptable(given_url(&request, arrival, rules))
}

/// The URL that the words give to the iPXE of any machine on an interface, if they give all the same.
pub fn of_anyone(interface: &Interface, rules: &Rules) -> Option<String> {
    let arrival = Arrival {
        port: Port::Dhcp,
        interface: interface.clone(),
        from: SocketAddrV4::new(interface.address, 68),
    };
    let mut urls = KINDS.into_iter().map(|architecture| {
        let asked = Asked {
            mac: HardwareAddress::new(&[0; 6]),
            architecture,
            is_ipxe: true,
        };
        of(&packet(asked, Port::Dhcp), &arrival, rules)
    });
    let first = urls.next().flatten()?;
    urls.all(|url| url.as_ref() == Some(&first))
        .then_some(first)
}

/// A URL that a script can chain to.
fn scriptable(url: Option<String>) -> Option<String> {
    url.filter(|url| ipxe_text::script_url(url).is_ok())
}

/// The datagram with iPXE's options in front, where they count before the firmware's own.
fn as_ipxe(datagram: &[u8], request: &Request<'_>) -> Vec<u8> {
    let (head, options) = datagram.split_at(OPTIONS_AT.min(datagram.len()));
    let mut bytes = head.to_vec();
    let mut put = |code: u8, value: &[u8]| {
        bytes.extend([code, u8::try_from(value.len()).unwrap_or_default()]);
        bytes.extend(value);
    };
    put(code::USER_CLASS, b"iPXE");
    put(code::IPXE, &FEATURES);
    // Firmware that boots by HTTP says so; the iPXE that it loads is a PXE client like any other.
    let architecture = request.architecture();
    let by_http = architecture.filter(|code| {
        let platform = code.platform();
        platform.is_some_and(|(_, transport)| transport == Transport::Http)
    });
    if let Some(architecture) = by_http.map(Architecture::by_tftp) {
        let class = format!("PXEClient:Arch:{:05}:UNDI:003010", architecture.0);
        put(code::VENDOR_CLASS, class.as_bytes());
        put(code::ARCHITECTURE, &architecture.0.to_be_bytes());
    }
    bytes.extend(options);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::read::command_line;

    const SEED: [&str; 4] = [
        "--dhcp-range=10.77.0.1,proxy,255.255.255.0",
        "--dhcp-userclass=set:ipxe,iPXE",
        "--pxe-service=tag:#ipxe,x86PC,PXE chainload to iPXE,undionly.kpxe",
        "--pxe-service=tag:ipxe,x86PC,iPXE,http://matchbox:8080/boot.ipxe",
    ];

    fn rules(words: &[&str]) -> Rules {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        command_line(&words, &|_| Ok(Vec::new())).unwrap()
    }

    fn interface() -> Interface {
        Interface {
            name: "e0".into(),
            index: 2,
            address: [10, 77, 0, 2].into(),
            mask: [255, 255, 255, 0].into(),
            networks: Vec::new(),
            mtu: 1500,
        }
    }

    /// What the words give to a machine's iPXE after its firmware has asked.
    fn after(architecture: u16, words: &[&str]) -> Option<String> {
        let asked = Asked {
            mac: "52:54:00:77:00:20".parse().unwrap(),
            architecture: Architecture(architecture),
            is_ipxe: false,
        };
        let arrival = Arrival {
            port: Port::Dhcp,
            interface: interface(),
            from: SocketAddrV4::new([0, 0, 0, 0].into(), 68),
        };
        of(&packet(asked, Port::Dhcp), &arrival, &rules(words))
    }

    #[test]
    fn the_seeds_words_give_every_machine_matchboxs_script() {
        let script = Some("http://matchbox:8080/boot.ipxe".to_owned());
        for architecture in [0, 7, 9, 11, 16, 20] {
            assert_eq!(after(architecture, &SEED), script, "{architecture}");
        }
        assert_eq!(of_anyone(&interface(), &rules(&SEED)), script);
        assert!(is_named(&rules(&SEED)));
    }

    #[test]
    fn tags_decide_as_they_will_when_ipxe_asks() {
        let words = [
            "--dhcp-range=10.77.0.0,proxy",
            "--dhcp-match=set:ipxe,175",
            "--dhcp-mac=set:lab,52:54:00:77:*:*",
            "--pxe-prompt=Boot,1",
            "--dhcp-boot=tag:ipxe,http://m/all.ipxe",
            "--dhcp-boot=tag:ipxe,tag:lab,http://m/lab.ipxe",
            "--dhcp-boot=tag:!ipxe,undionly.kpxe",
        ];
        assert_eq!(after(0, &words).as_deref(), Some("http://m/lab.ipxe"));
        let anyone = of_anyone(&interface(), &rules(&words));
        assert_eq!(anyone.as_deref(), Some("http://m/all.ipxe"));
    }

    #[test]
    fn an_open_choice_is_not_settled_beforehand() {
        let two = [
            "--dhcp-range=10.77.0.0,proxy",
            "--pxe-service=x86PC,One,http://m/1.ipxe",
            "--pxe-service=x86PC,Two,http://m/2.ipxe",
            "--pxe-service=x86-64_EFI,One,http://m/1.ipxe",
        ];
        assert_eq!(after(0, &two), None);
        assert_eq!(after(7, &two).as_deref(), Some("http://m/1.ipxe"));
        assert_eq!(of_anyone(&interface(), &rules(&two)), None);
        let local = ["--dhcp-range=10.77.0.0,proxy", "--pxe-service=0,Local"];
        assert_eq!(after(0, &local), None);
        assert!(!is_named(&rules(&local)));
    }

    #[test]
    fn ignored_machines_and_other_subnets_are_given_nothing() {
        let ignored: Vec<&str> = SEED
            .into_iter()
            .chain([
                "--dhcp-mac=set:no,52:54:00:77:00:20",
                "--dhcp-ignore=tag:no",
            ])
            .collect();
        assert_eq!(after(7, &ignored), None);
        let mut elsewhere = SEED;
        elsewhere[0] = "--dhcp-range=10.55.0.0,proxy,255.255.255.0";
        assert_eq!(after(7, &elsewhere), None);
    }

    #[test]
    fn a_url_that_no_script_can_chain_to_is_left_to_dhcp() {
        let mut blank = SEED;
        blank[3] = "--pxe-service=tag:ipxe,x86PC,iPXE,http://m/a b";
        assert_eq!(after(0, &blank), None);
        assert!(is_named(&rules(&blank)));
    }
}
