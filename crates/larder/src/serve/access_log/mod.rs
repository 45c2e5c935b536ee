//! The access log: lines are made where a request ends, gathered in memory, and written by a thread
//! of their own, so that no request waits for a disk.
//!
//! The thread sleeps until there is a line, lets others join it for a moment, and writes them with
//! one call: a line is in the file within 200 ms, and at the end of the program. A log that cannot
//! be written loses lines, never requests; how many is said once it can be written again.

mod line;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use larder_proxy::record::{Record, Recorder};

use crate::config::settings::{AccessLog as Settings, AccessLogPlace};

/// How long a line waits for others.
const GATHER: Duration = Duration::from_millis(50);
/// Lines that wait may take up so many bytes; further ones are lost.
const PENDING_BYTES_MAX: usize = 64 << 20;

/// An access log that is being written.
#[derive(Debug)]
pub struct AccessLog {
    settings: Settings,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the access log {}", path.display())]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    lost: u64,
    reopen: bool,
    closing: bool,
}

/// Where lines end up.
#[derive(Debug)]
enum Sink {
    Nowhere,
    Stdout,
    File(PathBuf, File),
}

impl AccessLog {
    /// Opens the log.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let sink = Sink::open(&settings.place)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = match sink {
            Sink::Nowhere => None,
            sink => {
                let shared = Arc::clone(&shared);
                Some(std::thread::spawn(move || shared.write(sink)))
            }
        };
        Ok(Self {
            settings: settings.clone(),
            shared,
            writer,
        })
    }

    /// What the proxy gives its records to.
    pub fn recorder(&self) -> Arc<dyn Recorder> {
        let shared = self.writer.is_some().then(|| Arc::clone(&self.shared));
        Arc::new(Lines {
            shared,
            settings: self.settings.clone(),
        })
    }

    /// Opens the file again under its name (after a rotation).
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for AccessLog {
    /// Writes what is left.
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // It panicked: it has said so itself.
            let _panicked = writer.join();
        }
    }
}

/// The proxy's end of the log.
#[derive(Debug)]
struct Lines {
    shared: Option<Arc<Shared>>,
    settings: Settings,
}

impl Recorder for Lines {
    fn record(&self, record: &Record) {
        let Some(shared) = &self.shared else { return };
        let line = line::line(&self.settings, record);
        let mut state = shared.lock();
        if state.pending.len() + line.len() > PENDING_BYTES_MAX {
            state.lost += 1;
            return;
        }
        let first = state.pending.is_empty();
        state.pending.extend_from_slice(&line);
        drop(state);
        if first {
            shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer's life: wait, gather, write.
    fn write(&self, mut sink: Sink) {
        loop {
            let idle =
                |state: &mut State| state.pending.is_empty() && !state.reopen && !state.closing;
            let state = self.changed.wait_while(self.lock(), idle);
            let closing = state.unwrap_or_else(PoisonError::into_inner).closing;
            if !closing {
                std::thread::sleep(GATHER);
            }
            let mut state = self.lock();
            let lines = std::mem::take(&mut state.pending);
            let reopen = std::mem::take(&mut state.reopen);
            let lost = std::mem::take(&mut state.lost);
            let closing = state.closing;
            drop(state);
            let written = sink.take_in(&lines, reopen);
            account(lost, written);
            if closing {
                return;
            }
        }
    }
}

fn account(lost: u64, written: io::Result<()>) {
    match written {
        Err(error) => tracing::warn!(%error, "the access log cannot be written"),
        Ok(()) if lost > 0 => {
            tracing::warn!(
                lines = lost,
                "access-log lines were lost: the disk was too slow"
            );
        }
        Ok(()) => {}
    }
}

impl Sink {
    fn open(place: &AccessLogPlace) -> Result<Self, OpenError> {
        match place {
            AccessLogPlace::Off => Ok(Self::Nowhere),
            AccessLogPlace::Stdout => Ok(Self::Stdout),
            AccessLogPlace::File(path) => match append(path) {
                Ok(file) => Ok(Self::File(path.clone(), file)),
                Err(source) => Err(OpenError {
                    path: path.clone(),
                    source,
                }),
            },
            AccessLogPlace::FirstWritable(paths) => Ok(Self::first_writable(paths)),
        }
    }

    fn first_writable(paths: &[PathBuf]) -> Self {
        let opened = paths
            .iter()
            .find_map(|path| Some((path, append(path).ok()?)));
        if let Some((path, file)) = opened {
            tracing::info!(path = %path.display(), "access log");
            return Self::File(path.clone(), file);
        }
        tracing::warn!(?paths, "no access log: none of these can be written");
        Self::Nowhere
    }

    /// Writes lines; those of before a rotation go to the file of before it.
    fn take_in(&mut self, lines: &[u8], reopen: bool) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => io::stdout().lock().write_all(lines),
            Self::File(path, file) => {
                let written = file.write_all(lines);
                if reopen {
                    *file = append(path)?;
                }
                written
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::line::tests::record;
    use super::*;

    fn log_to(path: &Path) -> AccessLog {
        let settings = Settings {
            place: AccessLogPlace::File(path.to_owned()),
            ..Settings::default()
        };
        AccessLog::open(&settings).unwrap()
    }

    #[test]
    fn every_line_is_in_the_file_once_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = log_to(&path);
        let recorder = log.recorder();
        for _ in 0..1000 {
            recorder.record(&record());
        }
        drop(log);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap().lines().count(),
            1000
        );
    }

    #[test]
    fn after_a_rotation_lines_go_to_a_new_file_of_the_old_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, rotated) = (
            folder.path().join("access.log"),
            folder.path().join("access.log.1"),
        );
        let log = log_to(&path);
        let recorder = log.recorder();
        recorder.record(&record());
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        recorder.record(&record());
        drop(log);
        let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&rotated), lines(&path)), (1, 1));
    }

    #[test]
    fn a_log_that_cannot_be_opened_names_its_path() {
        let place = AccessLogPlace::File("/proc/nowhere/access.log".into());
        let settings = Settings {
            place,
            ..Settings::default()
        };
        let error = AccessLog::open(&settings).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere/access.log"));
    }
}
