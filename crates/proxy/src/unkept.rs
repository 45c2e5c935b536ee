//! Parts that are not to be kept (no validator, no-store, private): their client gets of the
//! answer in hand what it asked for, and whoever asks for the file's ranges in the next minute
//! gets them from the origin as asked, not a whole block of which most is thrown away.

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
use larder_policy::reason::Pass;

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
    /// Of this file no part may be kept, as its origin has just said.
    pub(crate) fn note(&self, key: &CacheKey, now: Instant) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= FILES_MAX {
            noted.retain(|_, at| now.duration_since(*at) < KNOWN);
        }
        if noted.len() < FILES_MAX {
            noted.insert(key.clone(), now);
        }
    }

    /// True if the origin said so within the last minute.
    pub(crate) fn is_noted(&self, key: &CacheKey, now: Instant) -> bool {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted
            .get(key)
            .is_some_and(|at| now.saturating_duration_since(*at) < KNOWN)
    }
}

/// What a client has asked for of a part that is in hand. `None`: the part is not enough for it, or
/// its conditions are for the origin to judge.
pub(crate) fn reply(asked: &Asked, mut arrived: Arrived, span: Span) -> Option<Reply> {
    let conditions = [
        IF_MATCH,
        IF_NONE_MATCH,
        IF_MODIFIED_SINCE,
        IF_UNMODIFIED_SINCE,
        IF_RANGE,
    ];
    if conditions
        .iter()
        .any(|name| asked.headers.contains_key(name))
    {
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
