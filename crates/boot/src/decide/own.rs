//! Larder's own answers: the right program for each firmware, the script for iPXE, with no configuration.
//!
//! Measured on real firmware: a BIOS ROM and iPXE boot from an offer that holds server, file and option
//! 43 with discovery control 8, and ask no further. UEFI takes the same, or an offer without option 43
//! followed by its request on port 4011; some firmware understands only the latter, so that is the usual
//! way, and 4011 always answers. iPXE throws away a proxy's answer without a server address, so that one
//! is never left out. HTTP boot takes the URL from the offer alone.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use super::rules::{OfferStyle, OwnRules};
use super::{Arrival, Decision, Past, Port, Silence};
use crate::packet::architecture::{Architecture, Cpu, Transport};
use crate::packet::options::code;
use crate::packet::reply::{BROADCAST, Destination, FILE_SIZE, Reply};
use crate::packet::request::{Request, kind};
use crate::packet::vendor::{self, MenuItem, sub};

/// Type of the single item in larder's own menus.
const OWN_ITEM: u16 = 0x8000;

/// Text that the Raspberry Pi's boot ROM looks for.
const PI_TEXT: &[u8] = b"Raspberry Pi Boot";

/// Sub-option of option 82 by which a relay asks to stand as the server (RFC 5107).
const SERVER_ID_OVERRIDE: u8 = 11;

/// What a machine is to load.
struct Program {
    file: String,
    is_url: bool,
}

/// Decides by larder's own rules.
pub fn answer(
    request: &Request<'_>,
    arrival: &Arrival,
    rules: &OwnRules,
    past: &Past,
    now: SystemTime,
) -> Decision {
    let architecture = match screen(request, arrival.port) {
        Ok(architecture) => architecture,
        Err(reason) => return reason.into(),
    };
    if is_raspberry_pi(request, architecture) {
        return raspberry_pi(request, arrival, rules, architecture);
    }
    let program = match program(request, arrival, rules, architecture, past) {
        Ok(program) => program,
        Err(reason) => return reason.into(),
    };
    // Who still looks for servers has chosen nothing yet, whatever its options hold.
    let item = request.chosen_item();
    if let Some(item) = item.filter(|_| request.kind != kind::DISCOVER) {
        return chosen(request, arrival, &program, item.kind, item.layer);
    }
    let style = style(request, rules, architecture, past, now);
    offer(request, arrival, &program, style).into()
}

/// Lets through what a boot server may answer at all.
fn screen(request: &Request<'_>, port: Port) -> Result<Architecture, Silence> {
    let class = request.vendor_class();
    if !class.starts_with(b"PXEClient") && !class.starts_with(b"HTTPClient") {
        return Err(Silence::NotBooting);
    }
    let is_chosen = request.chosen_item().is_some();
    let is_ours = match (port, request.kind) {
        (Port::Dhcp, kind::DISCOVER) | (Port::BootServer, kind::REQUEST) => true,
        (Port::Dhcp, kind::REQUEST | kind::INFORM) | (Port::BootServer, kind::INFORM) => is_chosen,
        _ => false,
    };
    if !is_ours {
        return Err(Silence::OthersBusiness(request.kind));
    }
    request
        .options
        .find(code::ARCHITECTURE, 0)
        .ok_or(Silence::NoArchitecture)?;
    let architecture = request.architecture().or_else(|| from_class(class));
    architecture.ok_or(Silence::NoArchitecture)
}

/// The architecture that the vendor class tells (`PXEClient:Arch:00007:…`), for firmware whose option 93
/// is malformed. Without any option 93 there is no answer.
fn from_class(class: &[u8]) -> Option<Architecture> {
    let text = std::str::from_utf8(class).ok()?;
    let (_, rest) = text.split_once(":Arch:")?;
    rest.get(..5)?.parse().ok().map(Architecture)
}

fn is_raspberry_pi(request: &Request<'_>, architecture: Architecture) -> bool {
    let is_pi_code = architecture.platform() == Some((Cpu::RaspberryPi, Transport::Tftp));
    is_pi_code || (architecture.0 == 0 && request.hardware.is_raspberry_pi())
}

/// What the machine is to load: the script if it is a good iPXE already, else the program that is.
fn program(
    request: &Request<'_>,
    arrival: &Arrival,
    rules: &OwnRules,
    architecture: Architecture,
    past: &Past,
) -> Result<Program, Silence> {
    let (cpu, transport) = architecture
        .platform()
        .ok_or(Silence::UnknownArchitecture(architecture))?;
    let here = arrival.interface.address;
    let file = match cpu {
        Cpu::Bios if request.is_ipxe() => rules
            .programs
            .bios_with_drivers
            .as_ref()
            .or_else(|| rules.programs.by_cpu.get(&cpu)),
        _ => rules.programs.by_cpu.get(&cpu),
    };
    let is_uefi = cpu != Cpu::Bios;
    let does_enough = request
        .features()
        .is_some_and(|features| features.suffice(is_uefi));
    // An iPXE that can do too little gets a better one, but not over and over: if that does not come to
    // run, the script at least says on the screen what is wrong.
    let goes_on = does_enough
        || file.is_none()
        || rules.script.is_some()
        || rules.lacks_tftp
        || past.is_looping();
    if request.is_ipxe() && goes_on {
        let script = rules
            .script_url(here)
            .ok_or(Silence::NoLoader(architecture))?;
        return Ok(Program {
            file: script,
            is_url: true,
        });
    }
    let file = file.ok_or(Silence::NoLoader(architecture))?;
    // Firmware may name an architecture of TFTP and yet say that it boots by HTTP: a bare name is nothing
    // that it could fetch.
    let is_http = request.vendor_class().starts_with(b"HTTPClient");
    match transport {
        Transport::Tftp if is_http => by_http(rules, here, file, architecture),
        Transport::Http => by_http(rules, here, file, architecture),
        Transport::Tftp if rules.lacks_tftp => Err(Silence::NoLoader(architecture)),
        Transport::Tftp if request.relay.is_unspecified() => Ok(Program {
            file: file.clone(),
            is_url: false,
        }),
        // Behind a relay nothing but the name ties a transfer to its machine.
        Transport::Tftp => Ok(Program {
            file: format!("{}/{file}", request.hardware),
            is_url: false,
        }),
    }
}

/// A program of the boot root by its URL.
fn by_http(
    rules: &OwnRules,
    here: Ipv4Addr,
    file: &str,
    architecture: Architecture,
) -> Result<Program, Silence> {
    let url = rules.url(here, &format!("boot/{file}"));
    url.map(|file| Program { file, is_url: true })
        .ok_or(Silence::NoLoader(architecture))
}

/// The offer style: what is configured for the machine, else what its kind of firmware understands best.
fn style(
    request: &Request<'_>,
    rules: &OwnRules,
    architecture: Architecture,
    past: &Past,
    now: SystemTime,
) -> OfferStyle {
    use OfferStyle::{BootServer, Direct, Menu};
    if let Some(style) = rules.styles.get(&request.hardware) {
        return *style;
    }
    let is_http = request.vendor_class().starts_with(b"HTTPClient");
    let alternatives: &[OfferStyle] = match architecture {
        _ if is_http || request.is_ipxe() => &[Direct],
        code if code >= Architecture::FIRST_UEFI => &[BootServer, Direct, Menu],
        _ => &[Direct, Menu],
    };
    past.style(alternatives, now).unwrap_or(Direct)
}

/// The offer on port 67, or the acknowledgement of a plain request on port 4011.
fn offer(request: &Request<'_>, arrival: &Arrival, program: &Program, style: OfferStyle) -> Reply {
    let mut reply = blank(request, arrival);
    if request.vendor_class().starts_with(b"HTTPClient") {
        set_file(&mut reply, program);
        return reply;
    }
    match style {
        OfferStyle::Menu if arrival.port == Port::Dhcp => {
            push_menu(
                &mut reply,
                OWN_ITEM,
                b"Boot from larder",
                Some(arrival.interface.address),
            );
        }
        OfferStyle::Direct => {
            set_file(&mut reply, program);
            push_vendor(
                &mut reply,
                &[(sub::DISCOVERY_CONTROL, vec![vendor::USE_FILE_NAME])],
            );
        }
        OfferStyle::Menu | OfferStyle::BootServer => set_file(&mut reply, program),
    }
    reply
}

/// The acknowledgement of a menu item.
fn chosen(
    request: &Request<'_>,
    arrival: &Arrival,
    program: &Program,
    kind: u16,
    layer: u16,
) -> Decision {
    if layer & 0x8000 != 0 {
        return Silence::CredentialsAsked.into();
    }
    if kind != OWN_ITEM {
        return Silence::UnknownItem(kind).into();
    }
    let mut reply = blank(request, arrival);
    set_file(&mut reply, program);
    reply.your_address = request.client_address;
    reply.client_address = Ipv4Addr::UNSPECIFIED;
    reply.flags = request.flags;
    let mut item = kind.to_be_bytes().to_vec();
    item.extend(layer.to_be_bytes());
    push_vendor(&mut reply, &[(sub::ITEM, item)]);
    reply.into()
}

/// The Raspberry Pi's ROM wants a menu with its own text and then loads its files by TFTP by itself.
fn raspberry_pi(
    request: &Request<'_>,
    arrival: &Arrival,
    rules: &OwnRules,
    architecture: Architecture,
) -> Decision {
    if !rules.has_pi_files {
        return Silence::NoLoader(architecture).into();
    }
    let mut reply = blank(request, arrival);
    push_menu(&mut reply, 0, PI_TEXT, None);
    reply.into()
}

/// A reply with what all have in common: server, vendor class, the machine's identifier.
fn blank(request: &Request<'_>, arrival: &Arrival) -> Reply {
    let here = arrival.interface.address;
    let is_discover = request.kind == kind::DISCOVER;
    let client_address = if is_discover {
        Ipv4Addr::UNSPECIFIED
    } else {
        request.client_address
    };
    let broadcast = if client_address.is_unspecified() {
        BROADCAST
    } else {
        0
    };
    let class: &[u8] = if request.vendor_class().starts_with(b"HTTPClient") {
        b"HTTPClient"
    } else {
        b"PXEClient"
    };
    let server = request
        .relay_sub_address(SERVER_ID_OVERRIDE)
        .unwrap_or(here);
    let mut options = vec![
        (code::SERVER_ID, server.octets().to_vec()),
        (code::VENDOR_CLASS, class.to_vec()),
    ];
    if let Some(id) = request.machine_id() {
        options.push((code::MACHINE_ID, id.to_vec()));
    }
    Reply {
        kind: if is_discover { kind::OFFER } else { kind::ACK },
        flags: request.flags | broadcast,
        client_address,
        your_address: Ipv4Addr::UNSPECIFIED,
        next_server: here,
        server_name: here.to_string().into_bytes(),
        file: Vec::new(),
        options,
        to: destination(request, arrival),
    }
}

/// Where an answer goes: back to the asking socket on 4011, to the relay, else to everyone on the link.
/// The address that a request claims to have is never sent to: it may be a third host's.
pub fn destination(request: &Request<'_>, arrival: &Arrival) -> Destination {
    match arrival.port {
        Port::BootServer => Destination::Socket(arrival.from),
        Port::Dhcp if !request.relay.is_unspecified() => Destination::Relay(request.relay),
        Port::Dhcp => Destination::Broadcast,
    }
}

/// Puts the program into the `file` field, or into option 67 if it is too long for that.
fn set_file(reply: &mut Reply, program: &Program) {
    let file = program.file.as_bytes();
    if file.len() < FILE_SIZE {
        reply.file = file.to_vec();
    } else {
        reply.options.push((code::BOOT_FILE, file.to_vec()));
    }
    if program.is_url {
        // A server name beside a URL only invites firmware to look for it by TFTP.
        reply.server_name.clear();
    }
}

fn push_menu(reply: &mut Reply, kind: u16, text: &[u8], server: Option<Ipv4Addr>) {
    let Some(menu) = vendor::menu(std::iter::once(MenuItem { kind, text, server })) else {
        return;
    };
    let mut subs = vec![
        (sub::DISCOVERY_CONTROL, vec![menu.discovery_control]),
        (sub::PROMPT, b"\0PXE".to_vec()),
    ];
    if !menu.servers.is_empty() {
        subs.push((sub::BOOT_SERVERS, menu.servers));
    }
    subs.push((sub::MENU, menu.items));
    push_vendor(reply, &subs);
}

fn push_vendor(reply: &mut Reply, subs: &[(u8, Vec<u8>)]) {
    let values = vendor::encapsulate(subs);
    reply.options.extend(
        values
            .into_iter()
            .map(|value| (code::VENDOR_SPECIFIC, value)),
    );
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
