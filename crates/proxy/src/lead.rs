//! The fetch that fills: spawned here and nowhere else, so that it outlives the client that caused
//! it. A fill that has begun runs to its end even when every client has gone, since the next client
//! will want the object and the bytes have been paid for; only an answer that is not to be kept
//! ends with its client.
//!
//! The task owns the slot. Whatever ends it early (an error, a panic) drops the slot or the fill,
//! which counts as failed: followers then compete for one new lead.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, SET_COOKIE};
use larder_policy::framing::Framing;
use larder_policy::freshness::Judgement;
use larder_policy::headers::remove_hop_by_hop;
use larder_policy::key::CacheKey;
use larder_policy::meta::{Fetched, Meta, UnixTime, is_authorized};
use larder_policy::part::{Span, is_resumable};
use larder_policy::reason::{NotStored, Pass};
use larder_policy::validator::{confirms, refreshed, remove_conditions};
use larder_policy::verdict::{
    AfterConfirmation, AfterFetch, Answer, OnError, after_confirmation, after_fetch,
};
use larder_store::{Entry, Fill, FillError, Join, Opening, Slot, Tail};
use tokio::sync::oneshot;

use crate::asked::Asked;
use crate::dropped;
use crate::fetch::fetch;
use crate::origin::{Arrived, OriginError, Outgoing};
use crate::record::Hierarchy;
use crate::supply::Supply;
use crate::{draw, parts};

/// Told to followers of a revalidation that failed: use what you hold.
pub(crate) const KEPT_STALE: &str = "kept-stale";
/// The same where no origin answered at all.
pub(crate) const KEPT_UNANSWERED: &str = "kept-unanswered";
/// Told to followers when no origin answered, with the status that each of their clients gets:
/// they do not all try again at once what has just failed.
const FAILED: [(u16, &str); 3] = [
    (502, "origin-failed-502"),
    (503, "origin-failed-503"),
    (504, "origin-failed-504"),
];

/// The word for a failure; a refusal by address rules is each client's own and has none.
pub(crate) fn failed_word(status: u16) -> &'static str {
    let found = FAILED.iter().find(|(failed, _)| *failed == status);
    found.map_or("origin-refused", |(_, word)| word)
}

/// The status that a word stands for.
pub(crate) fn failed_status(word: &str) -> Option<u16> {
    FAILED
        .iter()
        .find(|(_, failed)| *failed == word)
        .map(|(status, _)| *status)
}

/// What is held while it is asked about.
#[derive(Clone, Debug)]
pub(crate) struct InHand {
    pub(crate) entry: Entry,
    pub(crate) judged: Judgement,
}

/// What a lead came to, told to the client that caused it as soon as the head is known.
#[derive(Debug)]
pub(crate) enum Led {
    /// The body is on its way into the store.
    Filling(Tail, Source),
    /// 304: what is held is good again.
    Refreshed(Entry, Source),
    /// The revalidation failed; what is held is used.
    KeptStale(Source),
    /// The answer is not kept.
    Passed(Box<Arrived>, NotStored),
    /// No origin answered.
    Failed(OriginError),
    /// No origin answered another client that was asking for the same: this status.
    FailedForAll(u16),
    /// A part cannot be kept: everybody on their own.
    Alone(Pass),
    /// This part is not kept; its client may have of it what it asked for.
    Unkept(Box<Arrived>, Span),
    /// What was held is gone: begin again.
    Again,
}

/// Where an answer came from, for the record.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) hierarchy: Hierarchy,
    pub(crate) mirror: Option<String>,
    pub(crate) status: Option<u16>,
    /// What is for the client that caused the fetch and nobody after it.
    pub(crate) cookies: Vec<HeaderValue>,
    /// Another client's fetch brings it.
    pub(crate) is_followed: bool,
    /// Where the body goes on for that client if it grows too large to be kept.
    pub(crate) onward: Option<oneshot::Receiver<Onward>>,
}

/// The rest of a body that is kept no longer.
#[derive(Debug)]
pub(crate) struct Onward {
    /// What has come and was not kept.
    pub(crate) ahead: Bytes,
    /// What is still to come.
    pub(crate) arrived: Arrived,
}

impl Source {
    /// Nobody was asked for this client.
    pub(crate) fn nobody() -> Self {
        Self {
            hierarchy: Hierarchy::None,
            mirror: None,
            status: None,
            cookies: Vec::new(),
            is_followed: false,
            onward: None,
        }
    }

    /// Others were asked, by other clients.
    pub(crate) fn others() -> Self {
        Self {
            is_followed: true,
            ..Self::nobody()
        }
    }

    pub(crate) fn of(arrived: &Arrived) -> Self {
        Self {
            hierarchy: arrived.hierarchy.clone(),
            mirror: arrived.mirror.clone(),
            status: Some(arrived.response.status().as_u16()),
            cookies: arrived
                .response
                .headers()
                .get_all(SET_COOKIE)
                .iter()
                .cloned()
                .collect(),
            is_followed: false,
            onward: None,
        }
    }
}

/// Asks the origin whether `held` is still good while clients are served from it.
pub(crate) fn in_background(asked: &Asked, held: InHand) {
    let asked = asked.clone();
    tokio::spawn(async move {
        let key = crate::hit::key(&asked).await;
        if let Join::Lead(slot) = asked.shared.store.join_since(&key, Some(&held.entry)) {
            // Nobody waits for what it comes to.
            drop(lead(&asked, slot, Some(held)).await);
        }
    });
}

/// Spawns the fetch for `slot` and waits for its head.
pub(crate) async fn lead(asked: &Asked, slot: Slot, in_hand: Option<InHand>) -> Led {
    let (tell, told) = oneshot::channel();
    tokio::spawn(run(asked.clone(), slot, in_hand, tell));
    // The sender is dropped unused only if the task panicked.
    told.await.unwrap_or(Led::Again)
}

async fn run(asked: Asked, slot: Slot, in_hand: Option<InHand>, tell: oneshot::Sender<Led>) {
    let outgoing = |at: &Asked| {
        let outgoing = Outgoing::get(fill_fields(at));
        match &in_hand {
            Some(held) => outgoing.about(Arc::clone(held.entry.meta())),
            None => outgoing,
        }
    };
    let led = match fetch(&asked, outgoing).await {
        Ok((asked, arrived)) => match &in_hand {
            Some(held) if arrived.response.status() == 304 => {
                refresh(&asked, slot, held, arrived).await
            }
            Some(held) if keeps_stale(&asked, held, Some(&arrived)) => {
                slot.release(KEPT_STALE);
                Led::KeptStale(Source::of(&arrived))
            }
            _ => return Box::pin(store(&asked, slot, arrived, tell)).await,
        },
        Err(error) => match &in_hand {
            Some(held) if keeps_stale(&asked, held, None) => {
                crate::reply::log_failure(asked.url.as_str(), &error);
                slot.release(KEPT_UNANSWERED);
                let hierarchy = error.hierarchy();
                Led::KeptStale(Source {
                    hierarchy,
                    ..Source::nobody()
                })
            }
            _ => {
                slot.release(failed_word(error.status()));
                Led::Failed(error)
            }
        },
    };
    // The client may have gone; there is nobody else to tell.
    drop(tell.send(led));
}

/// The fields of a request that fills: the client's own conditions and ranges are answered from
/// what is stored.
pub(crate) fn fill_fields(asked: &Asked) -> HeaderMap {
    let mut headers = asked.headers.clone();
    remove_conditions(&mut headers);
    if asked.class.is_package() {
        // One body for all clients, whatever encodings this one takes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

pub(crate) fn keeps_stale(asked: &Asked, held: &InHand, arrived: Option<&Arrived>) -> bool {
    let status = arrived.map(|arrived| arrived.response.status().as_u16());
    status != Some(200) && asked.on_error(held.judged, status) == OnError::ServeStale
}

/// RFC 9111 §4.3.4: the stored head takes the 304's fields.
pub(crate) async fn refresh(asked: &Asked, slot: Slot, held: &InHand, arrived: Arrived) -> Led {
    let source = Source::of(&arrived);
    let (parts, fetched) = head_of(asked, &arrived);
    arrived.finish();
    if !confirms(held.entry.meta(), &parts, &fetched) {
        // It speaks of another version: the copy is not confirmed and not usable either. It leaves
        // while the slot is held, or another lead's newer one could be meant.
        asked.shared.store.remove(held.entry.key()).await;
        drop(slot);
        return Led::Again;
    }
    let meta = refreshed(held.entry.meta(), &parts, fetched);
    let (length, key) = (held.entry.len(), held.entry.key());
    match after_confirmation(&meta, length, &asked.headers, key, asked.rules()) {
        AfterConfirmation::Renewed => match slot.refresh(meta).await {
            Some(entry) => Led::Refreshed(entry, source),
            None => Led::Again,
        },
        verdict => {
            if verdict == AfterConfirmation::Gone {
                asked.shared.store.remove(key).await;
            }
            // It is good for who asked, and says nothing to those who wait with it.
            slot.release(Pass::NotShared.as_str());
            Led::Refreshed(held.entry.clone(), source)
        }
    }
}

/// End-to-end fields of an answer, and where and when it was fetched.
pub(crate) fn head_of(asked: &Asked, arrived: &Arrived) -> (HeaderMap, Fetched) {
    let mut headers = arrived.response.headers().clone();
    remove_hop_by_hop(&mut headers);
    let fetched = Fetched {
        url: asked.url.as_str().to_owned(),
        origin: Some(arrived.speaker.clone()),
        request_time: arrived.request_time,
        response_time: arrived.response_time,
        vary: Vec::new(),
        authorized: is_authorized(&asked.headers),
    };
    (headers, fetched)
}

/// A new body: kept if the verdict says so and the store has room, passed on otherwise.
pub(crate) async fn store(asked: &Asked, slot: Slot, arrived: Arrived, tell: oneshot::Sender<Led>) {
    let (headers, fetched) = head_of(asked, &arrived);
    let length = arrived.length();
    let status = arrived.response.status().as_u16();
    let answer = Answer {
        status,
        headers: &headers,
        length,
    };
    let framed = length.is_some() || arrived.framing == Framing::Chunked;
    let (meta, key) = match admitted(asked, answer, fetched).await {
        Ok(kept) if framed => kept,
        Ok(_) => return pass(slot, arrived, NotStored::Unframed, tell),
        Err(why) => {
            if status == 200 {
                asked.shared.unkept.note_refusal(asked, why);
            }
            return pass(slot, arrived, why, tell);
        }
    };
    let source = Source::of(&arrived);
    // Beside parts that may be gone on with later it is no run of theirs.
    let in_parts = is_resumable(&meta) && !parts::are_held(asked, &key);
    let begun = match length.filter(|_| in_parts) {
        Some(length) => {
            let origin = arrived.to.label();
            let opening = Opening {
                meta,
                length,
                origin,
            };
            slot.begin_resumable(opening, key).await
        }
        None => slot.begin(meta, length, key).await,
    };
    match begun {
        Ok(fill) => {
            let (onward, goes_on) = oneshot::channel();
            let source = Source {
                onward: Some(goes_on),
                ..source
            };
            drop(tell.send(Led::Filling(fill.tail(), source)));
            fill_from(asked, fill, arrived, onward).await;
        }
        Err(why) => {
            tracing::debug!(url = asked.url.as_str(), %why, "passed through");
            drop(tell.send(Led::Passed(Box::new(arrived), NotStored::NoRoom)));
        }
    }
}

/// Whether an answer is kept, under which head and key; notes by which fields its like differ.
pub(crate) async fn admitted(
    asked: &Asked,
    answer: Answer<'_>,
    fetched: Fetched,
) -> Result<(Meta, CacheKey), NotStored> {
    let key = &asked.naming.key;
    let verdict = after_fetch(answer, &asked.headers, key, fetched, asked.rules());
    let (meta, key) = match verdict {
        AfterFetch::Store(meta, key) => (*meta, key),
        AfterFetch::PassThrough(why) => return Err(why),
    };
    let store = &asked.shared.store;
    let names: Vec<String> = meta.vary().iter().map(|(name, _)| name.clone()).collect();
    if store.vary(&key.base()).await.unwrap_or_default() != names {
        // The newest answer says by which fields answers differ, and be it by none (RFC 9111 §4.1).
        store.remember_vary(&key.base(), names).await;
    }
    Ok((meta, key))
}

fn pass(slot: Slot, arrived: Arrived, why: NotStored, tell: oneshot::Sender<Led>) {
    slot.release(why.as_str());
    drop(tell.send(Led::Passed(Box::new(arrived), why)));
}

/// Copies the body into the fill. Every early return ends the fill: its readers are cut, and of
/// an answer whose rest can be asked for later what came is kept.
async fn fill_from(
    asked: &Asked,
    mut fill: Fill,
    arrived: Arrived,
    onward: oneshot::Sender<Onward>,
) {
    let url = asked.url.as_str();
    let most = arrived.length().unwrap_or_else(|| longest(asked));
    let mut supply = Supply::new(asked, arrived, &fill);
    loop {
        let received = supply.position();
        let data = match supply.next().await {
            Ok(Some(data)) => data,
            Ok(None) => break,
            Err(_) if fill.is_overtaken() => return leave_rest(asked, fill).await,
            Err(error) => {
                dropped::say(url, received, "origin", &error);
                written(&fill.tail(), received).await;
                drop(fill.into_partial().await);
                return;
            }
        };
        if supply.position() > most {
            return hand_over(supply, fill, data, onward).await;
        }
        match fill.write(data.clone()).await {
            Ok(()) => {}
            Err(FillError::NoRoom) => return hand_over(supply, fill, data, onward).await,
            Err(error) => {
                dropped::of_store(url, received, &error);
                fill.discard();
                return;
            }
        }
        if fill.is_overtaken() {
            drop(supply);
            return leave_rest(asked, fill).await;
        }
    }
    let received = supply.position();
    supply.finish();
    match fill.commit().await {
        Ok(entry) => {
            parts::forget_older(asked, &entry);
            tracing::debug!(url, received, "stored");
        }
        Err(error) => dropped::of_store(url, received, &error),
    }
}

/// Others draw what comes next: the rest is what they leave.
async fn leave_rest(asked: &Asked, fill: Fill) {
    if let Some((partial, promise)) = fill.into_partial().await {
        draw::rest(asked.clone(), partial, promise, None).await;
    }
}

/// So long a body whose length is not known may become, bytes: what is held leaves for it before
/// anybody knows that it is too large to be kept.
fn longest(asked: &Asked) -> u64 {
    let half = asked.shared.store.bytes_max() / 2;
    asked.policy.object_bytes_max.min(half)
}

/// Keeps a body no longer that has become too large. The client that caused the fetch gets the rest
/// from the origin itself, at its own pace, once it has read what came; others that read with it are
/// cut, and where nobody reads the origin is left.
async fn hand_over(supply: Supply<'_>, fill: Fill, ahead: Bytes, onward: oneshot::Sender<Onward>) {
    let received = supply.position() - ahead.len() as u64;
    let tail = fill.tail();
    written(&tail, received).await;
    if tail.available() == received {
        let arrived = supply.into_arrived();
        // A client that has gone has dropped its end.
        drop(onward.send(Onward { ahead, arrived }));
    }
    tracing::debug!(url = tail.meta().url(), received, "too large to be kept");
    fill.discard();
}

/// Waits until what came has reached the readers: it has been paid for, and a client that resumes
/// begins there.
async fn written(tail: &Tail, received: u64) {
    const LIMIT: Duration = Duration::from_secs(2);
    if received > tail.available() {
        let mut last = tail.reader(received - 1, Some(received));
        let reading = poll_fn(|cx| last.poll_next(cx));
        // A disk that is slower than that keeps nobody waiting for a failure.
        drop(tokio::time::timeout(LIMIT, reading).await);
    }
}

/// The clock of responses.
pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}
