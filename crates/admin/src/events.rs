//! Answers that come line by line, each a JSON object.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Lines that wait for a slow reader at most: it holds back who writes them.
const WAITING_MAX: usize = 64;
/// Lines are sent together up to this many bytes.
const GATHER: usize = 16 << 10;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The body of such an answer.
#[derive(Debug)]
pub(crate) struct Lines(mpsc::Receiver<Bytes>);

/// Where its lines are put. Dropped, it ends the answer.
#[derive(Debug)]
pub(crate) struct Teller {
    lines: mpsc::Sender<Bytes>,
    gathered: Vec<u8>,
    told: Instant,
}

pub(crate) fn channel() -> (Teller, Lines) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let teller = Teller {
        lines: sender,
        gathered: Vec::new(),
        told: Instant::now(),
    };
    (teller, Lines(receiver))
}

impl Teller {
    /// Sends a line. False: nobody listens any more. Blocking.
    pub(crate) fn say(&mut self, line: &Value) -> bool {
        self.gather(line);
        self.flush()
    }

    /// As [`Teller::say`], together with those that follow.
    pub(crate) fn say_among_many(&mut self, line: &Value) -> bool {
        self.gather(line);
        self.gathered.len() < GATHER || self.flush()
    }

    /// Says how far a long work is, now and then. False: nobody listens any more.
    pub(crate) fn progress(&mut self, progress: impl FnOnce() -> Value) -> bool {
        if self.told.elapsed() < TELL_EVERY {
            return !self.lines.is_closed();
        }
        self.told = Instant::now();
        self.say(&json!({"progress": progress()}))
    }

    /// Sends bytes as they are. Blocking.
    pub(crate) fn bytes(&mut self, bytes: Bytes) -> bool {
        self.lines.blocking_send(bytes).is_ok()
    }

    fn gather(&mut self, line: &Value) {
        self.gathered.extend_from_slice(line.to_string().as_bytes());
        self.gathered.push(b'\n');
    }

    fn flush(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.gathered);
        bytes.is_empty() || self.lines.blocking_send(Bytes::from(bytes)).is_ok()
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.flush();
    }
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(cx);
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
