//! A request's body on its way to an origin: as long as it moves, the origin is not late with its
//! answer.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
}

impl Moved {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            at: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.at.store(since, Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        let at = Duration::from_millis(self.at.load(Ordering::Relaxed));
        self.begun.elapsed().saturating_sub(at)
    }
}

/// A client's body that notes when it moves.
#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    moved: Arc<Moved>,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming) -> (Self, Arc<Moved>) {
        let moved = Arc::new(Moved::new());
        let upload = Self {
            incoming,
            moved: Arc::clone(&moved),
        };
        (upload, moved)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_ready() {
            self.moved.now();
        }
        polled
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
        let limit = Duration::from_millis(1500);
        let moved = Moved::new();
        let uploading = async {
            for _ in 0..20 {
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
