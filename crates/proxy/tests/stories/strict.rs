//! What a strict reader of the standards found: each of these was wrong once.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use larder_policy::target::Mode;
use larder_proxy::config::Limits;
use larder_proxy::record::Outcome;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::{LONG, Origin, Rig, Step, answer, open_policy, raw};

const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_coding_that_is_not_chunked_alone_is_an_error() {
    // RFC 9112 §6.1, §6.3
    for coding in ["identity", "gzip", "gzip, chunked", "chunked, chunked"] {
        let origin = Origin::start(move |_, _| {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n");
            vec![
                Step::Send([head.as_bytes(), b"4\r\npart\r\n0\r\n\r\n"].concat()),
                Step::Close,
            ]
        })
        .await;
        let rig = Rig::forward();
        for asked in 1..=2 {
            assert_eq!(rig.get(&origin.url(PATH), "").await.status, 502, "{coding}");
            assert_eq!(origin.requests(), asked, "{coding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_outrank_a_content_length() {
    // RFC 9112 §6.3
    for control in ["no-store", "max-age=60"] {
        let origin = Origin::start(move |_, _| {
            raw(&format!(
                "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 3\r\n\
                 Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"
            ))
        })
        .await;
        let got = Rig::forward().get(&origin.url("/page"), "").await;
        assert!(got.whole && got.body == b"0123456789", "{control}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_the_framing_cannot_show_is_a_reset() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |_, _| {
        vec![
            Step::Send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_vec(),
            ),
            Step::Wait(Arc::clone(&told)),
            Step::Close,
        ]
    })
    .await;
    let rig = Rig::forward();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = format!("GET {} HTTP/1.0\r\n\r\n", origin.url(PATH));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    // A reset would take with it what has not been read.
    while !got.ends_with(b"hello") {
        assert!(stream.read_buf(&mut got).await.unwrap() > 0, "{got:?}");
    }
    go.notify_one();
    let ended = stream.read_to_end(&mut got).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(got.ends_with(b"hello"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_break_reaches_the_client() {
    let body = vec![7u8; 500_000];
    let sent = body.clone();
    let origin = Origin::start(move |_, _| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n".to_vec();
        vec![
            Step::Send([head, sent.clone()].concat()),
            Step::Pause(Duration::from_millis(300)),
            Step::Close,
        ]
    })
    .await;
    let got = Rig::forward().get(&origin.url(PATH), "").await;
    assert!(!got.whole);
    assert_eq!(got.body.len(), body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_is_not_taken_for_a_slow_head() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |_, _| {
        // It reads the body first, as servers do.
        vec![
            Step::Wait(Arc::clone(&told)),
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ]
    })
    .await;
    let limits = Limits {
        request_head: Duration::from_millis(300),
        ..Limits::default()
    };
    let rig = Rig::within(open_policy(), Mode::Forward, limits);
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nConnection: close\r\n\r\n",
        origin.url("/up")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    go.notify_one();
    let mut got = String::new();
    stream.read_to_string(&mut got).await.unwrap();
    assert!(
        got.starts_with("HTTP/1.1 200") && got.ends_with("ok"),
        "{got}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_to_its_end_is_given_up_and_silence_is_idle() {
    let limits = Limits {
        request_head: Duration::from_millis(200),
        idle: Duration::from_hours(1),
        ..Limits::default()
    };
    let rig = Rig::within(open_policy(), Mode::Forward, limits);
    let mut silent = TcpStream::connect(rig.address).await.unwrap();
    let mut slow = TcpStream::connect(rig.address).await.unwrap();
    slow.write_all(b"GET http://x").await.unwrap();
    let mut byte = [0];
    let ended = tokio::time::timeout(LONG, slow.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    let waits = tokio::time::timeout(Duration::from_millis(600), silent.read(&mut byte)).await;
    assert!(waits.is_err(), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vary_that_goes_away_is_forgotten() {
    // RFC 9111 §4.1
    let origin = Origin::start(|nth, _| {
        if nth == 0 {
            answer(
                "Vary: X-A\r\nCache-Control: max-age=0\r\nETag: \"0\"\r\n",
                b"old",
            )
        } else {
            answer("Cache-Control: max-age=60\r\nETag: \"1\"\r\n", b"new")
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/page");
    assert_eq!(rig.get(&url, "").await.body, b"old");
    for _ in 0..3 {
        assert_eq!(rig.get(&url, "").await.body, b"new");
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_of_one_answer_is_not_that_of_the_next() {
    // RFC 9111 §4.2.3
    let origin = Origin::start(|nth, _| {
        if nth == 0 {
            answer(
                "Age: 100000\r\nCache-Control: max-age=3600\r\nETag: \"x\"\r\n",
                b"x",
            )
        } else {
            raw("HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=3600\r\nETag: \"x\"\r\n\r\n")
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/page");
    rig.get(&url, "").await;
    rig.get(&url, "").await;
    let third = rig.get(&url, "").await;
    assert_eq!(origin.requests(), 2);
    let age: u64 = third.field("age").unwrap().parse().unwrap();
    assert!(age < 600, "{}", third.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_of_another_version_is_answered_by_one_question_without_condition() {
    let origin = Origin::start(|nth, head| {
        if nth > 0 && head.to_ascii_lowercase().contains("if-none-match") {
            raw("HTTP/1.1 304 Not Modified\r\nETag: \"other\"\r\n\r\n")
        } else {
            answer("Cache-Control: no-cache\r\nETag: \"mine\"\r\n", b"x")
        }
    })
    .await;
    let rig = Rig::forward();
    for _ in 0..2 {
        assert_eq!(rig.get(&origin.url("/page"), "").await.body, b"x");
    }
    assert_eq!(origin.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_other_questions_are_errors() {
    for status in ["304 Not Modified", "206 Partial Content"] {
        let origin = Origin::start(move |_, _| {
            let range = if status.starts_with('2') {
                "Content-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\nx"
            } else {
                "\r\n"
            };
            raw(&format!("HTTP/1.1 {status}\r\n{range}"))
        })
        .await;
        assert_eq!(
            Rig::forward().get(&origin.url("/page"), "").await.status,
            502,
            "{status}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_answers_all_that_waited_for_it() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |nth, _| match nth {
        0 => vec![Step::Wait(Arc::clone(&told)), Step::Close],
        _ => vec![Step::Close],
    })
    .await;
    let rig = Arc::new(Rig::forward());
    let url = origin.url(PATH);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            tokio::spawn(async move { rig.get(&url, "").await.status })
        })
        .collect();
    rig.followed_by(19).await;
    go.notify_one();
    for one in asking {
        assert_eq!(one.await.unwrap(), 502);
    }
    assert!(origin.requests() <= 2, "{}", origin.requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_is_logged_as_one_miss_and_followers() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |_, _| {
        let mut steps = vec![Step::Wait(Arc::clone(&told))];
        steps.extend(answer("", b"abc"));
        steps
    })
    .await;
    let rig = Arc::new(Rig::forward());
    let url = origin.url(PATH);
    let asking: Vec<_> = (0..30)
        .map(|_| {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            tokio::spawn(async move { rig.get(&url, "").await })
        })
        .collect();
    rig.followed_by(29).await;
    go.notify_one();
    for one in asking {
        assert_eq!(one.await.unwrap().body, b"abc");
    }
    let records = rig.records(30).await;
    let of = |outcome| {
        records
            .iter()
            .filter(|record| record.outcome == outcome)
            .count()
    };
    assert_eq!(origin.requests(), 1);
    assert_eq!(of(Outcome::Miss), 1);
    assert_eq!(of(Outcome::RefreshUnmodified), 0);
    assert_eq!(of(Outcome::CollapsedMiss), 29);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_byte_is_whole() {
    let origin = Origin::start(|_, _| answer("Cache-Control: max-age=60\r\n", b"")).await;
    let rig = Rig::forward();
    for _ in 0..2 {
        rig.get(&origin.url("/empty"), "").await;
    }
    rig.ask("HEAD", &origin.url("/empty"), "").await;
    let records = rig.records(3).await;
    assert!(records.iter().all(|record| !record.aborted), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_at_the_end_has_its_record() {
    let origin = Origin::start(|_, _| vec![Step::Pause(Duration::from_secs(30))]).await;
    let rig = Rig::forward();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.url("/slow"));
    stream.write_all(request.as_bytes()).await.unwrap();
    while origin.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.handle.end().await;
    assert!(rig.records(1).await[0].aborted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_whose_client_resets_ends_for_the_origin_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let rig = Rig::forward();
    let mut client = TcpStream::connect(rig.address).await.unwrap();
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut origin, _) = listener.accept().await.unwrap();
    let mut answer = [0; 39];
    client.read_exact(&mut answer).await.unwrap();
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    let mut byte = [0];
    let ended = tokio::time::timeout(LONG, origin.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_speaks_its_own_version_and_drops_what_no_204_has() {
    let origin = Origin::start(|_, head| {
        if head.contains("/old") {
            vec![
                Step::Send(b"HTTP/1.0 200 OK\r\n\r\nold".to_vec()),
                Step::Close,
            ]
        } else {
            raw("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
        }
    })
    .await;
    let rig = Rig::forward();
    let old = rig.get(&origin.url("/old"), "").await;
    assert!(old.head.starts_with("HTTP/1.1 200"), "{}", old.head);
    assert!(old.whole && old.body == b"old");
    let none = rig.get(&origin.url("/none"), "").await;
    assert_eq!((none.status, none.field("content-length")), (204, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn max_forwards_counts_down_and_ends_here() {
    // RFC 9110 §7.6.2
    let origin = Origin::start(|_, _| raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
    let rig = Rig::forward();
    let url = origin.url("/x");
    assert_eq!(
        rig.ask("OPTIONS", &url, "Max-Forwards: 0\r\n").await.status,
        200
    );
    assert_eq!(
        rig.ask("TRACE", &url, "Max-Forwards: 0\r\n").await.status,
        405
    );
    assert_eq!(origin.requests(), 0);
    rig.ask("OPTIONS", &url, "Max-Forwards: 3\r\n").await;
    assert!(
        origin.heads()[0]
            .to_ascii_lowercase()
            .contains("max-forwards: 2")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_cannot_hide_what_caches_go_by() {
    // RFC 9110 §7.6.1
    let origin = Origin::start(|_, _| {
        answer(
            "Connection: cache-control\r\nCache-Control: private, max-age=60\r\n",
            b"mine",
        )
    })
    .await;
    let rig = Rig::forward();
    for _ in 0..2 {
        rig.get(&origin.url("/page"), "").await;
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_named_by_no_cache_is_not_served_unasked() {
    // RFC 9111 §5.2.2.4
    let origin = Origin::start(|_, _| {
        answer(
            "Cache-Control: max-age=60, no-cache=\"X-Mine\"\r\nX-Mine: a\r\nX-Ours: b\r\n",
            b"x",
        )
    })
    .await;
    let rig = Rig::forward();
    assert_eq!(
        rig.get(&origin.url("/page"), "").await.field("x-mine"),
        Some("a")
    );
    let hit = rig.get(&origin.url("/page"), "").await;
    assert_eq!(
        (hit.field("x-mine"), hit.field("x-ours")),
        (None, Some("b"))
    );
}
