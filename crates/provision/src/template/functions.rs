//! Go's functions where gotmpl's know less than Go: values that come from JSON.

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::{Result, TemplateError, Value};

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
pub(super) fn show(args: &[Value]) -> Value {
    match args {
        [] | [Value::Nil] => Value::String("<no value>".into()),
        [value, ..] => Value::String(display(value).into()),
    }
}

/// The text of values whose text gotmpl would get wrong; others stay what they are.
pub(super) fn text(args: &[Value]) -> Value {
    match args.first() {
        Some(value @ (Value::Float(_) | Value::List(_) | Value::Map(_))) => {
            Value::String(display(value).into())
        }
        Some(value) => value.clone(),
        None => Value::Nil,
    }
}

/// `print`: a blank between two values of which neither is a string.
pub(super) fn print(args: &[Value]) -> Value {
    let mut text = String::new();
    let mut after_string = true;
    for value in args {
        let is_string = matches!(value, Value::String(_));
        if !after_string && !is_string {
            text.push(' ');
        }
        text.push_str(&display(value));
        after_string = is_string;
    }
    Value::String(text.into())
}

/// `println`: a blank between all values.
pub(super) fn println(args: &[Value]) -> Value {
    let texts: Vec<String> = args.iter().map(display).collect();
    Value::String(format!("{}\n", texts.join(" ")).into())
}

/// A value as Go's `%v` prints it.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Float(number) => float(*number),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(display).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", display(value)))
                .collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// The shortest text of a float64, with an exponent below 1e-4 and from 1e6 on.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return match number {
            number if number.is_nan() => "NaN".to_owned(),
            number if number > 0.0 => "+Inf".to_owned(),
            _ => "-Inf".to_owned(),
        };
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..EXPONENT_MIN).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// From this power of ten on `%v` writes an exponent.
const EXPONENT_MIN: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (number, wanted) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(float(number), wanted);
        }
    }
}
