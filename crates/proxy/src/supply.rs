//! The bytes of one body, drawn over as many exchanges as it takes: a transfer that breaks or
//! stalls goes on from the byte that it reached, so that clients see one answer. It goes on only
//! where the rest is sure to belong to the same file ([`File::ask`]); anything else is cut.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use larder_store::{Fill, RunEnd, Tail};

use crate::asked::Asked;
use crate::origin::Arrived;
use crate::patience::Patience;
use crate::rest::{ATTEMPT, Answer, File, Part};

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

/// A body, or a part of one, on its way into the store.
#[derive(Debug)]
pub(crate) struct Supply<'a> {
    asked: &'a Asked,
    arrived: Arrived,
    tail: Tail,
    /// Who sent the first bytes of the file.
    origin: String,
    /// The length of the file, once it is known.
    total: Option<u64>,
    /// Where the part ends, if it is one.
    end: Option<u64>,
    /// Where others begin to draw.
    run: Option<RunEnd>,
    /// The next byte of the file.
    at: u64,
    /// What was compared and goes beyond what is there.
    ahead: Option<Bytes>,
    /// Where the last try to go on began, and how many in a row brought nothing.
    resumed_at: u64,
    barren: u32,
    /// How long its readers wait for the next bytes before they are asked for elsewhere, and there.
    patience: Patience,
    /// When the last bytes were wanted.
    wanted_at: Instant,
    /// Some have come from here.
    has_begun: bool,
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
    /// The body of `arrived`, which `fill` takes.
    pub(crate) fn new(asked: &'a Asked, arrived: Arrived, fill: &Fill) -> Self {
        Self {
            asked,
            origin: arrived.to.label(),
            total: arrived.length(),
            end: None,
            run: fill.run_end(),
            patience: arrived.patience.or_some_more(),
            wanted_at: Instant::now(),
            has_begun: false,
            arrived,
            tail: fill.tail(),
            at: 0,
            ahead: None,
            resumed_at: 0,
            barren: 0,
            since: (Instant::now(), 0),
        }
    }

    /// The bytes of a part from `at` on.
    pub(crate) fn of_part(file: File<'a>, part: Part, at: u64, run: RunEnd) -> Self {
        Self {
            asked: file.asked,
            origin: file.origin.to_owned(),
            total: Some(part.span.length),
            end: Some(part.span.end),
            run: Some(run),
            patience: part.arrived.patience.or_some_more(),
            wanted_at: Instant::now(),
            has_begun: false,
            arrived: part.arrived,
            tail: file.tail.clone(),
            at,
            ahead: part.ahead,
            resumed_at: at,
            barren: 0,
            since: (Instant::now(), at),
        }
    }

    /// The next byte of the file: so far it has come.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next bytes; `None`: the body is whole.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SupplyError> {
        self.wanted_at = Instant::now();
        if self.has_begun {
            self.patience = self.patience.renewed();
        }
        if let Some(data) = self.ahead.take() {
            return Ok(Some(self.hand_out(data)));
        }
        loop {
            let share = self.patience.half();
            match self.piece(share).await {
                Piece::Data(data) => return Ok(Some(self.hand_out(data))),
                Piece::End => return self.ended(),
                Piece::Broken(error) => {
                    self.asked.shared.origins.broke(&self.arrived);
                    if !self.go_on().await {
                        return Err(SupplyError::Broken(error));
                    }
                }
                Piece::Stalled => {
                    let origins = &self.asked.shared.origins;
                    if self.patience.is_enough(share) {
                        origins.broke(&self.arrived);
                    }
                    let limit = origins.stall_timeout();
                    if !self.go_on().await {
                        // Nobody else has it: the origin gets the rest of its time.
                        match self
                            .piece(limit.saturating_sub(self.wanted_at.elapsed()))
                            .await
                        {
                            Piece::Data(data) => return Ok(Some(self.hand_out(data))),
                            Piece::End => return self.ended(),
                            Piece::Broken(error) => return Err(SupplyError::Broken(error)),
                            Piece::Stalled => return Err(SupplyError::Stalled),
                        }
                    }
                }
            }
            if let Some(data) = self.ahead.take() {
                return Ok(Some(self.hand_out(data)));
            }
        }
    }

    /// True if nothing comes after what came.
    pub(crate) async fn is_at_end(&mut self) -> bool {
        let is_due = self.end.or(self.total) == Some(self.at);
        is_due && matches!(self.piece(ATTEMPT).await, Piece::End)
    }

    /// The body was read to its end: the connection may serve again.
    pub(crate) fn finish(self) {
        self.asked.shared.origins.delivered(
            &self.arrived,
            self.at - self.since.1,
            self.since.0.elapsed(),
        );
        self.arrived.finish();
    }

    /// The body's rest, for who goes on with it from here.
    pub(crate) fn into_arrived(self) -> Arrived {
        self.arrived
    }

    fn hand_out(&mut self, data: Bytes) -> Bytes {
        self.at += data.len() as u64;
        self.has_begun = true;
        data
    }

    fn ended(&self) -> Result<Option<Bytes>, SupplyError> {
        match self.end.or(self.total) {
            Some(total) if total != self.at => Err(SupplyError::Short {
                received: self.at,
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

    /// Where the bytes end that nobody else draws, if that is before the end of the file.
    fn end_now(&self) -> Option<u64> {
        let run = self.run.as_ref().map(RunEnd::get);
        let run = run.filter(|end| Some(*end) != self.total);
        self.end.into_iter().chain(run).min()
    }

    /// Finds an origin that has the rest, the same one first.
    async fn go_on(&mut self) -> bool {
        if self.at == self.resumed_at && self.barren > 0 {
            tokio::time::sleep(Duration::from_millis(100) * self.barren).await;
        } else {
            self.barren = 0;
        }
        self.resumed_at = self.at;
        self.barren += 1;
        let end = self.end_now();
        let is_left = end.is_none_or(|end| self.at < end);
        if self.barren > BARREN_MAX || self.patience.is_over() || !is_left {
            return false;
        }
        let file = File {
            asked: self.asked,
            tail: &self.tail,
            length: self.total,
            origin: &self.origin,
        };
        // As if one more were left: the bytes themselves take a share too.
        let Answer::Part(part) = file.ask((self.at, end), self.patience, 1).await else {
            return false;
        };
        let url = self.asked.url.as_str();
        tracing::info!(url, at = self.at, "the transfer goes on");
        self.total = Some(part.span.length);
        self.end = end.map(|_| part.span.end);
        self.since = (Instant::now(), self.at);
        self.ahead = part.ahead;
        self.arrived = part.arrived;
        true
    }
}
