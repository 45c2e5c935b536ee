//! Under dnsmasq's words, generated scripts lead where the words do: over real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use larder_boot::config::Ports;
use larder_boot::{Boot, Config, Handle, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(5);

struct Server {
    handle: Handle,
}

impl Server {
    fn start(lines: &[&str]) -> Self {
        let lines: Vec<String> = ["--interface=lo", "--enable-tftp", "--port=0"]
            .iter()
            .chain(lines)
            .map(|word| (*word).to_owned())
            .collect();
        let none = |_: &std::path::Path| Ok(Vec::new());
        let config = Config {
            http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ports: Ports {
                dhcp: 0,
                boot_server: 0,
                tftp: 0,
            },
            ..Config::default()
        };
        let config = config.with_words(words::read::command_line(&lines, &none).unwrap());
        let handle = Boot::start(config, None, std::future::pending()).unwrap();
        Self { handle }
    }

    fn at(&self, mode: &str) -> SocketAddr {
        let mut all = self.handle.listening().iter();
        let port = all
            .find(|socket| socket.mode == mode)
            .unwrap()
            .address
            .port();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A file of one block by TFTP, or its error's code.
    async fn tftp(&self, name: &str) -> Result<String, u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let request = format!("\0\u{1}{name}\0octet\0");
        socket
            .send_to(request.as_bytes(), self.at("tftp"))
            .await
            .unwrap();
        let mut buffer = [0; 600];
        let received = timeout(PATIENCE, socket.recv_from(&mut buffer))
            .await
            .unwrap();
        let (length, _) = received.unwrap();
        match buffer[1] {
            3 => Ok(String::from_utf8_lossy(&buffer[4..length]).into_owned()),
            _ => Err(buffer[3]),
        }
    }

    /// A path by HTTP, with its head.
    async fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.at("boot-http")).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A DISCOVER of x86-64 UEFI firmware, until the server has taken it.
    async fn discover(&self, mac: [u8; 6]) {
        let mut packet = vec![1, 1, 6, 0];
        packet.resize(28, 0);
        packet.extend(mac);
        packet.resize(236, 0);
        packet.extend([99, 130, 83, 99, 53, 1, 1, 60, 9]);
        packet.extend(b"PXEClient\x5d\x02\0\x07\xff");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&packet, self.at("proxydhcp")).await.unwrap();
        let name = mac.map(|byte| format!("{byte:02x}")).join(":");
        let heard = async {
            let is_known = || {
                let machines = self.handle.snapshot().machines;
                let mut named = machines
                    .iter()
                    .filter(|known| known.mac.to_string() == name);
                named.any(|known| known.vendor.is_some())
            };
            while !is_known() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, heard).await.unwrap();
    }
}

#[tokio::test]
async fn the_seeds_words_lead_every_script_to_matchbox() {
    let server = Server::start(&[
        "--dhcp-range=127.0.0.1,proxy",
        "--dhcp-userclass=set:ipxe,iPXE",
        "--pxe-service=tag:#ipxe,x86PC,PXE,undionly.kpxe",
        "--pxe-service=tag:ipxe,x86PC,iPXE,http://10.77.0.9:8080/boot.ipxe",
    ]);
    let script = server.tftp("autoexec.ipxe").await.unwrap();
    assert!(
        script.contains("chain --autofree http://10.77.0.9:8080/boot.ipxe"),
        "{script}"
    );
    for path in [
        "/autoexec.ipxe",
        "/boot.ipxe",
        "/m",
        "/menu.ipxe?mac=52-54-00-77-00-20",
    ] {
        let script = server.http(path).await;
        assert!(script.starts_with("HTTP/1.0 200"), "{path}: {script}");
        assert!(
            script.contains("chain --autofree http://10.77.0.9:8080/boot.ipxe"),
            "{script}"
        );
        assert!(!script.contains("menu.ipxe"), "{path}: {script}");
    }
}

#[tokio::test]
async fn what_the_words_give_to_some_machines_the_others_do_not_get() {
    let server = Server::start(&[
        "--dhcp-range=127.0.0.1,proxy",
        "--dhcp-userclass=set:ipxe,iPXE",
        "--dhcp-mac=set:lab,52:54:00:77:00:*",
        "--pxe-service=tag:!ipxe,x86-64_EFI,Boot,snponly.efi",
        "--pxe-service=tag:ipxe,tag:lab,x86-64_EFI,Lab,http://lab/boot.ipxe",
    ]);
    // Not heard of: iPXE is to go on to DHCP.
    assert_eq!(server.tftp("52:54:00:77:00:20/autoexec.ipxe").await, Err(1));
    assert!(server.http("/boot.ipxe").await.starts_with("HTTP/1.0 404"));
    server.discover([0x52, 0x54, 0, 0x77, 0, 0x20]).await;
    let script = server
        .tftp("52:54:00:77:00:20/autoexec.ipxe")
        .await
        .unwrap();
    assert!(
        script.contains("chain --autofree http://lab/boot.ipxe"),
        "{script}"
    );
    server.discover([0x52, 0x54, 0, 0x88, 0, 0x20]).await;
    assert_eq!(server.tftp("52:54:00:88:00:20/autoexec.ipxe").await, Err(1));
    // DHCP names larder's own script where the words give none.
    let script = server.http("/boot.ipxe?mac=52-54-00-88-00-20").await;
    assert!(script.contains("menu.ipxe"), "{script}");
}

#[tokio::test]
async fn words_without_a_script_leave_larders_own() {
    let server = Server::start(&[
        "--dhcp-range=127.0.0.1,proxy",
        "--pxe-service=x86PC,Boot,pxelinux",
    ]);
    let script = server.tftp("autoexec.ipxe").await.unwrap();
    assert!(script.contains("/boot.ipxe || shell"), "{script}");
    assert!(server.http("/boot.ipxe").await.contains("menu.ipxe"));
}

#[tokio::test]
async fn a_range_of_another_site_is_told_at_the_start() {
    let server = Server::start(&[
        "--dhcp-range=10.55.0.0,proxy",
        "--dhcp-range=127.0.0.0,proxy",
        "--pxe-service=x86PC,Boot,pxelinux",
    ]);
    let notices = server.handle.notices();
    let told: Vec<_> = notices
        .iter()
        .filter(|told| told.contains("dhcp-range"))
        .collect();
    assert_eq!(told.len(), 1, "{notices:?}");
    assert!(
        told[0].contains("10.55.0.0") && told[0].contains("127.0.0.1/8 on lo"),
        "{told:?}"
    );
}
