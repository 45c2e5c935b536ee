//! Translates Squid's regular expressions, POSIX extended ones as the GNU library reads them, into
//! the syntax of the `regex` crate.
//!
//! The dialects differ where live files notice: a `[` inside a class is a plain member and so is a
//! backslash; an unmatched `)` is plain; a backslash before most letters means the letter (so `\d`
//! is a `d`); class set operators do not exist. What the GNU library refuses is refused here.

/// The classes of POSIX.
const NAMES: [&str; 12] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "xdigit",
];

/// Repetitions that the GNU library counts to.
const REPETITIONS_MAX: u32 = 0x7fff;

/// A pattern that the GNU library would refuse, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EreError {
    pub(crate) reason: &'static str,
    /// Characters from the start of the pattern.
    pub(crate) offset: usize,
}

/// A translated pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Translated {
    /// For the `regex` crate.
    pub(crate) text: String,
    /// Where a `\d` stands, which means `d`: characters from the start.
    pub(crate) digit_slip: Option<usize>,
}

/// Translates one pattern.
pub(crate) fn translate(pattern: &str, ignore_case: bool) -> Result<Translated, EreError> {
    let mut translator = Translator {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::from(if ignore_case { "(?i)" } else { "" }),
        groups: Vec::new(),
        last: Last::Nothing,
        digit_slip: None,
    };
    translator.run()?;
    Ok(Translated {
        text: translator.out,
        digit_slip: translator.digit_slip,
    })
}

struct Translator {
    chars: Vec<char>,
    at: usize,
    out: String,
    /// Where in `out` the groups that are open begin.
    groups: Vec<usize>,
    last: Last,
    digit_slip: Option<usize>,
}

/// What a repetition would repeat.
#[derive(Clone, Copy)]
enum Last {
    /// Nothing that can be.
    Nothing,
    /// What begins there in `out`.
    Atom(usize),
    /// The same, with a repetition of its own.
    Repeated(usize),
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn fail(&self, reason: &'static str) -> EreError {
        EreError {
            reason,
            offset: self.at.min(self.chars.len().saturating_sub(1)),
        }
    }

    fn run(&mut self) -> Result<(), EreError> {
        while let Some(c) = self.peek(0) {
            match c {
                '[' => self.class()?,
                '\\' => self.escape()?,
                '(' => self.open_group(),
                ')' => self.close_group(),
                '{' => self.bound()?,
                '*' | '+' | '?' => {
                    self.repeat(&c.to_string())?;
                    self.at += 1;
                }
                '^' | '|' => {
                    self.push(c);
                    self.last = Last::Nothing;
                }
                '.' | '$' => {
                    self.last = Last::Atom(self.out.len());
                    self.push(c);
                }
                _ => self.literal(c),
            }
        }
        if !self.groups.is_empty() {
            return Err(self.fail("a `(` is not closed"));
        }
        Ok(())
    }

    fn push(&mut self, c: char) {
        self.out.push(c);
        self.at += 1;
    }

    fn literal(&mut self, c: char) {
        self.last = Last::Atom(self.out.len());
        if "}]&~-#".contains(c) {
            self.out.push('\\');
        }
        self.push(c);
    }

    fn open_group(&mut self) {
        self.groups.push(self.out.len());
        self.last = Last::Nothing;
        self.push('(');
    }

    /// Without an open group it is a plain character.
    fn close_group(&mut self) {
        if let Some(start) = self.groups.pop() {
            self.last = Last::Atom(start);
        } else {
            self.last = Last::Atom(self.out.len());
            self.out.push('\\');
        }
        self.push(')');
    }

    /// A repetition of a repetition is put in a group: the `regex` crate reads `*?` otherwise.
    fn repeat(&mut self, repetition: &str) -> Result<(), EreError> {
        let start = match self.last {
            Last::Nothing => return Err(self.fail("nothing stands before the repetition")),
            Last::Atom(start) => start,
            Last::Repeated(start) => {
                self.out.insert_str(start, "(?:");
                self.out.push(')');
                start
            }
        };
        self.out.push_str(repetition);
        self.last = Last::Repeated(start);
        Ok(())
    }

    /// `{2}`, `{2,}`, `{,3}` or `{2,3}`.
    fn bound(&mut self) -> Result<(), EreError> {
        let length = self.chars.iter().skip(self.at).position(|c| *c == '}');
        let length = length.ok_or_else(|| self.fail("a `{` is not closed"))?;
        let inside: String = self
            .chars
            .iter()
            .skip(self.at + 1)
            .take(length - 1)
            .collect();
        let written = bound_of(&inside)
            .ok_or_else(|| self.fail("a `{` needs one or two numbers, as `{1,3}`"))?;
        self.repeat(&written)?;
        self.at += length + 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), EreError> {
        let Some(c) = self.peek(1) else {
            return Err(self.fail("a `\\` stands at the end"));
        };
        if c == 'd' && self.digit_slip.is_none() {
            self.digit_slip = Some(self.at);
        }
        self.last = Last::Atom(self.out.len());
        match c {
            // GNU operators, the same in both.
            'w' | 'W' | 's' | 'S' | 'b' | 'B' | '<' | '>' | '1'..='9' => {
                self.out.push('\\');
                self.out.push(c);
            }
            '`' => self.out.push_str("\\A"),
            '\'' => self.out.push_str("\\z"),
            _ if c.is_ascii_punctuation() => {
                self.out.push('\\');
                self.out.push(c);
            }
            _ => self.out.push(c),
        }
        self.at += 2;
        Ok(())
    }

    /// A bracket expression: only `]`, `-`, `^` and `[:name:]` are special in it.
    fn class(&mut self) -> Result<(), EreError> {
        let start = self.at;
        self.last = Last::Atom(self.out.len());
        self.push('[');
        if self.peek(0) == Some('^') {
            self.push('^');
        }
        let mut first = true;
        loop {
            match self.peek(0) {
                None => {
                    self.at = start;
                    return Err(self.fail("a `[` is not closed"));
                }
                Some(']') if !first => break,
                Some('[') if matches!(self.peek(1), Some(':' | '.' | '=')) => self.named()?,
                Some('-') if !first && self.peek(1) != Some(']') => self.push('-'),
                Some(c) => {
                    if "[]\\&~-^".contains(c) {
                        self.out.push('\\');
                    }
                    self.push(c);
                }
            }
            first = false;
        }
        self.push(']');
        Ok(())
    }

    /// `[:alpha:]` is kept; `[.x.]` and `[=x=]` of one character are that character.
    fn named(&mut self) -> Result<(), EreError> {
        let rest: String = self.chars.iter().skip(self.at).collect();
        let kind = self.peek(1).unwrap_or(':');
        let end = rest
            .get(2..)
            .and_then(|inside| inside.find(&format!("{kind}]")));
        let Some(name) = end.and_then(|end| rest.get(2..2 + end)) else {
            return Err(self.fail("a `[:` is not closed"));
        };
        let mut member = name.chars();
        match (kind, member.next(), member.next()) {
            (':', ..) if NAMES.contains(&name) => self.out.extend(["[:", name, ":]"]),
            ('.' | '=', Some(c), None) => {
                if c.is_ascii_punctuation() {
                    self.out.push('\\');
                }
                self.out.push(c);
            }
            _ => return Err(self.fail("no such class of characters")),
        }
        self.at += name.chars().count() + 4;
        Ok(())
    }
}

fn bound_of(inside: &str) -> Option<String> {
    let count = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= REPETITIONS_MAX);
    let Some((low, high)) = inside.split_once(',') else {
        return count(inside).map(|n| format!("{{{n}}}"));
    };
    let least = if low.is_empty() { 0 } else { count(low)? };
    if high.is_empty() {
        return (!low.is_empty()).then(|| format!("{{{least},}}"));
    }
    let most = count(high).filter(|most| least <= *most)?;
    Some(format!("{{{least},{most}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::store_id::Pattern;

    fn matches(pattern: &str, text: &str) -> bool {
        let translated = translate(pattern, false).unwrap();
        Pattern::new(&translated.text)
            .unwrap_or_else(|e| panic!("{pattern} as {}: {e}", translated.text))
            .is_match(text)
            .unwrap()
    }

    #[test]
    fn patterns_match_what_the_gnu_library_says_they_match() {
        for (pattern, text, wanted) in [
            ("[[ab]c", "[c", true),
            ("[[ab]c", "ac", true),
            ("[[a-z.]*x", "[.x", true),
            (r"\.(a)|b)", "b)", true),
            (r"\.(a)|b)", ".a", true),
            (r"\.(a)|b)", "b", false),
            (r".\com", "xcom", true),
            (r"\us\_", "us_", true),
            (r"\d+", "ddd", true),
            (r"\d+", "123", false),
            (r"^[\d]$", "\\", true),
            (r"^[\d]$", "d", true),
            (r"^[\d]$", "5", false),
            (r"[^\?]$", "?", false),
            (r"[^\?]$", "a", true),
            ("^[a&&b]$", "&", true),
            ("^[a&&b]$", "a", true),
            ("^[a~~b-]$", "~", true),
            ("^[]a]$", "]", true),
            ("^[^]a]$", "]", false),
            ("^[a-c]$", "b", true),
            ("^[a-]$", "-", true),
            ("^[[:alpha:]_]+$", "ab_", true),
            ("^[[:digit:]]$", "a", false),
            ("^[[.-.]]$", "-", true),
            ("a**b", "aab", true),
            ("^.*?x$", "aax", true),
            ("^(ab)+?$", "abab", true),
            ("^a{2}$", "aa", true),
            ("^a{2,}$", "aaa", true),
            ("^a{,2}$", "aa", true),
            ("^a{,2}$", "aaa", false),
            ("^a{2}?$", "", true),
            ("^a{2}?$", "a", false),
            ("^a+?$", "", true),
            ("^(ab*)*?c$", "abbabc", true),
            ("(a|b|)$", "", true),
            (r"(a)\1", "aa", true),
            (r"(a)\1", "ab", false),
            (r"\<rpm\>", "x rpm y", true),
            (r"a\/b\:c", "a/b:c", true),
            ("a]b}", "a]b}", true),
            ("^http://x&y#z~-$", "http://x&y#z~-", true),
            ("", "anything", true),
            (r"\.(deb|rpm|tar|tar.gz|tgz)$", "/a.tar.gz", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_the_gnu_library_refuses_is_refused_with_its_place() {
        for (pattern, offset) in [
            ("*a", 0),
            ("^*a", 1),
            ("(?i)a", 1),
            ("a|*b", 2),
            ("a{x}", 1),
            ("a{", 1),
            ("a{3,1}", 1),
            ("a{99999}", 1),
            ("(a", 1),
            ("x[ab", 1),
            ("x\\", 1),
            ("[[:nope:]]", 1),
        ] {
            let refused = translate(pattern, false).unwrap_err();
            assert_eq!(refused.offset, offset, "{pattern}: {}", refused.reason);
        }
    }

    #[test]
    fn case_is_ignored_only_where_it_is_asked() {
        assert_eq!(translate("a", true).unwrap().text, "(?i)a");
        assert!(!matches("RPM", "rpm"));
    }

    #[test]
    fn a_digit_escape_is_pointed_out() {
        assert_eq!(translate(r"ab\d", false).unwrap().digit_slip, Some(2));
        assert_eq!(translate(r"[\d]", false).unwrap().digit_slip, None);
    }

    #[test]
    fn no_pattern_makes_the_translator_panic() {
        let mut state = 7_u64;
        let alphabet: Vec<char> = "ab[]{}()*+?|^$\\.:=-,1&~é".chars().collect();
        for _ in 0..2000 {
            let mut pattern = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                pattern.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            if let Ok(translated) = translate(&pattern, false) {
                let compiled = Pattern::new(&translated.text);
                assert!(
                    compiled.is_ok() || pattern.contains('\\') || pattern.contains('-'),
                    "{pattern} became {}",
                    translated.text
                );
            }
        }
    }
}
