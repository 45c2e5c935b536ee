//! Which cloud-configs may be sent: YAML that parses, or a script.

use saphyr_parser::{Event, Marker, Parser};

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
    let lines: Vec<&str> = config.lines().collect();
    let before = |at: Marker| {
        let line = lines
            .get(at.line().saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let end = line
            .char_indices()
            .nth(at.col())
            .map_or(line.len(), |(end, _)| end);
        line.split_at(end)
    };
    // Whether each collection around is written with brackets, in which tabs are mere blanks.
    let mut around: Vec<bool> = Vec::new();
    for event in Parser::new_from_str(config) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let (indentation, rest) = before(span.start);
        let is_node = matches!(
            event,
            Event::Scalar(..)
                | Event::Alias(_)
                | Event::MappingStart(..)
                | Event::SequenceStart(..)
        );
        let is_tabbed = indentation.trim().is_empty() && indentation.contains('\t');
        if is_node && is_tabbed && !around.contains(&true) {
            let line = span.start.line();
            return Err(format!(
                "line {line} is indented with a tab: YAML takes spaces alone"
            ));
        }
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                around.push(rest.starts_with(['{', '[']));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                around.pop();
            }
            _ => {}
        }
    }
    Ok(())
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
}
