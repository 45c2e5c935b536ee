//! What is told of objects, and of the cache as a whole.
//!
//! An object's line: `state` (`whole`, or `partial` as in [`crate::parts`]), `key`, `variant` (where its response varies), `url` (where it came from),
//! `mirror`, `extension`, `status`, `type`, `bytes`, `allocated`, `sha256`, `names` (keys of this
//! body), `uses`, `used`, `added`, `fetched` (unix seconds), and with `head=1` also `head`, a list
//! of pairs, `requested` (unix seconds) and `authorized` (the request carried credentials).

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use glob::{MatchOptions, Pattern};
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use larder_policy::url::Url;
use larder_store::{Digest, Fault, Object, Order, Snapshot, Store};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use crate::events::{self, Lines, Teller};
use crate::routes::Query;
use crate::sorted::{Named, Sorter};
use crate::{Admin, parts};

/// Entries of each list in `stats`.
const TOP: usize = 10;
/// Keys that are put in order at a time: what a list needs of memory.
const PAGE: usize = if cfg!(test) { 7 } else { 100_000 };
/// Mirrors and extensions that are told apart; the rest is one.
const GROUPS_MAX: usize = 10_000;

/// `GET /api/v1/status`.
pub(crate) fn status(admin: &Admin) -> Value {
    let about = &admin.about;
    let listeners: Vec<Value> = about
        .listeners
        .iter()
        .map(|(mode, address)| json!({"mode": mode, "address": address.to_string()}))
        .collect();
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    };
    json!({
        "version": about.version,
        "running": admin.wishes.is_some(),
        "pid": std::process::id(),
        "started": seconds(about.started),
        "uptime": about.since.elapsed().as_secs(),
        "listeners": listeners,
        "directory": about.directory.display().to_string(),
        "cache": cache(&admin.store.snapshot()),
    })
}

/// The store in numbers; everything in bytes, counts or unix seconds.
fn cache(snapshot: &Snapshot) -> Value {
    let faults: Map<String, Value> = Fault::ALL
        .iter()
        .map(|&fault| (fault.as_str().to_owned(), snapshot.faults_of(fault).into()))
        .collect();
    let rebuilding = snapshot.rebuild.0 < snapshot.rebuild.1;
    json!({
        "read_only": snapshot.read_only.as_deref(),
        "index_damaged": snapshot.index_damaged,
        "objects": snapshot.objects,
        "bodies": snapshot.bodies,
        "bytes": snapshot.content_bytes,
        "used": snapshot.used_bytes,
        "max": snapshot.max_bytes,
        "index": snapshot.index_bytes,
        "reserved": snapshot.reserved_bytes,
        "memory": snapshot.hot_bytes,
        "fills": snapshot.fills_active,
        "evictions": snapshot.evictions,
        "age": snapshot.age,
        "scrubbed": snapshot.scrubbed,
        "rebuilding": rebuilding.then(|| json!({"done": snapshot.rebuild.0, "of": snapshot.rebuild.1})),
        "faults": faults,
    })
}

/// What a walk looks for.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// On URL or store ID.
    pub(crate) pattern: Option<Matcher>,
    pub(crate) digest: Option<Digest>,
    /// Exactly this key, or a variant of it.
    pub(crate) keys: Vec<CacheKey>,
    /// Came from exactly this URL.
    pub(crate) url: Option<String>,
    /// Not used since these unix seconds.
    pub(crate) unused_since: Option<u64>,
}

/// A pattern with `*`, `?` or `[…]` that fits the whole, or a plain text that is in it.
#[derive(Debug)]
pub(crate) enum Matcher {
    Glob(Pattern),
    Text(String),
}

impl Matcher {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains(['*', '?', '[']) {
            return Pattern::new(text)
                .map(Self::Glob)
                .map_err(|error| format!("the pattern `{text}`: {error}"));
        }
        Ok(Self::Text(text.to_owned()))
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            // `*` stands for slashes too: `http://host/*` is everything of a host.
            Self::Glob(pattern) => pattern.matches_with(text, MatchOptions::new()),
            Self::Text(part) => text.contains(part.as_str()),
        }
    }
}

impl Filter {
    pub(crate) fn fits(&self, object: &Object) -> bool {
        let named = self.keys.is_empty() && self.url.is_none()
            || self.keys.contains(&object.key.base())
            || self.keys.contains(&object.key)
            || self.url.as_deref() == Some(object.meta.url());
        named
            && self.digest.is_none_or(|digest| digest == object.digest)
            && self
                .unused_since
                .is_none_or(|since| u64::from(object.used_at) < since)
            && self.pattern.as_ref().is_none_or(|pattern| {
                pattern.fits(object.meta.url()) || pattern.fits(object.key.subject())
            })
    }

    /// As [`Filter::fits`], of something that is not stored yet: what it has no digest or age for
    /// does not fit what asks for these.
    pub(crate) fn fits_fill(&self, key: &CacheKey, url: Option<&str>) -> bool {
        let named = self.keys.is_empty() && self.url.is_none()
            || self.keys.contains(&key.base())
            || self.keys.contains(key)
            || self.url.is_some() && self.url.as_deref() == url;
        named
            && self.digest.is_none()
            && self.unused_since.is_none()
            && self.pattern.as_ref().is_none_or(|pattern| {
                url.is_some_and(|url| pattern.fits(url)) || pattern.fits(key.subject())
            })
    }

    /// The few objects that can be told without a walk, if that is so.
    fn directly(&self, store: &Store) -> Option<Vec<Object>> {
        // A key's variants are listed nowhere: where it has some, all objects are looked at.
        let single = |key: &CacheKey| key.has_variant() || !store.varies(key);
        let exact = self.url.is_none() && !self.keys.is_empty() && self.keys.iter().all(single);
        exact
            .then(|| self.keys.iter().filter_map(|key| store.object(key)))
            .map(|found| found.filter(|object| self.fits(object)).collect())
    }

    /// Hands every object that fits to `each`, with progress in between, until it returns false.
    pub(crate) fn walk(
        &self,
        store: &Store,
        order: Order,
        teller: &mut Teller,
        mut each: impl FnMut(&mut Teller, Object) -> bool,
    ) {
        if let Some(found) = self.directly(store) {
            for object in found {
                if !each(teller, object) {
                    return;
                }
            }
            return;
        }
        let of = store.snapshot().objects;
        let mut seen = 0;
        store.walk(order, |object| {
            seen += 1;
            let heard = teller.progress(|| json!({"objects": seen, "of": of}));
            heard && (!self.fits(&object) || each(teller, object))
        });
    }
}

/// Reads keys as they are printed, or as the URL or store ID alone.
pub(crate) fn keys(texts: &[String]) -> Result<Vec<CacheKey>, String> {
    texts
        .iter()
        .map(|text| {
            CacheKey::from_text(text)
                .ok_or_else(|| format!("`{text}` is no key: write url:… or id:…"))
        })
        .collect()
}

pub(crate) fn digest(text: &str) -> Result<Digest, String> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    Digest::from_hex(hex).ok_or_else(|| format!("`{text}` is no SHA-256: write 64 hex digits"))
}

/// `GET /api/v1/objects`.
pub(crate) fn list(
    admin: &Arc<Admin>,
    place: OwnedSemaphorePermit,
    query: &Query,
) -> Result<Lines, String> {
    let filter = Filter {
        pattern: query.get("pattern").map(Matcher::parse).transpose()?,
        digest: query.get("digest").map(digest).transpose()?,
        keys: keys(&query.all("key"))?,
        url: query.get("url").map(str::to_owned),
        unused_since: None,
    };
    let order = match query.get("sort").unwrap_or("key") {
        "key" => None,
        "size" => Some(Order::Size),
        "uses" => Some(Order::Uses),
        "used" => Some(Order::Used),
        "added" => Some(Order::Added),
        "leaving" => Some(Order::Leaving),
        other => {
            return Err(format!(
                "`{other}` is no order: key, size, uses, used, added or leaving"
            ));
        }
    };
    let limit = match query.get("limit") {
        Some(text) => text.parse().map_err(|error| format!("`{text}`: {error}"))?,
        None => usize::MAX,
    };
    let head = query.get("head").is_some();
    let (mut teller, lines) = events::channel();
    let admin = Arc::clone(admin);
    tokio::task::spawn_blocking(move || {
        let store = &admin.store;
        let mut told = 0;
        if order == Some(Order::Leaving) {
            // What is not whole leaves before all that is.
            told += parts::tell(store, &filter, (limit, head), &mut teller);
        }
        let rest = limit - told;
        told += match order {
            Some(order) => in_order(store, &filter, order, (rest, head), &mut teller),
            None => by_key(store, &filter, (rest, head), &mut teller),
        };
        if order != Some(Order::Leaving) {
            told += parts::tell(store, &filter, (limit - told, head), &mut teller);
        }
        teller.say(&json!({"end": {"objects": told}}));
        drop(place);
    });
    Ok(lines)
}

fn in_order(
    store: &Store,
    filter: &Filter,
    order: Order,
    (limit, head): (usize, bool),
    teller: &mut Teller,
) -> usize {
    let mut told = 0;
    if limit == 0 {
        return 0;
    }
    filter.walk(store, order, teller, |teller, object| {
        told += 1;
        teller.say_among_many(&line(&object, head)) && told < limit
    });
    told
}

/// Names are on disk alone, and in no order: a walk gathers those that fit, without the rest of their
/// objects. Of a short list the first are gathered; some may have left by the time they are told.
fn by_key(
    store: &Store,
    filter: &Filter,
    (limit, head): (usize, bool),
    teller: &mut Teller,
) -> usize {
    let mut told = 0;
    if limit > PAGE {
        let mut sorter = Sorter::new(PAGE);
        filter.walk(store, Order::Any, teller, |_, object| {
            sorter.push(object.key);
            true
        });
        for object in sorter.into_sorted().filter_map(|key| store.object(&key)) {
            if told >= limit || !teller.say_among_many(&line(&object, head)) {
                break;
            }
            told += 1;
        }
        return told;
    }
    let mut after: Option<Named> = None;
    loop {
        let most = (limit - told).min(PAGE);
        let page = page(store, filter, after.as_ref(), most, teller);
        let is_last = page.len() < most || most == 0;
        for Named(key) in &page {
            let Some(object) = store.object(key) else {
                continue;
            };
            if !teller.say_among_many(&line(&object, head)) {
                return told;
            }
            told += 1;
        }
        after = page.into_iter().next_back();
        if is_last || told >= limit {
            return told;
        }
    }
}

/// The first so many keys after one of them.
fn page(
    store: &Store,
    filter: &Filter,
    after: Option<&Named>,
    most: usize,
    teller: &mut Teller,
) -> Vec<Named> {
    let mut first: BinaryHeap<Named> = BinaryHeap::new();
    filter.walk(store, Order::Any, teller, |_, object| {
        let named = Named(object.key);
        if after.is_none_or(|after| named > *after) {
            first.push(named);
        }
        if first.len() > most {
            first.pop();
        }
        true
    });
    first.into_sorted_vec()
}

/// `GET /api/v1/object`: what one key names, and by which fields its responses vary.
pub(crate) async fn one(admin: &Arc<Admin>, query: &Query) -> Result<Value, String> {
    let key = query.get("key").ok_or("say which key")?;
    let key = CacheKey::from_text(key).ok_or_else(|| format!("`{key}` is no key"))?;
    let vary = admin.store.vary(&key.base()).await.unwrap_or_default();
    let store = admin.store.clone();
    let found = tokio::task::spawn_blocking(move || store.object(&key)).await;
    let found = found.map_err(|error| error.to_string())?;
    Ok(json!({"object": found.map(|object| line(&object, true)), "vary": vary}))
}

fn line(object: &Object, head: bool) -> Value {
    let mut line = described(&object.key, &object.meta, head);
    if let Some(fields) = line.as_object_mut() {
        for (name, value) in [
            ("state", json!("whole")),
            ("bytes", json!(object.len)),
            ("allocated", json!(object.allocated)),
            ("sha256", json!(object.digest.to_string())),
            ("names", json!(object.names)),
            ("uses", json!(object.uses)),
            ("used", json!(object.used_at)),
            ("added", json!(object.added_at)),
        ] {
            fields.insert(name.to_owned(), value);
        }
    }
    line
}

/// What key and head say of an object; the whole head, if that is wanted.
pub(crate) fn described(key: &CacheKey, meta: &Meta, head: bool) -> Value {
    let (base, variant) = parts_of(key);
    let mut line = json!({
        "key": base,
        "url": meta.url(),
        "mirror": mirror(meta.url()),
        "extension": extension(meta.url()),
        "status": meta.status(),
        "type": text_of(meta, "content-type"),
        "fetched": meta.fetched().response_time.0,
    });
    if let (Some(variant), Some(fields)) = (variant, line.as_object_mut()) {
        fields.insert("variant".to_owned(), variant.into());
    }
    if let (true, Some(fields)) = (head, line.as_object_mut()) {
        let pairs: Vec<Value> = meta
            .headers()
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        fields.insert("head".to_owned(), pairs.into());
        let fetched = meta.fetched();
        fields.insert("requested".to_owned(), fetched.request_time.0.into());
        fields.insert("authorized".to_owned(), fetched.authorized.into());
    }
    line
}

/// A key's text without its variant, and the variant.
fn parts_of(key: &CacheKey) -> (String, Option<String>) {
    let whole = key.to_string();
    match whole.split_once('\n') {
        Some((base, variant)) => (base.to_owned(), Some(variant.to_owned())),
        None => (whole, None),
    }
}

fn text_of(meta: &Meta, name: &str) -> Option<String> {
    let value = meta.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// Host and port of a URL.
fn mirror(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default().to_owned()
}

/// What the last part of a URL's path ends in: what a user would call the kind of file.
fn extension(url: &str) -> String {
    let path = url.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let dotted = name.rsplit_once('.').filter(|(stem, end)| {
        let short = end.len() <= 8 && end.bytes().all(|b| b.is_ascii_alphanumeric());
        !stem.is_empty() && short && !end.bytes().all(|b| b.is_ascii_digit())
    });
    dotted.map_or_else(|| "none".to_owned(), |(_, end)| end.to_ascii_lowercase())
}

/// Objects and bytes of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    objects: u64,
    bytes: u64,
    uses: u64,
}

#[derive(Debug, Default)]
struct Groups(HashMap<String, Group>);

impl Groups {
    fn add(&mut self, name: String, object: &Object) {
        let known = self.0.len() < GROUPS_MAX || self.0.contains_key(&name);
        let name = if known { name } else { "others".to_owned() };
        let group = self.0.entry(name).or_default();
        group.objects += 1;
        group.bytes += object.len;
        group.uses += u64::from(object.uses);
    }

    fn top(self) -> Vec<Value> {
        let mut groups: Vec<_> = self.0.into_iter().collect();
        groups.sort_unstable_by(|(a, x), (b, y)| y.bytes.cmp(&x.bytes).then_with(|| a.cmp(b)));
        let top = groups.into_iter().take(TOP);
        top.map(|(name, group)| {
            json!({"name": name, "objects": group.objects, "bytes": group.bytes, "uses": group.uses})
        })
        .collect()
    }
}

/// `GET /api/v1/stats`.
pub(crate) fn stats(admin: &Arc<Admin>, place: OwnedSemaphorePermit) -> Lines {
    let (mut teller, lines) = events::channel();
    let admin = Arc::clone(admin);
    tokio::task::spawn_blocking(move || {
        let (mut extensions, mut mirrors) = (Groups::default(), Groups::default());
        let mut top = Vec::new();
        // In this order the first are the top by deliveries.
        Filter::default().walk(&admin.store, Order::Uses, &mut teller, |_, object| {
            if top.len() < TOP {
                top.push(line(&object, false));
            }
            extensions.add(extension(object.meta.url()), &object);
            mirrors.add(mirror(object.meta.url()), &object);
            true
        });
        let snapshot = admin.store.snapshot();
        let ratio =
            |part: u64, rest: u64| (part + rest > 0).then(|| part as f64 / (part + rest) as f64);
        let (hits, misses) = snapshot.lookups_ever;
        let (hit_bytes, fill_bytes) = snapshot.bytes_ever;
        teller.say(&json!({"stats": {
            "cache": cache(&snapshot),
            "lookups": {"hits": hits, "misses": misses, "ratio": ratio(hits, misses)},
            "delivered": {"hit_bytes": hit_bytes, "stored_bytes": fill_bytes, "ratio": ratio(hit_bytes, fill_bytes)},
            "partial": parts::sum(&admin.store),
            "saved_by_deduplication": snapshot.named_bytes - snapshot.content_bytes,
            "top": top,
            "extensions": extensions.top(),
            "mirrors": mirrors.top(),
        }}));
        drop(place);
    });
    lines
}

/// `GET /api/v1/bodies/DIGEST`: the bytes as they are on disk; the reader compares the digest.
pub(crate) async fn body(admin: &Arc<Admin>, text: &str) -> Option<Lines> {
    let digest = digest(text).ok()?;
    let store = admin.store.clone();
    let opened = tokio::task::spawn_blocking(move || store.open_body(&digest));
    let mut body = opened.await.ok()??;
    let (mut teller, lines) = events::channel();
    tokio::task::spawn_blocking(move || {
        // An end before the body's end is seen by its length and digest.
        while let Ok(Some(bytes)) = body.next_piece() {
            if !teller.bytes(bytes) {
                return;
            }
        }
    });
    Some(lines)
}

/// The normal form of a URL, as objects have it.
pub(crate) fn normal(text: &str) -> Result<String, String> {
    Url::parse(text)
        .map(|url| url.as_str().to_owned())
        .map_err(|error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_what_users_call_kinds_of_files() {
        for (url, wanted) in [
            ("http://h/a/x-1.2.x86_64.rpm", "rpm"),
            ("http://h/a/InRelease", "none"),
            ("http://h/repodata/abc-primary.xml.gz?x=.y", "gz"),
            ("http://h/dists/7.9", "none"),
            ("http://h/", "none"),
        ] {
            assert_eq!(extension(url), wanted, "{url}");
        }
    }

    #[test]
    fn a_pattern_fits_the_whole_and_plain_text_a_part() {
        let fits = |pattern: &str, text: &str| Matcher::parse(pattern).expect("good").fits(text);
        assert!(fits("http://h/*.rpm", "http://h/a/b/c.rpm"));
        assert!(!fits("http://h/*.rpm", "http://h/a.rpm.sig"));
        assert!(fits("a.rpm", "http://h/a.rpm.sig"));
        assert!(Matcher::parse("[").is_err());
    }
}
