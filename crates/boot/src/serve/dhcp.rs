//! Ports 67 and 4011: receives, decides, answers and remembers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::SystemTime;

use super::core::Core;
use super::supervise::Complaint;
use crate::decide::{AnswerKind, Arrival, Decision, OfferStyle, Port, Silence, decide};
use crate::net::raw::{RawSocket, RoutedSocket, datagram};
use crate::net::udp::PortSocket;
use crate::packet::reply::{Destination, Reply};
use crate::packet::request::Request;
use crate::timeline::{Step, Traits};
use crate::words;

/// Longest datagram that is read; a longer one is cut and then judged as it is.
const DATAGRAM_MAX: usize = 4096;

/// Port of DHCP clients, and of servers and relays.
const CLIENT_PORT: u16 = 68;

/// Serves a UDP port until it is dropped.
pub(super) async fn serve(socket: Arc<PortSocket>, port: Port, core: Arc<Core>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut complaint = Complaint::default();
    loop {
        let (length, way) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                complaint.cannot_receive(port.as_str(), &error).await;
                continue;
            }
        };
        let Some(interface) = core.interface(way.interface) else {
            continue;
        };
        // A machine at the boot server's port asks the very address that an offer named.
        let interface = match port {
            Port::BootServer => interface.at(way.to),
            Port::Dhcp => interface,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let arrival = Arrival {
            port,
            interface,
            from: way.from,
        };
        let Some((packet, to)) = answer(&core, bytes, &arrival) else {
            continue;
        };
        let (index, source) = (arrival.interface.index, arrival.interface.address);
        let sent = socket
            .send(&packet, socket_of(to, &core), index, source)
            .await;
        if let Err(error) = sent {
            complaint.cannot_send(&arrival.interface.name, &error);
        }
    }
}

/// Serves port 67 by raw frames on one interface, until it is dropped. Answers to relays, which need the
/// kernel's routing, go out by `routed`.
pub(super) async fn serve_raw(
    socket: Arc<RawSocket>,
    index: u32,
    routed: Arc<RoutedSocket>,
    core: Arc<Core>,
) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut complaint = Complaint::default();
    loop {
        let length = match socket.receive(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                complaint.cannot_receive(Port::Dhcp.as_str(), &error).await;
                continue;
            }
        };
        let datagram = datagram(buffer.get(..length).unwrap_or_default());
        let (Some(datagram), Some(interface)) = (datagram, core.interface(index)) else {
            continue;
        };
        // On a link that others share, a frame may be on its way to somebody else.
        if !interface.is_for_us(*datagram.to.ip()) {
            continue;
        }
        let arrival = Arrival {
            port: Port::Dhcp,
            interface: interface.clone(),
            from: datagram.from,
        };
        let Some((packet, to)) = answer(&core, datagram.payload, &arrival) else {
            continue;
        };
        let to_socket = socket_of(to, &core);
        let source = SocketAddrV4::new(interface.address, core.config.ports.dhcp);
        let sent = match to {
            Destination::Broadcast => socket.broadcast(&packet, source, to_socket).await,
            Destination::Relay(_) | Destination::Socket(_) => {
                routed.send(&packet, source, to_socket)
            }
        };
        if let Err(error) = sent {
            complaint.cannot_send(&interface.name, &error);
        }
    }
}

fn socket_of(to: Destination, core: &Core) -> SocketAddrV4 {
    match to {
        Destination::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT),
        Destination::Relay(relay) => SocketAddrV4::new(relay, core.config.ports.dhcp),
        Destination::Socket(socket) => socket,
    }
}

/// Decides on a datagram and remembers what came of it.
fn answer(core: &Core, bytes: &[u8], arrival: &Arrival) -> Option<(Vec<u8>, Destination)> {
    let now = SystemTime::now();
    let request = match Request::parse(bytes) {
        Ok(request) => request,
        Err(reason) => {
            core.count_silence(Silence::from(reason).as_str());
            return None;
        }
    };
    let past = core.timeline.past(request.hardware);
    match decide(&request, arrival, &core.rules, &past, now) {
        Decision::Reply(reply) => {
            remember(core, &request, arrival, &reply, now);
            if let Some(words) = &core.rules.words {
                let script = words::script::given(bytes, arrival, words);
                core.timeline.gave(request.hardware, script, now);
            }
            Some((reply.encode(&request), reply.to))
        }
        Decision::Silence(reason) => {
            core.count_silence(reason.as_str());
            if reason.is_notable() {
                introduce(core, &request, now);
                core.timeline
                    .record(request.hardware, Step::Silence, reason.to_string(), now);
            }
            None
        }
    }
}

fn introduce(core: &Core, request: &Request<'_>, now: SystemTime) {
    let class = String::from_utf8_lossy(request.vendor_class());
    let vendor = class.split(':').next().unwrap_or_default();
    let vendor = if request.is_ipxe() {
        format!("{vendor} (iPXE)")
    } else {
        vendor.to_owned()
    };
    let traits = Traits {
        uuid: request.machine_id().map(|id| uuid(&id)),
        architecture: request
            .architecture()
            .map(|architecture| architecture.to_string()),
        vendor: Some(
            vendor
                .chars()
                .filter(|c| !c.is_control())
                .take(64)
                .collect(),
        ),
        address: Some(request.client_address)
            .filter(|own| !own.is_unspecified())
            .map(Into::into),
    };
    core.timeline.learn(request.hardware, traits, now);
}

/// The UUID of option 97 in the usual spelling; firmware sends its first three fields little-endian.
fn uuid(id: &[u8; 17]) -> String {
    let (_kind, fields) = id.split_at(1);
    let (time_low, rest) = fields.split_at(4);
    let (time_mid, rest) = rest.split_at(2);
    let (time_high, rest) = rest.split_at(2);
    let (clock, node) = rest.split_at(2);
    let field = |bytes: &mut dyn Iterator<Item = &u8>| {
        bytes.fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    let little = |bytes: &[u8]| field(&mut bytes.iter().rev());
    let big = |bytes: &[u8]| field(&mut bytes.iter());
    [
        little(time_low),
        little(time_mid),
        little(time_high),
        big(clock),
        big(node),
    ]
    .join("-")
}

fn remember(core: &Core, request: &Request<'_>, arrival: &Arrival, reply: &Reply, now: SystemTime) {
    introduce(core, request, now);
    let kind = AnswerKind::of(reply);
    core.count_reply(kind.as_str());
    let mac = request.hardware;
    let file = String::from_utf8_lossy(&reply.file).into_owned();
    let detail = format!("{} {file}", kind.as_str());
    match arrival.port {
        Port::BootServer => {
            core.timeline.followed(mac, now);
            core.timeline.record(mac, Step::BootServer, detail, now);
        }
        Port::Dhcp => {
            let before = core.timeline.past(mac).rounds_unfollowed;
            let style = (!request.is_ipxe()).then(|| style(reply, kind));
            core.timeline.offered(mac, request.transaction, style, now);
            core.timeline.record(mac, Step::Offer, detail, now);
            let rounds = core.timeline.past(mac).rounds_unfollowed;
            if rounds > before && rounds.is_multiple_of(crate::decide::past::ROUNDS_PER_STYLE) {
                let detail =
                    format!("{rounds} offers in a row were not followed; another style comes next");
                core.timeline.record(mac, Step::Unfollowed, detail, now);
            }
        }
    }
}

fn style(reply: &Reply, kind: AnswerKind) -> OfferStyle {
    use crate::packet::options::code::VENDOR_SPECIFIC;
    match kind {
        AnswerKind::Menu => OfferStyle::Menu,
        _ if reply.option(VENDOR_SPECIFIC).is_some() => OfferStyle::Direct,
        _ => OfferStyle::BootServer,
    }
}
