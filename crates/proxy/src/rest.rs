//! Asks for bytes of a file of which something is held, so that what comes is sure to belong to it.
//!
//! The origin that the file comes from is asked first, by its strong entity tag, or by its
//! Last-Modified where the length is known. Another of the pool is asked only for files whose name
//! tells their version, with the same Last-Modified and length, beginning 64 KiB early: those bytes
//! are compared with what is there; where nothing lies before the wanted bytes, 64 KiB of what is
//! there elsewhere are asked for first. Anything else is not put together.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};
use http_body_util::BodyExt as _;
use larder_policy::class::Class;
use larder_policy::part::{self, Fit, Span};
use larder_policy::route::Hop;
use larder_store::Tail;

use crate::asked::Asked;
use crate::lead::fill_fields;
use crate::origin::{Arrived, OriginError, Outgoing, label};
use crate::patience::Patience;

/// How much of the file two mirrors are compared by before one goes on for the other, bytes.
const OVERLAP: u64 = 64 << 10;
/// Bound on all that is compared before one goes on.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(2500);

/// A file of which something is held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File<'a> {
    /// A request for it, at the URL that it comes from.
    pub(crate) asked: &'a Asked,
    /// What is there.
    pub(crate) tail: &'a Tail,
    /// Its length, once that is known.
    pub(crate) length: Option<u64>,
    /// Who sent its first bytes.
    pub(crate) origin: &'a str,
}

/// Bytes that belong to the file, still to be read.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) arrived: Arrived,
    /// What was compared and goes beyond what is there.
    pub(crate) ahead: Option<Bytes>,
    /// What it is of the file; it is read from the byte on that was asked for.
    pub(crate) span: Span,
    /// It comes from where the file comes from.
    pub(crate) same_origin: bool,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Answer {
    /// What was asked for.
    Part(Part),
    /// The whole of a file that may be another version.
    Whole(Arrived),
    /// Bytes of another version.
    Changed,
    /// Another status.
    Refused(Arrived),
    /// A part of something else than what was asked for.
    Odd,
    /// Nobody answered, or nobody that may be asked has it.
    Failed(OriginError),
}

/// Where the bytes that an origin is asked for begin.
enum Beginning {
    /// Here; what comes before the wanted bytes is compared.
    At(u64),
    /// With the wanted bytes, once these have been compared.
    AfterComparing((u64, u64)),
    /// It may not be asked.
    Nowhere,
}

impl File<'_> {
    /// Asks for the bytes from `at` on, up to `end` (exclusive) or the file's, with the patience of
    /// who waits for them and so many ways left after these.
    pub(crate) async fn ask(
        &self,
        (at, end): (u64, Option<u64>),
        patience: Patience,
        others: usize,
    ) -> Answer {
        let mut answer = Answer::Failed(OriginError::NoRoute);
        let ways = self
            .hops()
            .map(|(hop, same)| (hop, same, self.beginning(at, same)));
        let ways: Vec<_> = ways
            .filter(|(_, _, beginning)| !matches!(beginning, Beginning::Nowhere))
            .collect();
        let mut ways = ways.into_iter();
        while let Some((hop, same_origin, beginning)) = ways.next() {
            let limit = patience.before(ways.len() + others);
            // Boxed: bodies that come without a break do not carry it about.
            let asking = Box::pin(self.ask_one(hop, same_origin, beginning, (at, end)));
            let told = match within(limit, asking).await {
                Some(Some(told)) => told,
                Some(None) => continue,
                None => {
                    let is_ill = limit.is_some_and(|limit| patience.is_enough(limit));
                    let origins = &self.asked.shared.origins;
                    Answer::Failed(origins.was_late(hop, self.asked, is_ill))
                }
            };
            match told {
                Answer::Part(part) => {
                    let arrived = Arrived {
                        patience,
                        ..part.arrived
                    };
                    return Answer::Part(Part { arrived, ..part });
                }
                failed @ Answer::Failed(_) => answer = first_of(answer, failed),
                other if same_origin => answer = other,
                // What another mirror has instead says nothing about the file.
                other => answer = first_of(answer, other),
            }
        }
        answer
    }

    /// Asks one of them. `None`: what it has is another file.
    async fn ask_one(
        &self,
        hop: Hop<'_>,
        same_origin: bool,
        beginning: Beginning,
        (at, end): (u64, Option<u64>),
    ) -> Option<Answer> {
        let start = match beginning {
            Beginning::At(start) => start,
            Beginning::AfterComparing(span) if self.agrees_about(hop, span).await => at,
            Beginning::AfterComparing(_) | Beginning::Nowhere => return None,
        };
        let outgoing = Outgoing::get(self.fields(start, end, same_origin));
        let asking = self.asked.shared.origins.ask(hop, self.asked, outgoing);
        Some(match asking.await {
            Ok(arrived) => self.judge(arrived, (start, at, end), same_origin).await,
            Err(error) => Answer::Failed(error),
        })
    }

    /// Who may have it, the origin that it comes from first.
    fn hops(&self) -> impl Iterator<Item = (Hop<'_>, bool)> {
        let hops = self.asked.shared.origins.hops(self.asked);
        let (same, others): (Vec<_>, Vec<_>) = hops
            .into_iter()
            .partition(|hop| label(*hop, self.asked) == self.origin);
        let same = same.into_iter().map(|hop| (hop, true));
        same.chain(others.into_iter().map(|hop| (hop, false)))
    }

    /// Where to begin at an origin, if it may be asked at all.
    fn beginning(&self, at: u64, same_origin: bool) -> Beginning {
        let meta = self.tail.meta();
        let dated = self.length.is_some() && part::strong_date(&meta).is_some();
        if same_origin {
            let lasting = part::strong_tag(&meta).is_some() || dated;
            return if lasting {
                Beginning::At(at)
            } else {
                Beginning::Nowhere
            };
        }
        if !dated || self.asked.class != Class::Immutable {
            return Beginning::Nowhere;
        }
        let start = at.saturating_sub(OVERLAP);
        if at > 0 && self.tail.reaches_back(at) <= start {
            return Beginning::At(start);
        }
        match self.tail.first_there() {
            None => Beginning::At(at),
            Some((first, end)) => {
                Beginning::AfterComparing((end.saturating_sub(OVERLAP).max(first), end))
            }
        }
    }

    /// True if an origin has these bytes as they are there.
    async fn agrees_about(&self, hop: Hop<'_>, span: (u64, u64)) -> bool {
        let comparing = self.compare(hop, span);
        within(Some(ATTEMPT), comparing).await.unwrap_or_default()
    }

    async fn compare(&self, hop: Hop<'_>, (start, end): (u64, u64)) -> bool {
        let outgoing = Outgoing::get(self.fields(start, Some(end), false));
        let asking = self.asked.shared.origins.ask(hop, self.asked, outgoing);
        let Ok(mut arrived) = asking.await else {
            return false;
        };
        let headers = arrived.response.headers();
        let span = Span::of(headers).filter(|span| (span.start, span.end) == (start, end));
        let fits = span.is_some_and(|span| {
            arrived.response.status() == 206 && self.fit(headers, span, false) != Fit::No
        });
        fits && agrees(&mut arrived, self.tail, start, end).await.is_some()
    }

    fn fit(&self, headers: &HeaderMap, span: Span, same_origin: bool) -> Fit {
        let meta = self.tail.meta();
        let asking = part::Asking {
            same_origin,
            by_if_range: same_origin && part::if_range(&meta).is_some(),
            class: self.asked.class,
        };
        part::fit(&meta, self.length, headers, span, asking)
    }

    fn fields(&self, start: u64, end: Option<u64>, same_origin: bool) -> HeaderMap {
        let mut headers = fill_fields(self.asked);
        let last = end.map_or_else(String::new, |end| end.saturating_sub(1).to_string());
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-{last}")) {
            headers.insert(RANGE, range);
        }
        if let Some(validator) = part::if_range(&self.tail.meta()).filter(|_| same_origin) {
            headers.insert(IF_RANGE, validator);
        }
        headers
    }

    /// Looks at an answer to a request for the bytes from `start` on, of which those before `at`
    /// are there.
    async fn judge(
        &self,
        mut arrived: Arrived,
        (start, at, end): (u64, u64, Option<u64>),
        same_origin: bool,
    ) -> Answer {
        match arrived.response.status().as_u16() {
            200 => return Answer::Whole(arrived),
            206 => {}
            _ => return Answer::Refused(arrived),
        }
        let headers = arrived.response.headers();
        let Some(span) = Span::of(headers).filter(|span| {
            let ends = end.map_or(span.end == span.length, |end| span.end <= end);
            span.start == start && span.end > at && ends
        }) else {
            return Answer::Odd;
        };
        if self.fit(headers, span, same_origin) == Fit::No {
            return Answer::Changed;
        }
        let mut ahead = None;
        if start < at {
            let comparing = agrees(&mut arrived, self.tail, start, at);
            ahead = within(Some(ATTEMPT), comparing).await.flatten();
            if ahead.is_none() {
                tracing::warn!(
                    url = self.asked.url.as_str(),
                    "another mirror has other bytes under this name, or is slow with them: it is not \
                     gone on with"
                );
                return Answer::Changed;
            }
        }
        Answer::Part(Part {
            arrived,
            ahead: ahead.filter(|ahead| !ahead.is_empty()),
            span,
            same_origin,
        })
    }
}

/// The more telling of two failures: the earlier, unless nobody had been asked.
fn first_of(earlier: Answer, later: Answer) -> Answer {
    match earlier {
        Answer::Failed(_) => later,
        earlier => earlier,
    }
}

async fn within<T>(limit: Option<Duration>, asking: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, asking).await.ok(),
        None => Some(asking.await),
    }
}

/// Compares what an answer begins with to what is there from `start` to `end`; returns what it has
/// beyond that, `None` where the bytes differ or do not come.
async fn agrees(arrived: &mut Arrived, tail: &Tail, start: u64, end: u64) -> Option<Bytes> {
    let mut held = tail.reader(start, Some(end));
    let mut expected = Bytes::new();
    let mut at = start;
    while at < end {
        let frame = arrived.response.body_mut().frame().await?;
        let mut data = frame.ok()?.into_data().ok()?;
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
