//! What is told of objects of which only parts are held.
//!
//! Such an object's line is like any other's, with `state` `partial` and `held`, the bytes of it
//! that are there; it has no `sha256` yet, and nobody has counted its deliveries.

use larder_store::{PartialObject, Store};
use serde_json::{Value, json};

use crate::events::Teller;
use crate::objects::{self, Filter};

/// Tells of those that fit, at most so many; with their heads, if that is wanted. Returns how many.
pub(crate) fn tell(
    store: &Store,
    filter: &Filter,
    (limit, head): (usize, bool),
    teller: &mut Teller,
) -> usize {
    let partials = store.partials().into_iter();
    let fitting = partials.filter(|it| filter.fits_fill(&it.key, Some(it.meta.url())));
    let mut told = 0;
    for partial in fitting.take(limit) {
        if !teller.say_among_many(&line(&partial, head)) {
            break;
        }
        told += 1;
    }
    told
}

/// All together, for `stats`.
pub(crate) fn sum(store: &Store) -> Value {
    let (mut objects, mut held, mut bytes) = (0, 0, 0);
    for partial in store.partials() {
        objects += 1;
        held += partial.held;
        bytes += partial.len;
    }
    json!({"objects": objects, "held": held, "bytes": bytes})
}

fn line(partial: &PartialObject, head: bool) -> Value {
    let mut line = objects::described(&partial.key, &partial.meta, head);
    if let Some(fields) = line.as_object_mut() {
        let fetched = fields.get("fetched").cloned().unwrap_or_default();
        for (name, value) in [
            ("state", json!("partial")),
            ("bytes", json!(partial.len)),
            ("held", json!(partial.held)),
            ("allocated", json!(partial.allocated)),
            ("sha256", Value::Null),
            ("names", json!(1)),
            ("uses", json!(0)),
            ("used", fetched.clone()),
            ("added", fetched),
        ] {
            fields.insert(name.to_owned(), value);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_policy::key::CacheKey;
    use larder_policy::meta::{Fetched, Meta};

    use super::*;

    #[test]
    fn a_line_says_what_is_there_and_what_is_not_known() {
        let fetched = Fetched {
            url: "http://h/a.iso".to_owned(),
            ..Fetched::default()
        };
        let partial = PartialObject {
            key: CacheKey::from_text("url:http://h/a.iso").expect("a key"),
            meta: Arc::new(Meta::new(200, http::HeaderMap::new(), fetched)),
            len: 100,
            held: 40,
            allocated: 4096,
        };
        let line = line(&partial, true);
        assert_eq!(line["state"], "partial");
        assert_eq!((&line["held"], &line["bytes"]), (&json!(40), &json!(100)));
        assert!(line["sha256"].is_null() && line["head"].is_array());
        assert_eq!(line["url"], "http://h/a.iso");
    }
}
