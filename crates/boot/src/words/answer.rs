//! Answers as dnsmasq 2.90 does in proxy mode, byte for byte, with a closed list of exceptions.
//!
//! The exceptions: a client that dnsmasq's rules give nothing to boot from (UEFI and HTTP clients without
//! a line for them, an iPXE without a script) gets larder's own answer, and the server address is never
//! zero beside a file, since iPXE throws such an answer away. And answers from port 4011 go to where the question
//! came from, even if its `ciaddr` is another's, to whom dnsmasq would send them. `dhcp-range=0.0.0.0,proxy`, which
//! dnsmasq takes and answers nobody for, stands for the link's own subnet.
//!
//! What may surprise and is kept: BIOS offers hold a menu and no file; UEFI offers hold nothing and send
//! the client to port 4011; a chosen item is served whatever its tags; of several `dhcp-boot` lines that
//! fit, the last one counts; a bare file name gets `.0`, or `.LAYER` for a chosen item.

use std::net::Ipv4Addr;

use super::rules::{Boot, Range, Rules, SentOption, Server, Service};
use super::tags::{self, Tags, hold};
use crate::decide::own::destination;
use crate::decide::{Arrival, Port, Silence};
use crate::packet::architecture::Architecture;
use crate::packet::options::code;
use crate::packet::reply::{BROADCAST, Destination, FILE_SIZE, Reply, SNAME_SIZE};
use crate::packet::request::{ChosenItem, Request, kind};
use crate::packet::vendor::{self, MenuItem, sub};

/// Sub-option of option 82 by which a relay names the client's subnet (RFC 3527).
const LINK_SELECTION: u8 = 5;

/// What the words make of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// dnsmasq's reply.
    Reply(Box<Reply>),
    /// dnsmasq's silence.
    Silence(Silence),
    /// dnsmasq would answer without anything to boot from, or not know this kind of client.
    Empty {
        /// The script that the words give to iPXE, whatever its architecture.
        script: Option<String>,
    },
}

/// Answers by the words.
pub fn answer(request: &Request<'_>, arrival: &Arrival, rules: &Rules) -> Answer {
    let (mut client, tags) = match Client::of(request, arrival, rules) {
        Ok(client) => client,
        Err(answer) => return answer,
    };
    match request.chosen_item() {
        Some(item) if matches!(request.kind, kind::REQUEST | kind::INFORM) => {
            client.chosen(item, &tags)
        }
        _ => client.proxied(tags),
    }
}

/// The URL that an iPXE which asks this way is given; none where it is given none, or chooses from a menu.
pub(super) fn given_url(request: &Request<'_>, arrival: &Arrival, rules: &Rules) -> Option<String> {
    let (mut client, tags) = Client::of(request, arrival, rules).ok()?;
    let tags = client.with_range(tags)?;
    let mut services = client.services(client.architecture()?, &tags);
    match (services.next(), services.next()) {
        (Some(only), None) => only.file.clone().filter(|file| is_url(file)),
        (Some(_), Some(_)) => None,
        (None, _) => match boot(rules, &tags) {
            Some(boot) => Some(boot.file.clone()).filter(|file| is_url(file)),
            None => script(rules, &tags),
        },
    }
}

pub(super) fn is_url(file: &str) -> bool {
    file.contains("://")
}

fn empty(request: &Request<'_>, rules: &Rules, tags: &Tags) -> Answer {
    Answer::Empty {
        script: request.is_ipxe().then(|| script(rules, tags)).flatten(),
    }
}

/// The URL that the words give to iPXE under these tags: of a service of any architecture, or a boot file.
fn script(rules: &Rules, tags: &Tags) -> Option<String> {
    let service = rules
        .services
        .iter()
        .filter(|service| hold(&service.conditions, tags, true));
    let by_service = service
        .filter_map(|service| service.file.as_deref())
        .find(|file| is_url(file));
    let by_boot = || {
        let file = boot(rules, tags).map(|boot| boot.file.as_str());
        file.filter(|file| is_url(file))
    };
    by_service.or_else(by_boot).map(str::to_owned)
}

/// The boot line for these tags: the last whose tags all hold, else the last without tags.
fn boot<'r>(rules: &'r Rules, tags: &Tags) -> Option<&'r Boot> {
    let last = |untagged| {
        rules
            .boots
            .iter()
            .rev()
            .find(|boot| hold(&boot.conditions, tags, untagged))
    };
    last(false).or_else(|| last(true))
}

/// A range that the client may belong to, with its mask settled and this host's address for it.
#[derive(Debug, Clone, Copy)]
struct Subnet<'r> {
    range: &'r Range,
    mask: Ipv4Addr,
    here: Ipv4Addr,
}

impl Subnet<'_> {
    /// The range 0.0.0.0 is that of the link.
    fn holds(&self, address: Ipv4Addr) -> bool {
        let network = Some(self.range.network).filter(|network| !network.is_unspecified());
        let network = network.unwrap_or(self.here);
        let mask = self.mask.to_bits();
        address.to_bits() & mask == network.to_bits() & mask
    }
}

/// The subnets of the client: by a relay's or its own word, else those of the interface.
fn ranges<'r>(request: &Request<'_>, arrival: &Arrival, rules: &'r Rules) -> Vec<Subnet<'r>> {
    let local = local_ranges(arrival, rules);
    let link = request
        .relay_sub_address(LINK_SELECTION)
        .filter(|link| !link.is_unspecified());
    let link = link
        .or_else(|| request.address_option(code::SUBNET))
        .filter(|link| !link.is_unspecified());
    let relay = Some(request.relay).filter(|relay| !relay.is_unspecified());
    let own = Some(client_address(request)).filter(|own| !own.is_unspecified());
    let Some(address) = link.or(relay).or(own) else {
        return local;
    };
    let is_forced = link.or(relay).is_some();
    if !is_forced && local.iter().any(|subnet| subnet.holds(address)) {
        return local;
    }
    let remote: Vec<Subnet<'_>> = rules
        .ranges
        .iter()
        .map(|range| {
            let known = local.iter().find(|own| std::ptr::eq(own.range, range));
            Subnet {
                range,
                mask: settled_mask(range, arrival),
                here: known.map_or(arrival.interface.address, |own| own.here),
            }
        })
        .filter(|subnet| subnet.holds(address))
        .collect();
    if remote.is_empty() && !is_forced {
        local
    } else {
        remote
    }
}

/// The ranges that hold an address of the interface, each by the first that it holds. Within an address they
/// keep their order; those of a later address stand in front, as dnsmasq links them.
fn local_ranges<'r>(arrival: &Arrival, rules: &'r Rules) -> Vec<Subnet<'r>> {
    let mut local: Vec<Subnet<'r>> = Vec::new();
    for (here, mask) in arrival.interface.networks() {
        let is_new = |range: &&Range| !local.iter().any(|own| std::ptr::eq(own.range, *range));
        let new = rules.ranges.iter().filter(is_new).map(|range| Subnet {
            range,
            mask: range.mask.unwrap_or(mask),
            here,
        });
        let holds = |subnet: &Subnet<'_>| subnet.holds(here);
        let mut linked: Vec<Subnet<'r>> = new.filter(holds).collect();
        linked.append(&mut local);
        local = linked;
    }
    local
}

/// The mask of a range: its own, the interface's if that holds the network, else its class' (RFC 791).
fn settled_mask(range: &Range, arrival: &Arrival) -> Ipv4Addr {
    let mut own = arrival.interface.networks();
    let local = own.find(|(here, mask)| {
        let (mask, here) = (*mask, *here);
        Subnet { range, mask, here }.holds(here)
    });
    match (
        range.mask.or(local.map(|(_, mask)| mask)),
        range.network.octets(),
    ) {
        (Some(mask), _) => mask,
        (None, [0..128, ..]) => Ipv4Addr::new(255, 0, 0, 0),
        (None, [128..192, ..]) => Ipv4Addr::new(255, 255, 0, 0),
        (None, _) => Ipv4Addr::new(255, 255, 255, 0),
    }
}

/// The client's address as far as dnsmasq believes it: not in a DISCOVER, not beside a requested address.
fn client_address(request: &Request<'_>) -> Ipv4Addr {
    let asks_for_one = request.address_option(code::REQUESTED_ADDRESS).is_some();
    if asks_for_one || request.kind == kind::DISCOVER {
        Ipv4Addr::UNSPECIFIED
    } else {
        request.client_address
    }
}

struct Client<'a> {
    request: &'a Request<'a>,
    arrival: &'a Arrival,
    rules: &'a Rules,
    ranges: Vec<Subnet<'a>>,
    vendor: &'a str,
    /// The server's own address on the client's subnet, which answers name as the server.
    here: Ipv4Addr,
}

impl<'a> Client<'a> {
    /// The client with its tags, unless the words keep silent or say nothing of its kind.
    fn of(
        request: &'a Request<'a>,
        arrival: &'a Arrival,
        rules: &'a Rules,
    ) -> Result<(Self, Tags), Answer> {
        if !rules.is_pxe {
            return Err(Answer::Silence(Silence::NoService));
        }
        let ranges = ranges(request, arrival, rules);
        let is_here = |address| ranges.iter().any(|subnet| subnet.holds(address));
        let tags = tags::of(request, &arrival.interface, rules, &is_here);
        if rules.ignored.iter().any(|list| hold(list, &tags, false)) {
            return Err(Answer::Silence(Silence::Ignored));
        }
        if ranges.is_empty() {
            return Err(Answer::Silence(Silence::NoSubnet));
        }
        let class = request.vendor_class();
        let vendor = rules
            .pxe_vendors()
            .find(|vendor| class.starts_with(vendor.as_bytes()));
        let Some(vendor) = vendor else {
            return Err(if class.starts_with(b"HTTPClient") {
                empty(request, rules, &tags)
            } else {
                Answer::Silence(Silence::NotBooting)
            });
        };
        let client = Self {
            request,
            arrival,
            rules,
            ranges,
            vendor,
            here: arrival.interface.address,
        };
        Ok((client, tags))
    }

    fn architecture(&self) -> Option<u16> {
        let option = self.request.options.find(code::ARCHITECTURE, 2)?;
        crate::packet::options::u16_at_start(option)
    }

    /// Settles the client's range, and gives the tags with that of it; none if no range is for it.
    fn with_range(&mut self, mut tags: Tags) -> Option<Tags> {
        let fits = |subnet: &&Subnet<'_>| hold(&subnet.range.conditions, &tags, true);
        let Subnet { range, here, .. } = *self.ranges.iter().find(fits)?;
        self.here = here;
        if let Some(tag) = &range.sets {
            tags.insert(tag.clone());
            tags = tags::derived(tags, self.rules);
        }
        Some(tags)
    }

    /// The acknowledgement of a menu item; the item's tags are not asked again.
    fn chosen(&mut self, item: ChosenItem, tags: &Tags) -> Answer {
        if item.layer & 0x8000 != 0 {
            return Answer::Silence(Silence::CredentialsAsked);
        }
        let service = self
            .rules
            .services
            .iter()
            .find(|service| service.kind == item.kind);
        let Some((service, file)) =
            service.and_then(|service| Some((service, service.file.as_ref()?)))
        else {
            return Answer::Silence(Silence::UnknownItem(item.kind));
        };
        let address = client_address(self.request);
        let holds = |subnet: &Subnet<'_>| {
            hold(&subnet.range.conditions, tags, true) && subnet.holds(address)
        };
        let Some(subnet) = self.ranges.iter().copied().find(holds) else {
            return Answer::Silence(Silence::NoSubnet);
        };
        self.here = subnet.here;
        let mut reply = self.blank(kind::ACK);
        reply.flags = self.request.flags;
        reply.your_address = address;
        reply.next_server = service.address().unwrap_or(self.here);
        reply.file = with_suffix(file, item.layer);
        let mut chosen = item.kind.to_be_bytes().to_vec();
        chosen.extend(item.layer.to_be_bytes());
        self.push_vendor(&mut reply, vec![(sub::ITEM, chosen)], tags);
        self.push_pxe_options(&mut reply, tags);
        reply.to = match self.arrival.port {
            Port::BootServer => Destination::Socket(self.arrival.from),
            Port::Dhcp if !self.request.relay.is_unspecified() => {
                Destination::Relay(self.request.relay)
            }
            Port::Dhcp if reply.flags & BROADCAST != 0 => Destination::Broadcast,
            Port::Dhcp => Destination::Socket(std::net::SocketAddrV4::new(address, 68)),
        };
        Answer::Reply(Box::new(reply))
    }

    /// The offer on port 67 or the plain answer on port 4011.
    fn proxied(&mut self, tags: Tags) -> Answer {
        let is_discover = self.request.kind == kind::DISCOVER;
        let is_boot_server = self.arrival.port == Port::BootServer;
        if !(is_discover || (is_boot_server && self.request.kind == kind::REQUEST)) {
            return Answer::Silence(Silence::OthersBusiness(self.request.kind));
        }
        let Some(architecture) = self.architecture() else {
            return Answer::Silence(Silence::NoArchitecture);
        };
        let Some(tags) = self.with_range(tags) else {
            return Answer::Silence(Silence::NoSubnet);
        };
        if !self.has_something(architecture, &tags) {
            return empty(self.request, self.rules, &tags);
        }
        Answer::Reply(Box::new(self.offer(architecture, &tags)))
    }

    /// Services of this architecture under these tags.
    fn services<'s>(
        &'s self,
        architecture: u16,
        tags: &'s Tags,
    ) -> impl Iterator<Item = &'s Service> {
        let fits = move |service: &&Service| {
            service.architecture == architecture && hold(&service.conditions, tags, true)
        };
        self.rules.services.iter().filter(fits)
    }

    /// Tells whether dnsmasq's answers, on both ports together, lead anywhere. A BIOS machine's empty
    /// answer is kept; an iPXE's and UEFI firmware's are replaced.
    fn has_something(&self, architecture: u16, tags: &Tags) -> bool {
        let is_bios = architecture < Architecture::FIRST_UEFI.0;
        (is_bios && !self.request.is_ipxe())
            || boot(self.rules, tags).is_some_and(|boot| !boot.file.is_empty())
            || self.services(architecture, tags).next().is_some()
    }

    /// The single service with a file, for which UEFI firmware is spared the menu.
    fn only_service<'s>(&'s self, architecture: u16, tags: &'s Tags) -> Option<&'s Service> {
        let mut with_file = self
            .services(architecture, tags)
            .filter(|service| service.file.is_some());
        let first = with_file.next()?;
        (architecture >= Architecture::FIRST_UEFI.0 && with_file.next().is_none()).then_some(first)
    }

    fn offer(&self, architecture: u16, tags: &Tags) -> Reply {
        let is_boot_server = self.arrival.port == Port::BootServer;
        let is_uefi = architecture >= Architecture::FIRST_UEFI.0;
        let is_discover = self.request.kind == kind::DISCOVER;
        let mut reply = self.blank(if is_discover { kind::OFFER } else { kind::ACK });
        reply.client_address = client_address(self.request);
        reply.flags = self.request.flags;
        if reply.client_address.is_unspecified() {
            reply.flags |= BROADCAST;
        }
        reply.next_server = if is_uefi {
            self.here
        } else {
            Ipv4Addr::UNSPECIFIED
        };
        let only = self.only_service(architecture, tags);
        match only {
            Some(service) if is_boot_server => {
                reply.next_server = service.address().unwrap_or(self.here);
                let name = service.server.as_ref().and_then(Server::name);
                let name = name.map_or_else(|| reply.next_server.to_string(), str::to_owned);
                reply.server_name = cut(name.as_bytes(), SNAME_SIZE);
                reply.file = service
                    .file
                    .as_deref()
                    .map(|file| with_suffix(file, 0))
                    .unwrap_or_default();
            }
            Some(_) => {}
            None => self.set_boot_file(&mut reply, tags),
        }
        if (is_boot_server && only.is_none()) || !is_uefi {
            let subs = self.menu(architecture, tags);
            self.push_vendor(&mut reply, subs, tags);
        }
        self.push_pxe_options(&mut reply, tags);
        reply.to = destination(self.request, self.arrival);
        reply
    }

    fn set_boot_file(&self, reply: &mut Reply, tags: &Tags) {
        let Some(boot) = boot(self.rules, tags) else {
            return;
        };
        reply.file = cut(boot.file.as_bytes(), FILE_SIZE);
        if let Some(server) = boot.server.as_ref().and_then(Server::address) {
            reply.next_server = server;
        } else if reply.next_server.is_unspecified() && !reply.file.is_empty() {
            // The closed list: dnsmasq leaves zero here, and iPXE then ignores the whole answer.
            reply.next_server = self.here;
        }
    }

    /// Discovery control, prompt, boot servers and menu; nothing if the menu is too large.
    fn menu(&self, architecture: u16, tags: &Tags) -> Vec<(u8, Vec<u8>)> {
        let item = |service: &Service| {
            let server = match (&service.file, service.address()) {
                (Some(_), _) => Some(self.here),
                (None, server) => server,
            };
            (service.kind, service.text.clone().into_bytes(), server)
        };
        let items: Vec<_> = self.services(architecture, tags).map(item).collect();
        let menu = vendor::menu(items.iter().map(|(kind, text, server)| MenuItem {
            kind: *kind,
            text,
            server: *server,
        }));
        let Some(menu) = menu else { return Vec::new() };
        let mut subs = vec![(sub::DISCOVERY_CONTROL, vec![menu.discovery_control])];
        if !self
            .vendor_options(tags)
            .any(|option| option.code == sub::PROMPT)
        {
            let wait = if menu.count > 1 { 255 } else { 0 };
            subs.push((sub::PROMPT, vec![wait, b'P', b'X', b'E']));
        }
        if !menu.servers.is_empty() {
            subs.push((sub::BOOT_SERVERS, menu.servers));
        }
        if menu.count > 0 {
            subs.push((sub::MENU, menu.items));
        }
        subs
    }

    /// Options for inside option 43 that the client's vendor class and tags select, the last word first.
    fn vendor_options<'s>(&'s self, tags: &'s Tags) -> impl Iterator<Item = &'s SentOption> {
        let class = self.request.vendor_class();
        let contains = move |part: &str| {
            part.is_empty()
                || class
                    .windows(part.len())
                    .any(|window| window == part.as_bytes())
        };
        let fits = move |option: &&SentOption| {
            let is_vendor = match &option.vendor {
                Some(vendor) => contains(vendor),
                None => self.rules.pxe_vendors().any(contains),
            };
            is_vendor && hold(&option.conditions, tags, true)
        };
        self.rules.vendor_options.iter().rev().filter(fits)
    }

    fn push_vendor(&self, reply: &mut Reply, mut subs: Vec<(u8, Vec<u8>)>, tags: &Tags) {
        subs.extend(
            self.vendor_options(tags)
                .map(|option| (option.code, option.value.clone())),
        );
        let values = vendor::encapsulate(&subs);
        reply.options.extend(
            values
                .into_iter()
                .map(|value| (code::VENDOR_SPECIFIC, value)),
        );
    }

    fn push_pxe_options(&self, reply: &mut Reply, tags: &Tags) {
        let fitting = self
            .rules
            .pxe_options
            .iter()
            .filter(|option| hold(&option.conditions, tags, true));
        reply
            .options
            .extend(fitting.map(|option| (option.code, option.value.clone())));
    }

    /// A reply with the options that all have.
    fn blank(&self, kind: u8) -> Reply {
        let mut options = vec![
            (code::SERVER_ID, self.here.octets().to_vec()),
            (code::VENDOR_CLASS, self.vendor.as_bytes().to_vec()),
        ];
        if let Some(id) = self.request.machine_id() {
            options.push((code::MACHINE_ID, id.to_vec()));
        }
        Reply {
            kind,
            flags: 0,
            client_address: Ipv4Addr::UNSPECIFIED,
            your_address: Ipv4Addr::UNSPECIFIED,
            next_server: Ipv4Addr::UNSPECIFIED,
            server_name: Vec::new(),
            file: Vec::new(),
            options,
            to: Destination::Broadcast,
        }
    }
}

/// A file name with a dot as it is, another with the layer appended.
fn with_suffix(file: &str, layer: u16) -> Vec<u8> {
    let name = if file.contains('.') {
        file.to_owned()
    } else {
        format!("{file}.{layer}")
    };
    cut(name.as_bytes(), FILE_SIZE)
}

fn cut(text: &[u8], size: usize) -> Vec<u8> {
    text.iter().copied().take(size - 1).collect()
}
