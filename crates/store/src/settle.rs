//! The last step of a fill: its body in place, its name in the index. Blocking.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::{Bytes, BytesMut};
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;

use crate::body::{self, BodyFile};
use crate::core::{Admitted, Core, Placed};
use crate::digest::Digest;
use crate::hot::{Hot, SMALL_BODY};
use crate::lock;
use crate::room::{BLOCK, Reservation, blocks_of};

/// Smaller files' blocks are computed; larger ones' are asked for.
const ASK_BLOCKS: u64 = 1 << 20;

/// A body of which every byte has come.
#[derive(Debug)]
pub(crate) enum Whole {
    /// It is in memory, and room is reserved for its file.
    Memory {
        chunks: Vec<Bytes>,
        /// Held until the body counts as a blob.
        _reservation: Reservation,
    },
    /// It is in a part file, and this is its digest.
    Part { file: Arc<BodyFile>, digest: Digest },
}

/// What is to be stored.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) key: CacheKey,
    pub(crate) meta: Arc<Meta>,
    pub(crate) len: u64,
    /// Set when an administrator does not want it any more.
    pub(crate) purged: Option<Arc<AtomicBool>>,
}

/// What is found from now on, and its body.
pub(crate) type Stored = (Arc<Hot>, Arc<BodyFile>);

/// Puts the body in place, unless one with its digest is there already, and lets the key name it.
///
/// `None`: it was purged meanwhile.
pub(crate) fn settle(core: &Core, wish: &Wish, whole: &Whole) -> io::Result<Option<Stored>> {
    let Wish { key, meta, .. } = wish;
    let len = wish.len;
    let (digest, body) = match whole {
        Whole::Memory { chunks, .. } => {
            let body = joined(chunks);
            (Digest::of(&body), Some(body))
        }
        Whole::Part { digest, .. } => (*digest, None),
    };
    let small = body.clone().filter(|_| len <= SMALL_BODY);
    loop {
        let claim = claim(core, &digest);
        let mut placed = Placed {
            key,
            meta,
            digest,
            len,
            blocks: blocks_of(len),
            file: None,
            body: small.clone(),
            is_new: matches!(claim, Claim::Ours),
            verified: true,
            purged: wish.purged.as_deref(),
        };
        match &claim {
            Claim::Ours => {
                let placing = Placing(core, &digest);
                let mut made = 0;
                let put = place(core, whole, body.as_deref(), &digest, &mut made);
                // Once it can be found it can leave, and take folders along: they count before.
                core.count_folders(made);
                match put {
                    Ok((asked, file)) => {
                        placed.blocks = asked.unwrap_or(placed.blocks);
                        placed.file = file;
                    }
                    Err(e) => {
                        take_back(core, &digest);
                        return Err(e);
                    }
                }
                let admitted = core.admit(&placed);
                if matches!(admitted, Admitted::Purged) {
                    take_back(core, &digest);
                }
                drop(placing);
                match admitted {
                    Admitted::Found(hot) => return open(core, hot, placed.file).map(Some),
                    Admitted::Left | Admitted::Purged => return Ok(None),
                }
            }
            Claim::There { file, verified } => {
                placed.verified = *verified;
                match core.admit(&placed) {
                    Admitted::Found(hot) => {
                        core.counters.deduplicated_bytes.add(len);
                        return open(core, hot, Some(Arc::clone(file))).map(Some);
                    }
                    Admitted::Purged => return Ok(None),
                    // Its last name was taken away meanwhile, and its file with it.
                    Admitted::Left => {}
                }
            }
        }
    }
}

/// Whose the body with a digest is.
enum Claim {
    /// Nobody has it: the right to place it is ours.
    Ours,
    /// It is in place, and stays while the handle is held.
    There {
        file: Arc<BodyFile>,
        /// What is in place is known to be whole.
        verified: bool,
    },
}

/// The right to place a body; others wait for it to end, also where that is in disorder.
struct Placing<'a>(&'a Core, &'a Digest);

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        self.0.end_placing(self.1);
    }
}

/// Takes the right to place a body, or finds that one with its digest is in place. A body of an
/// earlier run is hashed before another key names it, and makes way for ours if it is damaged.
fn claim(core: &Core, digest: &Digest) -> Claim {
    loop {
        if core.begin_placing(digest) {
            return Claim::Ours;
        }
        if let Some((file, verified)) = core.check_in_place(digest) {
            return Claim::There { file, verified };
        }
        // It has just left; its file is being removed.
    }
}

/// The body's one handle, open unless all of it is in memory.
fn open(core: &Core, hot: Arc<Hot>, file: Option<Arc<BodyFile>>) -> io::Result<Stored> {
    let file = match file {
        Some(file) => file,
        None => lock(&core.state).pin(&core.disk, hot.slot, hot.id),
    };
    if hot.body.is_none() {
        file.open(core.root(), &hot.digest)?;
    }
    Ok((hot, file))
}

/// Removes what was put in place, or begun there, for nothing; and its folder, if nothing else is in
/// it. Errors stay unsaid: what stays has no name and is collected.
fn take_back(core: &Core, digest: &Digest) {
    match body::remove(core.root(), digest) {
        Ok(folders) => lock(&core.state).limits.lose_folders(folders),
        Err(error) => tracing::debug!(%error, "what was put in place for nothing stays"),
    }
}

/// The blocks of the file if they were asked for, and its handle if there is one.
type Put = (Option<u32>, Option<Arc<BodyFile>>);

/// Puts the body in place; `made` grows by the folders made for it, also where it fails.
fn place(
    core: &Core,
    whole: &Whole,
    body: Option<&[u8]>,
    digest: &Digest,
    made: &mut u64,
) -> io::Result<Put> {
    match whole {
        Whole::Memory { .. } => {
            write_new(core, body.unwrap_or_default(), digest, made)?;
            Ok((None, None))
        }
        Whole::Part { file, .. } => {
            let path = file
                .part_path()
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
            let held = file.file()?;
            let data = held.metadata()?;
            let asked = (data.len() >= ASK_BLOCKS)
                .then(|| u32::try_from((data.blocks() * 512).div_ceil(BLOCK)).unwrap_or(u32::MAX));
            // Delayed allocation may still add to what is reported now.
            let blocks = asked.map(|asked| asked.max(blocks_of(data.len())));
            body::place(&core.disk, &path, core.root(), digest, made)?;
            if core.is_full_durability() {
                body::sync_in_place(&core.disk, held, core.root(), digest)?;
            }
            Ok((blocks, Some(Arc::clone(file))))
        }
    }
}

/// Writes a body in its place: nothing finds it there before it is named, and what a crash leaves
/// there has no name. `made` grows by the folders made for it.
fn write_new(core: &Core, body: &[u8], digest: &Digest, made: &mut u64) -> io::Result<()> {
    let mut file = core.folders.create(&core.disk, core.root(), digest, made)?;
    core.disk.pass()?;
    file.write_all(body)?;
    if core.is_full_durability() {
        body::sync_in_place(&core.disk, &file, core.root(), digest)?;
    }
    Ok(())
}

/// A copy even of a single chunk: that may be a small part of a large network buffer, which the
/// hot cache would hold in whole.
fn joined(chunks: &[Bytes]) -> Bytes {
    let mut body = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        body.extend_from_slice(chunk);
    }
    body.freeze()
}
