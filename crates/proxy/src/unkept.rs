//! What is not to be kept (no validator, no-store, private): of a part its client gets what it asked
//! for, and who asks with ranges or conditions in the next minute gets the origin's own answer to
//! them, not a whole block or file of which most is thrown away.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE,
};
use larder_policy::key::CacheKey;
use larder_policy::part::Span;
use larder_policy::range::{self, Selection};
use larder_policy::reason::{NotStored, Pass};

use crate::asked::Asked;
use crate::origin::Arrived;
use crate::pass;
use crate::record::Outcome;
use crate::reply::Reply;

/// How long a file is known for one of which no part is kept.
const KNOWN: Duration = Duration::from_mins(1);
/// Files that are known so at most.
const FILES_MAX: usize = 1024;

/// Files of which no part may be kept.
#[derive(Debug, Default)]
pub(crate) struct Unkept {
    noted: Mutex<HashMap<CacheKey, Instant>>,
}

impl Unkept {
    /// Notes a file that may not be kept, if that is so for all clients.
    pub(crate) fn note_refusal(&self, asked: &Asked, why: NotStored) {
        use NotStored::{Authorization, NoRoom, Status};
        if !asked.is_authorized() && !matches!(why, Authorization | NoRoom | Status) {
            self.note(&asked.naming.key, Instant::now());
        }
    }

    /// Of this file no part may be kept, as its origin has just said.
    fn note(&self, key: &CacheKey, now: Instant) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= FILES_MAX {
            noted.retain(|_, at| now.duration_since(*at) < KNOWN);
        }
        if noted.len() < FILES_MAX {
            noted.insert(key.clone(), now);
        }
    }

    /// True if a request should go to the origin as it is: nothing of its file may be kept, and
    /// its ranges or conditions ask for less than everything.
    pub(crate) fn is_for_origin(&self, asked: &Asked) -> bool {
        let asks_for_less = asked.ranges.is_some() || has_conditions(asked);
        asks_for_less && self.is_noted(&asked.naming.key, asked.came)
    }

    /// True if the origin said so within the last minute.
    fn is_noted(&self, key: &CacheKey, now: Instant) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .get(key)
            .is_some_and(|at| now.saturating_duration_since(*at) < KNOWN)
    }
}

/// What a client has asked for of a part that is in hand. `None`: the part is not enough for it, or
/// its conditions are for the origin to judge.
pub(crate) fn reply(asked: &Asked, mut arrived: Arrived, span: Span) -> Option<Reply> {
    if has_conditions(asked) {
        return None;
    }
    let specs = asked.ranges.as_deref()?;
    let Selection::Spans(spans) = range::select(specs, span.length) else {
        return None;
    };
    let [(start, end)] = spans[..] else {
        return None;
    };
    if start < span.start || end > span.end {
        return None;
    }
    let content_range = range::content_range((start, end), span.length);
    let headers = arrived.response.headers_mut();
    headers.insert(CONTENT_RANGE, HeaderValue::from_str(&content_range).ok()?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - start));
    let why = Pass::ColdRange;
    let detail = Some(why.as_str());
    let mut reply = pass::hand_on(asked, arrived, why.forwarded(), detail, Outcome::Miss);
    reply.response = reply
        .response
        .map(|body| body.cut_to(start - span.start, end - start));
    Some(reply)
}

fn has_conditions(asked: &Asked) -> bool {
    let conditions = [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
    ];
    let mut names = conditions.iter();
    names.any(|name| asked.headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_for_a_minute_and_no_more_than_the_bound_are() {
        let unkept = Unkept::default();
        let key = |n: usize| CacheKey::of_store_id(&n.to_string());
        let begun = Instant::now();
        for n in 0..=FILES_MAX {
            unkept.note(&key(n), begun);
        }
        assert!(unkept.is_noted(&key(0), begun));
        assert!(!unkept.is_noted(&key(FILES_MAX), begun), "no place for it");
        let later = begun + KNOWN;
        assert!(!unkept.is_noted(&key(0), later));
        unkept.note(&key(FILES_MAX), later);
        assert!(unkept.is_noted(&key(FILES_MAX), later));
    }
}
