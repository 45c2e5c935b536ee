//! Stores one answer: takes its bytes, lets readers follow, puts the whole in place.
//!
//! Small bodies stay in memory until they are whole and are written in one go; others go to a
//! part file of their own, written and hashed by one job in the blocking pool that takes whatever
//! has come meanwhile (large pieces from a fast origin, each chunk at once from a slow one). The
//! room is reserved before anything is written. A fill that is dropped before its commit has
//! failed: its readers get an error and nothing is kept. Of an answer whose rest can be asked for
//! later ([`crate::Slot::begin_resumable`]) the fill is one run of a partial object: others may
//! draw parts of it meanwhile, and what came before a break stays.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use tokio::task::spawn_blocking;

use crate::body::BodyFile;
use crate::collapse::{Lead, Outcome};
use crate::core::Core;
use crate::entry::Entry;
use crate::error::{BeginError, FillError};
use crate::line::Leave;
use crate::partial::{Claim, Noting, Partial, Promise, RunEnd};
use crate::pump::Pump;
use crate::room::{BLOCK, Reservation, blocks_of};
use crate::running::{Running, Tail};
use crate::settle::{Whole, Wish};

/// Bodies up to this length do without a part file.
const MEMORY_MAX: u64 = 256 << 10;
/// Room that a body of unknown length takes at once.
const STEP: u64 = 4 << 20;

/// Where the bytes go.
#[derive(Debug)]
enum Sink {
    Memory(Reservation),
    File(Arc<Pump>),
    /// Only while one changes into the other.
    None,
}

/// An answer that is being stored; dropped before [`Fill::commit`], it has failed.
#[derive(Debug)]
pub struct Fill {
    core: Arc<Core>,
    running: Arc<Running>,
    sink: Sink,
    key: CacheKey,
    length: Option<u64>,
    received: u64,
    reserved: u64,
    lead: Option<Lead>,
    is_for_clients: bool,
    /// Where the fill is a run of a partial object.
    run: Option<Run>,
    /// Where its body is to wait in line.
    leave: Option<Leave>,
}

/// A fill's place in a partial object.
#[derive(Debug)]
struct Run {
    partial: Partial,
    /// All that is missing will come.
    promise: Promise,
    claim: Claim,
    /// Writes down what is there.
    _noting: Noting,
}

impl Fill {
    pub(crate) async fn begin(
        core: &Arc<Core>,
        meta: Meta,
        length: Option<u64>,
        key: CacheKey,
        origin: Option<String>,
    ) -> Result<Self, BeginError> {
        let room = length.map_or(STEP, |length| u64::from(blocks_of(length)) * BLOCK);
        let leave = core.line.leave().await.ok_or(BeginError::Behind)?;
        if !core.is_worth_room(&key, room) {
            return Err(BeginError::NotAdmitted);
        }
        let reservation = if let Some(reservation) = core.reserve_free(room)? {
            reservation
        } else {
            let core = Arc::clone(core);
            spawn_blocking(move || core.reserve(room))
                .await
                .map_err(|e| BeginError::Part(io::Error::other(e)))??
        };
        core.counters.fills.add(1);
        let mut fill = Self {
            core: Arc::clone(core),
            running: Running::new(core, Arc::new(meta), length),
            sink: Sink::Memory(reservation),
            key,
            length,
            received: 0,
            reserved: room,
            lead: None,
            is_for_clients: true,
            run: None,
            leave: Some(leave),
        };
        if let Some(length) = length.filter(|length| *length > MEMORY_MAX) {
            let moved = match origin {
                Some(origin) => fill.become_run(length, origin).await,
                None => fill.move_to_file().await,
            };
            moved.map_err(|error| {
                core.write_failed(&error);
                BeginError::Part(error)
            })?;
        }
        Ok(fill)
    }

    pub(crate) fn led_by(mut self, lead: Lead) -> Self {
        self.lead = Some(lead);
        self
    }

    /// A handle to read what is there and what comes.
    pub fn tail(&self) -> Tail {
        Tail {
            running: Arc::clone(&self.running),
        }
    }

    /// No client has asked for it: the share of bytes that clients get from the cache does not change.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.is_for_clients = false;
        self
    }

    /// Bytes taken so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes. Waits only if the disk is more than a few MiB behind.
    ///
    /// # Cancel safety
    /// Not to be called again after the future was dropped: the bytes may have been taken or not.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), FillError> {
        if let Some(run) = &mut self.run {
            let taken = run.claim.advance(bytes.len());
            if taken < bytes.len() && Some(self.received + taken as u64) == self.length {
                let expected = self.received + taken as u64;
                return Err(FillError::TooLong { expected });
            }
            bytes.truncate(taken);
        }
        let received = self.received + bytes.len() as u64;
        if let Some(expected) = self.length
            && received > expected
        {
            return Err(FillError::TooLong { expected });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.have_room_for(received).await?;
        if matches!(self.sink, Sink::Memory(_)) && received > MEMORY_MAX {
            self.move_to_file().await.map_err(|e| self.disk_fault(e))?;
        }
        self.received = received;
        match &self.sink {
            Sink::Memory(_) => {
                self.running.push(bytes);
                Ok(())
            }
            Sink::File(pump) => pump.push(bytes).await.map_err(|e| self.disk_fault(e)),
            Sink::None => Err(FillError::Write(io::Error::from(io::ErrorKind::BrokenPipe))),
        }
    }

    /// True if the rest is another's to draw, in whole or in part: what comes now is left out.
    pub fn is_overtaken(&self) -> bool {
        self.run.as_ref().is_some_and(|run| {
            let (at, end) = run.claim.span();
            at >= end && Some(end) != self.length
        })
    }

    /// Where it ends, if it is a run of an object that others draw too.
    pub fn run_end(&self) -> Option<RunEnd> {
        self.run.as_ref().map(|run| RunEnd::of(&run.claim))
    }

    /// What came is no good: nothing of it is kept.
    pub fn discard(self) {
        if let Some(run) = &self.run {
            run.partial.discard();
        }
    }

    /// Ends the fill as a run of its partial object, with the promise that what is missing will
    /// come; what came is kept. `None`: the answer was not of such a kind, and nothing is kept.
    pub async fn into_partial(mut self) -> Option<(Partial, Promise)> {
        let Run {
            partial,
            promise,
            claim,
            ..
        } = self.run.take()?;
        if let Sink::File(pump) = &std::mem::replace(&mut self.sink, Sink::None) {
            match pump.flush().await {
                Ok((Some(hasher), at)) => partial.hashed_to(hasher, at),
                Ok((None, _)) => {}
                Err(e) => {
                    self.disk_fault(e);
                    partial.discard();
                    return None;
                }
            }
        }
        drop(claim);
        partial.note();
        Some((partial, promise))
    }

    /// The origin has sent everything: checks the length, puts the body in place, and from then
    /// on the object is found. Readers get their end; followers get the entry.
    ///
    /// # Cancel safety
    /// If the future is dropped the object may or may not be stored; it is never stored in part.
    pub async fn commit(mut self) -> Result<Entry, FillError> {
        if let Some(expected) = self.length
            && self.received != expected
        {
            return Err(FillError::TooShort {
                expected,
                received: self.received,
            });
        }
        let whole = match std::mem::replace(&mut self.sink, Sink::None) {
            Sink::Memory(reservation) => Whole::Memory {
                chunks: self.running.chunks(),
                _reservation: reservation,
            },
            Sink::File(pump) => {
                let digest = pump.finish().await.map_err(|e| self.disk_fault(e))?;
                Whole::Part {
                    file: Arc::clone(pump.file()),
                    digest,
                }
            }
            Sink::None => return Err(FillError::Write(io::ErrorKind::BrokenPipe.into())),
        };
        // The bytes are all there and counted: readers need not wait for the disk's folders.
        self.running.finish();
        let len = self.received;
        let wish = Wish {
            key: self.key.clone(),
            meta: self.tail().meta(),
            len,
            purged: self.lead.as_ref().map(|lead| Arc::clone(&lead.purged)),
        };
        if self.run.as_ref().is_some_and(|run| run.partial.is_over()) {
            // Another version has come, or it was purged: its readers have it, nobody else will.
            return Err(FillError::Gone);
        }
        let leave = self.leave.take();
        let settled = Core::settled_in_turn(&self.core, wish, whole, leave).await;
        if let (Some(run), false) = (&self.run, matches!(settled, Ok(Some(_)))) {
            run.partial.leave(&self.core);
        }
        let stored = settled.map_err(|e| self.disk_fault(e))?;
        let (hot, file) = stored.ok_or(FillError::Purged)?;
        if let Some(run) = self.run.take() {
            run.partial.leave(&self.core);
        }
        let entry = Entry::new(&self.core, hot, file);
        if let Some(lead) = &self.lead {
            lead.tell(Outcome::Ready(entry.clone()));
        }
        self.core.counters.fills_ended.add(1);
        if self.is_for_clients {
            self.core.counters.fill_bytes.add(len);
        }
        Ok(entry)
    }

    /// Grows the room of a body whose length is not known.
    async fn have_room_for(&mut self, received: u64) -> Result<(), FillError> {
        while received > self.reserved {
            let sink = match &mut self.sink {
                Sink::Memory(reservation) => Growing::Memory(reservation),
                Sink::File(pump) => Growing::File(pump.file()),
                Sink::None => return Err(FillError::NoRoom),
            };
            if self.core.grow_free(STEP, |bytes| sink.grow(bytes)) {
                self.reserved += STEP;
                continue;
            }
            let core = Arc::clone(&self.core);
            spawn_blocking(move || core.make_room(STEP))
                .await
                .map_err(|e| FillError::Write(io::Error::other(e)))?
                .map_err(|_none| FillError::NoRoom)?;
        }
        Ok(())
    }

    async fn move_to_file(&mut self) -> io::Result<()> {
        let Sink::Memory(reservation) = std::mem::replace(&mut self.sink, Sink::None) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.leave = None;
        let (core, running) = (Arc::clone(&self.core), Arc::clone(&self.running));
        let moved = spawn_blocking(move || {
            let file = Arc::new(BodyFile::create(&core.disk, core.part_path(), reservation)?);
            let pump = Pump::start(Arc::clone(&file), Arc::clone(&running))?;
            running.move_to(file);
            Ok::<_, io::Error>(pump)
        });
        let pump = moved.await.map_err(io::Error::other)??;
        self.sink = Sink::File(Arc::new(pump));
        Ok(())
    }

    /// Lets others draw parts of it meanwhile and later.
    async fn become_run(&mut self, length: u64, origin: String) -> io::Result<()> {
        let Sink::Memory(reservation) = std::mem::replace(&mut self.sink, Sink::None) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.leave = None;
        let (core, running) = (Arc::clone(&self.core), Arc::clone(&self.running));
        let key = self.key.clone();
        let made = spawn_blocking(move || {
            let (partial, claim) = Partial::of_fill(&core, &key, origin, &running, reservation)?;
            let pump = Pump::start(Arc::clone(partial.file()), running)?;
            Ok::<_, io::Error>((partial, claim, pump))
        });
        let (partial, claim, pump) = made.await.map_err(io::Error::other)??;
        self.sink = Sink::File(Arc::new(pump));
        self.run = Some(Run {
            promise: partial.promise(vec![(0, length)]),
            claim,
            _noting: Noting::of(&partial),
            partial,
        });
        Ok(())
    }

    fn disk_fault(&self, error: io::Error) -> FillError {
        self.core.write_failed(&error);
        FillError::Write(error)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        match &self.sink {
            // What came of an object that is held in parts stays.
            Sink::File(_) if self.run.is_some() => {}
            Sink::File(pump) => pump.abandon(),
            Sink::Memory(_) | Sink::None => {}
        }
        // After a commit the readers have the whole body, and this changes nothing for them.
        if !matches!(self.sink, Sink::None) {
            self.core.counters.fills_failed.add(1);
        }
        self.running.fail();
    }
}

/// What a growing body's room is counted in.
enum Growing<'a> {
    Memory(&'a mut Reservation),
    File(&'a Arc<BodyFile>),
}

impl Growing<'_> {
    fn grow(self, bytes: u64) {
        match self {
            Self::Memory(reservation) => reservation.grow(bytes),
            Self::File(file) => file.grow(bytes),
        }
    }
}
