//! What is said about a configuration: where, how grave, what, and what to do.

use std::fmt;
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// How many characters it is about, at least 1.
    pub length: usize,
}

impl Position {
    /// The first character of a file.
    pub fn start_of(file: &str) -> Self {
        Self {
            file: file.into(),
            line: 1,
            column: 1,
            length: 1,
        }
    }

    /// `squid.conf:9`, the folder left out: how access rules are named in pages and logs.
    pub fn short(&self) -> String {
        let name = self.file.rsplit('/').next().unwrap_or(&self.file);
        format!("{name}:{}", self.line)
    }

    /// The characters from `start` on, `length` of them.
    #[must_use]
    pub fn within(&self, start: usize, length: usize) -> Self {
        Self {
            column: self.column + start,
            length: length.max(1),
            ..self.clone()
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know; nothing needs doing.
    Info,
    /// It works, though hardly as meant, or not as safely as it could.
    Warning,
}

/// Something to say about a configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub position: Position,
    /// How much it matters.
    pub severity: Severity,
    /// What is the matter.
    pub text: String,
    /// What to do about it; empty where nothing needs doing.
    pub mend: String,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {text}; {mend}")]
pub struct Problem {
    /// Where.
    pub position: Position,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub mend: String,
}

/// A configuration that cannot be used: all that was found in it.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why, in the order of the lines; never empty.
    pub problems: Vec<Problem>,
    /// What else is worth saying about it.
    pub notes: Vec<Note>,
}

/// Collects what is found while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) notes: Vec<Note>,
    pub(crate) problems: Vec<Problem>,
}

impl Findings {
    pub(crate) fn info(&mut self, at: &Position, text: impl Into<String>, mend: impl Into<String>) {
        self.note(Severity::Info, at, text, mend);
    }

    pub(crate) fn warn(&mut self, at: &Position, text: impl Into<String>, mend: impl Into<String>) {
        self.note(Severity::Warning, at, text, mend);
    }

    pub(crate) fn note(
        &mut self,
        severity: Severity,
        at: &Position,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.notes.push(Note {
            position: at.clone(),
            severity,
            text: text.into(),
            mend: mend.into(),
        });
    }

    pub(crate) fn problem(
        &mut self,
        at: &Position,
        text: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.problems.push(Problem {
            position: at.clone(),
            text: text.into(),
            mend: mend.into(),
        });
    }
}
