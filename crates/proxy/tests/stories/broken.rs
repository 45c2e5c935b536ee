//! Origins that break, lie, stall or are not there: the client sees it, nothing is kept as whole.

use std::time::Duration;

use crate::support::{LONG, Origin, Rig, Step, answer, pattern, raw};

const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_short_is_cut_for_the_client_and_not_kept() {
    for head in [
        "Content-Length: 100000\r\n",
        "Transfer-Encoding: chunked\r\n",
    ] {
        let body = pattern(100_000);
        let whole = body.clone();
        let chunked = head.starts_with('T');
        let origin = Origin::start(move |nth, _| {
            if nth > 0 {
                return answer("", &whole);
            }
            let part = if chunked {
                b"C350\r\n".to_vec()
            } else {
                Vec::new()
            };
            vec![
                Step::Send(format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes()),
                Step::Send([part, whole[..50_000].to_vec()].concat()),
                Step::Close,
            ]
        })
        .await;
        let rig = Rig::forward();
        let url = origin.url(PATH);
        let first = rig.get(&url, "").await;
        // A reset can overtake the head: then the answer is an error page, whole in itself.
        assert!(first.status == 502 || !first.whole, "{head}");
        assert!(first.body.len() <= 50_000);
        let second = rig.get(&url, "").await;
        assert!(second.whole && second.body == body, "{head}");
        assert_eq!(origin.requests(), 2);
        let third = rig.get(&url, "").await;
        assert!(third.whole && third.body == body, "{head}");
        assert_eq!(origin.requests(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_is_cut() {
    let origin = Origin::start(|_, _| {
        vec![
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345".to_vec()),
            Step::Pause(2 * LONG),
        ]
    })
    .await;
    let rig = Rig::hasty();
    let got = rig.get(&origin.url(PATH), "").await;
    assert!(!got.whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_becomes_a_readable_error() {
    for (sent, status) in [
        ("garbage\r\n\r\n", 502),
        ("", 502),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            502,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", 502),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            502,
        ),
    ] {
        let origin = Origin::start(move |_, _| [raw(sent), vec![Step::Close]].concat()).await;
        let rig = Rig::forward();
        let got = rig.get(&origin.url(PATH), "").await;
        assert_eq!(got.status, status, "{sent}");
        assert!(
            got.whole && String::from_utf8_lossy(&got.body).contains("<h1>"),
            "{sent}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_that_are_not_there_have_their_own_status() {
    let rig = Rig::hasty();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    assert_eq!(rig.get(&format!("http://{closed}/a"), "").await.status, 503);
    assert_eq!(
        rig.get("http://does-not-exist.invalid/a", "").await.status,
        502
    );
    let silent = Origin::start(|_, _| vec![Step::Pause(2 * LONG)]).await;
    assert_eq!(rig.get(&silent.url("/a"), "").await.status, 504);
}

#[tokio::test(flavor = "multi_thread")]
async fn surplus_bytes_end_the_origin_connection_and_reach_nobody() {
    let origin = Origin::start(|nth, _| {
        if nth == 0 {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")
        } else {
            answer("", b"right")
        }
    })
    .await;
    let rig = Rig::forward();
    assert_eq!(rig.get(&origin.url("/a-1-1.rpm"), "").await.body, b"hello");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.get(&origin.url("/b-1-1.rpm"), "").await.body, b"right");
}
