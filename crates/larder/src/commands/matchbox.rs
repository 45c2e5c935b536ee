//! `larder matchbox`: matchbox's command line, so that its unit changes only its program.
//!
//! Flags have the forms of Go's `flag` package (`-name v`, `-name=v`, `--name v`, booleans bare or
//! with `=`), the environment is `MATCHBOX_` and the flag's name; a flag wins over the environment,
//! an empty variable counts as none. Exit codes are Go's: 2 for words that are no flags, 1 for a
//! start that fails, 0 for `-version` and `-help`. What larder adds is `--compat`.

#![allow(clippy::format_push_string, reason = "a help text put together once")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use larder_provision::{Compat, Config, TlsFiles};
use tracing::Level;

use super::provision_serve::{self, Plan};
use crate::environment::Environment;
use crate::output::{self, Failure};

/// The words of `larder matchbox`: all of them matchbox's.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// matchbox's flags; `larder matchbox -help` lists them
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "FLAGS"
    )]
    words: Vec<String>,
}

/// A flag, its default and what it is for.
type Flag = (&'static str, &'static str, &'static str);

const FLAGS: [Flag; 14] = [
    ("address", "127.0.0.1:8080", "HTTP listen address"),
    ("rpc-address", "", "RPC listen address; empty: none"),
    (
        "data-path",
        "/var/lib/matchbox",
        "Path to the data directory",
    ),
    (
        "assets-path",
        "/var/lib/matchbox/assets",
        "Path to static assets; empty: none",
    ),
    (
        "log-level",
        "info",
        "panic, fatal, error, warn, info, debug or trace",
    ),
    (
        "cert-file",
        "/etc/matchbox/server.crt",
        "Path to the server's TLS certificate",
    ),
    (
        "key-file",
        "/etc/matchbox/server.key",
        "Path to the server's TLS key",
    ),
    (
        "ca-file",
        "/etc/matchbox/ca.crt",
        "Path to the authority of client certificates",
    ),
    (
        "key-ring-path",
        "",
        "Path to an OpenPGP secret key that signs answers",
    ),
    (
        "web-cert-file",
        "/etc/matchbox/ssl/server.crt",
        "Path to the HTTP server's certificate",
    ),
    (
        "web-key-file",
        "/etc/matchbox/ssl/server.key",
        "Path to the HTTP server's key",
    ),
    (
        "compat",
        "0.11",
        "The matchbox release to imitate: 0.11 or 0.7",
    ),
    (
        "rewrite",
        "",
        "Lead kernels and initrds through the larder at this URL",
    ),
    (
        "state-path",
        "",
        "Path to the list of installed machines; empty: in the data directory",
    ),
];

const SWITCHES: [(&str, &str); 5] = [
    ("web-ssl", "Serve HTTPS"),
    ("install-once", "Installed machines boot from their disk"),
    (
        "initrd-args",
        "Add the initrd= arguments that UEFI kernels need",
    ),
    ("version", "Print the version and exit"),
    ("help", "Print this and exit"),
];

/// Flags with their values; a switch has `true` or `false`.
type Given = BTreeMap<String, String>;

/// Runs as matchbox would.
pub fn run(args: &Args, environment: &Environment) -> Result<ExitCode, Failure> {
    let given = match parse(&args.words) {
        Ok(given) => given,
        Err(message) => return Err(Failure::Usage(format!("{message}\n{}", usage()))),
    };
    if is_on(&given, "help") {
        return output::text(&usage());
    }
    if is_on(&given, "version") {
        return output::text(concat!(
            "larder ",
            env!("CARGO_PKG_VERSION"),
            " (as matchbox)\n"
        ));
    }
    provision_serve::serve(plan(&with_environment(given, environment)?, environment)?)
}

/// Reads words as Go's `flag` package does: it stops at the first that is no flag.
fn parse(words: &[String]) -> Result<Given, String> {
    let mut given = Given::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        if flag.is_empty() {
            break;
        }
        if flag.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let name = if name == "h" { "help" } else { name };
        let value = if SWITCHES.iter().any(|(known, _)| *known == name) {
            let text = value.unwrap_or_else(|| "true".to_owned());
            truth(&text).ok_or_else(|| format!("invalid boolean value {text:?} for -{name}"))?
        } else if FLAGS.iter().any(|(known, ..)| *known == name) {
            let next = || words.next().cloned();
            value
                .or_else(next)
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?
        } else {
            return Err(format!("flag provided but not defined: -{name}"));
        };
        given.insert(name.to_owned(), value);
    }
    Ok(given)
}

/// Go's `strconv.ParseBool`.
fn truth(text: &str) -> Option<String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true".to_owned()),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false".to_owned()),
        _ => None,
    }
}

/// Fills in `MATCHBOX_…` where no flag was given.
fn with_environment(mut given: Given, environment: &Environment) -> Result<Given, Failure> {
    let flags = FLAGS.iter().map(|(name, ..)| (*name, false));
    let switches = SWITCHES.iter().map(|(name, _)| (*name, true));
    for (name, is_switch) in flags.chain(switches) {
        let variable = format!("MATCHBOX_{}", name.to_uppercase().replace('-', "_"));
        let Some(text) = environment
            .text(&variable)
            .filter(|_| !given.contains_key(name))
        else {
            continue;
        };
        let value = if is_switch {
            truth(text)
        } else {
            Some(text.to_owned())
        };
        let value = value.ok_or_else(|| {
            Failure::step(
                format!("invalid value {text:?} for {variable}"),
                "not a boolean",
            )
        })?;
        given.insert(name.to_owned(), value);
    }
    if let Some(compat) = environment.text("LARDER__PROVISION__COMPAT") {
        given
            .entry("compat".to_owned())
            .or_insert_with(|| compat.to_owned());
    }
    Ok(given)
}

fn is_on(given: &Given, name: &str) -> bool {
    given.get(name).is_some_and(|value| value == "true")
}

/// What the flags mean.
fn plan(given: &Given, environment: &Environment) -> Result<Plan, Failure> {
    let text = |name: &str| {
        let default = FLAGS
            .iter()
            .find(|(known, ..)| *known == name)
            .map_or("", |flag| flag.1);
        given.get(name).map_or(default, String::as_str).to_owned()
    };
    let path = |name: &str| {
        Some(text(name))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from)
    };
    let compat: Compat = text("compat").parse().map_err(Failure::Usage)?;
    let mut config = Config {
        assets: path("assets-path"),
        compat,
        ..Config::default()
    };
    config.data = PathBuf::from(text("data-path"));
    config.state = path("state-path");
    config.install_once = is_on(given, "install-once");
    config.initrd_args = is_on(given, "initrd-args");
    config.key_ring = path("key-ring-path");
    config.passphrase = environment
        .text("MATCHBOX_PASSPHRASE")
        .map(ToOwned::to_owned);
    config.rewrite.base = text("rewrite");
    config.rewrite.enabled = !config.rewrite.base.is_empty();
    let files = TlsFiles {
        certificate: PathBuf::from(text("cert-file")),
        key: PathBuf::from(text("key-file")),
        authority: PathBuf::from(text("ca-file")),
    };
    let web = || {
        (
            PathBuf::from(text("web-cert-file")),
            PathBuf::from(text("web-key-file")),
        )
    };
    Ok(Plan {
        config,
        http: text("address"),
        web_tls: is_on(given, "web-ssl").then(web),
        rpc: Some(text("rpc-address"))
            .filter(|at| !at.is_empty())
            .map(|at| (at, files)),
        level: level(&text("log-level"))?,
    })
}

/// logrus' names for levels.
fn level(name: &str) -> Result<Level, Failure> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Level::ERROR,
        "warn" | "warning" => Level::WARN,
        "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => {
            return Err(Failure::step(
                "invalid log-level",
                format!("{name:?} is no level"),
            ));
        }
    })
}

fn usage() -> String {
    let mut text = String::from("Usage of larder matchbox:\n");
    for (name, default, what) in FLAGS {
        let default = if default.is_empty() {
            String::new()
        } else {
            format!(" (default {default:?})")
        };
        text.push_str(&format!("  -{name} string\n    \t{what}{default}\n"));
    }
    for (name, what) in SWITCHES {
        text.push_str(&format!("  -{name}\n    \t{what}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(words: &[&str]) -> Result<Given, String> {
        parse(
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn every_form_of_go_flags_is_read() {
        for words in [
            &["-address", "a:1", "-web-ssl"][..],
            &["-address=a:1", "-web-ssl=true"],
            &["--address", "a:1", "--web-ssl=T"],
            &["--web-ssl", "--address=a:1", "rest", "-unknown"],
            &[
                "-address", "x", "-address", "a:1", "-web-ssl", "--", "-unknown",
            ],
        ] {
            let given = given(words).unwrap();
            assert_eq!(
                given.get("address").map(String::as_str),
                Some("a:1"),
                "{words:?}"
            );
            assert!(is_on(&given, "web-ssl"), "{words:?}");
        }
        assert!(!is_on(&given(&["-web-ssl=false"]).unwrap(), "web-ssl"));
        assert_eq!(given(&["-assets-path="]).unwrap()["assets-path"], "");
    }

    #[test]
    fn what_is_no_flag_is_refused() {
        for words in [
            &["-nosuch"][..],
            &["-address"],
            &["---address", "x"],
            &["-=x"],
            &["-web-ssl=perhaps"],
        ] {
            assert!(given(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_an_empty_variable_is_none() {
        let environment = Environment::of_pairs([
            ("MATCHBOX_ADDRESS", "0.0.0.0:8080"),
            ("MATCHBOX_RPC_ADDRESS", "0.0.0.0:8081"),
            ("MATCHBOX_DATA_PATH", ""),
            ("MATCHBOX_LOG_LEVEL", "debug"),
            ("LARDER__PROVISION__COMPAT", "0.7"),
        ]);
        let given = with_environment(given(&["-address=:80"]).unwrap(), &environment).unwrap();
        let plan = plan(&given, &environment).unwrap();
        assert_eq!(plan.http, ":80");
        assert_eq!(
            plan.rpc.map(|(address, _)| address).as_deref(),
            Some("0.0.0.0:8081")
        );
        assert_eq!(plan.config.data, PathBuf::from("/var/lib/matchbox"));
        assert_eq!(
            (plan.level, plan.config.compat),
            (Level::DEBUG, Compat::V0_7)
        );
    }

    #[test]
    fn a_bad_boolean_in_the_environment_stops_the_start() {
        let environment = Environment::of_pairs([("MATCHBOX_WEB_SSL", "perhaps")]);
        assert!(with_environment(Given::new(), &environment).is_err());
    }
}
