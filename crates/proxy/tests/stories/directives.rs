//! What origins' fields ask of a shared cache, seen from outside.

use std::time::{Duration, Instant};

use crate::support::{LONG, Origin, Rig, answer, raw, until};

const URL: &str = "/page";

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_answers_at_once_and_asks_meanwhile() {
    // RFC 5861 §3
    let origin = Origin::start(|nth, _| {
        let age = if nth == 0 { 1 } else { 600 };
        let control = format!("Cache-Control: max-age={age}, stale-while-revalidate=60\r\n");
        answer(&(control + "ETag: \"x\"\r\n"), format!("{nth}").as_bytes())
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(URL);
    assert_eq!(rig.get(&url, "").await.body, b"0");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let stale = rig.get(&url, "").await;
    assert_eq!(stale.body, b"0");
    assert!(
        stale
            .field("cache-status")
            .unwrap()
            .contains("stale-while-revalidate")
    );
    until("it is asked", || origin.requests() == 2).await;
    let begun = Instant::now();
    while rig.get(&url, "").await.body != b"1" {
        assert!(begun.elapsed() < LONG, "what came is not kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_reaches_the_client_that_caused_it_and_nobody_else() {
    let origin =
        Origin::start(|_, _| answer("Cache-Control: max-age=60\r\nSet-Cookie: a=b\r\n", b"x"))
            .await;
    let rig = Rig::forward();
    let first = rig.get(&origin.url(URL), "").await;
    assert_eq!(first.field("set-cookie"), Some("a=b"));
    let second = rig.get(&origin.url(URL), "").await;
    assert_eq!(second.field("set-cookie"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_invalidates_its_url_and_those_that_its_answer_names() {
    // RFC 9111 §4.4
    for (field, invalid) in [
        ("", false),
        ("Location: /other\r\n", true),
        ("Content-Location: /other\r\n", true),
        ("Location: http://elsewhere.test/other\r\n", false),
    ] {
        let origin = Origin::start(move |_, head| {
            if head.starts_with("POST") {
                raw(&format!(
                    "HTTP/1.1 200 OK\r\n{field}Content-Length: 0\r\n\r\n"
                ))
            } else {
                answer("Cache-Control: max-age=60\r\n", b"x")
            }
        })
        .await;
        let rig = Rig::forward();
        for path in [URL, "/other"] {
            rig.get(&origin.url(path), "").await;
        }
        rig.ask("POST", &origin.url(URL), "Content-Length: 0\r\n")
            .await;
        assert_eq!(origin.requests(), 3);
        rig.get(&origin.url(URL), "").await;
        assert_eq!(origin.requests(), 4, "{field}");
        rig.get(&origin.url("/other"), "").await;
        assert_eq!(origin.requests(), 4 + usize::from(invalid), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_request_invalidates_every_variant() {
    // RFC 9111 §4.4: all stored responses whose URI that is.
    let origin = Origin::start(|number, head| {
        if head.starts_with("POST") {
            raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        } else {
            answer(
                "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n",
                format!("{number}").as_bytes(),
            )
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(URL);
    let languages = ["de", "en"].map(|name| format!("Accept-Language: {name}\r\n"));
    for _ in 0..2 {
        for language in &languages {
            rig.get(&url, language).await;
        }
    }
    assert_eq!(origin.requests(), 2);
    rig.ask("POST", &url, "Content-Length: 0\r\n").await;
    for (language, requests) in languages.iter().zip(4..) {
        rig.get(&url, language).await;
        assert_eq!(origin.requests(), requests, "{language}");
    }
    // What is fetched after that second is kept again.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    rig.get(&url, &languages[0]).await;
    let before = origin.requests();
    rig.get(&url, &languages[0]).await;
    assert_eq!(origin.requests(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_is_not_known_is_kept_where_its_lifetime_is_told() {
    // RFC 9111 §3
    for (status, kept) in [("299 Odd", true), ("503 Busy", false), ("401 Who", false)] {
        let origin = Origin::start(move |_, _| {
            raw(&format!(
                "HTTP/1.1 {status}\r\nCache-Control: max-age=60\r\nContent-Length: 1\r\n\r\nx"
            ))
        })
        .await;
        let rig = Rig::forward();
        rig.get(&origin.url(URL), "").await;
        rig.get(&origin.url(URL), "").await;
        assert_eq!(origin.requests(), 2 - usize::from(kept), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn must_understand_lets_the_status_decide_and_not_no_store() {
    // RFC 9111 §5.2.2.3
    for (status, more, kept) in [
        ("200 OK", ", no-store", true),
        ("299 Odd", ", no-store", false),
        ("299 Odd", "", false),
    ] {
        let origin = Origin::start(move |_, _| {
            raw(&format!(
                "HTTP/1.1 {status}\r\nCache-Control: max-age=60, must-understand{more}\r\n\
                 Content-Length: 1\r\n\r\nx"
            ))
        })
        .await;
        let rig = Rig::forward();
        rig.get(&origin.url(URL), "").await;
        rig.get(&origin.url(URL), "").await;
        assert_eq!(origin.requests(), 2 - usize::from(kept), "{status}");
    }
}
