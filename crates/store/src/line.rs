//! Small bodies on their way to their places, one after the other.
//!
//! What a small body costs there is a few calls of the system: a thread of its own for each would
//! cost more than these, and all of them would wait for the same journal. One job in the blocking
//! pool takes whatever has come meanwhile; a few more help it where it falls behind. Clients have
//! their bytes before that, so nobody waits for it but the fills that are to begin: these wait a
//! little while a slow disk is far behind, one of them beginning for each body that gets to its
//! place, and are not stored if it stays so. Where nothing has moved for all of that time (a stuck
//! disk) the line is shut: until something moves nobody waits any more. Large bodies, and all where
//! every body is synced, go their own way: their disk's time would hold up the others.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::core::Core;
use crate::lock;
use crate::settle::{Stored, Whole, Wish, settle};

type Settled = io::Result<Option<Stored>>;

/// Bodies that may wait for each job before another one helps, and how many jobs there may be.
const EACH_MAX: usize = 8;
const JOBS_MAX: usize = 4;
/// Bodies that may wait before further fills do.
const WAITING_MAX: usize = 64;
/// How long these wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Line {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    first: VecDeque<Job>,
    /// Jobs of the blocking pool that take them.
    running: usize,
    /// Bodies taken so far.
    moved: u64,
    /// Fills that wait for leave to begin, and those that got it after a wait and whose bodies are
    /// still to come.
    fills: VecDeque<oneshot::Sender<Leave>>,
    begun: usize,
    /// Nothing has moved for as long as anybody waits.
    shut: bool,
}

impl Waiting {
    fn has_place(&self) -> bool {
        self.first.len() + self.begun < WAITING_MAX
    }
}

#[derive(Debug)]
struct Job {
    wish: Wish,
    whole: Whole,
    tell: oneshot::Sender<Settled>,
}

/// A fill's leave to begin. One that was waited for has a place in the line until it is dropped.
#[derive(Debug)]
pub(crate) struct Leave(Option<Arc<Line>>);

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            let mut waiting = lock(&line.waiting);
            waiting.begun -= 1;
            line.let_begin(&mut waiting);
        }
    }
}

impl Core {
    /// As [`settle`], without blocking.
    ///
    /// # Cancel safety
    /// A dropped future leaves the work to be done all the same.
    pub(crate) async fn settled_in_turn(
        core: &Arc<Self>,
        wish: Wish,
        whole: Whole,
        leave: Option<Leave>,
    ) -> Settled {
        if core.is_full_durability() || matches!(whole, Whole::Part { .. }) {
            drop(leave);
            let core = Arc::clone(core);
            let settled = tokio::task::spawn_blocking(move || settle(&core, &wish, &whole));
            return settled.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        }
        let (tell, told) = oneshot::channel();
        if core.line.push(Job { wish, whole, tell }) {
            let running = Running(Some(Arc::clone(core)));
            tokio::task::spawn_blocking(move || running.work(settle));
        }
        drop(leave);
        told.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

impl Line {
    /// Waits while the disk is far behind. `None`: it stays so.
    pub(crate) async fn leave(self: &Arc<Self>) -> Option<Leave> {
        let (told, moved) = {
            let mut waiting = lock(&self.waiting);
            // Who has gone meanwhile holds up nobody.
            waiting.fills.retain(|tell| !tell.is_closed());
            if waiting.fills.is_empty() && waiting.has_place() {
                return Some(Leave(None));
            }
            if waiting.shut {
                return None;
            }
            let (tell, told) = oneshot::channel();
            waiting.fills.push_back(tell);
            (told, waiting.moved)
        };
        if let Ok(Ok(leave)) = timeout(PATIENCE, told).await {
            return Some(leave);
        }
        let mut waiting = lock(&self.waiting);
        if waiting.first.len() < WAITING_MAX {
            // It was held up by fills whose bodies are slow to come: the disk is not behind.
            return Some(Leave(None));
        }
        waiting.shut = waiting.moved == moved;
        None
    }

    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        lock(&self.waiting).has_place()
    }

    #[cfg(test)]
    pub(crate) fn moved(&self) -> u64 {
        lock(&self.waiting).moved
    }

    /// Puts a body at the end. True: the caller is to run another job.
    fn push(&self, job: Job) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.first.push_back(job);
        let is_behind = waiting.first.len() > EACH_MAX * waiting.running;
        let must_run = waiting.running == 0 || (is_behind && waiting.running < JOBS_MAX);
        waiting.running += usize::from(must_run);
        must_run
    }

    /// Takes the first; where there is none, a job of the blocking pool ends.
    fn take(self: &Arc<Self>) -> Option<Job> {
        let mut waiting = lock(&self.waiting);
        let job = waiting.first.pop_front();
        if job.is_some() {
            waiting.moved += 1;
            waiting.shut = false;
        } else {
            waiting.running -= 1;
        }
        self.let_begin(&mut waiting);
        job
    }

    /// Lets as many fills begin as there are places.
    fn let_begin(self: &Arc<Self>, waiting: &mut Waiting) {
        while waiting.has_place()
            && let Some(tell) = waiting.fills.pop_front()
        {
            match tell.send(Leave(Some(Arc::clone(self)))) {
                Ok(()) => waiting.begun += 1,
                // It has gone: its leave was never counted.
                Err(mut leave) => leave.0 = None,
            }
        }
    }

    /// A job of the blocking pool has ended before its work was done. If it was the only one,
    /// those that wait would do so for ever: they are told.
    fn abandon(self: &Arc<Self>) {
        let mut waiting = lock(&self.waiting);
        waiting.running -= 1;
        let lost = if waiting.running == 0 {
            std::mem::take(&mut waiting.first)
        } else {
            VecDeque::new()
        };
        self.let_begin(&mut waiting);
        drop(waiting);
        drop(lost);
    }
}

/// A job of the blocking pool; `None` once it has done its work.
struct Running(Option<Arc<Core>>);

impl Running {
    fn work(mut self, settle: impl Fn(&Core, &Wish, &Whole) -> Settled) {
        let Some(core) = self.0.clone() else { return };
        while let Some(Job { wish, whole, tell }) = core.line.take() {
            // One that ends in disorder is no reason for others to fail.
            let settled = catch_unwind(AssertUnwindSafe(|| settle(&core, &wish, &whole)));
            // The reservation ends before anybody hears of it.
            drop(whole);
            let disorder = |_| Err(io::Error::other("putting it in place ended in disorder"));
            // Who waited may have gone.
            let _unheard = tell.send(settled.unwrap_or_else(disorder));
        }
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The pool drops what it does not come to.
        if let Some(core) = self.0.take() {
            core.line.abandon();
        }
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
