//! What the cache holds under a key, and what a request for it would get now.

use std::path::Path;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use larder_policy::cache_control::CacheControl;
use larder_policy::key::CacheKey;
use larder_policy::meta::{UnixTime, selecting_fields};
use larder_policy::verdict::{BeforeFetch, Rules, before_fetch};
use larder_store::{Entry, OpenError, Store};
use serde_json::json;

use super::Step;
use crate::config::units::{show_duration, show_size};
use crate::config::{Settings, Sources};
use crate::output;
use crate::serve::{cache_directory, store_config};

/// Looks the key up, unless a server holds the cache.
pub(super) fn step(
    settings: &Settings,
    sources: &Sources,
    key: &CacheKey,
    asked: (&HeaderMap, Rules<'_>),
) -> Step {
    let directory = cache_directory(settings.cache.directory.as_deref(), sources.environment());
    match look_up(settings, &directory, key, asked.0) {
        Ok(Some(entry)) => found(&entry, asked),
        Ok(None) => Step::new(
            "cache",
            "holds nothing under this key",
            json!({"held": false}),
        ),
        Err(why) => Step::new("cache", why.clone(), json!({"unknown": why})),
    }
}

/// A directory that is not there is not made.
fn look_up(
    settings: &Settings,
    directory: &Path,
    key: &CacheKey,
    headers: &HeaderMap,
) -> Result<Option<Entry>, String> {
    if !directory.exists() {
        return Ok(None);
    }
    let store = match Store::open(store_config(settings, directory)) {
        Ok(store) => store,
        Err(OpenError::Held { .. }) => {
            return Err(format!(
                "{} is held by a running server: ask that",
                directory.display()
            ));
        }
        Err(error) => return Err(output::chain(&error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let entry = runtime.block_on(async {
        let entry = match store.vary(key).await {
            // As a request finds it: the fields by which answers differ choose the variant.
            Some(names) => {
                let fields = selecting_fields(&names, headers);
                store.lookup(&key.with_variant(&fields)).await
            }
            None => store.lookup(key).await,
        };
        store.close().await;
        entry
    });
    Ok(entry)
}

fn found(entry: &Entry, (headers, rules): (&HeaderMap, Rules<'_>)) -> Step {
    let now = UnixTime::from(SystemTime::now());
    let control = CacheControl::of_request(headers);
    let verdict = before_fetch(&control, Some(entry.meta()), rules, now);
    let (word, sense) = sense(verdict);
    let size = entry.len();
    let text = format!(
        "{} ({size} bytes), from {}, SHA-256 {}; a request now: {sense}",
        show_size(size),
        entry.meta().url(),
        entry.digest,
    );
    let value = json!({
        "held": true,
        "bytes": size,
        "status": entry.meta().status(),
        "from": entry.meta().url(),
        "sha256": entry.digest.to_string(),
        "verdict": word,
    });
    Step::new("cache", text, value)
}

fn sense(verdict: BeforeFetch) -> (&'static str, String) {
    match verdict {
        BeforeFetch::Hit(judged) => {
            let left = Duration::from_secs(u64::try_from(judged.ttl()).unwrap_or(0));
            ("hit", format!("hit, fresh for {}", show_duration(left)))
        }
        BeforeFetch::HitWhileAsking(_) => (
            "hit",
            "hit though stale; the origin is asked meanwhile (stale-while-revalidate)".to_owned(),
        ),
        BeforeFetch::Revalidate(why, _) => (
            "revalidate",
            format!("the origin is asked first ({})", why.as_str()),
        ),
        BeforeFetch::OfflineHit(_) => ("hit", "hit, since nothing is asked upstream".to_owned()),
        BeforeFetch::OnlyIfCached => (
            "only-if-cached",
            "504: the client wants no fetch".to_owned(),
        ),
        BeforeFetch::Miss | BeforeFetch::OfflineMiss => ("miss", "fetched".to_owned()),
    }
}
