//! Go's functions where gotmpl's know less than Go: values that come from JSON.

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::{Result, TemplateError, Value, html_escape, js_escape, url_encode};

use super::{
    budget::{self, Budget},
    format::{display, sprintf},
};

/// Field access: an error for a missing key, and for a field of anything but a map.
pub(super) fn field(args: &[Value]) -> Result<Value> {
    let Some((base, names)) = args.split_first() else {
        return Err(TemplateError::Exec("field of nothing".to_owned()));
    };
    let mut value = base;
    for name in names {
        let name = name.as_str().unwrap_or_default();
        value = match value {
            Value::Map(fields) => fields.get(name).ok_or_else(|| TemplateError::MissingKey {
                key: name.to_owned(),
            })?,
            other => {
                let kind = other.type_name();
                return Err(TemplateError::Exec(format!(
                    "can't take field {name} of {kind}"
                )));
            }
        };
    }
    Ok(value.clone())
}

/// `index`, knowing that the machine's labels are a `map[string]string`: a missing key of it gives
/// an empty string, of other maps no value.
pub(super) fn index(args: &[Value], labels: &Arc<BTreeMap<Arc<str>, Value>>) -> Result<Value> {
    let Some((collection, keys)) = args.split_first() else {
        return Err(TemplateError::ArgCount {
            name: "index".into(),
            expected: 1,
            got: 0,
        });
    };
    let mut value = collection.clone();
    for key in keys {
        let strings_only = matches!(&value, Value::Map(map) if Arc::ptr_eq(map, labels));
        value = match value.index(key)? {
            Value::Nil if strings_only => Value::String("".into()),
            found => found,
        };
    }
    Ok(value)
}

/// What an action prints: its value as `%v`, nothing as `<no value>`.
pub(super) fn show(args: &[Value], budget: &Budget) -> Result<Value> {
    match args {
        [] | [Value::Nil] => Ok(Value::String("<no value>".into())),
        [text @ Value::String(_), ..] => Ok(text.clone()),
        [value, ..] => budget.text(display(value)),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "one shape for all functions")]
/// What a template that is called without an argument has as its data.
pub(super) fn nothing(_args: &[Value], _budget: &Budget) -> Result<Value> {
    Ok(Value::Nil)
}

/// Go's refusal to assign to what nobody declared.
pub(super) fn undeclared(args: &[Value], _budget: &Budget) -> Result<Value> {
    let name = args.first().and_then(Value::as_str).unwrap_or_default();
    Err(TemplateError::UndefinedVariable(name.to_owned()))
}

/// A value that the budget has paid the reading of.
pub(super) fn weigh(args: &[Value], budget: &Budget) -> Result<Value> {
    let value = args.first().cloned().unwrap_or(Value::Nil);
    match &value {
        Value::String(text) => budget.spend_bytes(text.len())?,
        Value::List(items) => budget.spend_bytes(size_of_val(&**items))?,
        _ => {}
    }
    Ok(value)
}

/// `print`: a blank between two values of which neither is a string.
pub(super) fn print(args: &[Value], budget: &Budget) -> Result<Value> {
    let mut text = String::new();
    let mut after_string = true;
    for value in args {
        let is_string = matches!(value, Value::String(_));
        if !after_string && !is_string {
            text.push(' ');
        }
        text.push_str(&display(value));
        budget::fits(text.len())?;
        after_string = is_string;
    }
    budget.text(text)
}

/// `println`: a blank between all values.
pub(super) fn println(args: &[Value], budget: &Budget) -> Result<Value> {
    let mut text = String::new();
    for (position, value) in args.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        text.push_str(&display(value));
        budget::fits(text.len())?;
    }
    text.push('\n');
    budget.text(text)
}

/// `printf`, which takes a text first.
pub(super) fn printf(args: &[Value], budget: &Budget) -> Result<Value> {
    let Some((Value::String(format), values)) = args.split_first() else {
        let got = args.first().map_or("nothing", Value::type_name);
        return Err(TemplateError::Exec(format!(
            "printf takes a string first, not {got}"
        )));
    };
    // It looks through the rest of the format at a bracket.
    let brackets = format.matches('[').count();
    let looked_at = format.len().saturating_mul(brackets + 1);
    budget.spend_bytes(looked_at.saturating_add(PRINTF_BYTES))?;
    budget.text(sprintf(format, values)?)
}

/// `html`, `js` and `urlquery`: of one value its text, of several what `print` makes of them.
pub(super) fn escape(escaped: Escaper, args: &[Value], budget: &Budget) -> Result<Value> {
    if let [Value::String(text)] = args {
        return budget.text(escaped(text));
    }
    let known = |value: &Value| match value {
        Value::Nil => Value::String("<no value>".into()),
        other => other.clone(),
    };
    let args: Vec<Value> = args.iter().map(known).collect();
    let text = print(&args, budget)?;
    budget.text(escaped(text.as_str().unwrap_or_default()))
}

/// The escapers by name.
pub(super) const ESCAPERS: [(&str, Escaper); 3] = [
    ("html", html_escape),
    ("js", js_escape),
    ("urlquery", url_encode),
];

/// Gives a text its form for where it will stand.
pub(super) type Escaper = fn(&str) -> String;

/// A call takes as long as that many bytes would.
const PRINTF_BYTES: usize = 512;
