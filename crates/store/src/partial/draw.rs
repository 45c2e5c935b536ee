//! One run of a partial object on its way from an origin into the file.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{Claim, Partial};
use crate::error::FillError;
use crate::lock;
use crate::pump::Pump;

/// How often what is there is written down while a run lasts: what a crash forgets of it.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The right to draw one run of a partial object; dropped, it lets others draw the rest.
#[derive(Debug)]
pub struct Draw {
    pump: Pump,
    claim: Claim,
    _noting: Noting,
}

/// Where a run ends as things stand, for who asks for the rest of it.
#[derive(Clone, Debug)]
pub struct RunEnd {
    partial: Partial,
    number: u64,
}

impl RunEnd {
    pub(crate) fn of(claim: &Claim) -> Self {
        Self {
            partial: claim.partial.clone(),
            number: claim.number,
        }
    }

    /// The end (exclusive), which others bring forward; 0 once the run is over.
    pub fn get(&self) -> u64 {
        lock(&self.partial.inner.claims).span(self.number).1
    }
}

impl Draw {
    pub(crate) fn new(claim: Claim, start: u64) -> Self {
        let inner = &claim.partial.inner;
        let pump = Pump::start_at(inner.file.clone(), inner.running.clone(), start);
        Self {
            pump,
            _noting: Noting::of(&claim.partial),
            claim,
        }
    }

    /// An origin has agreed to send the run: if another's run reaches beyond its start, that ends
    /// there. False: the other has come too far, and this run is to be dropped.
    pub fn agreed(&self) -> bool {
        let inner = &self.claim.partial.inner;
        let is_settled = lock(&inner.claims).settle(self.claim.number);
        inner.moved.notify_waiters();
        is_settled
    }

    /// The next byte to be drawn, and the end (exclusive) as things stand: others may bring it
    /// forward.
    pub fn span(&self) -> (u64, u64) {
        self.claim.span()
    }

    /// Where the run ends, to be looked up later.
    pub fn end(&self) -> RunEnd {
        RunEnd::of(&self.claim)
    }

    /// Nothing of the run has come, and it is given up: those who wait for it hear so, see
    /// [`Partial::failed`].
    pub fn failed(&self, host: &str, status: u16) {
        self.claim.partial.failed(host, status);
    }

    /// Takes the next bytes; what lies beyond the end is left out. Waits only if the disk is more
    /// than a few MiB behind.
    ///
    /// # Errors
    /// The disk's.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), FillError> {
        bytes.truncate(self.claim.advance(bytes.len()));
        if bytes.is_empty() {
            return Ok(());
        }
        let partial = &self.claim.partial;
        self.pump
            .push(bytes)
            .await
            .map_err(|e| partial.disk_fault(e))
    }

    /// Waits until what came is written, and notes it for a later run of the program.
    ///
    /// # Errors
    /// The disk's: what could not be written is missing, and others may draw it.
    pub async fn finish(self) -> Result<(), FillError> {
        let partial = self.claim.partial.clone();
        self.pump.flush().await.map_err(|e| partial.disk_fault(e))?;
        drop(self);
        if !partial.is_over() {
            partial.note();
        }
        Ok(())
    }
}

/// Writes down what is there now and then, for as long as a run lasts: whether bytes come or their
/// origin stands still, the end of the process costs no more than what came last.
#[derive(Debug)]
pub(crate) struct Noting(JoinHandle<()>);

impl Noting {
    pub(crate) fn of(partial: &Partial) -> Self {
        let inner = Arc::downgrade(&partial.inner);
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(NOTE_EVERY).await;
                let Some(inner) = inner.upgrade() else {
                    return;
                };
                let partial = Partial { inner };
                // The only failure is a panic in it, which has been said.
                let _ = spawn_blocking(move || partial.note_news()).await;
            }
        }))
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Partial {
    /// Writes down what is there, in the background.
    pub(crate) fn note(&self) {
        let this = self.clone();
        spawn_blocking(move || this.note_now());
    }
}
