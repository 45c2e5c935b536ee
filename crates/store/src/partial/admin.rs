//! Objects of which parts are held, for those who administer the cache: listed, and audited.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use super::Partial;
use super::disk::{self, Record};
use crate::core::Core;
use crate::store::Store;

/// An object of which parts are held.
#[derive(Clone, Debug)]
pub struct PartialObject {
    /// The key under which it will be stored.
    pub key: CacheKey,
    /// Its head, as of an answer with all of it.
    pub meta: Arc<Meta>,
    /// Bytes of the whole.
    pub len: u64,
    /// Bytes that are there, or lie on the disk since an earlier run.
    pub held: u64,
    /// Bytes that its file occupies.
    pub allocated: u64,
}

/// What an audit of them has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartialAudit {
    /// Objects looked at.
    pub objects: u64,
    /// Blocks read and compared with what was noted of them.
    pub blocks: u64,
    /// Of them, those that were not what they should be: they are missing now.
    pub damaged: u64,
    /// Blocks that could not be read just now.
    pub unread: u64,
}

/// What became of a block.
pub(super) enum Verdict {
    Whole,
    Damaged,
    Unread(io::Error),
}

impl Store {
    /// All objects of which parts are held, by key. Blocking.
    pub fn partials(&self) -> Vec<PartialObject> {
        let core = &self.core;
        let mut all: Vec<PartialObject> = if core.disk.is_frozen() {
            // They are not opened where nothing is drawn.
            core.recorded_partials()
        } else {
            let there = core.shelf.all().into_iter();
            let there = there.filter(|partial| !partial.is_over());
            there.map(|partial| partial.described()).collect()
        };
        all.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        all
    }

    /// Reads every block that was noted and drops those that are not what they should be; the object
    /// stays. Blocks that somebody draws beside are left to the next audit. `each` is told of every
    /// block and ends the audit by returning false. Blocking.
    pub fn verify_partials(&self, mut each: impl FnMut(PartialAudit) -> bool) -> PartialAudit {
        let mut audit = PartialAudit::default();
        for partial in self.core.shelf.all() {
            audit.objects += 1;
            let (before, mut from, mut goes_on) = (audit.damaged, 0, true);
            while goes_on && let Some((block, verdict)) = partial.verify_from(from) {
                from = block + 1;
                audit.blocks += 1;
                match verdict {
                    Verdict::Whole => {}
                    Verdict::Damaged => audit.damaged += 1,
                    Verdict::Unread(e) => {
                        self.core.counters.fault(crate::Fault::Read, &e);
                        audit.unread += 1;
                    }
                }
                goes_on = each(audit) && !self.core.is_stopping();
            }
            if audit.damaged > before {
                partial.note_now();
            }
            if !goes_on {
                break;
            }
        }
        audit
    }
}

impl Partial {
    fn described(&self) -> PartialObject {
        let data = self.inner.file.file().and_then(fs::File::metadata);
        PartialObject {
            key: self.inner.key.clone(),
            meta: self.meta(),
            len: self.inner.length,
            held: self.held_bytes(),
            allocated: data.map_or(0, |data| data.blocks() * 512),
        }
    }
}

impl Core {
    fn recorded_partials(&self) -> Vec<PartialObject> {
        let entries = fs::read_dir(self.layout.partials()).into_iter().flatten();
        let paths = entries.flatten().map(|entry| entry.path());
        let paths = paths.filter(|path| path.extension().is_none());
        paths
            .filter_map(|path| {
                let Record { head, blocks, .. } = disk::read_record(&path).ok()??;
                let data = fs::metadata(path).ok()?;
                let held = blocks.keys().map(|block| {
                    let (start, end) = disk::span_of(*block, head.len);
                    end - start
                });
                Some(PartialObject {
                    held: held.sum(),
                    key: head.key,
                    meta: Arc::new(head.meta),
                    len: head.len,
                    allocated: data.blocks() * 512,
                })
            })
            .collect()
    }
}
