//! What clients send: forms of requests, connections, what goes on to origins.

use larder_policy::target::{Mode, Site};
use larder_policy::url::Authority;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Origin, Rig, answer, open_policy};

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_an_origin_is_rebuilt() {
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    let rig = Rig::forward();
    let lines = "Proxy-Connection: keep-alive\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 2\r\n\
                 Proxy-Authorization: Basic eDp5\r\nX-RHN-Provisioning-MAC-0: eth0 52:54:00:12:34:56\r\n\
                 TE: trailers\r\n";
    rig.get(&origin.url("/a/../b%7e?q=%7e"), lines).await;
    let head = origin.heads().remove(0).to_ascii_lowercase();
    assert!(head.starts_with("get /b~?q=%7e http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {}\r\n", origin.address)));
    assert!(head.contains("x-end: 2") && head.contains("via: 1.1 larder.test (larder)"));
    for gone in ["x-hop", "proxy-", "te:", "x-rhn", "connection: x-hop"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_came_through_here_before_is_a_loop() {
    let rig = Rig::forward();
    let got = rig
        .get("http://m.invalid/a", "Via: 1.1 larder.test (larder)\r\n")
        .await;
    assert_eq!(got.status, 508);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|_, head| {
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        answer("", path.as_bytes())
    })
    .await;
    let rig = Rig::forward();
    let mut requests = Vec::new();
    for i in 0..10 {
        let close = if i == 9 { "Connection: close\r\n" } else { "" };
        let url = origin.url(&format!("/{i}-1-1.rpm"));
        requests.push(format!("GET {url} HTTP/1.1\r\nHost: x\r\n{close}\r\n"));
    }
    let got = rig.talk(requests.concat().as_bytes(), false).await;
    let all = format!("{}{}", got.head, String::from_utf8_lossy(&got.body));
    let order: Vec<usize> = (0..10)
        .map(|i| {
            all.find(&format!("\r\n/{i}-1-1.rpm"))
                .expect("every answer")
        })
        .collect();
    assert!(order.is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_shuts_its_write_side_gets_its_answer() {
    let origin = Origin::start(|_, _| answer("", b"hello")).await;
    let rig = Rig::forward();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let text = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\n\r\n",
        origin.url("/a-1-1.rpm")
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert!(all.ends_with("hello"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_is_served() {
    let origin = Origin::start(|_, _| answer("", b"hello")).await;
    let rig = Rig::forward();
    let text = format!("GET {} HTTP/1.0\r\n\r\n", origin.url("/a-1-1.rpm"));
    for _ in 0..2 {
        let got = rig.talk(text.as_bytes(), false).await;
        assert_eq!((got.status, got.body.as_slice()), (200, &b"hello"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accelerator_serves_its_site_whatever_host_says() {
    let origin = Origin::start(|_, _| answer("", b"hello")).await;
    let authority = Authority {
        host: "127.0.0.1".into(),
        port: origin.address.port(),
    };
    let mut policy = open_policy();
    let mirror = larder_policy::route::Mirror {
        name: "m".into(),
        hosts: vec!["site.example".into()],
        origins: vec![larder_policy::route::Origin::parse(&origin.url("/base/")).unwrap()],
        select: larder_policy::route::Select::Ordered,
        access: None,
    };
    policy.routes.mirrors.push(mirror);
    let site = Site {
        authority: Authority {
            host: "site.example".into(),
            port: 80,
        },
        vhost: false,
        mirror: Some("m".into()),
    };
    let rig = Rig::start(policy, Mode::Accelerator(site));
    let got = rig.get("/a-1-1.rpm", "").await;
    assert_eq!(got.body, b"hello");
    let head = &origin.heads()[0];
    assert!(head.starts_with("GET /base/a-1-1.rpm "), "{head}");
    assert!(head.contains(&format!("Host: {authority}\r\n")), "{head}");
    assert_eq!(rig.records(1).await[0].url, "http://site.example/a-1-1.rpm");
    assert_eq!(rig.ask("CONNECT", "m:443", "").await.status, 405);
    assert_eq!(rig.get("/.larder/", "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_an_origin_can_be_asked_for_by_path() {
    let origin = Origin::start(|_, _| answer("", b"hello")).await;
    let rig = Rig::forward();
    let got = rig
        .get(&format!("/http/{}/a-1-1.rpm", origin.address), "")
        .await;
    assert_eq!(got.body, b"hello");
    assert_eq!(rig.get(&origin.url("/a-1-1.rpm"), "").await.body, b"hello");
    assert_eq!(origin.requests(), 1);
    assert!(String::from_utf8_lossy(&rig.get("/", "").await.body).contains("proxy=http://"));
    assert_eq!(rig.get("/nothing", "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_never_connects_to_itself() {
    let rig = Rig::forward();
    // Addresses of this socket are our own pages, of which there is none of this name.
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{}/x", rig.address.port());
        assert_eq!(rig.get(&url, "").await.status, 404, "{url}");
    }
    let tunnel = rig.ask("CONNECT", &rig.address.to_string(), "").await;
    assert_eq!(tunnel.status, 403);
    let url = format!(
        "http://127.0.0.1:{}/http/127.0.0.1:{0}/x",
        rig.address.port()
    );
    assert_eq!(rig.get(&url, "").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_passed_on_and_its_answer_not_kept() {
    let origin =
        Origin::start(|_, _| answer("Connection: close\r\nCache-Control: max-age=60\r\n", b"x"))
            .await;
    let rig = Rig::forward();
    for _ in 0..2 {
        let got = rig
            .ask("POST", &origin.url("/form"), "Content-Length: 0\r\n")
            .await;
        assert_eq!(got.status, 200);
    }
    assert_eq!(origin.requests(), 2);
}
