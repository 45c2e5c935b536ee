//! The name under which a response is kept.
//!
//! Two namespaces that cannot meet: `url:` + normal form, and `id:` + store ID. A client that asks
//! for a store ID's own URL therefore neither hits nor fills the shared object. A response that
//! varies (RFC 9111 §4.1) is kept under its key plus a variant; GET and HEAD share entries.

use std::fmt::{self, Write as _};

use crate::url::Url;

/// Names one stored response: URL or store ID, and the variant where the origin's `Vary` asks
/// for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    text: String,
    variant: Option<String>,
}

impl CacheKey {
    /// The key of a URL that no store-ID rule maps.
    pub fn of_url(url: &Url) -> Self {
        Self {
            text: format!("url:{}", url.key_text()),
            variant: None,
        }
    }

    /// The key of everything that maps to `store_id`.
    pub fn of_store_id(store_id: &str) -> Self {
        Self {
            text: format!("id:{store_id}"),
            variant: None,
        }
    }

    /// Reads a key back from the form that [`CacheKey::to_string`] gives (store and command line).
    pub fn from_text(text: &str) -> Option<Self> {
        if !text.starts_with("url:") && !text.starts_with("id:") {
            return None;
        }
        Some(match text.split_once('\n') {
            Some((text, variant)) => Self {
                text: text.to_owned(),
                variant: Some(variant.to_owned()),
            },
            None => Self {
                text: text.to_owned(),
                variant: None,
            },
        })
    }

    /// The same key for one variant: `fields` are the request fields that `Vary` names, with the
    /// values that the request had (`None`: absent), in a fixed order.
    #[must_use]
    pub fn with_variant(&self, fields: &[(String, Option<Vec<u8>>)]) -> Self {
        let mut variant = String::new();
        for (name, value) in fields {
            variant.push_str(name);
            match value {
                Some(value) => {
                    variant.push('=');
                    for &byte in value {
                        if byte.is_ascii_graphic() && byte != b'%' && byte != b'&' {
                            variant.push(char::from(byte));
                        } else {
                            // Writing to a String cannot fail.
                            let _ = write!(variant, "%{byte:02X}");
                        }
                    }
                }
                None => variant.push('!'),
            }
            variant.push('&');
        }
        Self {
            text: self.text.clone(),
            variant: Some(variant),
        }
    }

    /// The key without its variant.
    #[must_use]
    pub fn base(&self) -> Self {
        Self {
            text: self.text.clone(),
            variant: None,
        }
    }

    /// True if several mirrors may share the entry.
    pub fn is_store_id(&self) -> bool {
        self.text.starts_with("id:")
    }

    /// The store ID or the URL: what refresh rules look at.
    pub fn subject(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, rest)| rest)
    }

    /// True for the key of one variant.
    pub fn has_variant(&self) -> bool {
        self.variant.is_some()
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.variant {
            Some(variant) => write!(f, "\n{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_id_and_the_url_of_the_same_text_are_different_keys() {
        let url = Url::parse("http://rpmcache.squid.internal/7/os/x86_64/a.rpm").unwrap();
        assert_ne!(CacheKey::of_url(&url), CacheKey::of_store_id(url.as_str()));
        assert_eq!(
            CacheKey::of_url(&url).subject(),
            CacheKey::of_store_id(url.as_str()).subject()
        );
    }

    #[test]
    fn keys_survive_their_text_form() {
        let base = CacheKey::of_store_id("http://x/a");
        let variant = base.with_variant(&[
            ("accept".into(), Some(b"a\n%".to_vec())),
            ("accept-language".into(), None),
        ]);
        for key in [base.clone(), variant.clone()] {
            assert_eq!(CacheKey::from_text(&key.to_string()), Some(key));
        }
        assert_eq!(variant.base(), base);
        assert_eq!(CacheKey::from_text("http://x/a"), None);
    }

    #[test]
    fn variants_differ_where_a_selecting_field_differs() {
        let base = CacheKey::of_store_id("x");
        let of =
            |value: Option<&[u8]>| base.with_variant(&[("a".into(), value.map(<[u8]>::to_vec))]);
        assert_ne!(of(None), of(Some(b"")));
        assert_ne!(of(Some(b"1")), of(Some(b"2")));
    }
}
