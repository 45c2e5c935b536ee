//! How answers look: sizes, ages, and the line that shows how far a long work is.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A line on a terminal that is written over and over, and gone at the end.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
}

impl Progress {
    pub(super) fn of(what: &'static str) -> Self {
        Self { what, shown: false }
    }

    /// Shows how far it is: the first of these numbers of the second.
    pub(super) fn show(&mut self, done: u64, of: u64) {
        let mut out = std::io::stderr().lock();
        if !out.is_terminal() {
            return;
        }
        let share = (done * 20).checked_div(of).unwrap_or(0).min(20);
        let bar: String = (0..20)
            .map(|at| if at < share { '#' } else { '.' })
            .collect();
        // A terminal that has gone sees nothing anyway.
        let _gone =
            write!(out, "\r{} [{bar}] {done} of {of}\x1b[K", self.what).and_then(|()| out.flush());
        self.shown = true;
    }

    /// Takes a line of an answer: true if it was only progress.
    pub(super) fn takes(&mut self, line: &Value) -> bool {
        let Some(progress) = line.get("progress") else {
            return false;
        };
        let number = |name: &str| progress.get(name).and_then(Value::as_u64);
        let done = number("objects").or_else(|| number("bodies"));
        self.show(done.unwrap_or(0), number("of").unwrap_or(0));
        true
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let mut out = std::io::stderr().lock();
            let _gone = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

/// How long ago, for people.
pub fn ago(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let since = Duration::from_secs(now.saturating_sub(seconds)).as_secs();
    match since {
        0..60 => "just now".to_owned(),
        60..5400 => format!("{} min", since / 60),
        5400..129_600 => format!("{} h", (since + 1800) / 3600),
        _ => format!("{} days", (since + 43_200) / 86_400),
    }
}

pub(super) fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A share in percent.
pub(super) fn percent(value: &Value) -> String {
    match value.as_f64() {
        Some(share) => format!("{:.1} %", share * 100.0),
        None => "none yet".to_owned(),
    }
}
