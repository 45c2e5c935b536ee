//! Go's `text/template` as matchbox runs it: `missingkey=error`, and data that came from JSON.
//!
//! The engine is the `gotmpl` crate; [`adapt`] and [`functions`] close the gaps between it and Go
//! that the conformance table found. Every JSON number is a `float64`, so `{{.n}}` of 1000000
//! prints `1e+06` and `eq .n 3` is an error.

mod adapt;
mod blocks;
mod budget;
mod format;
mod functions;
mod number;
mod quote;
mod scope;

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::{MissingKey, Template, TemplateError, Value, parse::SmolStr};
use serde_json::Value as Json;

use self::budget::{Budget, OUTPUT_BYTES_MAX, STEPS_MAX};
use crate::{labels::Labels, model::Group};

/// The template's own name: matchbox gives it none.
const MAIN: SmolStr = SmolStr::new_static("");

/// What a template sees.
#[derive(Clone, Debug)]
pub struct Data {
    root: Value,
    labels: Arc<BTreeMap<Arc<str>, Value>>,
}

impl Data {
    /// The data of one request: the group's metadata, over them its selectors with names in lower
    /// case, over them `request.query` (the labels) and `request.raw_query`.
    pub fn new(group: Option<&Group>, labels: &Labels, raw_query: &str) -> Self {
        let mut root: BTreeMap<Arc<str>, Value> = BTreeMap::new();
        if let Some(group) = group {
            for (name, value) in group.metadata.iter().flatten() {
                root.insert(name.as_str().into(), value_of(value));
            }
            for (name, value) in &group.selector {
                root.insert(name.to_lowercase().into(), string(value));
            }
        }
        let labels: Arc<BTreeMap<Arc<str>, Value>> = Arc::new(
            labels
                .iter()
                .map(|(name, value)| (name.into(), string(value)))
                .collect(),
        );
        let request = BTreeMap::from([
            ("query".into(), Value::Map(Arc::clone(&labels))),
            ("raw_query".into(), string(raw_query)),
        ]);
        root.insert("request".into(), Value::Map(Arc::new(request)));
        Self {
            root: Value::Map(Arc::new(root)),
            labels,
        }
    }

    /// The top-level names with their values, for `/metadata`.
    pub(crate) fn root(&self) -> &Value {
        &self.root
    }
}

/// Renders one template.
///
/// # Errors
///
/// Whatever Go refuses: syntax, unknown functions, missing keys, values of the wrong kind; and what has no
/// end, or none that anybody waits for: blocks nested too deep, more steps than the [`budget`] has.
pub fn render(source: &str, data: &Data) -> Result<String, TemplateError> {
    let mut template = with_functions(&data.labels)
        .missing_key(MissingKey::Error)
        .max_range_iters(STEPS_MAX);
    for tree in adapt::parse(source)? {
        template = template.add_parse_tree(&tree.name, tree.body);
    }
    let mut output = Bounded(String::new());
    template.execute_template_fmt(&mut output, &MAIN, &data.root)?;
    Ok(output.0)
}

/// A template that knows the functions, with a budget of its own.
fn with_functions(labels: &Arc<BTreeMap<Arc<str>, Value>>) -> Template {
    type Paid = fn(&[Value], &Budget) -> gotmpl::Result<Value>;
    const PAID: [(&str, Paid); 8] = [
        ("print", functions::print),
        ("println", functions::println),
        ("printf", functions::printf),
        (adapt::SHOW, functions::show),
        (adapt::NOTHING, functions::nothing),
        (adapt::UNDECLARED, functions::undeclared),
        (adapt::WEIGH, functions::weigh),
        (adapt::STEP, |args, budget| budget.step(args)),
    ];
    let budget = Budget::new();
    let labels = Arc::clone(labels);
    let mut template = Template::new("")
        .func("index", move |args| functions::index(args, &labels))
        .func(adapt::FIELD, functions::field);
    for (name, function) in PAID {
        let budget = budget.clone();
        template = template.func(name, move |args| function(args, &budget));
    }
    for (name, escaped) in functions::ESCAPERS {
        let budget = budget.clone();
        template = template.func(name, move |args| functions::escape(escaped, args, &budget));
    }
    template
}

/// Whether a text is a template at all: what is wrong with its syntax, by line and column from 1 (0 where
/// no place is at fault).
pub(crate) fn check(source: &str) -> Result<(), (usize, usize, String)> {
    match adapt::parse_alone(source).and_then(|()| adapt::parse(source).map(drop)) {
        Ok(()) => Ok(()),
        Err(
            TemplateError::Parse {
                line, col, message, ..
            }
            | TemplateError::Lex {
                line, col, message, ..
            },
        ) => Err((line, col, message)),
        Err(other) => Err((0, 0, other.to_string())),
    }
}

/// A string that refuses to grow beyond [`OUTPUT_BYTES_MAX`].
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// A value as `%v` prints it, for `/metadata`.
pub(crate) fn display(value: &Value) -> String {
    format::display(value)
}

fn string(text: &str) -> Value {
    Value::String(text.into())
}

/// A JSON value as Go's `interface{}` holds it: every number a `float64`.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => string(text),
        Json::Array(items) => Value::List(items.iter().map(value_of).collect()),
        Json::Object(fields) => Value::Map(Arc::new(
            fields
                .iter()
                .map(|(name, value)| (name.as_str().into(), value_of(value)))
                .collect(),
        )),
    }
}
