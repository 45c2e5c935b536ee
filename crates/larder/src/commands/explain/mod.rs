//! `larder explain`: what larder would do with a URL, step by step, and what it holds of it.
//!
//! The steps are those of a real request, taken with the same policy; nothing is asked upstream and
//! no name is resolved, so rules about the address that is dialled are shown as still open.

mod held;
mod words;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use larder_policy::access::Facts;
use larder_policy::class::class;
use larder_policy::key::CacheKey;
use larder_policy::policy::{Naming, Policy};
use larder_policy::route::Hop;
use larder_policy::url::{Authority, Url};
use serde_json::{Value, json};

use super::cache::Which;
use crate::config::{Settings, Sources};
use crate::output::{self, Failure};

const EXAMPLES: &str = "\
Examples:
  larder explain http://ftp.example.org/pub/7/os/x86_64/Packages/a-1.rpm
  larder explain --squid-conf /etc/squid/squid.conf --client 192.0.2.7 http://ftp.example.org/
  larder explain --method CONNECT mirror.example.org:443
  larder explain --header 'Cookie: a=b' --json http://ftp.example.org/";

/// The words of `larder explain`.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What is asked for; `host:port` with --method CONNECT
    pub url: String,
    /// Who asks
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub client: IpAddr,
    /// How
    #[arg(long, value_name = "M", default_value = "GET")]
    pub method: String,
    /// A field of the request, as `Name: value`; may be given several times
    #[arg(long, value_name = "H", value_parser = field)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Which cache is asked what it holds
    #[command(flatten)]
    pub which: Which,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parse = || {
        let (name, value) = text.split_once(':')?;
        Some((
            name.trim().parse().ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        ))
    };
    parse().ok_or_else(|| "write a field as `Name: value`".to_owned())
}

/// What was found, step by step: what it is called, in words, and for programs.
struct Step {
    name: &'static str,
    words: String,
    value: Value,
}

impl Step {
    fn new(name: &'static str, words: impl Into<String>, value: Value) -> Self {
        Self {
            name,
            words: words.into(),
            value,
        }
    }
}

/// Explains a request.
pub fn run(args: &Args, sources: &Sources) -> Result<ExitCode, Failure> {
    let loaded = sources.load().map_err(Failure::Configuration)?;
    let policy = loaded.settings.policy();
    let steps = if args.method.eq_ignore_ascii_case("CONNECT") {
        let authority = Authority::parse(&args.url, None)
            .map_err(|error| Failure::Usage(format!("{}: {error}", args.url)))?;
        tunnel(args, &loaded.settings, &policy, &authority)
    } else {
        let url = Url::parse(&args.url)
            .map_err(|error| Failure::Usage(format!("{}: {error}", args.url)))?;
        resource(args, &loaded.settings, &policy, &url, sources)
    };
    output::text(&if args.json {
        in_json(&steps)
    } else {
        in_words(&steps)
    })
}

fn tunnel(args: &Args, settings: &Settings, policy: &Policy, to: &Authority) -> Vec<Step> {
    let facts = Facts {
        host: &to.host,
        port: to.port,
        to: to.ip(),
        ..facts(args, settings)
    };
    let hops: Vec<String> = policy
        .routes
        .tunnel_hops(&facts)
        .iter()
        .map(|hop| match hop {
            Hop::Parent(parent) => format!("through the parent {}", parent.name),
            Hop::Direct | Hop::Secure | Hop::Origin(..) => format!("to {to} itself"),
        })
        .collect();
    let route = if hops.is_empty() {
        "nowhere: never_direct, and no parent".to_owned()
    } else {
        hops.join(", else ")
    };
    vec![
        Step::new("tunnel", to.to_string(), json!(to.to_string())),
        access(policy, &facts),
        Step::new("route", route, json!(hops)),
        Step::new("cache", "nothing within a tunnel is kept", json!(null)),
    ]
}

fn resource(
    args: &Args,
    settings: &Settings,
    policy: &Policy,
    url: &Url,
    sources: &Sources,
) -> Vec<Step> {
    let facts = Facts {
        configured: policy.routes.are_configured(url, None),
        url: Some(url),
        host: url.host(),
        port: url.port(),
        to: url.host_ip(),
        ..facts(args, settings)
    };
    let headers: HeaderMap = args.header.iter().cloned().collect();
    let naming = naming(policy, url, &facts, &headers);
    let class = class(url.path());
    let rule = policy.refresh.rule_for(naming.key.subject());
    let refresh = words::refresh(rule, class, policy.semantics);
    let hops: Vec<String> = policy
        .routes
        .hops(url, &facts, None)
        .iter()
        .map(hop)
        .collect();
    let route = if hops.is_empty() {
        "nowhere".to_owned()
    } else {
        hops.join(", else ")
    };
    let rules = larder_policy::verdict::Rules {
        class,
        refresh: rule,
        semantics: policy.semantics,
        offline: policy.offline,
        object_bytes_max: policy.object_bytes_max,
    };
    vec![
        Step::new("url", url.as_str(), json!(url.as_str())),
        access(policy, &facts),
        Step::new("class", words::class(class), json!(class.as_str())),
        store_id(policy, &naming),
        Step::new("refresh rule", refresh, json!(rule.map(|rule| &rule.text))),
        Step::new("key", naming.key.to_string(), json!(naming.key.to_string())),
        Step::new("route", route, json!(hops)),
        held::step(
            (&args.which, settings),
            sources,
            &naming.key,
            (&headers, rules),
        ),
    ]
}

fn facts<'a>(args: &'a Args, settings: &'a Settings) -> Facts<'a> {
    let listener = settings.listen.first();
    Facts {
        client: args.client.to_canonical(),
        client_is_self: args.client.is_loopback(),
        configured: false,
        method: &args.method,
        url: None,
        host: "",
        port: 0,
        listener_port: listener.map_or(0, |listener| listener.address.port()),
        listener_name: listener.map(|listener| listener.name.as_str()),
        to: None,
    }
}

/// As a request is named: one that may be personal is kept under its URL.
fn naming(policy: &Policy, url: &Url, facts: &Facts<'_>, headers: &HeaderMap) -> Naming {
    if headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE) {
        return Naming {
            key: CacheKey::of_url(url),
            rule: None,
        };
    }
    policy.naming(url, facts)
}

fn access(policy: &Policy, facts: &Facts<'_>) -> Step {
    let decision = policy.access.decide(facts);
    let verb = if decision.allowed {
        "allowed"
    } else {
        "denied"
    };
    let open = match facts.to {
        None => "; decided again for each address that the name leads to",
        Some(_) => "",
    };
    let value = json!({"allowed": decision.allowed, "rule": decision.text});
    Step::new(
        "access",
        format!("{verb} by {}{open}", decision.text),
        value,
    )
}

fn store_id(policy: &Policy, naming: &Naming) -> Step {
    let rule = naming
        .rule
        .and_then(|index| policy.store_ids.rules().get(index));
    match rule {
        Some(rule) => {
            let id = naming.key.subject();
            let value = json!({"rule": rule.text(), "id": id});
            Step::new("store ID", format!("{id}, by {}", rule.text()), value)
        }
        None => Step::new(
            "store ID",
            "none: no rule applies, the URL is the name",
            json!(null),
        ),
    }
}

fn hop(hop: &Hop<'_>) -> String {
    match hop {
        Hop::Direct => "the host itself".to_owned(),
        Hop::Secure => "the host itself, over TLS".to_owned(),
        Hop::Origin(mirror, origin) => format!(
            "{}://{}{} (mirror {})",
            origin.scheme.as_str(),
            larder_policy::route::authority_field(origin.scheme, &origin.authority),
            origin.base_path,
            mirror.name
        ),
        Hop::Parent(parent) => format!("the parent {} ({})", parent.name, parent.authority),
    }
}

fn in_words(steps: &[Step]) -> String {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for step in steps {
        let _never = writeln!(text, "{:width$}  {}", step.name, step.words);
    }
    text
}

fn in_json(steps: &[Step]) -> String {
    let fields = steps
        .iter()
        .map(|step| (step.name.replace(' ', "_"), step.value.clone()));
    format!("{:#}\n", Value::Object(fields.collect()))
}
