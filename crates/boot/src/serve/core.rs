//! What all sockets share: configuration, rules, files, timelines and counts.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};

use super::copies::Copies;
use super::names::{address_of, look_up};
use super::supervise::Complaint;
use crate::config::Config;
use crate::decide::rules::Programs;
use crate::decide::{Interface, OwnRules, Rules};
use crate::disk::{Disk, Lane};
use crate::fetch::Fetch;
use crate::here;
use crate::look::Looks;
use crate::menu::Entry;
use crate::net::interfaces::{self, Later, Links};
use crate::net::udp::Way;
use crate::packet::hardware::HardwareAddress;
use crate::script::{self, Here, Look};
use crate::tftp::files::{self, Content, Files, Name, NoFile};
use crate::timeline::{Step, Timeline, Traits, cut};
use crate::words::{self, rules::UniqueRoot, script::Given};

/// Largest body that is fetched for a TFTP transfer.
const FETCH_MAX: usize = 256 * 1024 * 1024;

/// How often this host is looked at: what is known of its interfaces is at most five seconds old.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Counts by a word each.
pub type Counts = BTreeMap<&'static str, u64>;

/// What all sockets share.
#[derive(Debug)]
pub struct Core {
    /// The configuration.
    pub config: Config,
    /// The rules of decisions.
    pub rules: Rules,
    /// The way to the files.
    pub(crate) disk: Disk,
    /// Files to serve.
    pub files: Arc<Files>,
    /// Files to serve on single interfaces in place of those, by the interface's name.
    pub files_by_link: BTreeMap<String, Arc<Files>>,
    /// Menu entries: the operator's, then the built-in ones.
    pub menu: Vec<Entry>,
    /// Machines.
    pub timeline: Timeline,
    /// The way through the cache, if there is one.
    pub fetch: Option<Arc<dyn Fetch>>,
    /// Bodies that were fetched of late.
    pub copies: Copies,
    /// The served interfaces.
    pub links: Links,
    /// Replies, silences and transfers.
    pub counts: Mutex<[Counts; 3]>,
}

/// What dnsmasq's words say of the script for a machine.
enum ByWords {
    /// There are no words, or they give a script to nobody.
    Silent,
    /// They give scripts, to this machine none.
    Nothing,
    /// They give it this one.
    Script(String),
    /// They give scripts, and nobody knows this machine yet.
    Unsettled,
}

impl Core {
    fn count(&self, which: usize, word: &'static str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = counts.get_mut(which) {
            *counts.entry(word).or_default() += 1;
        }
    }

    /// Counts a reply by its kind.
    pub fn count_reply(&self, kind: &'static str) {
        self.count(0, kind);
    }

    /// Counts a silence by its reason.
    pub fn count_silence(&self, reason: &'static str) {
        self.count(1, reason);
    }

    /// Counts a TFTP transfer by its result.
    pub fn count_transfer(&self, result: &'static str) {
        self.count(2, result);
    }

    /// The served interface with an index.
    pub fn interface(&self, index: u32) -> Option<Interface> {
        self.links.by_index(index)
    }

    /// The files that are served on an interface.
    pub fn files_on(&self, interface: Option<&Interface>) -> &Arc<Files> {
        let own = interface.and_then(|interface| self.files_by_link.get(&interface.name));
        own.unwrap_or(&self.files)
    }

    /// The file that a name means to a client on this interface, which may have a folder of its own, and the way
    /// to read it. Each look waits among those alone that are for the same entry of the root.
    ///
    /// # Errors
    /// [`NoFile`]; a disk that does not answer is one that cannot be read.
    pub(crate) async fn find(
        &self,
        client: IpAddr,
        on: Option<&Interface>,
        own: Option<String>,
        name: &Name,
    ) -> Result<(Content, Lane), NoFile> {
        let files = self.files_on(on);
        let lane = |own: Option<&str>, path: &str| {
            let entry = files::entry(own, path);
            self.disk.lane(client, files.root(), entry)
        };
        let mut folder = None;
        if let Some(own) = own {
            let (lane, files, asked) = (lane(Some(&own), ""), Arc::clone(files), own.clone());
            let has = lane.work(move || files.has_folder(&asked)).await;
            folder = has.map_err(NoFile::Unreadable)?.then_some(own);
        }
        for path in files.spellings(name) {
            let lane = lane(folder.as_deref(), &path);
            let (files, folder) = (Arc::clone(files), folder.clone());
            let found = lane.work(move || files.find_for(folder.as_deref(), &path));
            match found.await.map_err(NoFile::Unreadable)? {
                Err(NoFile::Missing) => {}
                found => return found.map(|content| (content, lane)),
            }
        }
        Err(NoFile::Missing)
    }

    /// Tells whether files are served by TFTP to who asks by this interface.
    pub fn hears_tftp(&self, index: u32) -> bool {
        let words = self.rules.words.as_ref();
        let only = words.map_or(&[][..], |words| &words.tftp.interfaces);
        if only.is_empty() {
            return self.links.hears(index);
        }
        let interface = self.interface(index);
        interface.is_some_and(|own| {
            only.iter()
                .any(|name| interfaces::stands_for(name, &own.name))
        })
    }

    /// The address to answer from.
    pub fn source(&self, way: Way) -> Ipv4Addr {
        let named = Some(way.to).filter(|to| !to.is_unspecified());
        let own = || self.interface(way.interface).map(|own| own.address);
        named.or_else(own).unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Largest IP packet on the way's interface.
    pub fn mtu(&self, way: Way) -> u16 {
        self.interface(way.interface)
            .map_or(1500, |interface| interface.mtu)
    }

    /// This host's address as a client sees it.
    pub fn here(&self, client: IpAddr) -> Ipv4Addr {
        self.links
            .near(client)
            .map_or(Ipv4Addr::LOCALHOST, |near| near.address)
    }

    /// Where scripts and the cache are for a client.
    pub fn bases(&self, client: IpAddr) -> Here {
        let here = self.here(client);
        let scripts = self.rules.own.url(here, "").unwrap_or_default();
        Here {
            scripts: scripts.trim_end_matches('/').to_owned(),
            cache: self
                .config
                .cache_port
                .map(|port| format!("http://{here}:{port}")),
        }
    }

    /// A generated script by its name, for a machine if it is known; none if there is no such script.
    pub fn generated(
        &self,
        name: &str,
        machine: Option<HardwareAddress>,
        client: IpAddr,
    ) -> Option<String> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let kind = ["autoexec.ipxe", "boot.ipxe", "menu.ipxe"]
            .into_iter()
            .find(|known| *known == name)?;
        match self.by_words(machine, client) {
            // Machines would load that script from within itself, without end.
            ByWords::Script(url) if self.leads_back(&url) => self.own_script(kind, client),
            ByWords::Script(url) if kind == "autoexec.ipxe" => Some(script::autoexec(&url)),
            ByWords::Script(url) => Some(script::first(&self.bases(client), Some(&url))),
            // iPXE goes on to DHCP without it, and there the words say what they give.
            ByWords::Nothing if kind == "autoexec.ipxe" => None,
            ByWords::Unsettled => None,
            ByWords::Nothing | ByWords::Silent => self.own_script(kind, client),
        }
    }

    fn own_script(&self, name: &str, client: IpAddr) -> Option<String> {
        self.rules.own.http_port?;
        let here = self.bases(client);
        Some(match name {
            "autoexec.ipxe" => script::autoexec(&format!("{}/boot.ipxe", here.scripts)),
            "boot.ipxe" => {
                let next = self.config.next.as_deref();
                script::first(&here, next.filter(|next| !self.leads_back(next)))
            }
            _ => {
                let look = Look {
                    seconds: self.config.menu_seconds,
                    serial: self.config.serial.as_deref(),
                };
                script::menu(&here, &self.menu, &look)
            }
        })
    }

    /// Tells whether a URL is a script of larder's own listener here.
    fn leads_back(&self, url: &str) -> bool {
        let is_own = |address| self.links.has(address);
        let port = self.rules.own.http_port;
        let port = port.filter(|_| self.config.http.is_some());
        port.is_some_and(|port| here::is_own_script(url, port, &is_own))
    }

    /// What dnsmasq's words say of a machine's script.
    fn by_words(&self, machine: Option<HardwareAddress>, client: IpAddr) -> ByWords {
        let words = self.rules.words.as_ref();
        let Some(words) = words.filter(|words| words::script::is_named(words)) else {
            return ByWords::Silent;
        };
        let given = machine.map(|machine| self.timeline.script(machine));
        match given.unwrap_or_default() {
            Given::Script(url) => ByWords::Script(url),
            Given::Nothing => ByWords::Nothing,
            Given::Unheard => {
                let interface = self.links.near(client);
                let url = interface.and_then(|near| words::script::of_anyone(&near, words));
                url.map_or(ByWords::Unsettled, ByWords::Script)
            }
        }
    }

    /// Tells whether a file is one of the boot programs that offers name.
    pub fn is_boot_program(&self, name: &str) -> bool {
        let programs = &self.rules.own.programs;
        let name = name.strip_suffix(".0").unwrap_or(name);
        programs
            .by_cpu
            .values()
            .chain(&programs.bios_with_drivers)
            .any(|program| program == name)
    }

    /// The machine behind an address: by what it told, else by the kernel's neighbour table.
    pub fn machine_at(&self, address: IpAddr) -> Option<HardwareAddress> {
        self.timeline
            .machine_at(address)
            .or_else(|| neighbour(address))
    }

    /// The folder of the root that is a client's own, if dnsmasq's words want such folders.
    pub fn own_folder(&self, machine: Option<HardwareAddress>, client: IpAddr) -> Option<String> {
        match self.rules.words.as_ref()?.tftp.unique_root? {
            UniqueRoot::Address => Some(client.to_string()),
            UniqueRoot::Hardware => machine.map(|machine| machine.to_string().replace(':', "-")),
        }
    }

    /// Notes that a machine got a boot program, if the file is one, and what it means if that happens again
    /// and again.
    pub fn loaded(&self, machine: Option<HardwareAddress>, name: &str, now: SystemTime) {
        let Some(machine) = machine.filter(|_| self.is_boot_program(name)) else {
            return;
        };
        if self.timeline.loaded(machine, now) {
            let detail = format!("{name} was loaded again and again, and no script was asked for");
            self.timeline.record(machine, Step::Loop, detail, now);
        }
    }

    /// Notes an event of a machine, or logs it with the address alone if the machine is unknown.
    pub fn tell(
        &self,
        machine: Option<HardwareAddress>,
        address: IpAddr,
        step: Step,
        detail: String,
        now: SystemTime,
    ) {
        let Some(machine) = machine else {
            let detail = cut(detail);
            tracing::debug!(client = %address, step = step.as_str(), "{detail}");
            return;
        };
        let traits = Traits {
            address: Some(address),
            ..Traits::default()
        };
        self.timeline.learn(machine, traits, now);
        self.timeline.record(machine, step, detail, now);
    }

    /// A URL's whole body, through the cache. Transfers at one time share one copy of it.
    ///
    /// # Errors
    /// There is no cache, the origin fails, or the body is larger than 256 MiB.
    pub async fn fetch(&self, url: &str) -> io::Result<Bytes> {
        self.copies.get(url, self.fetch_anew(url)).await
    }

    async fn fetch_anew(&self, url: &str) -> io::Result<Bytes> {
        let fetch = self.fetch.as_ref();
        let fetch =
            fetch.ok_or_else(|| io::Error::other("no cache runs here to fetch URLs through"))?;
        let fetched = fetch.fetch(url).await?;
        let body = Limited::new(fetched.body, FETCH_MAX)
            .collect()
            .await
            .map_err(io::Error::other)?;
        let bytes = body.to_bytes();
        match fetched.length {
            Some(length) if length != bytes.len() as u64 => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            _ => Ok(bytes),
        }
    }
}

/// Keeps up with this host, until it is dropped: with its interfaces, and with names that it comes to know.
pub(super) async fn keep_up(core: Arc<Core>) {
    let names = async {
        if let Some(words) = &core.rules.words {
            look_up(words, LOOK_EVERY, address_of).await;
        }
    };
    tokio::join!(look_around(&core), names);
}

/// Looks at the interfaces again and again and forgets old copies.
async fn look_around(core: &Core) {
    let mut complaint = Complaint::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        core.copies.forget_old(Instant::now());
        match interfaces::list() {
            Ok(all) => {
                for change in core.links.refresh(&all) {
                    tracing::info!("{change}");
                }
            }
            Err(error) => {
                if let Some(withheld) = complaint.due(tokio::time::Instant::now()) {
                    tracing::warn!(%error, withheld, "cannot list the network interfaces");
                }
            }
        }
    }
}

/// Which interfaces a configuration wants served.
pub fn choice(config: &Config) -> interfaces::Choice {
    let words = config.words.as_ref();
    interfaces::Choice {
        names: config.interfaces.clone(),
        except: words
            .map(|words| words.except_interfaces.clone())
            .unwrap_or_default(),
        never: words
            .map(|words| words.no_dhcp_interfaces.clone())
            .unwrap_or_default(),
        later: match words {
            None => Later::Nothing,
            Some(words) if words.binds_at_once => Later::Address,
            Some(_) => Later::Interface,
        },
        addresses: words
            .map(|words| words.listen_addresses.clone())
            .unwrap_or_default(),
    }
}

/// Larder's own rules of a configuration, with the programs that were found for it.
pub fn own_rules(
    config: &Config,
    programs: Programs,
    http_port: Option<u16>,
    looks: &Looks,
) -> OwnRules {
    let root = config.root.as_deref().filter(|_| config.is_tftp);
    OwnRules {
        programs,
        http_port,
        next: config.next.clone(),
        script: None,
        host: None,
        styles: config.styles.clone(),
        has_pi_files: root.is_some_and(|root| has_pi_files(root, looks)),
        lacks_tftp: !config.is_tftp,
    }
}

/// A Raspberry Pi's ROM loads `start4.elf` or `bootcode.bin`, from a folder by its serial number or from the
/// root. Each folder is looked at by itself: one of another disk may not answer.
fn has_pi_files(root: &Path, looks: &Looks) -> bool {
    let has = |folder: &Path| {
        let names = ["start4.elf", "bootcode.bin", "start.elf"];
        names.iter().any(|name| folder.join(name).is_file())
    };
    let list = |root: &Path| -> Vec<PathBuf> {
        let entries = root.read_dir().into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_there = |folder: &Path| looks.at(folder, has).unwrap_or(false);
    let folders = looks.at(root, list).unwrap_or_default();
    is_there(root) || folders.iter().any(|folder| is_there(folder))
}

/// The hardware address that the kernel knows for a neighbour.
fn neighbour(address: IpAddr) -> Option<HardwareAddress> {
    let table = std::fs::read_to_string("/proc/net/arp").ok()?;
    let wanted = address.to_string();
    let line = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&wanted))?;
    let mac: HardwareAddress = line.split_whitespace().nth(3)?.parse().ok()?;
    mac.bytes().iter().any(|byte| *byte != 0).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tftp_no_program_is_one_of_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("start4.elf"), "x").unwrap();
        let config = |is_tftp| Config {
            root: Some(root.path().to_owned()),
            is_tftp,
            ..Config::default()
        };
        let rules = |is_tftp| {
            let looks = Looks::default();
            own_rules(&config(is_tftp), Programs::default(), None, &looks)
        };
        assert!(rules(true).has_pi_files && !rules(true).lacks_tftp);
        assert!(!rules(false).has_pi_files && rules(false).lacks_tftp);
    }

    #[test]
    fn pi_files_may_lie_in_a_folder_by_the_serial_number() {
        let is_pi_root = |root: &Path| has_pi_files(root, &Looks::default());
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("9ffefdef");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(root.path().join("snponly.efi"), "x").unwrap();
        assert!(!is_pi_root(root.path()));
        std::fs::write(folder.join("start4.elf"), "x").unwrap();
        assert!(is_pi_root(root.path()));
        assert!(is_pi_root(&folder));
        assert!(!is_pi_root(&root.path().join("gone")));
    }
}
