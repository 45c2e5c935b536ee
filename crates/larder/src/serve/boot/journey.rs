//! A machine's whole way, from its first DHCP packet to `done`: the timelines of the boot and the
//! provisioning part in one, with what the machine fetched through the proxy.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use larder_boot::serve::core::Counts;
use larder_boot::web::Web;
use larder_provision::{Answering, Body, Mac, Machine, Provision, Step};
use larder_proxy::record::{Record, Recorder};
use serde::{Deserialize, Serialize};

/// What happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When it last happened, in seconds since 1970.
    pub at: u64,
    /// What, in one word.
    pub step: String,
    /// Details.
    #[serde(default)]
    pub detail: String,
    /// How often in a row.
    #[serde(default = "once")]
    pub count: u32,
}

/// A machine and its way so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Journey {
    /// Its hardware address.
    pub mac: String,
    /// Its UUID, if it told.
    pub uuid: Option<String>,
    /// Its architecture in words, if it told.
    pub architecture: Option<String>,
    /// Its vendor class, if it told.
    pub vendor: Option<String>,
    /// Its last known address.
    pub address: Option<IpAddr>,
    /// How far its installation is: new, installing, installed.
    pub state: Option<String>,
    /// Since when, in seconds since 1970.
    pub since: Option<u64>,
    /// The group that it was last selected into.
    pub group: String,
    /// That group's profile.
    pub profile: String,
    /// What happened, oldest first.
    pub events: Vec<Event>,
}

fn once() -> u32 {
    1
}

/// The field by which a server says which socket administrators have.
pub const SOCKET_FIELD: &str = "x-larder-socket";
/// It has none: who changes something about machines changes its files.
pub const NO_SOCKET: &str = "none";

impl Journey {
    /// What the data directory remembers of machines that no running larder tells of.
    pub fn remembered(machines: BTreeMap<Mac, Machine>) -> Vec<Self> {
        let journeys = machines.into_iter().map(|(mac, machine)| {
            let mut journey = Self {
                mac: mac.to_string(),
                ..Self::default()
            };
            journey.provisioned(machine);
            journey
        });
        journeys.collect()
    }

    /// Adds what provisioning knows of the machine.
    fn provisioned(&mut self, machine: Machine) {
        self.address = machine.address.or(self.address);
        self.state = Some(machine.state.as_str().to_owned());
        self.since = (machine.since > 0).then_some(machine.since);
        self.group = machine.group;
        self.profile = machine.profile;
        let events = machine.events.into_iter().map(provisioning);
        self.events.extend(events);
    }
}

/// The parts that know machines; either may be missing.
#[derive(Debug, Default)]
pub struct Journeys {
    boot: OnceLock<Arc<Web>>,
    provision: OnceLock<Arc<Provision>>,
    /// Whether nothing runs but a provisioning server, which has no socket for administrators.
    is_alone: bool,
}

impl Journeys {
    /// Those of a provisioning server that runs alone.
    pub fn of_provisioning_alone(provision: Arc<Provision>) -> Self {
        let alone = Self {
            is_alone: true,
            ..Self::default()
        };
        alone.provision(provision);
        alone
    }

    /// Takes in the boot part.
    pub(super) fn boot(&self, web: Arc<Web>) {
        // Set once, at the start.
        let _first = self.boot.set(web);
    }

    /// Takes in the provisioning part.
    pub(super) fn provision(&self, provision: Arc<Provision>) {
        let _first = self.provision.set(provision);
    }

    /// Whether machines are booted or provisioned at all.
    pub fn is_any(&self) -> bool {
        self.boot.get().is_some() || self.provision.get().is_some()
    }

    /// The provisioning part, where it is on.
    pub fn provisioning(&self) -> Option<&Arc<Provision>> {
        self.provision.get()
    }

    /// All machines, by their hardware addresses.
    pub fn list(&self) -> Vec<Journey> {
        let mut journeys: BTreeMap<String, Journey> = BTreeMap::new();
        let known = self.boot.get().map(|web| web.known_machines());
        for machine in known.into_iter().flatten() {
            let mac = machine.mac.to_string();
            let journey = journeys.entry(mac).or_default();
            journey.uuid = machine.uuid;
            journey.architecture = machine.architecture;
            journey.vendor = machine.vendor;
            journey.address = machine.address;
            journey.events = machine.events.into_iter().map(booting).collect();
        }
        let known = self.provision.get().map(|part| part.machines().all());
        for (mac, machine) in known.into_iter().flatten() {
            let journey = journeys.entry(mac.to_string()).or_default();
            journey.provisioned(machine);
        }
        for (mac, journey) in &mut journeys {
            journey.mac.clone_from(mac);
            // Stable: within a second DHCP and TFTP come before what follows them.
            journey.events.sort_by_key(|event| event.at);
        }
        journeys.into_values().collect()
    }

    /// Replies by kind, silences by reason and TFTP transfers by result, for the metrics; `None`
    /// where machines are not booted.
    pub fn counts(&self) -> Option<[Counts; 3]> {
        self.boot.get().map(|web| web.counts())
    }

    /// Answers what is not provisioning's on a listener that both share, and tells the boot part
    /// of scripts that provisioning serves.
    pub fn answer(&self, request: &Request<()>, client: SocketAddr) -> Option<Answering> {
        let path = request.uri().path();
        if path == "/machines.json" && client.ip().to_canonical().is_loopback() {
            let page = self.page()?;
            return Some(Box::pin(std::future::ready(page)));
        }
        let web = self.boot.get()?;
        match path {
            "/boot.ipxe" | "/boot.ipxe.0" | "/ipxe" | "/m" => {
                let query = request.uri().query().unwrap_or_default();
                web.saw_script(path.trim_start_matches('/'), query, client.ip());
                None
            }
            _ => {
                let (parts, ()) = request.clone().into_parts();
                let answering = web.answer(&parts, client.ip())?;
                Some(Box::pin(async move {
                    answering.await.map(BodyExt::boxed_unsync)
                }))
            }
        }
    }

    /// The list of machines, as JSON.
    fn page(&self) -> Option<Response<Body>> {
        let json = serde_json::to_string(&self.list()).ok()?;
        let body = Full::from(json).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        if self.is_alone {
            let none = HeaderValue::from_static(NO_SOCKET);
            response.headers_mut().insert(SOCKET_FIELD, none);
        }
        Some(response)
    }

    /// Notes a file that a machine fetched through the proxy.
    fn fetched(&self, client: IpAddr, url: &str, status: u16) {
        let Some(provision) = self.provision.get() else {
            return;
        };
        let known = || {
            let hardware = self.boot.get()?.machine_at(client)?;
            Mac::parse(&hardware.to_string())
        };
        let Some(mac) = provision.machines().at(client).or_else(known) else {
            return;
        };
        let (step, mut detail) = fetch_of(url);
        if status >= 400 {
            detail = format!("{detail}: {status}");
        }
        provision
            .machines()
            .observe(&mac, Some(client), step, &detail);
    }
}

fn booting(event: larder_boot::timeline::Event) -> Event {
    Event {
        at: event.at,
        step: event.step.as_str().to_owned(),
        detail: event.detail,
        count: event.count,
    }
}

fn provisioning(event: larder_provision::Event) -> Event {
    let at = event.at.duration_since(SystemTime::UNIX_EPOCH);
    Event {
        at: at.map_or(0, |at| at.as_secs()),
        step: event.step.as_str().to_owned(),
        detail: event.detail,
        count: event.times,
    }
}

/// The step that a URL belongs to, and what to say of it. Queries stay out, as they may hold secrets. Packages are summed up: a thousand of
/// them would push everything else out of the timeline.
fn fetch_of(url: &str) -> (Step, String) {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if ends(&[".rpm", ".drpm", ".deb", ".udeb"]) {
        let host = path.split('/').nth(2).unwrap_or_default();
        return (Step::Packages, format!("packages from {host}"));
    }
    let boots = ["vmlinuz", "linux", "initrd", "kernel", "initramfs"];
    if boots.iter().any(|word| name.starts_with(word)) {
        return (Step::Kernel, path.to_owned());
    }
    (Step::Packages, path.to_owned())
}

/// Passes finished requests on, and notes them in the timelines.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) log: Arc<dyn Recorder>,
    pub(super) journeys: Arc<Journeys>,
}

impl Recorder for Seen {
    fn record(&self, record: &Record) {
        self.log.record(record);
        if record.method == "GET" {
            self.journeys
                .fetched(record.client, &record.url, record.status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_fetches_has_a_step_and_packages_are_summed_up() {
        let tree = "http://mirror.example/c/os";
        assert_eq!(
            fetch_of(&format!("{tree}/images/pxeboot/vmlinuz")).0,
            Step::Kernel
        );
        assert_eq!(
            fetch_of(&format!("{tree}/images/pxeboot/initrd.img")).0,
            Step::Kernel
        );
        let signed = format!("{tree}/images/pxeboot/vmlinuz?token=secret");
        assert!(!fetch_of(&signed).1.contains("secret"));
        let signed = format!("{tree}/images/install.img?token=secret");
        assert!(!fetch_of(&signed).1.contains("secret"));
        let image = format!("{tree}/images/install.img");
        assert_eq!(fetch_of(&image), (Step::Packages, image.clone()));
        let sum = (Step::Packages, "packages from mirror.example".to_owned());
        assert_eq!(fetch_of(&format!("{tree}/Packages/a/a-1.rpm")), sum);
        assert_eq!(fetch_of(&format!("{tree}/Packages/b/b-1.rpm?x=y")), sum);
    }

    #[test]
    fn without_parts_nobody_is_known_and_nothing_is_answered() {
        let journeys = Journeys::default();
        assert!(journeys.list().is_empty());
        journeys.fetched(IpAddr::from([127, 0, 0, 1]), "http://h/vmlinuz", 200);
        let request = Request::get("/boot/undionly.kpxe").body(()).unwrap();
        let client = SocketAddr::from(([10, 0, 0, 9], 4711));
        assert!(journeys.answer(&request, client).is_none());
    }
}
