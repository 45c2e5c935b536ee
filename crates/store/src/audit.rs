//! Reads bodies again and compares them with their digests: at once when an administrator wants it,
//! and all the time, slowly, in the background.
//!
//! Both go through the bodies in the order of their digests. A digest is as good as random, so the
//! background walk needs no memory of where it is: at any moment of its period it stands at the
//! same share of all digests. What is damaged is dropped and counted like anything found at a hit.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use larder_policy::key::CacheKey;

use crate::body;
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::Digest;
use crate::index::VERIFIED;
use crate::lock;
use crate::store::Store;

/// Bytes a second that the background walk reads at most.
const SCRUB_RATE: u64 = 32 << 20;
/// Bytes that the list of what is to be repaired may have.
const LOST_MAX: u64 = 64 << 20;
/// How often the position of an audit is written down.
const NOTE_EVERY: Duration = Duration::from_secs(1);

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
            }
            Verdict::Gone => {}
            Verdict::Unread(e) => {
                self.counters.fault(Fault::Read, &e);
                progress.unread += 1;
            }
            Verdict::Damaged(fault) => {
                let damaged = Damaged {
                    digest: body.digest,
                    fault,
                    objects: self.named_by(body),
                };
                note(&damaged)?;
                // It may have left in order meanwhile.
                if self.lost(fault, body.slot, body.id, &body.digest) {
                    progress.damaged += 1;
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

    fn named_by(&self, body: &Body) -> Vec<(CacheKey, String)> {
        let keys = {
            let state = lock(&self.state);
            let found = state.index.with_keys(body.slot, body.id);
            found.map_or_else(Vec::new, |(_, keys)| keys)
        };
        let objects = self.objects(&keys).into_iter();
        objects
            .map(|object| (object.key, object.meta.url().to_owned()))
            .collect()
    }

    /// Reads bodies in the background until the store closes: each once in `period`.
    pub(crate) fn scrub(&self, period: Duration) {
        let mut at = position(period);
        loop {
            if !self.rest(Duration::from_mins(1).min(period / 60)) {
                return;
            }
            let to = position(period);
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

/// Where in the space of digests the background walk stands now.
fn position(period: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_millis());
    let period = period.as_millis().max(1);
    u64::try_from(((now % period) << 64) / period).unwrap_or(u64::MAX)
}
