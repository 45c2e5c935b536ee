//! Which texts may stand in a line of an iPXE script.
//!
//! As iPXE reads a script: a line ends at a line feed, and a backslash at its end joins it with the next
//! one. White space splits it into words; nothing quotes or escapes. A word `&&`, `||` or `;` begins
//! another command, a word that begins with `#` ends the line. Only then are settings (`${mac}`) put in,
//! word by word: what a setting holds can neither split a word nor begin a command, so settings may be
//! used wherever they are closed within one word. What has another effect is refused, since there is no
//! way to write it.

/// Why a text cannot stand in a script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nothing is written.
    #[error("is empty")]
    Empty,
    /// It would end the line, or garble the screen.
    #[error("holds a line break or another control character")]
    Control,
    /// A word of it would begin another command.
    #[error("holds the word `{0}`, with which iPXE begins another command")]
    Command(String),
    /// A word of it would end the line.
    #[error("holds the word `{0}`, with which iPXE begins a comment")]
    Comment(String),
    /// It would join its line with the next.
    #[error("ends in a backslash, with which iPXE joins a line with the next")]
    Joined,
    /// A setting is not closed within its word.
    #[error("holds `{0}`, a setting that is not closed")]
    Setting(String),
    /// It would be taken for several words.
    #[error("holds a blank, at which iPXE would end it")]
    Blank,
    /// It would be taken for an option.
    #[error("begins with a dash, as options of iPXE do")]
    Option,
    /// It is no URL that iPXE fetches a script from.
    #[error("is no http, https or tftp URL with a host")]
    NoUrl,
    /// It is a URL that iPXE fetches nothing from.
    #[error("is no URL that iPXE fetches from: http, https, ftp, tftp or nfs, with a host")]
    NoSource,
    /// The port of a URL is none.
    #[error("names port `{0}`, which is none")]
    Port(String),
    /// It is no console of a Linux kernel.
    #[error("is no serial console")]
    NoConsole,
}

impl Unfit {
    /// What to write instead.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Empty => "write what it is",
            Self::Control => "write it on one line",
            Self::Command(_) | Self::Comment(_) => {
                "leave that word out, or write something directly before or behind it"
            }
            Self::Joined => "take the backslash at the end away",
            Self::Setting(_) => "write ${NAME}, without a blank inside",
            Self::Blank => "write %20 for a blank in a URL",
            Self::Option => "write a URL, or a file's name without the dash",
            Self::NoUrl | Self::NoSource => "write http://HOST/PATH",
            Self::Port(_) => "write a port from 1 to 65535, or none",
            Self::NoConsole => "write it as ttyS0,115200",
        }
    }
}

/// Checks words: a menu's title, a kernel's arguments. None at all are words too.
///
/// # Errors
/// [`Unfit`] says what iPXE would make of them.
pub fn words(text: &str) -> Result<(), Unfit> {
    if text.chars().any(char::is_control) {
        return Err(Unfit::Control);
    }
    if text.ends_with('\\') {
        return Err(Unfit::Joined);
    }
    for word in text.split_ascii_whitespace() {
        if matches!(word, "&&" | "||" | ";") {
            return Err(Unfit::Command(word.to_owned()));
        }
        if word.starts_with('#') {
            return Err(Unfit::Comment(word.to_owned()));
        }
        if let Some(open) = open_setting(word) {
            return Err(Unfit::Setting(open.to_owned()));
        }
    }
    Ok(())
}

/// The last setting of a word that is not closed; settings may stand within settings.
fn open_setting(word: &str) -> Option<&str> {
    let mut open = Vec::new();
    let mut rest = word.char_indices().peekable();
    while let Some((at, character)) = rest.next() {
        match character {
            '$' if rest.next_if(|(_, next)| *next == '{').is_some() => open.push(at),
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    word.get(open.pop()?..)
}

/// Checks a single word that says where something is: a URL, `${repo}/…`, or a file's name.
///
/// # Errors
/// [`Unfit`] says what iPXE would make of it.
pub fn location(text: &str) -> Result<(), Unfit> {
    words(text)?;
    if text.is_empty() {
        Err(Unfit::Empty)
    } else if text.contains(char::is_whitespace) {
        Err(Unfit::Blank)
    } else if text.starts_with('-') {
        Err(Unfit::Option)
    } else {
        url(text)
    }
}

/// What iPXE has ways to fetch from; which of them, each build decides.
const SCHEMES: [&str; 5] = ["http", "https", "ftp", "tftp", "nfs"];

/// Checks what is a URL for its scheme, host and port, as far as no setting makes them up.
fn url(text: &str) -> Result<(), Unfit> {
    let is_scheme = |scheme: &&str| {
        let mut characters = scheme.chars();
        characters.all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(());
    };
    if !is_scheme(&scheme) {
        return Ok(());
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let named = authority.rsplit('@').next().unwrap_or(authority);
    let is_known = SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    if !is_known || named.is_empty() || named.starts_with(':') {
        return Err(Unfit::NoSource);
    }
    let behind = named.rsplit(']').next().unwrap_or(named);
    match behind.rsplit_once(':') {
        Some((_, port)) if !named.contains('$') && !matches!(port.parse(), Ok(1_u16..)) => {
            Err(Unfit::Port(port.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Checks the URL of a script.
///
/// # Errors
/// [`Unfit`] says what iPXE would make of it.
pub fn script_url(text: &str) -> Result<(), Unfit> {
    let judged = location(text);
    let (scheme, _) = text.split_once("://").unwrap_or_default();
    let is_known = ["http", "https", "tftp"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    match judged {
        Err(Unfit::NoSource) => Err(Unfit::NoUrl),
        Ok(()) if !is_known => Err(Unfit::NoUrl),
        judged => judged,
    }
}

/// Checks a serial console as kernels take it (`ttyS0,115200n8`).
///
/// # Errors
/// [`Unfit::NoConsole`].
pub fn console(text: &str) -> Result<(), Unfit> {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || ",._:/@-".contains(character);
    if text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(is_plain) {
        Ok(())
    } else {
        Err(Unfit::NoConsole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_or_ends_a_command_is_refused() {
        for text in ["a && b", "a || b", "&&", "a ; b", ";"] {
            assert!(matches!(words(text), Err(Unfit::Command(_))), "{text}");
        }
        for text in ["a # b", "#1 choice"] {
            assert!(matches!(words(text), Err(Unfit::Comment(_))), "{text}");
        }
        for text in ["a\nreboot", "a\r", "a\tb", "a\0"] {
            assert_eq!(words(text), Err(Unfit::Control), "{text:?}");
        }
        assert_eq!(words("a\\"), Err(Unfit::Joined));
        for text in [
            "Rocky & Alma",
            "a;b",
            "a||b",
            "C#",
            "a \\ b",
            "",
            "ks=http://h/#x",
        ] {
            assert_eq!(words(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn settings_are_closed_within_a_word() {
        for text in [
            "${mac}",
            "ks=http://h/${net0/mac:hexhyp}?u=${uuid}",
            "${a:${b}}",
            "$x {",
        ] {
            assert_eq!(words(text), Ok(()), "{text}");
        }
        for (text, open) in [("${a b}", "${a"), ("x${a:${b}", "${a:${b}"), ("${", "${")] {
            assert_eq!(words(text), Err(Unfit::Setting(open.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_location_is_one_word() {
        for text in ["http://h/vmlinuz", "${repo}/linux", "sub/init.cpio"] {
            assert_eq!(location(text), Ok(()), "{text}");
        }
        assert_eq!(location(""), Err(Unfit::Empty));
        assert_eq!(location("http://h/vm linuz"), Err(Unfit::Blank));
        assert_eq!(location("http://h/vm\u{a0}linuz"), Err(Unfit::Blank));
        assert_eq!(location("--name"), Err(Unfit::Option));
    }

    #[test]
    fn a_url_is_one_that_ipxe_fetches_from() {
        for text in [
            "ftp://h/vmlinuz",
            "http://${next-server}:${port}/x",
            "http://${net0/next-server}/x",
            "http://user:word@h/x",
            "http://[::1]:8080/x",
            "http://[::1]/x",
            "x?from=http://h:99999/",
        ] {
            assert_eq!(location(text), Ok(()), "{text}");
        }
        for text in [
            "file:///vmlinuz",
            "http:///x",
            "http://:80/x",
            "gopher://h/x",
        ] {
            assert_eq!(location(text), Err(Unfit::NoSource), "{text}");
        }
        for (text, port) in [
            ("http://h:99999/x", "99999"),
            ("http://h:0", "0"),
            ("tftp://[::1]:x/x", "x"),
        ] {
            let unfit = Unfit::Port(port.to_owned());
            assert_eq!(location(text), Err(unfit.clone()), "{text}");
            assert_eq!(script_url(text), Err(unfit), "{text}");
        }
    }

    #[test]
    fn scripts_come_by_http_or_tftp_from_a_host() {
        for text in [
            "http://h/boot.ipxe",
            "HTTPS://h:8443",
            "tftp://10.0.0.1/x",
            "http://[::1]/x",
        ] {
            assert_eq!(script_url(text), Ok(()), "{text}");
        }
        for text in [
            "nohost",
            "ftp://h/x",
            "http://",
            "http:///x",
            "http://:80/x",
            "h:80/x",
        ] {
            assert_eq!(script_url(text), Err(Unfit::NoUrl), "{text}");
        }
        assert_eq!(script_url("http://h/a b"), Err(Unfit::Blank));
    }

    #[test]
    fn a_console_is_a_device_with_a_speed() {
        for text in [
            "ttyS0,115200",
            "ttyS1",
            "ttyAMA0,115200n8",
            "uart8250,io,0x3f8",
        ] {
            assert_eq!(console(text), Ok(()), "{text}");
        }
        for text in ["", "a b", "ttyS0\nreboot", "${x}", "ttyS0;", "&&", "0"] {
            assert_eq!(console(text), Err(Unfit::NoConsole), "{text:?}");
        }
    }
}
