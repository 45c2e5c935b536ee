//! A child works on a cache, is killed at any instant, and what it leaves is compared with what it
//! has said: `stored` is said after a commit, `begin` before anything of it, so whatever is found
//! must have been begun, and whatever was stored and not begun again must be found.
//!
//! Two more variants also take back what was not synced, as a power loss may do: writes to the index
//! file (noted by a layer over its file operations until a sync, then lost or kept at random), ends
//! of journal files, and bodies that came after the last sync, which lose their last half or their
//! bytes. Under `durability = "fast"` what came after the last sync may then be gone, but never
//! wrong; under `full`, where bodies and journal are synced before an object counts as stored,
//! nothing that was said to be stored may be missing.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use larder_store::{Digest, Disk, Durability, Join, Store, Unsynced};

use crate::support::{Random, body, config, key, meta, open, patiently, read_all};

/// The directory that a child works on; set by the test that starts it.
const CHILD: &str = "LARDER_TEST_CRASH";
/// Where the child's writes to the index are noted until they are synced.
const NOTES: &str = "LARDER_TEST_NOTES";
/// The child syncs bodies and journal, if this is set.
const FULL: &str = "LARDER_TEST_FULL";
/// Names that the operations draw from.
const NAMES: u64 = 40;

/// How the child ends, and what is lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The process is killed.
    Killed,
    /// The power goes, under `durability = "fast"`.
    PowerLostFast,
    /// The power goes, under `durability = "full"`.
    PowerLostFull,
}

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

/// What the child said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Begin(u64, u64),
    Stored(u64, u64),
    BeginRemove(u64),
    Removed(u64),
    BeginSync,
    Synced,
}

impl Said {
    fn parse(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        match words[0] {
            "begin" => Self::Begin(number(1), number(2)),
            "stored" => Self::Stored(number(1), number(2)),
            "begin-remove" => Self::BeginRemove(number(1)),
            "removed" => Self::Removed(number(1)),
            "begin-sync" => Self::BeginSync,
            "synced" => Self::Synced,
            other => panic!("{other}"),
        }
    }

    /// What holds afterwards if nothing is lost.
    fn note(self, model: &mut HashMap<u64, Known>) {
        match self {
            Self::Begin(name, version) => model.entry(name).or_default().begun.push(version),
            Self::Stored(name, version) => {
                let known = Known {
                    begun: vec![version],
                    stored: Some(version),
                    maybe_absent: false,
                };
                model.insert(name, known);
            }
            Self::BeginRemove(name) => model.entry(name).or_default().maybe_absent = true,
            Self::Removed(name) => drop(model.insert(name, Known::default())),
            Self::BeginSync | Self::Synced => {}
        }
    }

    /// What holds afterwards if it may be lost or not.
    fn note_doubtful(self, model: &mut HashMap<u64, Known>) {
        let (Self::Begin(name, _)
        | Self::Stored(name, _)
        | Self::BeginRemove(name)
        | Self::Removed(name)) = self
        else {
            return;
        };
        let known = model.entry(name).or_default();
        known.maybe_absent = true;
        if let Self::Begin(_, version) = self {
            known.begun.push(version);
        }
    }
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
    let mut config = config(folder);
    if std::env::var_os(FULL).is_some() {
        config.durability = Durability::Full;
    }
    let disk = std::env::var_os(NOTES).map_or_else(Disk::default, |notes| {
        Disk::noting(Path::new(&notes)).expect("can be made")
    });
    let store = patiently(|| Store::open_on(config.clone(), disk.clone()));
    say("ready");
    let mut random = Random::new(seed);
    loop {
        let (name, version) = (random.below(NAMES), random.next() >> 20);
        match random.below(10) {
            0 => {
                say(&format!("begin-remove {name}"));
                store.remove(&key(&name.to_string())).await;
                say(&format!("removed {name}"));
            }
            1 => {
                say("begin-sync");
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

fn start(folder: &Path, notes: &Path, seed: u64, ending: Ending) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "crash::child", "--nocapture"])
        .env(CHILD, folder)
        .env("LARDER_TEST_SEED", seed.to_string())
        .stdout(Stdio::piped());
    if ending != Ending::Killed {
        command.env(NOTES, notes);
    }
    if ending == Ending::PowerLostFull {
        command.env(FULL, "1");
    }
    command.spawn().expect("starts")
}

/// Lets a child work for a while and kills it. Returns what it said.
fn round(folder: &Path, notes: &Path, seed: u64, ending: Ending) -> Vec<Said> {
    let mut child = start(folder, notes, seed, ending);
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
    let mut all = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line.expect("text");
        match line.strip_prefix("LOG ") {
            None => {}
            Some("ready") => ready.send(()).expect("still waited for"),
            Some(said) => all.push(Said::parse(said)),
        }
    }
    killing.join().expect("no panic");
    id.lock().expect("no panic").wait().expect("ended");
    all
}

/// Notes what must and what may be found after the child's end.
fn note(all: &[Said], ending: Ending, model: &mut HashMap<u64, Known>) {
    let safe = match ending {
        Ending::Killed | Ending::PowerLostFull => all.len(),
        // Everything before the beginning of the last sync that ended.
        Ending::PowerLostFast => {
            let synced = all.iter().rposition(|said| *said == Said::Synced);
            synced.map_or(0, |at| {
                let begun = all[..at].iter().rposition(|said| *said == Said::BeginSync);
                begun.expect("a sync begins before it ends")
            })
        }
    };
    for said in &all[..safe] {
        said.note(model);
    }
    for said in &all[safe..] {
        said.note_doubtful(model);
    }
}

/// Takes from the bodies what a power loss may take. A sync that has begun may have saved what
/// came before it.
fn lose_bodies(folder: &Path, unsynced: &Unsynced, all: &[Said]) {
    let begun = all.iter().rposition(|said| *said == Said::BeginSync);
    let after = &all[begun.map_or(0, |at| at + 1)..];
    let stored = after.iter().filter_map(|said| match said {
        Said::Stored(name, version) => Some(of_version(*name, *version)),
        _ => None,
    });
    for (at, whole) in stored.enumerate() {
        let digest = Digest::of(&whole);
        if unsynced.is_body_synced(&digest) {
            continue;
        }
        let path = folder.join(digest.content_path());
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
    }
}

/// Cuts the ends off journal files, as far as they were not synced.
fn lose_journal(folder: &Path, unsynced: &Unsynced, random: &mut Random) {
    for entry in fs::read_dir(folder.join("journal")).expect("there") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.expect("text").parse().expect("a number");
        let synced = unsynced.journal_synced(number);
        let file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .expect("there");
        let len = file.metadata().expect("there").len();
        if random.below(2) == 0 {
            let kept = synced + random.below(len - synced + 1);
            file.set_len(kept).expect("cut");
        }
    }
}

/// Loses what a power loss may take. Returns how many writes to the index were unsynced.
fn lose(folder: &Path, notes: &Path, all: &[Said], seed: u64) -> usize {
    let mut random = Random::new(seed + 7);
    let unsynced = Unsynced::read(notes, folder).expect("noted");
    unsynced.lose(|| random.below(2) == 0).expect("taken back");
    lose_bodies(folder, &unsynced, all);
    lose_journal(folder, &unsynced, &mut random);
    unsynced.count()
}

/// A body as a client gets it; one that is cut at its end because its digest does not agree is none.
async fn whole(store: &Store, name: &str) -> Option<Vec<u8>> {
    let entry = store.lookup(&key(name)).await?;
    read_all(entry.reader(0, entry.len())).await.ok()
}

async fn compare(folder: &Path, model: &mut HashMap<u64, Known>, round: u64) {
    let store = open(folder);
    for name in 0..NAMES {
        let known = model.entry(name).or_default();
        if let Some(read) = whole(&store, &name.to_string()).await {
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

fn rounds(ending: Ending, short: u64) {
    let long = std::env::var("LARDER_TESTS_LONG").is_ok_and(|text| !text.is_empty());
    let rounds = if long { 1_000 } else { short };
    let seed = 20_261_123;
    println!("seed {seed}, {rounds} rounds");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let mut folder = tempfile::tempdir().expect("a folder");
    let notes = tempfile::NamedTempFile::new().expect("a file");
    let mut model = HashMap::new();
    let (mut stored, mut unsynced) = (0, 0);
    for at in 0..rounds {
        if at % 15 == 0 {
            folder = tempfile::tempdir().expect("a folder");
            model.clear();
        }
        let all = round(folder.path(), notes.path(), seed + at, ending);
        let is_stored = |said: &&Said| matches!(said, Said::Stored(..));
        stored += all.iter().filter(is_stored).count() as u64;
        note(&all, ending, &mut model);
        if ending != Ending::Killed {
            unsynced += lose(folder.path(), notes.path(), &all, seed + at);
        }
        runtime.block_on(compare(folder.path(), &mut model, at));
    }
    println!("{stored} objects stored, {unsynced} unsynced writes to the index");
    assert!(stored > rounds, "the children did next to nothing");
}

#[test]
fn killed_at_any_instant_a_cache_opens_and_holds_every_stored_object_whole() {
    rounds(Ending::Killed, 60);
}

#[test]
fn bodies_that_a_power_loss_took_are_found_out_before_a_wrong_byte_is_served() {
    rounds(Ending::PowerLostFast, 60);
}

#[test]
fn under_full_durability_a_power_loss_takes_nothing_that_was_stored() {
    rounds(Ending::PowerLostFull, 20);
}
