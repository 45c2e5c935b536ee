//! Transfers that break while others draw what comes after them.

use std::time::Duration;

use crate::mirror::{Mirror, Version, field};
use crate::support::{Rig, pattern, until};

const MIB: usize = 1 << 20;
const LENGTH: usize = 4 * MIB + 1234;
const PATH: &str = "/p/big-1.0-1.x86_64.rpm";

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_goes_on_asks_for_no_more_than_others_leave() {
    let whole = pattern(LENGTH);
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    let mirror = Mirror::start(Version::new(whole.clone(), Some("\"v1\""), Some(date)));
    // It breaks long after the last block has been asked for.
    mirror.plan(|plan| {
        plan.breaks.push_back(2 * MIB);
        plan.pace = Duration::from_millis(40);
    });
    let rig = Rig::forward();
    let url = mirror.url(PATH);
    let far = async {
        until("it has begun", || mirror.bytes() > 0).await;
        rig.get(&url, "Range: bytes=-34\r\n").await
    };
    let (all, far) = tokio::join!(rig.get(&url, ""), far);
    assert!(far.status == 206 && far.body == whole[LENGTH - 34..]);
    assert!(all.whole && all.body == whole, "{}", all.head);
    let heads = mirror.heads();
    let ranges: Vec<_> = heads
        .iter()
        .filter_map(|head| field(head, "range"))
        .collect();
    assert_eq!(
        ranges,
        ["bytes=4194304-4195537", "bytes=2097152-4194303"],
        "the second is the rest of the first transfer"
    );
    assert_eq!(mirror.bytes(), LENGTH);
}
