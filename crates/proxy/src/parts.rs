//! Answers from an object of which parts are held, and the first part of one of which nothing is.

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, RANGE, SET_COOKIE,
};
use larder_policy::freshness::Judgement;
use larder_policy::headers::{CacheStatus, Forwarded};
use larder_policy::key::CacheKey;
use larder_policy::meta::Meta;
use larder_policy::part::{Span, is_resumable, strong_tag};
use larder_policy::range::Spec;
use larder_policy::reason::{NotStored, Pass};
use larder_policy::validator::{confirms, refreshed};
use larder_policy::verdict::{
    self, AfterConfirmation, Answer, BeforeFetch, OnError, after_confirmation, selects,
};
use larder_store::{Entry, Join, Opening, Outcome as Followed, Partial, Slot, Tail};
use tokio::sync::oneshot;

use crate::asked::Asked;
use crate::fetch::fetch;
use crate::lead::{self, InHand, Led, Source, admitted, fill_fields, head_of};
use crate::miss::{ATTEMPTS, beside_parts, follow, is_for, led_to};
use crate::origin::{Arrived, Outgoing};
use crate::record::Outcome;
use crate::reply::Reply;
use crate::rest::{File, Part};
use crate::serve::{Held, Told, answer, wanted};
use crate::{draw, hit, pass, revalidate, unkept};

/// Unit in which unheld files are asked for, bytes: that of the store's runs.
const BLOCK: u64 = 1 << 20;
/// A range that starts this close to what a fill has is worth waiting for, bytes.
const REACH: u64 = 4 << 20;

/// Answers from the parts that are held, if there are any; what the client wants and they lack is
/// drawn.
pub(crate) async fn reply(asked: &Asked) -> Option<Reply> {
    for _ in 0..ATTEMPTS {
        let partial = asked.shared.store.partial(&hit::key(asked).await)?;
        if !selects(&asked.headers, &partial.meta()) {
            return None;
        }
        match from_parts(asked, &partial).await {
            Led::Again => {}
            // Others have begun anew meanwhile.
            Led::Alone(Pass::NotShared) if !is_found(asked, &partial) => {}
            Led::Alone(Pass::NotShared) if let Some(reply) = beside_parts(asked).await => {
                return Some(reply);
            }
            Led::Alone(why) => return Some(pass::reply(asked, None, why).await),
            Led::Filling(tail, source) => {
                return Some(told(asked, &tail, source));
            }
            led => return Some(led_to(asked, led, None, Forwarded::Partial)),
        }
    }
    Some(pass::reply(asked, None, Pass::NotShared).await)
}

/// True if these are still the parts that a request for the key finds.
fn is_found(asked: &Asked, partial: &Partial) -> bool {
    let found = asked.shared.store.partial(partial.key());
    found.is_some_and(|found| found.is(partial))
}

/// True if parts are held that a request may be answered from.
pub(crate) fn are_held(asked: &Asked, key: &CacheKey) -> bool {
    let partial = asked.shared.store.partial(key);
    partial.is_some_and(|partial| selects(&asked.headers, &partial.meta()))
}

/// Answers from the parts of a newer version than the whole that is held, which a broken fetch has
/// left. `None`: there are none, or nobody goes on with them.
pub(crate) async fn newer(asked: &Asked, held: &InHand) -> Option<Reply> {
    let partial = asked.shared.store.partial(held.entry.key())?;
    let meta = partial.meta();
    if !is_older(held.entry.meta(), &meta) || !selects(&asked.headers, &meta) {
        return None;
    }
    match from_parts(asked, &partial).await {
        Led::Filling(tail, source) => Some(told(asked, &tail, source)),
        // Who has just been silent is not asked again.
        failed @ (Led::Failed(_) | Led::FailedForAll(_)) => {
            let is_used = asked.on_error(held.judged, None) == OnError::ServeStale;
            Some(if is_used {
                revalidate::stale(asked, held, None)
            } else {
                led_to(asked, failed, None, Forwarded::Stale)
            })
        }
        _ => None,
    }
}

/// What has been stored as a whole takes the place of older parts.
pub(crate) fn forget_older(asked: &Asked, entry: &Entry) {
    let partial = asked.shared.store.partial(entry.key());
    if let Some(partial) = partial.filter(|partial| is_older(&partial.meta(), entry.meta())) {
        partial.retire();
    }
}

fn is_older(meta: &Meta, other: &Meta) -> bool {
    meta.inputs().response_time < other.inputs().response_time
}

/// What the parts that are held come to for a request.
async fn from_parts(asked: &Asked, partial: &Partial) -> Led {
    let meta = partial.meta();
    let spans = wanted(asked, &meta, partial.length());
    let verdict = verdict::before_fetch(&asked.control, Some(&meta), asked.rules(), asked.now);
    match verdict {
        // No body is drawn for it, whatever the origin has by now.
        BeforeFetch::Revalidate(..) if asked.method == Method::HEAD => {
            return Led::Alone(Pass::ColdHead);
        }
        // What the origin says to one client is nothing to what others have.
        BeforeFetch::Revalidate(..) if asked.is_authorized() => {
            return Led::Alone(Pass::NotShared);
        }
        // Who follows a fetch of the whole has what it brings.
        BeforeFetch::Revalidate(_, judged) if !is_being_fetched(asked, partial) => {
            if let Some(led) = confirm(asked, partial, judged).await {
                return led;
            }
        }
        BeforeFetch::HitWhileAsking(judged) if !asked.is_authorized() => {
            let (asked, partial) = (asked.clone(), partial.clone());
            tokio::spawn(async move { drop(confirm(&asked, &partial, judged).await) });
        }
        _ => {}
    }
    if partial.is_there(&spans) {
        return Led::Filling(partial.tail(), Source::nobody());
    }
    if partial.holds(&spans) {
        // Of an earlier run: compared first, and drawn if that fails.
        if asked.is_authorized() && partial.checked(&spans).await {
            return Led::Filling(partial.tail(), Source::nobody());
        }
        if !asked.is_authorized() {
            if !draw::in_background(asked, partial, spans).await {
                return Led::Alone(Pass::NoRoom);
            }
            return Led::Filling(partial.tail(), Source::nobody());
        }
    }
    if partial.is_coming(&spans).await {
        if !draw::in_background(asked, partial, spans).await {
            return Led::Alone(Pass::NoRoom);
        }
        return Led::Filling(partial.tail(), Source::others());
    }
    draw::drawn(asked, partial, spans).await
}

/// True if a fetch of the whole, begun when nothing was held, is what brings the parts.
fn is_being_fetched(asked: &Asked, partial: &Partial) -> bool {
    let fill = asked.shared.store.filling(partial.key());
    fill.is_some_and(|tail| Arc::ptr_eq(&tail.meta(), &partial.meta()))
}

/// What the parts hold for a request that is to cause no fetch; `None`: not all that it wants, or
/// not fresh where it must be.
pub(crate) async fn held(asked: &Asked) -> Option<Reply> {
    let partial = asked.shared.store.partial(&hit::key(asked).await)?;
    let meta = partial.meta();
    let spans = wanted(asked, &meta, partial.length());
    let verdict = verdict::before_fetch(&asked.control, Some(&meta), asked.rules(), asked.now);
    let is_usable = matches!(verdict, BeforeFetch::Hit(_) | BeforeFetch::OfflineHit(_));
    // Parts of an earlier run that are not what they were cannot be had anew here.
    let is_there = partial.is_there(&spans) || partial.checked(&spans).await;
    let good = selects(&asked.headers, &meta) && is_usable && is_there;
    good.then(|| told(asked, &partial.tail(), Source::nobody()))
}

/// An answer from the parts: a hit where nobody was asked for it.
fn told(asked: &Asked, tail: &Tail, source: Source) -> Reply {
    if source.is_followed {
        return follow(asked, &Held::Tail(tail), Forwarded::UriMiss);
    }
    let rules = asked.rules();
    let meta = tail.meta();
    let verdict = verdict::before_fetch(&asked.control, Some(&meta), rules, asked.now);
    let judged = match verdict {
        BeforeFetch::Hit(judged)
        | BeforeFetch::HitWhileAsking(judged)
        | BeforeFetch::OfflineHit(judged)
        | BeforeFetch::Revalidate(_, judged) => Some(judged),
        _ => None,
    };
    let is_hit = source.status.is_none();
    let status = CacheStatus {
        forwarded: (!is_hit).then_some(Forwarded::Partial),
        status: source.status,
        stored: !is_hit,
        ttl: judged.filter(|_| is_hit).map(|judged| judged.ttl()),
        ..CacheStatus::default()
    };
    let told = Told {
        status,
        age: judged.filter(|_| is_hit).map(|judged| judged.age),
        outcome: if is_hit { Outcome::Hit } else { Outcome::Miss },
    };
    let mut reply = answer(asked, &Held::Tail(tail), told);
    for cookie in source.cookies {
        reply.response.headers_mut().append(SET_COOKIE, cookie);
    }
    reply.from(source.hierarchy, source.mirror)
}

/// What another client's question, asked while this one waited to ask, means for this one.
enum Meanwhile {
    /// Nobody has asked.
    Unknown,
    /// It is good, or may be used all the same.
    Usable,
    /// Something else.
    Led(Led),
}

fn meanwhile(
    asked: &Asked,
    partial: &Partial,
    judged: Judgement,
    confirmed_at: Option<Instant>,
) -> Meanwhile {
    let is_confirmed = confirmed_at.is_some_and(|at| at > asked.came);
    match partial.failed_since(asked.came, &asked.host()) {
        _ if partial.is_discarded() => Meanwhile::Led(Led::Again),
        _ if is_confirmed => Meanwhile::Usable,
        // What it said is not known here, and is for each that asks.
        Some(draw::ANSWERED) => Meanwhile::Led(Led::Alone(Pass::NotShared)),
        Some(_) if asked.on_error(judged, None) == OnError::ServeStale => Meanwhile::Usable,
        Some(status) => Meanwhile::Led(Led::FailedForAll(status)),
        None => Meanwhile::Unknown,
    }
}

/// Asks the origin whether the version of which parts are held is still good (RFC 9111 §4.3).
/// `None`: it is, or may be used all the same.
async fn confirm(asked: &Asked, partial: &Partial, judged: Judgement) -> Option<Led> {
    // One asks for all who came before it has its answer.
    let mut confirmed_at = partial.confirmed().lock().await;
    match meanwhile(asked, partial, judged, *confirmed_at) {
        Meanwhile::Unknown => {}
        Meanwhile::Usable => return None,
        Meanwhile::Led(led) => return Some(led),
    }
    let meta = partial.meta();
    let outgoing = |at: &Asked| {
        let fields = match &at.ranges {
            // Of another version no more is wanted than that (RFC 9110 §13.2.2).
            Some(specs) if at.policy.draws_blocks(at.class) => fields_of_part(at, specs),
            _ => fill_fields(at),
        };
        Outgoing::get(fields).about(Arc::clone(&meta))
    };
    match fetch(asked, outgoing).await {
        Ok((at, arrived)) => match arrived.response.status().as_u16() {
            304 => {
                *confirmed_at = Some(Instant::now());
                confirmed(&at, partial, arrived)
            }
            206 if is_same_version(&meta, &arrived) => {
                // It has not looked at the condition.
                *confirmed_at = Some(Instant::now());
                confirmed(&at, partial, arrived)
            }
            416 => {
                // The other version is shorter.
                partial.discard();
                let is_all = at.ranges.as_ref().is_none_or(|specs| specs.len() == 1);
                Some(if is_all {
                    Led::Passed(Box::new(arrived), NotStored::Status)
                } else {
                    Led::Alone(Pass::ColdRange)
                })
            }
            200 | 206 => {
                partial.discard();
                *confirmed_at = Some(Instant::now());
                let (tell, told) = oneshot::channel();
                tokio::spawn(replace(at, arrived, tell));
                Some(told.await.unwrap_or(Led::Again))
            }
            status if asked.on_error(judged, Some(status)) == OnError::ServeStale => {
                partial.failed(&asked.host(), 502);
                None
            }
            _ => {
                // Who waited does not ask one after the other.
                partial.failed(&asked.host(), draw::ANSWERED);
                Some(Led::Passed(Box::new(arrived), NotStored::Status))
            }
        },
        Err(error) => {
            partial.failed(&asked.host(), error.status());
            let is_used = asked.on_error(judged, None) == OnError::ServeStale;
            (!is_used).then_some(Led::Failed(error))
        }
    }
}

/// True if a part bears the strong tag of what is held.
fn is_same_version(meta: &Meta, arrived: &Arrived) -> bool {
    let tag = strong_tag(meta);
    tag.is_some() && arrived.response.headers().get(ETAG) == tag
}

/// Begins on another version with the answer that brought it.
async fn replace(asked: Asked, arrived: Arrived, tell: oneshot::Sender<Led>) {
    if arrived.response.status() != 206 {
        return draw::whole(&asked, arrived, Some(tell)).await;
    }
    let key = hit::key(&asked).await;
    match asked.shared.store.join(&key) {
        Join::Lead(slot) if !are_held(&asked, &key) => begin(&asked, slot, arrived, tell).await,
        // Somebody else has begun on it.
        Join::Lead(_) | Join::Follow(_) => drop(tell.send(Led::Again)),
    }
}

fn confirmed(asked: &Asked, partial: &Partial, arrived: Arrived) -> Option<Led> {
    let (fields, fetched) = head_of(asked, &arrived);
    if !confirms(&partial.meta(), &fields, &fetched) {
        partial.discard();
        return Some(Led::Again);
    }
    if arrived.response.status() == 304 {
        arrived.finish();
    }
    let meta = refreshed(&partial.meta(), &fields, fetched);
    let (length, key) = (partial.length(), partial.key());
    match after_confirmation(&meta, length, &asked.headers, key, asked.rules()) {
        AfterConfirmation::Renewed => partial.renew(meta),
        AfterConfirmation::Untouched => {}
        AfterConfirmation::Gone => {
            partial.discard();
            return Some(Led::Again);
        }
    }
    None
}

/// A part of a file of which nothing is held: it becomes the first part of an object.
pub(crate) async fn cold(asked: &Asked) -> Reply {
    let key = hit::key(asked).await;
    for _ in 0..ATTEMPTS {
        if let Some(reply) = reply(asked).await {
            return reply;
        }
        match asked.shared.store.join_since(&key, None) {
            // Begun by another since this client looked.
            Join::Lead(_) if are_held(asked, &key) => {}
            Join::Lead(slot) => match first(asked, slot).await {
                Led::Again => {}
                Led::Alone(why) => return pass::reply(asked, None, why).await,
                Led::Unkept(arrived, span) => {
                    return match unkept::reply(asked, *arrived, span) {
                        Some(reply) => reply,
                        None => pass::reply(asked, None, Pass::ColdRange).await,
                    };
                }
                led => return led_to(asked, led, None, Forwarded::UriMiss),
            },
            Join::Follow(follower) => match follower.outcome().await {
                Followed::Filling(tail) if is_within_reach(asked, &tail) => {
                    return follow(asked, &Held::Tail(&tail), Forwarded::UriMiss);
                }
                Followed::Ready(entry)
                    if is_for(asked, entry.meta()) && selects(&asked.headers, entry.meta()) =>
                {
                    return follow(asked, &Held::Entry(&entry), Forwarded::UriMiss);
                }
                Followed::Released(why) if lead::failed_status(why).is_some() => {
                    let status = lead::failed_status(why).unwrap_or(502);
                    return led_to(asked, Led::FailedForAll(status), None, Forwarded::UriMiss);
                }
                Followed::Failed => {}
                Followed::Filling(_) if asked.shared.store.partial(&key).is_some() => {}
                Followed::Filling(_) | Followed::Ready(_) | Followed::Released(_) => break,
            },
        }
    }
    pass::reply(asked, None, Pass::ColdRange).await
}

/// True if a fill that nobody else can draw from will be at the wanted bytes soon.
fn is_within_reach(asked: &Asked, tail: &Tail) -> bool {
    let specs = asked.ranges.as_deref().unwrap_or_default();
    let starts = specs.iter().map(|spec| match spec {
        Spec::From(first, _) => *first,
        Spec::Last(_) => u64::MAX,
    });
    let start = starts.max().unwrap_or(0);
    let near = start <= tail.available().saturating_add(REACH);
    let meta = tail.meta();
    near && tail.length().is_some() && is_for(asked, &meta) && selects(&asked.headers, &meta)
}

/// Spawns the fetch of the first part and waits for its head.
async fn first(asked: &Asked, slot: Slot) -> Led {
    let (tell, told) = oneshot::channel();
    tokio::spawn(fetch_first(asked.clone(), slot, tell));
    told.await.unwrap_or(Led::Again)
}

async fn fetch_first(asked: Asked, slot: Slot, tell: oneshot::Sender<Led>) {
    let specs = asked.ranges.as_deref().unwrap_or_default();
    let led = match fetch(&asked, |at| Outgoing::get(fields_of_part(at, specs))).await {
        Ok((at, arrived)) if arrived.response.status() == 206 => {
            return begin(&at, slot, arrived, tell).await;
        }
        // The others may lie within it (RFC 9110 §15.5.17).
        Ok((_, arrived)) if arrived.response.status() == 416 && specs.len() > 1 => {
            return alone(slot, Pass::ColdRange, tell);
        }
        Ok((at, arrived)) => return Box::pin(lead::store(&at, slot, arrived, tell)).await,
        Err(error) => {
            slot.release(lead::failed_word(error.status()));
            Led::Failed(error)
        }
    };
    // The client may have gone; there is nobody else to tell.
    drop(tell.send(led));
}

/// The fields of a request for the first of the wanted ranges.
fn fields_of_part(asked: &Asked, specs: &[Spec]) -> HeaderMap {
    let mut fields = fill_fields(asked);
    if let Ok(range) = HeaderValue::from_str(&first_range(specs)) {
        fields.insert(RANGE, range);
    }
    fields
}

/// The first of the wanted ranges in whole blocks.
fn first_range(specs: &[Spec]) -> String {
    match specs.first() {
        Some(Spec::From(first, last)) => {
            let start = first - first % BLOCK;
            let last = last.map(|last| (last / BLOCK).saturating_add(1).saturating_mul(BLOCK) - 1);
            let last = last.map_or_else(String::new, |last| last.to_string());
            format!("bytes={start}-{last}")
        }
        Some(Spec::Last(length)) => {
            let length = length.checked_next_multiple_of(BLOCK);
            format!("bytes=-{}", length.unwrap_or(u64::MAX).max(BLOCK))
        }
        None => "bytes=0-".to_owned(),
    }
}

/// Makes an object of the first part, and draws the other parts that its client wants.
async fn begin(asked: &Asked, slot: Slot, arrived: Arrived, tell: oneshot::Sender<Led>) {
    let (mut headers, fetched) = head_of(asked, &arrived);
    let fits = |span: &Span| arrived.length().is_none_or(|n| n == span.end - span.start);
    let Some(span) = Span::of(&headers).filter(fits) else {
        asked.shared.unkept.note_refusal(asked, NotStored::Useless);
        return alone(slot, Pass::ColdRange, tell);
    };
    headers.remove(CONTENT_RANGE);
    headers.remove(CONTENT_LENGTH);
    let as_whole = Answer {
        status: 200,
        headers: &headers,
        length: Some(span.length),
    };
    let (meta, key) = match admitted(asked, as_whole, fetched).await {
        Ok((meta, key)) if is_resumable(&meta) => (meta, key),
        refused => {
            let why = refused.err().unwrap_or(NotStored::Useless);
            asked.shared.unkept.note_refusal(asked, why);
            slot.release(Pass::ColdRange.as_str());
            return drop(tell.send(Led::Unkept(Box::new(arrived), span)));
        }
    };
    let origin = arrived.to.label();
    let opening = Opening {
        meta,
        length: span.length,
        origin: origin.clone(),
    };
    let begun = slot
        .begin_partial(opening, (span.start, span.end), key)
        .await;
    let Ok((partial, draw)) = begun else {
        return drop(tell.send(Led::Alone(Pass::NoRoom)));
    };
    let promise = partial.promise(wanted(asked, &partial.meta(), span.length));
    if partial.make_room().await.is_err() {
        // While the client can still be answered in another way.
        return drop(tell.send(Led::Unkept(Box::new(arrived), span)));
    }
    let tail = partial.tail();
    drop(tell.send(Led::Filling(tail.clone(), Source::of(&arrived))));
    let file = File {
        asked,
        tail: &tail,
        length: Some(span.length),
        origin: &origin,
    };
    let part = Part {
        arrived,
        ahead: None,
        span,
        same_origin: true,
    };
    if draw::copy(file, draw, part).await.is_ok() {
        draw::rest(asked.clone(), partial, promise, None).await;
    }
}

/// Nothing of it can be kept: its client, and those who wait with it, ask for themselves.
fn alone(slot: Slot, why: Pass, tell: oneshot::Sender<Led>) {
    slot.release(why.as_str());
    drop(tell.send(Led::Alone(why)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_is_asked_for_in_whole_blocks() {
        for (spec, wanted) in [
            (Spec::From(5, Some(9)), "bytes=0-1048575"),
            (Spec::From(BLOCK, Some(2 * BLOCK)), "bytes=1048576-3145727"),
            (Spec::From(BLOCK + 7, None), "bytes=1048576-"),
            (
                Spec::From(u64::MAX, Some(u64::MAX)),
                "bytes=18446744073708503040-18446744073709551614",
            ),
            (Spec::Last(1), "bytes=-1048576"),
            (Spec::Last(BLOCK + 1), "bytes=-2097152"),
        ] {
            assert_eq!(first_range(&[spec, Spec::Last(3)]), wanted, "{spec:?}");
        }
    }
}
