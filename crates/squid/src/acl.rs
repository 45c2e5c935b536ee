//! Named conditions: `acl NAME TYPE value…`, and the ones that Squid has built in.
//!
//! Lines with one name and type add up; names do not tell upper from lower case. A built-in name
//! may be declared again, with its own type (the values add up) or another one (it replaces the
//! built-in), since most live files do so. Where an ACL stands in the file does not matter.

use std::collections::HashMap;

use larder_policy::access::{
    AddressSet, Condition, HostSet, InvalidAddress, Matcher, PortSet, Protocol,
};
use larder_policy::store_id::Pattern;

use crate::address;
use crate::ere;
use crate::note::{Findings, Position};
use crate::source::{Files, Statement, Token, unquoted};
use crate::suggest;

/// Groups may nest so deep.
const GROUPS_MAX: usize = 16;

/// ACL types that Squid knows and larder has no facts for.
const UNSUPPORTED: [&str; 58] = [
    "adaptation_service",
    "annotate_client",
    "annotate_transaction",
    "arp",
    "at_step",
    "browser",
    "ca_cert",
    "client_connection_mark",
    "clientside_mark",
    "connections_encrypted",
    "dst_as",
    "eui64",
    "ext_user",
    "ext_user_regex",
    "external",
    "has",
    "hier_code",
    "http_status",
    "ident",
    "ident_regex",
    "localip",
    "max_user_ip",
    "maxconn",
    "myip",
    "note",
    "peername",
    "peername_regex",
    "proxy_auth",
    "proxy_auth_regex",
    "random",
    "referer_regex",
    "rep_header",
    "rep_mime_type",
    "req_header",
    "req_mime_type",
    "server_cert_fingerprint",
    "snmp_community",
    "squid_error",
    "src_as",
    "srcdom_regex",
    "srcdomain",
    "ssl::certDomainMismatch",
    "ssl::certExpired",
    "ssl::certHasExpired",
    "ssl::certNotYetValid",
    "ssl::certSelfSigned",
    "ssl::certUntrusted",
    "ssl::server_name",
    "ssl::server_name_regex",
    "ssl_error",
    "tag",
    "time",
    "transaction_initiator",
    "urlgroup",
    "urllogin",
    "user_cert",
    "user_max_ip",
    "websocket",
];

/// Types that can be decided.
const SUPPORTED: [&str; 14] = [
    "all-of",
    "any-of",
    "dst",
    "dstdom_regex",
    "dstdomain",
    "localport",
    "method",
    "myport",
    "myportname",
    "port",
    "proto",
    "src",
    "url_regex",
    "urlpath_regex",
];

/// An ACL, ready for use.
#[derive(Clone, Debug)]
enum Meaning {
    Matcher(Matcher),
    /// Each line is a list of names that must all hold; one line is enough.
    AllOf(Vec<Vec<Token>>),
    /// One name is enough.
    AnyOf(Vec<Token>),
    Unsupported(String),
}

/// All ACLs by their name in lower case.
#[derive(Debug)]
pub(crate) struct Acls {
    meanings: HashMap<String, Meaning>,
}

/// Why a name in an access line stands for no condition.
#[derive(Clone, Debug)]
pub(crate) enum Undecided {
    /// A problem was reported.
    Told,
    /// Squid knows the type of the ACL, larder has no facts for it.
    Type { name: String, kind: String },
}

/// What is declared under one name.
struct Declared<'a> {
    kind: String,
    lines: Vec<&'a [Token]>,
    at: &'a Position,
}

impl Acls {
    /// Reads all `acl` lines.
    pub(crate) fn read(statements: &[Statement], files: &dyn Files, found: &mut Findings) -> Self {
        let mut acls = Self {
            meanings: builtin(),
        };
        for (name, declared) in declarations(statements, found) {
            let mut meaning = meaning(&declared, files, found);
            if let Some(held) = acls.meanings.remove(&name) {
                meaning = joined(held, meaning);
            }
            acls.meanings.insert(name, meaning);
        }
        acls
    }

    /// The condition that a name in an access line stands for.
    ///
    /// # Errors
    ///
    /// It stands for none that larder can decide.
    pub(crate) fn condition(
        &self,
        token: &Token,
        found: &mut Findings,
    ) -> Result<Condition, Undecided> {
        self.resolve(token, 0, found)
    }

    fn resolve(
        &self,
        token: &Token,
        depth: usize,
        found: &mut Findings,
    ) -> Result<Condition, Undecided> {
        let name = token.text.strip_prefix('!');
        let negated = name.is_some();
        let name = name.unwrap_or(&token.text);
        let matcher = match self.meanings.get(&name.to_ascii_lowercase()) {
            Some(Meaning::Matcher(matcher)) => matcher.clone(),
            Some(_) if depth >= GROUPS_MAX => {
                let text = format!("the groups around `{name}` are nested too deep");
                found.problem(&token.at, text, "remove the circle of groups");
                return Err(Undecided::Told);
            }
            Some(Meaning::AnyOf(names)) => Matcher::AnyOf(self.all(names, depth, found)?),
            Some(Meaning::AllOf(lines)) => {
                let lines = lines.iter().map(|names| {
                    let conditions = self.all(names, depth, found)?;
                    Ok(Matcher::AllOf(conditions).into())
                });
                Matcher::AnyOf(lines.collect::<Result<_, _>>()?)
            }
            Some(Meaning::Unsupported(kind)) => {
                return Err(Undecided::Type {
                    name: name.to_owned(),
                    kind: kind.clone(),
                });
            }
            None => {
                self.undefined(name, token, found);
                return Err(Undecided::Told);
            }
        };
        Ok(Condition { negated, matcher })
    }

    fn all(
        &self,
        names: &[Token],
        depth: usize,
        found: &mut Findings,
    ) -> Result<Vec<Condition>, Undecided> {
        names
            .iter()
            .map(|name| self.resolve(name, depth + 1, found))
            .collect()
    }

    fn undefined(&self, name: &str, token: &Token, found: &mut Findings) {
        let known = self.meanings.keys().map(String::as_str);
        let mend = match suggest::nearest(name, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("declare it: acl {name} TYPE VALUE"),
        };
        found.problem(&token.at, format!("there is no acl `{name}`"), mend);
    }

    /// True if a name always holds.
    pub(crate) fn is_any(condition: &Condition) -> bool {
        let any = |matcher: &Matcher| matches!(matcher, Matcher::Any);
        !condition.negated && any(&condition.matcher)
    }
}

fn addresses(texts: &[&str]) -> AddressSet {
    AddressSet::parse(texts.iter().copied()).unwrap_or_default()
}

/// What is there without a declaration.
fn builtin() -> HashMap<String, Meaning> {
    let manager = Pattern::new("^/squid-internal-mgr/").map(|pattern| vec![pattern]);
    let matchers = [
        ("all", Matcher::Any),
        (
            "localhost",
            Matcher::Client(addresses(&["127.0.0.1", "::1"])),
        ),
        (
            "to_localhost",
            Matcher::To(addresses(&["127.0.0.0/8", "0.0.0.0", "::1", "::"])),
        ),
        ("to_linklocal", Matcher::To(AddressSet::link_local())),
        ("manager", Matcher::PathPattern(manager.unwrap_or_default())),
        ("connect", Matcher::Method(vec!["CONNECT".to_owned()])),
    ];
    matchers
        .into_iter()
        .map(|(name, matcher)| (name.to_owned(), Meaning::Matcher(matcher)))
        .collect()
}

/// A built-in that is declared again: with the same type its values add up.
fn joined(held: Meaning, declared: Meaning) -> Meaning {
    let same = |a: &Matcher, b: &Matcher| std::mem::discriminant(a) == std::mem::discriminant(b);
    match (held, declared) {
        (Meaning::Matcher(Matcher::Any), _) => Meaning::Matcher(Matcher::Any),
        (Meaning::Matcher(held), Meaning::Matcher(declared)) if same(&held, &declared) => {
            Meaning::Matcher(Matcher::AnyOf(vec![held.into(), declared.into()]))
        }
        (_, declared) => declared,
    }
}

fn declarations<'a>(
    statements: &'a [Statement],
    found: &mut Findings,
) -> HashMap<String, Declared<'a>> {
    let mut declared: HashMap<String, Declared<'a>> = HashMap::new();
    for statement in statements.iter().filter(|s| s.name.text == "acl") {
        let [name, kind, values @ ..] = statement.arguments.as_slice() else {
            let text = "acl needs a name and a type";
            found.problem(&statement.name.at, text, "write acl NAME TYPE VALUE…");
            continue;
        };
        let held = declared
            .entry(name.text.to_ascii_lowercase())
            .or_insert_with(|| Declared {
                kind: kind.text.clone(),
                lines: Vec::new(),
                at: &kind.at,
            });
        if held.kind == kind.text {
            held.lines.push(values);
        } else {
            let text = format!("acl `{}` has the type {} already", name.text, held.kind);
            found.problem(&kind.at, text, "give it another name, or the same type");
        }
    }
    declared
}

fn meaning(declared: &Declared<'_>, files: &dyn Files, found: &mut Findings) -> Meaning {
    let kind = declared.kind.as_str();
    let values = || -> Vec<Token> {
        declared
            .lines
            .iter()
            .flat_map(|line| line.to_vec())
            .collect()
    };
    let own = |line: &[Token]| -> Vec<Token> { line.to_vec() };
    match kind {
        "all-of" => return Meaning::AllOf(declared.lines.iter().map(|line| own(line)).collect()),
        "any-of" => return Meaning::AnyOf(values()),
        _ if UNSUPPORTED.contains(&kind) => return Meaning::Unsupported(kind.to_owned()),
        _ => {}
    }
    let mut tokens = Vec::new();
    for value in values() {
        expand(value, files, found, &mut tokens);
    }
    if tokens.iter().all(|token| is_flag(&token.text)) {
        let text = "this acl has no values and matches nothing";
        found.warn(declared.at, text, "give it a value, or remove it");
        return Meaning::Matcher(Matcher::Never);
    }
    matcher(declared, &tokens, found).map_or(Meaning::Matcher(Matcher::Never), Meaning::Matcher)
}

fn matcher(declared: &Declared<'_>, tokens: &[Token], found: &mut Findings) -> Option<Matcher> {
    let plain = || tokens.iter().filter(|token| !is_flag(&token.text));
    let texts = || plain().map(|token| token.text.as_str());
    Some(match declared.kind.as_str() {
        "src" => address_matcher(plain(), Matcher::Client, found),
        "dst" => address_matcher(plain(), Matcher::To, found),
        "dstdomain" => Matcher::Host(HostSet::parse(texts())),
        "dstdom_regex" => Matcher::HostPattern(patterns(tokens, found)),
        "url_regex" => Matcher::UrlPattern(patterns(tokens, found)),
        "urlpath_regex" => Matcher::PathPattern(patterns(tokens, found)),
        "port" => Matcher::Port(ports(plain(), found)),
        "myport" | "localport" => Matcher::ListenerPort(ports(plain(), found)),
        "myportname" => Matcher::ListenerName(texts().map(str::to_owned).collect()),
        "method" => Matcher::Method(texts().map(str::to_owned).collect()),
        "proto" => Matcher::Protocol(plain().filter_map(|word| protocol(word, found)).collect()),
        unknown => {
            let known = SUPPORTED.iter().chain(&UNSUPPORTED).copied();
            let mend = match suggest::nearest(unknown, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "see Squid's list of acl types".to_owned(),
            };
            found.problem(
                declared.at,
                format!("there is no acl type `{unknown}`"),
                mend,
            );
            return None;
        }
    })
}

fn is_flag(text: &str) -> bool {
    matches!(text, "-i" | "+i" | "-n" | "-m" | "--")
}

/// A value in quotes is a file with one value a line.
fn expand(token: Token, files: &dyn Files, found: &mut Findings, out: &mut Vec<Token>) {
    if !token.text.starts_with(['"', '\'']) {
        out.push(token);
        return;
    }
    let path = unquoted(&token.text);
    let bytes = match files.read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let text = format!("{path} cannot be read: {error}");
            found.problem(&token.at, text, "name a file that this user can read");
            return;
        }
    };
    let start = Position::start_of(path);
    for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        let text = line.split(" #").next().unwrap_or_default();
        let text = text.split("\t#").next().unwrap_or_default().trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        out.push(Token {
            text: text.to_owned(),
            at: Position {
                line: index + 1,
                column: indent + 1,
                length: text.chars().count(),
                ..start.clone()
            },
        });
    }
}

fn address_matcher<'a>(
    tokens: impl Iterator<Item = &'a Token>,
    make: fn(AddressSet) -> Matcher,
    found: &mut Findings,
) -> Matcher {
    let mut set = AddressSet::default();
    let mut everything = false;
    for token in tokens {
        match token.text.as_str() {
            "all" | "0.0.0.0/0.0.0.0" => everything = true,
            "ipv4" => set = set.with(&addresses(&["0.0.0.0/0"])),
            "ipv6" => set = set.with(&addresses(&["::/0"])),
            "localhost" => set = set.with(&addresses(&["127.0.0.1", "::1"])),
            text => match address::set(text) {
                Ok(more) => set = set.with(&more),
                Err(InvalidAddress::Backwards(range)) => {
                    let text = format!("`{range}` ends before it begins, and matches nothing");
                    found.warn(&token.at, text, "exchange the two addresses");
                }
                Err(error) => found.problem(
                    &token.at,
                    error.to_string(),
                    "write an address, a network as 10.0.0.0/8, or a range as 10.0.0.1-10.0.0.9",
                ),
            },
        }
    }
    if everything { Matcher::Any } else { make(set) }
}

fn ports<'a>(tokens: impl Iterator<Item = &'a Token>, found: &mut Findings) -> PortSet {
    let ranges = tokens.filter_map(|token| {
        let range = PortSet::parse_range(&token.text);
        if range.is_none() {
            let text = format!("`{}` is no port", token.text);
            found.problem(
                &token.at,
                text,
                "write a number up to 65535, or a range as 1025-65535",
            );
        }
        range
    });
    PortSet::new(ranges.collect::<Vec<_>>())
}

/// What Squid speaks and larder does not: such a protocol is never asked for.
const OTHER_PROTOCOLS: [&str; 8] = [
    "cache_object",
    "coap",
    "coaps",
    "ftp",
    "gopher",
    "urn",
    "wais",
    "whois",
];

/// Protocols that larder never speaks match nothing.
fn protocol(token: &Token, found: &mut Findings) -> Option<Protocol> {
    match token.text.to_ascii_lowercase().as_str() {
        "http" => Some(Protocol::Http),
        "https" => Some(Protocol::Https),
        "none" => Some(Protocol::None),
        other => {
            if !OTHER_PROTOCOLS.contains(&other) {
                let text = format!("`{}` is no protocol, and matches nothing", token.text);
                found.warn(
                    &token.at,
                    text,
                    "write HTTP, HTTPS or another that Squid knows",
                );
            }
            None
        }
    }
}

/// `-i` and `+i` hold for the patterns after them.
fn patterns(tokens: &[Token], found: &mut Findings) -> Vec<Pattern> {
    let mut ignore_case = false;
    let mut patterns = Vec::new();
    for token in tokens {
        match token.text.as_str() {
            "-i" => ignore_case = true,
            "+i" => ignore_case = false,
            flag if is_flag(flag) => {}
            _ => patterns.extend(pattern(token, ignore_case, found)),
        }
    }
    patterns
}

/// One of Squid's regular expressions, compiled; problems are reported with their place in it.
pub(crate) fn pattern(token: &Token, ignore_case: bool, found: &mut Findings) -> Option<Pattern> {
    let translated = match ere::translate(&token.text, ignore_case) {
        Ok(translated) => translated,
        Err(error) => {
            let text = format!("not a regular expression: {}", error.reason);
            let at = token.at.within(error.offset, 1);
            found.problem(&at, text, "put a `\\` before a character that means itself");
            return None;
        }
    };
    if let Some(offset) = translated.digit_slip {
        found.warn(
            &token.at.within(offset, 2),
            "`\\d` means the letter d in Squid's regular expressions",
            "write `[0-9]` for a digit",
        );
    }
    match Pattern::translated(&translated.text, &token.text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let text = format!("not a regular expression: {}", error.reason);
            found.problem(&token.at, text, "mend the pattern");
            None
        }
    }
}
