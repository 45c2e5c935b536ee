//! A template's blocks before anything parses it: how deep they are, and where they do not come out even.

use gotmpl::TemplateError;

/// How deep blocks may be in one another; an `{{else if}}` is a block within the one before it. What parses
/// and executes them does it by recursion, on threads with a stack of 2 MB.
const DEPTH_MAX: usize = 500;

/// Refuses a template whose blocks are too deep, at the first that is.
pub(super) fn too_deep(source: &str) -> Result<(), TemplateError> {
    // Of each open block, how many `else if` it has.
    let mut open: Vec<usize> = Vec::new();
    let mut depth = 0;
    for action in Actions::of(source) {
        match action.word {
            "if" | "range" | "with" | "block" | "define" => open.push(0),
            "else" if matches!(action.next_word, "if" | "with") => match open.last_mut() {
                Some(chain) => *chain += 1,
                None => continue,
            },
            "end" => {
                depth -= open.pop().map_or(0, |chain| chain + 1);
                continue;
            }
            _ => continue,
        }
        depth += 1;
        if depth > DEPTH_MAX {
            let message = format!(
                "blocks are more than {DEPTH_MAX} deep; an {{{{else if}}}} is within the one before it"
            );
            return Err(at(source, action.start, message));
        }
    }
    Ok(())
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
fn at(source: &str, start: usize, message: String) -> TemplateError {
    let before = source.get(..start).unwrap_or_default();
    TemplateError::Parse {
        name: None,
        line: before.split('\n').count(),
        col: start - before.rfind('\n').map_or(0, |end| end + 1) + 1,
        message,
    }
}

/// What stands between `{{` and `}}`, by its first two words.
struct Action<'a> {
    /// The byte of its `{{`.
    start: usize,
    word: &'a str,
    next_word: &'a str,
}

/// The actions of a template in their order, up to one that does not end; comments are none.
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
        loop {
            let start = self.from + self.rest().find("{{")?;
            self.from = start + 2;
            let inside = self.rest();
            // A trim marker has a blank behind it.
            let content = match inside.strip_prefix('-') {
                Some(behind) if behind.starts_with(char::is_whitespace) => behind,
                _ => inside,
            };
            let content = content.trim_start();
            self.from = self.source.len() - content.len();
            if let Some(comment) = content.strip_prefix("/*") {
                self.from += 2 + comment.find("*/")? + 2;
                continue;
            }
            self.from += length(content)?;
            let (word, behind) = first_word(content);
            let (next_word, _) = first_word(behind.trim_start());
            return Some(Action {
                start,
                word,
                next_word,
            });
        }
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// How long an action is up to and with its `}}`, which does not count in a text.
fn length(content: &str) -> Option<usize> {
    let mut letters = content.char_indices();
    let mut before = ' ';
    while let Some((at, letter)) = letters.next() {
        match letter {
            '}' if before == '}' => return Some(at + 1),
            '`' => drop(letters.find(|(_, letter)| *letter == '`')?),
            '"' | '\'' => loop {
                match letters.next()?.1 {
                    '\\' => drop(letters.next()?),
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
        assert!(too_deep(&chain(DEPTH_MAX - 1)).is_ok());
        assert!(too_deep(&chain(DEPTH_MAX)).is_err());
        // One beside the other is not within it.
        assert!(too_deep(&chain(DEPTH_MAX - 1).repeat(3)).is_ok());
        let open = "{{with .a}}{{else with .b}}{{- if .c}}{{ else  if .d }}";
        assert!(too_deep(&open.repeat(DEPTH_MAX / 4)).is_ok());
        assert!(too_deep(&open.repeat(DEPTH_MAX / 4 + 1)).is_err());
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
            assert!(too_deep(&source).is_err(), "{hidden}");
        }
    }

    #[test]
    fn what_is_too_deep_is_told_with_its_place() {
        let source = format!("a\nä{}", chain(DEPTH_MAX));
        let error = too_deep(&source).unwrap_err();
        let TemplateError::Parse { line, col, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((line, col > 1), (2, true));
    }
}
