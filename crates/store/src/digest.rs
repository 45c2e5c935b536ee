//! The two names that the store works with: a body's digest and a key's hash.
//!
//! A body is named by the SHA-256 of its bytes, because repository metadata carries SHA-256 too
//! and because cacache, whose content layout is kept, names it so. A cache key is named by the
//! first 16 bytes of its SHA-256: memory holds no key texts. Whoever reads a head compares the
//! key text in it, so that even two keys with one hash cannot be taken for each other.

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use larder_policy::key::CacheKey;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes a body that is wholly in memory.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Reads 64 hex digits, as [`fmt::Display`] writes them.
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let digits = std::str::from_utf8(pair).ok()?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Where the body lies below the cache directory: cacache's own content layout.
    pub fn content_path(&self) -> PathBuf {
        let mut path = self.content_folder();
        path.push('/');
        for &byte in self.0.iter().skip(2) {
            push_hex(&mut path, byte);
        }
        PathBuf::from(path)
    }

    /// The folder that it lies in, likewise.
    pub(crate) fn content_folder(&self) -> String {
        let mut path = String::with_capacity("content-v2/sha256".len() + 67);
        path.push_str("content-v2/sha256");
        for &byte in self.0.iter().take(2) {
            path.push('/');
            push_hex(&mut path, byte);
        }
        path
    }

    /// The folder's number among all of these.
    pub(crate) fn folder_number(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from_be_bytes([first, second])
    }

    /// The first eight bytes: uniformly spread, so a hash table needs no other hash.
    pub(crate) fn spread(&self) -> u64 {
        spread(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.0.iter().for_each(|&byte| push_hex(&mut text, byte));
        f.write_str(&text)
    }
}

fn push_hex(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    text.push(digit(byte >> 4));
    text.push(digit(byte & 15));
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{self}")
    }
}

/// The first 16 bytes of the SHA-256 of a cache key's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// Hashes a cache key.
    pub fn of(key: &CacheKey) -> Self {
        struct Sink(Sha256);
        impl fmt::Write for Sink {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.update(text.as_bytes());
                Ok(())
            }
        }
        let mut sink = Sink(Sha256::new());
        write!(sink, "{key}").expect("a sink that cannot fail");
        let whole: [u8; 32] = sink.0.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&whole[..16]);
        Self(half)
    }

    pub(crate) fn spread(&self) -> u64 {
        spread(&self.0)
    }
}

fn spread(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_hex_form_and_nothing_else_is_read() {
        let digest = Digest::of(b"larder");
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        for bad in ["", "12", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32)] {
            assert_eq!(Digest::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_and_its_variant_have_different_hashes() {
        let key = CacheKey::of_store_id("http://a/b");
        let variant = key.with_variant(&[("accept".into(), None)]);
        assert_ne!(KeyHash::of(&key), KeyHash::of(&variant));
    }
}
