//! Words that ask for something else than to serve: `--version`, `--help` and `--test`.
//!
//! As in dnsmasq, the first two count where they stand: what is wrong behind them is never looked at, what
//! is wrong before them is.

use std::fmt::Write as _;

use super::read::{self, Files};
use super::table::{self, Meaning};
use super::text::{self, Word};
use super::{WordError, value};

/// Longest line of what is printed.
const LINE_MAX: usize = 100;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// `--version`, `-v`.
    Version,
    /// `--help`, `-w`: which words there are.
    Words,
    /// `--help dhcp`: which names of options there are.
    Options,
    /// `--test`: whether the words are good.
    Test,
}

/// What a command line asks for instead of serving; none if it is to serve.
///
/// # Errors
/// The first word that cannot be taken, as far as they are looked at.
pub fn instead(arguments: &[String], files: &Files<'_>) -> Result<Option<Instead>, WordError> {
    let mut words = Vec::new();
    let read = text::split(arguments, &mut words);
    let printed = words
        .iter()
        .position(|word| matches!(word.known.name, "version" | "help"));
    if let Some((word, before)) = printed.and_then(|at| Some((words.get(at)?, words.get(..at)?))) {
        read::rules(before.to_vec(), files)?;
        return Ok(Some(printed_by(word, arguments)));
    }
    read?;
    let is_test = |word: &Word| word.known.name == "test";
    Ok(words.iter().any(is_test).then_some(Instead::Test))
}

fn printed_by(word: &Word, arguments: &[String]) -> Instead {
    let behind = match word.position {
        super::Position::Argument(place) => arguments.get(place).map(String::as_str),
        super::Position::Words | super::Position::Line { .. } => None,
    };
    match (word.known.name, behind) {
        ("version", _) => Instead::Version,
        (_, Some("dhcp")) => Instead::Options,
        _ => Instead::Words,
    }
}

/// All words and what becomes of them.
pub fn all_words() -> String {
    let mut text = String::from("The words of dnsmasq 2.90, and what larder makes of them\n");
    for (meaning, head) in [
        (Meaning::Boot, "with an effect"),
        (Meaning::Start, "taken, since scripts write them"),
        (Meaning::Dns, "noted and ignored: larder serves no DNS"),
        (
            Meaning::Lease,
            "noted and ignored: the main DHCP server gives leases",
        ),
        (
            Meaning::V6,
            "noted and ignored: PXE over IPv6 is not served",
        ),
    ] {
        let _infallible = write!(text, "\n{head}:\n ");
        let mut length = 1;
        for name in table::named(meaning) {
            if length + name.len() > LINE_MAX {
                text.push_str("\n ");
                length = 1;
            }
            let _infallible = write!(text, " {name}");
            length += name.len() + 1;
        }
        text.push('\n');
    }
    text
}

/// The names of DHCP options that may stand for their numbers.
pub fn all_options() -> String {
    let mut text = String::from("Known DHCP options:\n");
    for (name, code) in value::NAMES {
        let _infallible = writeln!(text, "{code:>3} {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Option<Instead>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        instead(&words, &|_| Ok(Vec::new())).map_err(|error| error.to_string())
    }

    #[test]
    fn words_that_print_count_where_they_stand() {
        assert_eq!(asked(&["--version"]), Ok(Some(Instead::Version)));
        assert_eq!(asked(&["-dv", "--bogus"]), Ok(Some(Instead::Version)));
        assert_eq!(asked(&["--vers", "junk"]), Ok(Some(Instead::Version)));
        assert_eq!(asked(&["-w"]), Ok(Some(Instead::Words)));
        assert_eq!(asked(&["--help", "dhcp"]), Ok(Some(Instead::Options)));
        assert_eq!(asked(&["--test", "-v"]), Ok(Some(Instead::Version)));
        assert!(asked(&["--bogus", "--version"]).is_err());
        assert!(asked(&["--dhcp-range=nonsense", "--version"]).is_err());
    }

    #[test]
    fn a_test_is_for_the_whole_line() {
        let words = ["-d", "--test", "--dhcp-range=10.0.0.0,proxy"];
        assert_eq!(asked(&words), Ok(Some(Instead::Test)));
        assert_eq!(asked(&words[..1]), Ok(None));
        assert!(asked(&["--test", "--bogus"]).is_err());
        assert!(asked(&["--test=1"]).is_err());
    }

    #[test]
    fn every_word_and_option_is_listed() {
        let text = all_words();
        assert!(
            text.contains(" pxe-service") && text.contains(" server ") && text.contains(" port")
        );
        assert!(text.lines().all(|line| line.len() <= LINE_MAX + 1));
        assert!(all_options().contains("\n 93 client-arch\n"));
    }
}
