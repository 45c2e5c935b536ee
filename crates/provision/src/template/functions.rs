//! Go's functions where gotmpl's know less than Go: values that come from JSON.

use std::{collections::BTreeMap, sync::Arc};

use gotmpl::{Result, Template, TemplateError, Value, html_escape, js_escape, url_encode};

use super::budget::{self, Budget};

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

/// The text of values whose text gotmpl would get wrong; others stay what they are.
pub(super) fn text(args: &[Value], budget: &Budget) -> Result<Value> {
    match args.first() {
        Some(value @ (Value::Float(_) | Value::List(_) | Value::Map(_))) => {
            budget.text(display(value))
        }
        Some(value) => Ok(value.clone()),
        None => Ok(Value::Nil),
    }
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

/// `printf`: gotmpl's, once it is known how much it can give at most.
pub(super) fn printf(args: &[Value], budget: &Budget) -> Result<Value> {
    if let Some((Value::String(format), values)) = args.split_first() {
        // It looks through the rest of the format at a bracket.
        let brackets = format.matches('[').count();
        let looked_at = format.len().saturating_mul(brackets + 1);
        budget.spend_bytes(looked_at.saturating_add(PRINTF_BYTES))?;
        budget::fits(printed_bytes_max(format, values))?;
    }
    let names: Vec<String> = (0..args.len()).map(|n| format!("a{n}")).collect();
    let fields: Vec<String> = names.iter().map(|name| format!(" .{name}")).collect();
    let data: BTreeMap<Arc<str>, Value> = names
        .iter()
        .map(|name| Arc::from(name.as_str()))
        .zip(args.iter().cloned())
        .collect();
    let mut text = String::new();
    Template::new("")
        .parse(&format!("{{{{printf{}}}}}", fields.concat()))?
        .execute_fmt(&mut text, &Value::Map(Arc::new(data)))?;
    budget.text(text)
}

/// No format gives more: each verb its largest value, escaped, and its width and precision.
fn printed_bytes_max(format: &str, values: &[Value]) -> usize {
    let lengths = values.iter().map(|value| match value {
        Value::String(text) => text.len(),
        Value::List(_) | Value::Map(_) => display(value).len(),
        _ => NUMBER_BYTES_MAX,
    });
    // `%q` writes one byte as four.
    let value = lengths.max().unwrap_or(0).saturating_mul(4) + NUMBER_BYTES_MAX;
    let verbs = format.matches('%').count();
    let stars = format.matches('*').count();
    let widths = format.split(|c: char| !c.is_ascii_digit());
    let widths = widths
        .filter(|digits| !digits.is_empty())
        .map(|digits| {
            digits
                .parse()
                .map_or(WIDTH_MAX, |width: usize| width.min(WIDTH_MAX))
        })
        .sum::<usize>();
    verbs
        .saturating_mul(value)
        .saturating_add(stars.saturating_mul(WIDTH_MAX))
        .saturating_add(widths)
        .saturating_add(format.len())
}

/// `html`, `js` and `urlquery`.
pub(super) fn escape(
    name: &str,
    escaped: Escaper,
    args: &[Value],
    budget: &Budget,
) -> Result<Value> {
    let [value] = args else {
        return Err(TemplateError::ArgCount {
            name: name.to_owned(),
            expected: 1,
            got: args.len(),
        });
    };
    budget.text(match value {
        Value::Nil => escaped("<no value>"),
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    })
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
/// The widest field and the longest precision of gotmpl's `printf`.
const WIDTH_MAX: usize = u16::MAX as usize;
/// More than a number or a truth is long, in any base, with what `printf` says of a wrong verb.
const NUMBER_BYTES_MAX: usize = 512;

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
