//! A fill as its readers see it: what is there, what is still to come, how it ended.
//!
//! Bytes are published after they have been kept: in memory for small bodies, by a write that
//! returned for others. Every reader, the leader's client too, reads from its own offset; no
//! reader holds back the fill or another reader. Bytes need not come in order: of an object that
//! is drawn in parts, a reader waits for bytes that somebody has promised and fails at others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use larder_policy::meta::Meta;

use crate::body::BodyFile;
use crate::core::Core;
use crate::lock;
use crate::partial::extents::Extents;
use crate::reader::Reader;

/// How far a fill is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// What is missing comes if it is promised.
    InParts,
    Whole,
    Failed,
}

/// Where the published bytes lie.
#[derive(Debug)]
enum Held {
    /// Chunks with the offset at which each starts.
    Memory(Vec<(u64, Bytes)>),
    File(Arc<BodyFile>),
}

#[derive(Debug)]
struct Progress {
    there: Extents,
    phase: Phase,
    held: Held,
    waiting: HashMap<u64, Waker>,
    /// Spans that somebody will draw, by the number of the promise.
    promises: HashMap<u64, Vec<(u64, u64)>>,
}

impl Progress {
    /// How far it is there from the start on.
    fn available(&self) -> u64 {
        self.there.end_at(0).unwrap_or(0)
    }

    fn is_promised(&self, position: u64) -> bool {
        self.promises
            .values()
            .flatten()
            .any(|(start, end)| (*start..*end).contains(&position))
    }
}

/// What a reader does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// These bytes are at the asked offset.
    Bytes(Bytes),
    /// Bytes up to this offset are in the file.
    File(Arc<BodyFile>, u64),
    /// The body ends at the asked offset.
    End,
    /// The fill has failed.
    Failed,
}

/// The state that a fill and its readers share.
#[derive(Debug)]
pub(crate) struct Running {
    meta: RwLock<Arc<Meta>>,
    length: Option<u64>,
    progress: Mutex<Progress>,
    /// Readers and promises so far: each has a number of its own.
    numbers: AtomicU64,
    pub(crate) core: Weak<Core>,
}

impl Running {
    pub(crate) fn new(core: &Arc<Core>, meta: Arc<Meta>, length: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            meta: RwLock::new(meta),
            length,
            progress: Mutex::new(Progress {
                there: Extents::default(),
                phase: Phase::Open,
                held: Held::Memory(Vec::new()),
                waiting: HashMap::new(),
                promises: HashMap::new(),
            }),
            numbers: AtomicU64::new(0),
            core: Arc::downgrade(core),
        })
    }

    /// One of which only what is promised will come; its bytes are in `file`.
    pub(crate) fn in_parts(
        core: &Arc<Core>,
        meta: Arc<Meta>,
        length: u64,
        file: Arc<BodyFile>,
    ) -> Arc<Self> {
        let running = Self::new(core, meta, Some(length));
        running.move_to(file);
        running.go_in_parts();
        running
    }

    /// From here on only what is promised will come.
    pub(crate) fn go_in_parts(&self) {
        let mut progress = lock(&self.progress);
        if progress.phase == Phase::Open {
            progress.phase = Phase::InParts;
        }
    }

    pub(crate) fn meta(&self) -> Arc<Meta> {
        Arc::clone(&self.meta.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn renew(&self, meta: Arc<Meta>) {
        *self.meta.write().unwrap_or_else(PoisonError::into_inner) = meta;
    }

    /// Looks at what is there.
    pub(crate) fn with_extents<T>(&self, look: impl FnOnce(&Extents) -> T) -> T {
        look(&lock(&self.progress).there)
    }

    /// Lets readers wait for these spans. Returns the number of the promise.
    pub(crate) fn promise(&self, spans: Vec<(u64, u64)>) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        lock(&self.progress).promises.insert(number, spans);
        number
    }

    /// Nobody works on a promise any more: who waits for its bytes looks again.
    pub(crate) fn end_promise(&self, number: u64) {
        let mut progress = lock(&self.progress);
        progress.promises.remove(&number);
        wake(progress);
    }

    /// The spans that somebody will draw.
    pub(crate) fn promised(&self) -> Vec<(u64, u64)> {
        let progress = lock(&self.progress);
        progress.promises.values().flatten().copied().collect()
    }

    /// True if somebody draws or will draw.
    pub(crate) fn is_promised(&self) -> bool {
        !lock(&self.progress).promises.is_empty()
    }

    /// Publishes bytes that stay in memory. Returns what is there now.
    pub(crate) fn push(&self, bytes: Bytes) -> u64 {
        let mut progress = lock(&self.progress);
        let at = progress.available();
        let available = at + bytes.len() as u64;
        progress.there.insert(at, available);
        if let Held::Memory(chunks) = &mut progress.held {
            chunks.push((at, bytes));
        }
        wake(progress);
        available
    }

    /// What was pushed so far.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        match &lock(&self.progress).held {
            Held::Memory(chunks) => chunks.iter().map(|(_, bytes)| bytes.clone()).collect(),
            Held::File(_) => Vec::new(),
        }
    }

    /// From here on the bytes are read from a file that holds all that was published.
    pub(crate) fn move_to(&self, file: Arc<BodyFile>) {
        lock(&self.progress).held = Held::File(file);
    }

    /// Publishes what has been written to the file, `start..end` of it.
    pub(crate) fn publish(&self, start: u64, end: u64) {
        let mut progress = lock(&self.progress);
        progress.there.insert(start, end);
        wake(progress);
    }

    /// What was there is no good any more.
    pub(crate) fn retract(&self, start: u64, end: u64) {
        lock(&self.progress).there.remove(start, end);
    }

    pub(crate) fn finish(&self) {
        let mut progress = lock(&self.progress);
        progress.phase = Phase::Whole;
        wake(progress);
    }

    /// Ends the fill for its readers, unless they have the whole body already.
    pub(crate) fn fail(&self) {
        let mut progress = lock(&self.progress);
        if progress.phase == Phase::Open {
            progress.phase = Phase::Failed;
        }
        wake(progress);
    }

    pub(crate) fn available(&self) -> u64 {
        lock(&self.progress).available()
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length.or_else(|| {
            let progress = lock(&self.progress);
            (progress.phase == Phase::Whole).then_some(progress.available())
        })
    }

    /// What a reader at `position` finds; it is woken when there is more.
    pub(crate) fn poll(&self, position: u64, reader: u64, cx: &mut Context<'_>) -> Poll<Step> {
        let mut progress = lock(&self.progress);
        if let Some(end) = progress.there.end_at(position) {
            return Poll::Ready(match &progress.held {
                Held::File(file) => Step::File(Arc::clone(file), end),
                Held::Memory(chunks) => {
                    let after = chunks.partition_point(|(at, _)| *at <= position);
                    match after.checked_sub(1).and_then(|at| chunks.get(at)) {
                        Some((at, bytes)) => Step::Bytes(bytes.slice((position - at) as usize..)),
                        None => Step::Failed,
                    }
                }
            });
        }
        match progress.phase {
            Phase::Whole => Poll::Ready(Step::End),
            Phase::Failed => Poll::Ready(Step::Failed),
            Phase::InParts if !progress.is_promised(position) => Poll::Ready(Step::Failed),
            Phase::Open | Phase::InParts => {
                progress.waiting.insert(reader, cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn forget_reader(&self, reader: u64) {
        lock(&self.progress).waiting.remove(&reader);
    }
}

fn wake(mut progress: std::sync::MutexGuard<'_, Progress>) {
    let waiting = std::mem::take(&mut progress.waiting);
    drop(progress);
    waiting.into_values().for_each(Waker::wake);
}

/// Reads a fill in progress, and goes on to work after it has ended.
#[derive(Clone, Debug)]
pub struct Tail {
    pub(crate) running: Arc<Running>,
}

impl Tail {
    /// The head of the answer that is being stored.
    pub fn meta(&self) -> Arc<Meta> {
        self.running.meta()
    }

    /// The body's length, once it is known.
    pub fn length(&self) -> Option<u64> {
        self.running.length()
    }

    /// Bytes that can be read without waiting, from the start on.
    pub fn available(&self) -> u64 {
        self.running.available()
    }

    /// The first span that is there.
    pub fn first_there(&self) -> Option<(u64, u64)> {
        self.running.with_extents(Extents::first)
    }

    /// Where the bytes that are there without a gap before `position` begin.
    pub fn reaches_back(&self, position: u64) -> u64 {
        self.running
            .with_extents(|there| there.start_before(position))
    }

    /// Reads from `start` up to `end` (exclusive); without an end, up to the body's.
    pub fn reader(&self, start: u64, end: Option<u64>) -> Reader {
        let reader = self.running.numbers.fetch_add(1, Ordering::Relaxed);
        Reader::of_tail(Arc::clone(&self.running), reader, start, end)
    }
}
