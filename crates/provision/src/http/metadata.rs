//! `/metadata`: a group's template data as `KEY=value` lines.
//!
//! Names of nested maps are joined with `_` and put in upper case; only strings, booleans and
//! numbers appear. matchbox writes them in random order, larder sorted by name.

use gotmpl::Value;

use crate::template::{self, Data};

/// All lines.
pub(crate) fn env_file(data: &Data) -> String {
    let mut file = String::new();
    lines(&mut file, "", data.root());
    file
}

fn lines(file: &mut String, prefix: &str, value: &Value) {
    let Value::Map(fields) = value else {
        return;
    };
    for (name, value) in fields.iter() {
        let name = format!("{prefix}{name}");
        match value {
            Value::Map(_) => lines(file, &format!("{name}_"), value),
            Value::String(_) | Value::Bool(_) | Value::Float(_) => {
                file.push_str(&name.to_uppercase());
                file.push('=');
                file.push_str(&template::display(value));
                file.push('\n');
            }
            _ => {}
        }
    }
}
