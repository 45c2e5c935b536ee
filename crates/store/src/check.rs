//! Hashes bodies that an unclean stop may have kept from the disk: each once, for all who wait.
//!
//! Whoever reads such a body whole needs no wait: the reader hashes what it delivers and withholds
//! the end. A part of it cannot be judged so, and neither can a body that another key is to name:
//! these wait until the whole has been hashed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::body::{self, BodyFile};
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::Digest;
use crate::hot::Hot;
use crate::index::VERIFIED;
use crate::lock;

/// The bodies that are being hashed, by blob.
#[derive(Debug, Default)]
pub(crate) struct Checks(Mutex<HashMap<u64, Arc<Check>>>);

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Check {
    /// Known at its end: the body is what it should be.
    passed: Mutex<Option<bool>>,
    bell: Condvar,
    notify: Notify,
}

/// A body that is to be hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    pub(crate) slot: u32,
    pub(crate) id: u64,
    pub(crate) len: u64,
    pub(crate) digest: Digest,
}

/// Who hashes it.
pub(crate) enum Turn {
    Ours(Arc<Check>),
    Theirs(Arc<Check>),
}

/// Our turn; its end is told whatever ends it.
struct Running<'a> {
    core: &'a Core,
    id: u64,
    check: Arc<Check>,
    passed: bool,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        lock(&self.core.checks.0).remove(&self.id);
        *lock(&self.check.passed) = Some(self.passed);
        self.check.bell.notify_all();
        self.check.notify.notify_waiters();
    }
}

impl Core {
    pub(crate) fn turn(&self, id: u64) -> Turn {
        let mut running = lock(&self.checks.0);
        if let Some(check) = running.get(&id) {
            return Turn::Theirs(Arc::clone(check));
        }
        let check = Arc::new(Check::default());
        running.insert(id, Arc::clone(&check));
        Turn::Ours(check)
    }

    /// True if the body is what it should be; one that is not is dropped. Blocking.
    pub(crate) fn check_whole(&self, body: Body, file: &BodyFile) -> bool {
        match self.turn(body.id) {
            Turn::Ours(check) => self.hash(body, file, check),
            Turn::Theirs(check) => {
                let passed = lock(&check.passed);
                let passed = check.bell.wait_while(passed, |passed| passed.is_none());
                let passed = passed.unwrap_or_else(PoisonError::into_inner);
                *passed == Some(true)
            }
        }
    }

    /// As [`Core::check_whole`], without blocking.
    pub(crate) async fn checked(core: Arc<Self>, hot: Arc<Hot>, file: Arc<BodyFile>) -> bool {
        let body = Body {
            slot: hot.slot,
            id: hot.id,
            len: hot.len,
            digest: hot.digest,
        };
        let check = match core.turn(hot.id) {
            Turn::Theirs(check) => check,
            Turn::Ours(check) => {
                let ours = Arc::clone(&check);
                tokio::task::spawn_blocking(move || core.hash(body, &file, ours));
                check
            }
        };
        loop {
            let told = check.notify.notified();
            let passed = *lock(&check.passed);
            if let Some(passed) = passed {
                hot.pass(passed);
                return passed;
            }
            told.await;
        }
    }

    fn hash(&self, body: Body, file: &BodyFile, check: Arc<Check>) -> bool {
        let mut running = Running {
            core: self,
            id: body.id,
            check,
            passed: false,
        };
        let verified = {
            let state = lock(&self.state);
            let blob = state.index.at(body.slot, body.id);
            blob.is_some_and(|blob| blob.is(VERIFIED))
        };
        let agrees = file
            .file()
            .and_then(|file| Ok(verified || body::hash_agrees(file, body.len, &body.digest)?));
        match agrees {
            Ok(true) => {
                self.set_verified(body.slot, body.id);
                running.passed = true;
            }
            Ok(false) => {
                self.lost(Fault::Flipped, body.slot, body.id, &body.digest);
            }
            Err(e) => self.counters.fault(Fault::Read, &e),
        }
        self.counters.checked.add(u64::from(!verified));
        running.passed
    }
}
