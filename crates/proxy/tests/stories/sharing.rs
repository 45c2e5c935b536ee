//! What may be shared, and what is for one client alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use larder_policy::store_id::{Pattern, StoreIdRule, StoreIds};
use larder_policy::target::Mode;
use tokio::sync::Notify;

use crate::support::{LONG, Origin, Rig, Step, answer, open_policy, raw};

const PATH: &str = "/p/a-1.0-1.x86_64.rpm";

fn mapped() -> Rig {
    let pattern = Pattern::new("/p/(.*)").unwrap();
    let rule = StoreIdRule::new(pattern, "http://store.internal/$1", "test".into());
    let mut policy = open_policy();
    policy.store_ids = StoreIds::new(vec![rule]);
    Rig::start(policy, Mode::Forward)
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_share_one_object_by_store_id() {
    let a = Origin::start(|_, _| answer("ETag: \"a\"\r\n", b"same")).await;
    let b = Origin::start(|_, _| answer("ETag: \"b\"\r\n", b"same")).await;
    let rig = mapped();
    assert_eq!(rig.get(&a.url(PATH), "").await.body, b"same");
    assert_eq!(rig.get(&b.url(PATH), "").await.body, b"same");
    assert_eq!((a.requests(), b.requests()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_good_whole_answers_fill_a_store_id() {
    for bad in [
        "HTTP/1.1 404 Not Found\r\nCache-Control: max-age=600\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nxx",
    ] {
        let a = Origin::start(move |_, _| raw(bad)).await;
        let b = Origin::start(|_, _| answer("", b"good")).await;
        let rig = mapped();
        rig.get(&a.url(PATH), "").await;
        assert_eq!(rig.get(&b.url(PATH), "").await.body, b"good", "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_credentials_neither_read_nor_fill_what_is_shared() {
    for lines in ["Authorization: Basic eDp5\r\n", "Cookie: a=b\r\n"] {
        let a = Origin::start(|_, _| answer("", b"mine")).await;
        let b = Origin::start(|_, _| answer("", b"ours")).await;
        let rig = mapped();
        assert_eq!(rig.get(&a.url(PATH), lines).await.body, b"mine");
        assert_eq!(rig.get(&b.url(PATH), "").await.body, b"ours", "{lines}");
        assert_eq!(rig.get(&a.url(PATH), lines).await.body, b"mine", "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_ids_own_url_is_another_object() {
    let a = Origin::start(|_, _| answer("", b"shared")).await;
    let rig = mapped();
    rig.get(&a.url(PATH), "").await;
    let got = rig
        .get("http://store.internal/a-1.0-1.x86_64.rpm", "")
        .await;
    assert_eq!(got.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_the_origin_did_not_see_selects_nothing() {
    // RFC 9111 §4.1, RFC 9110 §7.6.1
    for (field, connection) in [
        ("Accept-Language", "Accept-Language"),
        ("X-Sel", "close, x-sel"),
    ] {
        let origin = Origin::start(move |_, head| {
            let body = if head.to_ascii_lowercase().contains(": de\r\n") {
                "german"
            } else {
                "any"
            };
            let fields = format!("Vary: {field}\r\nCache-Control: max-age=60\r\n");
            answer(&fields, body.as_bytes())
        })
        .await;
        let rig = Rig::forward();
        let url = origin.url("/page");
        let hidden = format!("{field}: de\r\nConnection: {connection}\r\n");
        assert_eq!(rig.get(&url, &hidden).await.body, b"any", "{field}");
        let shown = format!("{field}: de\r\n");
        assert_eq!(rig.get(&url, &shown).await.body, b"german", "{field}");
        // The other way round it is the same.
        assert_eq!(rig.get(&url, &hidden).await.body, b"any", "{field}");
        assert_eq!(origin.requests(), 2, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn set_cookie_is_never_replayed() {
    let a = Origin::start(|_, _| answer("Set-Cookie: id=1\r\n", b"x")).await;
    let rig = Rig::forward();
    rig.get(&a.url(PATH), "").await;
    assert_eq!(rig.get(&a.url(PATH), "").await.field("set-cookie"), None);
    assert_eq!(a.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_vary_are_kept_apart() {
    let origin = Origin::start(|_, head| {
        let german = head.to_ascii_lowercase().contains("accept-language: de");
        let fields = "Vary: Accept-Language\r\nCache-Control: max-age=60\r\n";
        answer(fields, if german { b"hallo" } else { b"hello" })
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/page");
    for _ in 0..2 {
        assert_eq!(
            rig.get(&url, "Accept-Language: de\r\n").await.body,
            b"hallo"
        );
        assert_eq!(
            rig.get(&url, "Accept-Language: en\r\n").await.body,
            b"hello"
        );
    }
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsafe_method_that_succeeds_invalidates() {
    let origin = Origin::start(|_, head| {
        if head.starts_with("DELETE") {
            raw("HTTP/1.1 204 No Content\r\n\r\n")
        } else {
            answer("Cache-Control: max-age=60\r\n", b"x")
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/page");
    rig.get(&url, "").await;
    rig.get(&url, "").await;
    assert_eq!(origin.requests(), 1);
    assert_eq!(rig.ask("DELETE", &url, "").await.status, 204);
    rig.get(&url, "").await;
    assert_eq!(origin.requests(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_one_mirror_lacks_a_file_is_remembered_for_that_mirror_alone() {
    let none =
        "HTTP/1.1 404 Not Found\r\nCache-Control: max-age=600\r\nContent-Length: 2\r\n\r\nno";
    let a = Origin::start(move |_, _| raw(none)).await;
    let b = Origin::start(|_, _| answer("", b"good")).await;
    let rig = mapped();
    for _ in 0..3 {
        assert_eq!(rig.get(&a.url(PATH), "").await.status, 404);
    }
    assert_eq!(a.requests(), 1);
    assert_eq!(rig.get(&b.url(PATH), "").await.body, b"good");
    // And once it is held, nobody lacks it.
    let begun = Instant::now();
    while rig.get(&a.url(PATH), "").await.body != b"good" {
        assert!(begun.elapsed() < LONG, "it is still said to be missing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_asks_for_what_is_not_there_asks_once_for_each_mirror() {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let none = move || {
        vec![
            Step::Wait(Arc::clone(&told)),
            Step::Send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno".to_vec()),
        ]
    };
    let a = Origin::start(move |_, _| none()).await;
    let b = Origin::start(|_, _| answer("", b"good")).await;
    let rig = Arc::new(mapped());
    let ask = |url: String| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.get(&url, "").await })
    };
    let lacking: Vec<_> = (0..6).map(|_| ask(a.url(PATH))).collect();
    rig.followed_by(5).await;
    let other = ask(b.url(PATH));
    rig.followed_by(6).await;
    go.notify_one();
    for one in lacking {
        let got = one.await.unwrap();
        assert!(got.status == 404 || got.body == b"good");
    }
    assert_eq!(other.await.unwrap().body, b"good");
    assert_eq!((a.requests(), b.requests()), (1, 1));
}
