//! Classes and refresh rules, in words.

use std::time::Duration;

use larder_policy::class::Class;
use larder_policy::policy::Semantics;
use larder_policy::refresh::{Overrides, RefreshRule};

use crate::config::units::show_duration;

/// A class, and what follows from it where no rule says otherwise.
pub(super) fn class(class: Class) -> String {
    let means = match class {
        Class::Immutable => "its name tells its version: never changes",
        Class::Root => "says what a repository holds now: changes under its name",
        Class::Volatile => "other repository metadata",
        Class::Image => "a boot or disk image",
        Class::Other => "anything else",
    };
    format!("{} ({means})", class.as_str())
}

/// The refresh rule that applies, and what it means.
pub(super) fn refresh(rule: Option<&RefreshRule>, class: Class, semantics: Semantics) -> String {
    match rule {
        Some(rule) => {
            let mut text = format!("{}: {}", rule.text, numbers(rule));
            for said in overrides(rule.options) {
                text.push_str("; ");
                text.push_str(said);
            }
            if class == Class::Root && rule.catch_all && semantics == Semantics::Larder {
                text.push_str(
                    "; at most 60 seconds, since it is a root file and the rule matches everything",
                );
            }
            text
        }
        None if semantics == Semantics::Squid => {
            "none: fresh for 20 % of the time since the last change, at most 3 days".to_owned()
        }
        None => format!("none; its class says: {}", by_class(class)),
    }
}

fn by_class(class: Class) -> &'static str {
    match class {
        Class::Immutable => "fresh for 30 days, whatever max-age or no-cache say",
        Class::Root => "the origin is asked at each use",
        Class::Volatile => {
            "what the origin says, else 10 % of the time since the last change, at most 1 hour"
        }
        Class::Image | Class::Other => {
            "what the origin says, else 10 % of the time since the last change, at most 1 day"
        }
    }
}

/// Minimum, percentage and maximum.
fn numbers(rule: &RefreshRule) -> String {
    format!(
        "fresh as long as the origin says, else for {} % of the time since the last change, at most {}, \
         and {} where the last change is not known",
        rule.percent,
        seconds(rule.max),
        seconds(rule.min),
    )
}

fn overrides(options: Overrides) -> Vec<&'static str> {
    [
        (
            options.override_expire,
            "the minimum holds against a shorter Expires or max-age",
        ),
        (
            options.override_lastmod,
            "the minimum holds against a shorter percentage",
        ),
        (
            options.ignore_no_cache,
            "no-cache of the origin is not heeded",
        ),
        (
            options.ignore_no_store,
            "no-store of the origin is not heeded",
        ),
        (
            options.ignore_private,
            "private of the origin is not heeded",
        ),
        (
            options.ignore_must_revalidate,
            "must-revalidate of the origin is not heeded",
        ),
        (options.ignore_reload, "a client's no-cache is not heard"),
        (
            options.reload_into_ims,
            "a client's no-cache becomes a conditional request",
        ),
        (
            options.refresh_ims,
            "a client's If-Modified-Since is put to the origin",
        ),
        (options.store_stale, "kept even if stale at once"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, words)| words)
    .collect()
}

fn seconds(seconds: i64) -> String {
    show_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
