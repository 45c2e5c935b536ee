//! `CONNECT`.

use larder_policy::access::AccessList;
use larder_policy::target::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Rig, open_policy};

/// A server that reads to the end and then says what it read.
async fn echo_at_end() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn early_bytes_pass_and_each_direction_ends_by_itself() {
    let far = echo_at_end().await;
    let rig = Rig::forward();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!("CONNECT {far} HTTP/1.1\r\nHost: {far}\r\n\r\nearly ");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.write_all(b"and late").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(
        all,
        "HTTP/1.1 200 Connection established\r\n\r\nearly and late"
    );
    let record = &rig.records(1).await[0];
    assert_eq!(
        (record.status, record.sent_bytes, record.aborted),
        (200, all.len() as u64, false)
    );
    assert_eq!(record.url, far.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_follow_the_rules_and_name_them() {
    let mut policy = open_policy();
    policy.access = AccessList::builtin();
    let rig = Rig::start(policy, Mode::Forward);
    let denied = rig.ask("CONNECT", "127.0.0.1:22", "").await;
    assert_eq!(denied.status, 403);
    assert!(denied.whole);
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let rig = Rig::forward();
    assert_eq!(
        rig.ask("CONNECT", &closed.to_string(), "").await.status,
        503
    );
}
