//! What keeps an index from being opened though nothing is wrong with it: a full disk, rights, too
//! many open files.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::error::OpenError;
use crate::layout::Layout;
use crate::table::TableError;

/// What the index needs to open on a full disk, bytes.
const INDEX_ROOM: u64 = 2 << 20;
/// EMFILE and ENFILE, which have no kind of their own.
const TOO_MANY_FILES: [i32; 2] = [23, 24];

/// Decides about errors at opening.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    layout: &'a Layout,
    made_room: bool,
}

impl<'a> Patience<'a> {
    pub(crate) fn new(layout: &'a Layout) -> Self {
        Self {
            layout,
            made_room: false,
        }
    }

    /// `Some`: the index is damaged. `None`: it is worth another try.
    ///
    /// # Errors
    /// The index may be good, but this start cannot have it.
    pub(crate) fn with(&mut self, error: TableError) -> Result<Option<TableError>, OpenError> {
        let Some(source) = error.of_the_disk() else {
            return Ok(Some(error));
        };
        if is_full(&source) && !std::mem::replace(&mut self.made_room, true) {
            self.make_room();
            return Ok(None);
        }
        Err(OpenError::File {
            step: "open",
            path: self.layout.index(),
            source,
        })
    }

    /// Gives up the bodies that were written longest ago: without names nothing better is known of
    /// them, and a name whose body is gone is a miss.
    fn make_room(&self) {
        let mut bodies: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        collect(self.layout.content(), &mut bodies);
        bodies.sort_unstable();
        let mut freed = 0;
        for (_, bytes, path) in bodies {
            if freed >= INDEX_ROOM {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                freed += bytes;
            }
        }
        tracing::warn!(
            freed,
            "the disk is full: bodies were given up so that the index can be opened"
        );
    }
}

fn collect(folder: PathBuf, bodies: &mut Vec<(SystemTime, u64, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.metadata() {
            Ok(about) if about.is_dir() => collect(entry.path(), bodies),
            Ok(about) => {
                let at = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                bodies.push((at, about.len(), entry.path()));
            }
            Err(_) => {}
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// True for an error that says something about the machine and nothing about the file's content.
pub(crate) fn is_of_the_disk(error: &io::Error) -> bool {
    is_full(error)
        || matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
        || is_of_too_many_files(error)
}

/// True where the process, or the machine, may open no more files.
pub fn is_of_too_many_files(error: &io::Error) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| TOO_MANY_FILES.contains(&code))
}
