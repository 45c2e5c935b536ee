//! Work that may wait for a disk, away from the threads that answer.
//!
//! A disk that fails, or a server of NFS that is gone, keeps whoever asks it waiting without end. What asks it
//! here does so on threads of its own, and only so many at a time: DHCP, scripts and status pages go on. A root
//! may hold more than one disk, so that each entry of it has its share of the threads, and of that share each
//! client its own: files of another entry are served, whoever asks for those that hang.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Files that are looked up or read at a time. More wait for these: where disks hang they may not take every
/// thread that there is for such work, as others who share those have other disks.
const AT_ONCE_MAX: usize = 128;

/// Of these, what one root has: each interface may have a root of its own.
const OF_ROOT_MAX: usize = 64;

/// Of these, what is below one entry of the root.
const OF_ENTRY_MAX: usize = 16;

/// Of these, what one client asks for.
const OF_CLIENT_MAX: usize = 8;

/// How long one piece of work is waited for: by then firmware has given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The way to the disks.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    all: Arc<Semaphore>,
    /// The places of those who have any, or wait for one.
    shares: Arc<Mutex<HashMap<Share, Weak<Semaphore>>>>,
    patience: Duration,
}

/// Who has only so many places.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Share {
    Client(PathBuf, IpAddr),
    Entry(PathBuf),
    Root(PathBuf),
}

impl Share {
    fn places(&self) -> usize {
        match self {
            Self::Client(..) => OF_CLIENT_MAX,
            Self::Entry(_) => OF_ENTRY_MAX,
            Self::Root(_) => OF_ROOT_MAX,
        }
    }
}

/// The way of one client to what is below one entry of a root.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    disk: Disk,
    /// From the narrowest on: who waits for a wider one has its narrower ones, and keeps those of others free.
    shares: Arc<[Share; 3]>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(AT_ONCE_MAX)),
            shares: Arc::default(),
            patience: PATIENCE,
        }
    }
}

impl Disk {
    /// The way of a client to what is below an entry of a root.
    pub(crate) fn lane(&self, client: IpAddr, root: &Path, entry: &str) -> Lane {
        let entry = root.join(entry);
        let shares = [
            Share::Client(entry.clone(), client.to_canonical()),
            Share::Entry(entry),
            Share::Root(root.to_owned()),
        ];
        Lane {
            disk: self.clone(),
            shares: Arc::new(shares),
        }
    }

    fn places(&self, share: &Share) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = shares.get(share).and_then(Weak::upgrade) {
            return places;
        }
        // Names and addresses are made up by anybody: who has no place is forgotten.
        shares.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(share.places()));
        shares.insert(share.clone(), Arc::downgrade(&places));
        places
    }

    /// Takes all places, as work that hangs would.
    #[cfg(test)]
    pub(crate) async fn hanging(&self) -> OwnedSemaphorePermit {
        let all = u32::try_from(AT_ONCE_MAX).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.all).acquire_many_owned(all).await;
        places.expect("never closed")
    }
}

impl Lane {
    /// Runs what may wait for the disk.
    ///
    /// # Cancel safety
    /// What has begun goes on, and keeps its places until the disk has answered.
    ///
    /// # Errors
    /// `TimedOut` where the disk did not answer in a minute.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let done = async {
            let places = self.take().await;
            let done = tokio::task::spawn_blocking(move || {
                let done = work();
                drop(places);
                done
            });
            done.await.map_err(io::Error::other)
        };
        let silence = |_elapsed| Err(io::ErrorKind::TimedOut.into());
        timeout(self.disk.patience, done)
            .await
            .unwrap_or_else(silence)
    }

    async fn take(&self) -> Vec<Option<OwnedSemaphorePermit>> {
        let mut taken = Vec::with_capacity(self.shares.len() + 1);
        for share in self.shares.iter() {
            taken.push(self.disk.places(share).acquire_owned().await.ok());
        }
        let all = Arc::clone(&self.disk.all);
        taken.push(all.acquire_owned().await.ok());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// The way to a disk that is given up at once, unless it answers.
    fn lane(disk: &Disk, last: u8, entry: &str) -> Lane {
        let hasty = Disk {
            patience: Duration::from_millis(20),
            ..disk.clone()
        };
        hasty.lane(client(last), Path::new("/root"), entry)
    }

    /// Work that hangs until what is given back is dropped; nobody waits for it any longer.
    async fn hung(lane: &Lane) -> mpsc::Sender<()> {
        let (answer, asked) = mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let work = move || {
            let _waits = begin.send(());
            asked.recv()
        };
        let patient = Lane {
            disk: Disk {
                patience: PATIENCE,
                ..lane.disk.clone()
            },
            ..lane.clone()
        };
        let mut left = Box::pin(async move { patient.work(work).await });
        tokio::select! {
            _answered = &mut left => panic!("it answers"),
            begun = begun => begun.expect("it has begun"),
        }
        answer
    }

    async fn is_served(lane: Lane) -> bool {
        match lane.work(|| 7).await {
            Ok(seven) => seven == 7,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                false
            }
        }
    }

    /// What is served sooner or later: on a busy machine the threads get no turn for a while.
    async fn becomes_served(lane: impl Fn() -> Lane) -> bool {
        for _ in 0..3000 {
            if is_served(lane()).await {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_given_up() {
        let disk = Disk::default();
        let patient = disk.lane(client(1), Path::new("/root"), "x");
        assert_eq!(patient.work(|| 7).await.unwrap(), 7);
        let hanging = disk.hanging().await;
        assert!(!is_served(lane(&disk, 1, "x")).await);
        drop(hanging);
        assert_eq!(patient.work(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_longer_keeps_its_place_until_the_disk_answers() {
        let disk = Disk::default();
        let mut hanging = Vec::new();
        for _ in 0..OF_CLIENT_MAX {
            hanging.push(hung(&lane(&disk, 1, "hung")).await);
        }
        assert!(!is_served(lane(&disk, 1, "hung")).await);
        hanging.pop();
        assert!(becomes_served(|| lane(&disk, 1, "hung")).await);
    }

    #[tokio::test]
    async fn one_client_and_one_entry_take_no_more_than_their_shares() {
        let disk = Disk::default();
        let mut hanging = Vec::new();
        for _ in 0..OF_CLIENT_MAX {
            hanging.push(hung(&lane(&disk, 1, "hung")).await);
        }
        assert!(becomes_served(|| lane(&disk, 2, "hung")).await);
        assert!(becomes_served(|| lane(&disk, 1, "good")).await);
        for number in OF_CLIENT_MAX..OF_ENTRY_MAX {
            let other = 2 + u8::try_from(number / OF_CLIENT_MAX).unwrap();
            hanging.push(hung(&lane(&disk, other, "hung")).await);
        }
        assert!(!is_served(lane(&disk, 9, "hung")).await);
        assert!(becomes_served(|| lane(&disk, 9, "good")).await);
        drop(hanging);
        assert!(becomes_served(|| lane(&disk, 9, "hung")).await);
    }

    #[tokio::test]
    async fn one_root_leaves_places_to_the_others_and_nobody_without_a_place_is_remembered() {
        let disk = Disk::default();
        let mut hanging = Vec::new();
        for number in 0..OF_ROOT_MAX {
            hanging.push(hung(&lane(&disk, 1, &format!("made-up-{number}"))).await);
        }
        assert!(!is_served(lane(&disk, 1, "x")).await);
        let other = || Lane {
            disk: lane(&disk, 1, "").disk,
            ..disk.lane(client(1), Path::new("/other"), "x")
        };
        assert!(becomes_served(other).await);
        drop(hanging);
        assert!(becomes_served(|| lane(&disk, 1, "y")).await);
        let few = || {
            drop(disk.places(&Share::Entry("new".into())));
            disk.shares.lock().unwrap().len() < OF_ROOT_MAX
        };
        while !few() {
            tokio::task::yield_now().await;
        }
    }
}
