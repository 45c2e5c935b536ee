//! Ranges of files that are not held, and of those of which parts are.

use std::sync::Arc;
use std::time::Duration;

use larder_policy::class::Class;
use larder_policy::target::Mode;

use crate::mirror::{Mirror, Version, field};
use crate::mixes::IN_FLIGHT;
use crate::support::{Answer, Rig, open_policy, pooled, until};

const MIB: usize = 1 << 20;
const LENGTH: usize = 4 * MIB + 1234;
const PATH: &str = "/p/big-1.0-1.x86_64.rpm";
const DATE: &str = "Mon, 01 Jan 2024 00:00:00 GMT";

fn body(seed: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut bytes = Vec::with_capacity(LENGTH + 8);
    while bytes.len() < LENGTH {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(LENGTH);
    bytes
}

fn version(seed: usize) -> Version {
    Version::new(body(seed), Some(&format!("\"v{seed}\"")), Some(DATE))
}

async fn range(rig: &Rig, mirror: &Mirror, spec: &str) -> Answer {
    rig.get(&mirror.url(PATH), &format!("Range: bytes={spec}\r\n"))
        .await
}

/// The ranges that the mirror was asked for; "" for a whole.
fn ranges(mirror: &Mirror) -> Vec<String> {
    let heads = mirror.heads();
    let range = |head: &String| field(head, "range").unwrap_or_default().to_owned();
    heads.iter().map(range).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_range_draws_its_block_once_and_the_whole_draws_the_gaps() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    let rig = Rig::forward();
    let first = range(&rig, &mirror, "1500000-1500099").await;
    assert!(
        first.status == 206 && first.body == whole[1_500_000..1_500_100],
        "{}",
        first.head
    );
    assert_eq!(
        first.field("content-range"),
        Some(format!("bytes 1500000-1500099/{LENGTH}").as_str())
    );
    let again = range(&rig, &mirror, "1100000-1200000").await;
    assert!(again.body == whole[1_100_000..=1_200_000]);
    assert!(
        again.field("cache-status").unwrap().contains("larder; hit"),
        "{}",
        again.head
    );
    let tail = range(&rig, &mirror, "-34").await;
    assert!(tail.body == whole[LENGTH - 34..], "{}", tail.head);
    let all = rig.get(&mirror.url(PATH), "").await;
    assert!(all.status == 200 && all.whole && all.body == whole);
    assert_eq!(
        ranges(&mirror),
        [
            "bytes=1048576-2097151",
            "bytes=4194304-4195537",
            "bytes=0-1048575",
            "bytes=2097152-4194303"
        ]
    );
    assert_eq!(mirror.bytes(), LENGTH);
    until("stored", || rig.store.snapshot().objects == 1).await;
    let hit = rig.get(&mirror.url(PATH), "").await;
    assert!(hit.body == whole && mirror.bytes() == LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_ranges_come_from_parts_and_are_answered_in_the_order_asked() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    let rig = Rig::forward();
    let spec = "2100000-2100009,5-9,4194000-4194999,3000000-3000009";
    let got = range(&rig, &mirror, spec).await;
    let mut at = 0;
    for (start, end) in [
        (2_100_000, 2_100_010),
        (5, 10),
        (4_194_000, 4_195_000),
        (3_000_000, 3_000_010),
    ] {
        let part = &whole[start..end];
        let found = got.body[at..]
            .windows(part.len())
            .position(|window| window == part);
        at += found.expect("the parts in order") + part.len();
    }
    assert!(got.status == 206 && got.whole && mirror.bytes() <= LENGTH);
    mirror.settled().await;
    let before = mirror.bytes();
    let again = range(&rig, &mirror, spec).await;
    // The boundary tells when the origin last confirmed it.
    assert!(again.status == 206 && again.body.len() == got.body.len());
    assert_eq!(mirror.bytes(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_want_one_block_draw_it_once() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    mirror.plan(|plan| plan.head = Duration::from_millis(80));
    let rig = Arc::new(Rig::forward());
    let clients: Vec<_> = (0..8usize)
        .map(|n| {
            let (rig, mirror) = (Arc::clone(&rig), mirror.clone());
            let start = 2_100_000 + n * 10_000;
            tokio::spawn(async move {
                let spec = format!("{start}-{}", start + 99);
                (start, range(&rig, &mirror, &spec).await)
            })
        })
        .collect();
    for client in clients {
        let (start, got) = client.await.unwrap();
        assert!(got.body == whole[start..start + 100], "{}", got.head);
    }
    assert_eq!(ranges(&mirror), ["bytes=2097152-3145727"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_range_of_a_slow_fill_is_quick_and_no_block_is_drawn_twice() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    mirror.plan(|plan| plan.pace = Duration::from_millis(40));
    let rig = Arc::new(Rig::forward());
    let filling = {
        let (rig, url) = (Arc::clone(&rig), mirror.url(PATH));
        tokio::spawn(async move { rig.get(&url, "").await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let far = range(&rig, &mirror, "3500000-3500099").await;
    assert!(
        far.status == 206 && far.body == whole[3_500_000..3_500_100],
        "{}",
        far.head
    );
    assert!(!filling.is_finished(), "it did not wait for the fill");
    let all = filling.await.unwrap();
    assert!(all.whole && all.body == whole);
    // What was on its way when the fill was overtaken.
    let cut = mirror.sent().iter().filter(|sent| !sent.complete).count();
    assert!(
        cut <= 1 && mirror.bytes() <= LENGTH + IN_FLIGHT,
        "{:?}",
        mirror.sent()
    );
    until("stored", || rig.store.snapshot().objects == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broken_fill_has_left_is_gone_on_with_by_the_next_client_and_after_a_restart() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    mirror.plan(|plan| {
        plan.breaks = [2 * MIB + 500_000].into();
        plan.then = Some(503);
    });
    let rig = Rig::forward();
    let first = rig.get(&mirror.url(PATH), "").await;
    assert!(!first.whole && whole.starts_with(&first.body));
    assert!(first.body.len() >= 2 * MIB + 500_000);
    mirror.plan(|plan| plan.status = None);
    let before = mirror.bytes();
    let rig = rig.restarted().await;
    let second = rig.get(&mirror.url(PATH), "").await;
    assert!(second.whole && second.body == whole);
    assert_eq!(
        mirror.bytes() - before,
        LENGTH - 2 * MIB,
        "{:?}",
        ranges(&mirror)
    );
    assert!(mirror.heads().last().unwrap().contains("If-Range: \"v1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_changed_ends_its_parts_and_nobody_gets_two_versions() {
    for same_date in [true, false] {
        let mirror = Mirror::start(version(1));
        let rig = Rig::forward();
        let old = range(&rig, &mirror, "0-99").await;
        assert!(old.body == body(1)[..100]);
        let date = if same_date {
            DATE
        } else {
            "Tue, 02 Jan 2024 00:00:00 GMT"
        };
        mirror.change(Version::new(body(2), Some("\"v2\""), Some(date)));
        let far = range(&rig, &mirror, "3000000-3000099").await;
        assert!(far.body == body(2)[3_000_000..3_000_100], "{}", far.head);
        let all = rig.get(&mirror.url(PATH), "").await;
        assert!(all.whole && all.body == body(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_ignores_ranges_or_conditions_costs_one_whole_file() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    mirror.plan(|plan| plan.ignores_ranges = true);
    let rig = Rig::forward();
    let got = range(&rig, &mirror, "3000000-3000099").await;
    assert!(
        got.status == 206 && got.body == whole[3_000_000..3_000_100],
        "{}",
        got.head
    );
    let all = rig.get(&mirror.url(PATH), "").await;
    assert!(all.body == whole && mirror.bytes() == LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_impossible_ranges_are_answered_from_a_part() {
    let mirror = Mirror::start(version(1));
    let rig = Rig::forward();
    range(&rig, &mirror, "0-99").await;
    let url = mirror.url(PATH);
    assert_eq!(rig.get(&url, "If-None-Match: \"v1\"\r\n").await.status, 304);
    let beyond = range(&rig, &mirror, "99999999-").await;
    assert_eq!(beyond.status, 416);
    assert_eq!(
        beyond.field("content-range"),
        Some(format!("bytes */{LENGTH}").as_str())
    );
    let head = rig.ask("HEAD", &url, "").await;
    assert_eq!(
        head.field("content-length"),
        Some(LENGTH.to_string().as_str())
    );
    assert_eq!(mirror.heads().len(), 1);
    // Its If-Range names another version: the client gets the whole of this one.
    let other = rig
        .get(&url, "Range: bytes=5-9\r\nIf-Range: \"old\"\r\n")
        .await;
    assert!(other.status == 200 && other.whole && other.body == body(1));
    assert_eq!(mirror.bytes(), LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_range_beyond_the_end_is_a_416_of_the_origins() {
    let mirror = Mirror::start(version(1));
    let rig = Rig::forward();
    for spec in ["99999999-", "99999999-100000000"] {
        assert_eq!(range(&rig, &mirror, spec).await.status, 416, "{spec}");
    }
    // Within the last block but beyond the end.
    assert_eq!(range(&rig, &mirror, "4196000-4196001").await.status, 416);
    assert_eq!(
        mirror.bytes(),
        1234,
        "the last block, which was worth keeping"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_apart_later_is_not_kept_in_parts() {
    let mirror = Mirror::start(Version::new(body(1), Some("W/\"1\""), None));
    let rig = Rig::forward();
    let got = range(&rig, &mirror, "3000000-3000099").await;
    assert!(
        got.status == 206 && got.body == body(1)[3_000_000..3_000_100],
        "{}",
        got.head
    );
    mirror.change(Version::new(body(2), Some("W/\"2\""), None));
    let got = range(&rig, &mirror, "3000000-3000099").await;
    assert!(got.body == body(2)[3_000_000..3_000_100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_some_classes_a_range_fetches_the_whole() {
    let mirror = Mirror::start(version(1));
    let mut policy = open_policy();
    policy.whole_for_ranges = vec![Class::Immutable];
    let rig = Rig::start(policy, Mode::Forward);
    let got = range(&rig, &mirror, "3000000-3000099").await;
    assert!(got.status == 206 && got.body == body(1)[3_000_000..3_000_100]);
    assert_eq!(ranges(&mirror), [""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_instead_of_a_part_reaches_the_client_and_costs_no_part() {
    let (whole, mirror) = (body(1), Mirror::start(version(1)));
    let rig = Rig::forward();
    range(&rig, &mirror, "0-99").await;
    mirror.plan(|plan| plan.status = Some(503));
    let far = range(&rig, &mirror, "3000000-3000099").await;
    assert_eq!(far.status, 503);
    let near = range(&rig, &mirror, "200-299").await;
    assert!(near.status == 206 && near.body == whole[200..300]);
    mirror.plan(|plan| plan.status = None);
    let all = rig.get(&mirror.url(PATH), "").await;
    assert!(all.body == whole && mirror.bytes() == LENGTH);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_break_has_left_of_a_new_version_is_gone_on_with_beside_the_old_one() {
    let mirror = Mirror::start(version(1));
    let rig = Rig::forward();
    let url = mirror.url(PATH);
    assert!(rig.get(&url, "").await.body == body(1));
    // Times are told in seconds: what comes is newer.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    mirror.change(version(2));
    mirror.plan(|plan| {
        plan.breaks = [2 * MIB].into();
        plan.then = Some(503);
    });
    let ask = "Cache-Control: no-cache\r\n";
    assert!(!rig.get(&url, ask).await.whole);
    mirror.plan(|plan| {
        plan.breaks.clear();
        plan.then = None;
        plan.status = None;
    });
    let before = mirror.bytes();
    let again = rig.get(&url, ask).await;
    assert!(again.whole && again.body == body(2), "{}", again.head);
    let drawn = mirror.bytes() - before;
    assert!(drawn <= LENGTH - 2 * MIB + (64 << 10), "{drawn}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_part_is_asked_about_before_it_is_used() {
    let path = "/p/big.iso.zsync";
    let fields = |seed: usize| {
        let mut version = version(seed);
        version.fields += "Cache-Control: max-age=0\r\n";
        version
    };
    let mirror = Mirror::start(fields(1));
    let rig = Rig::forward();
    let get = async || {
        let url = mirror.url(path);
        rig.get(&url, "Range: bytes=100-199\r\n").await
    };
    assert!(get().await.body == body(1)[100..200]);
    assert!(get().await.body == body(1)[100..200]);
    assert!(
        mirror.heads()[1].contains("If-None-Match: \"v1\""),
        "{:?}",
        mirror.heads()
    );
    mirror.settled().await;
    assert_eq!(mirror.bytes(), MIB);
    // Of another version no more is drawn than what is asked for, and for a HEAD nothing.
    mirror.change(fields(2));
    let head = rig.ask("HEAD", &mirror.url(path), "").await;
    assert_eq!(head.field("etag"), Some("\"v2\""));
    assert_eq!(mirror.bytes(), MIB);
    assert!(get().await.body == body(2)[100..200]);
    mirror.settled().await;
    assert_eq!(mirror.bytes(), 2 * MIB);
}

/// Two mirrors with tags of their own break the transfer five times at these offsets.
async fn broken_five_times(offsets: [usize; 5]) {
    let whole = body(1);
    let mirrors: Vec<Mirror> = ["\"a\"", "\"b\""]
        .iter()
        .map(|tag| Mirror::start(Version::new(whole.clone(), Some(tag), Some(DATE))))
        .collect();
    mirrors[0].plan(|plan| plan.breaks = [offsets[0], offsets[1], offsets[2]].into());
    mirrors[1].plan(|plan| plan.breaks = [offsets[3], offsets[4]].into());
    let rig = Rig::start(pooled(&mirrors), Mode::Forward);
    let got = rig.get(&format!("http://pool.test{PATH}"), "").await;
    assert!(got.whole && got.body == whole, "{offsets:?}: {}", got.head);
    let drawn: usize = mirrors.iter().map(Mirror::bytes).sum();
    let broken = mirrors.iter().flat_map(Mirror::sent);
    let broken = broken.filter(|sent| !sent.complete).count();
    let allowed = broken * (64 * 1024 + 256 * 1024);
    assert!(drawn <= LENGTH + allowed, "{offsets:?}: {drawn} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn five_breaks_at_two_mirrors_are_one_answer() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..6 {
        let offsets = std::array::from_fn(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            1 + (state % (LENGTH as u64 / 2)) as usize
        });
        broken_five_times(offsets).await;
    }
}
