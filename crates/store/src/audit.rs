//! Reads bodies again and compares them with their digests: at once when an administrator wants it,
//! and all the time, slowly, in the background.
//!
//! Both go through the bodies in the order of their digests. A digest is as good as random, so in
//! each minute the background walk takes the minute's share of all digests. It notes where it is: a
//! time in which larder does not run makes it later, and skips nothing; no clock is asked. What is
//! damaged is dropped and counted like anything found at a hit.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use larder_policy::key::CacheKey;

use crate::body;
use crate::codec;
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::{Digest, KeyHash};
use crate::index::VERIFIED;
use crate::lock;
use crate::store::Store;

/// Bytes a second that the background walk reads at most.
const SCRUB_RATE: u64 = 32 << 20;
/// Bytes that the list of what is to be repaired may have.
const LOST_MAX: u64 = 64 << 20;
/// How often the position of an audit is written down.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// Turns of the background walk that one of them makes up for at most.
const TURNS_MAX: u32 = 4;
/// Where the background walk notes its place.
const SCRUBBED_TO: &str = "scrub.at";

/// Blobs that are looked at under the lock at a time.
pub(crate) const AT_ONCE: usize = if cfg!(test) { 3 } else { 4096 };

/// How far an audit is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bodies looked at, those of an interrupted run that is resumed included.
    pub bodies: u64,
    /// Bodies in all.
    pub bodies_total: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bodies that were not what they should be.
    pub damaged: u64,
    /// Bodies that could not be read just now.
    pub unread: u64,
    /// Objects whose head is damaged: they are dropped, and nothing says what to fetch again.
    pub nameless: u64,
}

/// A body that was not what it should be, and is gone.
#[derive(Clone, Debug)]
pub struct Damaged {
    /// Its digest.
    pub digest: Digest,
    /// What was wrong with it.
    pub fault: Fault,
    /// The keys that named it, each with the URL that it came from.
    pub objects: Vec<(CacheKey, String)>,
}

/// One step of an audit.
#[derive(Debug)]
pub enum Checked {
    /// A body was whole, or could not be read.
    Passed,
    /// A body was not.
    Damaged(Damaged),
}

/// A body to look at.
#[derive(Clone, Copy, Debug)]
struct Body {
    digest: Digest,
    slot: u32,
    id: u64,
    len: u64,
}

/// What became of it.
enum Verdict {
    Whole,
    Gone,
    Unread(io::Error),
    Damaged(Fault),
}

impl Store {
    /// Objects that audits have dropped and nobody has stored again; kept until they are forgotten.
    /// Blocking.
    pub fn lost(&self) -> Vec<(CacheKey, String)> {
        let text = fs::read_to_string(self.core.layout.lost()).unwrap_or_default();
        let mut seen = HashSet::new();
        text.lines()
            .filter_map(|line| serde_json::from_str::<(String, String)>(line).ok())
            .filter_map(|(key, url)| Some((CacheKey::from_text(&key)?, url)))
            .filter(|(key, _)| self.object(key).is_none() && seen.insert(key.clone()))
            .collect()
    }

    /// Forgets them: whoever wanted them again has tried. Blocking.
    pub fn forget_lost(&self) -> io::Result<()> {
        match fs::remove_file(self.core.layout.lost()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Reads every body and drops those that are not what they should be. `each` is told of every
    /// body and ends the audit by returning false; unless `anew`, the next one goes on there.
    /// Blocking.
    pub fn verify(
        &self,
        anew: bool,
        mut each: impl FnMut(&Checked, Progress) -> bool,
    ) -> io::Result<Progress> {
        let core = &self.core;
        let note = core.layout.audit();
        let after = if anew { None } else { noted(&note) };
        let all = core.bodies(|_| true);
        let skipped = after.map_or(0, |after| all.partition_point(|body| body.digest <= after));
        let mut progress = Progress {
            bodies: skipped as u64,
            bodies_total: all.len() as u64,
            ..Progress::default()
        };
        let mut written = Instant::now();
        for body in all.iter().skip(skipped) {
            let lost = core.layout.lost();
            let checked = core.check(body, &mut progress, |damaged| note_lost(&lost, damaged))?;
            progress.bodies += 1;
            let goes_on = each(&checked, progress) && !core.is_stopping();
            if !goes_on || written.elapsed() >= NOTE_EVERY {
                fs::write(&note, body.digest.to_string())?;
                written = Instant::now();
            }
            if !goes_on {
                return Ok(progress);
            }
        }
        match fs::remove_file(&note) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(progress),
        }
    }
}

/// Whoever is to repair it may be interrupted.
fn note_lost(path: &std::path::Path, damaged: &Damaged) -> io::Result<()> {
    let mut lines = String::new();
    for (key, url) in &damaged.objects {
        lines.push_str(&serde_json::json!([key.to_string(), url]).to_string());
        lines.push('\n');
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() < LOST_MAX {
        file.write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn noted(note: &std::path::Path) -> Option<Digest> {
    Digest::from_hex(fs::read_to_string(note).ok()?.trim())
}

impl Core {
    /// Every body that is wanted, in the order of digests. Bodies that come or go meanwhile may be
    /// left out.
    fn bodies(&self, wanted: impl Fn(&Digest) -> bool) -> Vec<Body> {
        let mut all = Vec::new();
        for from in (0..).step_by(AT_ONCE) {
            // The lock is for look-ups too: it is held for a part of them at a time.
            let state = lock(&self.state);
            if from >= state.index.places() {
                break;
            }
            let blobs = state.index.blobs_in(from..from + AT_ONCE);
            let wanted = blobs.filter(|(_, blob)| wanted(&blob.digest));
            all.extend(wanted.map(|(slot, blob)| Body {
                digest: blob.digest,
                slot,
                id: blob.id,
                len: blob.len,
            }));
        }
        all.sort_unstable_by_key(|body| body.digest);
        all
    }

    /// Looks at a body. One that is not what it should be is dropped, once `note` has noted which
    /// it was: its names are gone with it.
    fn check(
        &self,
        body: &Body,
        progress: &mut Progress,
        note: impl FnOnce(&Damaged) -> io::Result<()>,
    ) -> io::Result<Checked> {
        match self.judge(body) {
            Verdict::Whole => {
                progress.bytes += body.len;
                self.set_verified(body.slot, body.id);
                self.check_heads(body, progress);
            }
            Verdict::Gone => {}
            Verdict::Unread(e) => {
                self.counters.fault(Fault::Read, &e);
                progress.unread += 1;
            }
            Verdict::Damaged(fault) => {
                let keys = self.keys_of(body);
                let damaged = Damaged {
                    digest: body.digest,
                    fault,
                    objects: self.named_by(&keys),
                };
                note(&damaged)?;
                // It may have left in order meanwhile.
                if self.lost(fault, body.slot, body.id, &body.digest) {
                    progress.damaged += 1;
                    progress.nameless += (keys.len() - damaged.objects.len()) as u64;
                    return Ok(Checked::Damaged(damaged));
                }
            }
        }
        Ok(Checked::Passed)
    }

    fn judge(&self, body: &Body) -> Verdict {
        if lock(&self.state).index.at(body.slot, body.id).is_none() {
            return Verdict::Gone;
        }
        let path = self.root().join(body.digest.content_path());
        let file = match self.disk.pass().and_then(|()| body::open_regular(&path)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !self.is_pulled_away() => {
                return Verdict::Damaged(Fault::Missing);
            }
            Err(e) => return Verdict::Unread(e),
        };
        match file.metadata().map(|data| data.len()) {
            Ok(len) if len != body.len => return Verdict::Damaged(Fault::Short),
            Ok(_) => {}
            Err(e) => return Verdict::Unread(e),
        }
        match body::hash_agrees(&file, body.len, &body.digest) {
            Ok(true) => Verdict::Whole,
            Ok(false) => Verdict::Damaged(Fault::Flipped),
            Err(e) => Verdict::Unread(e),
        }
    }

    fn keys_of(&self, body: &Body) -> Vec<KeyHash> {
        let state = lock(&self.state);
        let found = state.index.with_keys(body.slot, body.id);
        found.map_or_else(Vec::new, |(_, keys)| keys)
    }

    /// Looks at the heads that name a whole body: an object is no more than these say.
    fn check_heads(&self, body: &Body, progress: &mut Progress) {
        let version = |key: &KeyHash| {
            let state = lock(&self.state);
            state.index.get(key).map(|found| found.version)
        };
        let keys = self.keys_of(body);
        let versions: Vec<_> = keys.iter().map(version).collect();
        let records = match self.read_heads(&keys) {
            Ok(records) => records,
            Err(e) => {
                self.counters.fault(Fault::Index, &e);
                progress.unread += 1;
                return;
            }
        };
        for ((key, before), record) in keys.iter().zip(versions).zip(records) {
            let head = record.as_deref().and_then(codec::decode_head);
            let right = head.is_some_and(|head| {
                KeyHash::of(&head.key) == *key && head.digest == body.digest && head.len == body.len
            });
            // One that has changed meanwhile is another.
            if !right && before.is_some() && version(key) == before {
                self.counters.fault(Fault::Head, &body.digest);
                self.forget(*key);
                progress.nameless += 1;
            }
        }
    }

    fn named_by(&self, keys: &[KeyHash]) -> Vec<(CacheKey, String)> {
        let objects = self.objects(keys).into_iter();
        objects
            .map(|object| (object.key, object.meta.url().to_owned()))
            .collect()
    }

    /// Reads bodies in the background until the store closes: each once in `period`.
    pub(crate) fn scrub(&self, period: Duration) {
        let note = self.layout.audit().with_file_name(SCRUBBED_TO);
        let mut at = begin(&note, period);
        let turn = Duration::from_mins(1).min(period / 60);
        let mut last = Instant::now();
        loop {
            if !self.rest(turn) {
                return;
            }
            let to = at.wrapping_add(step(last.elapsed(), turn, period));
            last = Instant::now();
            let due = self.bodies(|digest| {
                let place = digest.spread();
                if at <= to {
                    (at..to).contains(&place)
                } else {
                    place >= at || place < to
                }
            });
            for body in due {
                let seconds = body.len as f64 / SCRUB_RATE as f64;
                // Nothing is noted, so nothing can fail: who asks for it next brings it back.
                let _ = self.check(&body, &mut Progress::default(), |_| Ok(()));
                self.counters.scrubbed.add(1);
                if !self.rest(Duration::from_secs_f64(seconds)) {
                    return;
                }
            }
            at = to;
            // What cannot be noted is read once more after the next start.
            if let Err(error) = fs::write(&note, format!("{at:016x}\n")) {
                tracing::debug!(%error, "where the scrub is cannot be noted");
            }
        }
    }

    /// Waits. False: the store closes.
    fn rest(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.is_stopping() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left);
        }
        false
    }

    pub(crate) fn set_verified(&self, slot: u32, id: u64) {
        let mut state = lock(&self.state);
        state.index.set_flag(slot, id, VERIFIED);
        state.index.clear_flag(slot, id, crate::index::SUSPECT);
    }
}

/// The share of all digests that is due after a time. Where reading takes longer than its time, the
/// walk takes longer than its period: no list of what is due grows without a bound.
fn step(elapsed: Duration, turn: Duration, period: Duration) -> u64 {
    let share = elapsed.min(turn * TURNS_MAX).as_nanos() << 64;
    u64::try_from(share / period.as_nanos().max(1)).unwrap_or(u64::MAX)
}

/// Where the background walk goes on; by the clock where nothing was noted, so that not the same
/// bodies are read after each start.
fn begin(note: &std::path::Path, period: Duration) -> u64 {
    let noted = fs::read_to_string(note).ok();
    let place = noted.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    place.unwrap_or_else(|| position(period))
}

/// Where a walk stands at this moment of its period that has begun with the clock.
fn position(period: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis());
    let period = period.as_millis().max(1);
    u64::try_from(((now % period) << 64) / period).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::disk::Disk;
    use crate::test_support::sample_meta;
    use crate::{Config, recover};

    #[tokio::test]
    async fn an_object_whose_head_is_damaged_is_found_and_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(Config::new(folder.path())).expect("opens");
        for name in ["a", "b"] {
            let key = CacheKey::of_store_id(name);
            let fill = crate::fill::Fill::begin(&store.core, sample_meta(name), Some(4), key, None);
            let mut fill = fill.await.expect("begins");
            fill.write(bytes::Bytes::from_static(b"body"))
                .await
                .expect("written");
            fill.commit().await.expect("stored");
        }
        store.sync().await;
        let hash = KeyHash::of(&CacheKey::of_store_id("a"));
        let batch = crate::table::Batch {
            heads: vec![(hash, Some(Arc::from(&b"lrH1 garbage"[..])))],
            blobs: Vec::new(),
            vary: Vec::new(),
            facts: lock(&store.core.state).facts,
        };
        store.core.table.commit(&batch).expect("written");
        let found = store.verify(true, |_, _| true).expect("reads");
        assert_eq!((found.bodies, found.damaged, found.nameless), (1, 0, 1));
        assert_eq!(store.snapshot().objects, 1);
        let found = store.verify(true, |_, _| true).expect("reads");
        assert_eq!((found.nameless, store.snapshot().objects), (0, 1));
    }

    #[test]
    fn the_background_walk_goes_on_where_it_was_and_takes_small_steps() {
        let folder = tempfile::tempdir().expect("a folder");
        let core = recover::open(Config::new(folder.path()), Disk::default()).expect("opens");
        let note = folder.path().join(SCRUBBED_TO);
        assert_eq!(begin(&note, Duration::from_nanos(1)), 0, "by the clock");
        fs::write(&note, "8000000000000000\n").expect("written");
        thread::scope(|scope| {
            let scrub = scope.spawn(|| core.scrub(Duration::from_secs(6)));
            let begun = Instant::now();
            while begin(&note, Duration::from_nanos(1)) <= 1 << 63 {
                assert!(begun.elapsed() < Duration::from_mins(1), "it stands still");
                thread::sleep(Duration::from_millis(1));
            }
            core.stopping.store(true, Ordering::Relaxed);
            scrub.thread().unpark();
        });
        let hour = Duration::from_hours(1);
        assert_eq!(step(hour / 4, hour, hour), 1 << 62);
        assert_eq!(
            step(hour * 100, hour / 64, hour),
            1 << 60,
            "after a long read"
        );
    }
}
