//! `refresh_pattern [-i] regex min percent max [options]`.

use larder_policy::refresh::{Overrides, RefreshRule};

use crate::acl;
use crate::note::Findings;
use crate::source::{Statement, Token};
use crate::suggest;

/// Squid cuts min and max at a year, minutes.
const MINUTES_MAX: i64 = 525_600;

const OPTIONS: [&str; 8] = [
    "ignore-no-store",
    "ignore-private",
    "ignore-reload",
    "override-expire",
    "override-lastmod",
    "refresh-ims",
    "reload-into-ims",
    "store-stale",
];

/// Switches of the whole file that each rule inherits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Globals {
    pub(crate) max_stale: Option<i64>,
    pub(crate) reload_into_ims: bool,
    pub(crate) refresh_all_ims: bool,
}

/// Reads all rules, in order.
pub(crate) fn read(
    statements: &[Statement],
    globals: Globals,
    found: &mut Findings,
) -> Vec<RefreshRule> {
    statements
        .iter()
        .filter(|statement| statement.name.text == "refresh_pattern")
        .filter_map(|statement| rule(statement, globals, found))
        .collect()
}

fn rule(statement: &Statement, globals: Globals, found: &mut Findings) -> Option<RefreshRule> {
    let mut ignore_case = false;
    let mut words = statement.arguments.as_slice();
    while let [flag, rest @ ..] = words
        && matches!(flag.text.as_str(), "-i" | "+i")
    {
        ignore_case = flag.text == "-i";
        words = rest;
    }
    let [pattern, min, percent, max, options @ ..] = words else {
        found.problem(
            &statement.name.at,
            "refresh_pattern needs a pattern, min, percent and max",
            "write refresh_pattern PATTERN MINUTES PERCENT% MINUTES",
        );
        return None;
    };
    let pattern = acl::pattern(pattern, ignore_case, found)?;
    let (min_minutes, max_minutes) = (minutes(min, found)?, minutes(max, found)?);
    if min_minutes > max_minutes {
        let text = format!("min ({min_minutes}) is more than max ({max_minutes})");
        found.warn(
            &min.at,
            text,
            "max wins where the origin states nothing; exchange them?",
        );
    }
    Some(RefreshRule {
        catch_all: pattern.is_catch_all(),
        pattern,
        min: min_minutes * 60,
        percent: percentage(percent, found)?,
        max: max_minutes * 60,
        options: overrides(options, globals, found),
        text: statement.shown(),
    })
}

fn minutes(token: &Token, found: &mut Findings) -> Option<i64> {
    let minutes: i64 = crate::values::number(token, "number of minutes", found)?;
    if (0..=MINUTES_MAX).contains(&minutes) {
        return Some(minutes);
    }
    found.warn(
        &token.at,
        format!("{minutes} minutes are cut to between 0 and {MINUTES_MAX} (a year)"),
        "write a number of minutes in that range",
    );
    Some(minutes.clamp(0, MINUTES_MAX))
}

/// The `%` may be left out; more than 100 is allowed.
fn percentage(token: &Token, found: &mut Findings) -> Option<u32> {
    let digits = token.text.strip_suffix('%').unwrap_or(&token.text);
    let read = digits.parse().ok();
    if read.is_none() {
        found.problem(
            &token.at,
            format!("`{}` is no percentage", token.text),
            "write it as 20%",
        );
    }
    read
}

fn overrides(tokens: &[Token], globals: Globals, found: &mut Findings) -> Overrides {
    let mut options = Overrides {
        max_stale: globals.max_stale,
        reload_into_ims: globals.reload_into_ims,
        refresh_ims: globals.refresh_all_ims,
        ..Overrides::default()
    };
    for token in tokens {
        match token.text.as_str() {
            "ignore-no-store" => options.ignore_no_store = true,
            "ignore-private" => options.ignore_private = true,
            "ignore-reload" => options.ignore_reload = true,
            "override-expire" => options.override_expire = true,
            "override-lastmod" => options.override_lastmod = true,
            "refresh-ims" => options.refresh_ims = true,
            "reload-into-ims" => options.reload_into_ims = true,
            "store-stale" => options.store_stale = true,
            "ignore-no-cache" | "ignore-must-revalidate" | "ignore-auth" => found.info(
                &token.at,
                format!(
                    "`{}` is obsolete: Squid ignores it, and so does larder",
                    token.text
                ),
                "remove it",
            ),
            text => match text.strip_prefix("max-stale=").map(str::parse::<i64>) {
                Some(Ok(seconds)) => options.max_stale = Some(seconds).filter(|s| *s >= 0),
                _ => unknown(token, found),
            },
        }
    }
    options
}

/// Squid complains and uses the line all the same.
fn unknown(token: &Token, found: &mut Findings) {
    let mend = match suggest::nearest(&token.text, OPTIONS) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "remove it".to_owned(),
    };
    let text = format!(
        "refresh_pattern has no option `{}`; it is left out",
        token.text
    );
    found.warn(&token.at, text, mend);
}
