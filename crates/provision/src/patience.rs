//! Patience with clients that do not take what is sent to them: bounded.
//!
//! A machine that was switched off amid its kernel says nothing; its connection would last until the
//! operating system gives up, a quarter of an hour later, and one that takes no bytes on purpose for ever.
//! A write that makes no progress for a while ends in an error, which ends the connection. A server that
//! stops has less patience: who takes nothing then would hold the stop up, and gets nothing by it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
    time::sleep,
};

/// How long a server that stops waits for a client that takes nothing.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// A stream whose writes wait so long and no longer.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    last_patience: Duration,
    stopping: watch::Receiver<bool>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<S> Patient<S> {
    /// `stopping` becomes true when the server stops.
    pub(crate) fn new(stream: S, patience: Duration, stopping: watch::Receiver<bool>) -> Self {
        Self {
            stream,
            patience,
            last_patience: LAST_PATIENCE,
            stopping,
            waiting: None,
        }
    }

    /// What a write came to, unless it waits for too long.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let (patience, last, stopping) = (self.patience, self.last_patience, &self.stopping);
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(exhausted(patience, last, stopping.clone())));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Returns when nothing is waited for any more.
async fn exhausted(patience: Duration, last: Duration, mut stopping: watch::Receiver<bool>) {
    let stopped = async {
        crate::listen::stopped(&mut stopping).await;
        sleep(last).await;
    };
    tokio::select! {
        () = sleep(patience) => {}
        () = stopped => {}
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_takes_a_little_gets_all_the_time_again() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let (_stop, stopping) = watch::channel(false);
        let mut ours = Patient::new(ours, Duration::from_hours(1), stopping);
        ours.write_all(b"a").await.unwrap();
        let mut blocked = std::pin::pin!(ours.write_all(b"b"));
        let first = std::future::poll_fn(|context| Poll::Ready(blocked.as_mut().poll(context)));
        assert!(first.await.is_pending());
        assert_eq!(theirs.read_u8().await.unwrap(), b'a');
        blocked.await.unwrap();
        assert!(
            ours.waiting.is_none(),
            "the clock stands where bytes are taken"
        );
        ours.patience = Duration::from_millis(10);
        let given_up = ours.write_all(b"c").await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_server_that_stops_waits_a_little_for_who_takes_nothing() {
        let (ours, _theirs) = tokio::io::duplex(1);
        let (stop, stopping) = watch::channel(false);
        let mut ours = Patient::new(ours, Duration::from_hours(1), stopping);
        ours.last_patience = Duration::from_millis(10);
        ours.write_all(b"a").await.unwrap();
        let mut blocked = std::pin::pin!(ours.write_all(b"b"));
        let first = std::future::poll_fn(|context| Poll::Ready(blocked.as_mut().poll(context)));
        assert!(first.await.is_pending());
        stop.send_replace(true);
        // It would last an hour.
        assert_eq!(blocked.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
