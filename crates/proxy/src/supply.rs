//! The bytes of one body, drawn over as many exchanges as it takes: a transfer that breaks or
//! stalls goes on from the byte that it reached, so that clients see one answer.
//!
//! It goes on only where the rest is sure to belong to the same file: at the same origin with the
//! same strong entity tag, or the same Last-Modified and length; at another origin of the pool only
//! for files whose name tells their version, with the same Last-Modified and length, beginning
//! 64 KiB early and comparing those bytes with what is there. Anything else is cut.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use http_body_util::BodyExt as _;
use larder_policy::class::Class;
use larder_policy::meta::Meta;
use larder_store::Tail;

use crate::asked::Asked;
use crate::lead::fill_fields;
use crate::origin::{Arrived, Outgoing, leads_to};

/// How much of the file two mirrors are compared by before one goes on for the other, bytes.
const OVERLAP: u64 = 64 << 10;
/// A body that stands still for so long is asked for elsewhere; with [`ATTEMPT`] this leaves no
/// client without bytes for ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bound on one try to go on.
const ATTEMPT: Duration = Duration::from_millis(2500);
/// Tries that brought no byte before the body is given up.
const BARREN_MAX: u32 = 3;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupplyError {
    /// The origin broke off and nobody could go on.
    #[error("the origin broke off")]
    Broken(#[source] hyper::Error),
    /// The origin stood still and nobody could go on.
    #[error("the origin stalled")]
    Stalled,
    /// It ended, but not where the length said.
    #[error("the origin sent {received} of {total} bytes")]
    Short {
        /// Bytes that came.
        received: u64,
        /// Bytes that the file has.
        total: u64,
    },
}

/// A body on its way into a fill.
#[derive(Debug)]
pub(crate) struct Supply<'a> {
    asked: &'a Asked,
    arrived: Arrived,
    tail: Tail,
    meta: Arc<Meta>,
    /// The length of the file, once it is known.
    total: Option<u64>,
    received: u64,
    /// What was compared and goes beyond what is there.
    ahead: Option<Bytes>,
    /// Where the last try to go on began, and how many in a row brought nothing.
    resumed_at: u64,
    barren: u32,
    /// For the measured rate of the origin in use.
    since: (Instant, u64),
}

enum Piece {
    Data(Bytes),
    End,
    Broken(hyper::Error),
    Stalled,
}

impl<'a> Supply<'a> {
    /// The body of `arrived`, which `tail` publishes.
    pub(crate) fn new(asked: &'a Asked, arrived: Arrived, tail: Tail) -> Self {
        let meta = tail.meta();
        Self {
            asked,
            total: arrived.length(),
            arrived,
            tail,
            meta,
            received: 0,
            ahead: None,
            resumed_at: 0,
            barren: 0,
            since: (Instant::now(), 0),
        }
    }

    /// Bytes handed out.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes; `None`: the body is whole.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SupplyError> {
        if let Some(data) = self.ahead.take() {
            return Ok(Some(self.hand_out(data)));
        }
        loop {
            match self.piece(PATIENCE).await {
                Piece::Data(data) => return Ok(Some(self.hand_out(data))),
                Piece::End => return self.ended(),
                Piece::Broken(error) => {
                    self.asked.shared.origins.broke(&self.arrived);
                    if !self.go_on().await {
                        return Err(SupplyError::Broken(error));
                    }
                }
                Piece::Stalled => {
                    if self.go_on().await {
                        continue;
                    }
                    // Nobody else has it: the origin gets the rest of its time.
                    let limit = self.asked.shared.origins.stall_timeout();
                    match self.piece(limit.saturating_sub(PATIENCE)).await {
                        Piece::Data(data) => return Ok(Some(self.hand_out(data))),
                        Piece::End => return self.ended(),
                        Piece::Broken(error) => return Err(SupplyError::Broken(error)),
                        Piece::Stalled => {
                            self.asked.shared.origins.broke(&self.arrived);
                            return Err(SupplyError::Stalled);
                        }
                    }
                }
            }
            if let Some(data) = self.ahead.take() {
                return Ok(Some(self.hand_out(data)));
            }
        }
    }

    /// The body was read to its end: the connection may serve again.
    pub(crate) fn finish(self) {
        self.asked.shared.origins.delivered(
            &self.arrived,
            self.received - self.since.1,
            self.since.0.elapsed(),
        );
        self.arrived.finish();
    }

    fn hand_out(&mut self, data: Bytes) -> Bytes {
        self.received += data.len() as u64;
        data
    }

    fn ended(&self) -> Result<Option<Bytes>, SupplyError> {
        match self.total {
            Some(total) if total != self.received => Err(SupplyError::Short {
                received: self.received,
                total,
            }),
            _ => Ok(None),
        }
    }

    /// What comes next from the origin in use. Trailers never become fields of what is stored.
    async fn piece(&mut self, patience: Duration) -> Piece {
        let patience = patience.min(self.asked.shared.origins.stall_timeout());
        loop {
            let frame = self.arrived.response.body_mut().frame();
            match tokio::time::timeout(patience, frame).await {
                Err(_elapsed) => return Piece::Stalled,
                Ok(None) => return Piece::End,
                Ok(Some(Err(error))) => return Piece::Broken(error),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Piece::Data(data);
                    }
                }
            }
        }
    }

    /// Finds an origin that has the rest, the same one first.
    async fn go_on(&mut self) -> bool {
        if self.received == self.resumed_at && self.barren > 0 {
            tokio::time::sleep(Duration::from_millis(100) * self.barren).await;
        } else {
            self.barren = 0;
        }
        self.resumed_at = self.received;
        self.barren += 1;
        if self.barren > BARREN_MAX {
            return false;
        }
        let hops = self.asked.shared.origins.hops(self.asked);
        let current = self.arrived.to.clone();
        let (same, others): (Vec<_>, Vec<_>) = hops
            .into_iter()
            .partition(|hop| leads_to(*hop, self.asked, &current));
        for (hop, is_same) in same
            .into_iter()
            .map(|hop| (hop, true))
            .chain(others.into_iter().map(|hop| (hop, false)))
        {
            let Some(start) = self.start_at(is_same) else {
                continue;
            };
            let outgoing = Outgoing::get(self.fields(start, is_same));
            let origins = &self.asked.shared.origins;
            let asking = tokio::time::timeout(ATTEMPT, origins.ask(hop, self.asked, outgoing));
            let Ok(Ok(arrived)) = asking.await else {
                continue;
            };
            if self.takes(arrived, start, is_same).await {
                return true;
            }
        }
        false
    }

    /// Where to begin at an origin, if it may be asked at all.
    fn start_at(&self, is_same: bool) -> Option<u64> {
        let dated = self.total.is_some() && self.meta.last_modified().is_some();
        if is_same {
            (self.strong_tag().is_some() || dated).then_some(self.received)
        } else {
            (dated && self.asked.class == Class::Immutable)
                .then(|| self.received.saturating_sub(OVERLAP))
        }
    }

    fn strong_tag(&self) -> Option<&HeaderValue> {
        self.meta
            .etag()
            .filter(|tag| tag.as_bytes().starts_with(b"\""))
    }

    fn fields(&self, start: u64, is_same: bool) -> http::HeaderMap {
        let mut headers = fill_fields(self.asked, None);
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-")) {
            headers.insert(RANGE, range);
        }
        if let Some(tag) = self.strong_tag().filter(|_| is_same) {
            headers.insert(IF_RANGE, tag.clone());
        }
        headers
    }

    /// Goes on with an answer if it is the rest of the same file.
    async fn takes(&mut self, mut arrived: Arrived, start: u64, is_same: bool) -> bool {
        let Some(total) = self.total_of_rest(&arrived, start, is_same) else {
            return false;
        };
        let compared = self.received - start;
        if compared > 0 {
            let Some(ahead) = agrees(&mut arrived, &self.tail, start, self.received).await else {
                tracing::warn!(
                    url = self.asked.url.as_str(),
                    "another mirror has other bytes under this name: it is not gone on with"
                );
                return false;
            };
            self.ahead = Some(ahead).filter(|ahead| !ahead.is_empty());
        }
        tracing::info!(
            url = self.asked.url.as_str(),
            at = self.received,
            "the transfer goes on"
        );
        self.total = Some(total);
        self.since = (Instant::now(), self.received);
        self.arrived = arrived;
        true
    }

    /// The length of the file that an answer has the rest of: a 206 from `start` to the end, with
    /// the validators of what is there.
    fn total_of_rest(&self, arrived: &Arrived, start: u64, is_same: bool) -> Option<u64> {
        let headers = arrived.response.headers();
        let total = rest_of(headers.get(CONTENT_RANGE)?.to_str().ok()?, start)?;
        let held = self.meta.headers();
        let same = |name| headers.get(&name) == held.get(&name);
        let same_file = match self.strong_tag().filter(|_| is_same) {
            Some(tag) => headers.get(ETAG) == Some(tag),
            None => self.total.is_some() && same(LAST_MODIFIED),
        };
        let good = arrived.response.status() == 206
            && same_file
            && same(CONTENT_ENCODING)
            && self.total.is_none_or(|known| known == total);
        good.then_some(total)
    }
}

/// The length in `bytes START-LAST/LENGTH`, if that is everything from `start` on
/// (RFC 9110 §14.4).
fn rest_of(content_range: &str, start: u64) -> Option<u64> {
    let (span, total) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total: u64 = total.parse().ok()?;
    (first == start && last.checked_add(1) == Some(total)).then_some(total)
}

/// Compares what an answer begins with to what is there from `start` to `end`; returns what it has
/// beyond that, `None` where the bytes differ or do not come.
async fn agrees(arrived: &mut Arrived, tail: &Tail, start: u64, end: u64) -> Option<Bytes> {
    let mut held = tail.reader(start, Some(end));
    let mut expected = Bytes::new();
    let mut at = start;
    while at < end {
        let frame = tokio::time::timeout(ATTEMPT, arrived.response.body_mut().frame()).await;
        let mut data = frame.ok()??.ok()?.into_data().ok()?;
        while at < end && !data.is_empty() {
            if expected.is_empty() {
                expected = poll_fn(|cx| held.poll_next(cx)).await?.ok()?;
            }
            let length = data.len().min(expected.len());
            if data.split_to(length) != expected.split_to(length) {
                return None;
            }
            at += length as u64;
        }
        if at == end {
            return Some(data);
        }
    }
    Some(Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::rest_of;

    #[test]
    fn only_a_range_to_the_end_is_the_rest() {
        assert_eq!(rest_of("bytes 5-9/10", 5), Some(10));
        for text in [
            "bytes 5-8/10",
            "bytes 4-9/10",
            "bytes 5-9/*",
            "bytes */10",
            "5-9/10",
            "bytes 5-18446744073709551615/0",
        ] {
            assert_eq!(rest_of(text, 5), None, "{text}");
        }
    }
}
