//! Whatever bytes come in: no panic, no answer to what is no boot client, bounded answers.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use larder_boot::decide::{Arrival, Decision, Interface, OwnRules, Past, Port, Rules, decide};
use larder_boot::look::Looks;
use larder_boot::packet::architecture::Cpu;
use larder_boot::packet::options::code;
use larder_boot::packet::request::{Request, kind};
use larder_boot::tftp::files::{self, Content, Files, Manner};
use larder_boot::tftp::packet;
use larder_boot::tftp::transfer::{Bounds, Step, Transfer, settle};
use larder_boot::words;

/// Packets of each kind; the numbers come from a fixed seed, so that a failure comes again.
const COUNT: usize = 40_000;

/// A small generator (Knuth's MMIX constants), so that the soup is the same everywhere.
struct Soup(u64);

impl Soup {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next(256) as u8).collect()
    }

    /// A packet with a sound head and options that follow the grammar, more or less.
    fn options(&mut self) -> Vec<u8> {
        let mut packet = vec![1, 1, 6, 0];
        packet.extend(self.bytes(232));
        packet.extend([99, 130, 83, 99]);
        if self.next(2) == 0 {
            packet.extend([
                53,
                1,
                [1, 3][self.next(2)],
                93,
                2,
                0,
                [0, 7][self.next(2)],
                60,
                9,
            ]);
            packet.extend(b"PXEClient");
        }
        for _ in 0..self.next(12) {
            let code = [53, 60, 93, 97, 43, 77, 82, 52, 57, 175, 50, 118, 0, 255][self.next(14)];
            let length = if code == 53 { 1 } else { self.next(40) };
            let mut value = self.bytes(length);
            match code {
                53 => value = vec![[1, 3, 8, 9][self.next(4)]],
                60 if self.next(2) == 0 => value = b"PXEClient:Arch:00007:UNDI:003001".to_vec(),
                93 if self.next(2) == 0 => value = vec![0, self.next(45) as u8],
                43 if self.next(2) == 0 => value = vec![71, 4, 0x80, self.next(3) as u8, 0, 0],
                _ => {}
            }
            packet.push(code);
            packet.push(if self.next(20) == 0 {
                self.next(256) as u8
            } else {
                value.len() as u8
            });
            packet.extend(value);
        }
        packet
    }
}

fn rules(words: &[&str]) -> Rules {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let none = |_: &std::path::Path| Ok(Vec::new());
    let mut own = OwnRules {
        http_port: Some(8080),
        ..OwnRules::default()
    };
    own.programs
        .by_cpu
        .extend([(Cpu::Bios, "bios".into()), (Cpu::X64, "uefi".into())]);
    let words = (!words.is_empty())
        .then(|| words::read::command_line(&words, &none).expect("the words are good"));
    Rules { words, own }
}

fn arrival(port: Port) -> Arrival {
    let interface = Interface {
        name: "e0".into(),
        index: 2,
        address: Ipv4Addr::new(10, 0, 0, 2),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        networks: Vec::new(),
        mtu: 1500,
    };
    Arrival {
        port,
        interface,
        from: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 68),
    }
}

/// Asks with a packet, and checks the answer; tells whether there was one.
fn ask(bytes: &[u8], port: Port, rules: &Rules) -> bool {
    let Ok(request) = Request::parse(bytes) else {
        return false;
    };
    let decision = decide(
        &request,
        &arrival(port),
        rules,
        &Past::default(),
        SystemTime::UNIX_EPOCH,
    );
    let Decision::Reply(reply) = decision else {
        return false;
    };
    let class = request.vendor_class();
    assert!(
        class.starts_with(b"PXEClient") || class.starts_with(b"HTTPClient"),
        "{bytes:?}"
    );
    let architecture = request.options.find(code::ARCHITECTURE, 0);
    assert!(architecture.is_some(), "{bytes:?}");
    let given = reply.your_address;
    // An address is echoed to who has it; nobody is given one.
    let has_one = request.kind != kind::DISCOVER;
    assert!(
        given.is_unspecified() || (has_one && given == request.client_address),
        "{bytes:?}"
    );
    let encoded = reply.encode(&request);
    assert!(
        (300..=1472).contains(&encoded.len()),
        "{} bytes for {bytes:?}",
        encoded.len()
    );
    true
}

#[test]
fn dhcp_soup_is_answered_only_where_a_boot_client_asks() {
    let sets = [
        rules(&[]),
        rules(&[
            "--dhcp-range=10.0.0.0,proxy",
            "--dhcp-userclass=set:ipxe,iPXE",
            "--dhcp-match=set:x,93,7",
            "--pxe-service=tag:!ipxe,x86PC,Boot,undionly.kpxe",
            "--dhcp-boot=tag:x,file",
        ]),
    ];
    let mut soup = Soup(1);
    let mut answered = 0;
    for number in 0..COUNT {
        let bytes = if number % 2 == 0 {
            let length = soup.next(1500);
            soup.bytes(length)
        } else {
            soup.options()
        };
        for rules in &sets {
            for port in [Port::Dhcp, Port::BootServer] {
                answered += usize::from(ask(&bytes, port, rules));
            }
        }
    }
    assert!(answered > 100, "the soup reaches the answers: {answered}");
}

/// What a client may answer: acknowledgements near the truth, errors, and soup.
fn answered(soup: &mut Soup) -> packet::Incoming {
    match soup.next(10) {
        0..=6 => packet::Incoming::Ack(soup.next(40) as u16),
        7 => packet::Incoming::Ack(soup.next(65_536) as u16),
        8 => packet::Incoming::Unknown,
        _ => {
            let length = soup.next(20);
            let mut bytes = soup.bytes(length);
            bytes.splice(..0, [0, soup.next(7) as u8]);
            packet::parse(&bytes)
        }
    }
}

/// Runs a transfer under soup: every packet is bounded, and holds the file's bytes and no others.
fn transfer(soup: &mut Soup, request: &packet::ReadRequest, content: &Content) {
    let length = content.length();
    let file = match content {
        Content::File(file, _) => Some(file),
        Content::Memory(_) => None,
    };
    let file = file.expect("names stand for files here");
    let mut whole = vec![0; length as usize];
    file.read_exact_at(&mut whole, 0)
        .expect("the file is there");
    let bounds = Bounds {
        mtu: 1500,
        has_block_size: true,
    };
    let (terms, agreed) = settle(&request.options, length, bounds);
    assert!((8..=1468).contains(&terms.block_size), "{terms:?}");
    assert!((1..=64).contains(&terms.window), "{terms:?}");
    let size = usize::from(terms.block_size);
    let mut transfer = Transfer::new(length, terms, &agreed);
    let mut step = transfer.start();
    for _ in 0..40 {
        if let Step::Read(span) = step {
            let from = span.offset as usize;
            let bytes = whole[from..from + span.length].to_vec();
            step = transfer.read(span, Ok(bytes.into()));
        }
        let Step::Send(packets) = step else { return };
        assert!(packets.len() <= usize::from(terms.window), "{terms:?}");
        for packet in &packets {
            let [0, 3, high, low, data @ ..] = packet.as_slice() else {
                let is_options = packet.starts_with(&[0, 6]) && packet.len() < 100;
                assert!(is_options, "{packet:?}");
                continue;
            };
            // The file has fewer blocks than numbers.
            let block = usize::from(u16::from_be_bytes([*high, *low]));
            let from = (block - 1) * size;
            assert_eq!(data, &whole[from..(from + size).min(whole.len())]);
        }
        step = match soup.next(8) {
            0 => transfer.timed_out(),
            1 => transfer.asked_again(),
            _ => transfer.received(answered(soup)),
        };
    }
}

/// A name of the kind that firmware and strangers send, and options of all sorts.
fn read_request(soup: &mut Soup) -> Vec<u8> {
    const PARTS: [&str; 12] = [
        "boot",
        "link",
        "out",
        "..",
        ".",
        "/",
        "sub/",
        "\\",
        "secret",
        "etc/passwd",
        "\u{ff}",
        "%2e%2e",
    ];
    let mut bytes = vec![0, 1];
    for _ in 0..=soup.next(4) {
        bytes.extend(PARTS[soup.next(PARTS.len())].as_bytes());
        if soup.next(3) == 0 {
            bytes.push(b'/');
        }
    }
    bytes.extend(b"\0octet\0");
    for _ in 0..soup.next(6) {
        let name = [
            "blksize",
            "tsize",
            "windowsize",
            "timeout",
            "BLKSIZE",
            "multicast",
        ][soup.next(6)];
        let value = [
            "0",
            "1",
            "8",
            "512",
            "1468",
            "65535",
            "99999999999",
            "-1",
            "x",
            "",
        ][soup.next(10)];
        bytes.extend(format!("{name}\0{value}\0").into_bytes());
    }
    bytes
}

#[test]
fn tftp_soup_neither_panics_nor_leaves_the_root() {
    let outside = tempfile::tempdir().expect("a folder can be made");
    let root = outside.path().join("root");
    std::fs::create_dir_all(root.join("sub")).expect("a folder can be made");
    std::fs::write(outside.path().join("secret"), "secret").expect("it is writable");
    let content: Vec<u8> = (0..3000).map(|at| (at % 251) as u8).collect();
    for name in ["boot", "sub/boot"] {
        std::fs::write(root.join(name), &content).expect("it is writable");
    }
    for (name, to) in [
        ("link", "sub/boot"),
        ("out", "../secret"),
        ("sub/out", "/etc/passwd"),
    ] {
        std::os::unix::fs::symlink(to, root.join(name)).expect("links can be made");
    }
    let files = Files::new(
        Some(&root),
        HashMap::new(),
        Manner::default(),
        &Looks::default(),
    )
    .expect("the root is there");
    let mut soup = Soup(2);
    let mut served = 0;
    for number in 0..COUNT {
        let bytes = if number % 2 == 0 {
            let length = soup.next(600);
            let mut bytes = soup.bytes(length);
            if let [first, second, ..] = bytes.as_mut_slice() {
                (*first, *second) = (0, soup.next(7) as u8);
            }
            bytes
        } else {
            read_request(&mut soup)
        };
        let packet::Incoming::Read(request) = packet::parse(&bytes) else {
            continue;
        };
        let Ok(name) = files::clean(&request.name) else {
            continue;
        };
        let Ok(found) = files.find(&name.path) else {
            continue;
        };
        assert_eq!(found.length(), 3000, "{name:?} is a file of the root");
        served += 1;
        transfer(&mut soup, &request, &found);
    }
    assert!(served > 1000, "the soup reaches the files: {served}");
}
