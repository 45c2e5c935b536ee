//! Parts under hard conditions: what must not be put together, kept, given away or cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder_policy::target::Mode;

use crate::mirror::{Mirror, Version, field};
use crate::support::{Origin, Rig, Step, open_policy, pattern, pooled, raw};

const MIB: usize = 1 << 20;
const LENGTH: usize = 3 * MIB;
const PATH: &str = "/p/big-1.0-1.x86_64.rpm";
const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

fn body(seed: u8) -> Vec<u8> {
    pattern(LENGTH).iter().map(|byte| byte ^ seed).collect()
}

/// The span that a request asks for, of a file of `LENGTH` bytes.
fn asked(head: &str) -> Option<(usize, usize)> {
    let (first, last) = field(head, "range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    let last = last
        .parse()
        .map_or(LENGTH, |last: usize| (last + 1).min(LENGTH));
    Some((first.parse().ok()?, last))
}

/// An honest answer with these fields to whatever is asked for.
fn honest(head: &str, fields: &str, body: &[u8]) -> Vec<Step> {
    let (start, end) = asked(head).unwrap_or((0, LENGTH));
    let (status, range) = match asked(head) {
        None => ("200 OK", String::new()),
        Some(_) => (
            "206 Partial Content",
            format!("Content-Range: bytes {start}-{}/{LENGTH}\r\n", end - 1),
        ),
    };
    let length = end - start;
    let head = format!("HTTP/1.1 {status}\r\n{fields}{range}Content-Length: {length}\r\n\r\n");
    vec![Step::Send([head.as_bytes(), &body[start..end]].concat())]
}

fn span(start: usize) -> String {
    format!("Range: bytes={start}-{}\r\n", start + 99)
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_validators_put_no_two_versions_together() {
    // Weak tags that differ, and dates of the very second of the answer.
    let now =
        "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n";
    let old = format!("Last-Modified: {DATE}\r\n");
    for (first, second) in [
        (
            format!("ETag: W/\"1\"\r\n{old}"),
            format!("ETag: W/\"2\"\r\n{old}"),
        ),
        (now.to_owned(), now.to_owned()),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let origin = Origin::start(move |_, head| match count.fetch_add(1, Ordering::SeqCst) {
            0 => honest(head, &first, &body(1)),
            _ => honest(head, &second, &body(2)),
        })
        .await;
        let rig = Rig::forward();
        rig.get(&origin.url(PATH), &span(0)).await;
        // Who follows the first part while it still comes is cut when the second is another's.
        for may_be_cut in [true, false] {
            let all = rig.get(&origin.url(PATH), "").await;
            let is_one = all.body == body(1) || all.body == body(2);
            assert!(is_one || (may_be_cut && !all.whole), "{}", all.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_for_one_client_is_kept_for_nobody() {
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\n");
    let origin = Origin::start(move |_, head| {
        let far = asked(head).is_some_and(|(start, _)| start >= MIB);
        if far && field(head, "authorization").is_none() {
            return vec![Step::Send(
                b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )];
        }
        let control = if far {
            "Cache-Control: no-store, private\r\n"
        } else {
            ""
        };
        honest(head, &(fields.clone() + control), &body(1))
    })
    .await;
    let rig = Rig::forward();
    let url = origin.url("/p/file.bin");
    assert_eq!(rig.get(&url, &span(0)).await.status, 206);
    let mine = format!("{}Authorization: Basic eDp5\r\n", span(2 * MIB));
    let got = rig.get(&url, &mine).await;
    assert!(
        got.status == 206 && got.body == body(1)[2 * MIB..2 * MIB + 100],
        "{}",
        got.head
    );
    let other = rig.get(&url, &span(2 * MIB)).await;
    assert_eq!(other.status, 401, "{}", other.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_with_the_host_that_they_were_given_for() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\nCache-Control: public\r\n");
    let target = Origin::start(move |_, head| {
        let personal = field(head, "cookie").is_some() || field(head, "authorization").is_some();
        count.fetch_add(usize::from(personal), Ordering::SeqCst);
        honest(head, &fields, &body(1))
    })
    .await;
    let location = target.url("/elsewhere/big.rpm");
    let first = Origin::start(move |_, _| {
        let head =
            format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        vec![Step::Send(head.into_bytes())]
    })
    .await;
    let rig = Rig::forward();
    rig.get(&first.url(PATH), &span(0)).await;
    let mine = format!(
        "{}Cookie: a=b\r\nAuthorization: Basic eDp5\r\n",
        span(2 * MIB)
    );
    rig.get(&first.url(PATH), &mine).await;
    assert_eq!(
        seen.load(Ordering::SeqCst),
        0,
        "credentials at another host"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_if_range_has_settled_need_not_be_said_again() {
    let dated = format!("Last-Modified: {DATE}\r\n");
    let origin = Origin::start(move |_, head| {
        let is_silent = field(head, "if-range").is_some();
        honest(head, if is_silent { "" } else { &dated }, &body(1))
    })
    .await;
    let rig = Rig::forward();
    rig.get(&origin.url(PATH), &span(0)).await;
    let all = rig.get(&origin.url(PATH), "").await;
    assert!(all.whole && all.body == body(1));
    let asked: Vec<_> = origin.heads().iter().map(|head| asked(head)).collect();
    assert_eq!(asked, [Some((0, MIB)), Some((MIB, LENGTH))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_another_question_is_nobodys_answer() {
    // The second request's answer has bytes from elsewhere in the file.
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\n");
    let origin = Origin::start(move |nth, head| match nth {
        1 => honest(
            "GET / HTTP/1.1\r\nRange: bytes=5-9\r\n\r\n",
            &fields,
            &body(1),
        ),
        _ => honest(head, &fields, &body(1)),
    })
    .await;
    let rig = Rig::forward();
    rig.get(&origin.url(PATH), &span(0)).await;
    let got = rig.get(&origin.url(PATH), &span(2 * MIB)).await;
    assert!(
        got.status == 206 && got.body == body(1)[2 * MIB..2 * MIB + 100],
        "{}",
        got.head
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_a_second_connection_is_refused() {
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\n");
    let origin = Origin::start(move |nth, head| {
        if nth > 0 {
            return vec![Step::Send(
                b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )];
        }
        let mut steps = Vec::new();
        let Some(Step::Send(all)) = honest(head, &fields, &body(1)).pop() else {
            return steps;
        };
        for piece in all.chunks(64 << 10) {
            steps.push(Step::Send(piece.to_vec()));
            steps.push(Step::Pause(Duration::from_millis(15)));
        }
        steps
    })
    .await;
    let rig = Arc::new(Rig::forward());
    let filling = {
        let (rig, url) = (Arc::clone(&rig), origin.url(PATH));
        tokio::spawn(async move { rig.get(&url, "").await })
    };
    tokio::time::sleep(Duration::from_millis(250)).await;
    let far = rig.get(&origin.url(PATH), &span(2 * MIB + 500_000)).await;
    assert!(far.status == 206 || far.status == 503, "{}", far.head);
    let all = filling.await.unwrap();
    assert!(all.whole && all.body == body(1), "{} bytes", all.body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_served_offline_and_to_those_who_want_nothing_else() {
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\n");
    let origin = Origin::start(move |_, head| honest(head, &fields, &body(1))).await;
    let url = origin.url(PATH);
    let rig = Rig::forward();
    rig.get(&url, &span(0)).await;
    let only = "Cache-Control: only-if-cached\r\n";
    let held = rig.get(&url, &(span(500) + only)).await;
    assert!(
        held.status == 206 && held.body == body(1)[500..600],
        "{}",
        held.head
    );
    assert_eq!(rig.get(&url, &(span(2 * MIB) + only)).await.status, 504);
    let mut policy = open_policy();
    policy.offline = true;
    let rig = rig.restarted_as(policy).await;
    let held = rig.get(&url, &span(700)).await;
    assert!(
        held.status == 206 && held.body == body(1)[700..800],
        "{}",
        held.head
    );
    assert_eq!(rig.get(&url, &span(2 * MIB)).await.status, 504);
    assert_eq!(rig.ask("HEAD", &url, "").await.status, 200);
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_herd_that_wants_it_confirmed_asks_once_and_never_gets_it_unasked() {
    let version = Version::new(body(1), Some("\"v\""), Some(DATE));
    let mirror = Mirror::start(version);
    let rig = Arc::new(Rig::forward());
    let url = mirror.url(PATH);
    rig.get(&url, &span(0)).await;
    // All have asked meanwhile, on a busy machine too.
    mirror.plan(|plan| plan.head = Duration::from_secs(3));
    let clients: Vec<_> = (0..10usize)
        .map(|n| {
            let (rig, url) = (Arc::clone(&rig), url.clone());
            tokio::spawn(async move {
                let lines = format!("{}Cache-Control: no-cache\r\n", span(n * 100));
                rig.get(&url, &lines).await
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.await.unwrap().status, 206);
    }
    let asked = mirror.heads().len() - 1;
    assert!(
        (1..=3).contains(&asked),
        "{asked} questions for ten clients"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fails_keeps_nobody_from_the_others() {
    // No file whose name tells its version: another mirror's bytes are not put together with it.
    let version = || Version::new(body(1), Some("\"v\""), Some(DATE));
    let mirrors = [Mirror::start(version()), Mirror::start(version())];
    let rig = Rig::start(pooled(&mirrors), Mode::Forward);
    let url = "http://pool.test/iso/big.iso.zsync";
    assert_eq!(rig.get(url, &span(0)).await.status, 206);
    mirrors[0].settled().await;
    mirrors[0].plan(|plan| plan.status = Some(503));
    let far = rig.get(url, &span(2 * MIB)).await;
    assert!(
        far.status == 206 && far.body == body(1)[2 * MIB..2 * MIB + 100],
        "{}",
        far.head
    );
    let all = rig.get(url, "").await;
    assert!(all.status == 200 && all.whole && all.body == body(1));
    mirrors[0].plan(|plan| plan.status = None);
    let before = mirrors[0].bytes();
    rig.get(url, &span(500)).await;
    assert_eq!(mirrors[0].bytes(), before, "its part is still held");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_is_gone_with_its_parts() {
    let mirror = Mirror::start(Version::new(body(1), Some("\"v\""), Some(DATE)));
    let rig = Rig::forward();
    let url = mirror.url(PATH);
    rig.get(&url, &span(0)).await;
    assert_eq!(
        rig.store.purge_fills(|_, held| held == Some(url.as_str())),
        1
    );
    rig.get(&url, &span(200)).await;
    assert_eq!(mirror.heads().len(), 2, "it was drawn anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_what_is_not_kept_cost_one_exchange_each() {
    let old = format!("Last-Modified: {DATE}\r\n");
    for fields in [
        "",
        "Cache-Control: no-store\r\n",
        "Cache-Control: private\r\n",
    ] {
        // Without a validator, or not to be kept.
        let fields = if fields.is_empty() {
            String::new()
        } else {
            format!("{fields}{old}")
        };
        let told = fields.clone();
        let origin = Origin::start(move |_, head| honest(head, &told, &body(1))).await;
        let rig = Rig::forward();
        for (number, start) in [5 * 1000, MIB + 7, LENGTH - 100].into_iter().enumerate() {
            let part = rig.get(&origin.url(PATH), &span(start)).await;
            assert_eq!(part.status, 206, "{}", part.head);
            let last = start + 99;
            let told = format!("bytes {start}-{last}/{LENGTH}");
            assert_eq!(part.field("content-range"), Some(&*told), "{fields}");
            assert_eq!(part.body, body(1)[start..=last], "{fields}");
            assert_eq!(origin.requests(), number + 1, "{fields}");
        }
        // Only the first is asked for in whole blocks.
        assert_eq!(asked(&origin.heads()[0]), Some((0, MIB)));
        assert_eq!(asked(&origin.heads()[1]), Some((MIB + 7, MIB + 107)));
        // What the origin is to judge is judged by it.
        let lines = format!("{}If-Range: \"x\"\r\n", span(5));
        rig.get(&origin.url(PATH), &lines).await;
        let head = &origin.heads()[3];
        assert_eq!(field(head, "if-range"), Some("\"x\""), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_another_length_than_it_tells_is_neither_passed_on_nor_kept() {
    let origin = Origin::start(|_, _| {
        raw(
            "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nCache-Control: max-age=60\r\n\
             Content-Range: bytes 4-9/10\r\nContent-Length: 5\r\n\r\n01234",
        )
    })
    .await;
    let rig = Rig::forward();
    for requests in [2, 3] {
        let got = rig.get(&origin.url(PATH), "Range: bytes=-5\r\n").await;
        assert_eq!(got.status, 502);
        assert_eq!(origin.requests(), requests, "asked for whole blocks once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_range_beyond_the_end_hides_no_other_that_is_not() {
    // RFC 9110 §15.5.17
    let old = format!("Last-Modified: {DATE}\r\n");
    let origin = Origin::start(move |_, head| match field(head, "range") {
        Some("bytes=99999999-,0-9") => honest("GET / HTTP/1.1\r\nRange: bytes=0-9", &old, &body(1)),
        Some(beyond) if beyond.starts_with("bytes=9") => {
            raw("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
        }
        _ => honest(head, &old, &body(1)),
    })
    .await;
    let rig = Rig::forward();
    let both = "Range: bytes=99999999-,0-9\r\n";
    let got = rig.get(&origin.url(PATH), both).await;
    assert!(
        got.status == 206 && got.body == body(1)[..10],
        "{}",
        got.head
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirected_files_are_confirmed_and_passed_where_they_lie() {
    for control in ["max-age=0", "no-store"] {
        let fields = format!("ETag: \"v\"\r\nCache-Control: {control}\r\n");
        let far = Origin::start(move |_, head| match field(head, "if-none-match") {
            Some("\"v\"") => raw("HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\r\n"),
            _ => honest(head, &fields, &body(1)),
        })
        .await;
        let location = far.url("/cdn/initrd.img");
        let near = Origin::start(move |_, _| {
            raw(&format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            ))
        })
        .await;
        let rig = Rig::forward();
        let url = near.url("/7/os/x86_64/images/pxeboot/initrd.img");
        for start in [0, 500, 2 * MIB] {
            let got = rig.get(&url, &span(start)).await;
            assert_eq!(got.status, 206, "{control} {}", got.head);
            assert!(got.body == body(1)[start..start + 100], "{}", got.head);
        }
        let head = rig.ask("HEAD", &url, "").await;
        assert_eq!(head.status, 200, "{control}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_answer_to_one_client_ends_no_others() {
    let fields = format!("ETag: \"v\"\r\nLast-Modified: {DATE}\r\n");
    for odd in ["whole", "no-store", "open"] {
        let fields = fields.clone();
        let origin = Origin::start(move |_, head| {
            let is_odd = asked(head).is_some_and(|(start, _)| start == 2 * MIB)
                && field(head, "if-range").is_some();
            let mut steps = Vec::new();
            let answer = match odd {
                _ if !is_odd => honest(head, &fields, &body(1)),
                "whole" => honest("", &fields, &body(1)),
                "no-store" => honest(
                    head,
                    &format!("{fields}Cache-Control: no-store\r\n"),
                    &body(1),
                ),
                _ => raw("HTTP/1.1 206 Partial Content\r\nETag: \"v\"\r\n\
                          Content-Range: bytes 2097152-2097153/*\r\nContent-Length: 2\r\n\r\nxx"),
            };
            for step in answer {
                if let Step::Send(all) = step {
                    for piece in all.chunks(64 << 10) {
                        steps.push(Step::Send(piece.to_vec()));
                        steps.push(Step::Pause(Duration::from_millis(15)));
                    }
                }
            }
            steps
        })
        .await;
        let rig = Arc::new(Rig::forward());
        rig.get(&origin.url(PATH), &span(MIB)).await;
        let drawing = {
            let (rig, url) = (Arc::clone(&rig), origin.url(PATH));
            tokio::spawn(async move {
                rig.get(&url, &format!("Range: bytes=0-{}\r\n", 2 * MIB - 1))
                    .await
            })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let got = rig.get(&origin.url(PATH), &span(2 * MIB + 500)).await;
        assert!(
            got.status == 206 && got.body == body(1)[2 * MIB + 500..][..100],
            "{odd} {}",
            got.head
        );
        let all = drawing.await.unwrap();
        assert!(
            all.whole && all.body == body(1)[..2 * MIB],
            "{odd} {}",
            all.head
        );
    }
}
