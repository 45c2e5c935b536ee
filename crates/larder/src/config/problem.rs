//! What is wrong with a configuration, or worth knowing: a message, its place, and the mend.
//!
//! Both front-ends speak through these values. Every problem is collected before any is shown, so
//! that one look mends a file; rendering (frames, carets, colours) is miette's, at the edge.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};
use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Works, but hardly as meant, or is dangerous.
    Warning,
    /// Not good: larder does not start with it.
    Error,
}

impl Severity {
    /// The word for people and for `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A text that was read: a file, or the value of an environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is called, as the operator named it.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl Source {
    /// A text under its name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            text: text.into(),
        })
    }
}

/// A stretch of a text.
#[derive(Clone, Debug)]
pub struct Place {
    /// The text.
    pub source: Arc<Source>,
    /// The stretch, bytes from its start.
    pub span: Range<usize>,
}

impl Place {
    /// The stretch that starts at a line and column (from 1, in characters) and is `length` bytes
    /// long; what lies outside the text is brought to its end.
    pub fn at_line(source: &Arc<Source>, line: usize, column: usize, length: usize) -> Self {
        let text = &source.text;
        let before = line.saturating_sub(1);
        let start_of_line = match before {
            0 => 0,
            _ => text
                .match_indices('\n')
                .nth(before - 1)
                .map_or(text.len(), |(at, _)| at + 1),
        };
        let rest = text.get(start_of_line..).unwrap_or_default();
        let column = rest
            .char_indices()
            .nth(column.saturating_sub(1))
            .map_or(0, |(at, _)| at);
        let start = (start_of_line + column).min(text.len());
        let end_of_line = text
            .get(start..)
            .and_then(|rest| rest.find('\n'))
            .map_or(text.len(), |length| start + length);
        Self {
            source: Arc::clone(source),
            span: start..start.saturating_add(length).min(end_of_line),
        }
    }

    /// As [`Place::at_line`], with the length in characters.
    pub fn of_characters(source: &Arc<Source>, line: usize, column: usize, length: usize) -> Self {
        let from = Self::at_line(source, line, column, usize::MAX);
        let bytes = from
            .text()
            .chars()
            .take(length)
            .map(char::len_utf8)
            .sum::<usize>();
        Self {
            span: from.span.start..from.span.start + bytes,
            ..from
        }
    }

    /// Line and column of its start, from 1; columns in characters.
    pub fn line_column(&self) -> (usize, usize) {
        let before = self
            .source
            .text
            .get(..self.span.start)
            .unwrap_or(&self.source.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count())
            + 1;
        (line, column)
    }

    /// What stands there.
    pub fn text(&self) -> &str {
        self.source.text.get(self.span.clone()).unwrap_or_default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in one sentence without full stop.
    pub message: String,
    /// What to do about it.
    pub mend: Option<String>,
    /// Where; `None` where no text is to blame.
    pub place: Option<Place>,
}

impl Problem {
    /// Something that larder does not start with.
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            mend: None,
            place: None,
        }
    }

    /// Something that works, but hardly as meant.
    pub fn warning(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message)
        }
    }

    /// Something worth knowing.
    pub fn note(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            ..Self::error(message)
        }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(self, place: &Place) -> Self {
        Self {
            place: Some(place.clone()),
            ..self
        }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn mend(self, mend: impl Into<String>) -> Self {
        Self {
            mend: Some(mend.into()),
            ..self
        }
    }

    fn to_json(&self) -> Value {
        let position = self.place.as_ref().map(Place::line_column);
        json!({
            "severity": self.severity.as_str(),
            "message": self.message,
            "mend": self.mend,
            "file": self.place.as_ref().map(|place| &place.source.name),
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
        })
    }
}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Note => miette::Severity::Advice,
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mend
            .as_ref()
            .map(|mend| Box::new(mend) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|place| place as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.place.as_ref()?.span.clone();
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            None, span,
        ))))
    }
}

impl SourceCode for Place {
    fn read_span<'a>(
        &'a self,
        span: &miette::SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn miette::SpanContents<'a> + 'a>, miette::MietteError> {
        // The frame's head asks without context, for line and column of the stretch itself; its
        // picture shows the line that the stretch is on, and no others.
        let text = &self.source.text;
        let shown = if before + after == 0 {
            *span
        } else {
            let start = text.get(..span.offset()).and_then(|t| t.rfind('\n'));
            let start = start.map_or(0, |at| at + 1);
            let ended = span.offset() + span.len();
            let end = text.get(ended..).and_then(|t| t.find('\n'));
            let end = end.map_or(text.len(), |at| ended + at);
            (start, end - start).into()
        };
        let inner = text.read_span(&shown, 0, 0)?;
        Ok(Box::new(miette::MietteSpanContents::new_named(
            self.source.name.clone(),
            inner.data(),
            *inner.span(),
            inner.line(),
            inner.column(),
            inner.line_count(),
        )))
    }
}

/// What was found, in the order in which it was found.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// True if one of them keeps larder from starting.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Those of at least a severity, in order.
    #[must_use]
    pub fn at_least(&self, severity: Severity) -> Self {
        let grave = |problem: &&Problem| problem.severity >= severity;
        Self(self.0.iter().filter(grave).cloned().collect())
    }

    /// Them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// For people: frames with carets, in colours where `terminal` says so. Nothing for none.
    pub fn render(&self, terminal: bool) -> String {
        let theme = if terminal {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_context_lines(1)
            .with_links(false)
            .with_width(100);
        let mut text = String::new();
        for problem in &self.0 {
            text.push_str(problem.severity.as_str());
            text.push_str(":\n");
            if handler.render_report(&mut text, problem).is_err() {
                // A stretch outside its text: the plain words will do.
                text.push_str(&problem.message);
                text.push('\n');
            }
        }
        text
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(Problem::to_json).collect()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("f", "eins\nzwölf x\n");
        let place = Place::at_line(&source, 2, 7, 1);
        assert_eq!(place.text(), "x");
        assert_eq!(place.line_column(), (2, 7));
        assert_eq!(place.to_string(), "f:2:7");
    }

    #[test]
    fn a_place_never_leaves_its_line_or_its_text() {
        let source = Source::new("f", "a\nbc\nd");
        assert_eq!(Place::at_line(&source, 2, 1, 99).text(), "bc");
        assert_eq!(Place::at_line(&source, 9, 9, 9).text(), "");
        assert_eq!(Place::at_line(&source, 0, 0, 1).text(), "a");
    }

    #[test]
    fn a_rendered_problem_names_file_line_column_and_mend_without_escape_codes() {
        let source = Source::new("larder.toml", "a = 1\nbee = 2\n");
        let place = Place::at_line(&source, 2, 1, 3);
        let problem = Problem::error("unknown key `bee`")
            .at(&place)
            .mend("did you mean `be`?");
        let text = Problems::from(problem).render(false);
        assert!(text.contains("larder.toml:2:1"), "{text}");
        assert!(text.contains("did you mean `be`?"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
