//! An origin's bytes, in whose heads no line ends in a bare LF (RFC 9112 §2.2): see
//! [`larder_policy::lines`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use larder_policy::lines::Lines;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport;

/// A connection to an origin, one exchange after the other.
#[derive(Debug)]
pub(super) struct StrictLines<S> {
    stream: S,
    lines: Lines,
    /// A request has been sent since the last head.
    asked: Arc<AtomicBool>,
}

impl<S> StrictLines<S> {
    /// `asked` is set whenever the next bytes are a head.
    pub(super) fn new(stream: S, asked: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            lines: Lines::of_answer(),
            asked,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictLines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            if self.asked.swap(false, Ordering::Relaxed) {
                self.lines = Lines::of_answer();
            }
            transport::mark(&mut self.lines, buf, before);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictLines<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
