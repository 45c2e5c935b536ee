//! The program's own messages, on standard error: for people or for programs, without escape codes
//! off a terminal.

use std::sync::{Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::settings::{Log, LogFormat};
use crate::output;

/// What can be changed while messages are written.
#[derive(Debug)]
pub struct Telemetry {
    level: Mutex<Option<reload::Handle<LevelFilter, Registry>>>,
}

impl Telemetry {
    /// Begins to write messages. Where something else writes them already (a test), that stays.
    pub fn start(log: &Log) -> Self {
        let (level, handle) = reload::Layer::new(LevelFilter::from_level(log.level));
        let colours = output::stderr_is_terminal();
        let layers = tracing_subscriber::registry().with(level);
        let begun = match log.format {
            LogFormat::Text => layers
                .with(
                    fmt::layer()
                        .with_writer(std::io::stderr)
                        .with_ansi(colours)
                        .with_target(false),
                )
                .try_init(),
            LogFormat::Json => layers
                .with(fmt::layer().json().with_writer(std::io::stderr))
                .try_init(),
        };
        Self {
            level: Mutex::new(begun.is_ok().then_some(handle)),
        }
    }

    /// Changes the least grave message that is written.
    pub fn set_level(&self, log: &Log) {
        let handle = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = handle.as_ref() {
            // Fails only once the subscriber is gone, and messages with it.
            let _gone = handle.reload(LevelFilter::from_level(log.level));
        }
    }
}
