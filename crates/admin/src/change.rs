//! What changes the cache: purging, auditing, importing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use larder_policy::headers::remove_hop_by_hop;
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime};
use larder_store::{Checked, Digest, Join, Object, Order, PartialAudit, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use crate::Admin;
use crate::events::{self, Lines};
use crate::objects::{self, Filter, Matcher};
use crate::routes::{self, Answer, Query};
use crate::variant::{self, Field};

/// The JSON line before an imported body may have this many bytes.
const HEAD_MAX: usize = 256 << 10;

/// What a purge takes: everything that fits all that is said. Something must be said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Purge {
    keys: Vec<String>,
    url: Option<String>,
    pattern: Option<String>,
    digest: Option<String>,
    /// Not delivered for these seconds.
    unused_for: Option<u64>,
    /// Only say what would go.
    dry_run: bool,
}

/// `POST /api/v1/purge`.
pub(crate) fn purge(
    admin: &Arc<Admin>,
    place: OwnedSemaphorePermit,
    asked: &Value,
) -> Result<Lines, String> {
    let asked = Purge::deserialize(asked).map_err(|error| error.to_string())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let filter = Filter {
        pattern: asked.pattern.as_deref().map(Matcher::parse).transpose()?,
        digest: asked.digest.as_deref().map(objects::digest).transpose()?,
        keys: objects::keys(&asked.keys)?,
        url: asked.url.as_deref().map(objects::normal).transpose()?,
        unused_since: asked.unused_for.map(|seconds| now.saturating_sub(seconds)),
    };
    let empty = asked.keys.is_empty() && asked.url.is_none() && asked.pattern.is_none();
    if empty && asked.digest.is_none() && asked.unused_for.is_none() {
        return Err("say what is to go: keys, url, pattern, digest or unused_for".to_owned());
    }
    let (mut teller, lines) = events::channel();
    let (admin, dry_run) = (Arc::clone(admin), asked.dry_run);
    tokio::task::spawn_blocking(move || {
        let mut gone = Gone::default();
        let store = &admin.store;
        if !dry_run {
            // What is under way now would be back right after.
            gone.fills = store.purge_fills(|key, url| filter.fits_fill(key, url));
        }
        filter.walk(store, Order::Any, &mut teller, |teller, object| {
            let bytes = if dry_run {
                Some(gone.would_free(&object))
            } else {
                store.purge(&object.key)
            };
            let Some(bytes) = bytes else {
                return true;
            };
            gone.objects += 1;
            gone.bytes += bytes;
            let removed = json!({"key": object.key.to_string(), "url": object.meta.url(), "bytes": object.len});
            teller.say_among_many(&json!({"removed": removed}))
        });
        teller.say(&json!({"done": {
            "objects": gone.objects,
            "bytes": gone.bytes,
            "fetches": gone.fills,
            "dry_run": dry_run,
        }}));
        drop(place);
    });
    Ok(lines)
}

/// What a purge takes away.
#[derive(Debug, Default)]
struct Gone {
    objects: u64,
    /// Of bodies that no key names any more.
    bytes: u64,
    fills: u64,
    /// Names that would go, of bodies that have several.
    names: HashMap<Digest, u32>,
}

impl Gone {
    /// Bytes that would leave with this object, after those before it.
    fn would_free(&mut self, object: &Object) -> u64 {
        if object.names > 1 {
            let names = self.names.entry(object.digest).or_default();
            *names += 1;
            if *names < object.names {
                return 0;
            }
        }
        object.len
    }
}

/// `POST /api/v1/verify`: ends where it is when nobody listens any more, and goes on there.
pub(crate) fn verify(admin: &Arc<Admin>, place: OwnedSemaphorePermit, query: &Query) -> Lines {
    let (mut teller, lines) = events::channel();
    let admin = Arc::clone(admin);
    let (anew, lost) = (query.get("anew").is_some(), query.get("lost").is_some());
    tokio::task::spawn_blocking(move || {
        if lost {
            for (key, url) in admin.store.lost() {
                teller.say(&json!({"lost": {"key": key.to_string(), "url": url}}));
            }
        }
        let ended = admin.store.verify(anew, |checked, progress| {
            let so_far = || {
                json!({
                    "bodies": progress.bodies,
                    "of": progress.bodies_total,
                    "bytes": progress.bytes,
                    "damaged": progress.damaged,
                })
            };
            let heard = teller.progress(so_far);
            match checked {
                Checked::Passed => heard,
                Checked::Damaged(damaged) => {
                    let objects: Vec<Value> = damaged
                        .objects
                        .iter()
                        .map(|(key, url)| json!({"key": key.to_string(), "url": url}))
                        .collect();
                    heard
                        && teller.say(&json!({"damaged": {
                            "sha256": damaged.digest.to_string(),
                            "fault": damaged.fault.as_str(),
                            "objects": objects,
                        }}))
                }
            }
        });
        let (mut parts, mut parts_heard) = (PartialAudit::default(), true);
        if let Ok(progress) = &ended
            && progress.bodies == progress.bodies_total
        {
            parts = admin.store.verify_partials(|parts| {
                let (bodies, of) = (progress.bodies, progress.bodies_total);
                let so_far = || json!({"bodies": bodies, "of": of, "blocks": parts.blocks});
                parts_heard = teller.progress(so_far);
                parts_heard
            });
        }
        let last = match ended {
            Ok(progress) => json!({"done": {
                "complete": progress.bodies == progress.bodies_total && parts_heard,
                "partial": {
                    "objects": parts.objects,
                    "blocks": parts.blocks,
                    "damaged": parts.damaged,
                },
                "bodies": progress.bodies,
                "of": progress.bodies_total,
                "bytes": progress.bytes,
                "damaged": progress.damaged,
                "unread": progress.unread + parts.unread,
                "nameless": progress.nameless,
            }}),
            Err(error) => json!({"error": error.to_string()}),
        };
        teller.say(&last);
        drop(place);
    });
    lines
}

/// `POST /api/v1/forget-lost`.
pub(crate) async fn forget_lost(admin: &Admin) -> Answer {
    let store = admin.store.clone();
    match tokio::task::spawn_blocking(move || store.forget_lost()).await {
        Ok(Ok(())) => routes::one(&json!({"good": true})),
        Ok(Err(error)) => routes::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(error) => routes::refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// What stands before the bytes of an imported object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arriving {
    /// Its key, as printed.
    key: String,
    url: String,
    bytes: u64,
    /// What the bytes must have; without it they are taken as they are.
    sha256: Option<String>,
    status: u16,
    /// Unix seconds at which the origin sent it.
    fetched: i64,
    head: Vec<(String, String)>,
    #[serde(default)]
    variant: Option<String>,
}

impl Arriving {
    fn key(&self) -> Option<CacheKey> {
        let text = match &self.variant {
            Some(variant) => format!("{}\n{variant}", self.key),
            None => self.key.clone(),
        };
        CacheKey::from_text(&text)
    }

    /// The request fields that chose this variant.
    fn fields(&self) -> Option<Vec<Field>> {
        match &self.variant {
            Some(variant) => variant::fields(variant),
            None => Some(Vec::new()),
        }
    }

    /// `None` for what is no answer that could be kept: of others nobody has the whole.
    fn meta(&self) -> Option<Meta> {
        if !(200..600).contains(&self.status) || matches!(self.status, 206 | 304) {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.head {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value).ok()?);
        }
        remove_hop_by_hop(&mut headers);
        headers.remove(http::header::CONTENT_RANGE);
        let time = UnixTime(self.fetched);
        let fetched = Fetched {
            url: objects::normal(&self.url).ok()?,
            origin: None,
            request_time: time,
            response_time: time,
            vary: self.fields()?,
            authorized: false,
        };
        Some(Meta::new(self.status, headers, fetched))
    }
}

/// `POST /api/v1/import`: `{"became": "stored" | "held" | …}`.
pub(crate) async fn import(admin: &Admin, mut body: Incoming) -> Answer {
    let mut read = BytesMut::new();
    let head = loop {
        if let Some(end) = read.iter().position(|&byte| byte == b'\n') {
            break read.split_to(end + 1);
        }
        match body.frame().await {
            Some(Ok(frame)) if read.len() < HEAD_MAX => {
                read.extend_from_slice(&frame.into_data().unwrap_or_default());
            }
            _ => {
                return routes::refused(
                    StatusCode::BAD_REQUEST,
                    "the line before the bytes is missing",
                );
            }
        }
    };
    let arriving: Arriving = match serde_json::from_slice(&head) {
        Ok(arriving) => arriving,
        Err(error) => return routes::refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let became = take(&admin.store, &arriving, read.freeze(), &mut body).await;
    // What was not wanted is read all the same: the connection goes on with the next request.
    while let Some(Ok(_)) = body.frame().await {}
    match became {
        Ok(became) => routes::one(&json!({"became": became})),
        Err(why) => routes::refused(StatusCode::UNPROCESSABLE_ENTITY, &why),
    }
}

async fn take(
    store: &Store,
    arriving: &Arriving,
    first: Bytes,
    body: &mut Incoming,
) -> Result<&'static str, String> {
    let key = arriving.key().ok_or("this is no key")?;
    let meta = arriving
        .meta()
        .ok_or("this is no head of an answer that could be stored")?;
    let wanted = arriving
        .sha256
        .as_deref()
        .map(objects::digest)
        .transpose()?;
    let names: Vec<String> = meta.vary().iter().map(|(name, _)| name.clone()).collect();
    if let Some(wanted) = wanted
        && is_held(store, &key, wanted).await
    {
        if key.has_variant() {
            store.remember_vary(&key.base(), names).await;
        }
        return Ok("held");
    }
    let Join::Lead(slot) = store.join(&key.base()) else {
        return Err("it is being fetched just now".to_owned());
    };
    let begun = slot.begin(meta, Some(arriving.bytes), key.clone()).await;
    let mut fill = begun.map_err(|error| error.to_string())?.for_nobody();
    let mut hasher = Sha256::new();
    let mut next = Some(first);
    while let Some(bytes) = next {
        hasher.update(&bytes);
        fill.write(bytes).await.map_err(|error| error.to_string())?;
        next = match body.frame().await {
            Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
            Some(Err(error)) => return Err(error.to_string()),
            None => None,
        };
    }
    let digest = Digest(hasher.finalize().into());
    if wanted.is_some_and(|wanted| wanted != digest) {
        return Err(format!("its SHA-256 is {digest}, not what was announced"));
    }
    // Its head is as of now all the same.
    let was_held = is_held(store, &key, digest).await;
    fill.commit().await.map_err(|error| error.to_string())?;
    if key.has_variant() {
        // As a request's look-up finds it: first by which fields responses differ.
        store.remember_vary(&key.base(), names).await;
    }
    Ok(if was_held { "held" } else { "stored" })
}

/// No client asks here: nothing is counted.
async fn is_held(store: &Store, key: &CacheKey, wanted: Digest) -> bool {
    let (store, key) = (store.clone(), key.clone());
    let held = tokio::task::spawn_blocking(move || store.object(&key)).await;
    matches!(held, Ok(Some(object)) if object.digest == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving(status: u16, head: &Value) -> Option<Meta> {
        let arriving = json!({"key": "url:http://h/a", "url": "http://h/a", "bytes": 1,
            "sha256": null, "status": status, "fetched": 1, "head": head});
        let arriving: Arriving = serde_json::from_value(arriving).expect("as imports send it");
        arriving.meta()
    }

    #[test]
    fn only_what_could_have_been_stored_is_taken_in() {
        for status in [0, 100, 199, 206, 304, 600, 999] {
            assert!(arriving(status, &json!([])).is_none(), "{status}");
        }
        assert!(arriving(404, &json!([])).is_some());
    }

    #[test]
    fn what_concerned_one_connection_does_not_arrive() {
        let head = json!([
            ["connection", "x-own"],
            ["x-own", "1"],
            ["transfer-encoding", "chunked"],
            ["proxy-authenticate", "Basic"],
            ["content-range", "bytes 0-0/1"],
            ["etag", "\"1\""]
        ]);
        let meta = arriving(200, &head).expect("good");
        let names: Vec<_> = meta.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["etag"]);
    }
}
