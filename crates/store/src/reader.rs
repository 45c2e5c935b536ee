//! Reads a body, whatever it lies in: memory, a file in place, a fill in progress.
//!
//! Files are read inline with `preadv2(RWF_NOWAIT)` in pieces of at most 256 KiB: what the page
//! cache has costs no thread hop. Where it has not, one hop reads the piece and asks the kernel
//! for what follows. Where the file system refuses the flag, memory itself (tmpfs) is read plainly,
//! and a disk (below overlayfs) always by a hop. Buffers are used again as soon as the connection has let them go, because growing and
//! trimming the heap around such buffers costs more than the copy into them.
//!
//! The reader never ends early without an error: a file shorter than its body, a failed fill and
//! (on a body's first delivery since the start) bytes without their digest all cut the answer.
//! The last piece is only handed out after the digest has been compared. A part of a body that an
//! unclean stop may have damaged waits until the whole has been hashed (`check`), for some seconds.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

use crate::body::{BodyFile, PIECE};
use crate::core::Core;
use crate::counters::Fault;
use crate::digest::Digest;
use crate::error::ReadError;
use crate::hot::Hot;
use crate::running::{Running, Step};

/// What the kernel is asked to read ahead of a piece that it did not have.
const READ_AHEAD: u64 = 2 << 20;
/// No client is left without a byte for ten seconds: a verdict that takes longer comes for others.
const VERDICT_TIME: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 8_000 });
/// Bytes that a reader reads at once in the beginning.
const PIECE_MIN: usize = 64 << 10;
/// Buffers that one reader goes round with.
const BUFFERS: usize = 3;

/// A part of a body, as a stream of pieces.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    /// Where it began: what it has handed out decides how much it reads at once.
    began: u64,
    position: u64,
    /// Where to stop; `None`: at the end of a body whose length is not known yet.
    end: Option<u64>,
    buffers: Vec<Arc<Buffer>>,
    hop: Option<JoinHandle<Hopped>>,
    check: Option<Box<Check>>,
    gate: Option<Gate>,
    /// A body that is not what it should be is being dropped; then the error is told.
    dropping: Option<JoinHandle<()>>,
    failed: Option<ReadError>,
    core: Weak<Core>,
}

/// How a stored body is compared with its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checking {
    /// Not this time.
    No,
    /// While it is delivered; only sensible for a whole body.
    AsRead,
    /// As a whole before any of it is delivered.
    Before,
}

/// Waits for the verdict on the whole; `None`: it takes too long.
struct Gate(Pin<Box<dyn Future<Output = Option<bool>> + Send + Sync>>);

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    File(Arc<BodyFile>, Arc<Hot>),
    Tail(Arc<Running>, u64),
}

/// The hash of a body that is being delivered whole for the first time.
#[derive(Debug)]
struct Check {
    hasher: Sha256,
    digest: Digest,
}

/// What comes back from the blocking pool.
#[derive(Debug)]
struct Hopped {
    buffer: Arc<Buffer>,
    read: io::Result<usize>,
    check: Option<Box<Check>>,
    /// Set by the last piece of a checked body.
    agrees: bool,
}

/// Bytes that are read into again and again.
#[derive(Debug)]
struct Buffer(Vec<u8>);

/// A filled part of a buffer that goes back to its reader when the connection lets it go.
struct Piece(Arc<Buffer>, usize);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.0.0.get(..self.1).unwrap_or_default()
    }
}

impl Reader {
    pub(crate) fn of_memory(body: &Bytes, start: u64, end: u64) -> Self {
        let end = end.min(body.len() as u64);
        Self::new(
            Source::Memory(body.clone()),
            start.min(end),
            Some(end),
            Weak::new(),
        )
    }

    pub(crate) fn of_file(
        core: &Arc<Core>,
        (file, hot): (Arc<BodyFile>, Arc<Hot>),
        (start, end): (u64, u64),
        checking: Checking,
    ) -> Self {
        let end = end.min(hot.len);
        let check = (checking == Checking::AsRead).then(|| {
            Box::new(Check {
                hasher: Sha256::new(),
                digest: hot.digest,
            })
        });
        let gate = (checking == Checking::Before).then(|| {
            let of = (Arc::clone(&hot), Arc::clone(&file));
            let until = Instant::now() + VERDICT_TIME;
            let verdict = Core::checked(Arc::clone(core), of.0, of.1);
            Gate(Box::pin(async move {
                tokio::time::timeout_at(until, verdict).await.ok()
            }))
        });
        let source = Source::File(file, hot);
        let mut reader = Self::new(source, start.min(end), Some(end), Arc::downgrade(core));
        reader.check = check;
        reader.gate = gate;
        reader
    }

    pub(crate) fn of_tail(running: Arc<Running>, id: u64, start: u64, end: Option<u64>) -> Self {
        let core = Weak::clone(&running.core);
        Self::new(Source::Tail(running, id), start, end, core)
    }

    fn new(source: Source, position: u64, end: Option<u64>, core: Weak<Core>) -> Self {
        Self {
            source,
            began: position,
            position,
            end,
            buffers: Vec::new(),
            hop: None,
            check: None,
            gate: None,
            dropping: None,
            failed: None,
            core,
        }
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        let end = match (&self.source, self.end) {
            (Source::Tail(running, _), None) => Tailed(running).length(),
            (_, end) => end,
        };
        end.map(|end| end.saturating_sub(self.position))
    }

    /// The next piece, at most 256 KiB; `None` at the end. After an error there is nothing more.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        if self.failed.is_none() {
            match ready!(self.poll_piece(cx)) {
                Some(Ok(bytes)) => {
                    self.position += bytes.len() as u64;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Err(error)) => self.failed = Some(error),
                None => {}
            }
        }
        if let Some(dropping) = &mut self.dropping {
            // The only failure is a panic in it, which has been said.
            let _ = ready!(Pin::new(dropping).poll(cx));
            self.dropping = None;
        }
        self.end = Some(self.position);
        Poll::Ready(self.failed.take().map(Err))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        if let Some(Gate(verdict)) = &mut self.gate {
            let passed = ready!(verdict.as_mut().poll(cx));
            self.gate = None;
            match passed {
                Some(true) => {}
                Some(false) => return Poll::Ready(Some(Err(ReadError::Flipped))),
                None => return Poll::Ready(Some(Err(ReadError::Unchecked))),
            }
        }
        if let Some(hop) = &mut self.hop {
            let hopped = ready!(Pin::new(hop).poll(cx));
            self.hop = None;
            return Poll::Ready(Some(self.land(hopped)));
        }
        if self.end.is_some_and(|end| self.position >= end) {
            return Poll::Ready(None);
        }
        let (file, limit) = match &self.source {
            Source::Memory(body) => {
                let end = self.end.unwrap_or(body.len() as u64);
                let rest = body.slice(self.position as usize..end as usize);
                return Poll::Ready(Some(Ok(rest)));
            }
            Source::File(file, hot) => (Arc::clone(file), hot.len),
            Source::Tail(running, id) => match ready!(running.poll(self.position, *id, cx)) {
                Step::Bytes(bytes) => return Poll::Ready(Some(Ok(self.clip(bytes)))),
                Step::File(file, available) => (file, available),
                Step::End if self.end.is_none() => return Poll::Ready(None),
                Step::End => return Poll::Ready(Some(Err(ReadError::Short))),
                Step::Failed => return Poll::Ready(Some(Err(ReadError::FillFailed))),
            },
        };
        let limit = self.end.map_or(limit, |end| end.min(limit));
        match self.read_inline(&file, limit) {
            Some(result) => Poll::Ready(Some(result)),
            None => self.poll_piece(cx),
        }
    }

    /// A tail may hand out more than was asked for.
    fn clip(&self, bytes: Bytes) -> Bytes {
        match self.end {
            Some(end) => {
                let most = usize::try_from(end - self.position).unwrap_or(usize::MAX);
                bytes.slice(..most.min(bytes.len()))
            }
            None => bytes,
        }
    }

    /// Reads what the page cache has, or starts a hop and returns `None`.
    pub(crate) fn read_inline(
        &mut self,
        file: &Arc<BodyFile>,
        limit: u64,
    ) -> Option<Result<Bytes, ReadError>> {
        let piece = self.piece();
        let want = usize::try_from(limit - self.position).map_or(piece, |want| want.min(piece));
        let mut buffer = self.buffer(want);
        if self.check.is_some() {
            self.start_hop(file, buffer, want);
            return None;
        }
        let core = self.core.upgrade();
        let nowait = core
            .as_ref()
            .is_none_or(|core| core.nowait.load(Ordering::Relaxed));
        if !nowait && !core.as_ref().is_some_and(|core| core.in_memory) {
            self.start_hop(file, buffer, want);
            return None;
        }
        let target = Arc::get_mut(&mut buffer)
            .and_then(|buffer| buffer.0.get_mut(..want))
            .expect("a buffer that nobody else holds, of at least this size");
        let read = file.file().and_then(|file| {
            if !nowait {
                return file.read_at(target, self.position);
            }
            let mut slices = [IoSliceMut::new(target)];
            let flags = ReadWriteFlags::NOWAIT;
            Ok(rustix::io::preadv2(
                file,
                &mut slices,
                self.position,
                flags,
            )?)
        });
        match read {
            Ok(read) => Some(self.emit(buffer, read)),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::OPNOTSUPP) => {
                if let Some(core) = core {
                    core.nowait.store(false, Ordering::Relaxed);
                }
                self.start_hop(file, buffer, want);
                None
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                self.start_hop(file, buffer, want);
                None
            }
            Err(e) => Some(Err(self.read_failed(e))),
        }
    }

    fn start_hop(&mut self, file: &Arc<BodyFile>, mut buffer: Arc<Buffer>, want: usize) {
        let (file, position) = (Arc::clone(file), self.position);
        let mut check = self.check.take();
        let last = self.end == Some(position + want as u64);
        self.hop = Some(tokio::task::spawn_blocking(move || {
            let read = read_piece(&file, &mut buffer, want, position);
            let mut agrees = true;
            if let (Some(check), Ok(read)) = (&mut check, &read) {
                check
                    .hasher
                    .update(buffer.0.get(..*read).unwrap_or_default());
                if last && *read == want {
                    let digest: [u8; 32] = check.hasher.finalize_reset().into();
                    agrees = Digest(digest) == check.digest;
                }
            }
            Hopped {
                buffer,
                read,
                check,
                agrees,
            }
        }));
    }

    fn land(&mut self, hopped: Result<Hopped, tokio::task::JoinError>) -> Result<Bytes, ReadError> {
        let hopped = hopped.map_err(|e| ReadError::Read(io::Error::other(e)))?;
        let checked = hopped.check.is_some();
        self.check = hopped.check;
        let read = hopped.read.map_err(|e| self.read_failed(e))?;
        if !hopped.agrees {
            self.report(Fault::Flipped);
            return Err(ReadError::Flipped);
        }
        if checked && self.end == Some(self.position + read as u64) {
            self.passed();
        }
        self.emit(hopped.buffer, read)
    }

    /// The body was delivered whole and is what it should be.
    fn passed(&mut self) {
        self.check = None;
        if let (Source::File(_, hot), Some(core)) = (&self.source, self.core.upgrade()) {
            hot.pass(true);
            core.set_verified(hot.slot, hot.id);
        }
    }

    fn emit(&mut self, buffer: Arc<Buffer>, read: usize) -> Result<Bytes, ReadError> {
        if read == 0 {
            self.report(Fault::Short);
            return Err(ReadError::Short);
        }
        if self.buffers.len() < BUFFERS {
            self.buffers.push(Arc::clone(&buffer));
        }
        Ok(Bytes::from_owner(Piece(buffer, read)))
    }

    /// Bytes to read at once: a client that has taken little may be a slow one, for which large
    /// buffers would lie about.
    fn piece(&self) -> usize {
        let handed_out = usize::try_from(self.position - self.began).unwrap_or(usize::MAX);
        (handed_out / 64)
            .next_power_of_two()
            .clamp(PIECE_MIN, PIECE)
    }

    /// A buffer of at least `want` bytes that nobody else holds.
    fn buffer(&mut self, want: usize) -> Arc<Buffer> {
        self.buffers.retain(|held| held.0.len() >= want);
        let free = self
            .buffers
            .iter()
            .position(|held| Arc::strong_count(held) == 1 && held.0.len() >= want);
        match free {
            Some(at) => self.buffers.swap_remove(at),
            None => Arc::new(Buffer(vec![0; want])),
        }
    }

    fn read_failed(&self, error: io::Error) -> ReadError {
        if let Some(core) = self.core.upgrade() {
            core.counters.fault(Fault::Read, &error);
        }
        ReadError::Read(error)
    }

    /// Drops a stored body that is not what it should be, where nobody else waits for the disk.
    fn report(&mut self, fault: Fault) {
        if let (Source::File(_, hot), Some(core)) = (&self.source, self.core.upgrade()) {
            core.counters.fault(fault, &hot.digest);
            let (slot, id) = (hot.slot, hot.id);
            self.dropping = Some(tokio::task::spawn_blocking(move || {
                core.drop_blob(slot, id);
            }));
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Source::Tail(running, id) = &self.source {
            running.forget_reader(*id);
        }
    }
}

struct Tailed<'a>(&'a Arc<Running>);

impl Tailed<'_> {
    fn length(&self) -> Option<u64> {
        crate::running::Tail {
            running: Arc::clone(self.0),
        }
        .length()
    }
}

/// Reads a whole piece where the inline way could not; the kernel goes on to read ahead.
fn read_piece(
    file: &BodyFile,
    buffer: &mut Arc<Buffer>,
    want: usize,
    position: u64,
) -> io::Result<usize> {
    let file = file.file()?;
    let ahead = NonZeroU64::new(READ_AHEAD);
    // Advice only: a file system that does not take it reads all the same.
    let _ = rustix::fs::fadvise(file, position, ahead, rustix::fs::Advice::WillNeed);
    let target = Arc::get_mut(buffer)
        .and_then(|buffer| buffer.0.get_mut(..want))
        .expect("a buffer that nobody else holds, of at least this size");
    let mut read = 0;
    while read < want {
        let Some(rest) = target.get_mut(read..) else {
            break;
        };
        match file.read_at(rest, position + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}
