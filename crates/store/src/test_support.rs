//! What the unit tests share: random numbers that a printed seed repeats.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds by which the wall clock has jumped.
pub(crate) static JUMPED: AtomicI64 = AtomicI64::new(0);

/// What a clock shows that has jumped.
pub(crate) fn jumped(now: SystemTime) -> SystemTime {
    let by = JUMPED.load(Ordering::Relaxed);
    let far = Duration::from_secs(by.unsigned_abs());
    let there = if by < 0 {
        now.checked_sub(far)
    } else {
        now.checked_add(far)
    };
    there.unwrap_or(UNIX_EPOCH)
}

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// A head with a field that occurs twice, a Vary and bytes that are no UTF-8.
pub(crate) fn sample_meta(url: &str) -> larder_policy::meta::Meta {
    use http::{HeaderMap, HeaderValue};
    use larder_policy::meta::{Fetched, Meta, UnixTime};
    let mut headers = HeaderMap::new();
    headers.append("etag", HeaderValue::from_static("\"1\""));
    headers.append("link", HeaderValue::from_static("<a>"));
    headers.append("link", HeaderValue::from_static("<b>"));
    headers.append(
        "x-odd",
        HeaderValue::from_bytes(b"\xff\xfe").expect("opaque octets"),
    );
    Meta::new(
        200,
        headers,
        Fetched {
            url: url.to_owned(),
            origin: Some("http://m:80".to_owned()),
            request_time: UnixTime(1_700_000_000),
            response_time: UnixTime(1_700_000_001),
            vary: vec![
                ("accept".into(), None),
                ("x".into(), Some(b"\x01".to_vec())),
            ],
            authorized: true,
        },
    )
}
