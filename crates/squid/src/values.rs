//! Numbers, sizes, times and switches, as Squid writes them.

use std::time::Duration;

use crate::note::Findings;
use crate::source::{Statement, Token};

/// Squid's units of time, in seconds; a month has 30 days.
const TIMES: [(&str, f64); 10] = [
    ("millisecond", 0.001),
    ("second", 1.0),
    ("minute", 60.0),
    ("hour", 3600.0),
    ("day", 86_400.0),
    ("week", 604_800.0),
    ("fortnight", 1_209_600.0),
    ("month", 2_592_000.0),
    ("year", 31_557_790.08),
    ("decade", 315_577_900.8),
];

/// What a size directive says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Bytes(u64),
    /// `none` or `-1`.
    Unlimited,
}

impl Size {
    /// The bytes; `None`: no bound.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Unlimited => None,
        }
    }
}

/// A size: a number and a unit, apart or glued; no unit means bytes. `None`: a problem.
pub(crate) fn size(statement: &Statement, found: &mut Findings) -> Option<Size> {
    let first = statement.argument(0, "a size, as `64 MB`", found)?;
    let (digits, glued) = split_number(&first.text);
    if first.text.eq_ignore_ascii_case("none") || digits == "-1" {
        return Some(Size::Unlimited);
    }
    let next = statement.arguments.get(1);
    let unit = if glued.is_empty() {
        next.map_or("bytes", |token| &token.text)
    } else {
        glued
    };
    if glued.is_empty() && next.is_none() && digits.parse::<u64>().is_ok_and(|n| n > 0) {
        let text = format!("`{}` has no unit: these are bytes", joined(statement));
        found.warn(&first.at, text, "write KB, MB or GB after it");
    }
    let size = digits.parse::<f64>().ok().zip(unit_of_size(unit));
    match size {
        Some((number, factor)) if number >= 0.0 => Some(Size::Bytes((number * factor) as u64)),
        _ => {
            let text = format!("`{}` is no size", joined(statement));
            found.problem(&first.at, text, "write a number and bytes, KB, MB or GB");
            None
        }
    }
}

/// The number at the start of a text, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn unit_of_size(unit: &str) -> Option<f64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "bytes" | "byte" | "b" => 1.0,
        "kb" | "kbytes" => 1024.0,
        "mb" => 1024.0 * 1024.0,
        "gb" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    })
}

/// A time: a number (fractions are met in the wild) and a unit, singular or plural; no unit means
/// seconds.
pub(crate) fn time(statement: &Statement, found: &mut Findings) -> Option<Duration> {
    let first = statement.argument(0, "a time, as `30 seconds`", found)?;
    let (digits, glued) = split_number(&first.text);
    let next = statement.arguments.get(1);
    let unit = if glued.is_empty() {
        next.map_or("second", |token| &token.text)
    } else {
        glued
    };
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix('s').unwrap_or(&unit);
    let factor = TIMES.iter().find(|(name, _)| *name == unit);
    let seconds = digits
        .parse::<f64>()
        .ok()
        .zip(factor)
        .map(|(n, (_, factor))| n * factor);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if time.is_none() {
        let text = format!("`{}` is no time", joined(statement));
        found.problem(
            &first.at,
            text,
            "write a number and seconds, minutes, hours, days or weeks",
        );
    }
    time
}

/// `on` or `off`.
pub(crate) fn switch(statement: &Statement, found: &mut Findings) -> Option<bool> {
    let first = statement.argument(0, "`on` or `off`", found)?;
    match first.text.as_str() {
        "on" | "enable" => Some(true),
        "off" | "disable" => Some(false),
        other => {
            found.problem(
                &first.at,
                format!("`{other}` is neither on nor off"),
                "write on or off",
            );
            None
        }
    }
}

/// A whole number, not negative.
pub(crate) fn number<T: std::str::FromStr>(
    token: &Token,
    what: &str,
    found: &mut Findings,
) -> Option<T> {
    let read = token.text.parse().ok();
    if read.is_none() {
        let text = format!("`{}` is no {what}", token.text);
        found.problem(&token.at, text, "write a whole number");
    }
    read
}

fn joined(statement: &Statement) -> String {
    let words: Vec<&str> = statement
        .arguments
        .iter()
        .map(|token| token.text.as_str())
        .collect();
    words.join(" ")
}
