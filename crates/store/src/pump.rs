//! Writes and hashes a fill's bytes beside the async workers.
//!
//! At most one job per fill runs in the blocking pool: it takes everything that is queued,
//! writes, hashes, publishes, and looks again. A slow origin's chunk is written at once, a fast
//! origin's chunks in large rounds. The queue is bounded; the pusher waits for the disk then.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use crate::body::BodyFile;
use crate::digest::Digest;
use crate::lock;
use crate::running::Running;

/// Bytes that may wait for the disk.
const QUEUE_MAX: usize = 4 << 20;
/// How often objects leave for one round of writing on a full disk.
const TRIES_ON_A_FULL_DISK: u32 = 4;
/// At least so much leaves then, bytes.
const WAY: u64 = 4 << 20;
/// Smaller chunks are gathered before they are written.
const GATHER: usize = 64 << 10;

#[derive(Debug)]
struct Queue {
    waiting: Vec<Bytes>,
    bytes: usize,
    /// A job runs; it owns hasher and offset.
    running: bool,
    /// Of what was written from the body's start on; `None`: the writing began elsewhere.
    hasher: Option<Sha256>,
    written: u64,
    error: Option<io::ErrorKind>,
    abandoned: bool,
}

/// The way of a fill's bytes into its part file.
#[derive(Debug)]
pub(crate) struct Pump {
    file: Arc<BodyFile>,
    shared: Arc<Shared>,
    running: Arc<Running>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    progress: Notify,
}

impl Pump {
    /// Starts with what the fill has in memory, written before this returns. Blocking.
    pub(crate) fn start(file: Arc<BodyFile>, running: Arc<Running>) -> io::Result<Self> {
        let mut hasher = Some(Sha256::new());
        let written = write_all(&file, &mut hasher, 0, &running.chunks())?;
        Ok(Self::new(file, running, written, hasher))
    }

    /// Writes from `at` on into a file that others write to as well.
    pub(crate) fn start_at(file: Arc<BodyFile>, running: Arc<Running>, at: u64) -> Self {
        Self::new(file, running, at, None)
    }

    fn new(
        file: Arc<BodyFile>,
        running: Arc<Running>,
        written: u64,
        hasher: Option<Sha256>,
    ) -> Self {
        let queue = Queue {
            waiting: Vec::new(),
            bytes: 0,
            running: false,
            hasher,
            written,
            error: None,
            abandoned: false,
        };
        Self {
            file,
            shared: Arc::new(Shared {
                queue: Mutex::new(queue),
                progress: Notify::new(),
            }),
            running,
        }
    }

    pub(crate) fn file(&self) -> &Arc<BodyFile> {
        &self.file
    }

    /// Queues bytes; waits while the queue is full.
    pub(crate) async fn push(&self, bytes: Bytes) -> io::Result<()> {
        loop {
            let progress = self.shared.progress.notified();
            {
                let mut queue = lock(&self.shared.queue);
                if let Some(kind) = queue.error {
                    return Err(kind.into());
                }
                if queue.bytes < QUEUE_MAX {
                    queue.bytes += bytes.len();
                    queue.waiting.push(bytes);
                    let must_run = !std::mem::replace(&mut queue.running, true);
                    drop(queue);
                    if must_run {
                        self.run();
                    }
                    return Ok(());
                }
            }
            progress.await;
        }
    }

    /// Waits until everything is written. Returns the digest of it all.
    pub(crate) async fn finish(&self) -> io::Result<Digest> {
        let (hasher, _) = self.flush().await?;
        let hasher = hasher.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Digest(hasher.finalize().into()))
    }

    /// Waits until everything is written. Returns the hash so far, where it is one from the start
    /// on, and how far it is written.
    pub(crate) async fn flush(&self) -> io::Result<(Option<Sha256>, u64)> {
        loop {
            let progress = self.shared.progress.notified();
            {
                let queue = lock(&self.shared.queue);
                if let Some(kind) = queue.error {
                    return Err(kind.into());
                }
                if !queue.running {
                    return Ok((queue.hasher.clone(), queue.written));
                }
            }
            progress.await;
        }
    }

    /// What is queued need not be written.
    pub(crate) fn abandon(&self) {
        let mut queue = lock(&self.shared.queue);
        queue.abandoned = true;
        queue.waiting.clear();
        drop(queue);
        self.file.abandon();
    }

    fn run(&self) {
        let job = Job {
            file: Arc::clone(&self.file),
            shared: Arc::clone(&self.shared),
            running: Arc::clone(&self.running),
            is_over: false,
        };
        tokio::task::spawn_blocking(move || job.work());
    }
}

/// The job that writes; where it ends before its work is done, those who wait are told.
struct Job {
    file: Arc<BodyFile>,
    shared: Arc<Shared>,
    running: Arc<Running>,
    is_over: bool,
}

impl Job {
    fn work(mut self) {
        drain(&self.file, &self.shared, &self.running);
        self.is_over = true;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = lock(&self.shared.queue);
            queue.error = Some(io::ErrorKind::Other);
            queue.running = false;
            drop(queue);
            self.running.fail();
        }
        self.shared.progress.notify_waiters();
    }
}

/// Writes until nothing is queued.
fn drain(file: &BodyFile, shared: &Shared, running: &Running) {
    let (mut hasher, mut at) = {
        let queue = lock(&shared.queue);
        (queue.hasher.clone(), queue.written)
    };
    loop {
        let chunks = {
            let mut queue = lock(&shared.queue);
            if queue.waiting.is_empty() || queue.abandoned {
                queue.hasher = hasher;
                queue.written = at;
                queue.running = false;
                break;
            }
            queue.bytes = 0;
            std::mem::take(&mut queue.waiting)
        };
        match write_or_make_way(file, &mut hasher, at, &chunks, running) {
            Ok(end) => {
                running.publish(at, end);
                at = end;
                shared.progress.notify_waiters();
            }
            Err(e) => {
                let mut queue = lock(&shared.queue);
                queue.error = Some(e.kind());
                queue.running = false;
                drop(queue);
                running.fail();
                break;
            }
        }
    }
}

/// Writes the chunks; where others have filled the disk, objects that are held leave for them.
fn write_or_make_way(
    file: &BodyFile,
    hasher: &mut Option<Sha256>,
    at: u64,
    chunks: &[Bytes],
    running: &Running,
) -> io::Result<u64> {
    let bytes: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    for _ in 0..TRIES_ON_A_FULL_DISK {
        let before = hasher.clone();
        match write_all(file, hasher, at, chunks) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                *hasher = before;
                let core = running.core.upgrade();
                if !core.is_some_and(|core| core.give_way(bytes.max(WAY))) {
                    return Err(e);
                }
            }
            result => return result,
        }
    }
    write_all(file, hasher, at, chunks)
}

/// Writes the chunks from `at` on and hashes them. Returns where they end.
fn write_all(
    file: &BodyFile,
    hasher: &mut Option<Sha256>,
    mut at: u64,
    chunks: &[Bytes],
) -> io::Result<u64> {
    let file = file.file()?;
    let mut gathered = Vec::new();
    let mut write = |bytes: &[u8]| {
        file.write_all_at(bytes, at)?;
        if let Some(hasher) = hasher {
            hasher.update(bytes);
        }
        at += bytes.len() as u64;
        Ok::<_, io::Error>(())
    };
    for chunk in chunks {
        if gathered.is_empty() && (chunk.len() >= GATHER || chunks.len() == 1) {
            write(chunk)?;
            continue;
        }
        gathered.extend_from_slice(chunk);
        if gathered.len() >= GATHER {
            write(&gathered)?;
            gathered.clear();
        }
    }
    write(&gathered)?;
    Ok(at)
}
