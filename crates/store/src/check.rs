//! Hashes bodies that an unclean stop may have kept from the disk: each once, for all who wait.
//!
//! Whoever reads such a body whole needs no wait: the reader hashes what it delivers and withholds
//! the end. A part of it cannot be judged so, and neither can a body that another key is to name:
//! these wait until the whole has been hashed.

use std::collections::HashMap;
use std::ops::Deref;
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

/// Our turn, from where it was taken; its end is told whatever ends it.
struct Running<C: Deref<Target = Core>> {
    core: C,
    id: u64,
    check: Arc<Check>,
    passed: bool,
}

impl<C: Deref<Target = Core>> Drop for Running<C> {
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
            Turn::Ours(check) => Running::of(self, body.id, check).hash(body, file),
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
                let running = Running::of(core, body.id, Arc::clone(&check));
                tokio::task::spawn_blocking(move || running.hash(body, &file));
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
}

impl<C: Deref<Target = Core>> Running<C> {
    fn of(core: C, id: u64, check: Arc<Check>) -> Self {
        Self {
            core,
            id,
            check,
            passed: false,
        }
    }

    fn hash(mut self, body: Body, file: &BodyFile) -> bool {
        let core = &*self.core;
        let verified = {
            let state = lock(&core.state);
            let blob = state.index.at(body.slot, body.id);
            blob.is_some_and(|blob| blob.is(VERIFIED))
        };
        let mut passed = false;
        let agrees = file
            .file()
            .and_then(|file| Ok(verified || body::hash_agrees(file, body.len, &body.digest)?));
        match agrees {
            Ok(true) => {
                core.set_verified(body.slot, body.id);
                passed = true;
            }
            Ok(false) => {
                core.lost(Fault::Flipped, body.slot, body.id, &body.digest);
            }
            Err(e) => core.counters.fault(Fault::Read, &e),
        }
        core.counters.checked.add(u64::from(!verified));
        self.passed = passed;
        passed
    }
}
