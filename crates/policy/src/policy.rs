//! The whole policy as one value: what a request is judged by from its first byte to its last.
//!
//! A reload builds a new value and swaps it in; requests under way end under the one that they
//! began with.

use crate::access::{AccessList, Facts};
use crate::class::Class;
use crate::key::CacheKey;
use crate::refresh::RefreshRules;
use crate::route::Routes;
use crate::store_id::StoreIds;
use crate::url::Url;

/// Whose rules decide about freshness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Semantics {
    /// Classes, refresh rules and RFC 9111, departing from Squid in listed points.
    #[default]
    Larder,
    /// Squid's algorithm, step for step: whether what is held is used or asked about, and which
    /// answers are kept. Larder's own remain: a client's reload asks with a condition; `Vary: *`
    /// is never kept; a package outlives its origin's errors.
    Squid,
}

/// Everything that decisions depend on.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who may ask for what.
    pub access: AccessList,
    /// Where requests go.
    pub routes: Routes,
    /// Which URLs are one object.
    pub store_ids: StoreIds,
    /// Which requests store-ID rules look at (`store_id_access`); `None`: all.
    pub store_id_access: Option<AccessList>,
    /// How long objects stay fresh.
    pub refresh: RefreshRules,
    /// Whose rules decide about freshness.
    pub semantics: Semantics,
    /// Which requests may be kept (`cache allow|deny`); `None`: all.
    pub cache_access: Option<AccessList>,
    /// Larger bodies are passed through and not kept, bytes.
    pub object_bytes_max: u64,
    /// Classes of which a range fetches the whole file; of others it fetches the blocks that it
    /// lies in.
    pub whole_for_ranges: Vec<Class>,
    /// Nothing is asked upstream: what is held is served, anything else is a 504.
    pub offline: bool,
}

/// What a URL is called inside: its cache key, and the rule that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// The key without variant.
    pub key: CacheKey,
    /// The store-ID rule that matched.
    pub rule: Option<usize>,
}

impl Policy {
    /// True if a range of a file of this class that is not held fetches the blocks that it lies in,
    /// not the whole.
    pub fn draws_blocks(&self, class: Class) -> bool {
        !self.whole_for_ranges.contains(&class)
    }

    /// The cache key of `url`: the first store-ID rule that matches, else the URL itself (of the
    /// canonical host where a mirror goes by several names).
    pub fn naming(&self, url: &Url, facts: &Facts<'_>) -> Naming {
        let looked_at = self
            .store_id_access
            .as_ref()
            .is_none_or(|list| list.decide(facts).allowed);
        if looked_at && let Some((rule, id)) = self.store_ids.rewrite(url) {
            return Naming {
                key: CacheKey::of_store_id(&id),
                rule: Some(rule),
            };
        }
        let key = match self.routes.canonical(url) {
            Some(canonical) => CacheKey::of_url(&canonical),
            None => CacheKey::of_url(url),
        };
        Naming { key, rule: None }
    }
}
