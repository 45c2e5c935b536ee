//! A file system that becomes read-only under a running store, or a directory that is pulled away:
//! what can be had is served, nothing is stored or forgotten, and nothing fails one operation after
//! the other. Whether it can be written again is asked with each checkpoint.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::core::Core;
use crate::counters::Fault;
use crate::lock;

/// Why nothing can be written, while that is so.
#[derive(Debug, Default)]
pub(crate) struct Unwritable {
    is_so: AtomicBool,
    why: Mutex<Option<Arc<str>>>,
}

impl Core {
    /// Counts a write that has failed, and draws the conclusions.
    pub(crate) fn write_failed(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::StorageFull {
            self.disk_is_full(error);
        } else {
            self.counters.fault(Fault::Write, error);
            self.judge_disk(error);
        }
    }

    /// Nothing is written any more if this error says that nothing can be.
    pub(crate) fn judge_disk(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => self.write_no_more(error),
            io::ErrorKind::NotFound => drop(self.is_pulled_away()),
            _ => {}
        }
    }

    /// True where the directory is not what was opened: that a file is not there says nothing then.
    pub(crate) fn is_pulled_away(&self) -> bool {
        let is_away = !self.disk.is_frozen() && !self.layout.is_in_place();
        if is_away {
            self.write_no_more(&format_args!(
                "{} has been moved, removed or unmounted",
                self.root().display()
            ));
        }
        is_away
    }

    fn write_no_more(&self, error: &dyn std::fmt::Display) {
        let mut why = lock(&self.unwritable.why);
        if why.is_none() {
            tracing::error!(%error, "the cache cannot be written any more: what it holds is served, nothing is stored");
            *why = Some(Arc::from(format!("it cannot be written any more: {error}")));
            self.unwritable.is_so.store(true, Ordering::Relaxed);
        }
    }

    /// True while writing is not even tried.
    pub(crate) fn is_unwritable(&self) -> bool {
        self.disk.is_frozen() || self.unwritable.is_so.load(Ordering::Relaxed)
    }

    /// Why nothing is stored, if that is so.
    pub(crate) fn why_unwritable(&self) -> Option<Arc<str>> {
        let why = self.why_frozen.clone();
        why.or_else(|| lock(&self.unwritable.why).clone())
    }

    /// Tries whether a disk that could not be written can be by now. Blocking.
    pub(crate) fn try_disk_again(&self) {
        if !self.unwritable.is_so.load(Ordering::Relaxed) || !self.layout.is_in_place() {
            return;
        }
        let path = self.part_path();
        let tried = self.disk.pass().and_then(|()| File::create_new(&path));
        if tried.and_then(|_made| fs::remove_file(&path)).is_err() {
            return;
        }
        self.count_strays();
        {
            let mut why = lock(&self.unwritable.why);
            *why = None;
            self.unwritable.is_so.store(false, Ordering::Relaxed);
        }
        tracing::info!("the cache can be written again");
        // What could not be written down meanwhile is only in memory.
        self.nudge.commit();
    }

    /// What fills and objects in parts could not take along while nothing could be removed counts
    /// until the next start.
    pub(crate) fn count_strays(&self) {
        let bytes = self.layout.parts_bytes();
        let mut state = lock(&self.state);
        state.limits.stray_bytes = bytes.saturating_sub(self.space.reserved());
    }
}
