//! `larder cache verify`: every body read and compared; with `--repair`, what was damaged fetched
//! again from where it came, through the proxy.

use std::fmt::{Debug, Formatter, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use larder_admin::variant::{self, Field};
use larder_admin::{ClientError, fetch, parameter};
use larder_policy::access::AccessList;
use larder_policy::policy::Policy;
use larder_policy::target::Mode;
use larder_proxy::config::{Config, Listener};
use larder_proxy::record::{Record, Recorder};
use larder_proxy::{Handle, Proxy};
use larder_store::Store;
use serde_json::{Value, json};

use super::tell::{Progress, number, text};
use super::{Session, failed};
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

impl Lost {
    fn of(object: &Value) -> Self {
        Self {
            key: text(object, "key").to_owned(),
            url: text(object, "url").to_owned(),
        }
    }

    /// The fields of the request that it was the answer to, as far as the answer varied by them.
    fn fields(&self) -> Option<Vec<Field>> {
        match self.key.split_once('\n') {
            Some((_, variant)) => variant::fields(variant),
            None => Some(Vec::new()),
        }
    }
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let mut progress = Progress::of("verifying");
    let (mut lost, mut done) = (Vec::new(), Value::Null);
    // What earlier audits have dropped is to be repaired too.
    let words = [(args.anew, "anew=1"), (args.repair, "lost=1")];
    let words = words.iter().filter(|(said, _)| *said);
    let words: Vec<&str> = words.map(|(_, word)| *word).collect();
    let path = format!("/api/v1/verify?{}", words.join("&"));
    session.lines(&path, Some(&json!({})), |mut line| {
        if progress.takes(&line) {
            return true;
        }
        if let Some(earlier) = line.get("lost") {
            lost.push(Lost::of(earlier));
        } else if let Some(damaged) = line.get("damaged") {
            say_damaged(damaged, json);
            let objects = damaged["objects"].as_array().into_iter().flatten();
            lost.extend(objects.map(Lost::of));
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
    Ok(ExitCode::from(u8::from(!is_good(&done))))
}

/// Everything was looked at, could be read, and is whole, or has been made so again.
fn is_good(done: &Value) -> bool {
    let repaired = number(done, "objects_repaired");
    done["complete"] == json!(true)
        && number(done, "unread") == 0
        && repaired == number(done, "objects_damaged")
        // What names an object is gone with its head: nothing says what to fetch again.
        && number(done, "nameless") == 0
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
    let (bodies, of) = (number(done, "bodies"), number(done, "of"));
    let of = if bodies < of {
        format!(" of {of}")
    } else {
        String::new()
    };
    let mut out = format!(
        "{bodies}{of} bodies, {} read: {} damaged",
        show_size(number(done, "bytes")),
        number(done, "damaged"),
    );
    // Writing to a String cannot fail.
    if number(done, "unread") > 0 {
        let _ = write!(out, ", {} could not be read", number(done, "unread"));
    }
    if number(done, "nameless") > 0 {
        let nameless = number(done, "nameless");
        let _ = write!(
            out,
            ", {nameless} objects dropped whose names cannot be read"
        );
    }
    let partial = &done["partial"];
    if number(partial, "blocks") > 0 {
        let (blocks, bad) = (number(partial, "blocks"), number(partial, "damaged"));
        let _ = write!(
            out,
            "; {blocks} blocks of what is held in parts: {bad} damaged and dropped"
        );
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
    if done["complete"] != json!(true) {
        out.push_str("; it was interrupted, the next run goes on there");
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
    for (at, object) in lost.iter().enumerate() {
        let Lost { key, url } = object;
        // Without the fields that chose this variant the origin would answer with another.
        let fetched = match object.fields() {
            Some(fields) => session.wait(fetch(proxy, url, &fields)),
            None => Err(ClientError::Senseless("its key cannot be read".to_owned())),
        };
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
    // Each was tried: what could not be repaired is not tried again and again.
    let nothing = json!({});
    let asked = session.client.post("/api/v1/forget-lost", &nothing);
    session.wait(asked).map_err(failed)?;
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
    let found = session.get(&format!("/api/v1/object?{}", parameter("key", key)))?;
    Ok(!found["object"].is_null())
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
        tls: None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_audit_without_damage_that_stays_is_good() {
        let whole = json!({"complete": true, "bodies": 5, "of": 5, "damaged": 0, "unread": 0,
            "objects_damaged": 0, "objects_repaired": 0});
        assert!(is_good(&whole));
        let with = |name: &str, value: Value| {
            let mut done = whole.clone();
            done[name] = value;
            is_good(&done)
        };
        assert!(!with("complete", json!(false)));
        assert!(!with("unread", json!(1)));
        assert!(!with("objects_damaged", json!(1)));
        assert!(!with("nameless", json!(1)), "it cannot be repaired");
        let mixed = json!({"complete": true, "bodies": 5, "of": 5, "damaged": 2, "unread": 0,
            "objects_damaged": 1, "objects_repaired": 1, "nameless": 1});
        assert!(!is_good(&mixed), "one repaired, one without a name");
        assert!(summary(&mixed).contains("1 objects dropped whose names"));
        assert!(!is_good(&Value::Null));
        let stopped = json!({"complete": false, "bodies": 1, "of": 5});
        assert!(
            summary(&stopped).starts_with("1 of 5 bodies"),
            "{}",
            summary(&stopped)
        );
    }
}
