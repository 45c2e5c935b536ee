//! Looks at folders before anything is served, without waiting for a disk that hangs.
//!
//! Where a disk or a server of NFS does not answer, whoever looks stays in the kernel. So each look has a thread
//! of its own, which is left behind when it says nothing, and what says nothing is taken for not there.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long looks wait in all: a disk that sleeps wakes up in less.
const PATIENCE: Duration = Duration::from_secs(10);

/// What each look has at least, when others have used that up.
const BRIEF: Duration = Duration::from_secs(1);

/// After so many looks that got no answer, nothing is looked at: each has left a thread behind.
const SILENT_MAX: usize = 16;

/// Looks of one start, or of one check.
#[derive(Debug)]
pub struct Looks {
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    patience: Duration,
    brief: Duration,
    silent: Vec<PathBuf>,
}

impl Default for Looks {
    fn default() -> Self {
        Self::of(PATIENCE, BRIEF)
    }
}

impl Looks {
    fn of(patience: Duration, brief: Duration) -> Self {
        let state = State {
            patience,
            brief,
            silent: Vec::new(),
        };
        Self {
            state: RefCell::new(state),
        }
    }

    /// What a look at a path finds; none if it gets no answer, or if the path is below one that gave none.
    pub fn at<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Option<T> {
        let mut state = self.state.borrow_mut();
        let is_silent = state.silent.iter().any(|silent| path.starts_with(silent));
        if is_silent || state.silent.len() >= SILENT_MAX {
            return None;
        }
        let (tell, answer) = mpsc::sync_channel(1);
        let place = path.to_owned();
        let begun = Instant::now();
        let looking = thread::Builder::new().spawn(move || {
            let _nobody_waits = tell.send(look(&place));
        });
        looking.ok()?;
        let wait = state.patience.max(state.brief);
        let answered = answer.recv_timeout(wait).ok();
        if answered.is_none() {
            state.patience = state.patience.saturating_sub(begun.elapsed());
            state.silent.push(path.to_owned());
        }
        answered
    }

    /// What gave no answer.
    pub fn silent(&self) -> Vec<PathBuf> {
        self.state.borrow().silent.clone()
    }
}

/// What hangs whoever opens it, until it is dropped: a pipe that nobody writes to.
#[cfg(test)]
pub(crate) mod hung {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

    pub(crate) struct Pipe(PathBuf);

    impl Pipe {
        pub(crate) fn at(path: PathBuf) -> Self {
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            Self(path)
        }
    }

    impl Drop for Pipe {
        fn drop(&mut self) {
            // Who reads ends with the last writer; none is there yet if nobody reads.
            drop(open(
                &self.0,
                OFlags::WRONLY | OFlags::NONBLOCK,
                Mode::empty(),
            ));
        }
    }

    /// Looks that have got no answer at this path.
    pub(crate) fn silent_at(path: &Path) -> Looks {
        let looks = Looks::default();
        looks.state.borrow_mut().silent.push(path.to_owned());
        looks
    }

    pub(crate) fn hasty() -> Looks {
        Looks::of(Duration::from_millis(10), Duration::from_millis(10))
    }
}

#[cfg(test)]
mod tests {
    use super::hung::{Pipe, hasty};
    use super::*;
    use std::fs;

    #[test]
    fn what_does_not_answer_is_not_there_and_nothing_below_it_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("hung");
        let _pipe = Pipe::at(pipe.clone());
        let looks = hasty();
        assert!(looks.at(&pipe, |path| fs::read(path)).is_none());
        assert!(looks.at(&pipe.join("below"), |_| ()).is_none());
        assert_eq!(looks.silent(), [pipe]);
        let patient = Looks::default();
        assert!(patient.at(root.path(), Path::is_dir).unwrap());
        assert!(patient.silent().is_empty());
    }

    #[test]
    fn after_many_silences_nothing_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let looks = hasty();
        let pipes: Vec<Pipe> = (0..SILENT_MAX)
            .map(|number| {
                let path = root.path().join(number.to_string());
                let pipe = Pipe::at(path.clone());
                assert!(looks.at(&path, |path| fs::read(path)).is_none());
                pipe
            })
            .collect();
        assert!(looks.at(root.path(), |_| ()).is_none());
        assert_eq!(looks.silent().len(), pipes.len());
    }
}
