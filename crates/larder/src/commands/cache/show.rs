//! `larder cache show`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use larder_admin::parameter;
use larder_policy::access::Facts;
use larder_policy::key::CacheKey;
use larder_policy::policy::Policy;
use larder_policy::url::Url;
use serde_json::Value;

use super::Session;
use super::tell::{Progress, ago, number, text};
use crate::config::units::show_size;
use crate::output::{self, Failure};

/// The words of `larder cache show`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A URL, or a key as `ls --json` shows it
    what: String,
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let mut query = vec![parameter("head", "1")];
    query.extend(
        keys(session, &args.what)?
            .iter()
            .map(|key| parameter("key", &key.to_string())),
    );
    let mut found = Vec::new();
    objects(session, &query, &mut found)?;
    if found.is_empty()
        && let Ok(url) = Url::parse(&args.what)
    {
        // Under another name, or a variant of it: everything that came from there.
        let more = [parameter("head", "1"), parameter("url", url.as_str())];
        objects(session, &more, &mut found)?;
    }
    if json {
        output::text(&format!("{:#}\n", Value::Array(found.clone())))?;
    } else if found.is_empty() {
        output::notice(&format!("nothing is held of {}\n", args.what));
    } else {
        output::text(&found.iter().map(words).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(ExitCode::from(u8::from(found.is_empty())))
}

fn objects(session: &Session, query: &[String], found: &mut Vec<Value>) -> Result<(), Failure> {
    let mut progress = Progress::of("reading");
    session.lines(
        &format!("/api/v1/objects?{}", query.join("&")),
        None,
        |line| {
            if !progress.takes(&line) {
                found.push(line);
            }
            true
        },
    )
}

/// The keys that a word of the command line means: itself, or those of a URL.
pub(super) fn keys(session: &Session, what: &str) -> Result<Vec<CacheKey>, Failure> {
    if let Some(key) = CacheKey::from_text(what) {
        return Ok(vec![key]);
    }
    let url = Url::parse(what).map_err(|error| {
        let hint = if what.contains("://") {
            String::new()
        } else {
            format!("; `larder cache ls {what}` finds URLs with this part, `purge '*{what}*'` lets them go")
        };
        Failure::Usage(format!("{what}: {error}{hint}"))
    })?;
    let named = name(&session.settings.policy(), &url);
    let own = CacheKey::of_url(&url);
    Ok(if named == own {
        vec![own]
    } else {
        vec![named, own]
    })
}

/// The key under which a plain request for a URL is kept.
pub(super) fn name(policy: &Policy, url: &Url) -> CacheKey {
    let facts = Facts {
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        client_is_self: true,
        method: "GET",
        url: Some(url),
        host: url.host(),
        port: url.port(),
        listener_port: 0,
        listener_name: None,
        to: url.host_ip(),
        configured: false,
    };
    policy.naming(url, &facts).key
}

fn words(object: &Value) -> String {
    let mut out = String::new();
    let mut say = |what: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{what:<10} {value}");
    };
    say("key", text(object, "key"));
    if object.get("variant").is_some() {
        say("variant", text(object, "variant"));
    }
    say("from", text(object, "url"));
    let bytes = number(object, "bytes");
    say("size", &format!("{bytes} bytes ({})", show_size(bytes)));
    let is_partial = text(object, "state") == "partial";
    if is_partial {
        let held = number(object, "held");
        let share = format!("{held} bytes of it ({})", show_size(held));
        say("partial", &share);
    } else {
        say("sha256", text(object, "sha256"));
    }
    if number(object, "names") > 1 {
        say(
            "shared",
            &format!("{} keys have this body", number(object, "names")),
        );
    }
    if !is_partial {
        let uses = number(object, "uses");
        let used = ago(number(object, "used"));
        say("uses", &format!("{uses}, last {used}"));
        say("stored", &ago(number(object, "added")));
    }
    say("fetched", &ago(number(object, "fetched")));
    say("status", &number(object, "status").to_string());
    for pair in object["head"].as_array().into_iter().flatten() {
        let part = |at: usize| pair.get(at).and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(out, "  {}: {}", part(0), part(1));
    }
    out
}
