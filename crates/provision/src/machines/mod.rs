//! Every machine that asked for something: how far it came, and whether it is installed.
//!
//! Two kinds of memory. What must survive a restart (installed or not, and where the machine was
//! seen last) is appended to the [`journal`]. The timeline is for finding out why a machine does
//! not boot today: it lives in memory, bounded per machine and in machines.
//!
//! `new → installing → installed`: asking for a boot script begins an installation, `done` ends
//! it, `reinstall` starts over. A machine that reboots amid its installation installs again.

mod journal;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use self::journal::Journal;
use crate::{error::Error, mac::Mac};

/// Events kept of one machine.
const EVENTS_MAX: usize = 64;
/// Machines kept in all; of more, those seen longest ago and not installed go first.
const MACHINES_MAX: usize = 20_000;

/// How far a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never installed, or asked to do it again.
    #[default]
    New,
    /// Has its boot script and did not say that it is done.
    Installing,
    /// Said that it is done.
    Installed,
}

impl State {
    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Installing => "installing",
            Self::Installed => "installed",
        }
    }
}

/// What a machine did. The first ones are seen by larder's boot server, `Fetch` by the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// DHCP discover.
    Discover,
    /// Proxy DHCP offer.
    Offer,
    /// A file by TFTP.
    Tftp,
    /// `/boot.ipxe`.
    Script,
    /// `/ipxe` or `/grub`.
    Boot,
    /// Kernel or initrd.
    Kernel,
    /// Ignition, cloud-config or generic template.
    Config,
    /// Kickstart, preseed or autoinstall.
    Kickstart,
    /// Installer image or package.
    Packages,
    /// Said that it is done.
    Done,
    /// Was told to boot from its disk.
    Local,
    /// Got a refusal.
    Refused,
}

impl Step {
    /// The step's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Offer => "offer",
            Self::Tftp => "tftp",
            Self::Script => "script",
            Self::Boot => "boot",
            Self::Kernel => "kernel",
            Self::Config => "config",
            Self::Kickstart => "kickstart",
            Self::Packages => "packages",
            Self::Done => "done",
            Self::Local => "local",
            Self::Refused => "refused",
        }
    }
}

/// One entry of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it last happened.
    pub at: SystemTime,
    /// What.
    pub step: Step,
    /// To what end.
    pub detail: String,
    /// How often in a row.
    pub times: u32,
}

/// A machine as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// How far it is.
    pub state: State,
    /// Since when, in seconds of Unix time; 0: never seen here.
    pub since: u64,
    /// Where it was seen last.
    pub address: Option<IpAddr>,
    /// The group that it was last selected into.
    pub group: String,
    /// That group's profile.
    pub profile: String,
    /// What it did, oldest first.
    pub events: VecDeque<Event>,
}

/// All machines.
#[derive(Debug)]
pub struct Machines {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    journal: Journal,
    machines: BTreeMap<Mac, Machine>,
    by_address: HashMap<IpAddr, Mac>,
}

impl Machines {
    /// Reads what is known from the journal at `path`, which need not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it exists and cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let mut table = Table {
            journal: Journal::new(path),
            machines: BTreeMap::new(),
            by_address: HashMap::new(),
        };
        table.catch_up()?;
        Ok(Self {
            table: Mutex::new(table),
        })
    }

    /// All machines as they are now.
    pub fn all(&self) -> BTreeMap<Mac, Machine> {
        let mut table = self.lock();
        table.catch_up_or_warn();
        table.machines.clone()
    }

    /// How far a machine is, another process's word included.
    pub fn state(&self, mac: &Mac) -> State {
        let mut table = self.lock();
        table.catch_up_or_warn();
        table
            .machines
            .get(mac)
            .map_or(State::New, |machine| machine.state)
    }

    /// Which machine was last seen at an address.
    pub fn at(&self, address: IpAddr) -> Option<Mac> {
        self.lock().by_address.get(&address).cloned()
    }

    /// Adds to a machine's timeline; `address` is where it speaks from, if that is known.
    pub fn observe(&self, mac: &Mac, address: Option<IpAddr>, step: Step, detail: &str) {
        let now = SystemTime::now();
        let mut table = self.lock();
        let Some(machine) = table.machine(mac) else {
            return;
        };
        machine.note(now, step, detail);
        if let Some(address) = address {
            table.seen_at(mac, address);
        }
    }

    /// The machine was given the boot script of a profile: its installation begins, if it is one
    /// that installs once.
    pub fn booted(&self, mac: &Mac, group: &str, profile: &str, installs_once: bool) {
        let mut table = self.lock();
        let Some(machine) = table.machine(mac) else {
            return;
        };
        group.clone_into(&mut machine.group);
        profile.clone_into(&mut machine.profile);
        if installs_once && machine.state == State::New {
            // The machine boots all the same; after a restart its installation begins anew.
            if let Err(error) = table.set_state(mac, State::Installing) {
                tracing::warn!(%mac, "not remembered after a restart: {}", error.with_cause());
            }
        }
    }

    /// The machine says that its installation is done.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when that could not be written down, and [`Error::MachinesFull`] when there is no
    /// room for a machine that was not known; nothing is changed then.
    pub fn done(&self, mac: &Mac) -> Result<(), Error> {
        self.lock().set_state(mac, State::Installed)
    }

    /// The machine's next boot installs it again.
    ///
    /// # Errors
    ///
    /// As [`Self::done`].
    pub fn reinstall(&self, mac: &Mac) -> Result<(), Error> {
        self.lock().set_state(mac, State::New)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes in what the journal holds beyond what was read, ours and other processes' alike.
    fn catch_up(&mut self) -> Result<(), Error> {
        for line in self.journal.news()? {
            let machine = self.machines.entry(line.mac.clone()).or_default();
            machine.state = line.state;
            machine.since = line.since;
            line.group.clone_into(&mut machine.group);
            line.profile.clone_into(&mut machine.profile);
            if let Some(address) = line.address {
                self.seen_at(&line.mac, address);
            }
        }
        Ok(())
    }

    fn catch_up_or_warn(&mut self) {
        if let Err(error) = self.catch_up() {
            tracing::warn!("{}", error.with_cause());
        }
    }

    /// Moves a known machine to an address. The one it had is nobody's then, unless another took it over.
    fn seen_at(&mut self, mac: &Mac, address: IpAddr) {
        let Some(machine) = self.machines.get_mut(mac) else {
            return;
        };
        let former = machine.address.replace(address);
        if former == Some(address) {
            return;
        }
        if let Some(former) = former {
            self.leave(mac, former);
        }
        self.by_address.insert(address, mac.clone());
    }

    fn leave(&mut self, mac: &Mac, address: IpAddr) {
        if self.by_address.get(&address) == Some(mac) {
            self.by_address.remove(&address);
        }
    }

    /// The machine's entry; makes room for a new one. `None` when all that are kept are installed: those
    /// are never forgotten, whoever asks.
    fn machine(&mut self, mac: &Mac) -> Option<&mut Machine> {
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(mac) {
            let oldest = self
                .machines
                .iter()
                .filter(|(_, machine)| machine.state != State::Installed)
                .min_by_key(|(_, machine)| machine.events.back().map(|event| event.at))
                .map(|(mac, _)| mac.clone())?;
            if let Some(address) = self.machines.remove(&oldest).and_then(|gone| gone.address) {
                self.leave(&oldest, address);
            }
        }
        Some(self.machines.entry(mac.clone()).or_default())
    }

    /// Writes a machine's state down and then believes it. Saying again what is known writes nothing, so
    /// that nobody fills the disk by repeating it.
    fn set_state(&mut self, mac: &Mac, state: State) -> Result<(), Error> {
        self.catch_up_or_warn();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let machine = self.machine(mac).ok_or(Error::MachinesFull(MACHINES_MAX))?;
        if machine.state == state {
            return Ok(());
        }
        let since = now.map_or(0, |since| since.as_secs());
        let line = journal::Line {
            state,
            since,
            ..journal::Line::of(mac, machine)
        };
        self.journal.append(&line)?;
        if let Some(machine) = self.machines.get_mut(mac) {
            (machine.state, machine.since) = (state, since);
        }
        Ok(())
    }
}

impl Machine {
    /// Adds an event, or counts one more of the same.
    fn note(&mut self, at: SystemTime, step: Step, detail: &str) {
        if let Some(last) = self.events.back_mut()
            && last.step == step
            && last.detail == detail
        {
            last.times = last.times.saturating_add(1);
            last.at = at;
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        let detail = detail.chars().take(200).collect();
        self.events.push_back(Event {
            at,
            step,
            detail,
            times: 1,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn mac(last: u8) -> Mac {
        Mac::parse(&format!("52:54:00:00:00:{last:02x}")).unwrap()
    }

    #[test]
    fn installed_survives_a_restart_and_reinstall_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/machines");
        let machines = Machines::open(path.clone()).unwrap();
        machines.booted(&mac(1), "g", "p", true);
        assert_eq!(machines.state(&mac(1)), State::Installing);
        machines.done(&mac(1)).unwrap();
        drop(machines);
        let machines = Machines::open(path.clone()).unwrap();
        assert_eq!(machines.state(&mac(1)), State::Installed);
        assert_eq!(machines.all()[&mac(1)].profile, "p");
        let other_process = Machines::open(path).unwrap();
        other_process.reinstall(&mac(1)).unwrap();
        assert_eq!(
            machines.state(&mac(1)),
            State::New,
            "seen without a restart"
        );
    }

    #[test]
    fn a_torn_or_foreign_line_loses_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines");
        let machines = Machines::open(path.clone()).unwrap();
        machines.done(&mac(1)).unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("garbage\n{\"mac\":\"52:54");
        fs::write(&path, text).unwrap();
        let machines = Machines::open(path.clone()).unwrap();
        machines.done(&mac(2)).unwrap();
        let machines = Machines::open(path).unwrap();
        assert_eq!(machines.state(&mac(1)), State::Installed);
        assert_eq!(machines.state(&mac(2)), State::Installed);
    }

    #[test]
    fn equal_events_in_a_row_are_counted_and_the_timeline_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let machines = Machines::open(directory.path().join("machines")).unwrap();
        let address = "10.0.0.9".parse().ok();
        for _ in 0..3 {
            machines.observe(&mac(1), address, Step::Script, "boot.ipxe");
        }
        for number in 0..EVENTS_MAX {
            machines.observe(&mac(1), None, Step::Packages, &number.to_string());
        }
        assert_eq!(machines.at("10.0.0.9".parse().unwrap()), Some(mac(1)));
        let events = &machines.all()[&mac(1)].events;
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events.front().map(|event| event.step), Some(Step::Packages));
    }

    #[test]
    fn a_machine_that_does_not_install_once_stays_new() {
        let directory = tempfile::tempdir().unwrap();
        let machines = Machines::open(directory.path().join("machines")).unwrap();
        machines.booted(&mac(1), "g", "p", false);
        assert_eq!(machines.state(&mac(1)), State::New);
    }

    #[test]
    fn what_cannot_be_written_down_is_an_error_and_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines");
        let machines = Machines::open(path.clone()).unwrap();
        // A folder in the file's place cannot be written to, not even by root.
        fs::create_dir(&path).unwrap();
        let error = machines.done(&mac(1)).unwrap_err();
        assert!(error.with_cause().contains("directory"), "{error:?}");
        assert_eq!(machines.state(&mac(1)), State::New);
        fs::remove_dir(&path).unwrap();
        machines.done(&mac(1)).unwrap();
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        machines.reinstall(&mac(1)).unwrap_err();
        assert_eq!(machines.state(&mac(1)), State::Installed);
    }

    #[test]
    fn saying_it_again_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("machines");
        let machines = Machines::open(path.clone()).unwrap();
        for _ in 0..3 {
            machines.done(&mac(1)).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
    }

    #[test]
    fn installed_machines_are_bounded_too() {
        let directory = tempfile::tempdir().unwrap();
        let machines = Machines::open(directory.path().join("machines")).unwrap();
        {
            let mut table = machines.lock();
            for number in 0..MACHINES_MAX {
                let [.., high, middle, low] = number.to_be_bytes();
                let mac = Mac::parse(&format!("52:54:01:{high:02x}:{middle:02x}:{low:02x}"));
                let installed = Machine {
                    state: State::Installed,
                    ..Machine::default()
                };
                table.machines.insert(mac.unwrap(), installed);
            }
        }
        let refused = machines.done(&mac(1));
        assert!(matches!(refused, Err(Error::MachinesFull(_))));
        machines.observe(&mac(1), None, Step::Boot, "");
        assert_eq!(machines.all().len(), MACHINES_MAX);
    }

    #[test]
    fn a_former_address_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let machines = Machines::open(directory.path().join("machines")).unwrap();
        let at = |last: u8| IpAddr::from([10, 0, 0, last]);
        machines.observe(&mac(1), Some(at(1)), Step::Boot, "");
        machines.observe(&mac(1), Some(at(2)), Step::Boot, "");
        assert_eq!(
            (machines.at(at(1)), machines.at(at(2))),
            (None, Some(mac(1)))
        );
        machines.observe(&mac(2), Some(at(2)), Step::Boot, "");
        machines.observe(&mac(1), Some(at(3)), Step::Boot, "");
        assert_eq!(machines.at(at(2)), Some(mac(2)), "its next tenant's");
    }
}
