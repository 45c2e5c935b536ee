//! What the cache holds under a key, and what a request for it would get now.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use larder_admin::parameter;
use larder_policy::cache_control::CacheControl;
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime, selecting_fields};
use larder_policy::verdict::{BeforeFetch, Rules, before_fetch};
use serde_json::{Value, json};

use super::Step;
use crate::commands::cache::{Access, Session, Which};
use crate::config::units::{show_duration, show_size};
use crate::config::{Settings, Sources};
use crate::output::{self, Failure};

/// Looks the key up: a running larder that has the cache is asked, a stopped cache is looked at.
pub(super) fn step(
    (which, settings): (&Which, &Settings),
    sources: &Sources,
    key: &CacheKey,
    asked: (&HeaderMap, Rules<'_>),
) -> Step {
    // A directory that is not there is not made.
    if which.socket.is_none() && !which.directory(settings, sources).exists() {
        return nothing();
    }
    match look_up(which, sources, key, asked.0) {
        Ok(Some(object)) => found(&object, asked),
        Ok(None) => nothing(),
        Err(why) => Step::new("cache", why.clone(), json!({"unknown": why})),
    }
}

fn nothing() -> Step {
    Step::new(
        "cache",
        "holds nothing under this key",
        json!({"held": false}),
    )
}

fn look_up(
    which: &Which,
    sources: &Sources,
    key: &CacheKey,
    headers: &HeaderMap,
) -> Result<Option<Value>, String> {
    let said = |failure: Failure| output::chain(&failure);
    let session = Session::open(which, sources, Access::Look).map_err(said)?;
    let ask = |key: &CacheKey| {
        let path = format!("/api/v1/object?{}", parameter("key", &key.to_string()));
        session.get(&path).map_err(said)
    };
    let looked = ask(key).and_then(|answer| {
        let names = answer["vary"].as_array().into_iter().flatten();
        let names: Vec<String> = names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        if names.is_empty() {
            return Ok(answer);
        }
        // As a request finds it: the fields by which answers differ choose the variant.
        ask(&key.with_variant(&selecting_fields(&names, headers)))
    });
    session.close();
    let mut looked = looked?;
    Ok(Some(looked["object"].take()).filter(|object| !object.is_null()))
}

/// The stored head, as the cache tells it.
fn meta(object: &Value) -> Option<Meta> {
    let mut headers = HeaderMap::new();
    for pair in object["head"].as_array()? {
        let name = HeaderName::from_bytes(pair.get(0)?.as_str()?.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_str(pair.get(1)?.as_str()?).ok()?);
    }
    let time = |name: &str| object[name].as_i64().map(UnixTime);
    let fetched = Fetched {
        url: object["url"].as_str()?.to_owned(),
        origin: None,
        request_time: time("requested")?,
        response_time: time("fetched")?,
        vary: Vec::new(),
        authorized: object["authorized"].as_bool()?,
    };
    let status = u16::try_from(object["status"].as_u64()?).ok()?;
    Some(Meta::new(status, headers, fetched))
}

fn found(object: &Value, (headers, rules): (&HeaderMap, Rules<'_>)) -> Step {
    let Some(meta) = meta(object) else {
        let why = "what is held cannot be understood";
        return Step::new("cache", why, json!({"unknown": why}));
    };
    let now = UnixTime::from(SystemTime::now());
    let control = CacheControl::of_request(headers);
    let verdict = before_fetch(&control, Some(&meta), rules, now);
    let (word, sense) = sense(verdict);
    let size = object["bytes"].as_u64().unwrap_or(0);
    let digest = object["sha256"].as_str().unwrap_or_default();
    let text = format!(
        "{} ({size} bytes), from {}, SHA-256 {digest}; a request now: {sense}",
        show_size(size),
        meta.url(),
    );
    let value = json!({
        "held": true,
        "bytes": size,
        "status": meta.status(),
        "from": meta.url(),
        "sha256": digest,
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
