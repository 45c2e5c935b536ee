//! Answers from what is held after asking the origin whether it is still good (RFC 9111 §4.3).

use larder_policy::cache_control::CacheControl;
use larder_policy::freshness;
use larder_policy::headers::{CacheStatus, Forwarded};
use larder_policy::reason::Ask;
use larder_store::Entry;

use crate::asked::Asked;
use crate::lead::{InHand, Source, now};
use crate::miss::{collapsed, sourced};
use crate::record::Outcome;
use crate::reply::Reply;
use crate::serve::{Held, Told, answer};

/// Asks, together with everyone else who wants to know.
pub(crate) async fn reply(asked: &Asked, held: InHand, why: Ask) -> Reply {
    collapsed(asked, Some(held), why.forwarded()).await
}

/// The origin confirmed what is held, for this client or for one that asked just before.
pub(crate) fn confirmed(
    asked: &Asked,
    entry: &Entry,
    forwarded: Forwarded,
    source: Option<Source>,
) -> Reply {
    asked.count(entry);
    let rules = asked.rules();
    let judged = freshness::judge(
        entry.meta(),
        rules.class,
        rules.refresh,
        rules.semantics,
        &CacheControl::default(),
        now(),
    );
    let status = CacheStatus {
        forwarded: Some(forwarded),
        status: source.as_ref().and_then(|source| source.status),
        collapsed: source.is_none(),
        ttl: Some(judged.ttl()),
        ..CacheStatus::default()
    };
    let outcome = Outcome::RefreshUnmodified;
    let told = Told {
        status,
        age: Some(judged.age),
        outcome,
    };
    sourced(answer(asked, &Held::Entry(entry), told), source)
}

/// The origin could not say; what is held is used (RFC 9111 §4.2.4).
pub(crate) fn stale(asked: &Asked, held: &InHand, source: Option<Source>) -> Reply {
    asked.count(&held.entry);
    let status = CacheStatus {
        status: source.as_ref().and_then(|source| source.status),
        ttl: Some(held.judged.ttl()),
        detail: Some("stale-if-error"),
        ..CacheStatus::default()
    };
    let told = Told {
        status,
        age: Some(held.judged.age),
        outcome: Outcome::RefreshFailOld,
    };
    sourced(answer(asked, &Held::Entry(&held.entry), told), source)
}
