//! Which cloud-configs may be sent: YAML that parses, or a script.

use saphyr_parser::{Event, Parser};

use crate::reason::Reason;

/// Checks the text that the file `name` gives.
///
/// # Errors
///
/// A [`Reason`] that says what a person has to change.
pub(crate) fn check(name: &str, config: &str) -> Result<(), Reason> {
    let first = config.split('\n').next().unwrap_or_default();
    if first.trim_end() == "#cloud-config" {
        return parse(config).map_err(|why| Reason::Template {
            name: name.to_owned(),
            why,
        });
    }
    if first.starts_with("#!") {
        return Ok(());
    }
    Err(Reason::Cloud(name.to_owned()))
}

/// Reads YAML as machines will. A tab is no indentation (YAML 1.2 §6.1): Go's and cloud-init's readers
/// refuse what this parser takes.
fn parse(config: &str) -> Result<(), String> {
    let mut reader = Reader::of(config);
    // Whether each collection around is written with brackets, in which tabs are mere blanks.
    let mut around: Vec<bool> = Vec::new();
    for event in Parser::new_from_str(config) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        reader.go_to(span.start.index());
        let is_node = matches!(
            event,
            Event::Scalar(..)
                | Event::Alias(_)
                | Event::MappingStart(..)
                | Event::SequenceStart(..)
        );
        if is_node && reader.is_behind_a_tab() && !around.contains(&true) {
            let line = span.start.line();
            return Err(format!(
                "line {line} is indented with a tab: YAML takes spaces alone"
            ));
        }
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                around.push(reader.rest().starts_with(['{', '[']));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                around.pop();
            }
            _ => {}
        }
    }
    Ok(())
}

/// A place in a text. The parser counts letters, and its events come nearly in their order: going from one
/// to the next takes no longer than what lies between, however long a line is.
struct Reader<'a> {
    text: &'a str,
    letters: usize,
    bytes: usize,
}

impl<'a> Reader<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            letters: 0,
            bytes: 0,
        }
    }

    fn go_to(&mut self, letters: usize) {
        while self.letters < letters
            && let Some(letter) = self.rest().chars().next()
        {
            self.letters += 1;
            self.bytes += letter.len_utf8();
        }
        while self.letters > letters
            && let Some(letter) = self.before().chars().next_back()
        {
            self.letters -= 1;
            self.bytes -= letter.len_utf8();
        }
    }

    fn before(&self) -> &'a str {
        self.text.get(..self.bytes).unwrap_or_default()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.bytes..).unwrap_or_default()
    }

    /// Whether nothing but blanks stands before it on its line, and one of them is a tab.
    fn is_behind_a_tab(&self) -> bool {
        let before = self.before();
        let lines = before.trim_end_matches([' ', '\t']);
        let is_first = lines.is_empty() || lines.ends_with(['\n', '\r']);
        is_first
            && before
                .get(lines.len()..)
                .is_some_and(|it| it.contains('\t'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tab_is_no_indentation_but_a_blank_elsewhere() {
        for refused in ["\ta: b", "a:\n\tb: c", "a:\n\t- b", "a:\n  b: c\n\td: e"] {
            let why = check("c", &format!("#cloud-config\n{refused}\n")).unwrap_err();
            assert!(why.to_string().contains("tab"), "{refused:?}: {why}");
        }
        for taken in [
            "a: [b,\n\tc]",
            "a: {b: c,\n\td: e}",
            "a: |\n  b\n  \tc",
            "- \tb",
            "\t\na: b",
            "a: b\t# c",
        ] {
            let good = check("c", &format!("#cloud-config\n{taken}\n"));
            assert!(good.is_ok(), "{taken:?}: {}", good.unwrap_err());
        }
    }

    #[test]
    fn one_long_line_is_read_in_its_time() {
        // What terraform's jsonencode writes; where each event looks at its line from the start, this takes
        // longer than anybody waits.
        let list = "\"ä\",".repeat(300_000);
        let good = check("c", &format!("#cloud-config\na: [{list}]\n"));
        assert!(good.is_ok(), "{}", good.unwrap_err());
        let why = check("c", &format!("#cloud-config\na: [{list}]\nb:\n\tc: d\n"));
        assert!(why.unwrap_err().to_string().contains("line 4"));
    }
}
