//! How much of the disk is taken, and whether more fits: arithmetic only.
//!
//! Everything counts against the maximum: bodies in allocated blocks, bodies that have left but
//! are still being read or removed, what running fills have reserved, the index with what its
//! next commit may need, and the folders. Files count too where the file system limits them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Allocation unit that sizes are rounded up to.
pub(crate) const BLOCK: u64 = 4096;

/// The blocks that a body of this length occupies at most.
pub(crate) fn blocks_of(len: u64) -> u32 {
    // A large file needs blocks for its extent tree; one in 2048 is more than ext4 uses.
    let data = len.div_ceil(BLOCK);
    let tree = if data > 64 { 1 + data / 2048 } else { 0 };
    u32::try_from(data + tree).unwrap_or(u32::MAX)
}

/// What is counted outside of the index, changed by whoever drops a file or a reservation.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// Reserved by fills in flight, bytes.
    reserved: AtomicU64,
    /// Removed from the index but still open somewhere, bytes.
    lingering: AtomicU64,
    /// Part files and lingering files.
    files: AtomicU64,
}

impl Space {
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    pub(crate) fn lingering(&self) -> u64 {
        self.lingering.load(Ordering::Acquire)
    }

    pub(crate) fn files(&self) -> u64 {
        self.files.load(Ordering::Acquire)
    }

    pub(crate) fn linger(&self, bytes: u64) {
        self.lingering.fetch_add(bytes, Ordering::AcqRel);
        self.files.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn ended(&self, bytes: u64) {
        self.lingering.fetch_sub(bytes, Ordering::AcqRel);
        self.files.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes set aside for one fill; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    space: Arc<Space>,
    bytes: u64,
}

impl Reservation {
    /// Counts the bytes; whoever calls this has found out, under the lock, that they fit.
    pub(crate) fn take(space: &Arc<Space>, bytes: u64) -> Self {
        space.reserved.fetch_add(bytes, Ordering::AcqRel);
        space.files.fetch_add(1, Ordering::AcqRel);
        Self {
            space: Arc::clone(space),
            bytes,
        }
    }

    /// Grows by what [`Limits::fits`] has allowed.
    pub(crate) fn grow(&mut self, bytes: u64) {
        self.space.reserved.fetch_add(bytes, Ordering::AcqRel);
        self.bytes += bytes;
    }

    /// What is set aside.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Counts what is really occupied.
    pub(crate) fn set(&mut self, bytes: u64) {
        self.space.reserved.fetch_add(bytes, Ordering::AcqRel);
        self.space.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
        self.space.files.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The maxima and what stands against them beside the bodies.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes that everything together may occupy.
    pub(crate) bytes_max: u64,
    /// Files that may exist; `u64::MAX` where the file system sets no limit.
    pub(crate) files_max: u64,
    /// Index and journal, with what their next commit may add.
    pub(crate) index_bytes: u64,
    /// Folders of the content tree. One that the collector takes while its maker has not counted it
    /// yet is one too few for a moment.
    pub(crate) folders: i64,
    /// Bytes that one folder occupies.
    pub(crate) folder_bytes: u64,
    /// Victims whose files are being removed.
    pub(crate) leaving_bytes: u64,
    /// Files that could not be removed; they are counted until the next start.
    pub(crate) stranded_bytes: u64,
    /// Part files that nobody fills any more and that could not be removed, counted likewise.
    pub(crate) stray_bytes: u64,
    /// Bodies in place that a damaged index does not name: until they are named again or removed.
    pub(crate) unnamed_bytes: u64,
}

impl Limits {
    /// Everything that counts, given the bytes of the bodies.
    pub(crate) fn total(&self, bodies: u64, space: &Space) -> u64 {
        self.in_place(bodies, space) + self.index_bytes + space.reserved()
    }

    /// What lies in place for certain: bodies, also those that are leaving, and folders.
    pub(crate) fn in_place(&self, bodies: u64, space: &Space) -> u64 {
        bodies
            + self.leaving_bytes
            + self.stranded_bytes
            + self.stray_bytes
            + self.unnamed_bytes
            + self.folders() * self.folder_bytes
            + space.lingering()
    }

    /// Bytes that have to leave before `more` fit; 0 if they do.
    pub(crate) fn excess(&self, bodies: u64, space: &Space, more: u64) -> u64 {
        (self.total(bodies, space) + more).saturating_sub(self.bytes_max)
    }

    /// Bodies without a name have got one, or are gone.
    pub(crate) fn lose_unnamed(&mut self, bytes: u64) {
        self.unnamed_bytes = self.unnamed_bytes.saturating_sub(bytes);
    }

    /// Folders that were empty are gone.
    pub(crate) fn lose_folders(&mut self, folders: u64) {
        self.folders = self.folders.saturating_sub_unsigned(folders);
    }

    /// Folders have been made.
    pub(crate) fn add_folders(&mut self, folders: u64) {
        self.folders = self.folders.saturating_add_unsigned(folders);
    }

    /// How many there are.
    pub(crate) fn folders(&self) -> u64 {
        u64::try_from(self.folders).unwrap_or(0)
    }

    /// Files that have to leave before one more fits.
    pub(crate) fn files_excess(&self, bodies: u64, space: &Space) -> u64 {
        // A new body may need two folders.
        (bodies + self.folders() + space.files() + 3).saturating_sub(self.files_max)
    }

    /// What could ever be had for bodies.
    pub(crate) fn bodies_max(&self) -> u64 {
        self.bytes_max
            .saturating_sub(self.index_bytes + self.folders() * self.folder_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            bytes_max: 100,
            files_max: 10,
            index_bytes: 10,
            folders: 2,
            folder_bytes: 5,
            leaving_bytes: 0,
            stranded_bytes: 0,
            stray_bytes: 0,
            unnamed_bytes: 0,
        }
    }

    #[test]
    fn reservations_and_lingering_files_count_until_they_are_dropped() {
        let space = Arc::new(Space::default());
        let mut held = Reservation::take(&space, 20);
        held.grow(10);
        assert_eq!(limits().total(40, &space), 90);
        assert_eq!(limits().excess(40, &space, 15), 5);
        space.linger(7);
        assert_eq!(limits().excess(40, &space, 15), 12);
        drop(held);
        space.ended(7);
        assert_eq!(limits().total(40, &space), 60);
    }

    #[test]
    fn a_folder_that_goes_before_it_is_counted_is_not_counted_for_ever() {
        let mut limits = Limits {
            folders: 0,
            ..limits()
        };
        limits.lose_folders(1);
        assert_eq!(limits.folders(), 0);
        limits.add_folders(3);
        assert_eq!(limits.folders(), 2);
    }

    #[test]
    fn files_are_room_too() {
        let space = Arc::new(Space::default());
        assert_eq!(limits().files_excess(5, &space), 0);
        assert_eq!(limits().files_excess(6, &space), 1);
    }

    #[test]
    fn a_large_body_is_given_blocks_for_its_extents() {
        assert_eq!(blocks_of(0), 0);
        assert_eq!(blocks_of(1), 1);
        assert_eq!(blocks_of(4097), 2);
        assert_eq!(blocks_of(8 << 20), 2048 + 2);
    }
}
