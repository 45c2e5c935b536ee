//! Keeps a socket's task going, and says what it meets without flooding the log.
//!
//! A task that panics is a fault of larder's own. It costs what that task was doing, one log line and a
//! pause that grows while it comes again and again, but neither the other sockets nor this one for good.

use std::any::Any;
use std::io;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::Error;

/// Pause before the first new start, and the longest one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// A task that ran so long has the first pause again.
const CALM_AFTER: Duration = Duration::from_mins(1);

/// The same complaint is written again after this.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Runs what `task` makes, anew whenever it panics, until it ends by itself.
///
/// # Cancel safety
/// Dropping it ends the task.
pub(super) async fn supervised<T>(what: &'static str, mut task: impl FnMut() -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    let mut pause = None;
    loop {
        let begun = Instant::now();
        let mut running = JoinSet::new();
        running.spawn(task());
        let Some(Err(error)) = running.join_next().await else {
            return;
        };
        let Ok(panic) = error.try_into_panic() else {
            return;
        };
        let wait = pause_after(pause, begun.elapsed());
        pause = Some(wait);
        let panic = text(panic.as_ref());
        let milliseconds = wait.as_millis();
        tracing::error!(
            what,
            panic,
            "a task of network boot broke; it starts again in {milliseconds} ms"
        );
        tokio::time::sleep(wait).await;
    }
}

/// How long to wait after a run of this length, given the pause before it.
fn pause_after(before: Option<Duration>, ran: Duration) -> Duration {
    match before {
        Some(before) if ran < CALM_AFTER => (before * 2).min(PAUSE_LAST),
        _ => PAUSE_FIRST,
    }
}

/// What a panic says of itself.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}

/// Tells of errors that may come by the thousand: the first at once, then at most one line in ten seconds.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    told: Option<Instant>,
    withheld: u64,
}

impl Complaint {
    /// Logs that receiving failed, and waits a little: what is wrong may pass.
    pub(crate) async fn cannot_receive(&mut self, what: &'static str, error: &io::Error) {
        if let Some(withheld) = self.due(Instant::now()) {
            tracing::warn!(what, %error, withheld, "cannot receive");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Logs that an answer could not be sent: machines ask as often as they like.
    pub(crate) fn cannot_send(&mut self, interface: &str, error: &io::Error) {
        if let Some(withheld) = self.due(Instant::now()) {
            tracing::warn!(%error, interface, withheld, "cannot send an answer");
        }
    }

    /// Logs that an interface's socket could not be opened; it is tried again.
    pub(crate) fn cannot_open(&mut self, interface: &str, error: &Error) {
        if let Some(withheld) = self.due(Instant::now()) {
            tracing::warn!(%error, interface, withheld, "cannot serve an interface");
        }
    }

    /// Tells whether a line is due, and how many were withheld since the last.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now - told < COMPLAINT_EVERY) {
            self.withheld += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_starts_again_and_one_that_ends_does_not() {
        let started = Arc::new(AtomicU32::new(0));
        supervised("test", || {
            let number = started.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number >= 2, "run {number} breaks") }
        })
        .await;
        assert_eq!(started.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn pauses_grow_to_an_end_and_a_calm_minute_is_forgiven() {
        let mut pause = None;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let wait = pause_after(pause, Duration::ZERO);
            pauses.push(wait.as_millis());
            pause = Some(wait);
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(pause, CALM_AFTER), PAUSE_FIRST);
    }

    #[test]
    fn complaints_are_written_once_in_ten_seconds_with_their_number() {
        let mut complaint = Complaint::default();
        let now = Instant::now();
        assert_eq!(complaint.due(now), Some(0));
        for _ in 0..7 {
            assert_eq!(complaint.due(now), None);
        }
        let later = now + COMPLAINT_EVERY;
        assert_eq!(complaint.due(later), Some(7));
        assert_eq!(complaint.due(later), None);
    }
}
