//! A larder.toml as a tree in which every value knows its place, and the environment's overrides
//! laid over it.
//!
//! serde would stop at the first thing that it does not like; here a [`Section`] hands out keys one
//! by one, collects what is wrong with each, and at its end says which keys nobody asked for. An
//! override (`LARDER__CACHE__MAX_SIZE=…`) is a value like any other, whose place is the variable.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Problems, Source};
use crate::environment::Environment;

/// Overrides begin with this; the words of a key follow, two underscores between tables.
pub const OVERRIDE_PREFIX: &str = "LARDER__";

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    Text(String),
    /// The value of an environment variable: text, number or truth, as the key wants it.
    Word(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
    /// A list.
    Array(Vec<Node>),
    /// A table.
    Table(Vec<Entry>),
    /// What no key of larder takes (floats, dates).
    Other,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// Its value.
    pub node: Node,
}

/// Reads a document; what is no TOML is a problem, the rest is still read.
pub fn parse(source: &Arc<Source>, problems: &mut Problems) -> Vec<Entry> {
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    for error in errors {
        let span = error.span().unwrap_or_default();
        problems.push(
            Problem::error(error.message().to_owned())
                .at(&place(source, span))
                .mend("this is not TOML: see https://toml.io for how values are written"),
        );
    }
    entries(source, table.into_inner())
}

fn entries(source: &Arc<Source>, table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, value)| Entry {
            key_place: place(source, key.span()),
            key: key.into_inner().into_owned(),
            node: node(source, value),
        })
        .collect();
    // The parser sorts by name; people read from the top.
    entries.sort_by_key(|entry| entry.key_place.span.start);
    entries
}

fn node(source: &Arc<Source>, value: toml::Spanned<DeValue<'_>>) -> Node {
    let place = place(source, value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other, Value::Integer),
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| node(source, item)).collect())
        }
        DeValue::Table(table) => Value::Table(entries(source, table)),
        DeValue::Float(_) | DeValue::Datetime(_) => Value::Other,
    };
    Node { value, place }
}

fn place(source: &Arc<Source>, span: Range<usize>) -> Place {
    Place {
        source: Arc::clone(source),
        span,
    }
}

/// Lays the environment's overrides over a document.
pub fn overlay(entries: &mut Vec<Entry>, environment: &Environment) {
    for (name, value) in environment.with_prefix(OVERRIDE_PREFIX) {
        let source = Source::new(
            format!("environment variable {OVERRIDE_PREFIX}{name}"),
            value,
        );
        let place = place(&source, 0..value.len());
        let path: Vec<String> = name
            .split("__")
            .map(|word| word.to_ascii_lowercase().replace('_', "-"))
            .collect();
        let node = Node {
            value: Value::Word(value.to_owned()),
            place,
        };
        put(entries, &path, node);
    }
}

fn put(entries: &mut Vec<Entry>, path: &[String], node: Node) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    let at = if let Some(at) = entries.iter().position(|entry| entry.key == *key) {
        at
    } else {
        let table = Node {
            value: Value::Table(Vec::new()),
            place: node.place.clone(),
        };
        entries.push(Entry {
            key: key.clone(),
            key_place: node.place.clone(),
            node: table,
        });
        entries.len() - 1
    };
    let Some(entry) = entries.get_mut(at) else {
        return;
    };
    if rest.is_empty() {
        entry.node = node;
        return;
    }
    if !matches!(entry.node.value, Value::Table(_)) {
        entry.node.value = Value::Table(Vec::new());
    }
    if let Value::Table(inner) = &mut entry.node.value {
        put(inner, rest, node);
    }
}

/// A table while its keys are read. Keys that were not asked for by the end are errors.
#[derive(Debug)]
pub struct Section<'a> {
    /// What the operator calls it: `[cache]`.
    name: String,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// Reads a table with `read`, then complains about what is left.
    pub fn read<T>(
        name: impl Into<String>,
        entries: &'a [Entry],
        problems: &'a mut Problems,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section {
            name: name.into(),
            entries,
            known: Vec::new(),
            problems,
        };
        let value = read(&mut section);
        section.complain_of_unknown_keys();
        value
    }

    /// The value of a key.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// The value of a key as `reader` reads it; what it does not like is kept as a problem.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        reader: impl FnOnce(&Node) -> Result<T, Problem>,
    ) -> Option<T> {
        match reader(self.get(key)?) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// Sets `target` to the value of a key, where it is there and good.
    pub fn set<T>(
        &mut self,
        key: &'static str,
        target: &mut T,
        reader: impl FnOnce(&Node) -> Result<T, Problem>,
    ) {
        if let Some(value) = self.value(key, reader) {
            *target = value;
        }
    }

    /// Reads a table within this one.
    pub fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>)) {
        let Some(node) = self.get(key) else { return };
        match &node.value {
            Value::Table(entries) => {
                Section::read(self.name_of(key), entries, self.problems, read);
            }
            _ => self.problem(wrong_kind(node, "a table")),
        }
    }

    /// Reads a list of tables within this one (`[[key]]`); `None` if the key is not there.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>, &Place) -> Option<T>,
    ) -> Option<Vec<T>> {
        let node = self.get(key)?;
        let Value::Array(items) = &node.value else {
            self.problem(wrong_kind(node, "a list of tables"));
            return None;
        };
        let name = format!("[{}]", self.name_of(key));
        let mut values = Vec::new();
        for item in items {
            let Value::Table(entries) = &item.value else {
                self.problem(wrong_kind(item, "a table"));
                continue;
            };
            // An inline table has its own place; one under a header has its header's.
            let read = |section: &mut Section<'_>| read(section, &item.place);
            values.extend(Section::read(name.clone(), entries, self.problems, read));
        }
        Some(values)
    }

    /// Looks once more at a list of tables, all of whose keys were read before.
    pub fn again<T>(
        &mut self,
        key: &'static str,
        mut look: impl FnMut(&mut Section<'_>, &Place) -> Option<T>,
    ) -> Vec<T> {
        let Some(Value::Array(items)) = self.get(key).map(|node| &node.value) else {
            return Vec::new();
        };
        let mut values = Vec::new();
        for item in items {
            let Value::Table(entries) = &item.value else {
                continue;
            };
            let mut section = Section {
                name: self.name_of(key),
                entries,
                known: Vec::new(),
                problems: self.problems,
            };
            values.extend(look(&mut section, &item.place));
        }
        values
    }

    /// Reads a table that was found elsewhere, with this section's problems.
    pub fn within<T>(
        &mut self,
        name: &str,
        entries: &[Entry],
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        Section::read(name, entries, self.problems, read)
    }

    /// Adds a problem.
    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn name_of(&self, key: &str) -> String {
        match self
            .name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
        {
            Some(outer) => format!("[{outer}.{key}]"),
            None => format!("[{key}]"),
        }
    }

    fn complain_of_unknown_keys(&mut self) {
        for entry in self.entries {
            if !self.known.iter().any(|known| *known == entry.key) {
                let message = format!("unknown key `{}` in {}", entry.key, self.name);
                let mend = suggestion(&entry.key, &self.known);
                self.problems
                    .push(Problem::error(message).at(&entry.key_place).mend(mend));
            }
        }
    }
}

/// What a misspelt word may have been meant to be.
pub fn suggestion(word: &str, known: &[&str]) -> String {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let nearest = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 4);
    if let Some((_, known)) = nearest {
        return format!("did you mean `{known}`?");
    }
    // Where nothing may be said, the empty word is known, too.
    let known = known.iter().filter(|word| !word.is_empty()).copied();
    let known: Vec<&str> = known.collect();
    format!("the words known here: {}", known.join(", "))
}

/// A value of the wrong kind.
pub fn wrong_kind(node: &Node, wanted: &str) -> Problem {
    let found = match &node.value {
        Value::Text(_) | Value::Word(_) => "a text",
        Value::Integer(_) => "a number",
        Value::Boolean(_) => "a truth value",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
        Value::Other => "a fraction or date",
    };
    Problem::error(format!("this is {found} where {wanted} is wanted"))
        .at(&node.place)
        .mend(format!("write {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_number(node: &Node) -> Result<i64, Problem> {
        match &node.value {
            Value::Integer(number) => Ok(*number),
            Value::Word(word) => word.parse().map_err(|_e| wrong_kind(node, "a number")),
            _ => Err(wrong_kind(node, "a number")),
        }
    }

    fn read(text: &str, environment: &Environment) -> (i64, Problems) {
        let mut problems = Problems::default();
        let mut entries = parse(&Source::new("f", text), &mut problems);
        overlay(&mut entries, environment);
        let mut value = 0;
        Section::read("the file", &entries, &mut problems, |section| {
            section.table("outer", |outer| {
                outer.set("first-key", &mut value, read_number);
            });
        });
        (value, problems)
    }

    #[test]
    fn an_override_replaces_and_adds() {
        let environment = Environment::of_pairs([("LARDER__OUTER__FIRST_KEY", "7")]);
        assert_eq!(read("", &environment).0, 7);
        let (value, problems) = read("[outer]\nfirst-key = 1\n", &environment);
        assert_eq!((value, problems.has_errors()), (7, false));
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let text = "[outer]\nfirst-key = true\nfrist-key = 2\n[other]\n";
        let (_, problems) = read(text, &Environment::default());
        let told: Vec<String> = problems
            .iter()
            .map(|p| {
                format!(
                    "{}: {} ({})",
                    p.place.as_ref().unwrap(),
                    p,
                    p.mend.clone().unwrap()
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                "f:2:13: this is a truth value where a number is wanted (write a number)",
                "f:3:1: unknown key `frist-key` in [outer] (did you mean `first-key`?)",
                "f:4:2: unknown key `other` in the file (did you mean `outer`?)",
            ]
        );
    }

    #[test]
    fn each_known_word_is_listed_once() {
        let mut problems = Problems::default();
        let entries = parse(&Source::new("f", "zzzzzz = 1\n"), &mut problems);
        Section::read("the file", &entries, &mut problems, |section| {
            let _asked = [section.get("kernel"), section.get("kernel")];
        });
        let mend = problems.iter().next().unwrap().mend.clone().unwrap();
        assert_eq!(mend, "the words known here: kernel");
        assert_eq!(
            suggestion("zzzzzz", &["", "auto", "direct"]),
            "the words known here: auto, direct"
        );
    }

    #[test]
    fn text_that_is_no_toml_is_told_with_its_place() {
        let (_, problems) = read("[outer\nfirst-key = 1\n", &Environment::default());
        assert!(problems.has_errors());
        let place = problems.iter().next().unwrap().place.clone().unwrap();
        assert_eq!(place.line_column().0, 1);
    }
}
