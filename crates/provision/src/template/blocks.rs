//! A template's blocks before anything parses it: how deep they are, and where they do not come out even.

use std::borrow::Cow;

use gotmpl::TemplateError;

/// How deep blocks may be in one another; an `{{else if}}` is a block within the one before it. What parses
/// and executes them does it by recursion, on threads with a stack of 2 MB.
const DEPTH_MAX: usize = 500;

/// Refuses what gotmpl would let pass or could not bear, at the first place where it is: blocks that are too
/// deep, an `{{else if}}` in anything but an `if` (of `with` likewise), definitions within blocks, comments that
/// do not fill their action, a `{{block}}` without a value, texts in quotes over more than one line.
pub(super) fn check(source: &str) -> Result<(), TemplateError> {
    // The open blocks, with how many `else if` each has.
    let mut open: Vec<(&str, usize)> = Vec::new();
    let mut depth = 0;
    for action in Actions::of(source) {
        let refused = |message: String| Err(at(source, action.start, message));
        if action.is_torn {
            return refused("a text in quotes ends on its line".to_owned());
        }
        match (action.word, action.next_word) {
            (COMMENT, "") => continue,
            (COMMENT, _) => {
                return refused("a comment fills its action from brace to brace".to_owned());
            }
            ("block", _) if !has_value(action.behind) => {
                return refused("missing value for {{block}}".to_owned());
            }
            ("define", _) if !open.is_empty() => {
                return refused("a definition stands within a block".to_owned());
            }
            (word @ ("if" | "range" | "with" | "block" | "define"), _) => open.push((word, 0)),
            ("else", next @ ("if" | "with")) => match open.last_mut() {
                Some((word, chain)) if *word == next => *chain += 1,
                Some((word, _)) => {
                    return refused(format!("{{{{else {next}}}}} in a block of {{{{{word}}}}}"));
                }
                None => continue,
            },
            ("end", _) => {
                depth -= open.pop().map_or(0, |(_, chain)| chain + 1);
                continue;
            }
            _ => continue,
        }
        depth += 1;
        if depth > DEPTH_MAX {
            return refused(format!(
                "blocks are more than {DEPTH_MAX} deep; an {{{{else if}}}} is within the one before it"
            ));
        }
    }
    Ok(())
}

/// The template with other words for the comments that trim only what is before them: gotmpl would trim what
/// is behind them too. Every byte else stays in its place.
pub(super) fn trimmed_on_one_side(source: &str) -> Cow<'_, str> {
    let mut changed = Cow::Borrowed(source);
    let mut actions = Actions::of(source);
    while let Some(action) = actions.next() {
        let is_comment = action.word == COMMENT && source[action.start..].starts_with("{{-");
        if !is_comment || !actions.rest().starts_with("}}") {
            continue;
        }
        let comment = action.start + "{{- ".len()..actions.from;
        let blank = |letter: char| match letter {
            '\n' => "\n".to_owned(),
            letter => " ".repeat(letter.len_utf8()),
        };
        let blanks: String = source[comment.clone()].chars().map(blank).collect();
        // An action that prints nothing, as long as the comment was.
        changed.to_mut().replace_range(comment.clone(), &blanks);
        changed
            .to_mut()
            .replace_range(comment.start..comment.start + 2, "\"\"");
    }
    changed
}

/// Where blocks do not come out even: at the `{{end}}` that is too many, else at the innermost block that
/// stays open.
pub(super) fn unbalanced(source: &str) -> TemplateError {
    let mut open = Vec::new();
    for action in Actions::of(source) {
        match action.word {
            "if" | "range" | "with" | "block" | "define" => open.push(action.start),
            "end" if open.pop().is_none() => {
                let message = "this {{end}} closes no block".to_owned();
                return at(source, action.start, message);
            }
            _ => {}
        }
    }
    let start = open.pop().unwrap_or_default();
    at(source, start, "no {{end}} closes this block".to_owned())
}

/// An error at a byte of the source.
pub(super) fn at(source: &str, start: usize, message: String) -> TemplateError {
    let before = source.get(..start).unwrap_or_default();
    TemplateError::Parse {
        name: None,
        line: before.split('\n').count(),
        col: start - before.rfind('\n').map_or(0, |end| end + 1) + 1,
        message,
    }
}

/// The word of a comment; its second word is empty where it fills the action.
const COMMENT: &str = "/*";

/// What stands between `{{` and `}}`, by its first two words.
struct Action<'a> {
    /// The byte of its `{{`.
    start: usize,
    word: &'a str,
    next_word: &'a str,
    /// What follows the first word, up to and with the `}}`.
    behind: &'a str,
    /// A line ends within its quotes.
    is_torn: bool,
}

/// The actions of a template in their order, up to one that does not end.
struct Actions<'a> {
    source: &'a str,
    from: usize,
}

impl<'a> Actions<'a> {
    fn of(source: &'a str) -> Self {
        Self { source, from: 0 }
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.from..).unwrap_or_default()
    }
}

impl<'a> Iterator for Actions<'a> {
    type Item = Action<'a>;

    fn next(&mut self) -> Option<Action<'a>> {
        let start = self.from + self.rest().find("{{")?;
        self.from = start + 2;
        let inside = self.rest();
        // A trim marker has a blank behind it.
        let marked = match inside.strip_prefix('-') {
            Some(behind) if behind.starts_with([' ', '\t', '\r', '\n']) => &behind[1..],
            _ => inside,
        };
        let content = marked.trim_start();
        self.from = self.source.len() - content.len();
        if let Some(comment) = content.strip_prefix(COMMENT) {
            self.from += 2 + comment.find("*/")? + 2;
            let mut behind = self.rest();
            if behind.starts_with([' ', '\t', '\r', '\n']) && behind[1..].starts_with('-') {
                behind = &behind[2..];
            }
            let fills = content.len() == marked.len() && behind.starts_with("}}");
            return Some(Action {
                start,
                word: COMMENT,
                next_word: if fills { "" } else { COMMENT },
                behind: "",
                is_torn: false,
            });
        }
        let (length, is_torn) = length(content)?;
        self.from += length;
        let (word, behind) = first_word(content.get(..length).unwrap_or_default());
        let (next_word, _) = first_word(behind.trim_start());
        Some(Action {
            start,
            word,
            next_word,
            behind,
            is_torn,
        })
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// Whether anything stands behind the name of a `{{block}}`.
fn has_value(behind: &str) -> bool {
    let name = behind.trim_start();
    let Some(quote) = name
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '`'))
    else {
        return true;
    };
    let mut letters = name.char_indices().skip(1);
    let end = loop {
        match letters.next() {
            Some((_, '\\')) if quote == '"' => drop(letters.next()),
            Some((end, letter)) if letter == quote => break end + 1,
            Some(_) => {}
            None => return true,
        }
    };
    let value = name.get(end..).unwrap_or_default().trim_start();
    !matches!(value, "}}" | "-}}")
}

/// How long an action is up to and with its `}}`, which does not count in a text; and whether a line ends in
/// its quotes, but for the back ones.
fn length(content: &str) -> Option<(usize, bool)> {
    let mut letters = content.char_indices();
    let (mut before, mut is_torn) = (' ', false);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '}' if before == '}' => return Some((at + 1, is_torn)),
            '`' => drop(letters.find(|(_, letter)| *letter == '`')?),
            '"' | '\'' => loop {
                match letters.next()?.1 {
                    '\\' => is_torn |= letters.next()?.1 == '\n',
                    '\n' => is_torn = true,
                    end if end == letter => break,
                    _ => {}
                }
            },
            _ => {}
        }
        before = letter;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: usize) -> String {
        format!(
            "{{{{if .a}}}}x{}{{{{end}}}}",
            "{{else if .a}}y".repeat(count)
        )
    }

    #[test]
    fn depth_counts_what_recursion_goes_through() {
        assert!(check(&chain(DEPTH_MAX - 1)).is_ok());
        assert!(check(&chain(DEPTH_MAX)).is_err());
        // One beside the other is not within it.
        assert!(check(&chain(DEPTH_MAX - 1).repeat(3)).is_ok());
        let open = "{{with .a}}{{else with .b}}{{- if .c}}{{ else  if .d }}";
        assert!(check(&open.repeat(DEPTH_MAX / 4)).is_ok());
        assert!(check(&open.repeat(DEPTH_MAX / 4 + 1)).is_err());
        // An {{end}} in a text or a comment ends nothing.
        for hidden in [
            "{{\"{{end}}\"}}",
            "{{`{{end}}`}}",
            "{{\"\\\"{{end}}\"}}",
            "{{- /* {{end}} */ -}}",
            "{{'\"'}}",
            "{{\n\"}}{{end}}\"}}",
        ] {
            let source = format!("{{{{if .a}}}}{hidden}").repeat(DEPTH_MAX + 1);
            assert!(check(&source).is_err(), "{hidden}");
        }
    }

    #[test]
    fn what_is_too_deep_is_told_with_its_place() {
        let source = format!("a\nä{}", chain(DEPTH_MAX));
        let error = check(&source).unwrap_err();
        let TemplateError::Parse { line, col, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((line, col > 1), (2, true));
    }
}
