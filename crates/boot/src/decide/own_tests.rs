//! Tests of larder's own answers.

use std::collections::BTreeMap;

use std::net::SocketAddrV4;

use super::*;
use crate::decide::rules::Programs;
use crate::decide::{AnswerKind, Interface};
use crate::packet::hardware::HardwareAddress;
use crate::packet::options::find;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const DEBIAN_IPXE: &[u8] = &[0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0, 0x13, 1, 1, 0x18, 1, 1];

/// A client packet, built field by field.
struct Client {
    kind: u8,
    class: &'static str,
    architecture: Option<Vec<u8>>,
    more: Vec<u8>,
    address: Ipv4Addr,
    relay: Ipv4Addr,
    mac: [u8; 6],
}

impl Client {
    fn pxe(architecture: u16) -> Self {
        Self {
            kind: kind::DISCOVER,
            class: "PXEClient",
            architecture: Some(architecture.to_be_bytes().to_vec()),
            more: Vec::new(),
            address: Ipv4Addr::UNSPECIFIED,
            relay: Ipv4Addr::UNSPECIFIED,
            mac: [0x52, 0x54, 0, 1, 2, 3],
        }
    }

    fn ipxe(architecture: u16, features: &[u8]) -> Self {
        let mut client = Self::pxe(architecture).with(code::USER_CLASS, b"iPXE");
        if !features.is_empty() {
            client = client.with(code::IPXE, features);
        }
        client
    }

    fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.more.extend([code, value.len() as u8]);
        self.more.extend(value);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[12..16].copy_from_slice(&self.address.octets());
        bytes[24..28].copy_from_slice(&self.relay.octets());
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, self.kind, 60, self.class.len() as u8]);
        bytes.extend(self.class.as_bytes());
        if let Some(architecture) = &self.architecture {
            bytes.extend([93, architecture.len() as u8]);
            bytes.extend(architecture);
        }
        bytes.extend(&self.more);
        bytes.push(255);
        bytes
    }

    fn ask(&self, port: Port, rules: &OwnRules) -> Decision {
        let bytes = self.bytes();
        let request = Request::parse(&bytes).unwrap();
        answer(
            &request,
            &arrival(port),
            rules,
            &Past::default(),
            SystemTime::UNIX_EPOCH,
        )
    }

    fn reply(&self, port: Port) -> Reply {
        match self.ask(port, &rules()) {
            Decision::Reply(reply) => *reply,
            Decision::Silence(reason) => panic!("silent: {reason}"),
        }
    }

    fn silence(&self, port: Port) -> Silence {
        match self.ask(port, &rules()) {
            Decision::Reply(reply) => panic!("answered: {reply:?}"),
            Decision::Silence(reason) => reason,
        }
    }
}

fn arrival(port: Port) -> Arrival {
    let interface = Interface {
        name: "e0".into(),
        index: 2,
        address: HERE,
        mask: Ipv4Addr::new(255, 255, 255, 0),
        networks: Vec::new(),
        mtu: 1500,
    };
    Arrival {
        port,
        interface,
        from: SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 9), 4011),
    }
}

fn rules() -> OwnRules {
    let by_cpu = [
        (Cpu::Bios, "undionly.kpxe"),
        (Cpu::X64, "snponly.efi"),
        (Cpu::Arm64, "snp-arm64.efi"),
    ];
    OwnRules {
        programs: Programs {
            by_cpu: by_cpu
                .into_iter()
                .map(|(cpu, file)| (cpu, file.to_owned()))
                .collect(),
            bios_with_drivers: Some("ipxe.pxe".to_owned()),
        },
        http_port: Some(8080),
        ..OwnRules::default()
    }
}

fn discovery_control(reply: &Reply) -> Option<&[u8]> {
    find(
        reply.option(code::VENDOR_SPECIFIC)?,
        sub::DISCOVERY_CONTROL,
        1,
    )
}

#[test]
fn a_bios_rom_gets_its_file_straight_in_the_offer() {
    let reply = Client::pxe(0).reply(Port::Dhcp);
    assert_eq!(reply.file, b"undionly.kpxe");
    assert_eq!(reply.next_server, HERE);
    assert_eq!(discovery_control(&reply), Some(&[8][..]));
    assert_eq!(reply.your_address, Ipv4Addr::UNSPECIFIED);
    assert_eq!(reply.to, Destination::Broadcast);
}

#[test]
fn uefi_gets_its_file_without_option_43_and_again_on_port_4011() {
    for architecture in [7, 9] {
        let offer = Client::pxe(architecture).reply(Port::Dhcp);
        assert_eq!(offer.file, b"snponly.efi");
        assert_eq!(offer.option(code::VENDOR_SPECIFIC), None);
        let mut second = Client::pxe(architecture);
        second.kind = kind::REQUEST;
        second.address = Ipv4Addr::new(10, 77, 0, 9);
        let ack = second.reply(Port::BootServer);
        assert_eq!(
            (ack.kind, ack.file.as_slice()),
            (kind::ACK, &b"snponly.efi"[..])
        );
        assert_eq!(
            ack.to,
            Destination::Socket("10.77.0.9:4011".parse().unwrap())
        );
    }
}

#[test]
fn http_boot_gets_a_url_and_its_own_class_back() {
    let mut client = Client::pxe(16);
    client.class = "HTTPClient:Arch:00016:UNDI:003001";
    let reply = client.reply(Port::Dhcp);
    assert_eq!(reply.file, b"http://10.77.0.2:8080/boot/snponly.efi");
    assert_eq!(reply.option(code::VENDOR_CLASS), Some(&b"HTTPClient"[..]));
}

#[test]
fn a_capable_ipxe_gets_the_script_and_a_server_address() {
    let reply = Client::ipxe(0, DEBIAN_IPXE).reply(Port::Dhcp);
    assert_eq!(AnswerKind::of(&reply), AnswerKind::Url);
    assert_eq!(reply.file, b"http://10.77.0.2:8080/boot.ipxe");
    assert_eq!(reply.next_server, HERE);
    let uefi = Client::ipxe(7, &[0x13, 1, 1, 0x24, 1, 1]).reply(Port::Dhcp);
    assert_eq!(uefi.file, b"http://10.77.0.2:8080/boot.ipxe");
}

#[test]
fn an_ipxe_without_http_or_linux_is_chained_to_a_build_with_drivers() {
    for features in [&[0x18, 1, 1][..], &[0x13, 1, 1], &[]] {
        assert_eq!(
            Client::ipxe(0, features).reply(Port::Dhcp).file,
            b"ipxe.pxe"
        );
    }
    assert_eq!(
        Client::ipxe(7, &[0x24, 1, 1]).reply(Port::Dhcp).file,
        b"snponly.efi"
    );
}

#[test]
fn only_boot_firmware_is_answered() {
    let mut ordinary = Client::pxe(0);
    ordinary.class = "MSFT 5.0";
    assert_eq!(ordinary.silence(Port::Dhcp), Silence::NotBooting);
    let mut mute = Client::pxe(0);
    mute.architecture = None;
    assert_eq!(mute.silence(Port::Dhcp), Silence::NoArchitecture);
    for kind in [kind::REQUEST, kind::INFORM, 4, 7] {
        let mut other = Client::pxe(0);
        other.kind = kind;
        assert_eq!(other.silence(Port::Dhcp), Silence::OthersBusiness(kind));
    }
    let unknown = Client::pxe(3).silence(Port::Dhcp);
    assert_eq!(unknown, Silence::UnknownArchitecture(Architecture(3)));
    let missing = Client::pxe(6).silence(Port::Dhcp);
    assert_eq!(missing, Silence::NoLoader(Architecture(6)));
}

#[test]
fn a_malformed_option_93_is_made_good_by_the_class() {
    let mut client = Client::pxe(0);
    client.class = "PXEClient:Arch:00007:UNDI:003001";
    client.architecture = Some(vec![7]);
    assert_eq!(client.reply(Port::Dhcp).file, b"snponly.efi");
}

#[test]
fn a_relay_gets_the_answer_with_its_server_override() {
    let relay = Ipv4Addr::new(10, 99, 0, 1);
    let mut client = Client::pxe(0).with(code::RELAY_AGENT, &[11, 4, 10, 99, 0, 1]);
    client.relay = relay;
    let reply = client.reply(Port::Dhcp);
    assert_eq!(reply.to, Destination::Relay(relay));
    assert_eq!(reply.option(code::SERVER_ID), Some(&relay.octets()[..]));
    assert_eq!(reply.file, b"52:54:00:01:02:03/undionly.kpxe");
}

#[test]
fn a_configured_style_is_kept_and_its_menu_item_served() {
    let mac = HardwareAddress::new(&[0x52, 0x54, 0, 1, 2, 3]);
    let rules = OwnRules {
        styles: BTreeMap::from([(mac, OfferStyle::Menu)]),
        ..rules()
    };
    let Decision::Reply(offer) = Client::pxe(7).ask(Port::Dhcp, &rules) else {
        panic!("silent")
    };
    assert_eq!(AnswerKind::of(&offer), AnswerKind::Menu);
    assert_eq!(discovery_control(&offer), Some(&[3][..]));
    let mut second = Client::pxe(7).with(code::VENDOR_SPECIFIC, &[71, 4, 0x80, 0, 0, 0, 255]);
    second.kind = kind::REQUEST;
    second.address = Ipv4Addr::new(10, 77, 0, 9);
    let ack = second.reply(Port::BootServer);
    assert_eq!(
        (ack.file.as_slice(), ack.your_address),
        (&b"snponly.efi"[..], second.address)
    );
}

#[test]
fn a_forged_address_draws_no_answer_to_a_third_host() {
    let mut forger = Client::pxe(7);
    forger.kind = kind::REQUEST;
    forger.address = Ipv4Addr::new(10, 77, 0, 200);
    let asking_socket = Destination::Socket("10.77.0.9:4011".parse().unwrap());
    assert_eq!(forger.reply(Port::BootServer).to, asking_socket);
}

#[test]
fn items_that_are_not_ours_and_credentials_are_refused() {
    let mut client = Client::pxe(0).with(code::VENDOR_SPECIFIC, &[71, 4, 0, 5, 0, 0]);
    client.kind = kind::REQUEST;
    assert_eq!(client.silence(Port::BootServer), Silence::UnknownItem(5));
    let mut signed = Client::pxe(0).with(code::VENDOR_SPECIFIC, &[71, 4, 0x80, 0, 0x80, 0]);
    signed.kind = kind::REQUEST;
    assert_eq!(signed.silence(Port::BootServer), Silence::CredentialsAsked);
}

#[test]
fn a_raspberry_pi_gets_the_menu_that_its_rom_looks_for() {
    let mut client = Client::pxe(0);
    client.mac = [0xdc, 0xa6, 0x32, 1, 2, 3];
    assert_eq!(
        client.silence(Port::Dhcp),
        Silence::NoLoader(Architecture(0))
    );
    let rules = OwnRules {
        has_pi_files: true,
        ..rules()
    };
    let Decision::Reply(reply) = client.ask(Port::Dhcp, &rules) else {
        panic!("silent")
    };
    let menu = find(reply.option(code::VENDOR_SPECIFIC).unwrap(), sub::MENU, 1).unwrap();
    assert_eq!(menu, b"\0\0\x11Raspberry Pi Boot");
    assert_eq!(reply.next_server, HERE);
}

#[test]
fn a_url_too_long_for_the_file_field_goes_into_option_67() {
    let long = format!("http://boot.example/{}", "x".repeat(120));
    let rules = OwnRules {
        script: Some(long.clone()),
        ..rules()
    };
    let Decision::Reply(reply) = Client::ipxe(0, DEBIAN_IPXE).ask(Port::Dhcp, &rules) else {
        panic!("silent")
    };
    assert_eq!(reply.option(code::BOOT_FILE), Some(long.as_bytes()));
    assert!(reply.file.is_empty());
}

#[test]
fn who_boots_by_http_gets_a_url_whatever_architecture_it_names() {
    for (architecture, file) in [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")] {
        let mut client = Client::pxe(architecture);
        client.class = "HTTPClient";
        let Decision::Reply(reply) = client.ask(Port::Dhcp, &rules()) else {
            panic!("{architecture}: no answer")
        };
        let file = format!("http://{HERE}:8080/boot/{file}");
        assert_eq!(String::from_utf8_lossy(&reply.file), file, "{architecture}");
        assert_eq!(reply.option(code::VENDOR_CLASS), Some(&b"HTTPClient"[..]));
    }
}

#[test]
fn an_ipxe_that_loads_ours_in_vain_gets_the_script() {
    let bytes = Client::ipxe(0, &[0x17, 1, 1]).bytes();
    let request = Request::parse(&bytes).unwrap();
    let after = |loads_without_script| {
        let past = Past {
            loads_without_script,
            ..Past::default()
        };
        let now = SystemTime::UNIX_EPOCH;
        match answer(&request, &arrival(Port::Dhcp), &rules(), &past, now) {
            Decision::Reply(reply) => String::from_utf8_lossy(&reply.file).into_owned(),
            Decision::Silence(reason) => reason.to_string(),
        }
    };
    assert_eq!(after(0), "ipxe.pxe");
    assert_eq!(after(2), "ipxe.pxe");
    assert_eq!(after(3), format!("http://{HERE}:8080/boot.ipxe"));
}

#[test]
fn without_tftp_programs_are_named_by_http_or_not_at_all() {
    let without = OwnRules {
        lacks_tftp: true,
        ..rules()
    };
    for client in [Client::pxe(0), Client::pxe(7)] {
        let decided = client.ask(Port::Dhcp, &without);
        assert!(matches!(decided, Decision::Silence(Silence::NoLoader(_))));
    }
    let mut by_http = Client::pxe(16);
    by_http.class = "HTTPClient";
    for client in [by_http, Client::ipxe(0, DEBIAN_IPXE), Client::ipxe(7, &[])] {
        let Decision::Reply(reply) = client.ask(Port::Dhcp, &without) else {
            panic!("it needs no TFTP")
        };
        assert_eq!(AnswerKind::of(&reply), AnswerKind::Url);
    }
}
