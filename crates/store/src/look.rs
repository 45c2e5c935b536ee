//! A cache of which nothing may be changed: looked at while it is stopped, or on a file system that
//! has become read-only; and no cache at all, where it cannot be had.
//!
//! Names and journal are read as at any start; what would be written stays in memory. What is held
//! is found and served; nothing is stored, evicted or mended.

use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::core::{Core, Mending};
use crate::counters::Counters;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::journal::Journal;
use crate::layout::{FileSystem, Layout};
use crate::recover::{Parts, Picture, page_cache, read_table};
use crate::room::Limits;
use crate::table::{Facts, Loaded, Table};

/// Opens what is there, reading only. `why`: said of the cache for as long as it is open.
///
/// # Errors
/// As for any opening; an index that is damaged is an error here, because it is not mended.
pub(crate) fn look(config: Config, why: &str) -> Result<Core, OpenError> {
    let disk = Disk::frozen();
    let layout = Layout::look(&config.directory)?;
    let cache_bytes = usize::try_from(page_cache(&config)).unwrap_or(usize::MAX);
    let read = Table::open(&layout.index(), cache_bytes, &disk)
        .and_then(|table| read_table(&table, &config).map(|(all, some)| (table, all, some)));
    let damaged = |source: std::io::Error| OpenError::File {
        step: "read",
        path: layout.index(),
        source,
    };
    let (table, mut picture, loaded) = read.map_err(|e| damaged(std::io::Error::other(e)))?;
    if loaded.unreadable > 0 {
        return Err(damaged(std::io::ErrorKind::InvalidData.into()));
    }
    let (changes, torn) = Journal::replay(&layout.journal()).map_err(|source| OpenError::File {
        step: "read",
        path: layout.journal(),
        source,
    })?;
    let unclean = loaded.facts.is_unclean() || torn || !changes.is_empty();
    picture.replay(changes);
    if unclean {
        picture.suspect(loaded.facts.synced_id);
    }
    assemble(config, disk, layout, (table, picture, loaded), why)
}

/// A store that holds nothing and takes nothing.
pub(crate) fn nowhere(config: Config, why: &str) -> Result<Core, OpenError> {
    let layout = Layout::nowhere(&config.directory);
    let picture = Picture::new(&config, 0);
    let empty = (Table::absent(), picture, Loaded::default());
    assemble(config, Disk::frozen(), layout, empty, why)
}

fn assemble(
    config: Config,
    disk: Disk,
    layout: Layout,
    (table, picture, loaded): (Table, Picture, Loaded),
    why: &str,
) -> Result<Core, OpenError> {
    let folder = layout.journal();
    let journal = Journal::frozen(&disk).map_err(|source| OpenError::File {
        step: "open",
        path: folder,
        source,
    })?;
    let limits = limits(&config, layout.root(), layout.index_bytes());
    let parts = Parts {
        layout,
        table,
        picture,
        facts: Facts {
            synced_id: loaded.facts.last_id,
            ..loaded.facts
        },
        journal,
        limits,
        counters: Counters::default(),
        mending: Mending::default(),
        forgotten: None,
        why_frozen: Some(Arc::from(why)),
    };
    Ok(parts.assemble(config, disk))
}

/// Nothing is asked to fit: these are only told.
fn limits(config: &Config, root: &Path, index_bytes: u64) -> Limits {
    let system = FileSystem::of(root, 0, 0);
    Limits {
        bytes_max: config.size_max,
        files_max: u64::MAX,
        index_bytes,
        folders: 0,
        folder_bytes: system.map_or(0, |system| system.folder_bytes),
        leaving_bytes: 0,
        stranded_bytes: 0,
        stray_bytes: 0,
        unnamed_bytes: 0,
    }
}
