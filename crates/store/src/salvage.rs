//! What can be had from an index file that does not open.
//!
//! The records in it stand for themselves (magic, length, checksum, and each head names its key,
//! body and length), so they are found by looking at every byte: no page, tree or root of redb's
//! has to be whole. Old copies of a record may turn up beside its successor; of several heads for
//! one key the one with the newest response counts, and only those whose body is in place with
//! the right length. What is found is served after its body has been hashed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind::NotADirectory, ErrorKind::NotFound};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::body;
use crate::codec::{self, Head, PAYLOAD_MAX, RECORD_PREFIX};
use crate::core::{Core, now_u32};
use crate::counters::Fault;
use crate::digest::{Digest, KeyHash};
use crate::forgotten::Forgotten;
use crate::index::{Blob, SUSPECT, VERIFIED};
use crate::journal::Change;
use crate::lock;
use crate::room::{BLOCK, blocks_of};

/// Bytes looked at in one go; records that begin in them may reach beyond.
const WINDOW: usize = 8 << 20;
/// How often progress is said.
const SAY: Duration = Duration::from_secs(5);

/// Where a head lies in the damaged file, and when its response came. Not the head itself: a
/// million of them would be half a gigabyte.
#[derive(Clone, Copy, Debug)]
struct Place {
    time: i64,
    at: u64,
    len: u32,
}

/// Heads by key and heat by digest, as far as they can be read.
#[derive(Debug, Default)]
struct Found {
    heads: HashMap<KeyHash, Place>,
    vary: HashMap<KeyHash, (Vec<String>, Option<i64>)>,
    heat: HashMap<Digest, Blob>,
}

/// Reads everything that can be read out of a damaged index file into the store. Blocking; the
/// store serves meanwhile. Returns how many objects it has brought back; `None`: the store closes
/// before the end, and the next start begins anew with the same file.
pub(crate) fn salvage(core: &Core, damaged: &Path) -> io::Result<Option<u64>> {
    let Some(found) = scan(core, damaged)? else {
        return Ok(None);
    };
    tracing::info!(
        heads = found.heads.len(),
        "rebuilding the index from what is left of it"
    );
    for (key, (names, until)) in found.vary {
        core.change_vary(key, |vary| vary.restore(key, names, until));
    }
    let mut restored = 0;
    let mut said = Instant::now();
    let total = found.heads.len() as u64;
    let file = File::open(damaged)?;
    for (at, (hash, place)) in found.heads.into_iter().enumerate() {
        if core.is_stopping() {
            return Ok(None);
        }
        let mut record = vec![0; place.len as usize];
        if file.read_exact_at(&mut record, place.at).is_ok() {
            restored += u64::from(restore(core, hash, &Arc::from(record), &found.heat));
        }
        core.counters.rebuild(at as u64 + 1, total);
        if said.elapsed() >= SAY {
            tracing::info!(done = at + 1, of = total, restored, "rebuilding the index");
            said = Instant::now();
        }
    }
    if fs::remove_file(damaged).is_err() {
        // It would be salvaged again at every start.
        fs::rename(damaged, core.layout.hopeless_index())?;
    }
    *lock(&core.forgotten) = None;
    if let Err(e) = Forgotten::end(&core.layout.journal()) {
        core.counters.fault(Fault::Journal, &e);
    }
    Ok(Some(restored))
}

/// Finds out how much lies in place without a name; until then nothing is stored.
pub(crate) fn measure(core: &Core) {
    let Some(bytes) = core.layout.content_bytes(|| !core.is_stopping()) else {
        return;
    };
    {
        let mut state = lock(&core.state);
        state.limits.unnamed_bytes = bytes.saturating_sub(state.index.allocated());
    }
    core.measure_disk();
}

/// `None`: the store closes before the end, and what was found is not all.
fn scan(core: &Core, damaged: &Path) -> io::Result<Option<Found>> {
    let file = File::open(damaged)?;
    let len = file.metadata()?.len();
    let mut found = Found::default();
    let mut window = vec![0; WINDOW + RECORD_PREFIX + PAYLOAD_MAX];
    let mut at = 0;
    while at < len {
        if core.is_stopping() {
            return Ok(None);
        }
        let want = usize::try_from(len - at).map_or(window.len(), |left| left.min(window.len()));
        let Some(bytes) = window.get_mut(..want) else {
            break;
        };
        if file.read_exact_at(bytes, at).is_err() {
            let lost = read_what_can_be(&file, bytes, at);
            core.counters.fault(
                Fault::Index,
                &format_args!("{lost} bytes of the damaged index cannot be read"),
            );
        }
        look_through(bytes, at, WINDOW, &mut found);
        at += WINDOW as u64;
    }
    // A stop from here on finds the list of names whole.
    Ok(Some(found))
}

/// Reads a part of a file page by page; what cannot be read is left zero. Returns how much that is.
fn read_what_can_be(file: &File, bytes: &mut [u8], mut at: u64) -> usize {
    let mut lost = 0;
    for page in bytes.chunks_mut(BLOCK as usize) {
        if file.read_exact_at(page, at).is_err() {
            page.fill(0);
            lost += page.len();
        }
        at += page.len() as u64;
    }
    lost
}

/// Takes every whole record that begins in the first `most` bytes.
fn look_through(bytes: &[u8], offset: u64, most: usize, found: &mut Found) {
    let starts = bytes.windows(3).take(most).enumerate();
    for (at, _) in starts.filter(|(_, start)| matches!(*start, b"lrH" | b"lrB" | b"lrV")) {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(record) = codec::record_len(rest).and_then(|len| rest.get(..len)) else {
            continue;
        };
        if let Some(head) = codec::decode_head(record) {
            let time = head.meta.fetched().response_time.0;
            let key = KeyHash::of(&head.key);
            let place = Place {
                time,
                at: offset + at as u64,
                len: record.len() as u32,
            };
            if found.heads.get(&key).is_none_or(|held| held.time <= time) {
                found.heads.insert(key, place);
            }
        } else if let Some((key, names, until)) = codec::decode_vary(record) {
            // Of several copies the newest says most of what is invalid.
            let held = found.vary.entry(key).or_default();
            if held.1 <= until {
                *held = (names, until);
            }
        } else if let Some((blob, _)) = codec::decode_blob(record) {
            let newer = found
                .heat
                .get(&blob.digest)
                .is_none_or(|held| held.tick <= blob.tick);
            if newer {
                found.heat.insert(blob.digest, blob);
            }
        }
    }
}

/// Brings one object back, if nothing newer has its key and its body is in place.
fn restore(core: &Core, hash: KeyHash, record: &Arc<[u8]>, heat: &HashMap<Digest, Blob>) -> bool {
    let Some(Head { digest, len, .. }) = codec::decode_head(record) else {
        return false;
    };
    loop {
        // Held, nobody removes the file between the look at it and its being named.
        let placing = core.begin_placing(&digest);
        let data = fs::metadata(core.root().join(digest.content_path()));
        let whole = data.is_ok_and(|data| data.len() == len);
        let named = if whole || !placing {
            name(core, hash, (record, digest, len), heat, placing)
        } else {
            Some(false)
        };
        if placing {
            core.end_placing(&digest);
        }
        if let Some(named) = named {
            return named;
        }
    }
}

/// `None`: the body that was there has left.
fn name(
    core: &Core,
    hash: KeyHash,
    (record, digest, len): (&Arc<[u8]>, Digest, u64),
    heat: &HashMap<Digest, Blob>,
    placing: bool,
) -> Option<bool> {
    let mut journal = lock(&core.journal);
    {
        let state = lock(&core.state);
        let forgotten = lock(&core.forgotten);
        if state.index.get(&hash).is_some() || forgotten.as_ref().is_some_and(|it| it.has(&hash)) {
            return Some(false);
        }
        if !placing && state.index.by_digest(&digest).is_none() {
            return None;
        }
    }
    let blocks = heat
        .get(&digest)
        .map_or_else(|| blocks_of(len), |blob| blob.blocks);
    let change = Change::Admit {
        head: Arc::clone(record),
        blocks,
    };
    core.write_down(&mut journal, &[change]);
    let mut state = lock(&core.state);
    let named = state.index.admit(hash, digest, (len, blocks), now_u32());
    let (slot, id) = (named.slot, named.id);
    if placing {
        state.index.clear_flag(slot, id, VERIFIED);
        state.index.set_flag(slot, id, SUSPECT);
        if let Some(blob) = heat.get(&digest) {
            state.index.warm_up(slot, id, blob);
        }
        state.limits.lose_unnamed(u64::from(blocks) * BLOCK);
    }
    state.pending.note_named(hash, Arc::clone(record), &named);
    if let Some(displaced) = &named.displaced {
        core.hot.remove(displaced);
    }
    Some(true)
}

/// Removes bodies that no name leads to: what a crash left between a body's placing and its
/// naming, or what a damaged index cannot name any more. Returns how many bytes that were.
pub(crate) fn collect_orphans(core: &Core) -> io::Result<u64> {
    let mut bytes = 0;
    for first in fs::read_dir(core.layout.content())? {
        for second in listed(&first?.path())? {
            let second = second?.path();
            for file in listed(&second)? {
                if core.is_stopping() {
                    return Ok(bytes);
                }
                // One that cannot be removed keeps no other.
                match collect(core, &file?.path()) {
                    Ok(freed) => bytes += freed,
                    Err(e) => core.counters.fault(Fault::Remove, &e),
                }
            }
            // Nobody else removes a folder that was empty when this run began.
            let gone = body::remove_folder(&second);
            lock(&core.state).limits.lose_folders(gone);
        }
    }
    // What is in place now has a name.
    lock(&core.state).limits.unnamed_bytes = 0;
    Ok(bytes)
}

/// A folder's entries; none if it went with the last of its bodies meanwhile, or is a file that
/// somebody has put there.
fn listed(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        Err(e) if matches!(e.kind(), NotFound | NotADirectory) => Ok(None.into_iter().flatten()),
        Err(e) => Err(e),
    }
}

fn collect(core: &Core, path: &Path) -> io::Result<u64> {
    let names: Vec<_> = path
        .iter()
        .rev()
        .take(3)
        .filter_map(|part| part.to_str())
        .collect();
    let [rest, second, first] = names[..] else {
        return Ok(0);
    };
    let Some(digest) = Digest::from_hex(&format!("{first}{second}{rest}")) else {
        return Ok(0);
    };
    // The right to place is the right to remove: nobody puts this body in place meanwhile.
    if !core.begin_placing(&digest) {
        return Ok(0);
    }
    let bytes = crate::layout::allocated(path);
    let removed = body::remove(core.root(), &digest);
    {
        let mut state = lock(&core.state);
        if let Ok(folders) = &removed {
            state.limits.lose_folders(*folders);
            state.limits.lose_unnamed(bytes);
        }
    }
    core.end_placing(&digest);
    removed.map(|_folders| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Random, sample_meta};
    use larder_policy::key::CacheKey;

    #[test]
    fn records_are_found_among_garbage_and_of_two_heads_the_newer_counts() {
        let mut random = Random::new(9);
        let key = CacheKey::of_store_id("http://a/b");
        let head = |body: &[u8]| codec::encode_head(&key, &Digest::of(body), 4, &sample_meta("u"));
        let mut bytes = random.bytes(5_000);
        bytes.extend(head(b"old1"));
        bytes.extend(random.bytes(777));
        bytes.extend(head(b"new1"));
        let mut torn = head(b"torn");
        torn.truncate(60);
        bytes.extend(torn);
        let mut found = Found::default();
        look_through(&bytes, 100, bytes.len(), &mut found);
        assert_eq!(found.heads.len(), 1);
        let place = found.heads.values().next().expect("one");
        let at = (place.at - 100) as usize;
        let record = &bytes[at..at + place.len as usize];
        assert_eq!(
            codec::decode_head(record).expect("whole").digest,
            Digest::of(b"new1")
        );
    }
}
