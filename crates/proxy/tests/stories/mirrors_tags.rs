//! Mirrors of one pool that have the same file under other entity tags: a tag is for the mirror
//! that gave it, and nothing is fetched again because another one is asked.

use larder_policy::policy::Policy;
use larder_policy::route::Select;
use larder_policy::target::Mode;

use crate::mirror::{Mirror, Version, field};
use crate::support::{Answer, Rig, pattern, pooled};

/// Asked about at each use.
const ROOT: &str = "http://pool.test/7/os/x86_64/repodata/repomd.xml";
/// Asked about when its client wants that.
const RPM: &str = "http://pool.test/p/big-1.0-1.x86_64.rpm";
const ASK: &str = "Cache-Control: no-cache\r\n";
const OLD: &str = "Mon, 01 Jan 2024 00:00:00 GMT";
const NEW: &str = "Tue, 02 Jan 2024 00:00:00 GMT";
const LENGTH: usize = 100_000;
/// What a part is drawn in, bytes.
const BLOCK: usize = 1 << 20;

/// A date that tells versions apart needs an answer that is younger.
fn version(body: Vec<u8>, tag: &str, modified: Option<&str>) -> Version {
    let mut version = Version::new(body, Some(tag), modified);
    version.fields += "Date: Wed, 03 Jan 2024 00:00:00 GMT\r\n";
    version
}

fn mirrors(modified: Option<&str>) -> [Mirror; 2] {
    ["\"a\"", "\"b\""].map(|tag| Mirror::start(version(pattern(LENGTH), tag, modified)))
}

fn by_turns(mirrors: &[Mirror]) -> Policy {
    let mut policy = pooled(mirrors);
    policy.routes.mirrors[0].select = Select::RoundRobin;
    policy
}

fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.whole && answer.body == pattern(LENGTH)
}

/// What mirrors have sent together, bytes.
fn bytes(mirrors: &[Mirror]) -> usize {
    mirrors.iter().map(Mirror::bytes).sum()
}

fn tags_sent(mirror: &Mirror) -> Vec<String> {
    let heads = mirror.heads();
    let tags = heads.iter().filter_map(|head| field(head, "if-none-match"));
    tags.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_that_are_asked_by_turns_send_the_file_once() {
    let pool = mirrors(Some(OLD));
    let rig = Rig::start(by_turns(&pool), Mode::Forward);
    for turn in 0..5 {
        let answer = rig.get(ROOT, "").await;
        assert!(is_whole(&answer), "turn {turn}: {}", answer.head);
        // What clients are told stays the same, whoever confirms it.
        assert_eq!(answer.field("etag"), Some("\"a\""), "turn {turn}");
    }
    assert_eq!(bytes(&pool), LENGTH);
    assert_eq!([0, 1].map(|n| pool[n].heads().len()), [3, 2]);
    assert_eq!(tags_sent(&pool[0]), ["\"a\"", "\"a\""]);
    assert_eq!(tags_sent(&pool[1]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_the_tag_is_is_known_after_a_restart() {
    let pool = mirrors(Some(OLD));
    let rig = Rig::start(by_turns(&pool), Mode::Forward);
    assert!(is_whole(&rig.get(ROOT, "").await));
    let rig = rig.restarted_as(by_turns(&pool)).await;
    for _ in 0..2 {
        assert!(is_whole(&rig.get(ROOT, "").await));
    }
    assert_eq!(bytes(&pool), LENGTH);
    assert_eq!(tags_sent(&pool[0]), ["\"a\""]);
    assert_eq!(tags_sent(&pool[1]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_confirmed_by_either_mirror() {
    let body = pattern(3 * BLOCK);
    let pool = ["\"a\"", "\"b\""].map(|tag| Mirror::start(version(body.clone(), tag, Some(OLD))));
    let rig = Rig::start(by_turns(&pool), Mode::Forward);
    for turn in 0..5 {
        let answer = rig.get(RPM, &format!("Range: bytes=0-99\r\n{ASK}")).await;
        assert_eq!(answer.status, 206, "turn {turn}");
        assert_eq!(answer.body, body[..100], "turn {turn}");
    }
    for mirror in &pool {
        mirror.settled().await;
    }
    assert_eq!(bytes(&pool), BLOCK);
    assert_eq!([0, 1].map(|n| pool[n].heads().len()), [3, 2]);
    assert_eq!(tags_sent(&pool[0]), ["\"a\"", "\"a\""]);
    assert_eq!(tags_sent(&pool[1]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_out_for_once_costs_no_transfer() {
    let pool = mirrors(Some(OLD));
    let rig = Rig::start(pooled(&pool), Mode::Forward);
    assert!(is_whole(&rig.get(ROOT, "").await));
    pool[0].plan(|plan| plan.status = Some(503));
    assert!(is_whole(&rig.get(ROOT, "").await));
    pool[0].plan(|plan| plan.status = None);
    assert!(is_whole(&rig.get(ROOT, "").await));
    assert_eq!(bytes(&pool), LENGTH);
    // Of the same request each mirror had its own conditions.
    assert_eq!(tags_sent(&pool[0]), ["\"a\"", "\"a\""]);
    assert_eq!(pool[1].heads().len(), 1);
    assert_eq!(field(&pool[1].heads()[0], "if-modified-since"), Some(OLD));
    assert_eq!(tags_sent(&pool[1]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_at_the_other_mirror_is_fetched() {
    let pool = mirrors(Some(OLD));
    let rig = Rig::start(by_turns(&pool), Mode::Forward);
    assert!(is_whole(&rig.get(ROOT, "").await));
    for mirror in &pool {
        mirror.change(version(b"changed".to_vec(), "\"c\"", Some(NEW)));
    }
    for _ in 0..3 {
        assert_eq!(rig.get(ROOT, "").await.body, b"changed");
    }
    assert_eq!(bytes(&pool), LENGTH + b"changed".len());
    // The new tag is the other mirror's.
    assert_eq!(tags_sent(&pool[1]), ["\"c\""]);
    assert_eq!(tags_sent(&pool[0]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_date_of_the_file_that_of_the_answer_asks() {
    let pool = mirrors(None);
    let rig = Rig::start(by_turns(&pool), Mode::Forward);
    for _ in 0..2 {
        assert!(is_whole(&rig.get(ROOT, "").await));
    }
    let asked = &pool[1].heads()[0];
    assert_eq!(field(asked, "if-none-match"), None);
    assert_eq!(
        field(asked, "if-modified-since"),
        Some("Wed, 03 Jan 2024 00:00:00 GMT")
    );
}
