//! Reads a storeid.db file: one rule a line, pattern and replacement with TABs between them.
//!
//! The format is that of Squid's `storeid_file_rewrite`. That helper skips what it cannot read and
//! says so where nobody looks; a third of the files met in practice have blanks for the TAB, and
//! their rules do nothing. So here a line that is no rule is an error with its place and the mend,
//! and what is a rule but cannot mean what was meant is a warning.

use std::collections::HashMap;

use super::{Pattern, StoreIdRule, review};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Note,
    /// It works, though hardly as meant.
    Warning,
    /// It cannot be used.
    Error,
}

/// Something to say about a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// How many characters it is about.
    pub length: usize,
    /// What is the matter.
    pub text: String,
    /// What to do.
    pub mend: String,
}

/// A file that could be read.
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// Its rules, in order.
    pub rules: Vec<StoreIdRule>,
    /// Warnings and notes.
    pub findings: Vec<Finding>,
}

/// Reads the text of a file; `name` is how the file is shown to people.
///
/// # Errors
///
/// All findings, if one of them is an error: a line without TAB, with a third column, or with a
/// pattern that cannot be compiled.
pub fn read_database(name: &str, text: &str) -> Result<Database, Vec<Finding>> {
    let mut reader = Reader {
        name,
        ..Reader::default()
    };
    for (index, line) in text.lines().enumerate() {
        reader.line(index + 1, line);
    }
    let (rules, findings) = (reader.rules, reader.findings);
    if findings.iter().any(|f| f.weight == Weight::Error) {
        return Err(findings);
    }
    Ok(Database { rules, findings })
}

#[derive(Default)]
struct Reader<'a> {
    name: &'a str,
    rules: Vec<StoreIdRule>,
    findings: Vec<Finding>,
    /// Pattern → line and replacement.
    seen: HashMap<&'a str, (usize, &'a str)>,
}

/// A piece of a line, and the column at which it starts.
#[derive(Clone, Copy)]
struct Field<'a> {
    column: usize,
    text: &'a str,
}

impl<'a> Reader<'a> {
    fn line(&mut self, number: usize, line: &'a str) {
        let fields = fields(line);
        let whole = Field {
            column: 1 + line.chars().take_while(|c| c.is_whitespace()).count(),
            text: line.trim(),
        };
        if whole.text.starts_with('#') {
            if fields.len() > 1 {
                self.say(
                    Weight::Note,
                    number,
                    whole,
                    "a comment with a TAB in it; Squid's helper would take it for a rule",
                    "write the comment without a TAB",
                );
            }
            return;
        }
        match *fields.as_slice() {
            [] => {}
            [pattern, replacement] => self.rule(number, pattern, replacement),
            [single] => self.no_tab(number, single),
            [_, _, third, ..] => self.say(
                Weight::Error,
                number,
                third,
                "a third column; a rule has a pattern and a replacement, with TABs between them",
                "remove it, or write `\\t` for a TAB that belongs to the pattern",
            ),
        }
    }

    /// The mend shows the line as it should be, split at the last blank.
    fn no_tab(&mut self, number: usize, single: Field<'a>) {
        let mend = match single.text.rsplit_once(char::is_whitespace) {
            Some((pattern, replacement)) => format!(
                "put a TAB between `{}` and `{replacement}`",
                pattern.trim_end()
            ),
            None => "put a TAB and the replacement after the pattern".to_owned(),
        };
        self.say(
            Weight::Error,
            number,
            single,
            "no TAB between pattern and replacement (Squid's helper ignores such a line)",
            &mend,
        );
    }

    fn rule(&mut self, number: usize, pattern: Field<'a>, replacement: Field<'a>) {
        if self.is_repeated(number, pattern, replacement) {
            return;
        }
        match Pattern::new(pattern.text) {
            Ok(compiled) => {
                let shown = format!("{}:{number}", self.name);
                let rule = StoreIdRule::new(compiled, replacement.text, shown);
                self.review(number, pattern, replacement, &rule);
                self.rules.push(rule);
            }
            Err(error) => {
                let place = Field {
                    column: pattern.column + error.offset.unwrap_or(0),
                    text: error.offset.map_or(pattern.text, |_| "?"),
                };
                self.say(
                    Weight::Error,
                    number,
                    place,
                    &format!("not a regular expression: {}", error.reason),
                    "mend the pattern; a character with a special meaning needs a `\\` before it",
                );
            }
        }
    }

    fn is_repeated(&mut self, number: usize, pattern: Field<'a>, replacement: Field<'a>) -> bool {
        match self.seen.get(pattern.text).copied() {
            None => {
                self.seen.insert(pattern.text, (number, replacement.text));
                false
            }
            Some((line, same)) if same == replacement.text => {
                let text = format!("the rule of line {line} again");
                self.say(Weight::Note, number, pattern, &text, "remove one of them");
                true
            }
            Some((line, _)) => {
                let text = format!("never used: line {line} has the same pattern");
                self.say(
                    Weight::Warning,
                    number,
                    pattern,
                    &text,
                    "remove one of them",
                );
                true
            }
        }
    }

    fn review(
        &mut self,
        number: usize,
        pattern: Field<'a>,
        replacement: Field<'a>,
        rule: &StoreIdRule,
    ) {
        for concern in review::concerns(rule) {
            let place = if concern.is_about_replacement() {
                replacement
            } else {
                pattern
            };
            self.say(
                Weight::Warning,
                number,
                place,
                &concern.to_string(),
                concern.mend(),
            );
        }
    }

    fn say(&mut self, weight: Weight, line: usize, place: Field<'_>, text: &str, mend: &str) {
        self.findings.push(Finding {
            weight,
            line,
            column: place.column,
            length: place.text.chars().count().max(1),
            text: text.to_owned(),
            mend: mend.to_owned(),
        });
    }
}

/// The columns of a line: TABs separate, several count as one, blanks around a column are dropped.
fn fields(line: &str) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    let mut column = 1;
    for piece in line.split('\t') {
        let text = piece.trim();
        if !text.is_empty() {
            let indent = piece.chars().take_while(|c| c.is_whitespace()).count();
            fields.push(Field {
                column: column + indent,
                text,
            });
        }
        column += piece.chars().count() + 1;
    }
    fields
}
