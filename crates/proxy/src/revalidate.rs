//! Answers from what is held after asking the origin whether it is still good (RFC 9111 §4.3).

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use larder_policy::cache_control::CacheControl;
use larder_policy::freshness;
use larder_policy::headers::{CacheStatus, Forwarded};
use larder_policy::reason::{Ask, Pass};
use larder_policy::validator::{confirms, refreshed};
use larder_policy::verdict::{AfterConfirmation, after_confirmation};
use larder_store::{Entry, Join, Slot};

use crate::asked::Asked;
use crate::fetch::fetch;
use crate::lead::{
    self, InHand, KEPT_STALE, KEPT_UNANSWERED, Led, Source, fill_fields, head_of, keeps_stale, now,
};
use crate::miss::{collapsed, led_to, sourced};
use crate::origin::{Arrived, Outgoing};
use crate::record::Outcome;
use crate::reply::{self, Reply};
use crate::serve::{Held, Told, answer};
use crate::{hit, pass};

/// Asks, together with everyone else who wants to know.
pub(crate) async fn reply(asked: &Asked, held: InHand, why: Ask) -> Reply {
    if asked.method == Method::HEAD {
        return by_head(asked, held, why.forwarded()).await;
    }
    collapsed(asked, Some(held), why.forwarded()).await
}

/// A HEAD asks with a HEAD: nobody would read the body of a new version.
async fn by_head(asked: &Asked, held: InHand, forwarded: Forwarded) -> Reply {
    let key = hit::key(asked).await;
    let slot = match asked.shared.store.join_since(&key, Some(&held.entry)) {
        Join::Lead(slot) => slot,
        // Somebody finds out already.
        Join::Follow(_) => return collapsed(asked, Some(held), forwarded).await,
    };
    let outgoing = |at: &Asked| Outgoing {
        method: Method::HEAD,
        ..Outgoing::get(fill_fields(at)).about(Arc::clone(held.entry.meta()))
    };
    match fetch(asked, outgoing).await {
        Ok((at, arrived)) if arrived.response.status() == StatusCode::NOT_MODIFIED => {
            match lead::refresh(&at, slot, &held, arrived).await {
                Led::Again => pass::reply(asked, None, Pass::ColdHead).await,
                led => led_to(asked, led, Some(&held), forwarded),
            }
        }
        Ok((at, arrived)) if arrived.response.status() == StatusCode::OK => {
            freshened(&at, slot, &held, &arrived).await;
            let outcome = Outcome::RefreshModified;
            pass::hand_on(asked, arrived, forwarded, None, outcome)
        }
        Ok((_, arrived)) if keeps_stale(asked, &held, Some(&arrived)) => {
            slot.release(KEPT_STALE);
            stale(asked, &held, Some(Source::of(&arrived)))
        }
        // Who waits for the file asks for it.
        Ok((_, arrived)) => {
            drop(slot);
            let outcome = Outcome::RefreshModified;
            pass::hand_on(asked, arrived, forwarded, None, outcome)
        }
        Err(error) if keeps_stale(asked, &held, None) => {
            reply::log_failure(asked.url.as_str(), &error);
            slot.release(KEPT_UNANSWERED);
            let hierarchy = error.hierarchy();
            let source = Source {
                hierarchy,
                ..Source::nobody()
            };
            stale(asked, &held, Some(source))
        }
        Err(error) => {
            slot.release(lead::failed_word(error.status()));
            led_to(asked, Led::Failed(error), Some(&held), forwarded)
        }
    }
}

/// What the head of a whole answer says of the copy that is held (RFC 9111 §4.3.5): that it is good
/// again, or that it is another file's.
async fn freshened(asked: &Asked, slot: Slot, held: &InHand, arrived: &Arrived) {
    let (fields, fetched) = head_of(asked, arrived);
    let meta = held.entry.meta();
    let told = fields.get(CONTENT_LENGTH);
    let told = told.and_then(|told| told.to_str().ok()?.parse::<u64>().ok());
    let is_as_long = told.is_none_or(|told| told == held.entry.len());
    if !is_as_long || !confirms(meta, &fields, &fetched) {
        asked.shared.store.remove(held.entry.key()).await;
        return;
    }
    let meta = refreshed(meta, &fields, fetched);
    let (length, key) = (held.entry.len(), held.entry.key());
    match after_confirmation(&meta, length, &asked.headers, key, asked.rules()) {
        // Who waits with this one has what it found out.
        AfterConfirmation::Renewed => drop(slot.refresh(meta).await),
        AfterConfirmation::Untouched => {}
        AfterConfirmation::Gone => {
            asked.shared.store.remove(key).await;
        }
    }
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
    // It went upstream, if only another client's request did (RFC 9211 §2.2).
    let forwarded = if held.judged.is_fresh() {
        Forwarded::Request
    } else {
        Forwarded::Stale
    };
    let status = CacheStatus {
        forwarded: Some(forwarded),
        status: source.as_ref().and_then(|source| source.status),
        collapsed: source.is_none(),
        ttl: Some(held.judged.ttl()),
        detail: Some(reply::STALE_IF_ERROR),
        ..CacheStatus::default()
    };
    let told = Told {
        status,
        age: Some(held.judged.age),
        outcome: Outcome::RefreshFailOld,
    };
    sourced(answer(asked, &Held::Entry(&held.entry), told), source)
}
