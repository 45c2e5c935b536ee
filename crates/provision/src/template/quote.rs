//! Texts and letters as Go's `strconv.Quote` writes them.

use std::fmt::Write;

/// A text in double quotes; `ascii`: everything else escaped.
pub(super) fn text(text: &str, ascii: bool) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        escape(&mut quoted, letter, '"', ascii);
    }
    quoted.push('"');
    quoted
}

/// A letter in single quotes.
pub(super) fn letter(letter: char, ascii: bool) -> String {
    let mut quoted = String::from('\'');
    escape(&mut quoted, letter, '\'', ascii);
    quoted.push('\'');
    quoted
}

fn escape(quoted: &mut String, letter: char, mark: char, ascii: bool) {
    match letter {
        '\u{7}' => quoted.push_str("\\a"),
        '\u{8}' => quoted.push_str("\\b"),
        '\u{c}' => quoted.push_str("\\f"),
        '\n' => quoted.push_str("\\n"),
        '\r' => quoted.push_str("\\r"),
        '\t' => quoted.push_str("\\t"),
        '\u{b}' => quoted.push_str("\\v"),
        '\\' => quoted.push_str("\\\\"),
        letter if letter == mark => {
            quoted.push('\\');
            quoted.push(mark);
        }
        letter if is_printable(letter) && (letter.is_ascii() || !ascii) => quoted.push(letter),
        letter => {
            let code = u32::from(letter);
            match code {
                0..0x20 | 0x7f => write!(quoted, "\\x{code:02x}"),
                0x20..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                _ => write!(quoted, "\\U{code:08x}"),
            }
            .expect("text grows in memory");
        }
    }
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub(super) fn is_printable(letter: char) -> bool {
    // Behind another letter, only what does not print is written as a number.
    let mut escaped = ['a', letter].iter().collect::<String>();
    escaped = escaped.escape_debug().collect();
    !escaped.starts_with("a\\") || matches!(letter, '\\' | '"' | '\'')
}

/// Go's `strconv.CanBackquote`: one line, no back quote, no control character but the tab.
pub(super) fn fits_backquotes(text: &str) -> bool {
    !text.contains(|letter: char| {
        (letter < ' ' && letter != '\t') || matches!(letter, '`' | '\u{7f}' | '\u{feff}')
    })
}
