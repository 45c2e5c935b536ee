//! Small bodies on their way to their places, one after the other.
//!
//! What a small body costs there is a few calls of the system: a thread of its own for each would
//! cost more than these, and all of them would wait for the same journal. One job in the blocking
//! pool takes whatever has come meanwhile. Large bodies, and all where every body is synced, go
//! their own way: their disk's time would hold up the others.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use crate::core::Core;
use crate::lock;
use crate::settle::{Stored, Whole, Wish, settle};

type Settled = io::Result<Option<Stored>>;

/// Those that wait.
#[derive(Debug, Default)]
pub(crate) struct Line(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    first: VecDeque<Job>,
    /// A job of the blocking pool takes them.
    running: bool,
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
            let mut waiting = lock(&core.line.0);
            waiting.first.push_back(Job { wish, whole, tell });
            !std::mem::replace(&mut waiting.running, true)
        };
        if must_run {
            let core = Arc::clone(core);
            tokio::task::spawn_blocking(move || Running(&core).work());
        }
        told.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }
}

/// The one that works; should it end in disorder, those that wait are told so and the next begins
/// anew.
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
        let mut waiting = lock(&self.0.line.0);
        let job = waiting.first.pop_front();
        waiting.running = job.is_some();
        job
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut waiting = lock(&self.0.line.0);
            waiting.running = false;
            waiting.first.clear();
        }
    }
}
