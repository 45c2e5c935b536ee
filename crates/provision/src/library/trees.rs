//! The trees that profiles name, kept until a profile changes: every package that a machine fetches through
//! the provisioning port asks for them.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use super::watch::{Changes, Watch};

/// What the profiles of a directory name.
#[derive(Debug, Default)]
pub(super) struct Trees {
    watch: Option<Watch>,
    kept: Option<Arc<BTreeSet<String>>>,
}

impl Trees {
    /// The trees as they are on disk now; `read` finds them in the files.
    pub(super) fn get(
        &mut self,
        directory: &Path,
        read: impl FnOnce() -> BTreeSet<String>,
    ) -> Arc<BTreeSet<String>> {
        let changes = self.watch.as_mut().map(|watch| watch.changes(directory));
        let is_same = matches!(changes, Some(Changes::Names(names)) if names.is_empty());
        if let Some(kept) = self.kept.as_ref().filter(|_| is_same) {
            return Arc::clone(kept);
        }
        // Watching starts before reading: what changes in between is reported.
        self.watch = Watch::new(directory).filter(|_| is_flat(directory));
        let trees = Arc::new(read());
        self.kept = self.watch.as_ref().map(|_| Arc::clone(&trees));
        trees
    }
}

/// Whether all changes happen in the directory itself: what is linked to, or lies in a folder, changes
/// without a word to who watches it.
fn is_flat(directory: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.all(|entry| {
        let kind = entry.and_then(|entry| entry.file_type());
        kind.is_ok_and(|kind| kind.is_file())
    })
}
