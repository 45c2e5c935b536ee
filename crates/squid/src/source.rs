//! From text to statements: lines, comments, continuations, conditions, macros and includes.
//!
//! A statement is a directive's name and its arguments, each with its place. Squid's grammar is
//! line-based: a line that ends in `\` goes on in the next one, whose leading blanks are dropped
//! and which is glued on without a blank; a comment line is skipped even in between; a token that
//! starts with `#` ends the line. Files come from the caller, so that nothing is read here.

use std::io;
use std::sync::Arc;

use crate::note::{Findings, Position};

/// Includes may nest so deep.
const NESTING_MAX: usize = 16;

/// Gives the files that a configuration names.
pub trait Files {
    /// The content of a file.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The paths that match a pattern with `*`, `?` or `[…]`, sorted; none is no error.
    fn matching(&self, pattern: &str) -> io::Result<Vec<String>>;
}

/// A word of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) at: Position,
}

/// A directive and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) name: Token,
    pub(crate) arguments: Vec<Token>,
}

impl Statement {
    /// The statement as one line, blanks made single: how a rule is shown to people.
    pub(crate) fn shown(&self) -> String {
        let mut shown = format!("{} {}", self.name.at.short(), self.name.text);
        for argument in &self.arguments {
            shown.push(' ');
            shown.push_str(&argument.text);
        }
        shown
    }

    /// An argument by its index, or a problem that says what is missing.
    pub(crate) fn argument(
        &self,
        index: usize,
        what: &str,
        found: &mut Findings,
    ) -> Option<&Token> {
        let argument = self.arguments.get(index);
        if argument.is_none() {
            let at = &self.name.at;
            let text = format!("{} lacks {what}", self.name.text);
            found.problem(at, text, format!("write {what} after it"));
        }
        argument
    }
}

/// Reads a file and everything that it includes.
pub(crate) fn statements(path: &str, files: &dyn Files, found: &mut Findings) -> Vec<Statement> {
    let mut reader = Reader {
        files,
        found,
        statements: Vec::new(),
        template: false,
    };
    reader.file(path, None, 0);
    reader.statements
}

struct Reader<'a> {
    files: &'a dyn Files,
    found: &'a mut Findings,
    statements: Vec<Statement>,
    /// A file is a template: said once, nothing else is.
    template: bool,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, named_at: Option<&Position>, depth: usize) {
        match self.files.read(path) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
                self.text(path, text, depth);
            }
            Err(error) => {
                let at = named_at
                    .cloned()
                    .unwrap_or_else(|| Position::start_of(path));
                let text = format!("{path} cannot be read: {error}");
                self.found
                    .problem(&at, text, "name a file that this user can read");
            }
        }
    }

    fn text(&mut self, path: &str, text: &str, depth: usize) {
        let lines = logical_lines(text);
        if let Some((line, shown)) = first_template_line(&lines) {
            self.template(path, line, shown);
            return;
        }
        let file: Arc<str> = path.into();
        let mut conditions = Conditions::default();
        for line in &lines {
            let tokens = line.tokens(&file);
            let Some((name, arguments)) = tokens.split_first() else {
                continue;
            };
            if conditions.take(name, arguments, self.found) || !conditions.hold() {
                continue;
            }
            if name.text == "include" {
                self.include(name, arguments, depth);
            } else {
                self.statements.push(Statement {
                    name: name.clone(),
                    arguments: arguments.to_vec(),
                });
            }
        }
        if let Some(open) = conditions.open.last() {
            let at = open.at.clone();
            self.found.problem(
                &at,
                "`if` without `endif`",
                "put `endif` on a line of its own",
            );
        }
    }

    fn template(&mut self, path: &str, line: usize, shown: &str) {
        if self.template {
            return;
        }
        self.template = true;
        let at = Position {
            line,
            length: shown.chars().count().max(1),
            ..Position::start_of(path)
        };
        self.found.problem(
            &at,
            "this file is a template, no configuration yet: its variables are not filled in",
            "let the tool that it is made for write the file",
        );
    }

    fn include(&mut self, name: &Token, arguments: &[Token], depth: usize) {
        if arguments.is_empty() {
            self.found
                .problem(&name.at, "include lacks a path", "write a path after it");
        }
        for argument in arguments {
            if depth >= NESTING_MAX {
                let text = format!("includes are nested more than {NESTING_MAX} deep");
                self.found
                    .problem(&argument.at, text, "remove the circle of includes");
                return;
            }
            let path = unquoted(&argument.text).to_owned();
            if path.starts_with(['!', '|']) {
                self.found.problem(
                    &argument.at,
                    "an include that runs a command is not supported",
                    "write the command's output to a file and include that",
                );
            } else if path.contains(['*', '?', '[']) {
                self.wildcard(&path, &argument.at, depth);
            } else {
                self.file(&path, Some(&argument.at), depth + 1);
            }
        }
    }

    fn wildcard(&mut self, pattern: &str, at: &Position, depth: usize) {
        match self.files.matching(pattern) {
            Ok(paths) => {
                for path in paths {
                    self.file(&path, Some(at), depth + 1);
                }
            }
            Err(error) => {
                let text = format!("{pattern} cannot be listed: {error}");
                self.found
                    .problem(at, text, "name a folder that this user can list");
            }
        }
    }
}

/// Without the quotes around it, where it has any.
pub(crate) fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(text)
}

/// Lines glued together, and where their pieces come from.
struct Line {
    text: String,
    /// Where a piece starts in `text`, and the line and column that it comes from.
    pieces: Vec<(usize, usize, usize)>,
}

impl Line {
    fn tokens(&self, file: &Arc<str>) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut rest = self.text.as_str();
        loop {
            rest = rest.trim_start();
            if rest.is_empty() || rest.starts_with('#') {
                return tokens;
            }
            let length = token_length(rest);
            let (text, after) = rest.split_at(length);
            tokens.push(Token {
                at: self.position(file, self.text.len() - rest.len(), text),
                text: with_macros(text),
            });
            rest = after;
        }
    }

    fn position(&self, file: &Arc<str>, offset: usize, text: &str) -> Position {
        let piece = self
            .pieces
            .iter()
            .rev()
            .find(|(start, ..)| *start <= offset);
        let (start, line, column) = piece.copied().unwrap_or((0, 1, 1));
        let before = self.text.get(start..offset).unwrap_or_default();
        Position {
            file: Arc::clone(file),
            line,
            column: column + before.chars().count(),
            length: text.chars().count(),
        }
    }
}

/// Up to the next blank; a quoted string may hold blanks, and so may a backslash's next character.
fn token_length(text: &str) -> usize {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote
        && let Some(end) = text.get(1..).and_then(|inside| inside.find(quote))
        && text
            .get(end + 2..)
            .is_none_or(|after| after.is_empty() || after.starts_with(char::is_whitespace))
    {
        return end + 2;
    }
    let mut escaped = false;
    text.char_indices()
        .find(|(_, c)| {
            let ends = c.is_whitespace() && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })
        .map_or(text.len(), |(at, _)| at)
}

fn logical_lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    for (index, raw) in text.split('\n').enumerate() {
        let trimmed = raw.trim_end_matches(['\r', '\n']);
        let body = trimmed.trim_start();
        if body.starts_with('#') || (body.is_empty() && open.is_none()) {
            continue;
        }
        let column = 1 + trimmed.chars().count() - body.chars().count();
        let mut line = open.take().unwrap_or(Line {
            text: String::new(),
            pieces: Vec::new(),
        });
        line.pieces.push((line.text.len(), index + 1, column));
        if let Some(head) = body.strip_suffix('\\') {
            line.text.push_str(head);
            open = Some(line);
        } else {
            line.text.push_str(body);
            lines.push(line);
        }
    }
    lines.extend(open);
    lines
}

/// Squid's own macros; it knows no others.
const MACROS: [(&str, &str); 3] = [
    ("${service_name}", "squid"),
    ("${process_name}", "squid"),
    ("${process_number}", "0"),
];

fn with_macros(text: &str) -> String {
    if !text.contains("${") {
        return text.to_owned();
    }
    MACROS.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

/// The first line with the marks of Jinja, ERB or envsubst in it. Log formats are left out: their
/// own marks look alike.
fn first_template_line(lines: &[Line]) -> Option<(usize, &str)> {
    lines
        .iter()
        .filter(|line| !line.text.starts_with("logformat"))
        .find(|line| {
            let text = with_macros(&line.text);
            (text.contains("{{") && text.contains("}}"))
                || (text.contains("{%") && text.contains("%}"))
                || (text.contains("<%") && text.contains("%>"))
                || text.contains("${")
        })
        .map(|line| {
            let number = line.pieces.first().map_or(1, |(_, number, _)| *number);
            (number, line.text.as_str())
        })
}

/// `if`, `else`, `endif`, each alone on its line.
#[derive(Default)]
struct Conditions {
    open: Vec<Condition>,
}

struct Condition {
    holds: bool,
    at: Position,
}

impl Conditions {
    fn hold(&self) -> bool {
        self.open.iter().all(|condition| condition.holds)
    }

    /// True if the line was one of the three.
    fn take(&mut self, name: &Token, arguments: &[Token], found: &mut Findings) -> bool {
        match name.text.as_str() {
            "if" => self.open.push(Condition {
                holds: truth(name, arguments, found),
                at: name.at.clone(),
            }),
            "else" => match self.open.last_mut() {
                Some(condition) => condition.holds = !condition.holds,
                None => found.problem(&name.at, "`else` without `if`", "remove it"),
            },
            "endif" => {
                if self.open.pop().is_none() {
                    found.problem(&name.at, "`endif` without `if`", "remove it");
                }
            }
            _ => return false,
        }
        true
    }
}

/// `true`, `false`, or two whole numbers with `=` between them.
fn truth(name: &Token, arguments: &[Token], found: &mut Findings) -> bool {
    let joined: Vec<&str> = arguments.iter().map(|token| token.text.as_str()).collect();
    let joined = joined.concat();
    let sides = joined.split_once('=');
    let numbers = sides.map(|(a, b)| (a.parse::<i64>(), b.parse::<i64>()));
    match (joined.as_str(), numbers) {
        ("true", _) => true,
        ("false", _) => false,
        (_, Some((Ok(a), Ok(b)))) => a == b,
        _ => {
            let text = format!("`if {joined}` is no condition");
            found.problem(&name.at, text, "write `if true`, `if false` or `if 1 = 2`");
            true
        }
    }
}
