//! What cannot be sent twice (RFC 9110 §9.2.2) is sent once all the same where the first mirror cannot
//! be reached.

use larder_policy::route::{Mirror, Origin as Member, Routes, Select};
use larder_policy::target::Mode;
use tokio::net::TcpListener;

use crate::support::{Answer, Origin, Rig, Step, answer, open_policy};

const CHANGES: [(&str, &str); 4] = [
    ("PUT", "Content-Length: 2\r\n\r\nhi"),
    (
        "POST",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    ("GET", "Content-Length: 2\r\n\r\nhi"),
    ("DELETE", "\r\n"),
];

/// What a client gets for a change that goes to a pool of these.
async fn changed(origins: &[String], (method, rest): (&str, &str)) -> Answer {
    let members = origins.iter().map(|url| Member::parse(url).unwrap());
    let mut policy = open_policy();
    policy.routes = Routes {
        mirrors: vec![Mirror {
            name: "pool".into(),
            hosts: vec!["pool.test".into()],
            origins: members.collect(),
            select: Select::Ordered,
            access: None,
        }],
        ..Routes::default()
    };
    let rig = Rig::start(policy, Mode::Forward);
    let head = "http://pool.test/x HTTP/1.1\r\nHost: pool.test\r\nConnection: close\r\n";
    let text = format!("{method} {head}{rest}");
    rig.talk(text.as_bytes(), false).await
}

/// Where nobody listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

/// Where nobody speaks TLS.
async fn no_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    format!("https://{address}/")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_the_first_that_is_reached() {
    for unreached in [
        closed().await,
        "http://no-such-name.invalid/".into(),
        no_tls().await,
    ] {
        for change in CHANGES {
            let good = Origin::start(|_, _| answer("", b"done")).await;
            let last = Origin::start(|_, _| answer("", b"last")).await;
            let all = [unreached.clone(), good.url("/"), last.url("/")];
            let got = changed(&all, change).await;
            assert_eq!(got.body, b"done", "{unreached} {change:?}: {}", got.head);
            assert_eq!((good.requests(), last.requests()), (1, 0), "{change:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_to_nobody_else_once_it_may_have_arrived() {
    for change in CHANGES {
        let cut = Origin::start(|_, _| vec![Step::Close]).await;
        let other = Origin::start(|_, _| answer("", b"done")).await;
        let got = changed(&[closed().await, cut.url("/"), other.url("/")], change).await;
        assert_eq!(got.status, 502, "{change:?}: {}", got.head);
        assert_eq!((cut.requests(), other.requests()), (1, 0), "{change:?}");
    }
}
