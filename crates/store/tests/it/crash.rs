//! A child works on a cache, is killed at any instant, and what it leaves is compared with what it
//! has said: `stored` is said after a commit, `begin` before anything of it, so whatever is found
//! must have been begun, and whatever was stored and not begun again must be found.
//!
//! The second variant also drops what was not synced: bodies that came after the last `synced`
//! lose their last half or their bytes, as a power loss under `durability = "fast"` may do.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use larder_store::{Digest, Join, Store};

use crate::support::{Random, body, config, get, key, meta, open};

/// The directory that a child works on; set by the test that starts it.
const CHILD: &str = "LARDER_TEST_CRASH";
/// Names that the operations draw from.
const NAMES: u64 = 40;

/// What is known of one name.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Versions that may be found.
    begun: Vec<u64>,
    /// The last that was said to be stored, if nothing was begun since.
    stored: Option<u64>,
    /// It may be absent though nothing was said.
    maybe_absent: bool,
}

fn of_version(name: u64, version: u64) -> Bytes {
    let mut random = Random::new(name * 1_000_003 + version);
    let len = match random.below(4) {
        0 => random.below(3_000),
        1 => random.below(70_000),
        2 => random.below(400_000),
        _ => random.below(1_500_000),
    };
    body(&format!("{name}-{version}"), len as usize)
}

/// Not a test of its own: what the killed child does.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let seed = std::env::var("LARDER_TEST_SEED")
        .expect("set with it")
        .parse()
        .expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(work(&PathBuf::from(folder), seed));
}

async fn work(folder: &Path, seed: u64) {
    let store = open(folder);
    say("ready");
    let mut random = Random::new(seed);
    loop {
        let (name, version) = (random.below(NAMES), random.next() >> 20);
        match random.below(10) {
            0 => {
                say(&format!("begin-remove {name}"));
                store.remove(&key(&name.to_string()));
                say(&format!("removed {name}"));
            }
            1 => {
                store.sync().await;
                say("synced");
            }
            2 => {
                say(&format!("begin {name} {version}"));
                fill(&store, name, version, true).await;
            }
            _ => {
                say(&format!("begin {name} {version}"));
                if fill(&store, name, version, false).await {
                    say(&format!("stored {name} {version}"));
                }
            }
        }
        if let Some(entry) = store.lookup(&key(&name.to_string())).await {
            store.touch(&entry);
        }
    }
}

async fn fill(store: &Store, name: u64, version: u64, break_off: bool) -> bool {
    let whole = of_version(name, version);
    let key = key(&name.to_string());
    let Join::Lead(slot) = store.join(&key) else {
        return false;
    };
    let head = meta(&version.to_string());
    let Ok(mut fill) = slot.begin(head, Some(whole.len() as u64), key).await else {
        return false;
    };
    for (at, chunk) in whole.chunks(100_000).enumerate() {
        if break_off && at > 2 {
            return false;
        }
        fill.write(Bytes::copy_from_slice(chunk))
            .await
            .expect("a disk that works");
    }
    !break_off && fill.commit().await.is_ok()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "LOG {line}").expect("the parent reads");
}

fn start(folder: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "crash::child", "--nocapture"])
        .env(CHILD, folder)
        .env("LARDER_TEST_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Lets a child work for a while and kills it. Notes what it said; returns the names that were
/// stored after its last `synced`.
fn round(folder: &Path, seed: u64, model: &mut HashMap<u64, Known>) -> Vec<(u64, u64)> {
    let mut child = start(folder, seed);
    let out = child.stdout.take().expect("piped");
    let id = std::sync::Arc::new(std::sync::Mutex::new(child));
    let killer = std::sync::Arc::clone(&id);
    let (ready, wait) = std::sync::mpsc::channel();
    let time = Duration::from_millis(Random::new(seed).below(150));
    let killing = std::thread::spawn(move || {
        wait.recv().expect("the child gets ready");
        std::thread::sleep(time);
        killer.lock().expect("no panic").kill().expect("killed");
    });
    let mut unsynced = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line.expect("text");
        let Some(said) = line.strip_prefix("LOG ") else {
            continue;
        };
        let words: Vec<&str> = said.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "ready" => ready.send(()).expect("still waited for"),
            "synced" => unsynced.clear(),
            "begin" => {
                let known = model.entry(number(1)).or_default();
                known.begun.push(number(2));
            }
            "stored" => {
                let known = model.entry(number(1)).or_default();
                *known = Known {
                    begun: vec![number(2)],
                    stored: Some(number(2)),
                    maybe_absent: false,
                };
                unsynced.push((number(1), number(2)));
            }
            "begin-remove" => model.entry(number(1)).or_default().maybe_absent = true,
            "removed" => *model.entry(number(1)).or_default() = Known::default(),
            other => panic!("{other}"),
        }
    }
    killing.join().expect("no panic");
    id.lock().expect("no panic").wait().expect("ended");
    unsynced
}

/// Drops the bytes that a power loss may drop. Their names may be lost with them.
fn lose_unsynced(folder: &Path, unsynced: &[(u64, u64)], model: &mut HashMap<u64, Known>) {
    for (at, (name, version)) in unsynced.iter().enumerate() {
        let whole = of_version(*name, *version);
        let path = folder.join(Digest::of(&whole).content_path());
        let Ok(file) = fs::OpenOptions::new().write(true).open(&path) else {
            continue;
        };
        let len = whole.len() as u64;
        if at % 2 == 0 {
            file.set_len(len / 2).expect("cut");
        } else {
            // A hole where data was: what delayed allocation leaves behind.
            file.set_len(0).expect("cut");
            file.set_len(len).expect("grown");
        }
        if let Some(known) = model.get_mut(name) {
            known.maybe_absent = true;
        }
    }
}

async fn compare(folder: &Path, model: &mut HashMap<u64, Known>, round: u64) {
    let store = Store::open(config(folder)).expect("opens after any crash");
    for name in 0..NAMES {
        let known = model.entry(name).or_default();
        let found = get_or_error(&store, name).await;
        if let Some(read) = found {
            let right = known
                .begun
                .iter()
                .copied()
                .find(|&version| of_version(name, version) == read);
            assert!(
                right.is_some(),
                "round {round}: name {name} has bytes never begun"
            );
            *known = Known {
                begun: right.into_iter().collect(),
                stored: right,
                maybe_absent: false,
            };
        } else {
            assert!(
                known.stored.is_none() || known.maybe_absent,
                "round {round}: name {name} was stored and is lost: {known:?}"
            );
            *known = Known::default();
        }
    }
    let snapshot = store.snapshot();
    assert!(snapshot.used_bytes <= snapshot.max_bytes);
    store.close().await;
}

/// A body that is found out to be damaged while it is read is a cut answer: not found.
async fn get_or_error(store: &Store, name: u64) -> Option<Vec<u8>> {
    get(store, &name.to_string()).await
}

fn rounds(lossy: bool) {
    let rounds = match std::env::var("LARDER_TEST_CRASH_ROUNDS") {
        Ok(text) => text.parse().expect("a number of rounds"),
        Err(_) => 60,
    };
    let seed = 20_261_123;
    println!("seed {seed}, {rounds} rounds");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut folder = tempfile::tempdir().expect("a folder");
    let mut model = HashMap::new();
    let mut stored = 0;
    for at in 0..rounds {
        if at % 15 == 0 {
            folder = tempfile::tempdir().expect("a folder");
            model.clear();
        }
        let unsynced = round(folder.path(), seed + at, &mut model);
        stored += unsynced.len();
        if lossy {
            lose_unsynced(folder.path(), &unsynced, &mut model);
        }
        runtime.block_on(compare(folder.path(), &mut model, at));
    }
    assert!(
        stored > rounds as usize,
        "the children did next to nothing: {stored}"
    );
}

#[test]
fn killed_at_any_instant_a_cache_opens_and_holds_every_stored_object_whole() {
    rounds(false);
}

#[test]
fn bodies_that_a_power_loss_took_are_found_out_before_a_wrong_byte_is_served() {
    rounds(true);
}
