//! Fills that are dropped and clients that cannot be accepted, as the log has them: a disk, an origin or
//! a machine that fails does so each time, and a line for each would say nothing more. A line a minute of each kind, with how many like it
//! were left out since the last.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use larder_store::FillError;

/// Between two lines of a kind.
const BETWEEN: Duration = Duration::from_mins(1);

/// When each kind was last said, and how many were left out since.
#[derive(Debug, Default)]
struct Said(HashMap<&'static str, (Instant, u64)>);

impl Said {
    /// `Some`: it is worth a line, and so many were left out before it.
    fn again(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        match self.0.get_mut(kind) {
            Some((last, left_out)) if now.saturating_duration_since(*last) < BETWEEN => {
                *left_out += 1;
                None
            }
            before => {
                let left_out = before.map_or(0, |(_, left_out)| *left_out);
                self.0.insert(kind, (now, 0));
                Some(left_out)
            }
        }
    }
}

/// Takes note of a kind; `Some`: it is worth a line, and so many were left out before it.
fn again(kind: &'static str) -> Option<u64> {
    static SAID: OnceLock<Mutex<Said>> = OnceLock::new();
    let said = SAID.get_or_init(Mutex::default);
    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.again(kind, Instant::now())
}

/// Says that no client can be accepted: it is tried again ten times a second.
pub(crate) fn cannot_accept(error: &dyn Display) {
    if let Some(left_out) = again("accept") {
        tracing::warn!(%error, left_out, "cannot accept a client; trying on");
    }
}

/// Says that a fill is dropped after so many bytes.
pub(crate) fn say(url: &str, received: u64, kind: &'static str, error: &dyn Display) {
    if let Some(left_out) = again(kind) {
        tracing::warn!(url, received, %error, left_out, "the fill is dropped");
    } else {
        tracing::debug!(url, received, %error, "the fill is dropped");
    }
}

/// As [`say`], where it is the store that does not take it.
pub(crate) fn of_store(url: &str, received: u64, error: &FillError) {
    if error.is_in_order() {
        tracing::debug!(url, received, %error, "the fill is dropped");
    } else {
        say(url, received, error.as_str(), error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_a_minute_with_what_was_left_out() {
        let (mut said, now) = (Said::default(), Instant::now());
        assert_eq!(said.again("disk-fault", now), Some(0));
        for second in 0..59 {
            let later = now + Duration::from_secs(second);
            assert_eq!(said.again("disk-fault", later), None);
        }
        assert_eq!(said.again("origin", now), Some(0), "another kind");
        assert_eq!(said.again("disk-fault", now + BETWEEN), Some(59));
        assert_eq!(said.again("disk-fault", now + BETWEEN * 2), Some(0));
    }

    #[test]
    fn what_is_in_order_is_no_warning() {
        assert!(FillError::Purged.is_in_order() && FillError::NoRoom.is_in_order());
        let full = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
        assert!(!FillError::Write(full).is_in_order());
    }
}
