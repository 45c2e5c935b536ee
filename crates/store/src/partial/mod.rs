//! Objects of which parts are held: ranges that were asked for, and what a broken fetch has left.
//!
//! A partial object is one file of the object's whole length, the spans of it that are there, and
//! a head whose validator says which version they are of. Any number of clients read it and any
//! number of fetches write to it, each its own run of blocks ([`claims`]); once nothing is missing
//! it is hashed and becomes a normal object. What is there outlives the process ([`disk`]): blocks
//! of an earlier run are compared with their checksums before they are used. Partial objects are
//! the first to leave when room is short.

mod admin;
pub(crate) mod claims;
mod disk;
mod draw;
pub(crate) mod extents;
mod shelf;

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use crate::body::BodyFile;
use crate::core::Core;
use crate::entry::Entry;
use crate::error::{BeginError, FillError};
use crate::lock;
use crate::room::{BLOCK as DISK_BLOCK, Reservation};
use crate::running::{Running, Tail};
use crate::settle::{Whole, Wish, settle};

pub use admin::{PartialAudit, PartialObject};
use claims::{BLOCK, Claimed, Claims};
pub(crate) use draw::Noting;
pub use draw::{Draw, RunEnd};
pub(crate) use shelf::Shelf;

/// Who waits for an origin to send what others have asked for looks again after so long.
const LOOKED_AGAIN: Duration = Duration::from_millis(250);
/// How often room is made for a run before it is given up: others take it too.
const TRIES_FOR_ROOM: u32 = 8;

/// A handle on an object of which parts are held. Clones are cheap and mean the same object.
#[derive(Clone, Debug)]
pub struct Partial {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Weak<Core>,
    key: CacheKey,
    length: u64,
    /// Where the first bytes came from, in the caller's words.
    origin: String,
    running: Arc<Running>,
    file: Arc<BodyFile>,
    claims: Mutex<Claims>,
    /// Told when a run ended or something was put off no longer.
    moved: Notify,
    /// The hash of the object's beginning, and how far that goes.
    hashed: Mutex<Option<(Sha256, u64)>>,
    kept: Mutex<disk::Kept>,
    /// Held by whoever writes its record.
    noting: Mutex<()>,
    /// Where the file lies, or lay.
    path: std::path::PathBuf,
    /// It is whole and in place, or no good.
    over: AtomicBool,
    /// It is over because it is no good: it must not be found as a whole either.
    discarded: Arc<AtomicBool>,
    /// It is over because a whole takes its place: who reads and draws it goes on.
    retired: AtomicBool,
    /// When an origin last confirmed the version that is held; whoever asks holds the lock.
    confirmed: tokio::sync::Mutex<Option<Instant>>,
    /// When which host last gave no answer, and the status that clients got.
    failure: Mutex<Option<(Instant, String, u16)>>,
    /// When it was last asked for, as a count of such times.
    used: AtomicU64,
}

/// What an object of which parts are to be held begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Its head, as of an answer with all of it.
    pub meta: Meta,
    /// Its length, bytes.
    pub length: u64,
    /// Where it comes from, in the caller's words; the same words are found in
    /// [`Partial::origin`].
    pub origin: String,
}

/// Somebody's word that spans of a partial object will be drawn: readers of those bytes wait for
/// as long as it is held, and fail at once where nobody has given it.
#[derive(Debug)]
pub struct Promise {
    partial: Partial,
    number: u64,
    spans: Vec<(u64, u64)>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let inner = &self.partial.inner;
        inner.running.end_promise(self.number);
        inner.file.set_room(self.partial.room_wanted());
    }
}

/// The right to draw one run.
#[derive(Debug)]
pub(crate) struct Claim {
    partial: Partial,
    number: u64,
}

impl Claim {
    /// How much of `length` bytes still belongs to the run; that much is taken.
    pub(crate) fn advance(&self, length: usize) -> usize {
        let taken = lock(&self.partial.inner.claims).advance(self.number, length as u64);
        usize::try_from(taken).unwrap_or(length)
    }

    /// Where the run is and where it ends.
    pub(crate) fn span(&self) -> (u64, u64) {
        lock(&self.partial.inner.claims).span(self.number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let inner = &self.partial.inner;
        lock(&inner.claims).end(self.number);
        inner.file.set_room(self.partial.room_wanted());
        inner.moved.notify_waiters();
    }
}

/// Room for so many bytes of a sparse file.
fn room_of(bytes: u64) -> u64 {
    bytes.next_multiple_of(DISK_BLOCK) + DISK_BLOCK
}

impl Partial {
    /// True if both handles mean one object.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The key under which it will be stored.
    pub fn key(&self) -> &CacheKey {
        &self.inner.key
    }

    /// The head, with the validator of the version that is held.
    pub fn meta(&self) -> Arc<Meta> {
        self.inner.running.meta()
    }

    /// The whole object's length, bytes.
    pub fn length(&self) -> u64 {
        self.inner.length
    }

    /// Where the first bytes came from, in the words of whoever began it.
    pub fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// A handle to read it; where nobody has promised what is missing, readers fail there.
    pub fn tail(&self) -> Tail {
        Tail {
            running: Arc::clone(&self.inner.running),
        }
    }

    /// True if all of these spans is there, or lies on the disk since an earlier run.
    pub fn holds(&self, spans: &[(u64, u64)]) -> bool {
        let held = self.held();
        spans.iter().all(|(start, end)| held.covers(*start, *end))
    }

    /// What is there, or lies on the disk since an earlier run.
    fn held(&self) -> extents::Extents {
        let kept = lock(&self.inner.kept);
        let mut there = self.inner.running.with_extents(Clone::clone);
        for block in kept.unchecked.keys() {
            let (start, end) = self.span_of(*block);
            there.insert(start, end);
        }
        there
    }

    /// Bytes of that.
    fn held_bytes(&self) -> u64 {
        self.held().total()
    }

    /// True if all of these spans can be read at once.
    pub fn is_there(&self, spans: &[(u64, u64)]) -> bool {
        let running = &self.inner.running;
        running.with_extents(|there| spans.iter().all(|(start, end)| there.covers(*start, *end)))
    }

    /// Waits while the first missing byte of these spans has been asked for and is not being sent
    /// yet. True: it is coming, or nothing is missing; false: somebody has to ask for it.
    pub async fn is_coming(&self, spans: &[(u64, u64)]) -> bool {
        loop {
            let moved = self.inner.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let gap = self.inner.running.with_extents(|there| {
                let mut spans = spans.iter();
                spans.find_map(|(start, end)| there.first_gap(*start, *end))
            });
            let Some((gap, _)) = gap else {
                return true;
            };
            match lock(&self.inner.claims).is_agreed(gap) {
                Some(true) => return true,
                None => return false,
                Some(false) => {}
            }
            wait_at_most(LOOKED_AGAIN, moved).await;
        }
    }

    /// Nobody has answered a client of `host`: those who wait for the same answer get the same
    /// `status`.
    pub fn failed(&self, host: &str, status: u16) {
        *lock(&self.inner.failure) = Some((Instant::now(), host.to_owned(), status));
    }

    /// The status of a failure at a host since a time.
    pub fn failed_since(&self, time: Instant, host: &str) -> Option<u16> {
        let failure = lock(&self.inner.failure);
        let (at, failed, status) = failure.as_ref()?;
        (*at > time && failed == host).then_some(*status)
    }

    /// Says that these spans will be drawn.
    pub fn promise(&self, spans: Vec<(u64, u64)>) -> Promise {
        Promise {
            partial: self.clone(),
            number: self.inner.running.promise(spans.clone()),
            spans,
        }
    }

    /// The origin has confirmed the version that is held: its head from now on (RFC 9111 §4.3.4).
    pub fn renew(&self, meta: Meta) {
        self.inner.running.renew(Arc::new(meta));
    }

    /// True if it was discarded: what is held is no good. What has become a whole object is.
    pub fn is_discarded(&self) -> bool {
        self.inner.discarded.load(Ordering::Acquire)
    }

    /// Compares what an earlier run has left of these spans; true if all of them is there then.
    pub async fn checked(&self, spans: &[(u64, u64)]) -> bool {
        while let Some(block) = self.first_unchecked(spans) {
            self.check_kept(block).await;
        }
        self.is_there(spans)
    }

    /// When an origin last confirmed the version that is held. Who holds the lock may ask; others
    /// wait for what it is told.
    pub fn confirmed(&self) -> &tokio::sync::Mutex<Option<Instant>> {
        &self.inner.confirmed
    }

    /// The next run of what was promised that is the caller's to draw; waits while others draw
    /// what is wanted next. `None`: everything promised is there.
    ///
    /// # Errors
    /// [`FillError::NoRoom`] where nothing more can leave for the run, [`FillError::Gone`] where the
    /// object was discarded.
    pub async fn next(&self, promise: &Promise) -> Result<Option<Draw>, FillError> {
        let inner = &self.inner;
        loop {
            let moved = inner.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if let Some(block) = self.first_unchecked(&promise.spans) {
                self.check_kept(block).await;
                continue;
            }
            match self.claim(&promise.spans) {
                Claimed::Nothing => return Ok(None),
                Claimed::Others(time) => wait_at_most(time, moved).await,
                Claimed::Mine { number, start, .. } => {
                    let claim = Claim {
                        partial: self.clone(),
                        number,
                    };
                    if self.is_over() && !inner.retired.load(Ordering::Acquire) {
                        return Err(FillError::Gone);
                    }
                    self.make_room().await?;
                    return Ok(Some(Draw::new(claim, start)));
                }
            }
        }
    }

    /// The caller has an answer with the bytes `start..end` in hand, of an object that it has just
    /// made.
    fn claimed(&self, start: u64, end: u64) -> Claim {
        let mut claims = lock(&self.inner.claims);
        let number = match claims.claim(start, end, Instant::now()) {
            Claimed::Mine { number, .. } => number,
            Claimed::Nothing | Claimed::Others(_) => u64::MAX,
        };
        claims.settle(number);
        drop(claims);
        Claim {
            partial: self.clone(),
            number,
        }
    }

    fn claim(&self, spans: &[(u64, u64)]) -> Claimed {
        let inner = &self.inner;
        let mut claims = lock(&inner.claims);
        let kept = lock(&inner.kept);
        let bound = |start: u64| {
            let next = kept.unchecked.range(block_of(start)..).next();
            next.map_or(u64::MAX, |(block, _)| u64::from(*block) * BLOCK)
        };
        let now = Instant::now();
        let running = &inner.running;
        running.with_extents(|there| claims.next(spans, there, inner.length, bound, now))
    }

    /// Room for what is there, is being drawn and is promised.
    fn room_wanted(&self) -> u64 {
        let claims = lock(&self.inner.claims);
        let length = self.inner.length;
        // They are drawn in whole blocks.
        let promised = self.inner.running.promised().into_iter();
        let promised = promised.map(|(start, end)| {
            let end = end.checked_next_multiple_of(BLOCK).unwrap_or(length);
            (start - start % BLOCK, end.min(length))
        });
        let mut there = self.inner.running.with_extents(Clone::clone);
        let kept = lock(&self.inner.kept);
        let unchecked = kept.unchecked.keys().map(|block| self.span_of(*block));
        for (start, end) in claims.spans().chain(promised).chain(unchecked) {
            there.insert(start, end);
        }
        room_of(there.total())
    }

    /// Sets room aside for what is being drawn and is promised, evicting what has to leave for it:
    /// who does so before an answer's head is out can still answer in another way.
    ///
    /// # Errors
    /// [`FillError::NoRoom`] where nothing more can leave.
    pub async fn make_room(&self) -> Result<(), FillError> {
        for _ in 0..TRIES_FOR_ROOM {
            let core = self.inner.core.upgrade().ok_or(FillError::NoRoom)?;
            let bytes = self.room_wanted().saturating_sub(self.inner.file.room());
            if bytes == 0 || core.grow_free(bytes, |bytes| self.inner.file.grow(bytes)) {
                return Ok(());
            }
            let made = spawn_blocking(move || core.make_room(bytes)).await;
            made.map_err(|e| FillError::Write(io::Error::other(e)))?
                .map_err(|_none| FillError::NoRoom)?;
        }
        Err(FillError::NoRoom)
    }

    /// Puts the object in place if nothing of it is missing any more. `None`: something is, or
    /// another has done it.
    pub async fn complete(&self) -> Result<Option<Entry>, FillError> {
        let inner = &self.inner;
        let is_whole = inner
            .running
            .with_extents(|there| there.covers(0, inner.length));
        if !is_whole || inner.over.swap(true, Ordering::AcqRel) {
            return Ok(None);
        }
        let Some(core) = inner.core.upgrade() else {
            return Ok(None);
        };
        inner.running.finish();
        let this = self.clone();
        let shared = Arc::clone(&core);
        let settled = spawn_blocking(move || {
            let inner = &this.inner;
            let digest = this.digest()?;
            let file = Arc::clone(&inner.file);
            let whole = Whole::Part { file, digest };
            let wish = Wish {
                key: inner.key.clone(),
                meta: this.meta(),
                len: inner.length,
                purged: Some(Arc::clone(&inner.discarded)),
            };
            let settled = settle(&shared, &wish, &whole)?;
            this.leave(&shared);
            Ok::<_, io::Error>(settled)
        });
        let settled = settled.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        match settled {
            Ok(stored) => {
                core.counters.fill_bytes.add(inner.length);
                Ok(stored.map(|(hot, file)| Entry::new(&core, hot, file)))
            }
            Err(e) => {
                core.write_failed(&e);
                self.leave(&core);
                Err(FillError::Write(e))
            }
        }
    }

    /// A whole takes its place: nobody finds it any more, and who reads and draws it goes on.
    pub fn retire(&self) {
        self.inner.retired.store(true, Ordering::Release);
        self.end();
    }

    /// It is no good, or another version has come: nobody finds it any more, nor a fill that it is
    /// a run of. Who reads it has what is there.
    pub fn discard(&self) {
        self.inner.discarded.store(true, Ordering::Release);
        if let Some(core) = self.inner.core.upgrade() {
            core.overtake(&self.inner.running);
        }
        self.end();
    }

    fn end(&self) {
        self.inner.over.store(true, Ordering::Release);
        if let Some(core) = self.inner.core.upgrade() {
            self.leave(&core);
        }
        self.inner.moved.notify_waiters();
    }

    /// Takes it out of the table, and its files off the disk if they are still its own.
    pub(crate) fn leave(&self, core: &Core) {
        self.inner.over.store(true, Ordering::Release);
        core.shelf.remove(self);
        disk::remove_record(self, core);
        self.inner.file.let_go();
    }

    pub(crate) fn file(&self) -> &Arc<BodyFile> {
        &self.inner.file
    }

    /// Nobody draws or has promised to.
    pub(crate) fn is_idle(&self) -> bool {
        lock(&self.inner.claims).is_empty() && !self.inner.running.is_promised()
    }

    fn span_of(&self, block: u32) -> (u64, u64) {
        disk::span_of(block, self.inner.length)
    }

    /// Hashes the whole, going on from what was hashed as it came. Blocking.
    fn digest(&self) -> io::Result<crate::digest::Digest> {
        let (hasher, at) = lock(&self.inner.hashed).take().unwrap_or_default();
        crate::body::hash_from(self.inner.file.file()?, hasher, at, self.inner.length)
    }

    /// A fill has hashed the beginning.
    pub(crate) fn hashed_to(&self, hasher: Sha256, at: u64) {
        *lock(&self.inner.hashed) = Some((hasher, at));
    }
}

impl Partial {
    /// Begins an object of which an answer in hand has `start..end`. One that is there under this
    /// key leaves.
    pub(crate) async fn begin(
        core: &Arc<Core>,
        head: Opening,
        (start, end): (u64, u64),
        key: CacheKey,
    ) -> Result<(Self, Draw), BeginError> {
        let shared = Arc::clone(core);
        let begun = spawn_blocking(move || {
            let reservation = shared.reserve(room_of(end - start))?;
            let path = disk::new_path(&shared, &key);
            let file = BodyFile::kept(&shared.disk, path, head.length, reservation);
            let file = file.inspect_err(|error| shared.write_failed(error));
            let file = Arc::new(file.map_err(BeginError::Part)?);
            let meta = Arc::new(head.meta);
            let running = Running::in_parts(&shared, meta, head.length, Arc::clone(&file));
            Ok(Self::new(&shared, &key, head.origin, running, file))
        });
        let partial = begun
            .await
            .map_err(|e| BeginError::Part(io::Error::other(e)))??;
        let claim = partial.claimed(start, end);
        core.shelve(&partial);
        Ok((partial, Draw::new(claim, start)))
    }

    /// Makes the object of a fill that draws it from its beginning on. Blocking.
    pub(crate) fn of_fill(
        core: &Arc<Core>,
        key: &CacheKey,
        origin: String,
        running: &Arc<Running>,
        reservation: Reservation,
    ) -> io::Result<(Self, Claim)> {
        let path = disk::new_path(core, key);
        let length = running.length().unwrap_or_default();
        let file = Arc::new(BodyFile::kept(&core.disk, path, length, reservation)?);
        running.move_to(Arc::clone(&file));
        running.go_in_parts();
        let partial = Self::new(core, key, origin, Arc::clone(running), file);
        let claim = partial.claimed(0, length);
        core.shelve(&partial);
        Ok((partial, claim))
    }

    fn new(
        core: &Arc<Core>,
        key: &CacheKey,
        origin: String,
        running: Arc<Running>,
        file: Arc<BodyFile>,
    ) -> Self {
        let path = file.part_path().unwrap_or_default();
        Self {
            inner: Arc::new(Inner {
                core: Arc::downgrade(core),
                key: key.clone(),
                length: running.length().unwrap_or_default(),
                origin,
                running,
                file,
                claims: Mutex::default(),
                moved: Notify::new(),
                hashed: Mutex::new(None),
                kept: Mutex::default(),
                noting: Mutex::default(),
                path,
                over: AtomicBool::new(false),
                discarded: Arc::default(),
                retired: AtomicBool::new(false),
                confirmed: tokio::sync::Mutex::default(),
                failure: Mutex::default(),
                used: AtomicU64::new(0),
            }),
        }
    }
}

impl Core {
    /// Makes an object findable by those who want parts of it; what it takes the place of leaves.
    pub(crate) fn shelve(&self, partial: &Partial) {
        for leaving in self.shelf.insert(partial) {
            leaving.leave(self);
        }
    }
}

/// The number of the block that a position lies in.
fn block_of(position: u64) -> u32 {
    u32::try_from(position / BLOCK).unwrap_or(u32::MAX)
}

async fn wait_at_most(time: Duration, moved: impl Future<Output = ()>) {
    // Which of the two it was is found out by looking again.
    let _ = tokio::time::timeout(time, moved).await;
}
