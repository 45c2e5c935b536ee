//! The store's own figures: memory an object, look-ups, touches, admissions, victims, starts.
//!
//! `cargo bench -p larder-store --bench store [-- OBJECTS…]`, by default 10,000, 100,000 and
//! 1,000,000. Index-only: keys, heads and heat as of real objects, but few bodies. Every start is
//! a process of its own, timed from its exec to its first hit.

use std::alloc::System;
use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use larder_policy::meta::{Fetched, Meta, UnixTime};
use larder_store::measure::{self, Probe};
use larder_store::{Config, Join, KeyHash, Store};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The key of the one object that has a body.
const REAL: u64 = u64::MAX;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let first = words.next();
    if first.as_deref() == Some("start") {
        return start(
            &PathBuf::from(words.next().expect("a directory")),
            words.next().is_some(),
        );
    }
    let mut sizes: Vec<u64> = first
        .into_iter()
        .chain(words)
        .map(|word| word.parse().expect("a number of objects"))
        .collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    for objects in sizes {
        println!("-- {objects} objects");
        in_memory(objects);
        starts(objects);
    }
    hot();
}

/// The index alone: what an object weighs, and each step's time.
fn in_memory(objects: u64) {
    let keys: Vec<KeyHash> = (0..objects).map(measure::key_hash).collect();
    let before = Region::new(HEAP);
    let probe = Probe::default();
    let started = Instant::now();
    for n in 0..objects {
        probe.admit(n);
    }
    say("admit", started.elapsed(), objects);
    let heap = before.change();
    let grown = heap.bytes_allocated as f64 - heap.bytes_deallocated as f64;
    println!(
        "memory            {:>9.1} bytes an object",
        grown / objects as f64
    );
    let plain: HashMap<[u8; 16], u64> = keys.iter().map(|key| (key.0, 20_000)).collect();
    let order = shuffled(objects);
    let rounds = 400_000.min(order.len());
    let (mut map, mut store, mut applied) = (Vec::new(), Vec::new(), Vec::new());
    // Interleaved, so that other load on the machine meets both alike.
    for _ in 0..9 {
        let started = Instant::now();
        for &n in &order[..rounds] {
            black_box(plain.get(&keys[n].0));
        }
        map.push(started.elapsed());
        let started = Instant::now();
        for &n in &order[..rounds] {
            black_box(probe.lookup_and_touch(&keys[n]));
        }
        store.push(started.elapsed());
        let started = Instant::now();
        assert!(probe.apply() > 0);
        applied.push(started.elapsed());
    }
    let (map, store, applied) = (median(map), median(store), median(applied));
    say("HashMap get", map, rounds as u64);
    say("lookup + touch", store, rounds as u64);
    println!(
        "ratio             {:>9.2}",
        store.as_secs_f64() / map.as_secs_f64()
    );
    say("apply a touch", applied, rounds.min(65_536) as u64);
    let victims = objects / 2;
    let started = Instant::now();
    assert!((0..victims).all(|_| probe.evict()));
    say("evict", started.elapsed(), victims);
}

/// Starts with that many objects, after a clean stop and after `kill -9`.
fn starts(objects: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let store = open(folder.path());
    runtime.block_on(put(&store, REAL));
    runtime.block_on(store.close());
    drop(store);
    let started = Instant::now();
    measure::make_up_index(folder.path(), objects, &meta()).expect("made up");
    println!(
        "(index made up in {:.1} s)",
        started.elapsed().as_secs_f64()
    );
    // The first start after the making up reads the file's pages anew; it is not printed.
    child(folder.path(), false);
    println!(
        "start, clean      {:>9.3} s to the first hit",
        child(folder.path(), false)
    );
    child(folder.path(), true);
    println!(
        "start, kill -9    {:>9.3} s to the first hit",
        child(folder.path(), false)
    );
    let index = std::fs::metadata(folder.path().join("index.redb")).expect("there");
    println!("index file        {:>9.1} MB", index.len() as f64 / 1e6);
}

/// Runs this program again as a start. `kill`: it is killed after its first hit and some more
/// changes. Returns the seconds from exec to the first hit.
fn child(directory: &Path, kill: bool) -> f64 {
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .arg("start")
        .arg(directory)
        .args(kill.then_some("linger"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let out = child.stdout.take().expect("piped");
    let line = BufReader::new(out)
        .lines()
        .next()
        .expect("a line")
        .expect("text");
    let taken = started.elapsed().as_secs_f64();
    assert_eq!(line, "hit");
    if kill {
        std::thread::sleep(Duration::from_secs(2));
        child.kill().expect("killed");
    }
    child.wait().expect("ended");
    taken
}

/// One start: opens, hits, and ends in order, or changes things until it is killed.
fn start(directory: &Path, linger: bool) {
    let runtime = runtime();
    let store = open(directory);
    let found = runtime.block_on(store.lookup(&measure::key(REAL)));
    assert!(found.is_some_and(|entry| entry.len() == 20_000));
    println!("hit");
    if linger {
        for n in 0.. {
            runtime.block_on(put(&store, REAL - 1 - n % 1_000));
        }
    }
    runtime.block_on(store.close());
}

/// The whole way of a hot hit, key hash and entry included.
fn hot() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    let store = open(folder.path());
    let keys: Vec<_> = (0..1_000).map(measure::key).collect();
    let started = Instant::now();
    runtime.block_on(async {
        for n in 0..1_000 {
            put(&store, n).await;
        }
    });
    println!("-- the whole store, 1,000 hot objects of 20 KB");
    say("store one", started.elapsed(), 1_000);
    let rounds = 200_000u64;
    let started = Instant::now();
    runtime.block_on(async {
        for n in 0..rounds {
            let entry = store.lookup(&keys[n as usize % 1_000]).await.expect("hot");
            store.touch(&entry);
        }
    });
    say("Store::lookup + touch", started.elapsed(), rounds);
}

async fn put(store: &Store, n: u64) {
    let key = measure::key(n);
    let Join::Lead(slot) = store.join(&key) else {
        return;
    };
    let mut body = vec![7; 20_000];
    body[..8].copy_from_slice(&n.to_le_bytes());
    let mut fill = slot.begin(meta(), Some(20_000), key).await.expect("room");
    fill.write(Bytes::from(body)).await.expect("written");
    fill.commit().await.expect("stored");
}

fn open(directory: &Path) -> Store {
    let config = Config {
        // Room for the made-up objects: nothing is to be evicted here.
        size_max: 1 << 40,
        ..Config::new(directory)
    };
    Store::open(config).expect("opens")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("a runtime")
}

/// A head as a mirror sends it: about 300 bytes of fields.
fn meta() -> Meta {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("date", "Mon, 23 Nov 2026 23:21:22 GMT"),
        ("server", "Apache/2.4.62 (Debian)"),
        ("last-modified", "Tue, 17 Nov 2026 10:00:00 GMT"),
        ("etag", "\"4e20-62a1b2c3d4e5f\""),
        ("accept-ranges", "bytes"),
        ("content-length", "20000"),
        ("content-type", "application/x-rpm"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let fetched = Fetched {
        url: "http://mirror.example/9/BaseOS/x86_64/os/Packages/p-123456.rpm".into(),
        request_time: UnixTime(1_795_000_000),
        response_time: UnixTime(1_795_000_000),
        ..Fetched::default()
    };
    Meta::new(200, headers, fetched)
}

fn shuffled(count: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count as usize).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn say(what: &str, time: Duration, count: u64) {
    println!(
        "{what:<17} {:>9.1} ns each",
        time.as_nanos() as f64 / count.max(1) as f64
    );
}
