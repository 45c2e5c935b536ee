//! What the stories share: a store in its own directory, bodies that a seed repeats, readers.

use std::future::poll_fn;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime};
use larder_store::{Config, Entry, Fill, Join, OpenError, ReadError, Reader, Slot, Store};

/// Bound on what has to come: a busy machine may give a test no turn for many seconds.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// A store with a cap that no test of something else meets.
pub(crate) fn open(directory: &Path) -> Store {
    patiently(|| Store::open(config(directory)))
}

/// Opens a directory that should be free. A job of the store that was here before may still be
/// ending, and a child that another test has just forked holds its lock until it runs.
pub(crate) fn patiently(open: impl Fn() -> Result<Store, OpenError>) -> Store {
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        match open() {
            Err(OpenError::Held { .. }) => std::thread::sleep(Duration::from_millis(20)),
            opened => return opened.expect("the directory is free and writable"),
        }
    }
    panic!("the directory is not let go");
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until so many uses of an object are counted: deliveries queue up for a moment.
pub(crate) async fn used_by(store: &Store, name: &str, times: u32) {
    let counted = || {
        store
            .object(&key(name))
            .is_some_and(|object| object.uses >= times)
    };
    until("its uses are counted", counted).await;
}

pub(crate) fn config(directory: &Path) -> Config {
    Config {
        size_max: 1 << 30,
        memory_max: 64 << 20,
        ..Config::new(directory)
    }
}

pub(crate) fn key(name: &str) -> CacheKey {
    CacheKey::of_store_id(&format!("http://mirror.example/{name}"))
}

pub(crate) fn meta(name: &str) -> Meta {
    let mut headers = HeaderMap::new();
    headers.insert(
        "etag",
        HeaderValue::from_str(&format!("\"{name}\"")).expect("visible"),
    );
    let fetched = Fetched {
        url: format!("http://mirror.example/{name}"),
        request_time: UnixTime(1_700_000_000),
        response_time: UnixTime(1_700_000_001),
        ..Fetched::default()
    };
    Meta::new(200, headers, fetched)
}

/// Bytes that differ for every name.
pub(crate) fn body(name: &str, len: usize) -> Bytes {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

pub(crate) fn lead(store: &Store, key: &CacheKey) -> Slot {
    match store.join(key) {
        Join::Lead(slot) => slot,
        Join::Follow(_) => panic!("somebody else leads"),
    }
}

pub(crate) async fn begin(store: &Store, name: &str, length: Option<u64>) -> Fill {
    let slot = lead(store, &key(name));
    slot.begin(meta(name), length, key(name))
        .await
        .expect("there is room")
}

/// Stores a body under a name, in pieces as an origin would send it.
pub(crate) async fn put(store: &Store, name: &str, body: &Bytes) -> Entry {
    let mut fill = begin(store, name, Some(body.len() as u64)).await;
    for chunk in body.chunks(50_000) {
        fill.write(Bytes::copy_from_slice(chunk))
            .await
            .expect("written");
    }
    fill.commit().await.expect("committed")
}

pub(crate) async fn read_all(mut reader: Reader) -> Result<Vec<u8>, ReadError> {
    let mut all = Vec::new();
    while let Some(piece) = next(&mut reader).await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

pub(crate) async fn next(reader: &mut Reader) -> Option<Result<Bytes, ReadError>> {
    poll_fn(|cx| reader.poll_next(cx)).await
}

pub(crate) async fn get(store: &Store, name: &str) -> Option<Vec<u8>> {
    let entry = store.lookup(&key(name)).await?;
    let read = read_all(entry.reader(0, entry.len())).await;
    Some(read.expect("a whole body"))
}

/// Waits until no fill holds room: a write that was under way when its fill was dropped ends first.
pub(crate) async fn all_released(store: &Store) {
    until("no room is reserved", || {
        store.snapshot().reserved_bytes == 0
    })
    .await;
}

/// SplitMix64: what a printed seed repeats.
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
}
