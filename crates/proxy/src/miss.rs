//! Answers from the origin, by way of the store: one client leads, the others follow.

use http::header::SET_COOKIE;
use larder_policy::headers::{CacheStatus, Forwarded};
use larder_policy::meta::Meta;
use larder_policy::range::Spec;
use larder_policy::reason::Pass;
use larder_policy::verdict::{OnError, selects};
use larder_store::{Join, Outcome as Followed};

use crate::asked::Asked;
use crate::lead::{self, InHand, KEPT_STALE, KEPT_UNANSWERED, Led, Source, keeps_stale, lead};
use crate::origin::OriginError;
use crate::record::Outcome;
use crate::reply::{self, Reply};
use crate::serve::{Held, Told, answer};
use crate::{hit, parts, pass, revalidate};

/// How often a request competes for a lead before it goes on its own: a leader can fail, and a file
/// can change under those who draw it.
pub(crate) const ATTEMPTS: u32 = 8;

/// Nothing usable is held as a whole.
pub(crate) async fn reply(asked: &Asked) -> Reply {
    if let Some(reply) = parts::reply(asked).await {
        return reply;
    }
    if asked.method == http::Method::HEAD {
        return pass::reply(asked, None, Pass::ColdHead).await;
    }
    if asked.shared.unkept.is_for_origin(asked) {
        return pass::reply(asked, None, Pass::NotShared).await;
    }
    if leaves_out_something(asked) && asked.policy.draws_blocks(asked.class) {
        return parts::cold(asked).await;
    }
    collapsed(asked, None, Forwarded::UriMiss).await
}

/// Parts are held and nobody goes on with them now: the whole is fetched beside them, once for all
/// who want it. `None`: the request is for less.
pub(crate) async fn beside_parts(asked: &Asked) -> Option<Reply> {
    let is_shared = asked.method == http::Method::GET && !asked.is_authorized();
    if !is_shared || leaves_out_something(asked) {
        return None;
    }
    let key = hit::key(asked).await;
    match asked.shared.store.join_since(&key, None) {
        Join::Lead(slot) => match lead(asked, slot, None).await {
            Led::Again | Led::Alone(_) => None,
            led => Some(led_to(asked, led, None, Forwarded::UriMiss)),
        },
        Join::Follow(follower) => match follower.outcome().await {
            Followed::Filling(tail) if fits(asked, &tail.meta()) => {
                Some(follow(asked, &Held::Tail(&tail), Forwarded::UriMiss))
            }
            Followed::Ready(entry) if fits(asked, entry.meta()) => {
                Some(follow(asked, &Held::Entry(&entry), Forwarded::UriMiss))
            }
            _ => None,
        },
    }
}

/// True if an answer is one to this request too.
fn fits(asked: &Asked, meta: &Meta) -> bool {
    is_for(asked, meta) && selects(&asked.headers, meta)
}

/// True if a request is for ranges other than the whole.
fn leaves_out_something(asked: &Asked) -> bool {
    asked
        .ranges
        .as_deref()
        .is_some_and(|specs| !matches!(specs, [Spec::From(0, None)]))
}

/// Joins the fetch of a key: leads it or follows it.
pub(crate) async fn collapsed(
    asked: &Asked,
    mut in_hand: Option<InHand>,
    forwarded: Forwarded,
) -> Reply {
    let key = hit::key(asked).await;
    for _ in 0..ATTEMPTS {
        let seen = in_hand.as_ref().map(|held| &held.entry);
        match asked.shared.store.join_since(&key, seen) {
            Join::Lead(slot) if in_hand.is_none() && parts::are_held(asked, &key) => {
                // Begun and handed over since this client looked.
                drop(slot);
                if let Some(reply) = parts::reply(asked).await {
                    return reply;
                }
            }
            Join::Lead(slot) => match lead(asked, slot, in_hand.clone()).await {
                // What was in hand is gone: the next question has no condition.
                Led::Again => in_hand = None,
                Led::Alone(_) => break,
                led => return led_to(asked, led, in_hand.as_ref(), forwarded),
            },
            Join::Follow(follower) => match follower.outcome().await {
                // Another mirror has not got it: this one may.
                Followed::Filling(tail) if !is_for(asked, &tail.meta()) => {}
                Followed::Ready(entry) if !is_for(asked, entry.meta()) => {}
                Followed::Filling(tail) if selects(&asked.headers, &tail.meta()) => {
                    return follow(asked, &Held::Tail(&tail), forwarded);
                }
                Followed::Ready(entry) if selects(&asked.headers, entry.meta()) => {
                    return if in_hand.is_some() {
                        revalidate::confirmed(asked, &entry, forwarded, None)
                    } else {
                        follow(asked, &Held::Entry(&entry), forwarded)
                    };
                }
                Followed::Released(why) if let Some(status) = lead::failed_status(why) => {
                    return match &in_hand {
                        Some(held) if keeps_stale(asked, held, None) => {
                            revalidate::stale(asked, held, None)
                        }
                        held => failed(asked, held.as_ref(), forwarded, Err(status)),
                    };
                }
                Followed::Released(why)
                    if let Some(held) = &in_hand
                        && is_kept_for(asked, held, why) =>
                {
                    return revalidate::stale(asked, held, None);
                }
                Followed::Filling(_) | Followed::Ready(_) | Followed::Released(_) => break,
                Followed::Failed => {}
            },
        }
    }
    pass::reply(asked, None, Pass::NotShared).await
}

/// True if a word says that another client's question failed, and this one too has what is held then.
fn is_kept_for(asked: &Asked, held: &InHand, why: &str) -> bool {
    let status = match why {
        KEPT_STALE => Some(503),
        KEPT_UNANSWERED => None,
        _ => return false,
    };
    asked.on_error(held.judged, status) == OnError::ServeStale
}

/// An answer about a file is for all who want it, one about a mirror for those who asked that.
pub(crate) fn is_for(asked: &Asked, meta: &Meta) -> bool {
    meta.status() == 200 || !asked.naming.key.is_store_id() || meta.url() == asked.url.as_str()
}

/// What a lead came to is what its client gets.
pub(crate) fn led_to(
    asked: &Asked,
    led: Led,
    in_hand: Option<&InHand>,
    forwarded: Forwarded,
) -> Reply {
    match led {
        Led::Filling(tail, source) => {
            let outcome = if in_hand.is_some() {
                Outcome::RefreshModified
            } else {
                Outcome::Miss
            };
            let status = CacheStatus {
                forwarded: Some(forwarded),
                status: source.status,
                stored: true,
                ..CacheStatus::default()
            };
            let told = Told {
                status,
                age: None,
                outcome,
            };
            let mut reply = answer(asked, &Held::Tail(&tail), told);
            for cookie in source.cookies {
                reply.response.headers_mut().append(SET_COOKIE, cookie);
            }
            if let Some(onward) = source.onward {
                let stall = asked.shared.origins.stall_timeout();
                reply.response = reply.response.map(|body| body.going_on(onward, stall));
            }
            reply.from(source.hierarchy, source.mirror)
        }
        Led::Refreshed(entry, source) => {
            revalidate::confirmed(asked, &entry, forwarded, Some(source))
        }
        Led::KeptStale(source) => match in_hand {
            Some(held) => revalidate::stale(asked, held, Some(source)),
            None => reply::lost_way(),
        },
        Led::Passed(arrived, why) => {
            let outcome = if in_hand.is_some() {
                Outcome::RefreshModified
            } else {
                Outcome::Miss
            };
            pass::hand_on(asked, *arrived, forwarded, Some(why.as_str()), outcome)
        }
        Led::Failed(error) => failed(asked, in_hand, forwarded, Ok(&error)),
        Led::FailedForAll(status) => failed(asked, in_hand, forwarded, Err(status)),
        // Callers have seen to these.
        Led::Again | Led::Alone(_) | Led::Unkept(..) => reply::lost_way(),
    }
}

/// No origin answered this client, or (with the status that came of it) another that was asking for
/// the same. A copy that must not be used unconfirmed is there, and of no use: 504
/// (RFC 9111 §5.2.2.2).
fn failed(
    asked: &Asked,
    in_hand: Option<&InHand>,
    forwarded: Forwarded,
    why: Result<&OriginError, u16>,
) -> Reply {
    let is_unconfirmed = in_hand.is_some_and(|held| held.judged.strict);
    let reply = match why {
        Ok(error) => reply::origin_failed(asked, error, forwarded, is_unconfirmed),
        Err(_) if is_unconfirmed => reply::failed_for_all(asked, 504, forwarded),
        Err(status) => reply::failed_for_all(asked, status, forwarded),
    };
    let outcome = match in_hand {
        Some(_) if why.is_ok() => Outcome::RefreshFailErr,
        _ => reply.outcome,
    };
    Reply { outcome, ..reply }
}

/// A follower reads what is there and waits for the rest. It was not asked for on its behalf, and a
/// long fill grows old: the answer has an age (RFC 9111 §5.1).
pub(crate) fn follow(asked: &Asked, held: &Held<'_>, forwarded: Forwarded) -> Reply {
    let status = CacheStatus {
        forwarded: Some(forwarded),
        collapsed: true,
        ..CacheStatus::default()
    };
    let told = Told {
        status,
        age: Some(held.meta().inputs().current_age(lead::now())),
        outcome: Outcome::CollapsedMiss,
    };
    answer(asked, held, told)
}

/// Where a fetch came from, as the record has it.
pub(crate) fn sourced(reply: Reply, source: Option<Source>) -> Reply {
    match source {
        Some(source) => reply.from(source.hierarchy, source.mirror),
        None => reply,
    }
}
