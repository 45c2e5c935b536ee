//! Small bodies on their way to their places, one after the other.
//!
//! What a small body costs there is a few calls of the system: a thread of its own for each would
//! cost more than these, and all of them would wait for the same journal. One job in the blocking
//! pool takes whatever has come meanwhile; a few more help it where it falls behind. Clients have
//! their bytes before that, so nobody waits for it but the fills that are to begin: these wait a
//! little while a slow disk is far behind, and are not stored if it stays so. Large bodies, and all
//! where every body is synced, go their own way: their disk's time would hold up the others.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
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
    moved: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    first: VecDeque<Job>,
    /// Jobs of the blocking pool that take them.
    running: usize,
}

#[derive(Debug)]
struct Job {
    wish: Wish,
    whole: Whole,
    tell: oneshot::Sender<Settled>,
}

impl Core {
    /// As [`settle`], without blocking.
    ///
    /// # Cancel safety
    /// A dropped future leaves the work to be done all the same.
    pub(crate) async fn settled_in_turn(core: &Arc<Self>, wish: Wish, whole: Whole) -> Settled {
        if core.is_full_durability() || matches!(whole, Whole::Part { .. }) {
            let core = Arc::clone(core);
            let settled = tokio::task::spawn_blocking(move || settle(&core, &wish, &whole));
            return settled.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        }
        let (tell, told) = oneshot::channel();
        let must_run = {
            let mut waiting = lock(&core.line.waiting);
            waiting.first.push_back(Job { wish, whole, tell });
            let is_behind = waiting.first.len() > EACH_MAX * waiting.running;
            let must_run = waiting.running == 0 || (is_behind && waiting.running < JOBS_MAX);
            waiting.running += usize::from(must_run);
            must_run
        };
        if must_run {
            let core = Arc::clone(core);
            tokio::task::spawn_blocking(move || Running(&core).work());
        }
        told.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

impl Line {
    /// Waits while the disk is far behind. False: it stays so.
    pub(crate) async fn has_place(&self) -> bool {
        let place = async {
            loop {
                let moved = self.moved.notified();
                if self.is_open() {
                    return;
                }
                moved.await;
            }
        };
        // Mostly there is nothing to wait for, and no timer to be set.
        self.is_open() || timeout(PATIENCE, place).await.is_ok()
    }

    pub(crate) fn is_open(&self) -> bool {
        lock(&self.waiting).first.len() < WAITING_MAX
    }
}

/// One that works; should it end in disorder, those that wait are told so and the next begins anew.
struct Running<'a>(&'a Core);

impl Running<'_> {
    fn work(&self) {
        while let Some(Job { wish, whole, tell }) = self.next() {
            let settled = settle(self.0, &wish, &whole);
            // The reservation ends before anybody hears of it.
            drop(whole);
            // Who waited may have gone.
            let _unheard = tell.send(settled);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut waiting = lock(&self.0.line.waiting);
        let job = waiting.first.pop_front();
        waiting.running -= usize::from(job.is_none());
        let was_full = waiting.first.len() + 1 == WAITING_MAX;
        drop(waiting);
        if was_full {
            self.0.line.moved.notify_waiters();
        }
        job
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = lock(&self.0.line.waiting);
            waiting.running -= 1;
            waiting.first.clear();
            drop(waiting);
            self.0.line.moved.notify_waiters();
        }
    }
}
