//! Which URLs are one object: store IDs, the identity of a file across mirrors.
//!
//! A rule is a pattern and a replacement. The first rule whose pattern occurs in the normal form
//! of a URL decides, and the whole URL becomes the replacement, `$1` to `$9` standing for the
//! pattern's groups. The rules of Squid's `storeid_file_rewrite` mean the same here, down to its
//! oddities, with two differences: the pattern is searched in the URL alone (the helper searches
//! the line that Squid sends it, so that `$` never finds the end of the URL there), and a captured
//! text that itself contains `$2` is not expanded again.
//!
//! A result is never percent-decoded, since `p%2Fq` and `p/q` can be different files. The one
//! exception is `%2B` in its path, which counts as `+`: dnf escapes the plus sign, other clients
//! do not, and they mean the same file.

mod database;
mod pattern;
mod review;

use crate::url::Url;

pub use database::{Database, Finding, Weight, read_database};
pub use pattern::{GaveUp, Pattern, PatternError, PatternSet};
pub use review::Concern;

/// One rule: what it matches, and what a matching URL becomes.
#[derive(Clone, Debug)]
pub struct StoreIdRule {
    pattern: Pattern,
    replacement: String,
    parts: Vec<Part>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// Counted from 0.
    Group(usize),
}

impl StoreIdRule {
    /// A rule, and how it is shown to people (`storeid.db:3`).
    pub fn new(pattern: Pattern, replacement: &str, text: String) -> Self {
        Self {
            parts: parts(replacement, pattern.groups()),
            replacement: replacement.to_owned(),
            pattern,
            text,
        }
    }

    /// What it matches.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// What a matching URL becomes, as written.
    pub fn replacement(&self) -> &str {
        &self.replacement
    }

    /// How the rule is shown to people.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The store ID of `url`, if the pattern occurs in it.
    pub fn apply(&self, url: &str) -> Result<Option<String>, GaveUp> {
        let Some(groups) = self.pattern.captures(url)? else {
            return Ok(None);
        };
        let mut id = String::with_capacity(url.len());
        for part in &self.parts {
            id.push_str(match part {
                Part::Literal(text) => text,
                Part::Group(at) => groups.get(*at).copied().unwrap_or_default(),
            });
        }
        Ok(Some(with_plain_plus(id)))
    }

    /// True if the replacement names no group: every URL that matches is one object.
    pub fn is_constant(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_)))
    }
}

/// Takes a replacement apart. Only `$1` to `$9` name groups, and only those that the pattern has:
/// `$10` is `$1` and a `0`; `$0`, `$&`, `${1}` and `\1` are plain text. The helper is written in
/// Perl, where a match without groups yields 1: there `$1` becomes `1`.
fn parts(replacement: &str, groups: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = replacement.chars();
    while let Some(c) = rest.next() {
        let digit = rest.clone().next().and_then(|next| next.to_digit(10));
        let group = digit.filter(|_| c == '$').map(|digit| digit as usize);
        match group {
            Some(1) if groups == 0 => literal.push('1'),
            Some(group) if (1..=groups).contains(&group) => {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Group(group - 1));
            }
            _ => {
                literal.push(c);
                continue;
            }
        }
        rest.next();
    }
    parts.push(Part::Literal(literal));
    parts.retain(|part| *part != Part::Literal(String::new()));
    parts
}

fn with_plain_plus(id: String) -> String {
    if !id.contains("%2B") {
        return id;
    }
    match id.split_once('?') {
        Some((path, query)) => format!("{}?{query}", path.replace("%2B", "+")),
        None => id.replace("%2B", "+"),
    }
}

/// All rules, in order.
#[derive(Clone, Debug, Default)]
pub struct StoreIds {
    rules: Vec<StoreIdRule>,
    patterns: PatternSet,
}

impl StoreIds {
    /// Makes the rules ready for use.
    pub fn new(rules: Vec<StoreIdRule>) -> Self {
        Self {
            patterns: PatternSet::new(rules.iter().map(StoreIdRule::pattern)),
            rules,
        }
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[StoreIdRule] {
        &self.rules
    }

    /// The first rule that matches, and the store ID that it gives. Where a pattern gives up before
    /// that, there is none: the object is kept under its URL, which is never wrong.
    pub fn rewrite(&self, url: &Url) -> Option<(usize, String)> {
        let text = url.as_str();
        let candidates = self.patterns.candidates(text);
        let rules = self.rules.iter().enumerate();
        for (index, rule) in rules.filter(|(index, _)| candidates.contains(*index)) {
            match rule.apply(text) {
                Ok(Some(id)) => return Some((index, id)),
                Ok(None) => {}
                Err(GaveUp) => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
