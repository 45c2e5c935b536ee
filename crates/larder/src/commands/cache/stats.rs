//! `larder cache stats`.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use super::Session;
use super::tell::{Progress, number, percent, text};
use crate::config::units::show_size;
use crate::output::{self, Failure};

pub(super) fn run(session: &Session, json: bool) -> Result<ExitCode, Failure> {
    let mut progress = Progress::of("reading");
    let mut stats = Value::Null;
    session.lines("/api/v1/stats", None, |mut line| {
        if !progress.takes(&line) {
            stats = line["stats"].take();
        }
        true
    })?;
    drop(progress);
    if json {
        return output::text(&format!("{stats:#}\n"));
    }
    output::text(&words(&stats))
}

fn words(stats: &Value) -> String {
    let cache = &stats["cache"];
    let mut out = String::new();
    let mut say = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{what:<22} {value}");
    };
    say("objects", number(cache, "objects").to_string());
    say(
        "bodies",
        format!(
            "{} ({})",
            number(cache, "bodies"),
            show_size(number(cache, "bytes"))
        ),
    );
    let partial = &stats["partial"];
    if number(partial, "objects") > 0 {
        let (held, bytes) = (number(partial, "held"), number(partial, "bytes"));
        let (held, bytes) = (show_size(held), show_size(bytes));
        let objects = number(partial, "objects");
        say("in parts", format!("{objects} ({held} of {bytes})"));
    }
    let (used, max) = (number(cache, "used"), number(cache, "max"));
    say(
        "on disk",
        format!("{} of {}", show_size(used), show_size(max)),
    );
    let lookups = &stats["lookups"];
    say(
        "hits",
        format!(
            "{} of {} look-ups",
            percent(&lookups["ratio"]),
            number(lookups, "hits") + number(lookups, "misses")
        ),
    );
    let delivered = &stats["delivered"];
    say(
        "bytes from the cache",
        format!(
            "{} ({})",
            percent(&delivered["ratio"]),
            show_size(number(delivered, "hit_bytes"))
        ),
    );
    say(
        "saved by equal bodies",
        show_size(number(stats, "saved_by_deduplication")),
    );
    say(
        "evicted",
        format!("{} bodies since the start", number(cache, "evictions")),
    );
    lists(stats, &mut out);
    out
}

fn lists(stats: &Value, out: &mut String) {
    // Writing to a String cannot fail.
    for (title, list) in [
        ("extensions", &stats["extensions"]),
        ("mirrors", &stats["mirrors"]),
    ] {
        let _ = writeln!(
            out,
            "\n{title:<30} {:>9} {:>10} {:>9}",
            "objects", "bytes", "uses"
        );
        for group in list.as_array().into_iter().flatten() {
            let bytes = show_size(number(group, "bytes"));
            let (objects, uses) = (number(group, "objects"), number(group, "uses"));
            let _ = writeln!(
                out,
                "{:<30} {objects:>9} {bytes:>10} {uses:>9}",
                text(group, "name")
            );
        }
    }
    let _ = writeln!(out, "\n{:>7} {:>10}  most used", "uses", "bytes");
    for object in stats["top"].as_array().into_iter().flatten() {
        let bytes = show_size(number(object, "bytes"));
        let _ = writeln!(
            out,
            "{:>7} {bytes:>10}  {}",
            number(object, "uses"),
            text(object, "url")
        );
    }
}
