//! What is held is asked about when its class, its age or the client wants it.

use crate::support::{Origin, Rig, answer, raw};

const ROOT: &str = "/7/os/x86_64/repodata/repomd.xml";
const RPM: &str = "/p/a-1.0-1.x86_64.rpm";
const DATED: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

fn not_modified(head: &str) -> bool {
    head.to_ascii_lowercase()
        .contains("if-modified-since: sun, 06 nov 1994 08:49:37 gmt")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_file_is_asked_about_at_each_use() {
    let origin = Origin::start(|nth, head| match nth {
        0 => answer(DATED, b"old"),
        1 if not_modified(head) => raw("HTTP/1.1 304 Not Modified\r\nX-New: 1\r\n\r\n"),
        _ => answer("Last-Modified: Mon, 07 Nov 1994 08:49:37 GMT\r\n", b"new"),
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(ROOT);
    assert_eq!(rig.get(&url, "").await.body, b"old");
    let same = rig.get(&url, "").await;
    assert_eq!(
        (same.body.as_slice(), same.field("x-new")),
        (&b"old"[..], Some("1"))
    );
    let new = rig.get(&url, "").await;
    assert_eq!(new.body, b"new");
    assert_eq!(origin.requests(), 3);
    let outcomes: Vec<String> = rig
        .records(3)
        .await
        .iter()
        .map(|r| format!("{:?}", r.outcome))
        .collect();
    assert_eq!(outcomes, ["Miss", "RefreshUnmodified", "RefreshModified"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_no_cache_is_one_conditional_request() {
    let origin = Origin::start(|nth, head| {
        if nth > 0 && not_modified(head) {
            raw("HTTP/1.1 304 Not Modified\r\n\r\n")
        } else {
            answer(DATED, b"body")
        }
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(RPM);
    assert_eq!(rig.get(&url, "").await.body, b"body");
    assert_eq!(rig.get(&url, "").await.body, b"body");
    assert_eq!(origin.requests(), 1);
    for lines in [
        "Cache-Control: no-cache\r\n",
        "Pragma: no-cache\r\n",
        "Cache-Control: max-age=0\r\n",
    ] {
        let got = rig.get(&url, lines).await;
        assert_eq!(
            (got.status, got.body.as_slice()),
            (200, &b"body"[..]),
            "{lines}"
        );
    }
    assert_eq!(origin.requests(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_served_when_the_origin_cannot_be_asked() {
    let origin = Origin::start(|nth, _| match nth {
        0 => answer(DATED, b"held"),
        1 => raw("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops"),
        _ => vec![crate::support::Step::Close],
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(ROOT);
    assert_eq!(rig.get(&url, "").await.body, b"held");
    for _ in 0..2 {
        let stale = rig.get(&url, "").await;
        assert_eq!((stale.status, stale.body.as_slice()), (200, &b"held"[..]));
        // RFC 9211 §2.2: it went upstream.
        let told = stale.field("cache-status").unwrap();
        assert!(told.starts_with("larder; fwd=stale; "), "{told}");
        assert!(told.ends_with("; detail=stale-if-error"), "{told}");
        assert!(stale.field("x-cache").unwrap().starts_with("HIT"));
    }
    assert_eq!(
        format!("{:?}", rig.records(3).await[2].outcome),
        "RefreshFailOld"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_revalidated_is_not_served_stale() {
    let origin = Origin::start(|nth, _| match nth {
        0 => answer(
            "Cache-Control: max-age=0, must-revalidate\r\nETag: \"a\"\r\n",
            b"held",
        ),
        _ => vec![crate::support::Step::Close],
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/page");
    assert_eq!(rig.get(&url, "").await.body, b"held");
    // RFC 9111 §5.2.2.2
    let got = rig.get(&url, "").await;
    assert_eq!(got.status, 504);
    let told = got.field("cache-status").unwrap();
    assert_eq!(told, "larder; fwd=stale; detail=origin-failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_has_no_copy_that_its_origin_did_not_confirm() {
    // RFC 9111 §5.2.1.4; §4.2.4 for a package manager whose mirror is gone
    let busy = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    for (path, failure, status) in [
        ("/page", Some(busy), 503),
        ("/page", None, 502),
        (ROOT, Some(busy), 503),
        (ROOT, None, 200),
        (RPM, Some(busy), 503),
        (RPM, None, 200),
    ] {
        let origin = Origin::start(move |nth, _| match failure {
            _ if nth == 0 => answer("Cache-Control: max-age=60\r\nETag: \"a\"\r\n", b"held"),
            Some(failure) => raw(failure),
            None => vec![crate::support::Step::Close],
        })
        .await;
        let rig = Rig::forward();
        let url = origin.url(path);
        assert_eq!(rig.get(&url, "").await.body, b"held");
        for line in ["Pragma: no-cache\r\n", "Cache-Control: no-cache\r\n"] {
            let got = rig.get(&url, line).await;
            assert_eq!(
                got.status, status,
                "{path} {failure:?} {line}: {}",
                got.head
            );
        }
        // Nothing is lost by it for those who ask for no more than a copy.
        assert_eq!(rig.get(&url, "").await.body, b"held", "{path} {failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_costs_nobody_the_copy_of_an_immutable_file() {
    let origin = Origin::start(|nth, _| match nth {
        0 => answer(DATED, b"held"),
        _ => raw("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(RPM);
    assert_eq!(rig.get(&url, "").await.body, b"held");
    assert_eq!(
        rig.get(&url, "Cache-Control: no-cache\r\n").await.body,
        b"held"
    );
    assert_eq!(rig.get(&url, "").await.body, b"held");
    assert_eq!(origin.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_is_never_sent_on() {
    let origin = Origin::start(|_, _| answer("", b"x")).await;
    let rig = Rig::forward();
    let got = rig
        .get(&origin.url(RPM), "Cache-Control: only-if-cached\r\n")
        .await;
    assert_eq!((got.status, origin.requests()), (504, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_304_forbids_to_keep_is_given_to_who_asked_and_leaves() {
    // RFC 9111 §5.2.2.5
    let origin = Origin::start(|nth, _| match nth {
        1 => raw("HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60, no-store\r\n\r\n"),
        _ => answer(DATED, format!("body {nth}").as_bytes()),
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url(ROOT);
    for wanted in ["body 0", "body 0", "body 2"] {
        let got = rig.get(&url, "").await;
        assert_eq!((got.status, &got.body[..]), (200, wanted.as_bytes()));
    }
    assert!(
        !origin.heads()[2]
            .to_ascii_lowercase()
            .contains("if-modified-since")
    );
}
