//! Readers of single values: from a [`Node`] to what a key means, or what is wrong with it.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::problem::Problem;
use super::tree::{Node, Value, suggestion, wrong_kind};
use super::units;

/// A text.
pub fn text(node: &Node) -> Result<String, Problem> {
    match &node.value {
        Value::Text(text) | Value::Word(text) => Ok(text.clone()),
        _ => Err(wrong_kind(node, "a text in quotes")),
    }
}

/// A text, of which an empty one means nothing.
pub fn optional_text(node: &Node) -> Result<Option<String>, Problem> {
    text(node).map(|text| Some(text).filter(|text| !text.is_empty()))
}

/// `true` or `false`.
pub fn truth(node: &Node) -> Result<bool, Problem> {
    match &node.value {
        Value::Boolean(truth) => Ok(*truth),
        Value::Word(word) if word == "true" => Ok(true),
        Value::Word(word) if word == "false" => Ok(false),
        _ => Err(wrong_kind(node, "true or false")),
    }
}

/// A whole number from `least` on.
pub fn count(least: usize) -> impl Fn(&Node) -> Result<usize, Problem> {
    move |node| {
        let number = match &node.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::Word(word) => word.parse().ok(),
            _ => return Err(wrong_kind(node, "a whole number")),
        };
        number.filter(|number| *number >= least).ok_or_else(|| {
            Problem::error(format!("this number is below {least}"))
                .at(&node.place)
                .mend(format!("write a whole number from {least} on"))
        })
    }
}

/// A size in bytes.
pub fn size(node: &Node) -> Result<u64, Problem> {
    match &node.value {
        Value::Integer(number) => u64::try_from(*number).map_err(|_e| {
            Problem::error("a size is not negative")
                .at(&node.place)
                .mend("write it as \"20 GB\"")
        }),
        Value::Text(text) | Value::Word(text) => units::size(text)
            .map_err(|error| bad(node, &error, "write it as \"20 GB\" or \"4 GiB\"")),
        _ => Err(wrong_kind(node, "a size such as \"20 GB\"")),
    }
}

/// A size in bytes that memory has to hold.
pub fn memory(node: &Node) -> Result<usize, Problem> {
    let bytes = size(node)?;
    usize::try_from(bytes).map_err(|error| bad(node, &error, "write a smaller size"))
}

/// A duration.
pub fn duration(node: &Node) -> Result<Duration, Problem> {
    match &node.value {
        Value::Text(text) | Value::Word(text) => units::duration(text)
            .map_err(|error| bad(node, &error, "write it as \"10s\", \"2m\" or \"1h\"")),
        _ => Err(wrong_kind(node, "a duration such as \"10s\"")),
    }
}

/// A duration, or `"off"`.
pub fn optional_duration(node: &Node) -> Result<Option<Duration>, Problem> {
    match &node.value {
        Value::Text(text) | Value::Word(text) if text == "off" => Ok(None),
        _ => duration(node).map(Some),
    }
}

/// A path; relative ones start at `folder`.
pub fn path(folder: &Path) -> impl Fn(&Node) -> Result<PathBuf, Problem> + '_ {
    move |node| {
        let text = text(node)?;
        if text.is_empty() {
            return Err(Problem::error("this path is empty")
                .at(&node.place)
                .mend("name a file"));
        }
        Ok(folder.join(text))
    }
}

/// A path, of which an empty one means nothing.
pub fn optional_path(folder: &Path) -> impl Fn(&Node) -> Result<Option<PathBuf>, Problem> + '_ {
    move |node| Ok(optional_text(node)?.map(|text| folder.join(text)))
}

/// One of a few words.
pub fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Node) -> Result<T, Problem> {
    let words: Vec<(&'static str, T)> = words.to_vec();
    move |node| {
        let text = text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            Ok(*value)
        } else {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(Problem::error(format!("`{text}` is not a word for this"))
                .at(&node.place)
                .mend(suggestion(&text, &known)))
        }
    }
}

/// A list of what `item` reads; a single value is a list of one. In the environment, items are
/// separated by commas.
pub fn list<T>(
    item: impl Fn(&Node) -> Result<T, Problem>,
) -> impl Fn(&Node) -> Result<Vec<T>, Problem> {
    move |node| match &node.value {
        Value::Array(items) => items.iter().map(&item).collect(),
        Value::Word(word) => word
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| {
                let value = Value::Word(word.to_owned());
                item(&Node {
                    value,
                    place: node.place.clone(),
                })
            })
            .collect(),
        _ => Ok(vec![item(node)?]),
    }
}

/// A value that cannot be used, and the mend.
pub fn bad(node: &Node, error: &impl Display, mend: &str) -> Problem {
    Problem::error(error.to_string()).at(&node.place).mend(mend)
}
