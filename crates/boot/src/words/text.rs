//! Splits command lines and files into words, in getopt's and dnsmasq's ways.
//!
//! Inside quotes of a file, separators lose their meaning. dnsmasq hides them behind control characters;
//! here they move to a private range of code points until [`shown`] brings them back, so that splitting
//! at a comma never needs to know of quotes.

use super::table::{self, Known, Takes};
use super::{Position, WordError};

/// A word with its argument, not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Which word.
    pub known: Known,
    /// Its argument; quoted characters hidden.
    pub value: Option<String>,
    /// Where it stood.
    pub position: Position,
}

/// First code point of hidden characters.
const HIDDEN: u32 = 0xE000;

/// The characters that quotes hide, as dnsmasq's `hide_meta` does: those that separate, number or address.
const META: &[u8] = b" \x08\t\n\r\x1b:,.0123456789abcdefABCDEF";

fn hide(quoted: char) -> char {
    match u8::try_from(quoted) {
        Ok(byte) if META.contains(&byte) => {
            char::from_u32(HIDDEN + u32::from(byte)).unwrap_or(quoted)
        }
        _ => quoted,
    }
}

/// Brings hidden characters back.
pub fn shown(text: &str) -> String {
    let show = |hidden: char| {
        let code = u32::from(hidden).wrapping_sub(HIDDEN);
        u8::try_from(code)
            .ok()
            .filter(u8::is_ascii)
            .map_or(hidden, char::from)
    };
    text.chars().map(show).collect()
}

/// Splits at commas, with the blanks around them taken off, as dnsmasq does.
pub fn fields(value: &str) -> Vec<&str> {
    let mut fields: Vec<&str> = value.split(',').collect();
    let last = fields.len() - 1;
    for (place, field) in fields.iter_mut().enumerate() {
        if place > 0 {
            *field = field.trim_start();
        }
        if place < last {
            *field = field.trim_end();
        }
    }
    fields
}

/// Splits a command line: bundled letters, `--word value`, `--word=value` and abbreviations.
///
/// # Errors
/// Unknown words, missing or superfluous values and stray arguments.
pub fn command_line(arguments: &[String]) -> Result<Vec<Word>, WordError> {
    let mut words = Vec::new();
    split(arguments, &mut words)?;
    Ok(words)
}

/// The same, into `words`, which hold those before a wrong one afterwards.
pub(super) fn split(arguments: &[String], words: &mut Vec<Word>) -> Result<(), WordError> {
    let mut rest = arguments.iter().enumerate();
    while let Some((place, argument)) = rest.next() {
        let position = Position::Argument(place + 1);
        if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let known = table::long_or_abbreviated(name)
                .ok_or_else(|| unknown(&position, &format!("--{name}")))?;
            let value = match (known.takes, value) {
                (Takes::Nothing, Some(_)) => return Err(superfluous(&position, known)),
                (Takes::Value, None) => {
                    let (_, next) = rest.next().ok_or_else(|| missing(&position, known))?;
                    Some(next.clone())
                }
                (_, value) => value,
            };
            words.push(Word {
                known,
                value,
                position,
            });
        } else if let Some(letters) = argument
            .strip_prefix('-')
            .filter(|letters| !letters.is_empty())
        {
            bundle(letters, &position, &mut rest, words)?;
        } else if !argument.trim().is_empty() {
            let reason = format!("{argument:?} belongs to no word");
            return Err(WordError { position, reason });
        }
    }
    Ok(())
}

fn bundle<'a>(
    letters: &str,
    position: &Position,
    rest: &mut impl Iterator<Item = (usize, &'a String)>,
    words: &mut Vec<Word>,
) -> Result<(), WordError> {
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        let (known, has_value) =
            table::short(letter).ok_or_else(|| unknown(position, &format!("-{letter}")))?;
        let value = if has_value {
            let same: String = letters.by_ref().collect();
            let value = if same.is_empty() {
                rest.next().map(|(_, next)| next.clone())
            } else {
                Some(same)
            };
            Some(value.ok_or_else(|| missing(position, known))?)
        } else {
            None
        };
        words.push(Word {
            known,
            value,
            position: position.clone(),
        });
    }
    Ok(())
}

/// In front of what was UTF-16: the byte order mark the wrong way round, which is no character.
const UTF_16: char = '\u{fffe}';

/// The text of a file; what is no UTF-8 in it is replaced. UTF-16 is read too, so that its first line can be
/// refused for what it is.
pub fn decoded(bytes: &[u8]) -> String {
    let (unit, bytes): (fn([u8; 2]) -> u16, _) = match bytes {
        [0xFF, 0xFE, rest @ ..] => (u16::from_le_bytes, rest),
        [0xFE, 0xFF, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return String::from_utf8_lossy(bytes).into_owned(),
    };
    let (pairs, _odd) = bytes.as_chunks();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    format!("{UTF_16}{}", String::from_utf16_lossy(&units))
}

/// Splits a configuration file: one word a line, quotes and comments.
///
/// Forms that people write though dnsmasq does not take them are read as well: leading dashes and a
/// blank in place of `=`.
///
/// # Errors
/// Unknown words, missing or superfluous values and quotes that are not closed.
pub fn file(name: &str, content: &str) -> Result<Vec<Word>, WordError> {
    let mut words = Vec::new();
    for (position, line) in lines(name, content) {
        let wrong = |reason| WordError {
            position: position.clone(),
            reason,
        };
        words.push(file_word(&line.map_err(wrong)?, position)?);
    }
    Ok(words)
}

/// The lines of a file that say something, without quotes and comments. A backslash at the end of a line
/// has no meaning to dnsmasq.
pub(super) fn lines<'c>(
    name: &'c str,
    content: &'c str,
) -> impl Iterator<Item = (Position, Result<String, String>)> + 'c {
    content
        .lines()
        .enumerate()
        .filter_map(move |(index, line)| {
            let position = Position::Line {
                file: name.to_owned(),
                line: index + 1,
            };
            let bare = unquoted(line).map(|bare| bare.trim().to_owned());
            let bare = bare.ok_or_else(|| "a quote is not closed".to_owned());
            (bare != Ok(String::new())).then_some((position, bare))
        })
}

fn file_word(text: &str, position: Position) -> Result<Word, WordError> {
    let text = text.trim_start_matches('-');
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.trim_end().contains(' ') => {
            (name.trim_end(), Some(value.trim_start()))
        }
        _ => match text.split_once(' ') {
            Some((name, value)) => (name, Some(value.trim_start())),
            None => (text, None),
        },
    };
    let known = table::long(name).ok_or_else(|| unknown(&position, name))?;
    match (known.takes, value) {
        (Takes::Nothing, Some(_)) => Err(superfluous(&position, known)),
        (Takes::Value, None) => Err(missing(&position, known)),
        (_, value) => Ok(Word {
            known,
            value: value.map(str::to_owned),
            position,
        }),
    }
}

/// Takes quotes off and comments out; none if a quote stays open. A `#` begins a comment behind a blank.
fn unquoted(line: &str) -> Option<String> {
    let mut bare = String::with_capacity(line.len());
    let mut is_behind_blank = true;
    let mut characters = line.chars();
    while let Some(mut character) = characters.next() {
        // What follows a quote is never another quote, and a comment if one may begin before the quote.
        if character == '"' {
            quoted(&mut characters, &mut bare)?;
            let Some(next) = characters.next() else { break };
            character = next;
        }
        match character {
            '#' if is_behind_blank => break,
            blank if blank.is_ascii_whitespace() => {
                bare.push(' ');
                is_behind_blank = true;
            }
            other => {
                bare.push(other);
                is_behind_blank = false;
            }
        }
    }
    Some(bare)
}

fn quoted(characters: &mut std::str::Chars<'_>, bare: &mut String) -> Option<()> {
    loop {
        match characters.next()? {
            '"' => return Some(()),
            '\\' => {
                let mut ahead = characters.clone();
                let escaped = match ahead.next()? {
                    't' => Some('\t'),
                    'n' => Some('\n'),
                    'b' => Some('\u{8}'),
                    'r' => Some('\r'),
                    'e' => Some('\u{1b}'),
                    same @ ('"' | '\\') => Some(same),
                    _ => None,
                };
                if escaped.is_some() {
                    *characters = ahead;
                }
                bare.push(hide(escaped.unwrap_or('\\')));
            }
            other => bare.push(hide(other)),
        }
    }
}

fn unknown(position: &Position, word: &str) -> WordError {
    WordError {
        position: position.clone(),
        reason: if word.starts_with('\u{feff}') {
            "the file begins with a byte order mark, which dnsmasq refuses too: save it as UTF-8 without one".to_owned()
        } else if word.starts_with(UTF_16) {
            "the file is UTF-16, which dnsmasq refuses too: save it as UTF-8".to_owned()
        } else {
            format!("dnsmasq 2.90 knows no word {}", shown(word))
        },
    }
}

fn missing(position: &Position, known: Known) -> WordError {
    WordError {
        position: position.clone(),
        reason: format!("{} needs a value", known.name),
    }
}

fn superfluous(position: &Position, known: Known) -> WordError {
    WordError {
        position: position.clone(),
        reason: format!("{} takes no value", known.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str]) -> Result<Vec<(&'static str, Option<String>)>, String> {
        let owned: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        command_line(&owned)
            .map(|words| words.into_iter().map(|w| (w.known.name, w.value)).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn getopt_forms_are_taken() {
        let port = |value: &str| Ok(vec![("port", Some(value.to_owned()))]);
        assert_eq!(line(&["--port=0"]), port("0"));
        assert_eq!(line(&["--port", "0"]), port("0"));
        assert_eq!(line(&["-p0"]), port("0"));
        assert_eq!(line(&["-p", "0"]), port("0"));
        assert_eq!(
            line(&["-dq"]),
            Ok(vec![("no-daemon", None), ("log-queries", None)])
        );
        assert_eq!(line(&["--pid-file"]), Ok(vec![("pid-file", None)]));
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        assert_eq!(
            line(&["--frobnicate"]).unwrap_err(),
            "argument 1: dnsmasq 2.90 knows no word --frobnicate"
        );
        assert_eq!(
            line(&["-d", "-?"]).unwrap_err(),
            "argument 2: dnsmasq 2.90 knows no word -?"
        );
        assert_eq!(
            line(&["--no-daemon=1"]).unwrap_err(),
            "argument 1: no-daemon takes no value"
        );
        assert_eq!(line(&["-p"]).unwrap_err(), "argument 1: port needs a value");
        assert_eq!(
            line(&["junk"]).unwrap_err(),
            "argument 1: \"junk\" belongs to no word"
        );
    }

    #[test]
    fn quotes_hide_separators_and_comments_end_lines() {
        let content =
            "# comment\n\npxe-prompt = \"a, \\\"b\\\" #c\", 5 # more\nenable-tftp\n  port=0\n";
        let words = file("f", content).unwrap();
        let fields = fields(words[0].value.as_deref().unwrap());
        assert_eq!(
            fields.iter().map(|f| shown(f)).collect::<Vec<_>>(),
            ["a, \"b\" #c", "5"]
        );
        assert_eq!(words[1].known.name, "enable-tftp");
        assert_eq!(words[2].position.to_string(), "f:5");
    }

    #[test]
    fn forms_that_only_people_write_are_read() {
        let words = file(
            "f",
            "--dhcp-range 10.0.0.0,proxy\ndhcp-boot=tag:x,  file.0\r\n",
        )
        .unwrap();
        assert_eq!(words[0].value.as_deref(), Some("10.0.0.0,proxy"));
        assert_eq!(
            fields(words[1].value.as_deref().unwrap()),
            ["tag:x", "file.0"]
        );
    }

    #[test]
    fn a_backslash_at_the_end_of_a_line_continues_nothing() {
        let words = file(
            "f",
            "# the share is \\\\nas\\boot\\\nport=0\ntftp-root=/a\\\n",
        )
        .unwrap();
        let values: Vec<_> = words.iter().map(|word| word.value.as_deref()).collect();
        assert_eq!(values, [Some("0"), Some("/a\\")]);
    }

    #[test]
    fn wrong_lines_are_refused_with_their_place() {
        assert_eq!(
            file("f", "\nbogus=1").unwrap_err().to_string(),
            "f:2: dnsmasq 2.90 knows no word bogus"
        );
        let marked = file("f", "\u{feff}port=0").unwrap_err().to_string();
        assert!(
            marked.starts_with("f:1: the file begins with a byte order mark"),
            "{marked}"
        );
        assert_eq!(
            file("f", "pxe-prompt=\"x").unwrap_err().to_string(),
            "f:1: a quote is not closed"
        );
        assert_eq!(
            file("f", "dhcp-boot").unwrap_err().to_string(),
            "f:1: dhcp-boot needs a value"
        );
    }

    #[test]
    fn utf_16_is_named_wherever_its_first_word_is() {
        for content in ["port=0\n", "# ports\r\nport=0\n", "\nport=0\n"] {
            let units: Vec<u16> = content.encode_utf16().collect();
            let little = units.iter().flat_map(|unit| unit.to_le_bytes());
            let big = units.iter().flat_map(|unit| unit.to_be_bytes());
            let files: [Vec<u8>; 2] = [
                [0xFF, 0xFE].into_iter().chain(little).collect(),
                [0xFE, 0xFF].into_iter().chain(big).collect(),
            ];
            for bytes in files {
                let refused = file("f", &decoded(&bytes)).unwrap_err().to_string();
                assert!(refused.starts_with("f:1: the file is UTF-16"), "{refused}");
            }
        }
        assert_eq!(decoded(b"# \xe9\nport=0"), "# \u{fffd}\nport=0");
    }

    #[test]
    fn blanks_around_commas_are_taken_off() {
        assert_eq!(
            fields("x86PC , \u{e020}text ,  file"),
            ["x86PC", "\u{e020}text", "file"]
        );
        assert_eq!(fields(""), [""]);
    }
}
