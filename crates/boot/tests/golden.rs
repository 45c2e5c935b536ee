//! Larder under dnsmasq's words answers as dnsmasq 2.90 did, byte for byte.
//!
//! The recordings stand in `golden/*.json`, made by `golden/make.py` with the real dnsmasq. What may
//! differ is a closed list: the answers in [`OWN_ANSWERS`], where dnsmasq gives nothing to boot from, and
//! a server address where dnsmasq leaves zero beside a file. One more stands in no recording: a client on port
//! 4011 whose `ciaddr` is not its source address is answered at its source; dnsmasq sends to `ciaddr`, which
//! lets anybody direct answers at others.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::SystemTime;

use larder_boot::Config;
use larder_boot::decide::{Arrival, Decision, Interface, OwnRules, Past, Port, Rules, decide};
use larder_boot::net::interfaces::Found;
use larder_boot::packet::options;
use larder_boot::packet::reply::Destination;
use larder_boot::packet::request::Request;
use larder_boot::serve::core::choice;
use larder_boot::words;

/// Where dnsmasq ran.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Its second address on the same link.
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 168, 9, 2);

/// Cases in which dnsmasq's answer leads nowhere and larder gives its own, by set.
const OWN_ANSWERS: &[(&str, &str)] = &[
    ("seed", "uefi discover"),
    ("seed", "uefi 4011 request"),
    ("seed", "uefi byte code discover"),
    ("seed", "arm64 discover"),
    ("seed", "uefi ipxe discover"),
    ("seed", "http client"),
    ("uefi", "architecture without any service"),
    ("odd", "a boot line without a file"),
];

#[derive(serde::Deserialize)]
struct Recording {
    words: Vec<String>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    port: u16,
    from: SocketAddrV4,
    request: String,
    reply: Option<String>,
    to: Option<SocketAddrV4>,
}

fn recording(set: &str) -> Recording {
    let path = format!("{}/tests/golden/{set}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the recording is in the tree");
    serde_json::from_str(&text).expect("the recording is what make.py writes")
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("recordings are hexadecimal"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn rules(recording: &Recording) -> Rules {
    use larder_boot::packet::architecture::Cpu;
    let no_files =
        |_: &std::path::Path| -> std::io::Result<Vec<(String, String)>> { Ok(Vec::new()) };
    let words = words::read::command_line(&recording.words, &no_files).expect("the words are good");
    let mut own = OwnRules {
        http_port: Some(8080),
        ..OwnRules::default()
    };
    for (cpu, file) in [
        (Cpu::X64, "snponly.efi"),
        (Cpu::Ia32, "ia32.efi"),
        (Cpu::Arm64, "arm64.efi"),
    ] {
        own.programs.by_cpu.insert(cpu, file.to_owned());
    }
    Rules {
        words: Some(words),
        own,
    }
}

fn arrival(case: &Case) -> Arrival {
    let port = if case.port == 67 {
        Port::Dhcp
    } else {
        Port::BootServer
    };
    Arrival {
        port,
        interface: interface("p_pxe", &[SERVER, SECOND]),
        from: case.from,
    }
}

fn interface(name: &str, addresses: &[Ipv4Addr]) -> Interface {
    let mask = Ipv4Addr::new(255, 255, 255, 0);
    Interface {
        name: name.into(),
        index: 2,
        address: addresses[0],
        mask,
        networks: addresses.iter().map(|own| (*own, mask)).collect(),
        mtu: 1500,
    }
}

/// Tells whether the words have larder serve the link where dnsmasq was asked.
fn is_served(rules: &Rules) -> bool {
    let found = |name, addresses: &[Ipv4Addr]| Found {
        interface: interface(name, addresses),
        v6: Vec::new(),
        link: None,
        is_loopback: name == "lo",
    };
    let all = [
        found("lo", &[Ipv4Addr::LOCALHOST]),
        found("p_pxe", &[SERVER, SECOND]),
    ];
    let words = rules.words.clone().expect("there are words");
    let served = choice(&Config::default().with_words(words)).pick(&all);
    let served = served.unwrap_or_default();
    served.iter().any(|own| own.interface.name == "p_pxe")
}

/// The answer of larder: its bytes and where they go.
fn answer(case: &Case, rules: &Rules) -> Option<(Vec<u8>, SocketAddrV4)> {
    if !is_served(rules) {
        return None;
    }
    let packet = bytes(&case.request);
    let request = Request::parse(&packet).ok()?;
    match decide(
        &request,
        &arrival(case),
        rules,
        &Past::default(),
        SystemTime::UNIX_EPOCH,
    ) {
        Decision::Silence(_) => None,
        Decision::Reply(reply) => {
            let to = match reply.to {
                Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
                Destination::Relay(relay) => SocketAddrV4::new(relay, 67),
                Destination::Socket(socket) => socket,
            };
            Some((reply.encode(&request), to))
        }
    }
}

/// dnsmasq's answer with the one allowed change: an address where it leaves zero beside a file.
fn expected(case: &Case) -> Option<(Vec<u8>, SocketAddrV4)> {
    let mut reply = bytes(case.reply.as_ref()?);
    let is_overloaded = options::find(&reply[240..], options::code::OVERLOAD, 1).is_some();
    if reply[20..24] == [0; 4] && reply[108] != 0 && !is_overloaded {
        reply[20..24].copy_from_slice(&SERVER.octets());
    }
    Some((reply, case.to?))
}

fn check(set: &str) {
    compare(set, &recording(set));
}

fn compare(set: &str, recording: &Recording) {
    let rules = rules(recording);
    let mut wrong = Vec::new();
    for case in &recording.cases {
        let ours = answer(case, &rules);
        if OWN_ANSWERS.contains(&(set, case.name.as_str())) {
            continue;
        }
        let theirs = expected(case);
        if ours != theirs {
            let show = |answer: &Option<(Vec<u8>, SocketAddrV4)>| match answer {
                Some((bytes, to)) => format!("{to} {}", hex(bytes)),
                None => "silence".to_owned(),
            };
            wrong.push(format!(
                "{}:\n  larder  {}\n  dnsmasq {}",
                case.name,
                show(&ours),
                show(&theirs)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ\n{}",
        wrong.len(),
        recording.cases.len(),
        wrong.join("\n")
    );
}

/// The file of an answer, and its server address.
fn file_and_server(bytes: &[u8]) -> (String, Ipv4Addr) {
    let file = bytes[108..236]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let server: [u8; 4] = bytes[20..24].try_into().expect("four bytes");
    (String::from_utf8_lossy(file).into_owned(), server.into())
}

#[test]
fn clients_without_a_line_get_larders_own_answer() {
    let recording = recording("seed");
    let rules = rules(&recording);
    let expected = [
        ("uefi discover", "snponly.efi"),
        ("uefi 4011 request", "snponly.efi"),
        ("uefi byte code discover", "snponly.efi"),
        ("arm64 discover", "arm64.efi"),
        ("uefi ipxe discover", "http://10.77.0.2:8080/boot.ipxe"),
        ("http client", "http://10.77.0.2:8080/boot/snponly.efi"),
    ];
    for (name, file) in expected {
        let case = recording
            .cases
            .iter()
            .find(|case| case.name == name)
            .unwrap();
        let (bytes, _) = answer(case, &rules).unwrap();
        assert_eq!(file_and_server(&bytes), (file.to_owned(), SERVER), "{name}");
    }
}

#[test]
fn the_seeds_words_answer_as_dnsmasq() {
    check("seed");
}

#[test]
fn uefi_services_answer_as_dnsmasq() {
    check("uefi");
}

#[test]
fn tags_and_boot_files_answer_as_dnsmasq() {
    check("boot");
}

#[test]
fn prompts_and_vendor_options_answer_as_dnsmasq() {
    check("prompt");
}

#[test]
fn a_prompt_alone_answers_as_dnsmasq() {
    check("prompt-only");
}

#[test]
fn a_boot_file_alone_keeps_silent_as_dnsmasq() {
    check("boot-only");
}

#[test]
fn large_menus_answer_as_dnsmasq() {
    check("large");
}

#[test]
fn servers_with_names_answer_as_dnsmasq() {
    check("named");
}

#[test]
fn odd_numbers_and_empty_names_answer_as_dnsmasq() {
    check("odd");
}

#[test]
fn subnets_and_relays_answer_as_dnsmasq() {
    check("subnets");
}

#[test]
fn the_range_0_0_0_0_is_that_of_the_link() {
    let mut recording = recording("seed");
    let words = recording.words.iter_mut();
    for range in words.filter(|word| word.starts_with("--dhcp-range=")) {
        "--dhcp-range=0.0.0.0,proxy".clone_into(range);
    }
    compare("seed", &recording);
}

#[test]
fn a_second_address_answers_as_dnsmasq() {
    check("second");
    check("both");
}

#[test]
fn interfaces_are_chosen_as_by_dnsmasq() {
    for set in ["listen-lo", "listen-both", "wild", "never", "except"] {
        check(set);
    }
}

#[test]
fn hosts_are_known_as_to_dnsmasq() {
    check("hosts");
    check("names");
}

#[test]
fn of_overlapping_ranges_the_one_is_taken_that_dnsmasq_takes() {
    check("overlap");
    check("overlap-turned");
}

#[test]
fn a_range_of_the_old_spelling_answers_as_dnsmasq() {
    check("range-net");
}

#[test]
fn values_at_their_forms_edge_are_sent_as_by_dnsmasq() {
    check("values");
}

#[test]
fn where_dnsmasq_gives_an_empty_answer_larder_gives_its_own() {
    let answered = |set: &str, name: &str| {
        let recording = recording(set);
        let rules = rules(&recording);
        let mut cases = recording.cases.iter();
        let case = cases.find(|case| case.name == name).unwrap();
        answer(case, &rules).map(|(bytes, _)| file_and_server(&bytes))
    };
    let other = answered("uefi", "architecture without any service");
    let odd = answered("odd", "a boot line without a file");
    let ours = |file: &str| Some((file.to_owned(), SERVER));
    assert_eq!(other, ours("http://10.77.0.2:8080/boot/ia32.efi"));
    assert_eq!(odd, ours("snponly.efi"));
}
