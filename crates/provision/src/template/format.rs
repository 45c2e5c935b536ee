//! `printf`: Go's `fmt.Sprintf` over the kinds of values that templates have.
//!
//! Every number from JSON is a `float64`, so `%d` of it is a wrong verb; lists and maps pass verb and flags on
//! to what is in them; what does not fit is told in the text (`%!d(string=a)`), never an error.

use std::fmt::Write;

use gotmpl::{Result, Value};

use super::{budget, number, quote};

/// Widths and precisions beyond this are no numbers to Go.
const NUMBER_MAX: i64 = 1_000_000;

/// Formats `values` as `format` says.
pub(super) fn sprintf(format: &str, values: &[Value]) -> Result<String> {
    let mut printer = Printer::default();
    Directives {
        format,
        at: 0,
        values,
        next: 0,
        reordered: false,
        after_index: false,
        good_index: true,
    }
    .write(&mut printer)?;
    Ok(printer.text)
}

/// A value as `%v` prints it.
pub(super) fn display(value: &Value) -> String {
    let mut printer = Printer::default();
    // Without a width there is nothing that could grow too large.
    let _fits = printer.value(value, 'v', 0);
    printer.text
}

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the format"
)]
pub(super) struct Flags {
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) sharp: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    /// `%#v`: as Go's source would say it.
    pub(super) go_syntax: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

/// The text so far, and the flags of the directive at hand.
#[derive(Debug, Default)]
struct Printer {
    text: String,
    flags: Flags,
}

impl Printer {
    /// One value with a verb; `depth` is how deep it is in lists and maps.
    fn value(&mut self, value: &Value, verb: char, depth: usize) -> Result<()> {
        match (value, verb) {
            (Value::Nil, _) if depth > 0 => {
                self.text.push_str(if self.flags.go_syntax {
                    "interface {}(nil)"
                } else {
                    "<nil>"
                });
                Ok(())
            }
            (Value::Nil, 'T' | 'v') => self.pad("<nil>", true),
            (_, 'T') if depth == 0 => {
                let name = truncated(type_name(value), self.flags.precision);
                self.pad(name, true)
            }
            (Value::Bool(flag), 't' | 'v') => self.pad(if *flag { "true" } else { "false" }, true),
            (Value::Int(number), _) => {
                self.integer(number.unsigned_abs(), *number < 0, verb, value)
            }
            (Value::Uint(number), 'v') if self.flags.go_syntax => {
                self.flags.sharp = true;
                let written = self.integer(*number, false, 'x', value);
                self.flags.sharp = false;
                written
            }
            (Value::Uint(number), _) => self.integer(*number, false, verb, value),
            (Value::Float(number), _) => match number::float(*number, verb, &self.flags) {
                Some(text) => self.float(&text),
                None => self.wrong_verb(value, verb),
            },
            (Value::String(text), _) => self.string(text, verb, value),
            (Value::List(items), _) if verb != 'p' => self.list(items, verb, depth),
            (Value::Map(fields), _) if verb != 'p' => {
                let (open, between, close) = if self.flags.go_syntax {
                    ("map[string]interface {}{", ", ", '}')
                } else {
                    ("map[", " ", ']')
                };
                self.text.push_str(open);
                for (position, (name, value)) in fields.iter().enumerate() {
                    if position > 0 {
                        self.text.push_str(between);
                    }
                    self.value(&Value::String(name.clone()), verb, depth + 1)?;
                    self.text.push(':');
                    self.value(value, verb, depth + 1)?;
                }
                self.text.push(close);
                budget::fits(self.text.len())
            }
            _ => self.wrong_verb(value, verb),
        }
    }

    fn list(&mut self, items: &[Value], verb: char, depth: usize) -> Result<()> {
        let (open, between, close) = if self.flags.go_syntax {
            ("[]interface {}{", ", ", '}')
        } else {
            ("[", " ", ']')
        };
        self.text.push_str(open);
        for (position, item) in items.iter().enumerate() {
            if position > 0 {
                self.text.push_str(between);
            }
            self.value(item, verb, depth + 1)?;
        }
        self.text.push(close);
        budget::fits(self.text.len())
    }

    /// `%!verb(type=value)`, the value with the same flags.
    fn wrong_verb(&mut self, value: &Value, verb: char) -> Result<()> {
        write!(self.text, "%!{verb}(").expect("text grows in memory");
        if matches!(value, Value::Nil) {
            self.text.push_str("<nil>)");
            return Ok(());
        }
        self.text.push_str(type_name(value));
        self.text.push('=');
        self.value(value, 'v', 0)?;
        self.text.push(')');
        Ok(())
    }

    fn integer(&mut self, magnitude: u64, negative: bool, verb: char, value: &Value) -> Result<()> {
        let letter = || {
            let code = if negative {
                None
            } else {
                u32::try_from(magnitude).ok()
            };
            code.and_then(char::from_u32).unwrap_or('\u{fffd}')
        };
        match verb {
            'c' => self.pad(letter().encode_utf8(&mut [0; 4]), true),
            'q' => {
                let quoted = quote::letter(letter(), self.flags.plus);
                self.pad(&quoted, true)
            }
            'U' => {
                let digits = self.flags.precision.map_or(4, |digits| digits.max(4));
                self.room(digits)?;
                let mut text = format!("U+{magnitude:0digits$X}");
                if self.flags.sharp && quote::is_printable(letter()) {
                    write!(text, " '{}'", letter()).expect("text grows in memory");
                }
                self.pad(&text, false)
            }
            'v' | 'd' | 'b' | 'o' | 'O' | 'x' | 'X' => {
                self.room(self.flags.precision.unwrap_or(0))?;
                self.room(self.flags.width.unwrap_or(0))?;
                let text = number::integer(magnitude, negative, verb, &self.flags);
                self.pad(&text, false)
            }
            _ => self.wrong_verb(value, verb),
        }
    }

    /// A float's text: zeros that fill it up stand behind its sign.
    fn float(&mut self, text: &str) -> Result<()> {
        let is_number = text.contains(|letter: char| letter.is_ascii_digit());
        let unsigned = text.trim_start_matches(['+', '-', ' ']);
        let Flags {
            zero, minus, width, ..
        } = self.flags;
        if let Some(width) =
            width.filter(|_| zero && !minus && is_number && unsigned.len() < text.len())
        {
            self.room(width)?;
            let sign = text.len() - unsigned.len();
            self.text.push_str(&text[..sign]);
            let zeros = width.saturating_sub(text.len());
            self.text.extend(std::iter::repeat_n('0', zeros));
            self.text.push_str(unsigned);
            return Ok(());
        }
        self.pad(text, is_number)
    }

    fn string(&mut self, text: &str, verb: char, value: &Value) -> Result<()> {
        match verb {
            'v' if self.flags.go_syntax => self.quoted(text),
            'v' | 's' => self.pad(truncated(text, self.flags.precision), true),
            'q' => self.quoted(text),
            'x' | 'X' => {
                let hex = number::hex(text.as_bytes(), verb == 'X', &self.flags);
                self.pad(&hex, true)
            }
            _ => self.wrong_verb(value, verb),
        }
    }

    fn quoted(&mut self, text: &str) -> Result<()> {
        let text = truncated(text, self.flags.precision);
        let quoted = if self.flags.sharp && quote::fits_backquotes(text) {
            format!("`{text}`")
        } else {
            quote::text(text, self.flags.plus)
        };
        self.pad(&quoted, true)
    }

    /// A text, filled up to the width: with zeros where the flag says so and the text may have them.
    fn pad(&mut self, text: &str, zeros: bool) -> Result<()> {
        let width = self.flags.width.unwrap_or(0);
        let missing = width.saturating_sub(text.chars().count());
        self.room(missing + text.len())?;
        if self.flags.minus {
            self.text.push_str(text);
            self.text.extend(std::iter::repeat_n(' ', missing));
        } else {
            let fill = if self.flags.zero && zeros { '0' } else { ' ' };
            self.text.extend(std::iter::repeat_n(fill, missing));
            self.text.push_str(text);
        }
        Ok(())
    }

    /// Whether so many bytes more may be.
    fn room(&self, bytes: usize) -> Result<()> {
        budget::fits(self.text.len().saturating_add(bytes))
    }
}

/// What Go calls a value's type.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Nil => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Function(_) => "func()",
    }
}

/// At most so many letters of a text.
fn truncated(text: &str, letters: Option<usize>) -> &str {
    let end = letters.and_then(|letters| text.char_indices().nth(letters));
    end.map_or(text, |(end, _)| &text[..end])
}

/// The way through a format.
struct Directives<'a> {
    format: &'a str,
    at: usize,
    values: &'a [Value],
    /// The value that the next verb takes.
    next: usize,
    /// A `[n]` was seen: then values that nobody took are nobody's fault.
    reordered: bool,
    /// The last thing that was read was a `[n]`.
    after_index: bool,
    good_index: bool,
}

impl Directives<'_> {
    fn write(mut self, printer: &mut Printer) -> Result<()> {
        while let Some(percent) = self.rest().find('%') {
            printer.text.push_str(&self.rest()[..percent]);
            printer.room(0)?;
            self.at += percent + 1;
            printer.flags = Flags::default();
            self.good_index = true;
            self.after_index = false;
            self.flags(&mut printer.flags);
            self.index();
            self.width(printer);
            self.precision(printer);
            if !self.after_index {
                self.index();
            }
            let Some(verb) = self.rest().chars().next() else {
                printer.text.push_str("%!(NOVERB)");
                break;
            };
            self.at += verb.len_utf8();
            self.verb(verb, printer)?;
        }
        printer.text.push_str(self.rest());
        self.extra(printer)
    }

    fn rest(&self) -> &str {
        self.format.get(self.at..).unwrap_or_default()
    }

    /// Whether the format goes on with this letter, which is then read.
    fn takes(&mut self, letter: char) -> bool {
        let found = self.rest().starts_with(letter);
        self.at += usize::from(found);
        found
    }

    fn flags(&mut self, flags: &mut Flags) {
        loop {
            match self.rest().as_bytes().first() {
                Some(b'#') => flags.sharp = true,
                Some(b'0') => flags.zero = true,
                Some(b'+') => flags.plus = true,
                Some(b'-') => flags.minus = true,
                Some(b' ') => flags.space = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    fn width(&mut self, printer: &mut Printer) {
        if self.takes('*') {
            match self.number_from_values() {
                Some(width) => {
                    printer.flags.minus |= width < 0;
                    printer.flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => printer.text.push_str("%!(BADWIDTH)"),
            }
            self.after_index = false;
            return;
        }
        printer.flags.width = self.digits();
        if self.after_index && printer.flags.width.is_some() {
            self.good_index = false;
        }
    }

    fn precision(&mut self, printer: &mut Printer) {
        if !self.takes('.') {
            return;
        }
        if self.after_index {
            self.good_index = false;
        }
        self.index();
        if self.takes('*') {
            let precision = self.number_from_values();
            printer.flags.precision = precision.and_then(|digits| usize::try_from(digits).ok());
            if printer.flags.precision.is_none() {
                printer.text.push_str("%!(BADPREC)");
            }
            self.after_index = false;
        } else {
            printer.flags.precision = Some(self.digits().unwrap_or(0));
        }
    }

    /// A number; one that is too large takes the rest of the format with it.
    fn digits(&mut self) -> Option<usize> {
        let rest = self.rest();
        let length = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let mut number: i64 = 0;
        for digit in rest[..length].bytes() {
            if number > NUMBER_MAX {
                self.at = self.format.len();
                return None;
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        self.at += length;
        usize::try_from(number).ok().filter(|_| length > 0)
    }

    /// The width or precision that a `*` takes from the values.
    fn number_from_values(&mut self) -> Option<i64> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        let number = match value {
            Value::Int(number) => *number,
            Value::Uint(number) => i64::try_from(*number).ok()?,
            _ => return None,
        };
        Some(number).filter(|number| (-NUMBER_MAX..=NUMBER_MAX).contains(number))
    }

    /// `[n]`, which says which value is next.
    fn index(&mut self) {
        self.after_index = false;
        if !self.rest().starts_with('[') {
            return;
        }
        self.reordered = true;
        let Some(length) = self.rest().find(']') else {
            self.good_index = false;
            self.at += 1;
            return;
        };
        let number: Option<usize> = self.rest()[1..length].parse().ok();
        self.at += length + 1;
        self.after_index = number.is_some();
        self.good_index &= number.is_some_and(|number| (1..=self.values.len()).contains(&number));
        if let Some(number) = number.filter(|_| self.good_index) {
            self.next = number - 1;
        }
    }

    fn verb(&mut self, verb: char, printer: &mut Printer) -> Result<()> {
        if verb == '%' {
            printer.text.push('%');
            return Ok(());
        }
        let wrong = if self.good_index {
            "MISSING"
        } else {
            "BADINDEX"
        };
        let value = self.values.get(self.next).filter(|_| self.good_index);
        let Some(value) = value else {
            write!(printer.text, "%!{verb}({wrong})").expect("text grows in memory");
            return Ok(());
        };
        if verb == 'v' {
            // Both mean something else here than elsewhere: Go's syntax, and names of a structure's fields.
            printer.flags.go_syntax = std::mem::take(&mut printer.flags.sharp);
            printer.flags.plus = false;
        }
        self.next += 1;
        printer.value(value, verb, 0)
    }

    /// Tells of the values that no verb took.
    fn extra(self, printer: &mut Printer) -> Result<()> {
        let extra = self.values.get(self.next..).unwrap_or_default();
        if self.reordered || extra.is_empty() {
            return printer.room(0);
        }
        printer.flags = Flags::default();
        printer.text.push_str("%!(EXTRA ");
        for (position, value) in extra.iter().enumerate() {
            if position > 0 {
                printer.text.push_str(", ");
            }
            printer.text.push_str(type_name(value));
            if !matches!(value, Value::Nil) {
                printer.text.push('=');
                printer.value(value, 'v', 0)?;
            }
        }
        printer.text.push(')');
        printer.room(0)
    }
}
