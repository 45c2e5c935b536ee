//! What changes the cache: purging, auditing, importing.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime};
use larder_store::{Checked, Digest, Join, Order, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Admin;
use crate::events::{self, Lines};
use crate::objects::{self, Filter, Matcher};
use crate::routes::{self, Answer};

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
pub(crate) fn purge(admin: &Arc<Admin>, asked: &Value) -> Result<Lines, String> {
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
    let admin = Arc::clone(admin);
    tokio::task::spawn_blocking(move || {
        let (mut objects, mut bytes) = (0_u64, 0_u64);
        let store = &admin.store;
        filter.walk(store, Order::Any, &mut teller, |teller, object| {
            if asked.dry_run || store.remove(&object.key) {
                objects += 1;
                bytes += object.len;
                let removed = json!({"key": object.key.to_string(), "url": object.meta.url(), "bytes": object.len});
                return teller.say_among_many(&json!({"removed": removed}));
            }
            true
        });
        teller
            .say(&json!({"done": {"objects": objects, "bytes": bytes, "dry_run": asked.dry_run}}));
    });
    Ok(lines)
}

/// `POST /api/v1/verify`: ends where it is when nobody listens any more, and goes on there.
pub(crate) fn verify(admin: &Arc<Admin>, anew: bool) -> Lines {
    let (mut teller, lines) = events::channel();
    let admin = Arc::clone(admin);
    tokio::task::spawn_blocking(move || {
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
        let last = match ended {
            Ok(progress) => json!({"done": {
                "complete": progress.bodies == progress.bodies_total,
                "bodies": progress.bodies,
                "of": progress.bodies_total,
                "bytes": progress.bytes,
                "damaged": progress.damaged,
                "unread": progress.unread,
            }}),
            Err(error) => json!({"error": error.to_string()}),
        };
        teller.say(&last);
    });
    lines
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

    fn meta(&self) -> Option<Meta> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.head {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            headers.append(name, HeaderValue::from_str(value).ok()?);
        }
        let time = UnixTime(self.fetched);
        let fetched = Fetched {
            url: objects::normal(&self.url).ok()?,
            request_time: time,
            response_time: time,
            vary: Vec::new(),
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
    let meta = arriving.meta().ok_or("this is no head")?;
    let wanted = arriving
        .sha256
        .as_deref()
        .map(objects::digest)
        .transpose()?;
    if let (Some(wanted), Some(held)) = (wanted, store.lookup(&key).await)
        && held.digest == wanted
    {
        return Ok("held");
    }
    let Join::Lead(slot) = store.join(&key.base()) else {
        return Err("it is being fetched just now".to_owned());
    };
    let begun = slot.begin(meta, Some(arriving.bytes), key).await;
    let mut fill = begun.map_err(|error| error.to_string())?;
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
    fill.commit().await.map_err(|error| error.to_string())?;
    Ok("stored")
}
