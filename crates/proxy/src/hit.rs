//! Answers from what is held.

use std::time::Duration;

use larder_policy::freshness::Judgement;
use larder_policy::headers::CacheStatus;
use larder_policy::key::CacheKey;
use larder_policy::meta::selecting_fields;
use larder_policy::verdict::selects;
use larder_store::Entry;

use crate::asked::Asked;
use crate::lead::{self, InHand};
use crate::record::Outcome;
use crate::reply::Reply;
use crate::serve::{Held, Told, answer};

/// How long the origin is not asked for what may be held whole.
const CHECK_TIME: Duration = Duration::from_secs(4);
/// The same where there is nobody to ask: as long as a client goes without a byte.
const CHECK_TIME_OFFLINE: Duration = Duration::from_secs(8);

/// What is held for a request.
pub(crate) async fn lookup(asked: &Asked) -> Option<Entry> {
    let store = &asked.shared.store;
    let held = match store.lookup(&key(asked).await).await {
        Some(entry) => Some(entry),
        // That a mirror has not got the file is kept under its own URL.
        None if asked.naming.key.is_store_id() => store
            .lookup(&CacheKey::of_url(&asked.url))
            .await
            .filter(|entry| entry.meta().status() != 200),
        None => None,
    };
    held.filter(|entry| selects(&asked.headers, entry.meta()))
}

/// The key of a request, with the variant that its fields select where earlier answers under this
/// key varied (RFC 9111 §4.1).
pub(crate) async fn key(asked: &Asked) -> CacheKey {
    let base = &asked.naming.key;
    match asked.shared.store.vary(base).await {
        None => base.clone(),
        Some(names) => base.with_variant(&selecting_fields(&names, &asked.headers)),
    }
}

/// Waits for a fill that has all its bytes to be in place: a request that follows the last byte of
/// an answer is judged by what was stored, not taken for one that came at the same time.
pub(crate) async fn settled(asked: &Asked) -> bool {
    let store = &asked.shared.store;
    let base = &asked.naming.key;
    let key = key(asked).await;
    store.settled(&key).await || (key.has_variant() && store.settled(base).await)
}

/// False: a part is asked for of a large body that an unclean stop may have damaged, and whether it
/// has is not known soon; the origin answers sooner.
pub(crate) async fn is_ready(asked: &Asked, entry: &Entry) -> bool {
    let time = if asked.policy.offline {
        CHECK_TIME_OFFLINE
    } else {
        CHECK_TIME
    };
    asked.ranges.is_none() || entry.is_checked_within(time).await
}

/// A fresh entry.
pub(crate) fn reply(asked: &Asked, entry: &Entry, judged: Judgement) -> Reply {
    asked.count(entry);
    let outcome = if entry.is_in_memory() {
        Outcome::MemHit
    } else {
        Outcome::Hit
    };
    let status = CacheStatus {
        ttl: Some(judged.ttl()),
        ..CacheStatus::default()
    };
    answer(
        asked,
        &Held::Entry(entry),
        Told {
            status,
            age: Some(judged.age),
            outcome,
        },
    )
}

/// A stale entry that its origin lets be used while it is asked (RFC 5861 §3).
pub(crate) fn while_asking(asked: &Asked, entry: Entry, judged: Judgement) -> Reply {
    let reply = stale(
        asked,
        &entry,
        judged,
        "stale-while-revalidate",
        Outcome::Hit,
    );
    lead::in_background(asked, InHand { entry, judged });
    reply
}

/// An entry that is used however stale, since nothing is asked upstream.
pub(crate) fn offline(asked: &Asked, entry: &Entry, judged: Judgement) -> Reply {
    stale(asked, entry, judged, "offline", Outcome::OfflineHit)
}

/// An entry past its lifetime, and why it is used all the same.
fn stale(
    asked: &Asked,
    entry: &Entry,
    judged: Judgement,
    why: &'static str,
    outcome: Outcome,
) -> Reply {
    asked.count(entry);
    let status = CacheStatus {
        ttl: Some(judged.ttl()),
        detail: Some(why),
        ..CacheStatus::default()
    };
    let told = Told {
        status,
        age: Some(judged.age),
        outcome,
    };
    answer(asked, &Held::Entry(entry), told)
}
