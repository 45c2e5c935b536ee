//! Files over HTTP: whole and in parts, over real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::path::Path;

use larder_boot::config::Ports;
use larder_boot::{Boot, Config, Handle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The head of a program for x86-64 UEFI.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 64;
    bytes[64..68].copy_from_slice(b"PE\0\0");
    bytes[68..70].copy_from_slice(&0x8664_u16.to_le_bytes());
    bytes
}

fn config(root: &Path) -> Config {
    Config {
        interfaces: vec!["lo".to_owned()],
        root: Some(root.to_owned()),
        is_tftp: false,
        http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ports: Ports {
            dhcp: 0,
            boot_server: 0,
            tftp: 0,
        },
        ..Config::default()
    }
}

fn server(root: &Path) -> (Handle, SocketAddr) {
    started(config(root))
}

fn started(config: Config) -> (Handle, SocketAddr) {
    let handle = Boot::start(config, None, std::future::pending()).unwrap();
    let mut all = handle.listening().iter();
    let address = all.find(|at| at.mode == "boot-http").unwrap().address;
    (handle, address)
}

/// Head and body of an answer.
async fn ask(server: SocketAddr, method: &str, path: &str, more: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let at = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8_lossy(&answer[..at]).to_ascii_lowercase();
    (head, answer[at + 4..].to_vec())
}

#[tokio::test]
async fn a_part_of_a_file_is_a_part() {
    let root = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..200_000).map(|at| (at / 251 + at) as u8).collect();
    std::fs::write(root.path().join("disk"), &content).unwrap();
    let (_handle, server) = server(root.path());
    let (head, body) = ask(server, "GET", "/boot/disk", "").await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("accept-ranges: bytes"),
        "{head}"
    );
    assert_eq!(body, content);
    for (range, first, last) in [
        ("0-9", 0, 9),
        ("512-1023", 512, 1023),
        ("100000-", 100_000, 199_999),
        ("-5", 199_995, 199_999),
        ("199999-300000", 199_999, 199_999),
    ] {
        let range = format!("Range: bytes={range}\r\n");
        let (head, body) = ask(server, "GET", "/boot/disk", &range).await;
        assert!(head.starts_with("http/1.1 206"), "{range}: {head}");
        let told = format!("content-range: bytes {first}-{last}/200000");
        assert!(head.contains(&told), "{range}: {head}");
        assert_eq!(body, content[first..=last], "{range}");
    }
    let (head, body) = ask(server, "GET", "/boot/disk", "Range: bytes=200000-\r\n").await;
    assert!(head.starts_with("http/1.1 416"), "{head}");
    assert!(head.contains("content-range: bytes */200000"), "{head}");
    assert!(body.is_empty());
    for (method, more) in [
        ("GET", "Range: bytes=0-1,4-5\r\n"),
        ("GET", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n"),
        ("HEAD", "Range: bytes=0-1\r\n"),
    ] {
        let (head, _) = ask(server, method, "/boot/disk", more).await;
        assert!(head.starts_with("http/1.1 200"), "{more}: {head}");
        assert!(head.contains("content-length: 200000"), "{more}: {head}");
    }
}

#[tokio::test]
async fn programs_that_are_loaded_in_vain_by_http_make_a_loop() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("snponly.efi"), program()).unwrap();
    let (handle, server) = server(root.path());
    let path = "/boot/52:54:00:77:00:20/snponly.efi";
    let is_looping = || {
        let machines = handle.snapshot().machines;
        let mut events = machines.iter().flat_map(|machine| &machine.events);
        events.any(|event| event.step.as_str() == "loop")
    };
    for (method, more) in [
        ("HEAD", ""),
        ("GET", ""),
        ("GET", "Range: bytes=0-9\r\n"),
        ("GET", ""),
    ] {
        ask(server, method, path, more).await;
    }
    assert!(!is_looping(), "two whole loads");
    ask(server, "GET", path, "").await;
    assert!(is_looping());
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn a_script_that_would_load_itself_is_the_menu() {
    let root = tempfile::tempdir().unwrap();
    let port = free_port();
    let (handle, address) = started(Config {
        http: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        next: Some(format!("http://127.0.0.1:{port}/boot.ipxe")),
        ..config(root.path())
    });
    let (_, script) = ask(address, "GET", "/boot.ipxe", "").await;
    let script = String::from_utf8(script).unwrap();
    assert!(script.contains("/menu.ipxe?"), "{script}");
    assert!(!script.contains(&format!("{port}/boot.ipxe")), "{script}");
    let told = handle.notices().join(" ");
    assert!(told.contains("load itself without end"), "{told}");
}

#[tokio::test]
async fn files_that_nothing_can_fetch_are_told_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config(root.path());
    config.files.insert("m.efi".into(), "http://h/m".into());
    let told = started(config).0.notices().join(" ");
    assert!(told.contains("not served: m.efi"), "{told}");
}

#[tokio::test]
async fn one_address_has_its_share_of_connections() {
    let root = tempfile::tempdir().unwrap();
    let (_handle, server) = server(root.path());
    let mut held = Vec::new();
    for _ in 0..1024 {
        held.push(TcpStream::connect(server).await.unwrap());
    }
    let mut beyond = TcpStream::connect(server).await.unwrap();
    // It may be closed before this is written.
    let _sent = beyond.write_all(b"GET /menu.ipxe HTTP/1.0\r\n\r\n").await;
    let mut answer = Vec::new();
    let _closed = beyond.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let mut other = other.connect(server).await.unwrap();
    other
        .write_all(b"GET /menu.ipxe HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200"));
}

#[tokio::test]
async fn the_port_of_the_server_that_the_words_name_is_left_to_it() {
    let root = tempfile::tempdir().unwrap();
    let port = free_port();
    let words = [
        "--dhcp-range=127.0.0.0,proxy".to_owned(),
        format!("--pxe-service=x86PC,iPXE,http://127.0.0.1:{port}/boot.ipxe"),
    ];
    let words = larder_boot::words::read::command_line(&words, &|_| Ok(Vec::new())).unwrap();
    let (handle, address) = started(Config {
        http: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        words: Some(words),
        ..config(root.path())
    });
    assert_ne!(address.port(), port);
    let told = handle.notices().join(" ");
    assert!(
        told.contains(&format!("port {port} is another server's")),
        "{told}"
    );
}
