//! Opens a cache directory after whatever ended the last run.
//!
//! Lock and format first; then what the index file names is taken into memory, the journal's
//! changes on top of it, and the files that those name are looked for. After an unclean stop,
//! bodies that came after the last checkpoint are suspect: they are hashed before any use. A
//! start reads one compact table and touches no body that the journal does not name.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::admission::Sketch;
use crate::body;
use crate::check::Checks;
use crate::codec;
use crate::collapse::Flights;
use crate::config::{Admission, Config};
use crate::core::{Core, Mending, Pending, State, now_u32};
use crate::counters::{Counters, Fault};
use crate::digest::{Digest, KeyHash};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::folders::Folders;
use crate::forgotten::Forgotten;
use crate::hot::HotCache;
use crate::index::{Gone, Index, SUSPECT, VERIFIED};
use crate::journal::{Change, Journal};
use crate::keeper::{Nudge, Touches};
use crate::layout::{FileSystem, Layout, is_in_memory, subfolders};
use crate::lock;
use crate::partial::Shelf;
use crate::patience::Patience;
use crate::rank::Ranking;
use crate::room::{Limits, Space};
use crate::slices::Slices;
use crate::table::{ENDED_UNTIDY, Facts, Loaded, Table, TableError};
use crate::unwritable::Unwritable;
use crate::vary::Vary;

/// redb's page cache, where `memory_max` allows it.
const PAGE_CACHE_MAX: u64 = 32 << 20;
/// A start measures what an index does not name for this long; beyond it, the keeper does.
const MEASURE_TIME: Duration = Duration::from_millis(300);
/// Objects for which memory is set aside at most before they are counted one by one.
const EXPECTED_MAX: u64 = 1 << 24;

/// Memory's picture of the cache, as the disk gives it.
pub(crate) struct Picture {
    pub(crate) index: Index,
    vary: HashMap<KeyHash, Vec<u8>>,
    pending: Pending,
    removed: HashSet<Digest>,
}

pub(crate) fn open(config: Config, disk: Disk) -> Result<Core, OpenError> {
    let layout = Layout::take(&config.directory)?;
    let file =
        |step, path: std::path::PathBuf| move |source| OpenError::File { step, path, source };
    let counters = Counters::default();
    layout
        .clean_parts(|e| counters.fault(Fault::Remove, e))
        .map_err(file("clean", layout.parts()))?;
    if config.durability == crate::config::Durability::Full {
        layout
            .sync()
            .map_err(file("sync", layout.root().to_owned()))?;
    }
    let (table, mut picture, loaded, mut mending) = open_table(&layout, &config, &disk, &counters)?;
    let (changes, torn) =
        Journal::replay(&layout.journal()).map_err(file("read", layout.journal()))?;
    if torn {
        tracing::info!("the journal's last record was cut off by an unclean stop");
    }
    // An orderly end leaves an empty journal; one that is not empty tells of an end that came
    // before the mark of the last orderly one could be taken back.
    let unclean = loaded.facts.is_unclean() || torn || !changes.is_empty();
    let known_id = picture.index.last_id();
    let forgotten = forgotten(&layout, &config, &disk, &changes, &mending)
        .map_err(file("read what is forgotten in", layout.journal()))?;
    picture.replay(changes);
    picture.settle(&layout, known_id);
    if unclean {
        picture.suspect(loaded.facts.synced_id);
    }
    // Bodies that only the damaged index names are in place, and count.
    mending.unmeasured = mending.orphans || mending.damaged.is_some();
    // An index file from elsewhere, or from before, does not name what was stored since.
    let is_anothers = layout.run() != loaded.facts.run;
    mending.unmeasured |= is_anothers;
    // A run that was stopped while it salvaged has collected nothing, however orderly it ended.
    mending.orphans |=
        mending.damaged.is_some() || is_anothers || unclean || loaded.facts.clean == ENDED_UNTIDY;
    let journal = Journal::open(
        &layout.journal(),
        config.durability == crate::config::Durability::Full,
        &disk,
    )
    .map_err(file("open", layout.journal()))?;
    let limits = limits(&config, &layout, &picture.index, &mut mending).map_err(file(
        "ask about the file system of",
        layout.root().to_owned(),
    ))?;
    let run = new_run();
    let parts = Parts {
        layout,
        table,
        picture,
        facts: Facts {
            run,
            ..loaded.facts
        },
        journal,
        limits,
        counters,
        mending,
        forgotten,
        why_frozen: None,
    };
    let core = parts.assemble(config, disk);
    // The mark of a clean end is taken back before anything is admitted, and what the journal
    // said is brought into the index file.
    begin(&core, run);
    Ok(core)
}

/// Says who has the index file by now, and whether it leaves room for bodies.
fn begin(core: &Core, run: u64) {
    if core.commit(false)
        && let Err(e) = core.layout.set_run(run)
    {
        // The next start looks for bodies without a name; that costs time and nothing else.
        core.counters.fault(Fault::Write, &e);
    }
    let limits = lock(&core.state).limits.clone();
    if limits.bodies_max() == 0 {
        tracing::warn!(
            index = limits.index_bytes,
            max_size = limits.bytes_max,
            "max-size leaves no room for bodies: index and folders need it all, or more"
        );
    }
}

/// A number that no other run has.
fn new_run() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// What a start has found, as far as it differs from case to case.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) table: Table,
    pub(crate) picture: Picture,
    pub(crate) facts: Facts,
    pub(crate) journal: Journal,
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) mending: Mending,
    pub(crate) forgotten: Option<Forgotten>,
    /// Why nothing is changed on disk, if that is so.
    pub(crate) why_frozen: Option<Arc<str>>,
}

impl Parts {
    pub(crate) fn assemble(self, config: Config, disk: Disk) -> Core {
        let Self {
            layout,
            picture,
            limits,
            ..
        } = self;
        let memory = config.memory_max.saturating_sub(page_cache(&config));
        Core {
            hot: HotCache::new(memory, files_max()),
            journal: Mutex::new(self.journal),
            state: Mutex::new(State {
                index: picture.index,
                limits,
                pending: picture.pending,
                committing: Arc::default(),
                open: HashMap::new(),
                busy: HashMap::new(),
                warm: Vec::new(),
                facts: self.facts,
            }),
            idle: Condvar::new(),
            table: self.table,
            vary: RwLock::new(Vary::of_records(&picture.vary)),
            flights: Flights::default(),
            shelf: Shelf::new(files_max()),
            space: Arc::new(Space::default()),
            counters: self.counters,
            sketch: (config.admission == Admission::Frequency).then(Sketch::default),
            touches: Touches::default(),
            slices: Slices::default(),
            nudge: Nudge::default(),
            stuck: Mutex::default(),
            committing: Mutex::default(),
            to_remove: Mutex::new(Vec::new()),
            nowait: AtomicBool::new(true),
            in_memory: is_in_memory(layout.root()),
            folders: Folders::default(),
            line: Arc::default(),
            checks: Checks::default(),
            next_part: AtomicU64::new(1),
            mending: Mutex::new(self.mending),
            forgotten: Mutex::new(self.forgotten),
            stopping: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            index_broken: AtomicBool::new(false),
            why_frozen: self.why_frozen,
            unwritable: Unwritable::default(),
            config,
            disk,
            layout,
        }
    }
}

/// What a damaged index must not bring back: the journal's word is lost with the next group commit,
/// which has nothing to forget.
fn forgotten(
    layout: &Layout,
    config: &Config,
    disk: &Disk,
    changes: &[Change],
    mending: &Mending,
) -> io::Result<Option<Forgotten>> {
    if mending.damaged.is_none() {
        return Ok(None);
    }
    let synced = config.durability == crate::config::Durability::Full;
    let mut forgotten = Forgotten::open(&layout.journal(), synced, disk)?;
    forgotten.note(changes.iter().filter_map(|change| match change {
        Change::Forget { key } => Some(*key),
        _ => None,
    }))?;
    Ok(Some(forgotten))
}

/// True if bodies were kept here and no index file says of what.
fn is_index_lost(layout: &Layout) -> bool {
    let is_there = fs::metadata(layout.index()).is_ok_and(|data| data.len() > 0);
    let has_held = fs::read_dir(layout.content()).is_ok_and(|mut folders| folders.next().is_some());
    !is_there && has_held
}

/// Opens the index file; a damaged one is set aside for what can be salvaged of it, and an empty
/// one takes its place. A disk that is full or a file that may not be opened says nothing about the
/// index, and costs it nothing.
fn open_table(
    layout: &Layout,
    config: &Config,
    disk: &Disk,
    counters: &Counters,
) -> Result<(Table, Picture, Loaded, Mending), OpenError> {
    let cache_bytes = usize::try_from(page_cache(config)).unwrap_or(usize::MAX);
    let damaged = layout.damaged_index();
    let mut mending = Mending {
        // Left by a run that ended before it had salvaged everything.
        damaged: damaged.exists().then(|| damaged.clone()),
        orphans: false,
        unmeasured: false,
    };
    if mending.damaged.is_none() {
        // What an earlier damage has left to say is said of another index.
        Forgotten::end(&layout.journal()).unwrap_or_else(|e| counters.fault(Fault::Journal, &e));
    }
    if is_index_lost(layout) {
        let what = "the index file is not there: bodies whose names are lost are removed";
        counters.fault(Fault::Index, &what);
    }
    let mut patience = Patience::new(layout);
    let mut turns = 0;
    while turns < 2 {
        let read = Table::open(&layout.index(), cache_bytes, disk)
            .and_then(|table| read_table(&table, config).map(|(all, some)| (table, all, some)));
        match read {
            Ok((table, picture, loaded)) if loaded.unreadable == 0 || mending.orphans => {
                return Ok((table, picture, loaded, mending));
            }
            Ok((_, _, loaded)) => {
                let what = format_args!("{} unreadable records in the index", loaded.unreadable);
                counters.fault(Fault::Index, &what);
            }
            Err(e) => match patience.with(e)? {
                Some(damage) => counters.fault(Fault::Index, &damage),
                None => continue,
            },
        }
        turns += 1;
        mending.orphans = true;
        if turns == 2 {
            // The second file was an empty one: it must not take the place of what is set aside.
            break;
        }
        match fs::rename(layout.index(), &damaged) {
            Ok(()) => mending.damaged = Some(damaged.clone()),
            Err(e) => counters.fault(Fault::Index, &e),
        }
    }
    let picture = Picture::new(config, 0);
    Ok((Table::absent(), picture, Loaded::default(), mending))
}

pub(crate) fn page_cache(config: &Config) -> u64 {
    PAGE_CACHE_MAX.min(config.memory_max / 4)
}

pub(crate) fn read_table(table: &Table, config: &Config) -> Result<(Picture, Loaded), TableError> {
    let expected = table.bodies()?.min(EXPECTED_MAX);
    let mut picture = Picture::new(config, expected as usize);
    let index = &mut picture.index;
    let loaded = table.load(|blob, keys| index.restore(blob, &keys))?;
    index.ranking.age = loaded.facts.age;
    index.resume_from(loaded.facts.last_id, loaded.facts.tick);
    if loaded.facts.policy != index.ranking.number() {
        index.rerank();
    }
    picture.vary = loaded.vary.iter().cloned().collect();
    Ok((picture, loaded))
}

impl Picture {
    pub(crate) fn new(config: &Config, expected: usize) -> Self {
        let ranking = Ranking {
            policy: config.replacement,
            age: 0,
        };
        Self {
            index: Index::with_capacity(ranking, expected),
            vary: HashMap::new(),
            pending: Pending::default(),
            removed: HashSet::new(),
        }
    }

    pub(crate) fn replay(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Admit { head, blocks } => self.admit(&head, blocks),
                Change::Renew { head } => self.renew(&head),
                Change::Forget { key } => {
                    let unlinked = self.index.unlink(&key);
                    self.pending.heads.insert(key, None);
                    self.pending.note_unlinked(&unlinked);
                    self.note_gone(unlinked.last());
                }
                Change::Remove { digest } => {
                    let held = self.index.slot_by_digest(&digest);
                    let id = self.index.by_digest(&digest).map(|blob| blob.id);
                    self.removed.insert(digest);
                    if let (Some(slot), Some(id)) = (held, id) {
                        let gone = self.index.remove(slot, id);
                        self.note_gone(gone);
                    }
                }
                Change::Vary { key, names } => {
                    let names = Some(names).filter(|names| !names.is_empty());
                    match &names {
                        Some(names) => self.vary.insert(key, names.clone()),
                        None => self.vary.remove(&key),
                    };
                    self.pending.vary.insert(key, names);
                }
            }
        }
    }

    fn admit(&mut self, record: &Arc<[u8]>, blocks: u32) {
        let Some(head) = codec::decode_head(record) else {
            return;
        };
        let key = KeyHash::of(&head.key);
        let named = self
            .index
            .admit(key, head.digest, (head.len, blocks), now_u32());
        // What is in place was written by another run: not verified by this one.
        self.index.clear_flag(named.slot, named.id, VERIFIED);
        self.pending.note_named(key, Arc::clone(record), &named);
        self.note_gone(named.before.last());
    }

    fn renew(&mut self, record: &Arc<[u8]>) {
        let Some(head) = codec::decode_head(record) else {
            return;
        };
        let key = KeyHash::of(&head.key);
        let same = self
            .index
            .get(&key)
            .is_some_and(|found| found.blob.digest == head.digest);
        if same {
            self.pending.heads.insert(key, Some(Arc::clone(record)));
        }
    }

    fn note_gone(&mut self, gone: Option<Gone>) {
        if let Some(Gone { blob, keys }) = gone {
            for key in keys {
                self.pending.heads.entry(key).or_insert(None);
                if self.index.get(&key).is_none() {
                    self.pending.heads.insert(key, None);
                }
            }
            self.pending.blobs.insert(blob.id, None);
            self.removed.insert(blob.digest);
        }
    }

    /// Looks for the files that the journal names: removed ones are removed (again), and a body
    /// that is not in place has no name.
    fn settle(&mut self, layout: &Layout, known_id: u64) {
        for digest in &self.removed {
            if self.index.by_digest(digest).is_none()
                && let Err(e) = body::remove(layout.root(), digest)
            {
                tracing::warn!(%digest, error = %e, "a body cannot be removed");
            }
        }
        let named: Vec<_> = self
            .pending
            .blobs
            .iter()
            .filter_map(|(&id, &slot)| slot.map(|slot| (slot, id)))
            .filter(|&(_, id)| id > known_id)
            .collect();
        for (slot, id) in named {
            let Some(blob) = self.index.at(slot, id) else {
                continue;
            };
            let data = fs::metadata(layout.root().join(blob.digest.content_path()));
            if data.is_ok_and(|data| data.len() == blob.len) {
                continue;
            }
            let gone = self.index.remove(slot, id);
            self.note_gone(gone);
        }
    }

    /// Marks what came after the last checkpoint.
    pub(crate) fn suspect(&mut self, synced_id: u64) {
        let after: Vec<_> = self
            .index
            .iter()
            .filter(|(_, blob)| blob.id > synced_id)
            .map(|(slot, blob)| (slot, blob.id))
            .collect();
        for (slot, id) in after {
            self.index.set_flag(slot, id, SUSPECT);
        }
    }
}

/// What may be used, clamped to what the file system has.
fn limits(
    config: &Config,
    layout: &Layout,
    index: &Index,
    mending: &mut Mending,
) -> io::Result<Limits> {
    let needed = folders_of(index);
    // Beyond what is quickly listed, as many as the bodies need.
    let folders = if index.bodies() > LISTED_MAX {
        needed
    } else {
        count_folders(layout)
    };
    mending.orphans |= folders > needed;
    let index_bytes = layout.index_bytes();
    let held = index.allocated() + index_bytes + layout.parts_bytes();
    let system = FileSystem::of(layout.root(), held, index.bodies() as u64 + folders)?;
    if system.bytes_max < config.size_max {
        tracing::warn!(
            directory = %layout.root().display(),
            wanted = config.size_max,
            used = system.bytes_max,
            "max-size is more than the file system has; using what there is"
        );
    }
    let bytes_max = config.size_max.min(system.bytes_max);
    let mut unnamed_bytes = 0;
    if mending.unmeasured {
        let until = Instant::now() + MEASURE_TIME;
        let bytes = layout.content_bytes(|| Instant::now() < until);
        mending.unmeasured = bytes.is_none();
        unnamed_bytes = bytes.map_or(bytes_max, |all| all.saturating_sub(index.allocated()));
    }
    Ok(Limits {
        bytes_max,
        files_max: system.files_max,
        index_bytes,
        folders: i64::try_from(folders).unwrap_or(i64::MAX),
        folder_bytes: system.folder_bytes,
        leaving_bytes: 0,
        stranded_bytes: 0,
        stray_bytes: 0,
        unnamed_bytes,
    })
}

/// Bodies of which the folders are counted on disk.
const LISTED_MAX: usize = 100_000;

/// Folders of the content tree, empty ones included.
fn count_folders(layout: &Layout) -> u64 {
    let upper = subfolders(&layout.content());
    upper.map(|path| 1 + subfolders(&path).count() as u64).sum()
}

/// Folders that the bodies need: all of the upper ones, which stay, and those that a body is in.
fn folders_of(index: &Index) -> u64 {
    let mut taken = vec![false; 1 << 16];
    for (_, blob) in index.iter() {
        let [first, second, ..] = blob.digest.0;
        if let Some(taken) = taken.get_mut(usize::from(u16::from_be_bytes([first, second]))) {
            *taken = true;
        }
    }
    256 + taken.into_iter().filter(|taken| *taken).count() as u64
}

/// Open files that the process may have.
fn files_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(1 << 20)
}
