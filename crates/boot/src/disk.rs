//! Work that may wait for a disk, away from the threads that answer.
//!
//! A disk that fails, or a server of NFS that is gone, keeps whoever asks it waiting without end. What asks it
//! here does so on threads of its own, and only so many at a time: DHCP, scripts and status pages go on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Files that are looked up or read at a time. More wait for these: where the disk hangs they may not take every
/// thread that there is for such work, as others who share those have other disks.
const AT_ONCE_MAX: usize = 64;

/// How long one piece of work is waited for: by then firmware has given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The way to the disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            patience: PATIENCE,
        }
    }
}

impl Disk {
    /// Runs what may wait for the disk.
    ///
    /// # Cancel safety
    /// What has begun goes on, and keeps its place until the disk has answered.
    ///
    /// # Errors
    /// `TimedOut` where the disk did not answer in a minute.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let places = Arc::clone(&self.places);
        let done = async {
            let place = places.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(place);
                done
            });
            done.await.map_err(io::Error::other)
        };
        let silence = |_elapsed| Err(io::ErrorKind::TimedOut.into());
        timeout(self.patience, done).await.unwrap_or_else(silence)
    }

    /// Takes all places, as work that hangs would.
    #[cfg(test)]
    pub(crate) async fn hanging(&self) -> tokio::sync::OwnedSemaphorePermit {
        let all = u32::try_from(AT_ONCE_MAX).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).acquire_many_owned(all).await;
        places.expect("never closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_given_up() {
        let disk = Disk::default();
        assert_eq!(disk.work(|| 7).await.unwrap(), 7);
        let hanging = disk.hanging().await;
        let hasty = Disk {
            patience: Duration::from_millis(10),
            ..disk.clone()
        };
        let given_up = hasty.work(|| 7).await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        drop(hanging);
        assert_eq!(disk.work(|| 7).await.unwrap(), 7);
    }
}
