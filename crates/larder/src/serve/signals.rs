//! Signals, as events.
//!
//! SIGHUP: read the configuration again. SIGUSR1: open the logs again. SIGTERM: take no more work
//! and let what is under way end; a second one, or SIGINT at any time: end now.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGHUP.
    Reload,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGTERM.
    Drain,
    /// SIGINT.
    End,
}

/// The signals that larder listens to.
#[derive(Debug)]
pub struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Starts to listen.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one. Cancel safe: a signal that was not returned is kept.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.hup.recv() => Event::Reload,
            _ = self.usr1.recv() => Event::ReopenLogs,
            _ = self.term.recv() => Event::Drain,
            _ = self.int.recv() => Event::End,
        }
    }

    /// Waits for a signal that ends a drain: SIGTERM again, or SIGINT.
    pub async fn impatience(&mut self) {
        while !matches!(self.next().await, Event::Drain | Event::End) {}
    }
}
