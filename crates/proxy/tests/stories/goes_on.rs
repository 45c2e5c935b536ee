//! Transfers that break go on from where they were; pools of origins stand in for each other.

use std::time::Duration;

use larder_policy::route::{Mirror, Origin as Member, Routes, Select};
use larder_policy::target::{Mode, Site};
use larder_policy::url::Authority;

use crate::support::{LONG, Origin, Rig, Step, answer, open_policy, raw};

const PATH: &str = "/p/big-1.0-1.x86_64.rpm";
const DATED: &str = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";

fn body() -> Vec<u8> {
    (0..400_000u32).map(|n| (n % 251) as u8).collect()
}

/// The first byte that a request's Range asks for.
fn asked_from(head: &str) -> Option<usize> {
    let line = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("range: bytes="))?;
    line[13..].trim_end_matches('-').parse().ok()
}

/// A 206 from `start` to the end.
fn rest(fields: &str, body: &[u8], start: usize) -> Vec<Step> {
    let mut bytes = format!(
        "HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes {start}-{}/{}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len() - 1,
        body.len(),
        body.len() - start
    )
    .into_bytes();
    bytes.extend_from_slice(&body[start..]);
    vec![Step::Send(bytes)]
}

/// A whole answer that ends after `length` bytes of its body.
fn broken(fields: &str, body: &[u8], length: usize) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    vec![
        Step::Send([head.as_bytes(), &body[..length]].concat()),
        // Long enough for the bytes to be read before the connection ends.
        Step::Pause(Duration::from_millis(100)),
        Step::Close,
    ]
}

/// An accelerator in front of a pool.
fn pool(origins: &[&Origin], select: Select) -> Rig {
    let authority = Authority::parse("pool.test", Some(80)).unwrap();
    let mirror = Mirror {
        name: "pool".into(),
        hosts: vec!["pool.test".into()],
        origins: origins
            .iter()
            .map(|origin| Member::parse(&format!("http://{}/", origin.address)).unwrap())
            .collect(),
        select,
        access: None,
    };
    let mut policy = open_policy();
    policy.routes = Routes {
        mirrors: vec![mirror],
        ..Routes::default()
    };
    let site = Site {
        authority,
        mirror: Some("pool".into()),
        vhost: false,
    };
    Rig::start(policy, Mode::Accelerator(site))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_goes_on_at_the_same_origin_by_its_strong_tag() {
    let whole = body();
    let served = whole.clone();
    let origin = Origin::start(move |nth, head| match asked_from(head) {
        None => broken("ETag: \"v\"\r\n", &served, 150_000),
        Some(start) if nth < 3 => {
            let mut steps = rest("ETag: \"v\"\r\n", &served[..], start);
            if let Some(Step::Send(bytes)) = steps.first_mut() {
                bytes.truncate(60_000);
            }
            steps.push(Step::Pause(Duration::from_millis(100)));
            steps.push(Step::Close);
            steps
        }
        Some(start) => rest("ETag: \"v\"\r\n", &served, start),
    })
    .await;
    let rig = Rig::forward();
    let got = rig.get(&origin.url(PATH), "").await;
    assert!(got.whole && got.body == whole);
    let asked: Vec<_> = origin.heads().iter().map(|head| asked_from(head)).collect();
    assert_eq!((asked[0], asked[1]), (None, Some(150_000)));
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(origin.heads()[1].contains("If-Range: \"v\""));
    let hit = rig.get(&origin.url(PATH), "").await;
    assert!(hit.body == whole && origin.requests() == 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_transfer_goes_on_too() {
    let whole = body();
    let served = whole.clone();
    let origin = Origin::start(move |_, head| match asked_from(head) {
        None => {
            let mut steps = broken(DATED, &served, 150_000);
            steps[1] = Step::Pause(2 * LONG);
            steps
        }
        Some(start) => rest(DATED, &served, start),
    })
    .await;
    let got = Rig::hasty().get(&origin.url(PATH), "").await;
    assert!(got.whole && got.body == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_to_be_the_same_file_is_cut() {
    for (first, second, status) in [
        // No validator at all.
        ("", "", "206 Partial Content"),
        // A weak tag and nothing else.
        (
            "ETag: W/\"v\"\r\n",
            "ETag: W/\"v\"\r\n",
            "206 Partial Content",
        ),
        // Another version.
        ("ETag: \"v\"\r\n", "ETag: \"w\"\r\n", "206 Partial Content"),
        (
            DATED,
            "Last-Modified: Mon, 01 Jan 2024 00:00:01 GMT\r\n",
            "206 Partial Content",
        ),
        // Everything again.
        ("ETag: \"v\"\r\n", "ETag: \"v\"\r\n", "200 OK"),
    ] {
        let whole = body();
        let origin = Origin::start(move |_, head| match asked_from(head) {
            None => broken(first, &whole, 150_000),
            Some(start) => {
                let mut steps = rest(second, &whole, start);
                if let Some(Step::Send(bytes)) = steps.first_mut() {
                    let text = String::from_utf8_lossy(&bytes[..40]).into_owned();
                    assert!(text.starts_with("HTTP/1.1 206 Partial Content"));
                    bytes.splice(9..28, status.bytes());
                }
                steps
            }
        })
        .await;
        let got = Rig::forward().get(&origin.url(PATH), "").await;
        assert!(!got.whole, "{first}{second}{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mirror_goes_on_where_its_bytes_agree() {
    let whole = body();
    for agrees in [true, false] {
        let (first, mut second) = (whole.clone(), whole.clone());
        if !agrees {
            second[120_000] ^= 1;
        }
        let a = Origin::start(move |nth, _| {
            if nth == 0 {
                broken(&format!("{DATED}ETag: \"a\"\r\n"), &first, 150_000)
            } else {
                vec![Step::Close]
            }
        })
        .await;
        let b = Origin::start(move |_, head| {
            let start = asked_from(head).expect("only the rest is asked for");
            rest(&format!("{DATED}ETag: \"b\"\r\n"), &second, start)
        })
        .await;
        let rig = pool(&[&a, &b], Select::Ordered);
        let got = rig
            .talk(
                format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
                false,
            )
            .await;
        assert_eq!(asked_from(&b.heads()[0]), Some(150_000 - 65_536));
        assert_eq!(got.whole, agrees);
        assert!(!agrees || got.body == whole);
    }
}

async fn fetched(rig: &Rig, path: &str) -> crate::support::Answer {
    let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    rig.talk(text.as_bytes(), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_origin_of_a_pool_answers_where_one_cannot() {
    for bad in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        "no http at all\r\n\r\n",
    ] {
        let a = Origin::start(move |_, _| raw(bad)).await;
        let b = Origin::start(|_, _| answer("", b"good")).await;
        let rig = pool(&[&a, &b], Select::Ordered);
        assert_eq!(fetched(&rig, PATH).await.body, b"good", "{bad}");
    }
    // Where nobody has it, the first one's answer counts.
    let none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let a = Origin::start(move |_, _| raw(none)).await;
    let b = Origin::start(|_, _| raw("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")).await;
    let rig = pool(&[&a, &b], Select::Ordered);
    assert_eq!(fetched(&rig, PATH).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_failed_is_left_alone_for_a_while() {
    let mut asked = Vec::new();
    // That while is a second, which may be over on a busy machine: it has more than one try.
    while asked.len() < 20 && asked.last() != Some(&1) {
        let dead = Origin::start(|_, _| vec![Step::Close]).await;
        let good = Origin::start(|_, _| answer("", b"good")).await;
        let rig = pool(&[&dead, &good], Select::Ordered);
        for name in ["a-1", "b-1", "c-1"] {
            assert_eq!(fetched(&rig, &format!("/p/{name}.rpm")).await.body, b"good");
        }
        assert_eq!(good.requests(), 3);
        asked.push(dead.requests());
    }
    assert_eq!(asked.last(), Some(&1), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_take_turns_where_that_is_wanted() {
    let a = Origin::start(|_, _| answer("", b"x")).await;
    let b = Origin::start(|_, _| answer("", b"x")).await;
    let rig = pool(&[&a, &b], Select::RoundRobin);
    for name in ["a-1", "b-1", "c-1", "d-1"] {
        fetched(&rig, &format!("/p/{name}.rpm")).await;
    }
    assert_eq!((a.requests(), b.requests()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_of_packages_are_followed_and_kept_under_the_first_name() {
    let mirror = Origin::start(|_, _| answer("", b"package")).await;
    let to = mirror.url("/deep/a-1.0-1.rpm");
    let hub = Origin::start(move |_, head| {
        if head.contains("/loop") {
            raw("HTTP/1.1 302 Found\r\nLocation: /loop/a-1.rpm\r\nContent-Length: 0\r\n\r\n")
        } else {
            raw(&format!(
                "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            ))
        }
    })
    .await;
    let rig = Rig::forward();
    for _ in 0..2 {
        let got = rig.get(&hub.url("/p/a-1.0-1.rpm"), "").await;
        assert_eq!((got.status, got.body.as_slice()), (200, &b"package"[..]));
    }
    assert_eq!((hub.requests(), mirror.requests()), (1, 1));
    // Not for what is no package, and not without end.
    assert_eq!(rig.get(&hub.url("/index"), "").await.status, 302);
    assert_eq!(rig.get(&hub.url("/loop/a-1.rpm"), "").await.status, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accelerator_follows_no_redirect_to_another_site() {
    let other = Origin::start(|_, _| answer("", b"elsewhere")).await;
    let to = other.url("/a-1.rpm").replace("127.0.0.1", "localhost");
    let own = Origin::start(move |_, _| {
        raw(&format!(
            "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
        ))
    })
    .await;
    let rig = pool(&[&own], Select::Ordered);
    assert_eq!(fetched(&rig, "/p/a-1.rpm").await.status, 302);
    assert_eq!(other.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_404_of_a_file_that_is_often_missing_is_remembered() {
    let origin =
        Origin::start(|_, _| raw("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")).await;
    let rig = Rig::forward();
    for _ in 0..2 {
        for path in ["/images/updates.img", "/p/a-1.rpm"] {
            assert_eq!(rig.get(&origin.url(path), "").await.status, 404);
        }
        // Longer than a herd takes.
        tokio::time::sleep(Duration::from_millis(2100)).await;
    }
    assert_eq!(origin.requests(), 3);
}
