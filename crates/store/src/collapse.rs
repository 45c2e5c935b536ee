//! One fetch for any number of equal misses (RFC 9111 §4, "collapsed").
//!
//! Whoever joins a key first leads: it alone talks to the origin. Everybody else follows and is
//! told what came of it. A lead that is dropped unfinished has failed: its key is free again, and
//! its followers join anew, of whom exactly one becomes the next lead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use tokio::sync::watch;

use crate::core::Core;
use crate::entry::Entry;
use crate::error::BeginError;
use crate::fill::Fill;
use crate::lock;
use crate::partial::{Draw, Opening, Partial};
use crate::running::{Running, Tail};

/// Putting a body in place takes no time unless the disk is stuck: who comes then is not kept waiting,
/// since what has come can be read all the same.
const SETTLE_TIME: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 3_000 });

/// The fetches that are under way, by key.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    table: Mutex<HashMap<CacheKey, Flight>>,
}

/// One of them, as those who join it and those who purge it see it.
#[derive(Clone, Debug)]
struct Flight {
    told: watch::Receiver<Option<Outcome>>,
    /// What it brings is not wanted any more.
    purged: Arc<AtomicBool>,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        lock(&self.table).len()
    }
}

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The answer is being stored: read what is there and what comes.
    Filling(Tail),
    /// The answer is stored.
    Ready(Entry),
    /// The answer is not to be stored, for this reason: everybody on their own.
    Released(&'static str),
    /// The lead has vanished: join again, one of the followers becomes the next lead.
    Failed,
}

/// What the look-up of somebody who joins has found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    /// Not said.
    Unknown,
    /// No entry.
    Nothing,
    /// An entry of this version.
    Version(u32),
}

/// The part that falls to whoever joins a key.
#[derive(Debug)]
pub enum Join {
    /// The caller alone fetches.
    Lead(Slot),
    /// Somebody else does.
    Follow(Follower),
}

/// Waits for what becomes of somebody else's fetch.
#[derive(Debug)]
pub struct Follower {
    wait: Wait,
}

#[derive(Debug)]
enum Wait {
    Flight(watch::Receiver<Option<Outcome>>),
    /// It was stored between the caller's look-up and its joining.
    Stored(Arc<Core>, CacheKey),
}

impl Follower {
    /// Waits until the lead knows what it has, or is gone.
    ///
    /// # Cancel safety
    /// Dropping the future only stops the waiting.
    pub async fn outcome(self) -> Outcome {
        match self.wait {
            Wait::Flight(mut flight) => match flight.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or(Outcome::Failed),
                Err(_) => Outcome::Failed,
            },
            Wait::Stored(core, key) => match Core::lookup(&core, &key).await {
                Some(entry) => Outcome::Ready(entry),
                None => Outcome::Failed,
            },
        }
    }
}

/// The exclusive right to fetch a key; dropped, it counts as failed.
#[derive(Debug)]
pub(crate) struct Lead {
    core: Arc<Core>,
    key: CacheKey,
    /// The key under which the answer will be stored, where that is another one that nobody fetches.
    stored_as: Option<CacheKey>,
    tell: watch::Sender<Option<Outcome>>,
    pub(crate) purged: Arc<AtomicBool>,
}

impl Lead {
    /// Lets those who ask for the key that the answer will be stored under find this fetch too:
    /// between its last byte and its being in place they would fetch it again.
    fn will_store_as(&mut self, key: &CacheKey) {
        if *key == self.key {
            return;
        }
        let mut table = lock(&self.core.flights.table);
        let is_wanted = !self.purged.load(Ordering::Acquire);
        if is_wanted && !table.contains_key(key) {
            table.insert(key.clone(), self.flight());
            self.stored_as = Some(key.clone());
        }
    }

    /// True if this is what those who join `key` find: after a purge another may be.
    fn is_found(&self, table: &HashMap<CacheKey, Flight>, key: &CacheKey) -> bool {
        let found = table.get(key);
        found.is_some_and(|flight| Arc::ptr_eq(&flight.purged, &self.purged))
    }

    fn flight(&self) -> Flight {
        Flight {
            told: self.tell.subscribe(),
            purged: Arc::clone(&self.purged),
        }
    }

    pub(crate) fn tell(&self, outcome: Outcome) {
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // First out of the table, then (with the sender) heard by those who follow: who joins
        // anew finds the key free, or a new lead.
        {
            let mut table = lock(&self.core.flights.table);
            for key in [Some(&self.key), self.stored_as.as_ref()]
                .into_iter()
                .flatten()
            {
                if self.is_found(&table, key) {
                    table.remove(key);
                }
            }
        }
        self.tell.send_if_modified(|outcome| {
            let unfinished = matches!(outcome, None | Some(Outcome::Filling(_)));
            if unfinished {
                *outcome = Some(Outcome::Failed);
            }
            unfinished
        });
    }
}

/// The exclusive right to fetch a key, before anything is known of the answer.
#[derive(Debug)]
pub struct Slot {
    core: Arc<Core>,
    lead: Lead,
}

impl Core {
    /// Joins the fetch of a key; if the caller's look-up saw something else than what the store
    /// has by now, it follows that.
    pub(crate) fn join(core: &Arc<Self>, key: &CacheKey, seen: Seen) -> Join {
        let mut table = lock(&core.flights.table);
        if let Some(flight) = table.get(key) {
            core.counters.followers.add(1);
            return Join::Follow(Follower {
                wait: Wait::Flight(flight.told.clone()),
            });
        }
        let held = core.version(key);
        let stored_meanwhile = match seen {
            Seen::Unknown => false,
            Seen::Nothing => held.is_some(),
            Seen::Version(seen) => held.is_some_and(|held| held != seen),
        };
        if stored_meanwhile {
            return Join::Follow(Follower {
                wait: Wait::Stored(Arc::clone(core), key.clone()),
            });
        }
        let lead = Lead {
            core: Arc::clone(core),
            key: key.clone(),
            stored_as: None,
            tell: watch::Sender::new(None),
            purged: Arc::default(),
        };
        table.insert(key.clone(), lead.flight());
        Join::Lead(Slot {
            core: Arc::clone(core),
            lead,
        })
    }
}

impl Core {
    /// The fill that is under way for a key, if one is.
    pub(crate) fn filling(&self, key: &CacheKey) -> Option<Tail> {
        match lock(&self.flights.table).get(key)?.told.borrow().as_ref()? {
            Outcome::Filling(tail) => Some(tail.clone()),
            Outcome::Ready(_) | Outcome::Released(_) | Outcome::Failed => None,
        }
    }
}

impl Core {
    /// Sees to it that what is being fetched under a key that is `meant` (with the URL that it comes
    /// from, once that is known) is not kept, and that who joins from now on fetches anew: those who
    /// have joined read on (RFC 9111 §4.4). Returns the keys of those fetches. Blocking.
    pub(crate) fn purge_fills(
        &self,
        meant: impl Fn(&CacheKey, Option<&str>) -> bool,
    ) -> Vec<CacheKey> {
        // Whoever holds the journal may be about to let one of them be found.
        let _nobody_admits = lock(&self.journal);
        let mut purged = Vec::new();
        let mut table = lock(&self.flights.table);
        for (key, flight) in &*table {
            let is_meant = match flight.told.borrow().as_ref() {
                Some(Outcome::Filling(tail)) => meant(key, Some(tail.meta().url())),
                _ => meant(key, None),
            };
            if is_meant && !flight.purged.swap(true, Ordering::AcqRel) {
                purged.push(key.clone());
            }
        }
        // One that is found under two keys is found under neither.
        table.retain(|_, flight| !flight.purged.load(Ordering::Acquire));
        purged
    }
}

impl Core {
    /// Another version has come than the one that a fill brings: it is not kept, and who joins from
    /// now on does not find it.
    pub(crate) fn overtake(&self, running: &Arc<Running>) {
        lock(&self.flights.table).retain(|_, flight| {
            let is_it = match flight.told.borrow().as_ref() {
                Some(Outcome::Filling(tail)) => Arc::ptr_eq(&tail.running, running),
                _ => false,
            };
            if is_it {
                flight.purged.store(true, Ordering::Release);
            }
            !is_it
        });
    }
}

impl Core {
    /// Waits until a fill whose bytes have all come is over; false: there is none for this key, or it
    /// takes too long.
    pub(crate) async fn settled(&self, key: &CacheKey) -> bool {
        let Some(Flight {
            told: mut flight, ..
        }) = lock(&self.flights.table).get(key).cloned()
        else {
            return false;
        };
        if !flight.borrow().as_ref().is_some_and(is_received) {
            return false;
        }
        // The sender's end is an end of the fill too.
        let over = flight.wait_for(|now| !now.as_ref().is_some_and(is_received));
        tokio::time::timeout(SETTLE_TIME, over).await.is_ok()
    }
}

fn is_received(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Filling(tail) if tail.length() == Some(tail.available()))
}

impl Slot {
    /// The key that was joined.
    pub fn key(&self) -> &CacheKey {
        &self.lead.key
    }

    /// Starts to store an answer. `length`: the body's, where the origin has said it;
    /// `commit_key`: the joined key or a variant of it. On an error the followers are released.
    pub async fn begin(
        self,
        meta: Meta,
        length: Option<u64>,
        commit_key: CacheKey,
    ) -> Result<Fill, BeginError> {
        self.begin_as(meta, length, commit_key, None).await
    }

    /// As [`Slot::begin`], for an answer whose rest can be asked for later by its validator: others
    /// may draw parts of it meanwhile, and what came before a break may be kept
    /// ([`Fill::into_partial`]). Short ones are stored as by [`Slot::begin`].
    pub async fn begin_resumable(
        self,
        opening: Opening,
        commit_key: CacheKey,
    ) -> Result<Fill, BeginError> {
        let Opening {
            meta,
            length,
            origin,
        } = opening;
        self.begin_as(meta, Some(length), commit_key, Some(origin))
            .await
    }

    /// Starts to store an object of which the answer in hand has `start..end`;
    /// those are the caller's to draw. The followers join anew and find it.
    pub async fn begin_partial(
        self,
        opening: Opening,
        (start, end): (u64, u64),
        commit_key: CacheKey,
    ) -> Result<(Partial, Draw), BeginError> {
        match Partial::begin(&self.core, opening, (start, end), commit_key).await {
            Ok(begun) => Ok(begun),
            Err(e) => {
                self.release(e.as_str());
                Err(e)
            }
        }
    }

    async fn begin_as(
        mut self,
        meta: Meta,
        length: Option<u64>,
        commit_key: CacheKey,
        origin: Option<String>,
    ) -> Result<Fill, BeginError> {
        let begun = Fill::begin(&self.core, meta, length, commit_key.clone(), origin).await;
        match begun {
            Ok(started) => {
                self.lead.will_store_as(&commit_key);
                self.lead.tell(Outcome::Filling(started.tail()));
                Ok(started.led_by(self.lead))
            }
            Err(e) => {
                self.release(e.as_str());
                Err(e)
            }
        }
    }

    /// The answer is not to be stored: followers go on their own.
    pub fn release(self, why: &'static str) {
        self.lead.tell(Outcome::Released(why));
    }

    /// A 304 came: the stored body stays, under this head (RFC 9111 §4.3.4). `None` if the entry
    /// has left meanwhile; the followers then compete for a new lead.
    pub async fn refresh(self, meta: Meta) -> Option<Entry> {
        let key = self.lead.key.clone();
        self.refresh_as(meta, key).await
    }

    /// As [`Slot::refresh`], for an entry that is stored under a variant of the joined key.
    pub async fn refresh_as(self, meta: Meta, key: CacheKey) -> Option<Entry> {
        let core = Arc::clone(&self.core);
        let renewed = {
            let key = key.clone();
            tokio::task::spawn_blocking(move || core.renew(&key, &Arc::new(meta))).await
        };
        renewed.ok().flatten()?;
        let entry = Core::lookup(&self.core, &key).await?;
        self.lead.tell(Outcome::Ready(entry.clone()));
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::store::Store;
    use crate::test_support::sample_meta;

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_body_to_be_put_in_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(crate::Config::new(folder.path())).expect("opens");
        let key = CacheKey::of_url(&larder_policy::url::Url::parse("http://m/a").expect("a URL"));
        let Join::Lead(slot) = store.join(&key) else {
            panic!("nobody else fetches");
        };
        let meta = sample_meta("http://m/a");
        let begun = slot.begin(meta, Some(5), key.clone()).await;
        let mut fill = begun.expect("begins");
        assert!(!store.settled(&key).await);
        fill.write(bytes::Bytes::from_static(b"whole"))
            .await
            .expect("written");
        let mut last = fill.tail().reader(4, Some(5));
        poll_fn(|cx| last.poll_next(cx))
            .await
            .expect("some")
            .expect("read");
        // All has come, and the disk takes its time.
        assert!(!store.settled(&key).await);
        assert!(fill.commit().await.is_ok());
        store.close().await;
    }
}
