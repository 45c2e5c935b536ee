//! The forms in which heads and blobs are written down.
//!
//! Each record stands for itself: a magic word, its length and a checksum, then little-endian
//! fields. A head names its key, its body's digest and length, so that one found anywhere (in the
//! index, in the journal, in what is left of a damaged index) can be judged without anything
//! else; a reader that finds another key or digest than it looked for treats it as absent.
//!
//! ```text
//! record  = magic u32 | length of what follows u32 | crc32 of the payload u32 | payload
//! head    = digest 32 | body length u64 | key text | status u16 | request time i64 |
//!           response time i64 | authorized u8 | url text | vary count u16 { name, value? } |
//!           field count u16 { name, value } | origin text?
//! blob    = id u64 | digest 32 | len u64 | rank u64 | tick u64 | blocks u32 | uses u32 |
//!           used at u32 | added at u32 | key count u32 { hash 16 }
//! vary    = key hash 16 | names, a line each, and with `:` before it until when variants are invalid
//! ```

use http::{HeaderMap, HeaderName, HeaderValue};
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime};

use crate::digest::{Digest, KeyHash};
use crate::index::Blob;

/// Starts a head, version 1.
pub(crate) const HEAD_MAGIC: [u8; 4] = *b"lrH1";
/// Starts a blob, version 1.
pub(crate) const BLOB_MAGIC: [u8; 4] = *b"lrB1";
/// Starts what the responses of a key vary by, version 1.
const VARY_MAGIC: [u8; 4] = *b"lrV1";
/// Bytes before a record's payload.
pub(crate) const RECORD_PREFIX: usize = 12;
/// Longest payload that is believed: a head's fields are bounded by the proxy far below this.
pub(crate) const PAYLOAD_MAX: usize = 4 << 20;

/// Everything that is kept of an object beside its body.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) key: CacheKey,
    pub(crate) digest: Digest,
    pub(crate) len: u64,
    pub(crate) meta: Meta,
}

/// Writes a head as one record.
pub(crate) fn encode_head(key: &CacheKey, digest: &Digest, len: u64, meta: &Meta) -> Vec<u8> {
    let fetched = meta.fetched();
    let mut out = start(HEAD_MAGIC, 600);
    out.extend_from_slice(&digest.0);
    out.extend_from_slice(&len.to_le_bytes());
    put_bytes(&mut out, key.to_string().as_bytes());
    out.extend_from_slice(&meta.status().to_le_bytes());
    out.extend_from_slice(&fetched.request_time.0.to_le_bytes());
    out.extend_from_slice(&fetched.response_time.0.to_le_bytes());
    out.push(u8::from(fetched.authorized));
    put_bytes(&mut out, fetched.url.as_bytes());
    put_count(&mut out, fetched.vary.len());
    for (name, value) in &fetched.vary {
        put_bytes(&mut out, name.as_bytes());
        out.push(u8::from(value.is_some()));
        put_bytes(&mut out, value.as_deref().unwrap_or_default());
    }
    put_count(&mut out, meta.headers().len());
    for (name, value) in meta.headers() {
        put_bytes(&mut out, name.as_str().as_bytes());
        put_bytes(&mut out, value.as_bytes());
    }
    if let Some(origin) = &fetched.origin {
        put_bytes(&mut out, origin.as_bytes());
    }
    finish(out)
}

/// Reads a head; `None` if a single bit of it is not what was written.
pub(crate) fn decode_head(record: &[u8]) -> Option<Head> {
    let mut scan = Scan(payload(HEAD_MAGIC, record)?);
    let digest = Digest(scan.array()?);
    let len = u64::from_le_bytes(scan.array()?);
    let key = CacheKey::from_text(scan.text()?)?;
    let status = u16::from_le_bytes(scan.array()?);
    let request_time = UnixTime(i64::from_le_bytes(scan.array()?));
    let response_time = UnixTime(i64::from_le_bytes(scan.array()?));
    let authorized = scan.byte()? != 0;
    let url = scan.text()?.to_owned();
    let vary = (0..scan.count()?)
        .map(|_| {
            let name = scan.text()?.to_owned();
            let present = scan.byte()? != 0;
            let value = scan.bytes()?.to_vec();
            Some((name, present.then_some(value)))
        })
        .collect::<Option<Vec<_>>>()?;
    let fields = scan.count()?;
    let mut headers = HeaderMap::new();
    for _ in 0..fields {
        let name = HeaderName::from_bytes(scan.bytes()?).ok()?;
        let value = HeaderValue::from_bytes(scan.bytes()?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    // Earlier versions of larder ended here.
    let origin = match scan.0 {
        [] => None,
        _ => Some(scan.text()?.to_owned()),
    };
    let fetched = Fetched {
        url,
        origin,
        request_time,
        response_time,
        vary,
        authorized,
    };
    Some(Head {
        key,
        digest,
        len,
        meta: Meta::new(status, headers, fetched),
    })
}

/// Writes a blob and the keys that name it as one record.
pub(crate) fn encode_blob(blob: &Blob, keys: &[KeyHash]) -> Vec<u8> {
    let mut out = start(BLOB_MAGIC, 96 + keys.len() * 16);
    out.extend_from_slice(&blob.id.to_le_bytes());
    out.extend_from_slice(&blob.digest.0);
    for number in [blob.len, blob.rank, blob.tick] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [blob.blocks, blob.uses, blob.used_at, blob.added_at] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(keys.len() as u32).to_le_bytes());
    for key in keys {
        out.extend_from_slice(&key.0);
    }
    finish(out)
}

/// Reads a blob and its keys.
pub(crate) fn decode_blob(record: &[u8]) -> Option<(Blob, Vec<KeyHash>)> {
    let mut scan = Scan(payload(BLOB_MAGIC, record)?);
    let blob = Blob {
        id: u64::from_le_bytes(scan.array()?),
        digest: Digest(scan.array()?),
        len: u64::from_le_bytes(scan.array()?),
        rank: u64::from_le_bytes(scan.array()?),
        tick: u64::from_le_bytes(scan.array()?),
        blocks: u32::from_le_bytes(scan.array()?),
        uses: u32::from_le_bytes(scan.array()?),
        used_at: u32::from_le_bytes(scan.array()?),
        added_at: u32::from_le_bytes(scan.array()?),
        names: 0,
        flags: 0,
    };
    let count = u32::from_le_bytes(scan.array()?) as usize;
    if scan.0.len() != count.checked_mul(16)? {
        return None;
    }
    let keys = (0..count)
        .map(|_| scan.array().map(KeyHash))
        .collect::<Option<Vec<_>>>()?;
    Some((blob, keys))
}

/// Writes the field names that a key's responses vary by, and until when variants are invalid: a
/// line that no field name can be.
pub(crate) fn encode_names(key: &KeyHash, names: &[String], invalid_until: Option<i64>) -> Vec<u8> {
    let time = invalid_until.map(|time| format!(":{time}"));
    let lines: Vec<&str> = names.iter().chain(&time).map(String::as_str).collect();
    let mut out = start(VARY_MAGIC, 64);
    out.extend_from_slice(&key.0);
    put_bytes(&mut out, lines.join("\n").as_bytes());
    finish(out)
}

/// Reads them back.
pub(crate) fn decode_names(bytes: &[u8]) -> Option<(Vec<String>, Option<i64>)> {
    if bytes.starts_with(&VARY_MAGIC) {
        return decode_vary(bytes).map(|(_, names, until)| (names, until));
    }
    // Earlier versions wrote the lines alone.
    names_of(bytes)
}

/// As [`decode_names`], where no table says whose they are.
pub(crate) fn decode_vary(record: &[u8]) -> Option<(KeyHash, Vec<String>, Option<i64>)> {
    let mut scan = Scan(payload(VARY_MAGIC, record)?);
    let key = KeyHash(scan.array()?);
    let (names, until) = names_of(scan.bytes()?)?;
    Some((key, names, until))
}

fn names_of(lines: &[u8]) -> Option<(Vec<String>, Option<i64>)> {
    let text = std::str::from_utf8(lines).ok()?;
    if text.bytes().any(|b| b.is_ascii_control() && b != b'\n') {
        return None;
    }
    let (times, names): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with(':'));
    let time = times.first().and_then(|time| time[1..].parse().ok());
    Some((names.into_iter().map(str::to_owned).collect(), time))
}

/// The length of the whole record that starts with this prefix.
pub(crate) fn record_len(prefix: &[u8]) -> Option<usize> {
    let len = u32::from_le_bytes(prefix.get(4..8)?.try_into().ok()?) as usize;
    (len <= PAYLOAD_MAX).then_some(RECORD_PREFIX + len)
}

pub(crate) fn start(magic: [u8; 4], capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_PREFIX + capacity);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&[0; 8]);
    out
}

/// Fills in length and checksum.
pub(crate) fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let payload = &out[RECORD_PREFIX..];
    let len = (payload.len() as u32).to_le_bytes();
    let sum = crc32fast::hash(payload).to_le_bytes();
    out[4..8].copy_from_slice(&len);
    out[8..12].copy_from_slice(&sum);
    out
}

/// The payload of a whole record whose checksum agrees.
pub(crate) fn payload(magic: [u8; 4], record: &[u8]) -> Option<&[u8]> {
    if record.get(..4)? != magic || record_len(record)? != record.len() {
        return None;
    }
    let payload = record.get(RECORD_PREFIX..)?;
    let sum = u32::from_le_bytes(record.get(8..12)?.try_into().ok()?);
    (crc32fast::hash(payload) == sum).then_some(payload)
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u16).to_le_bytes());
}

/// Reads fields off the front; `None` where the bytes end too early.
pub(crate) struct Scan<'a>(pub(crate) &'a [u8]);

impl<'a> Scan<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*front)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn count(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Random, sample_meta};

    fn sample() -> (CacheKey, Digest, Meta) {
        let key = CacheKey::of_store_id("http://a/b").with_variant(&[("accept".into(), None)]);
        (key, Digest::of(b"body"), sample_meta("http://m/a"))
    }

    fn sample_blob() -> Blob {
        Blob {
            digest: Digest::of(b"body"),
            len: 4,
            id: 9,
            rank: 7,
            tick: 3,
            blocks: 1,
            uses: 2,
            used_at: 5,
            added_at: 4,
            names: 0,
            flags: 0,
        }
    }

    #[test]
    fn heads_and_blobs_read_back_as_they_were_written() {
        let (key, digest, meta) = sample();
        let head = decode_head(&encode_head(&key, &digest, 4, &meta)).expect("whole");
        assert_eq!((head.key, head.digest, head.len), (key, digest, 4));
        assert_eq!(head.meta, meta);
        let (blob, keys) = (sample_blob(), vec![KeyHash([1; 16]), KeyHash([2; 16])]);
        assert_eq!(decode_blob(&encode_blob(&blob, &keys)), Some((blob, keys)));
    }

    #[test]
    fn a_head_of_unknown_origin_reads_back_and_is_written_as_it_always_was() {
        let (key, digest, known) = sample();
        let fetched = Fetched {
            origin: None,
            ..known.fetched()
        };
        let unknown = Meta::new(known.status(), known.headers().clone(), fetched);
        let old = encode_head(&key, &digest, 4, &unknown);
        let head = decode_head(&old).expect("whole");
        assert_eq!((head.meta.origin(), &head.meta), (None, &unknown));
        // What is new stands behind all that was there, so that earlier versions can read it too.
        let new = encode_head(&key, &digest, 4, &known);
        assert_eq!(known.origin(), Some("http://m:80"));
        assert_eq!(new[RECORD_PREFIX..old.len()], old[RECORD_PREFIX..]);
        assert_eq!(new.len(), old.len() + 4 + "http://m:80".len());
        let mut cut = new.clone();
        cut.truncate(new.len() - 1);
        assert!(decode_head(&finish(cut)).is_none());
    }

    #[test]
    fn a_single_flipped_bit_anywhere_makes_a_record_unreadable() {
        let (key, digest, meta) = sample();
        let head = encode_head(&key, &digest, 4, &meta);
        let blob = encode_blob(&sample_blob(), &[KeyHash([1; 16])]);
        for at in 0..head.len() * 8 {
            let mut flipped = head.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode_head(&flipped).is_none(), "bit {at}");
        }
        for at in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode_blob(&flipped).is_none(), "bit {at}");
        }
    }

    #[test]
    fn names_read_back_also_as_they_once_were_written_and_soup_is_none_of_them() {
        let (key, names) = (KeyHash([3; 16]), vec!["accept".to_owned(), "x".to_owned()]);
        let whole = encode_names(&key, &names, Some(-7));
        let read = Some((names, Some(-7)));
        assert_eq!(decode_names(&whole), read);
        assert_eq!(decode_names(b"accept\nx\n:-7"), read);
        for at in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode_names(&flipped), None, "bit {at}");
        }
        let mut random = Random::new(12);
        for _ in 0..20_000 {
            let soup = random.below(40) as usize;
            let soup = random.bytes(soup);
            assert_eq!(decode_vary(&soup), None);
            if let Some((names, _)) = decode_names(&soup) {
                assert!(names.concat().bytes().all(|b| !b.is_ascii_control()));
            }
        }
    }

    #[test]
    fn byte_soup_under_a_right_checksum_is_refused_without_a_crash() {
        let mut random = Random::new(11);
        let (key, digest, meta) = sample();
        let whole = encode_head(&key, &digest, 4, &meta);
        for _ in 0..50_000 {
            let mut soup = start(HEAD_MAGIC, 0);
            let mut body = whole[RECORD_PREFIX..].to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(body.len() as u64) as usize;
                body[at] = random.next() as u8;
            }
            body.truncate(random.below(body.len() as u64 + 1) as usize);
            soup.extend_from_slice(&body);
            let _ = decode_head(&finish(soup));
            let len = random.below(200) as usize;
            let noise = random.bytes(len);
            assert!(decode_head(&noise).is_none() && decode_blob(&noise).is_none());
            let mut blob = start(BLOB_MAGIC, 0);
            blob.extend_from_slice(&noise);
            let _ = decode_blob(&finish(blob));
        }
    }
}
