//! Draws what is missing of an object that is held in parts: spawned here and nowhere else, so that
//! a run that has begun outlives the client that caused it.
//!
//! Each client that wants missing bytes has such a task, and each task draws what no other does
//! ([`Partial::next`]); the last one puts the whole in place. What an origin sends instead of a
//! part decides what becomes of the parts: bytes of another version end them.

use std::time::Instant;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, LAST_MODIFIED};
use larder_policy::class::Class;
use larder_policy::meta::Meta;
use larder_policy::part::is_same_version;
use larder_policy::reason::{NotStored, Pass};
use larder_policy::url::Url;
use larder_policy::validator::refreshed;
use larder_policy::verdict::{self, AfterFetch, after_fetch};
use larder_store::{Draw, Entry, FillError, Join, Partial, Promise};
use tokio::sync::oneshot;

use crate::asked::{Asked, facts};
use crate::fetch::stays_on_site;
use crate::lead::{self, Led, Source, head_of};
use crate::origin::{Arrived, OriginError};
use crate::parts;
use crate::rest::{Answer, File, Part};
use crate::supply::Supply;

/// Stands for the status of a failure where an origin did answer, if with nothing that others may
/// have: it ends nobody's drawing.
pub(crate) const ANSWERED: u16 = 0;

/// Draws what the spans lack and waits until it is known what comes of it: the head of the first
/// answer.
pub(crate) async fn drawn(asked: &Asked, partial: &Partial, spans: Vec<(u64, u64)>) -> Led {
    let (tell, told) = oneshot::channel();
    let promise = partial.promise(spans);
    // While the client can still be answered in another way.
    if partial.make_room().await.is_err() {
        return Led::Alone(Pass::NoRoom);
    }
    tokio::spawn(rest(asked.clone(), partial.clone(), promise, Some(tell)));
    // The sender is dropped unused only if the task panicked.
    told.await.unwrap_or(Led::Again)
}

/// Draws what the spans lack while a client is answered. False: there is no room for it.
pub(crate) async fn in_background(
    asked: &Asked,
    partial: &Partial,
    spans: Vec<(u64, u64)>,
) -> bool {
    let promise = partial.promise(spans);
    if partial.make_room().await.is_err() {
        return false;
    }
    tokio::spawn(rest(asked.clone(), partial.clone(), promise, None));
    true
}

/// Draws what is missing of what was promised, run by run. When it ends early the promise ends,
/// and with it the answers of those who wait for these bytes.
pub(crate) async fn rest(
    asked: Asked,
    partial: Partial,
    promise: Promise,
    mut tell: Option<oneshot::Sender<Led>>,
) {
    // Who comes while another asks in vain does not ask again.
    let mut since = asked.came;
    loop {
        let draw = match partial.next(&promise).await {
            Ok(Some(draw)) => draw,
            Ok(None) => break,
            Err(FillError::Gone) => return say(tell, Led::Again),
            Err(error) => {
                tracing::debug!(url = asked.url.as_str(), %error, "passed through");
                return say(tell, Led::Alone(Pass::NoRoom));
            }
        };
        let failed = partial.failed_since(since, &asked.host());
        if let Some(status) = failed.filter(|status| *status != ANSWERED) {
            return say(tell, Led::FailedForAll(status));
        }
        if let Err(ended) = run(&asked, &partial, draw, &mut tell).await {
            return end(&asked, &partial, ended, tell).await;
        }
        since = Instant::now();
    }
    // Others have drawn it all.
    say(tell, Led::Filling(partial.tail(), Source::others()));
    complete(&asked, &partial).await;
}

/// Puts the object in place if nothing is missing any more.
pub(crate) async fn complete(asked: &Asked, partial: &Partial) {
    let url = asked.url.as_str();
    match partial.complete().await {
        Ok(Some(_)) => tracing::debug!(url, length = partial.length(), "stored"),
        Ok(None) => {}
        Err(error) => tracing::warn!(url, %error, "the parts cannot be put in place"),
    }
}

/// Why no more runs are drawn.
pub(crate) enum Ended {
    /// What is held is of another version than what the origin has.
    Changed,
    /// The origin sent the whole of what it has.
    Whole(Box<(Asked, Arrived)>),
    /// What it sent says nothing about what is held: it is not to be kept, no answer to what was
    /// asked, or for a client with credentials.
    Alone,
    /// It sent something else.
    Refused(Box<Arrived>),
    /// Nobody has it.
    Failed(OriginError),
    /// It broke, or the disk did; that has been said.
    Broken,
}

/// One run, from the origin that the object is of or from another that has the same.
async fn run(
    asked: &Asked,
    partial: &Partial,
    draw: Draw,
    tell: &mut Option<oneshot::Sender<Led>>,
) -> Result<(), Ended> {
    let (start, end) = draw.span();
    let tail = partial.tail();
    let mut ended = Ended::Failed(OriginError::NoRoute);
    let patience = asked.shared.origins.patience(Instant::now());
    let mut sources = sources(asked, &partial.meta()).into_iter();
    while let Some(at) = sources.next() {
        let file = File {
            asked: &at,
            tail: &tail,
            length: Some(partial.length()),
            origin: partial.origin(),
        };
        ended = match file.ask((start, Some(end)), patience, sources.len()).await {
            Answer::Part(part) if !is_kept(&at, partial, &part) => Ended::Alone,
            Answer::Part(part) => {
                if !draw.agreed() {
                    // Another has come so far meanwhile that it draws these bytes too.
                    return Ok(());
                }
                if part.same_origin {
                    renew(&at, partial, &part.arrived);
                }
                if let Some(tell) = tell.take() {
                    let source = Source::of(&part.arrived);
                    drop(tell.send(Led::Filling(tail.clone(), source)));
                }
                return copy(file, draw, part).await;
            }
            Answer::Whole(arrived) => Ended::Whole(Box::new((at.clone(), arrived))),
            Answer::Changed => Ended::Changed,
            Answer::Odd => Ended::Alone,
            Answer::Refused(arrived) => Ended::Refused(Box::new(arrived)),
            Answer::Failed(error) => Ended::Failed(error),
        };
        // While the run is ours: nobody else asks the same.
        match &ended {
            Ended::Alone => break,
            Ended::Failed(_) => {}
            _ if asked.is_authorized() => return Err(Ended::Alone),
            Ended::Changed => {
                partial.discard();
                break;
            }
            Ended::Whole(answer) => {
                give_way(partial, &answer.1);
                break;
            }
            Ended::Refused(_) | Ended::Broken => {}
        }
    }
    if let Ended::Failed(error) = &ended {
        // Before others may draw the run.
        partial.failed(&asked.host(), error.status());
    }
    drop(draw);
    Err(ended)
}

/// All of the file comes: parts of the same version are good for those who have them, others for
/// nobody.
fn give_way(partial: &Partial, arrived: &Arrived) {
    let headers = arrived.response.headers();
    let (meta, length) = (partial.meta(), partial.length());
    if is_same_version(&meta, length, headers, arrived.length()) {
        partial.retire();
    } else {
        partial.discard();
    }
}

/// True if a part may be kept and given to others, judged as an answer with all of it would be: its
/// head may say other things than that of the first part (RFC 9111 §3, §4.1).
fn is_kept(asked: &Asked, partial: &Partial, part: &Part) -> bool {
    let (mut headers, fetched) = head_of(asked, &part.arrived);
    headers.remove(CONTENT_RANGE);
    headers.remove(CONTENT_LENGTH);
    let answer = verdict::Answer {
        status: 200,
        headers: &headers,
        length: Some(part.span.length),
    };
    let key = &asked.naming.key;
    let verdict = after_fetch(answer, &asked.headers, key, fetched, asked.rules());
    match verdict {
        AfterFetch::Store(_, found) => found == *partial.key(),
        // A part need not repeat the validator by which it was asked for (RFC 9110 §15.3.7).
        AfterFetch::PassThrough(why) => why == NotStored::Useless,
    }
}

/// Where the object may be asked for: at the URL that it comes from, then at the client's.
fn sources(asked: &Asked, meta: &Meta) -> Vec<Asked> {
    let own = Url::parse(meta.url())
        .ok()
        .filter(|url| *url != asked.url)
        .filter(|url| {
            let access = &asked.policy.access;
            access.decide(&facts(&asked.inlet, "GET", url)).allowed && stays_on_site(asked, url)
        });
    let own = own.map(|url| {
        let elsewhere = url.authority() != asked.url.authority();
        let mut headers = asked.headers.clone();
        if elsewhere {
            // Credentials are for the host that they were given for.
            headers.remove(AUTHORIZATION);
            headers.remove(COOKIE);
        }
        Asked {
            redirected: asked.redirected || elsewhere,
            headers,
            url,
            ..asked.clone()
        }
    });
    own.into_iter().chain([asked.clone()]).collect()
}

/// The answer of a part confirms what is held: its head is the newer one (RFC 9111 §3.4).
pub(crate) fn renew(asked: &Asked, partial: &Partial, arrived: &Arrived) {
    let (fields, fetched) = head_of(asked, arrived);
    partial.renew(refreshed(&partial.meta(), &fields, fetched));
}

/// Copies a part into its run, up to where the run ends by now.
pub(crate) async fn copy(file: File<'_>, mut draw: Draw, part: Part) -> Result<(), Ended> {
    let url = file.asked.url.as_str();
    let (start, _) = draw.span();
    let mut supply = Supply::of_part(file, part, start, draw.end());
    let ended = loop {
        let (at, end) = draw.span();
        if at >= end {
            break Ok(false);
        }
        match supply.next().await {
            Ok(Some(data)) => {
                if let Err(error) = draw.write(data).await {
                    tracing::warn!(url, at, %error, "the run is given up");
                    break Err(Ended::Broken);
                }
            }
            Ok(None) => break Ok(true),
            Err(_) if supply.position() >= draw.span().1 => break Ok(false),
            Err(error) => {
                tracing::warn!(url, at, %error, "the run is given up");
                if at == start {
                    draw.failed(&file.asked.host(), 504);
                }
                break Err(Ended::Broken);
            }
        }
    };
    if draw.finish().await.is_err() {
        return Err(Ended::Broken);
    }
    let is_read_to_its_end = ended? || supply.is_at_end().await;
    if is_read_to_its_end {
        supply.finish();
    }
    Ok(())
}

/// What becomes of the parts, and of the client that waits, where no part came.
async fn end(asked: &Asked, partial: &Partial, ended: Ended, tell: Option<oneshot::Sender<Led>>) {
    let is_own = partial.meta().url() == asked.url.as_str();
    let is_alone = asked.shared.origins.hops(asked).len() < 2;
    match ended {
        Ended::Broken | Ended::Changed => say(tell, Led::Again),
        Ended::Whole(answer) => {
            let (at, arrived) = *answer;
            whole(&at, arrived, tell).await;
        }
        Ended::Refused(arrived) if arrived.response.status() == 416 => {
            // It is shorter now.
            partial.discard();
            say(tell, Led::Again);
        }
        Ended::Refused(arrived) if is_own && is_alone => {
            say(tell, Led::Passed(arrived, NotStored::Status));
        }
        Ended::Failed(error) if is_own && is_alone => say(tell, Led::Failed(error)),
        Ended::Refused(arrived) if !is_own && is_final(&arrived) => {
            // The mirror that it comes from has it no more, and the client's own cannot go on.
            partial.discard();
            say(tell, Led::Again);
        }
        // Its client asks whoever else has it; the parts may be gone on with later.
        Ended::Alone | Ended::Refused(_) | Ended::Failed(_) => {
            say(tell, Led::Alone(Pass::NotShared));
        }
    }
}

/// True if an origin will not have the file later either.
fn is_final(arrived: &Arrived) -> bool {
    let status = arrived.response.status().as_u16();
    matches!(status, 300..=399 | 401 | 403 | 404 | 410)
}

/// An origin that sends everything where a part was asked for: everything is kept.
pub(crate) async fn whole(asked: &Asked, arrived: Arrived, tell: Option<oneshot::Sender<Led>>) {
    let key = crate::hit::key(asked).await;
    if let Some(entry) = asked.shared.store.lookup(&key).await
        && has_stored(asked, &entry, &arrived)
    {
        // It came another way meanwhile.
        return say(tell, Led::Again);
    }
    match asked.shared.store.join(&key) {
        // Somebody else has begun on the new version.
        Join::Lead(_) if parts::are_held(asked, &key) => say(tell, Led::Again),
        Join::Lead(slot) => {
            let tell = tell.unwrap_or_else(|| oneshot::channel().0);
            // Boxed: a fill that others overtake comes back here.
            Box::pin(lead::store(asked, slot, arrived, tell)).await;
        }
        Join::Follow(_) => say(tell, Led::Again),
    }
}

/// True if an answer is what is held as a whole: the same version, or that of another mirror with
/// the same name, date and length.
fn has_stored(asked: &Asked, entry: &Entry, arrived: &Arrived) -> bool {
    let (headers, length) = (arrived.response.headers(), arrived.length());
    let modified = entry.meta().last_modified();
    let is_twin = asked.class == Class::Immutable
        && modified.is_some()
        && headers.get(LAST_MODIFIED) == modified
        && length == Some(entry.len());
    is_twin || is_same_version(entry.meta(), entry.len(), headers, length)
}

/// Tells the client that waits, if one still does.
fn say(tell: Option<oneshot::Sender<Led>>, led: Led) {
    if let Some(tell) = tell {
        drop(tell.send(led));
    }
}
