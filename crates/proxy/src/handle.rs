//! One request's story, from its head to its answer.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use larder_policy::access::Facts;
use larder_policy::framing;
use larder_policy::headers::is_loop;
use larder_policy::reason::Pass;
use larder_policy::target::{RequestLine, Target};
use larder_policy::url::Url;
use larder_policy::verdict::{self, BeforeFetch};
use larder_store::Entry;

use crate::asked::{Asked, accelerated, facts};
use crate::body::Body;
use crate::lead::InHand;
use crate::record::Open;
use crate::reply::Reply;
use crate::shared::{Inlet, Shared};
use crate::{hit, miss, own, parts, pass, reply, revalidate, tunnel};

/// Answers one request; the record is written when the answer's body ends.
pub(crate) async fn handle(
    shared: Arc<Shared>,
    inlet: Arc<Inlet>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut open = Open::new(&shared, &inlet, &request);
    if head_bytes(&request) > shared.limits.header_bytes {
        return open.finish(reply::head_too_large());
    }
    let line = RequestLine {
        method: request.method(),
        uri: request.uri(),
        version: request.version(),
        headers: request.headers(),
    };
    if let Err(why) = framing::check_request(request.version(), request.headers()) {
        return open.finish(reply::unframed(why));
    }
    let reply = match Target::of(line, &inlet.mode) {
        Ok(Target::Resource(_)) if own::is_last(&request) => own::last(request.method()),
        Ok(Target::Resource(url)) if own::is_here(&url, &inlet) => own::page(url.path(), &inlet),
        Ok(Target::Resource(url)) => {
            open.asked_for(url.as_str());
            resource(&shared, &inlet, request, url).await
        }
        Ok(Target::Tunnel(authority)) => {
            open.asked_for(&authority.to_string());
            return tunnel::open(shared, inlet, request, authority, open).await;
        }
        Ok(Target::Own(path)) => own::page(&path, &inlet),
        Ok(Target::Server) => own::options(),
        Err(error) => reply::refused(&error),
    };
    open.finish(reply)
}

/// So long is a request's head as it is read; the parser's own bound is that of its buffer, which
/// takes more where more comes at once.
fn head_bytes(request: &Request<Incoming>) -> usize {
    let line = request.method().as_str().len() + request.uri().to_string().len() + 12;
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + 4);
    line + fields.sum::<usize>() + 2
}

/// A request for a resource: judged, named, looked up, and answered by what the verdict says.
async fn resource(
    shared: &Arc<Shared>,
    inlet: &Arc<Inlet>,
    request: Request<Incoming>,
    url: Url,
) -> Reply {
    let policy = shared.policy.load_full();
    if is_loop(request.headers(), &shared.name) {
        return reply::loop_detected();
    }
    let facts = Facts {
        configured: policy.routes.are_configured(&url, accelerated(inlet)),
        ..facts(inlet, request.method().as_str(), &url)
    };
    let decision = policy.access.decide(&facts);
    if !decision.allowed {
        return reply::denied(decision.text);
    }
    let (parts, incoming) = request.into_parts();
    let asked = Asked::new(shared, inlet, policy, parts, url);
    if let Some(why) = asked.passes() {
        if asked.control.only_if_cached {
            return reply::only_if_cached();
        }
        return pass::reply(&asked, Some(incoming), why).await;
    }
    let (mut verdict, mut held) = judged(&asked).await;
    let held_is_used = matches!(
        verdict,
        BeforeFetch::Hit(_) | BeforeFetch::HitWhileAsking(_)
    );
    if !held_is_used && hit::settled(&asked).await {
        (verdict, held) = judged(&asked).await;
    }
    if let Some(entry) = held.as_ref().filter(|_| is_used(verdict))
        && !hit::is_ready(&asked, entry).await
    {
        return unready(&asked).await;
    }
    by_verdict(&asked, verdict, held).await
}

/// True if an answer may be made of what is held.
fn is_used(verdict: BeforeFetch) -> bool {
    match verdict {
        BeforeFetch::Hit(_)
        | BeforeFetch::HitWhileAsking(_)
        | BeforeFetch::OfflineHit(_)
        | BeforeFetch::Revalidate(..) => true,
        BeforeFetch::Miss | BeforeFetch::OnlyIfCached | BeforeFetch::OfflineMiss => false,
    }
}

/// What is held may be damaged: its part comes from the origin, where that may be asked.
async fn unready(asked: &Asked) -> Reply {
    if asked.control.only_if_cached {
        return reply::only_if_cached();
    }
    pass::reply(asked, None, Pass::ColdRange).await
}

async fn by_verdict(asked: &Asked, verdict: BeforeFetch, held: Option<Entry>) -> Reply {
    match (verdict, held) {
        (BeforeFetch::Hit(judged), Some(entry)) => hit::reply(asked, &entry, judged),
        (BeforeFetch::HitWhileAsking(judged), Some(entry)) => {
            hit::while_asking(asked, entry, judged)
        }
        (BeforeFetch::OfflineHit(judged), Some(entry)) => hit::offline(asked, &entry, judged),
        (BeforeFetch::Revalidate(why, judged), Some(entry)) => {
            let held = InHand { entry, judged };
            match parts::newer(asked, &held).await {
                Some(reply) => reply,
                None => revalidate::reply(asked, held, why).await,
            }
        }
        (BeforeFetch::OnlyIfCached, _) => match parts::held(asked).await {
            Some(reply) => reply,
            None => reply::only_if_cached(),
        },
        (BeforeFetch::OfflineMiss, _) => match parts::held(asked).await {
            Some(reply) => reply,
            None => reply::offline_miss(),
        },
        (_, None) | (BeforeFetch::Miss, Some(_)) => miss::reply(asked).await,
    }
}

/// What is held, and what to do with it.
async fn judged(asked: &Asked) -> (BeforeFetch, Option<Entry>) {
    let held = hit::lookup(asked).await;
    let meta = held.as_ref().map(|entry| &**entry.meta());
    let verdict = verdict::before_fetch(&asked.control, meta, asked.rules(), asked.now);
    (verdict, held)
}
