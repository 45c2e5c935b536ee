//! `larder cache verify`: every body read and compared; with `--repair`, what was damaged fetched
//! again from where it came, through the proxy.

use std::fmt::{Debug, Formatter, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use larder_admin::{fetch, parameter};
use larder_policy::access::AccessList;
use larder_policy::policy::Policy;
use larder_policy::target::Mode;
use larder_proxy::config::{Config, Listener};
use larder_proxy::record::{Record, Recorder};
use larder_proxy::{Handle, Proxy};
use larder_store::Store;
use serde_json::{Value, json};

use super::Session;
use super::tell::{Progress, number, text};
use crate::config::units::show_size;
use crate::output::{self, Failure};

/// How often, and how far apart, a repaired object is looked for.
const SETTLE_TRIES: usize = 100;
const SETTLE_WAIT: Duration = Duration::from_millis(20);

/// The words of `larder cache verify`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Fetch what is damaged again from where it came
    #[arg(long)]
    repair: bool,
    /// Begin anew where an earlier run was interrupted
    #[arg(long)]
    anew: bool,
}

/// An object whose body was damaged.
struct Lost {
    key: String,
    url: String,
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let mut progress = Progress::of("verifying");
    let (mut lost, mut done) = (Vec::new(), Value::Null);
    let path = if args.anew {
        "/api/v1/verify?anew=1"
    } else {
        "/api/v1/verify"
    };
    session.lines(path, Some(&json!({})), |mut line| {
        if progress.takes(&line) {
            return true;
        }
        if let Some(damaged) = line.get("damaged") {
            say_damaged(damaged, json);
            for object in damaged["objects"].as_array().into_iter().flatten() {
                lost.push(Lost {
                    key: text(object, "key").to_owned(),
                    url: text(object, "url").to_owned(),
                });
            }
        } else {
            done = line["done"].take();
        }
        true
    })?;
    drop(progress);
    let repaired = if args.repair {
        repair(session, &lost, json)?
    } else {
        0
    };
    done["objects_damaged"] = json!(lost.len());
    done["objects_repaired"] = json!(repaired);
    if json {
        output::text(&format!("{done}\n"))?;
    } else {
        output::text(&summary(&done))?;
    }
    let good = repaired == lost.len() && number(&done, "unread") == 0;
    Ok(ExitCode::from(u8::from(!good)))
}

fn say_damaged(damaged: &Value, json: bool) {
    // What cannot be printed is still in the sum at the end.
    let _gone = if json {
        output::text(&format!("{}\n", json!({"damaged": damaged})))
    } else {
        let first = damaged["objects"]
            .get(0)
            .map_or("", |object| text(object, "url"));
        output::text(&format!("{}: {first}\n", text(damaged, "fault")))
    };
}

fn summary(done: &Value) -> String {
    let mut out = format!(
        "{} bodies, {} read: {} damaged",
        number(done, "bodies"),
        show_size(number(done, "bytes")),
        number(done, "damaged"),
    );
    // Writing to a String cannot fail.
    if number(done, "unread") > 0 {
        let _ = write!(out, ", {} could not be read", number(done, "unread"));
    }
    let (lost, repaired) = (
        number(done, "objects_damaged"),
        number(done, "objects_repaired"),
    );
    if lost > 0 {
        let _ = write!(
            out,
            "; {repaired} of {lost} objects repaired, the others are dropped"
        );
    }
    out.push('\n');
    out
}

/// Fetches each again. Returns how many are there again.
fn repair(session: &Session, lost: &[Lost], json: bool) -> Result<usize, Failure> {
    if lost.is_empty() {
        return Ok(0);
    }
    // The proxy of a stopped cache lives as long as this.
    let (proxy, _own) = match &session.stopped {
        None => (forward_address(session)?, None),
        Some(store) => {
            let started = session.wait(async { start(&session.settings.policy(), store) })?;
            let address = started.addresses().first().map(|(_, address)| *address);
            (address, Some(started))
        }
    };
    let Some(proxy) = proxy else {
        output::notice("not repaired: the running larder has no forward listener\n");
        return Ok(0);
    };
    let mut progress = Progress::of("repairing");
    let mut repaired = 0;
    for (at, Lost { key, url }) in lost.iter().enumerate() {
        let fetched = session.wait(fetch(proxy, url));
        progress.show(at as u64 + 1, lost.len() as u64);
        if matches!(fetched, Ok(200)) && is_held_soon(session, key)? {
            repaired += 1;
            continue;
        }
        let why = match fetched {
            Ok(200) => "it came, and was not kept under this key".to_owned(),
            Ok(status) => format!("the answer was {status}"),
            Err(error) => output::chain(&error),
        };
        if json {
            output::text(&format!(
                "{}\n",
                json!({"unrepaired": {"key": key, "url": url, "why": why}})
            ))?;
        } else {
            output::notice(&format!("not repaired: {url}: {why}\n"));
        }
    }
    Ok(repaired)
}

/// The last byte of an answer may come a little before its object is in place.
fn is_held_soon(session: &Session, key: &str) -> Result<bool, Failure> {
    for _ in 0..SETTLE_TRIES {
        if is_held(session, key)? {
            return Ok(true);
        }
        session.wait(async { tokio::time::sleep(SETTLE_WAIT).await });
    }
    Ok(false)
}

fn is_held(session: &Session, key: &str) -> Result<bool, Failure> {
    let (base, variant) = key
        .split_once('\n')
        .map_or((key, false), |(base, _)| (base, true));
    if variant {
        // The variants of what was fetched are named by the answer itself.
        return Ok(true);
    }
    let mut held = false;
    let path = format!("/api/v1/objects?limit=1&{}", parameter("key", base));
    session.lines(&path, None, |line| {
        held |= line.get("key").is_some();
        true
    })?;
    Ok(held)
}

/// Where the running larder takes forward requests.
fn forward_address(session: &Session) -> Result<Option<SocketAddr>, Failure> {
    let status = session.get("/api/v1/status")?;
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let mut forward = listeners.filter(|listener| text(listener, "mode") == "forward");
    let address = forward.find_map(|listener| text(listener, "address").parse::<SocketAddr>().ok());
    Ok(address.map(|mut address| {
        if address.ip().is_unspecified() {
            let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
            address.set_ip(loopback);
        }
        address
    }))
}

struct Unrecorded;

impl Debug for Unrecorded {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unrecorded")
    }
}

impl Recorder for Unrecorded {
    fn record(&self, _: &Record) {}
}

/// A proxy for this command alone, on a port of loopback that the system chooses: the operator's
/// own requests, so the built-in access rules judge them.
fn start(policy: &Policy, store: &Store) -> Result<Handle, Failure> {
    let policy = Policy {
        access: AccessList::builtin(),
        ..policy.clone()
    };
    let listener = Listener {
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        mode: Mode::Forward,
        name: "repair".to_owned(),
    };
    let config = Config {
        listeners: vec![listener],
        name: "larder-repair".to_owned(),
        upstream: larder_proxy::config::Upstream::default(),
        limits: larder_proxy::config::Limits::default(),
        policy: Arc::new(policy),
    };
    Proxy::start(config, store.clone(), Arc::new(Unrecorded))
        .map_err(|error| Failure::step("cannot start the proxy that repairs", error))
}
