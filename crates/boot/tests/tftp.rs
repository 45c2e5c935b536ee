//! TFTP over real sockets on loopback: what holds for one transfer holds for a thousand at once.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use larder_boot::config::{Ports, TftpLimits};
use larder_boot::fetch::Fetching;
use larder_boot::{Boot, Config, Fetch, Fetched, Handle};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const ACK: u8 = 4;
const ERROR: u8 = 5;
const OACK: u8 = 6;
/// A lost datagram, of which loopback has few, is asked for again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// A busy machine may give a test no turn for many seconds.
const PATIENCE: Duration = Duration::from_mins(1);

/// A cache that counts.
#[derive(Debug, Default)]
struct Origin {
    asked: AtomicU32,
}

impl Fetch for Origin {
    fn fetch(&self, url: &str) -> Fetching {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let body = (url == "http://mirror.example/a").then(|| content(70_000));
        Box::pin(async move {
            // Slow enough that others come meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let body = body.ok_or_else(|| io::Error::other("answered 404"))?;
            let length = Some(body.len() as u64);
            let body = Full::new(body).map_err(|never| match never {}).boxed();
            Ok(Fetched { length, body })
        })
    }
}

fn content(length: usize) -> Bytes {
    (0..length)
        .map(|at| (at / 251 + at) as u8)
        .collect::<Vec<u8>>()
        .into()
}

/// A server on loopback with ports of its own, and where it serves TFTP.
fn server(root: &std::path::Path, origin: Arc<Origin>) -> (Handle, SocketAddr) {
    start(root, origin, TftpLimits::default())
}

fn start(root: &std::path::Path, origin: Arc<Origin>, tftp: TftpLimits) -> (Handle, SocketAddr) {
    let mut config = Config {
        interfaces: vec!["lo".to_owned()],
        root: Some(root.to_owned()),
        http: None,
        tftp,
        ports: Ports {
            dhcp: 0,
            boot_server: 0,
            tftp: 0,
        },
        ..Config::default()
    };
    for (name, url) in [("mirrored", "a"), ("gone", "b")] {
        let url = format!("http://mirror.example/{url}");
        config.files.insert(name.to_owned(), url);
    }
    let handle = Boot::start(config, Some(origin), std::future::pending())
        .expect("loopback has an address, and any port will do");
    let tftp = handle.listening().iter().find(|at| at.mode == "tftp");
    let port = tftp.expect("TFTP is on").address.port();
    (handle, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A client that hears each datagram once: a server that waits for a slow one sends it again.
struct Client {
    socket: UdpSocket,
    heard: Mutex<Vec<(Vec<u8>, SocketAddr)>>,
}

impl Client {
    async fn bound() -> Self {
        UdpSocket::bind("127.0.0.1:0").await.unwrap().into()
    }
}

impl From<UdpSocket> for Client {
    fn from(socket: UdpSocket) -> Self {
        let heard = Mutex::default();
        Self { socket, heard }
    }
}

impl Deref for Client {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        &self.socket
    }
}

async fn client(server: SocketAddr, name: &str, options: &str) -> Client {
    client_at(1, server, name, options).await.into()
}

/// A client at the n-th address of loopback.
async fn client_at(last: u8, server: SocketAddr, name: &str, options: &str) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0))
        .await
        .unwrap();
    ask(&socket, server, name, options).await;
    socket
}

async fn ask(socket: &UdpSocket, server: SocketAddr, name: &str, options: &str) {
    let mut request = vec![0, 1];
    request.extend(format!("{name}\0octet\0{options}").into_bytes());
    socket.send_to(&request, server).await.unwrap();
}

/// The next datagram that is no repetition.
async fn next(client: &Client) -> (Vec<u8>, SocketAddr) {
    loop {
        let heard = within(PATIENCE, client).await.expect("a datagram comes");
        let mut before = client.heard.lock().unwrap();
        if !before.contains(&heard) {
            before.push(heard.clone());
            return heard;
        }
    }
}

/// The next datagram, unless none comes in that time.
async fn within(time: Duration, socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 65_536];
    let (length, from) = timeout(time, socket.recv_from(&mut buffer))
        .await
        .ok()?
        .unwrap();
    buffer.truncate(length);
    Some((buffer, from))
}

/// Reads a file as a careful client does: in order, each block acknowledged.
async fn read(server: SocketAddr, name: &str) -> Result<Vec<u8>, String> {
    read_at(1, server, name).await
}

/// The same, from the n-th address of loopback.
async fn read_at(last: u8, server: SocketAddr, name: &str) -> Result<Vec<u8>, String> {
    let socket = client_at(last, server, name, "blksize\x001428\0").await;
    let mut body: Vec<u8> = Vec::new();
    let mut block = 0u16;
    let mut last = None;
    let mut tries = 0;
    loop {
        let Some((packet, from)) = within(AGAIN, &socket).await else {
            tries += 1;
            assert!(tries < 30, "silence after block {block}");
            let Some(from) = last else {
                ask(&socket, server, name, "blksize\x001428\0").await;
                continue;
            };
            let [high, low] = block.to_be_bytes();
            socket.send_to(&[0, ACK, high, low], from).await.unwrap();
            continue;
        };
        last = Some(from);
        match packet[1] {
            OACK => assert_eq!(&packet[2..], b"blksize\x001428\0"),
            ERROR => return Err(String::from_utf8_lossy(&packet[4..]).into_owned()),
            _ if packet[2..4] == (block + 1).to_be_bytes() => {
                (block, tries) = (block + 1, 0);
                body.extend(&packet[4..]);
            }
            _ => continue,
        }
        let [high, low] = block.to_be_bytes();
        socket.send_to(&[0, ACK, high, low], from).await.unwrap();
        if block > 0 && packet.len() < 4 + 1428 {
            return Ok(body);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_transfers_at_once_all_arrive_whole() {
    let root = tempfile::tempdir().unwrap();
    let wanted = content(100_003);
    std::fs::write(root.path().join("file"), &wanted).unwrap();
    let (handle, server) = server(root.path(), Arc::default());
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let last = 1 + (number % 4) as u8;
        clients.spawn(async move { read_at(last, server, "file").await });
    }
    let mut arrived = 0;
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap().unwrap(), wanted);
        arrived += 1;
    }
    assert_eq!(arrived, 1000);
    drop(handle);
}

#[tokio::test]
async fn one_address_leaves_places_to_others() {
    let root = tempfile::tempdir().unwrap();
    let wanted = content(100_003);
    std::fs::write(root.path().join("file"), &wanted).unwrap();
    let limits = TftpLimits {
        transfers_max: 8,
        ..TftpLimits::default()
    };
    let (handle, server) = start(root.path(), Arc::default(), limits);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client(server, "file", "blksize\x001428\0").await);
    }
    assert_eq!(read_at(2, server, "file").await.unwrap(), wanted);
    assert_eq!(handle.snapshot().transfers.get("refused-full"), Some(&6));
}

#[tokio::test]
async fn why_a_url_gives_no_file_is_told() {
    let root = tempfile::tempdir().unwrap();
    let (handle, server) = server(root.path(), Arc::default());
    let told = read(server, "52:54:00:77:00:20/gone").await.unwrap_err();
    assert_eq!(told, "the file cannot be read\0");
    let machines = handle.snapshot().machines;
    let events = machines.iter().flat_map(|machine| &machine.events);
    let details: Vec<&str> = events.map(|event| event.detail.as_str()).collect();
    assert_eq!(
        details,
        ["52:54:00:77:00:20/gone: cannot read it: answered 404"]
    );
}

#[tokio::test]
async fn a_stranger_gets_error_five_and_the_transfer_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let wanted = content(1000);
    std::fs::write(root.path().join("file"), &wanted).unwrap();
    let (_handle, server) = server(root.path(), Arc::default());
    let socket = client(server, "file", "").await;
    let (first, transfer) = next(&socket).await;
    assert_ne!(
        transfer.port(),
        server.port(),
        "a transfer has a port of its own"
    );
    assert_eq!((first[1], first.len()), (3, 516));
    let stranger = Client::bound().await;
    stranger.send_to(&[0, ACK, 0, 1], transfer).await.unwrap();
    let (refusal, from) = next(&stranger).await;
    assert_eq!((&refusal[..4], from), (&[0, ERROR, 0, 5][..], transfer));
    socket.send_to(&[0, ACK, 0, 1], transfer).await.unwrap();
    let (second, _) = next(&socket).await;
    let body = [&first[4..], &second[4..]].concat();
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn a_url_is_fetched_once_for_all_who_ask_and_its_failure_is_told() {
    let root = tempfile::tempdir().unwrap();
    let origin = Arc::new(Origin::default());
    let (_handle, server) = server(root.path(), Arc::clone(&origin));
    let mut clients = tokio::task::JoinSet::new();
    for name in ["mirrored", "mirrored.0", "mirrored", "/mirrored"] {
        clients.spawn(async move { read(server, name).await });
    }
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap().unwrap(), content(70_000));
    }
    assert_eq!(origin.asked.load(Ordering::Relaxed), 1);
    let told = read(server, "gone").await.unwrap_err();
    assert_eq!(told, "the file cannot be read\0");
}

#[tokio::test]
async fn writers_and_names_that_leave_the_root_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let (_handle, server) = server(root.path(), Arc::default());
    for (name, code) in [("../etc/passwd", 2), ("a/../../b", 2), ("none", 1)] {
        let socket = client(server, name, "").await;
        let (refusal, _) = next(&socket).await;
        assert_eq!(refusal[..4], [0, ERROR, 0, code], "{name}");
    }
    let socket = Client::bound().await;
    socket
        .send_to(b"\0\x02file\0octet\0", server)
        .await
        .unwrap();
    let (refusal, _) = next(&socket).await;
    assert_eq!(refusal[..4], [0, ERROR, 0, 4]);
}

#[tokio::test]
async fn another_request_from_the_same_socket_gets_its_own_file() {
    let root = tempfile::tempdir().unwrap();
    let (first, second) = (content(2000), Bytes::from_static(b"the second file"));
    std::fs::write(root.path().join("first"), &first).unwrap();
    std::fs::write(root.path().join("second"), &second).unwrap();
    let (_handle, server) = server(root.path(), Arc::default());
    let socket = client(server, "first", "tsize\x000\0").await;
    let (options, transfer) = next(&socket).await;
    assert_eq!(options, b"\0\x06tsize\x002000\0");
    // The size was all it wanted: firmware goes on with another request, and its abort may get lost.
    ask(&socket, server, "first", "").await;
    let (data, begun) = next(&socket).await;
    assert_ne!(begun, transfer);
    assert_eq!(data[..4], [0, 3, 0, 1]);
    assert_eq!(data[4..], first[..512]);
    socket.send_to(&[0, ACK, 0, 1], begun).await.unwrap();
    assert_eq!(next(&socket).await.0[..4], [0, 3, 0, 2]);
    // Amid a transfer, too.
    ask(&socket, server, "second", "").await;
    let (data, from) = next(&socket).await;
    assert_ne!(from, begun);
    assert_eq!(data[..4], [0, 3, 0, 1]);
    assert_eq!(data[4..], second);
}

#[tokio::test]
async fn modes_other_than_octet_are_refused() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "a\nb\n").unwrap();
    let (_handle, server) = server(root.path(), Arc::default());
    for mode in ["netascii", "mail"] {
        let socket = Client::bound().await;
        let request = format!("\0\u{1}file\0{mode}\0");
        socket.send_to(request.as_bytes(), server).await.unwrap();
        let (refusal, _) = next(&socket).await;
        assert_eq!(refusal, b"\0\x05\0\x04larder serves octet mode only\0");
    }
}

#[tokio::test]
async fn who_asks_the_whole_subnet_is_answered_from_one_address() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), "whole").unwrap();
    let (_handle, server) = server(root.path(), Arc::default());
    let socket = Client::bound().await;
    socket.set_broadcast(true).unwrap();
    let everyone = SocketAddr::from(([127, 255, 255, 255], server.port()));
    ask(&socket, everyone, "file", "").await;
    let (data, from) = next(&socket).await;
    assert_eq!(data, b"\0\x03\0\x01whole");
    assert_eq!(from.ip(), server.ip());
    let other = Client::bound().await;
    other.set_broadcast(true).unwrap();
    ask(&other, everyone, "none", "").await;
    let (refusal, from) = next(&other).await;
    assert_eq!((&refusal[..4], from), (&b"\0\x05\0\x01"[..], server));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_transfers_may_share_one_port() {
    let root = tempfile::tempdir().unwrap();
    let wanted = content(100_003);
    std::fs::write(root.path().join("file"), &wanted).unwrap();
    let limits = TftpLimits {
        is_single_port: true,
        ..TftpLimits::default()
    };
    let (_handle, server) = start(root.path(), Arc::default(), limits);
    let socket = client(server, "file", "").await;
    let (data, from) = next(&socket).await;
    assert_eq!((&data[..4], from), (&b"\0\x03\0\x01"[..], server));
    socket.send_to(&[0, ERROR, 0, 0, 0], server).await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..50 {
        clients.spawn(async move { read(server, "file").await });
    }
    while let Some(body) = clients.join_next().await {
        assert_eq!(body.unwrap().unwrap(), wanted);
    }
}

#[tokio::test]
async fn a_client_that_begins_anew_is_served_and_an_old_copy_of_its_request_harms_nobody() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("x"), content(5000)).unwrap();
    let (_handle, at) = server(root.path(), Arc::default());
    let socket = client(at, "x", "").await;
    let (first, transfer) = next(&socket).await;
    assert_eq!(first[3], 1);
    socket.send_to(&[0, ACK, 0, 1], transfer).await.unwrap();
    assert_eq!(next(&socket).await.0[3], 2);
    // The same request again: a new transfer, from its first block on.
    ask(&socket, at, "x", "").await;
    let (again, anew) = next(&socket).await;
    assert_eq!((again[3], anew == transfer), (1, false));
    // Nothing was said to it yet, so the first goes on.
    socket.send_to(&[0, ACK, 0, 2], transfer).await.unwrap();
    assert_eq!(next(&socket).await.0[3], 3);
    socket.send_to(&[0, ACK, 0, 1], anew).await.unwrap();
    let (second, from) = next(&socket).await;
    assert_eq!((second[3], from), (2, anew));
}
