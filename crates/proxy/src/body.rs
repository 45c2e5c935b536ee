//! The body of an answer: one type for what is held, what is being filled, what comes straight
//! from an origin, and what larder says itself.
//!
//! A body that cannot be finished ends in an error, on which the connection is cut: a client never
//! gets a well-formed complete response whose bytes are not the whole object. When a body is
//! dropped, finished or not, its access record is written ([`crate::record::Open`]).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use larder_store::{ReadError, Reader};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::connection::Owed;
use crate::lead::Onward;
use crate::origin::Lease;
use crate::record::Open;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// What is held, or the fill that is followed, broke.
    #[error("the stored body could not be read to its end")]
    Stored(#[source] ReadError),
    /// The origin broke.
    #[error("the origin broke off")]
    Origin(#[source] hyper::Error),
    /// The origin sent nothing for too long.
    #[error("the origin stalled")]
    Stalled,
}

/// The body of an answer to a client.
#[derive(Debug)]
pub(crate) struct Body {
    source: Source,
    /// What the source has given and is not sent yet.
    rest: Bytes,
    record: Option<Open>,
    /// An error that is told once what came before it has gone out.
    put_off: Option<BodyError>,
    /// Held until the body ends: the connection owes it.
    owed: Option<Owed>,
}

#[derive(Debug)]
enum Source {
    Bytes(Option<Bytes>),
    Stored(Box<Reader>),
    Growing(Box<Growing>),
    Parts(Parts),
    Origin(Box<FromOrigin>),
}

impl Body {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::of(Source::Bytes(None))
    }

    /// Bytes that larder has.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::of(Source::Bytes(Some(bytes.into())))
    }

    /// A span of something held, or of a fill under way.
    pub(crate) fn stored(reader: Reader) -> Self {
        Self::of(Source::Stored(Box::new(reader)))
    }

    /// Spans of something held as multipart/byteranges; heads go before their spans.
    pub(crate) fn parts(parts: Parts) -> Self {
        Self::of(Source::Parts(parts))
    }

    /// Straight from an origin.
    pub(crate) fn from_origin(incoming: Incoming, lease: Lease, stall: Duration) -> Self {
        Self::of(Source::Origin(Box::new(FromOrigin::new(
            incoming, lease, stall,
        ))))
    }

    /// Sends of an origin's body no more than `length` bytes, after the first `skipped`.
    pub(crate) fn cut_to(mut self, skipped: u64, length: u64) -> Self {
        if let Source::Origin(origin) = &mut self.source {
            origin.skip = skipped;
            origin.left = Some(length);
        }
        self
    }

    /// Where this is a fill of unknown length: goes on from its origin if it is kept no longer.
    pub(crate) fn going_on(mut self, onward: oneshot::Receiver<Onward>, stall: Duration) -> Self {
        self.source = match self.source {
            Source::Stored(reader) if reader.remaining().is_none() => {
                Source::Growing(Box::new(Growing {
                    reader,
                    onward,
                    stall,
                }))
            }
            other => other,
        };
        self
    }

    fn of(source: Source) -> Self {
        Self {
            source,
            rest: Bytes::new(),
            record: None,
            put_off: None,
            owed: None,
        }
    }

    /// Attaches the record that is written when the body ends.
    pub(crate) fn recorded(mut self, record: Open) -> Self {
        self.record = Some(record);
        self
    }

    /// Attaches what the connection owes.
    pub(crate) fn owed(mut self, owed: Owed) -> Self {
        self.owed = Some(owed);
        self
    }

    /// Nothing of it is left to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.source.is_spent()
    }

    /// The next piece, no larger than the connection takes them.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.rest.is_empty() {
            match ready!(self.poll_source(cx)) {
                Some(Ok(bytes)) => self.rest = bytes,
                ended => return Poll::Ready(ended),
            }
        }
        let most = self.owed.as_ref().map_or(usize::MAX, Owed::piece_max);
        let length = self.rest.len().min(most);
        Poll::Ready(Some(Ok(self.rest.split_to(length))))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.source {
            Source::Growing(growing) => match ready!(growing.poll_next(cx)) {
                Grown::Piece(piece) => {
                    Poll::Ready(piece.map(|piece| piece.map_err(BodyError::Stored)))
                }
                Grown::Onward(origin) => {
                    self.source = Source::Origin(origin);
                    self.poll_source(cx)
                }
            },
            Source::Bytes(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Source::Stored(reader) => reader.poll_next(cx).map_err(BodyError::Stored),
            Source::Parts(parts) => parts.poll_next(cx),
            Source::Origin(origin) => origin.poll_next(cx),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = match this.put_off.take() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => match this.poll_piece(cx) {
                Poll::Ready(Some(Err(error))) => {
                    // On an error hyper closes at once and forgets what it has not written, the
                    // head included; while a body has nothing to give it writes.
                    this.put_off = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                polled => polled,
            },
        };
        if let Some(owed) = &this.owed {
            match &polled {
                Poll::Pending => owed.waits(),
                Poll::Ready(_) => owed.offers(),
            }
        }
        if let (Poll::Ready(next), Some(record)) = (&polled, &mut this.record) {
            match next {
                Some(Ok(bytes)) => {
                    record.sent(bytes.len());
                    // hyper asks no further once it has the announced length.
                    if this.rest.is_empty() && this.source.is_spent() {
                        record.complete();
                    }
                }
                Some(Err(error)) => {
                    record.broke(error);
                    if let Some(owed) = &this.owed {
                        owed.broke();
                    }
                }
                None => record.complete(),
            }
        }
        polled.map(|next| next.map(|result| result.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && matches!(self.source, Source::Bytes(None))
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.source.size_hint() {
            hint if rest == 0 => hint,
            hint => hint.exact().map_or_else(SizeHint::default, |exact| {
                SizeHint::with_exact(exact + rest)
            }),
        }
    }
}

impl Source {
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Stored(reader) => reader
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Growing(growing) => growing
                .reader
                .remaining()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Parts(parts) => SizeHint::with_exact(parts.remaining),
            Self::Origin(origin) => match origin.left {
                Some(left) => SizeHint::with_exact(left),
                None => origin.incoming.size_hint(),
            },
        }
    }

    /// Nothing of an announced length is left.
    fn is_spent(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }
}

/// A fill of unknown length, which may become too large to be kept.
#[derive(Debug)]
struct Growing {
    reader: Box<Reader>,
    onward: oneshot::Receiver<Onward>,
    stall: Duration,
}

/// What comes next of it.
enum Grown {
    Piece(Option<Result<Bytes, ReadError>>),
    /// All that was kept has been read: this is the rest.
    Onward(Box<FromOrigin>),
}

impl Growing {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Grown> {
        let piece = ready!(self.reader.poll_next(cx));
        // The rest was handed over before the fill ended, or never is.
        let onward = match &piece {
            Some(Err(ReadError::FillFailed)) => self.onward.try_recv().ok(),
            _ => None,
        };
        Poll::Ready(match onward {
            Some(Onward { ahead, arrived }) => {
                let incoming = arrived.response.into_body();
                let mut rest = FromOrigin::new(incoming, arrived.lease, self.stall);
                rest.ahead = Some(ahead);
                Grown::Onward(Box::new(rest))
            }
            None => Grown::Piece(piece),
        })
    }
}

/// Several spans with a head before each and a closing line: multipart/byteranges
/// (RFC 9110 §14.6).
#[derive(Debug)]
pub(crate) struct Parts {
    pieces: VecDeque<Piece>,
    remaining: u64,
}

/// One piece of a multipart body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A part's head, or the closing line.
    Text(Bytes),
    /// A part's span.
    Span(Box<Reader>),
}

impl Parts {
    /// Pieces in the order in which they are sent; `length` is their sum.
    pub(crate) fn new(pieces: impl IntoIterator<Item = Piece>, length: u64) -> Self {
        Self {
            pieces: pieces.into_iter().collect(),
            remaining: length,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let next = match self.pieces.front_mut() {
                None => return Poll::Ready(None),
                Some(Piece::Text(text)) => Some(Ok(std::mem::take(text))),
                Some(Piece::Span(reader)) => match reader.poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(next) => next,
                },
            };
            match next {
                Some(Ok(bytes)) if !bytes.is_empty() => {
                    self.remaining = self.remaining.saturating_sub(bytes.len() as u64);
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Stored(error)))),
                Some(Ok(_)) | None => {
                    self.pieces.pop_front();
                }
            }
        }
    }
}

/// An origin's body on its way to one client. Trailers end here.
#[derive(Debug)]
struct FromOrigin {
    incoming: Incoming,
    lease: Option<Lease>,
    stall: Duration,
    deadline: Pin<Box<Sleep>>,
    /// What has come before.
    ahead: Option<Bytes>,
    /// Bytes that are not for the client, before those that are.
    skip: u64,
    /// Bytes that are still to be sent, where that is less than what comes.
    left: Option<u64>,
}

impl FromOrigin {
    fn new(incoming: Incoming, lease: Lease, stall: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(stall));
        Self {
            incoming,
            lease: Some(lease),
            stall,
            deadline,
            ahead: None,
            skip: 0,
            left: None,
        }
    }

    /// What of a piece is for the client.
    fn cut(&mut self, mut data: Bytes) -> Bytes {
        let skipped = self.skip.min(data.len() as u64);
        self.skip -= skipped;
        let mut data = data.split_off(usize::try_from(skipped).unwrap_or_default());
        if let Some(left) = &mut self.left {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
        }
        data
    }

    /// The connection may serve the next request.
    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(Ok(ahead)));
        }
        loop {
            if self.left == Some(0) {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers never become fields of the response.
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    self.deadline.as_mut().reset(Instant::now() + self.stall);
                    // Nobody asks for more than an announced length: the end is seen here.
                    if self.incoming.is_end_stream() {
                        self.give_back();
                    }
                    let data = self.cut(data);
                    if data.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(data)));
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(BodyError::Origin(error))));
                }
                Poll::Ready(None) => {
                    self.give_back();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    return match self.deadline.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Stalled))),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}
