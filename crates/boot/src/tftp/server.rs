//! Moves TFTP's datagrams: one task and one socket a transfer, all bounded.
//!
//! A transfer answers from the address that its request came to, on a port of its own (RFC 1350 §4). A
//! datagram from anyone else gets error 5 and leaves the transfer alone. The same request again while the
//! first answer is on its way goes to the running transfer instead of starting a second one; another
//! request from the same socket ends that transfer and starts its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::UdpSocket;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::files::{self, Content, Name, NoFile};
use super::packet::{self, ErrorCode, Incoming, ReadRequest};
use super::transfer::{Bounds, End, Step, Transfer, settle};
use crate::disk::Lane;
use crate::net::udp::{self, PortSocket, Way};
use crate::packet::hardware::HardwareAddress;
use crate::serve::core::Core;
use crate::serve::shares::Shares;
use crate::serve::supervise::{self, Complaint};
use crate::timeline;

/// Longest request that is read; RFC 2347 allows 512.
const REQUEST_MAX: usize = 2048;

/// Largest answer of a client during a transfer that matters.
const ANSWER_MAX: usize = 516;

/// Answers that may wait for their transfer where all share one port.
const INBOX: usize = 8;

/// Transfers that run, by their client's socket.
type Running = Arc<Mutex<HashMap<SocketAddrV4, Underway>>>;

/// A transfer that runs.
#[derive(Debug)]
struct Underway {
    request: ReadRequest,
    /// Tells it that the same request came again.
    again: Arc<Notify>,
    /// What came to port 69 for it, where all transfers share that port.
    inbox: mpsc::Sender<Vec<u8>>,
    task: AbortHandle,
    /// Whether the client has acknowledged anything.
    is_heard: Arc<AtomicBool>,
}

impl Underway {
    /// Tells whether this transfer is the answer to a request: to the same one, of a client that has not seen
    /// the answer yet. One that has and asks again has begun anew.
    fn is_answered_by(&self, request: &ReadRequest) -> bool {
        self.request == *request && !self.is_heard.load(Ordering::Relaxed)
    }
}

/// Serves requests until it is dropped.
///
/// # Cancel safety
/// Dropping it ends the running transfers; their clients time out.
pub async fn serve(socket: Arc<PortSocket>, core: Arc<Core>) {
    let room = Arc::new(Semaphore::new(core.config.tftp.transfers_max));
    let shares = Shares::of(core.config.tftp.transfers_max);
    let running = Running::default();
    let mut transfers = JoinSet::new();
    let mut buffer = vec![0; REQUEST_MAX];
    let mut complaint = Complaint::default();
    loop {
        tell_broken(&mut transfers);
        let (length, way) = match socket.receive(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                complaint.cannot_receive("tftp", &error).await;
                continue;
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        if core.config.tftp.is_single_port && matches!(bytes, [0, 4 | 5, ..]) {
            deliver(&running, way, bytes);
            continue;
        }
        let Some(request) = judge(&socket, &core, bytes, way).await else {
            continue;
        };
        let replaced = match leaves(&core, &running, way, &request) {
            Before::Same => continue,
            Before::Nothing => None,
            Before::Left(left) => Some(left),
        };
        let permit = Arc::clone(&room).try_acquire_owned().ok();
        let share = shares.take(IpAddr::V4(*way.from.ip()));
        let Some(room) = permit.zip(share) else {
            core.count_transfer("refused-full");
            continue;
        };
        let again = Arc::new(Notify::new());
        let is_heard = Arc::new(AtomicBool::new(false));
        let (inbox, mail) = mpsc::channel(INBOX);
        // Held until the transfer is entered, or one that is over at once would be entered for good.
        let mut underway = lock(&running);
        let task = transfers.spawn({
            let (core, socket) = (Arc::clone(&core), Arc::clone(&socket));
            let (request, again) = (request.clone(), Arc::clone(&again));
            let is_heard = Arc::clone(&is_heard);
            let place = Place {
                running: Arc::clone(&running),
                client: way.from,
                again: Arc::clone(&again),
            };
            async move {
                let line = Line {
                    way,
                    again,
                    mail,
                    heard: Heard { is_heard, replaced },
                };
                answer(&core, socket, request, line).await;
                drop((place, room));
            }
        });
        let transfer = Underway {
            request,
            again,
            inbox,
            task,
            is_heard,
        };
        underway.insert(way.from, transfer);
    }
}

/// Hands an answer to its transfer, where all share one port. A full inbox is like a lost packet.
fn deliver(running: &Running, way: Way, bytes: &[u8]) {
    if let Some(transfer) = lock(running).get(&way.from) {
        let _lost = transfer.inbox.try_send(bytes.to_vec());
    }
}

/// What the client of a request was served before.
enum Before {
    /// The same: the request belongs to that transfer.
    Same,
    /// Nothing that still runs.
    Nothing,
    /// A transfer that ends with the first word to the new one.
    Left(AbortHandle),
}

/// Looks at what the client of a request was served before, and ends what it has no use for.
fn leaves(core: &Core, running: &Running, way: Way, request: &ReadRequest) -> Before {
    let mut running = lock(running);
    let Entry::Occupied(transfer) = running.entry(way.from) else {
        return Before::Nothing;
    };
    if transfer.get().is_answered_by(request) {
        transfer.get().again.notify_one();
        return Before::Same;
    }
    let is_same = transfer.get().request == *request;
    let left = transfer.remove().task;
    // It has begun anew, or an old copy of its request was late: its first word tells. Where all share a
    // port, words tell no transfer from the other.
    if is_same && !core.config.tftp.is_single_port {
        return Before::Left(left);
    }
    // The client is done with what it asked for before: it would take those blocks for these.
    left.abort();
    core.count_transfer("replaced");
    Before::Nothing
}

/// Takes the transfers that ended away, and logs those that broke.
fn tell_broken(transfers: &mut JoinSet<()>) {
    while let Some(ended) = transfers.try_join_next() {
        if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
            let panic = supervise::text(panic.as_ref());
            tracing::error!(panic, "a TFTP transfer broke");
        }
    }
}

/// A transfer's place among those that run, which it leaves however it ends.
struct Place {
    running: Running,
    client: SocketAddrV4,
    again: Arc<Notify>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Another one may have taken it by now.
        if let Entry::Occupied(entry) = lock(&self.running).entry(self.client)
            && Arc::ptr_eq(&entry.get().again, &self.again)
        {
            entry.remove();
        }
    }
}

fn lock(running: &Running) -> std::sync::MutexGuard<'_, HashMap<SocketAddrV4, Underway>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets read requests through; writers are told no, all else is dropped, and so is all of links that are not
/// served.
async fn judge(socket: &PortSocket, core: &Core, bytes: &[u8], way: Way) -> Option<ReadRequest> {
    if !core.hears_tftp(way.interface) {
        return None;
    }
    match packet::parse(bytes) {
        Incoming::Read(request) => Some(request),
        Incoming::Write => {
            core.count_transfer("write-refused");
            refuse(
                socket,
                core,
                way,
                ErrorCode::IllegalOperation,
                "larder is read-only",
            )
            .await;
            None
        }
        Incoming::OtherMode => {
            core.count_transfer("mode-refused");
            let text = "larder serves octet mode only";
            refuse(socket, core, way, ErrorCode::IllegalOperation, text).await;
            None
        }
        Incoming::Unknown if bytes.starts_with(&[0, 1]) => {
            let text = "the request is malformed";
            refuse(socket, core, way, ErrorCode::IllegalOperation, text).await;
            None
        }
        Incoming::Ack(_) | Incoming::Error(..) | Incoming::Unknown => None,
    }
}

async fn refuse(socket: &PortSocket, core: &Core, way: Way, code: ErrorCode, text: &str) {
    let source = core.source(way);
    let sent = socket
        .send(&packet::error(code, text), way.from, way.interface, source)
        .await;
    if let Err(error) = sent {
        tracing::debug!(%error, client = %way.from, "cannot send a TFTP error");
    }
}

/// What ties a transfer to its client.
struct Line {
    way: Way,
    /// The same request came again.
    again: Arc<Notify>,
    /// What came to port 69 for it.
    mail: mpsc::Receiver<Vec<u8>>,
    heard: Heard,
}

/// What the client's first acknowledgement changes.
struct Heard {
    /// To be set.
    is_heard: Arc<AtomicBool>,
    /// The transfer that the client has left for this one.
    replaced: Option<AbortHandle>,
}

impl Heard {
    fn told(&mut self, core: &Core) {
        self.is_heard.store(true, Ordering::Relaxed);
        if let Some(replaced) = self.replaced.take().filter(|old| !old.is_finished()) {
            replaced.abort();
            core.count_transfer("replaced");
        }
    }
}

/// Answers one request to its end, and tells the timeline.
async fn answer(core: &Arc<Core>, socket: Arc<PortSocket>, request: ReadRequest, line: Line) {
    let way = line.way;
    let shown = String::from_utf8_lossy(&request.name).into_owned();
    let name = files::clean(&request.name);
    let machine = name.as_ref().ok().and_then(|name| name.machine);
    let machine = machine.or_else(|| core.machine_at(IpAddr::V4(*way.from.ip())));
    let found = match name {
        Ok(name) => content(core, &name, machine, way)
            .await
            .map(|content| (name, content)),
        Err(reason) => Err(reason),
    };
    match found {
        Ok((name, content)) => {
            let outcome = transfer(core, socket, content, &request, line).await;
            report(core, machine, &name.path, way, outcome);
        }
        Err(reason) => {
            no_file(core, machine, &shown, way, &reason);
            let (code, text) = match reason {
                NoFile::Missing => (ErrorCode::NotFound, "file not found"),
                NoFile::NotAllowed | NoFile::LinkOut { .. } | NoFile::Private => {
                    (ErrorCode::Access, "access refused")
                }
                NoFile::NotAFile => (ErrorCode::Other, "not a file"),
                NoFile::Unreadable(_) => (ErrorCode::Other, "the file cannot be read"),
            };
            refuse(&socket, core, way, code, text).await;
        }
    }
}

/// What a name means: a file, a generated script, or a URL's body.
async fn content(
    core: &Arc<Core>,
    name: &Name,
    machine: Option<HardwareAddress>,
    way: Way,
) -> Result<(Content, Lane), NoFile> {
    let client = IpAddr::V4(*way.from.ip());
    // What is in memory waits for no disk.
    let in_memory = |bytes| {
        let lane = core.disk.lane(client, Path::new(""), "");
        (Content::Memory(bytes), lane)
    };
    let bare = name.path.strip_suffix(".0").unwrap_or(&name.path);
    if let Some(url) = core
        .config
        .files
        .get(&name.path)
        .or_else(|| core.config.files.get(bare))
    {
        return core
            .fetch(url)
            .await
            .map(in_memory)
            .map_err(NoFile::Unreadable);
    }
    let own = core.own_folder(machine, client);
    let on = core.interface(way.interface);
    match core.find(client, on.as_ref(), own, name).await {
        Err(NoFile::Missing) => {
            let script = core
                .generated(bare, machine, client)
                .ok_or(NoFile::Missing)?;
            Ok(in_memory(script.into()))
        }
        found => found,
    }
}

/// How a transfer went.
struct Outcome {
    end: End,
    bytes: u64,
    took: Duration,
}

async fn transfer(
    core: &Core,
    shared: Arc<PortSocket>,
    file: (Content, Lane),
    request: &ReadRequest,
    mut line: Line,
) -> std::io::Result<Outcome> {
    let way = line.way;
    let start = Instant::now();
    let mtu = core.mtu(way).min(core.config.tftp.mtu.unwrap_or(u16::MAX));
    let bounds = Bounds {
        mtu,
        has_block_size: core.config.tftp.has_block_size,
    };
    let (terms, agreed) = settle(&request.options, file.0.length(), bounds);
    let source = core.source(way);
    let mut port = if core.config.tftp.is_single_port {
        Port::Shared(shared, source, line.mail)
    } else {
        Port::Own(open(core, source).await?)
    };
    let mut transfer = Transfer::new(file.0.length(), terms, &agreed);
    let told = || line.heard.told(core);
    let end = converse(&mut port, way, (&mut transfer, &file), &line.again, told).await;
    if end == End::Unreadable {
        let text = packet::error(ErrorCode::Other, "the file cannot be read");
        port.send(&text, way).await?;
    }
    Ok(Outcome {
        end,
        bytes: transfer.bytes_acknowledged(),
        took: start.elapsed(),
    })
}

/// Opens the transfer's own socket, in the configured range of ports if there is one.
async fn open(core: &Core, source: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let (first, last) = core.config.tftp.port_range.unwrap_or((0, 0));
    let mut failure = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for port in first..=last {
        match UdpSocket::bind((source, port)).await {
            Ok(socket) => {
                udp::let_routers_fragment(&socket)?;
                return Ok(socket);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The port that a transfer goes by.
enum Port {
    /// Its own, as RFC 1350 §4 has it.
    Own(UdpSocket),
    /// 69, for all; with the address to answer from and what came for this transfer.
    Shared(Arc<PortSocket>, Ipv4Addr, mpsc::Receiver<Vec<u8>>),
}

impl Port {
    async fn send(&self, packet: &[u8], way: Way) -> std::io::Result<()> {
        match self {
            Self::Own(socket) => socket
                .send_to(packet, SocketAddr::V4(way.from))
                .await
                .map(drop),
            Self::Shared(socket, source, _) => {
                socket.send(packet, way.from, way.interface, *source).await
            }
        }
    }

    /// The client's next packet; strangers are told off meanwhile.
    ///
    /// # Cancel safety
    /// Safe: a packet is taken only when this returns.
    async fn receive(&mut self, way: Way) -> Incoming {
        let mut buffer = [0; ANSWER_MAX];
        loop {
            let (length, from) = match self {
                Self::Own(socket) => match socket.recv_from(&mut buffer).await {
                    Ok(received) => received,
                    // The client's port is closed for now; the clock decides.
                    Err(_unreachable) => continue,
                },
                Self::Shared(_, _, mail) => match mail.recv().await {
                    Some(packet) => return packet::parse(&packet),
                    None => std::future::pending().await,
                },
            };
            if from == SocketAddr::V4(way.from) {
                return packet::parse(buffer.get(..length).unwrap_or_default());
            }
            let text = packet::error(ErrorCode::UnknownTransfer, "not your transfer");
            let Self::Own(socket) = self else { continue };
            if let Err(error) = socket.send_to(&text, from).await {
                tracing::debug!(%error, stranger = %from, "cannot send a TFTP error");
            }
        }
    }
}

/// Drives the transfer to its end.
async fn converse(
    port: &mut Port,
    way: Way,
    (transfer, (content, lane)): (&mut Transfer, &(Content, Lane)),
    again: &Notify,
    mut told: impl FnMut(),
) -> End {
    let mut step = transfer.start();
    let mut deadline = Instant::now() + transfer.wait();
    let mut is_repeat = false;
    loop {
        match step {
            Step::End(end) => return end,
            Step::Read(span) => {
                let read = content.read(lane, span.offset, span.length).await;
                step = transfer.read(span, read);
                continue;
            }
            Step::Send(packets) => {
                for packet in &packets {
                    // A full send buffer is waited for; other failures are like a lost packet.
                    if let Err(error) = port.send(packet, way).await {
                        tracing::debug!(%error, client = %way.from, "cannot send a TFTP packet");
                    }
                }
                // One who only repeats its request does not keep the transfer alive.
                if !packets.is_empty() && !is_repeat {
                    deadline = Instant::now() + transfer.wait();
                }
            }
        }
        is_repeat = false;
        step = tokio::select! {
            received = timeout_at(deadline, port.receive(way)) => match received {
                Err(_elapsed) => transfer.timed_out(),
                Ok(incoming) => {
                    let step = transfer.received(incoming);
                    if transfer.is_heard() {
                        told();
                    }
                    step
                }
            },
            () = again.notified() => {
                is_repeat = true;
                transfer.asked_again()
            }
        };
    }
}

fn report(
    core: &Core,
    machine: Option<HardwareAddress>,
    name: &str,
    way: Way,
    outcome: std::io::Result<Outcome>,
) {
    let now = SystemTime::now();
    let (result, step, detail) = match outcome {
        Ok(Outcome {
            end: End::Complete,
            bytes,
            took,
        }) => {
            let detail = format!("{name} ({bytes} bytes, {} ms)", took.as_millis());
            ("complete", timeline::Step::Tftp, detail)
        }
        Ok(Outcome {
            end: End::Probe, ..
        }) => ("probe", timeline::Step::Probe, name.to_owned()),
        Ok(Outcome {
            end: End::Aborted(text),
            bytes,
            ..
        }) => {
            let detail = format!("{name}: the client broke off after {bytes} bytes: {text}");
            ("aborted", timeline::Step::TftpFailed, detail)
        }
        Ok(Outcome {
            end: End::Vanished,
            bytes,
            ..
        }) => {
            let detail = format!("{name}: the client fell silent after {bytes} bytes");
            ("vanished", timeline::Step::TftpFailed, detail)
        }
        Ok(Outcome {
            end: End::Unreadable,
            ..
        }) => (
            "unreadable",
            timeline::Step::TftpFailed,
            format!("{name}: the file cannot be read"),
        ),
        Err(error) => (
            "unreadable",
            timeline::Step::TftpFailed,
            format!("{name}: {error}"),
        ),
    };
    core.count_transfer(result);
    core.tell(machine, IpAddr::V4(*way.from.ip()), step, detail, now);
    if result == "complete" {
        core.loaded(machine, name, now);
    }
}

fn no_file(core: &Core, machine: Option<HardwareAddress>, name: &str, way: Way, reason: &NoFile) {
    core.count_transfer("not-found");
    let detail = format!("{}: {reason}", name.escape_debug());
    core.tell(
        machine,
        IpAddr::V4(*way.from.ip()),
        timeline::Step::TftpFailed,
        detail,
        SystemTime::now(),
    );
}
