//! A request's body on its way to an origin: as long as it moves, the origin is not late with its
//! answer, and what grows too large is cut.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

/// When something last moved.
#[derive(Debug)]
pub(crate) struct Moved {
    begun: Instant,
    /// Milliseconds since it began.
    at: AtomicU64,
    /// The body was cut.
    too_large: AtomicBool,
    /// The client broke off, or sent what is no body.
    broken: AtomicBool,
}

impl Moved {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            at: AtomicU64::new(0),
            too_large: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    fn now(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(since, Ordering::Relaxed);
    }

    /// True if more came than may.
    pub(super) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }

    /// True if the client's end of it failed.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn idle(&self) -> Duration {
        let at = Duration::from_millis(self.at.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(at)
    }
}

/// Why a client's body did not reach the origin whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The client broke off.
    #[error("the client broke off")]
    Broken(#[source] hyper::Error),
    /// It is larger than a request's body may be.
    #[error("the body is too large")]
    TooLarge,
}

/// A client's body that notes when it moves.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    /// Bytes that may still come.
    left: u64,
    moved: Arc<Moved>,
}

impl Upload {
    /// At most `limit` bytes of it.
    pub(crate) fn new(incoming: Incoming, limit: u64) -> Self {
        Self {
            incoming,
            left: limit,
            moved: Arc::new(Moved::new()),
        }
    }

    /// When it moves.
    pub(super) fn moved(&self) -> Arc<Moved> {
        Arc::clone(&self.moved)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_ready() {
            self.moved.now();
        }
        if let Poll::Ready(Some(Err(_))) = &polled {
            self.moved.broken.store(true, Ordering::Relaxed);
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let came = frame.data_ref().map_or(0, |data| data.len() as u64);
            if came > self.left {
                self.moved.too_large.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(UploadError::TooLarge)));
            }
            self.left -= came;
        }
        polled.map_err(UploadError::Broken)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What `asking` comes to; `None` once it has taken `limit` and nothing has moved for that long.
pub(crate) async fn while_moving<T>(
    limit: Duration,
    moved: Option<&Moved>,
    asking: impl Future<Output = T>,
) -> Option<T> {
    let mut asking = pin!(asking);
    let mut left = limit;
    loop {
        if let Ok(answer) = timeout(left, asking.as_mut()).await {
            return Some(answer);
        }
        left = moved.map_or(Duration::ZERO, |moved| limit.saturating_sub(moved.idle()));
        if left.is_zero() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_moves_is_waited_for_and_what_stands_still_is_not() {
        let limit = Duration::from_secs(3);
        let moved = Moved::new();
        let uploading = async {
            for _ in 0..40 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                moved.now();
            }
        };
        assert!(while_moving(limit, Some(&moved), uploading).await.is_some());
        let silent = std::future::pending::<()>();
        assert!(while_moving(limit, Some(&moved), silent).await.is_none());
        let silent = std::future::pending::<()>();
        assert!(while_moving(limit, None, silent).await.is_none());
    }
}
