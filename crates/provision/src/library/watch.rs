//! Which files of a directory changed since the last look, without looking at each.
//!
//! inotify queues an event during the very system call that changes the directory or a file in it,
//! so reading the queue at the start of a request finds every change that came before. Events lead
//! to names only; what happened to them is for the file system to say.
//!
//! inotify sees nothing of what another host does on a network file system and nothing of a
//! directory that was put in the place of the watched one. For the first no watch is made; the
//! second is found by comparing the directory's identity.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

/// `statfs` types on which changes may come from elsewhere: NFS, SMB, SMB2, FUSE, 9P, Ceph, AFS.
const REMOTE: [u32; 7] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x6b41_4653,
];

/// What may have changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// These names.
    Names(BTreeSet<OsString>),
    /// Anything: look at every file and watch anew.
    Everything,
}

/// A watched directory.
#[derive(Debug)]
pub(super) struct Watch {
    queue: OwnedFd,
    identity: (u64, u64),
}

impl Watch {
    /// Watches `directory`; `None` where that is impossible or would miss changes.
    pub(super) fn new(directory: &Path) -> Option<Self> {
        let file_system = rustix::fs::statfs(directory).ok()?;
        if REMOTE.contains(&(file_system.f_type as u32)) {
            return None;
        }
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let events = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&queue, directory, events).ok()?;
        Some(Self {
            queue,
            identity: identity(directory)?,
        })
    }

    /// Empties the queue.
    pub(super) fn changes(&mut self, directory: &Path) -> Changes {
        if identity(directory) != Some(self.identity) {
            return Changes::Everything;
        }
        let lost = ReadFlags::QUEUE_OVERFLOW
            | ReadFlags::IGNORED
            | ReadFlags::UNMOUNT
            | ReadFlags::DELETE_SELF
            | ReadFlags::MOVE_SELF;
        let mut names = BTreeSet::new();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().intersects(lost) => return Changes::Everything,
                Ok(event) => names.extend(
                    event
                        .file_name()
                        .map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()),
                ),
                Err(Errno::AGAIN) => return Changes::Names(names),
                Err(Errno::INTR) => {}
                Err(_) => return Changes::Everything,
            }
        }
    }
}

fn identity(directory: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(directory).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
