//! Regular expressions of rules: the linear-time engine where it can, a backtracking one with a
//! bound where the pattern needs look-around or back-references.
//!
//! URLs come from clients, so no pattern may take unbounded time on one: a backtracking search
//! that reaches its limit reports that instead of an answer, and the caller decides what is safe.

use std::fmt;

use regex::{RegexSet, RegexSetBuilder, SetMatches};

/// Steps that a backtracking search may take: some milliseconds.
const BACKTRACK_STEPS_MAX: usize = 100_000;
/// Compiled size of one pattern, bytes. Lists of alternatives with thousands of branches fit.
const PATTERN_BYTES_MAX: usize = 32 << 20;
/// From so many patterns on, all are searched at once.
const JOINT_PATTERNS_MIN: usize = 5;
/// Compiled size of joint patterns, bytes.
const JOINT_BYTES_MAX: usize = 128 << 20;
/// URLs that have as little in common as URLs can: a pattern that matches them all matches any.
const UNLIKE_URLS: [&str; 4] = [
    "http://a/",
    "https://[::1]:8443/%7F?-",
    "http://0.0.0.0:1/_/1.rpm",
    "http://mirror.example.org/pub/Linux/7/os/x86_64/repodata/repomd.xml?x=y&z=%20",
];

/// A pattern that is no regular expression, or too large a one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PatternError {
    /// What is wrong, in one line.
    pub reason: String,
    /// Where in the pattern, characters from its start; `None`: the whole.
    pub offset: Option<usize>,
}

/// A search reached its backtrack limit: there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern reached its backtrack limit")]
pub struct GaveUp;

/// A compiled pattern. Searches are unanchored.
#[derive(Clone)]
pub struct Pattern {
    written: String,
    engine: Engine,
}

#[derive(Clone)]
enum Engine {
    Linear(regex::Regex),
    Backtracking(Box<fancy_regex::Regex>),
}

impl Pattern {
    /// Compiles a pattern in the syntax of the `regex` crate, or of `fancy-regex` where that is
    /// not enough.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        Self::translated(text, text)
    }

    /// Compiles `text`, which stands for what the operator wrote as `written` in another dialect.
    pub fn translated(text: &str, written: &str) -> Result<Self, PatternError> {
        Ok(Self {
            written: written.to_owned(),
            engine: compile(text)?,
        })
    }

    /// The pattern as the operator wrote it.
    pub fn as_written(&self) -> &str {
        &self.written
    }

    /// True if the pattern occurs in `text`.
    pub fn is_match(&self, text: &str) -> Result<bool, GaveUp> {
        match &self.engine {
            Engine::Linear(regex) => Ok(regex.is_match(text)),
            Engine::Backtracking(regex) => regex.is_match(text).map_err(|_e| GaveUp),
        }
    }

    /// True if the pattern matches every URL, such as `.` and `^http`.
    pub fn is_catch_all(&self) -> bool {
        UNLIKE_URLS.iter().all(|url| self.is_match(url) == Ok(true))
    }

    /// The number of groups, the whole match not counted.
    pub fn groups(&self) -> usize {
        match &self.engine {
            Engine::Linear(regex) => regex.captures_len() - 1,
            Engine::Backtracking(regex) => regex.captures_len() - 1,
        }
    }

    /// The text of each group at the first match; a group that took no part is empty.
    pub(super) fn captures<'t>(&self, text: &'t str) -> Result<Option<Vec<&'t str>>, GaveUp> {
        let spans: Option<Vec<Option<&'t str>>> = match &self.engine {
            Engine::Linear(regex) => regex
                .captures(text)
                .map(|found| found.iter().map(|g| g.map(|m| m.as_str())).collect()),
            Engine::Backtracking(regex) => regex
                .captures(text)
                .map_err(|_e| GaveUp)?
                .map(|found| found.iter().map(|g| g.map(|m| m.as_str())).collect()),
        };
        Ok(spans.map(|spans| {
            let groups = spans.into_iter().skip(1);
            groups.map(Option::unwrap_or_default).collect()
        }))
    }

    /// What stands for it in a [`PatternSet`]: itself, or what occurs in every text where only the
    /// backtracking engine knows it.
    fn linear(&self) -> &str {
        match &self.engine {
            Engine::Linear(regex) => regex.as_str(),
            Engine::Backtracking(_) => "",
        }
    }
}

/// Patterns that are searched in one pass, so that hundreds of rules cost about what one does.
#[derive(Clone, Debug, Default)]
pub struct PatternSet(Option<RegexSet>);

/// Which patterns of a set can occur in a text.
#[derive(Debug)]
pub struct Candidates(Option<SetMatches>);

impl PatternSet {
    /// A set of patterns that are counted in this order. Few patterns, or too large ones, are not
    /// joined: then each is a candidate always.
    pub fn new<'a>(patterns: impl ExactSizeIterator<Item = &'a Pattern>) -> Self {
        if patterns.len() < JOINT_PATTERNS_MIN {
            return Self(None);
        }
        let joint = RegexSetBuilder::new(patterns.map(Pattern::linear))
            .size_limit(JOINT_BYTES_MAX)
            .dfa_size_limit(JOINT_BYTES_MAX)
            .build();
        Self(joint.ok())
    }

    /// Finds the patterns that can occur in `text`.
    pub fn candidates(&self, text: &str) -> Candidates {
        Candidates(self.0.as_ref().map(|set| set.matches(text)))
    }

    /// True if the patterns are searched at once.
    pub fn is_joint(&self) -> bool {
        self.0.is_some()
    }
}

impl Candidates {
    /// False if the pattern with this index surely does not occur.
    pub fn contains(&self, index: usize) -> bool {
        self.0.as_ref().is_none_or(|found| found.matched(index))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.written).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

fn compile(text: &str) -> Result<Engine, PatternError> {
    let linear = regex::RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    let refused = match linear {
        Ok(regex) => return Ok(Engine::Linear(regex)),
        Err(regex::Error::CompiledTooBig(_)) => {
            return Err(PatternError {
                reason: "the pattern is too large".to_owned(),
                offset: None,
            });
        }
        Err(refused) => refused,
    };
    fancy_regex::RegexBuilder::new(text)
        .backtrack_limit(BACKTRACK_STEPS_MAX)
        .delegate_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map(|regex| Engine::Backtracking(Box::new(regex)))
        .map_err(|_e| explain(&refused))
}

/// The engine's message has the pattern in its second line and a caret under the place in its third.
fn explain(refused: &regex::Error) -> PatternError {
    let message = refused.to_string();
    let reason = message
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("error: "))
        .unwrap_or("it is no regular expression")
        .to_owned();
    let caret = message.lines().nth(2).and_then(|line| line.find('^'));
    PatternError {
        reason,
        // The engine indents pattern and caret by four columns.
        offset: caret.and_then(|column| column.checked_sub(4)),
    }
}
