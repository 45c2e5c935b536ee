//! The handle that the proxy holds.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError};

use larder_policy::key::CacheKey;

use crate::collapse::{Join, Seen};
use crate::config::Config;
use crate::core::{Core, now_u32};
use crate::counters::Fault;
use crate::digest::KeyHash;
use crate::disk::Disk;
use crate::entry::Entry;
use crate::error::OpenError;
use crate::keeper::Keeper;
use crate::layout::Layout;
use crate::lock;
use crate::look;
use crate::partial::Partial;
use crate::recover;
use crate::running::Tail;
use crate::snapshot::Snapshot;

/// A cache directory, opened. Clones are cheap and mean the same store; when the last is dropped
/// (or at [`Store::close`]) everything is written down.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) core: Arc<Core>,
    keeper: Arc<Keeper>,
}

impl Store {
    /// Opens a cache directory, making it if it is not there. Blocking: a start reads the index
    /// file's compact table (half a second at a million objects).
    ///
    /// # Errors
    /// [`OpenError::NotWritable`] and [`OpenError::Held`] are the operator's to mend. A damaged
    /// index is no error: it is said, and the store serves with what can be had.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_on(config, Disk::default())
    }

    /// As [`Store::open`], of a directory that is a cache already.
    ///
    /// # Errors
    /// As [`Store::open`]; [`OpenError::Foreign`] for one that is no cache yet.
    pub fn open_existing(config: Config) -> Result<Self, OpenError> {
        Layout::expect(&config.directory)?;
        Self::open(config)
    }

    /// As [`Store::open`], on a disk that fails as planned: for tests.
    #[doc(hidden)]
    pub fn open_on(config: Config, disk: Disk) -> Result<Self, OpenError> {
        Self::of(recover::open(config, disk)?)
    }

    /// Looks at what a directory holds and changes nothing there, nor makes anything: neither on
    /// disk, nor by storing, evicting or mending. Blocking.
    ///
    /// # Errors
    /// As [`Store::open`]; and a damaged index, which is not mended here.
    pub fn look(config: Config) -> Result<Self, OpenError> {
        Self::of(look::look(config, "it is only looked at")?)
    }

    /// As [`Store::open`], for a server that goes on with what can be had: where the file system is
    /// read-only or fails, what is held is served and nothing is stored; where not even that can
    /// be read, or a later version has laid the directory out, there is no cache.
    /// [`Snapshot::read_only`] says why. Blocking.
    ///
    /// # Errors
    /// What the operator has to mend: another process has it, or rights are missing.
    pub fn open_or_less(config: Config) -> Result<Self, OpenError> {
        let error = match Self::open(config.clone()) {
            Err(error) if !error.is_the_operators() => error,
            opened => return opened,
        };
        let why = error.chain();
        match look::look(config.clone(), &why) {
            Ok(core) => Self::of(core),
            // What was wrong at first is what the operator has to know.
            Err(_worse) => Self::of(look::nowhere(config, &why)?),
        }
    }

    fn of(core: Core) -> Result<Self, OpenError> {
        let core = Arc::new(core);
        if !core.disk.is_frozen() {
            core.load_partials();
        }
        let keeper = Keeper::start(&core).map_err(|source| OpenError::File {
            step: "start the keeper of",
            path: core.root().to_owned(),
            source,
        })?;
        Ok(Self {
            core,
            keeper: Arc::new(keeper),
        })
    }

    /// Finds the entry of a key. A hot one costs no disk access and no thread hop; a fault of any
    /// kind is `None`.
    pub async fn lookup(&self, key: &CacheKey) -> Option<Entry> {
        Core::lookup(&self.core, key).await
    }

    /// The field names that a base key's responses vary by, if they do.
    #[expect(
        clippy::unused_async,
        reason = "callers need not know that all names are in memory"
    )]
    pub async fn vary(&self, key: &CacheKey) -> Option<Vec<String>> {
        self.vary_names(&KeyHash::of(key))
    }

    fn vary_names(&self, hash: &KeyHash) -> Option<Vec<String>> {
        let vary = self.core.vary.read();
        let vary = vary.unwrap_or_else(PoisonError::into_inner);
        vary.names(hash).map(<[String]>::to_vec)
    }

    /// Closes the files that are held open only to be found open again: a process that may open no
    /// more has better use for them.
    pub fn close_idle_files(&self) {
        self.core.hot.close_files();
    }

    /// True if a base key's responses are known to vary.
    pub fn varies(&self, key: &CacheKey) -> bool {
        self.vary_names(&KeyHash::of(key)).is_some()
    }

    /// Remembers that a base key's responses vary by these fields; none: that they do not.
    pub async fn remember_vary(&self, key: &CacheKey, names: Vec<String>) {
        let hash = KeyHash::of(key);
        if self.vary_names(&hash).unwrap_or_default() == names {
            return;
        }
        self.aside(move |store| {
            store
                .core
                .change_vary(hash, |vary| vary.remember(hash, names));
        })
        .await;
    }

    /// Forgets a base key with all its variants, and keeps nothing of what is being fetched under
    /// them: something has changed what they would be (RFC 9111 §4.4).
    pub async fn invalidate(&self, key: &CacheKey) {
        let key = key.clone();
        self.aside(move |store| {
            store.purge_fills(|filled, _url| filled.base() == key);
            store.purge(&key);
            let hash = KeyHash::of(&key);
            let now = now_u32().into();
            if lock(&store.core.forgotten).is_some() {
                store
                    .core
                    .change_vary(hash, |vary| vary.invalidate_unknown(hash, now));
            } else if store.varies(&key) {
                store.core.change_vary(hash, |vary| {
                    vary.invalidate(&hash, now);
                    None
                });
            }
        })
        .await;
    }

    /// Does what waits for the disk where no other request waits with it. `None`: it has failed in
    /// a way that was said.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.ok()
    }

    /// Counts one delivery of the entry: queued, and applied with others within 100 ms.
    pub fn touch(&self, entry: &Entry) {
        self.core.counters.hit_bytes.add(entry.len);
        if !self.core.touches.push(entry.hot.slot, entry.hot.id) {
            self.core.counters.touches_dropped.add(1);
        }
    }

    /// Counts a delivery of a part: slices that one client takes one after the other count once.
    pub fn touch_slice(&self, entry: &Entry, client: IpAddr) {
        if self.core.slices.begin(entry.hot.id, client, now_u32()) {
            self.touch(entry);
        }
    }

    /// Forgets a key; its body leaves too if no other key names it. False: it was not there.
    pub async fn remove(&self, key: &CacheKey) -> bool {
        let key = key.clone();
        let removed = self.aside(move |store| store.purge(&key).is_some());
        removed.await.unwrap_or(false)
    }

    /// As [`Store::remove`], for an administrator: returns the bytes of the body if it leaves with
    /// the key, 0 if another key names it. `None`: it was not there. Blocking.
    pub fn purge(&self, key: &CacheKey) -> Option<u64> {
        let partial = self.partial(key);
        if let Some(partial) = &partial {
            partial.discard();
        }
        let forgotten = self.core.forget(KeyHash::of(key));
        forgotten.or(partial.map(|_parts| 0))
    }

    /// The object of which parts are held under a key, if there is one.
    pub fn partial(&self, key: &CacheKey) -> Option<Partial> {
        self.core.shelf.get(key)
    }

    /// Sees to it that nothing is kept of the fetches under way whose key, or whose URL once it is
    /// known, is `meant`, nor of objects of which only parts are held; clients get the bytes all the
    /// same. Returns how many. Blocking.
    pub fn purge_fills(&self, meant: impl Fn(&CacheKey, Option<&str>) -> bool) -> u64 {
        let fetched = self.core.purge_fills(&meant);
        let mut purged = fetched.len() as u64;
        for partial in self.core.shelf.all() {
            if meant(partial.key(), Some(partial.meta().url())) {
                partial.discard();
                // What is being fetched into it is counted already.
                purged += u64::from(!fetched.contains(&partial.key().base()));
            }
        }
        purged
    }

    /// Joins the fetch of a key: one caller leads, all others follow.
    pub fn join(&self, key: &CacheKey) -> Join {
        Core::join(&self.core, key, Seen::Unknown)
    }

    /// As [`Store::join`], for a caller whose look-up has found `seen`: if something else was
    /// stored under the key since then, the caller follows that instead of fetching it again.
    pub fn join_since(&self, key: &CacheKey, seen: Option<&Entry>) -> Join {
        let seen = seen.map_or(Seen::Nothing, |entry| Seen::Version(entry.hot.version));
        Core::join(&self.core, key, seen)
    }

    /// The fill that is under way for a key, if one is; nobody becomes a lead by asking.
    pub fn filling(&self, key: &CacheKey) -> Option<Tail> {
        self.core.filling(key)
    }

    /// Waits for the entry of a fill whose bytes have all come but which is not in place yet, so
    /// that a request which follows the last byte finds what was stored. False: there is none.
    pub async fn settled(&self, key: &CacheKey) -> bool {
        self.core.settled(key).await
    }

    /// The folder that is the store's own: the cache directory, or `larder` in it.
    pub fn root(&self) -> &std::path::Path {
        self.core.root()
    }

    /// The store in numbers.
    pub fn snapshot(&self) -> Snapshot {
        self.core.snapshot()
    }

    /// What all of it may occupy by now, bytes: others may have taken a part of the disk.
    pub fn bytes_max(&self) -> u64 {
        lock(&self.core.state).limits.bytes_max
    }

    /// Faults of a kind since the start.
    pub fn faults(&self, fault: Fault) -> u64 {
        self.snapshot().faults_of(fault)
    }

    /// Makes everything that is stored now survive a power loss, whatever the durability.
    pub async fn sync(&self) {
        let core = Arc::clone(&self.core);
        let synced = tokio::task::spawn_blocking(move || {
            core.checkpoint();
            core.commit(false);
        });
        // The only failure is a panic in it, which has been said.
        let _ = synced.await;
    }

    /// Writes everything down and ends the keeper; what comes after is only in the journal.
    pub async fn close(&self) {
        let core = Arc::clone(&self.core);
        let keeper = Arc::clone(&self.keeper);
        // The only failure is a panic in the keeper, which it has said itself.
        let _ = tokio::task::spawn_blocking(move || {
            if !core.disk.is_frozen() {
                core.note_partials();
            }
            keeper.stop();
        })
        .await;
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
