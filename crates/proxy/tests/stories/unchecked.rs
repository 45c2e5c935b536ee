//! Ranges of a body that an unclean stop has damaged: whatever is thought of the copy that is held,
//! nobody is promised bytes that do not come.

use std::fs;
use std::path::Path;
use std::time::Duration;

use larder_policy::key::CacheKey;
use larder_policy::policy::Policy;
use larder_policy::target::Mode;
use larder_policy::url::Url;
use larder_proxy::config::Limits;

use crate::support::{Answer, Origin, Rig, Step, open_policy, pattern};

const LENGTH: usize = 3_000_000;
const RANGE: &str = "Range: bytes=1000-1999\r\n";

/// The file, the part of it that is asked for, or the word that it is still good.
fn file(control: &str, head: &str) -> Vec<Step> {
    let told = format!("ETag: \"1\"\r\n{control}");
    let (status, body) = if crate::mirror::field(head, "if-none-match").is_some() {
        (format!("304 Not Modified\r\n{told}"), Vec::new())
    } else if crate::mirror::field(head, "range").is_some() {
        let range = format!("Content-Range: bytes 1000-1999/{LENGTH}\r\nContent-Length: 1000\r\n");
        let body = pattern(LENGTH)[1000..2000].to_vec();
        (format!("206 Partial Content\r\n{told}{range}"), body)
    } else {
        let length = format!("Content-Length: {LENGTH}\r\n");
        (format!("200 OK\r\n{told}{length}"), pattern(LENGTH))
    };
    let head = format!("HTTP/1.1 {status}\r\n").into_bytes();
    vec![Step::Send([head, body].concat())]
}

/// A copy of a cache as a kill leaves it, with a bit flipped in its only body.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(directory.join(".")).arg(copy.path());
    assert!(command.status().unwrap().success());
    let mut path = copy.path().join("content-v2/sha256");
    while path.is_dir() {
        let inside = fs::read_dir(&path).unwrap().next();
        path = inside.unwrap().unwrap().path();
    }
    let mut bytes = fs::read(&path).unwrap();
    bytes[LENGTH / 2] ^= 1;
    fs::write(&path, bytes).unwrap();
    copy
}

/// What a client gets that asks for a range after the kill, and how many requests that took.
async fn part(control: &'static str, policy: Policy, lines: &str) -> (Answer, usize) {
    let origin = Origin::start(move |_, head| file(control, head)).await;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_owned();
    let before = Rig::on(folder, open_policy(), Mode::Forward, Limits::default());
    let url = origin.url("/data");
    assert!(before.get(&url, "").await.whole);
    let key = CacheKey::of_url(&Url::parse(&url).unwrap());
    while before.store.lookup(&key).await.is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rig = Rig::on(killed(&directory), policy, Mode::Forward, Limits::default());
    assert!(rig.store.lookup(&key).await.is_some());
    let asked = origin.requests();
    let got = rig.get(&url, &format!("{RANGE}{lines}")).await;
    (got, origin.requests() - asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn they_come_from_the_origin() {
    for control in [
        "Cache-Control: max-age=1000\r\n",
        "Cache-Control: no-cache\r\n",
        "Cache-Control: max-age=0, stale-while-revalidate=1000\r\n",
    ] {
        let (got, asked) = part(control, open_policy(), "").await;
        assert_eq!(got.status, 206, "{control}: {}", got.head);
        assert!(
            got.whole && got.body == pattern(LENGTH)[1000..2000],
            "{control}"
        );
        assert_eq!(asked, 1, "{control}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_origin_may_be_asked_they_are_not_held() {
    // RFC 9111 §5.2.1.7
    let only = "Cache-Control: only-if-cached\r\n";
    let (got, asked) = part("Cache-Control: max-age=1000\r\n", open_policy(), only).await;
    assert_eq!((got.status, asked), (504, 0), "{}", got.head);
    for control in [
        "Cache-Control: max-age=1000\r\n",
        "Cache-Control: max-age=0\r\n",
    ] {
        let policy = Policy {
            offline: true,
            ..open_policy()
        };
        let (got, asked) = part(control, policy, "").await;
        assert_eq!((got.status, asked), (504, 0), "{control}: {}", got.head);
        assert!(got.whole, "{control}");
    }
}
