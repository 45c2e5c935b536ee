//! Every machine that asked for something: how far it came, and whether it is installed.
//!
//! Two kinds of memory. What must survive a restart (installed or not, and where the machine was
//! seen last) is appended to the [`journal`]. The timeline is for finding out why a machine does
//! not boot today: it lives in memory, bounded per machine and in machines.
//!
//! `new → installing → installed`: asking for a boot script begins an installation, `done` ends
//! it, `reinstall` starts over. A machine that reboots amid its installation installs again.
//!
//! Three locks, always taken in this order: the writers' turn, held while another process has locked the
//! file and while the disk writes; the journal's, held while it is read or appended to; and the table's,
//! held for a moment. So whoever asks for a state never waits for another process, and whoever only looks
//! or notes a step never waits for a disk.

mod journal;
mod table;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant, SystemTime},
};

use self::{
    journal::{Journal, Line, Locked},
    table::Table,
};
use crate::{error::Error, library::Note, mac::Mac};

/// Events kept of one machine.
const EVENTS_MAX: usize = 64;
/// Machines kept in all; of more, those seen longest ago and not installed go first.
const MACHINES_MAX: usize = 20_000;
/// For so long a machine's boot script waits until it is written down that its installation begins.
const BEGINNING_PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks whether it is one's turn to write.
const TURN_PAUSE: Duration = Duration::from_millis(2);

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
    /// Whether it was served what an installation begins with since the start.
    pub(crate) served: bool,
}

/// What it means for machines that install once that `journal` cannot be written; nothing where it can.
pub(crate) fn cannot_remember(journal: &Path) -> Option<Note> {
    let error = journal::is_writable(journal).err()?;
    Some(Note {
        path: journal.to_owned(),
        line: 0,
        column: 0,
        text: format!(
            "cannot be written ({error}): a machine that is to install once is not remembered as installed, and installs at each boot"
        ),
        skipped: false,
    })
}

/// All machines.
#[derive(Debug)]
pub struct Machines {
    path: PathBuf,
    /// Who writes.
    turn: Mutex<()>,
    journal: Mutex<Journal>,
    table: Mutex<Table>,
    /// Whether this process may write the journal anew; the others only read it and append.
    keeps: bool,
}

impl Machines {
    /// Reads what is known from the journal at `path`, which need not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it exists and cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let machines = Self {
            path: path.clone(),
            turn: Mutex::default(),
            journal: Mutex::new(Journal::new(path)),
            table: Mutex::default(),
            keeps: false,
        };
        machines.catch_up()?;
        Ok(machines)
    }

    /// As [`Self::open`], for the server: it keeps the journal short.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn keep(path: PathBuf) -> Result<Self, Error> {
        let machines = Self {
            keeps: true,
            ..Self::open(path)?
        };
        if let Err(error) = journal::close_to_others(&machines.path) {
            tracing::warn!(
                "{}",
                Error::State(machines.path.clone(), error).with_cause()
            );
        }
        machines.compact();
        Ok(machines)
    }

    /// Takes in what the journal holds beyond what was read, ours and other processes' alike.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when it cannot be read.
    pub fn catch_up(&self) -> Result<(), Error> {
        self.read(&mut self.journal())
    }

    /// All machines as far as they are known; does not look at the journal.
    pub fn all(&self) -> BTreeMap<Mac, Machine> {
        self.table().all().clone()
    }

    /// How far a machine is, another process's word included. Reads the disk.
    pub fn state(&self, mac: &Mac) -> State {
        self.read_or_warn(&mut self.journal());
        self.table().get(mac).map_or(State::New, |it| it.state)
    }

    /// Which machine was last seen at an address.
    pub fn at(&self, address: IpAddr) -> Option<Mac> {
        self.table().at(address)
    }

    /// Adds to a machine's timeline; `address` is where it speaks from, if that is known.
    pub fn observe(&self, mac: &Mac, address: Option<IpAddr>, step: Step, detail: &str) {
        let now = SystemTime::now();
        let mut table = self.table();
        let Some(machine) = table.machine(mac) else {
            return;
        };
        machine.note(now, step, detail);
        if let Some(address) = address {
            table.seen_at(mac, address);
        }
    }

    /// The machine was given the boot script of a profile: its installation begins, if it is one
    /// that installs once. May write to the disk.
    pub fn booted(&self, mac: &Mac, group: &str, profile: &str, installs_once: bool) {
        let begins = {
            let mut table = self.table();
            let Some(machine) = table.machine(mac) else {
                return;
            };
            group.clone_into(&mut machine.group);
            profile.clone_into(&mut machine.profile);
            installs_once && machine.state == State::New
        };
        // The machine boots all the same; after a restart its installation begins anew.
        if begins && let Err(error) = self.set_state(mac, State::Installing) {
            tracing::warn!(%mac, "not remembered after a restart: {}", error.with_cause());
        }
    }

    /// Whether a machine was ever given something to install: only such a one can be done with it.
    pub fn is_expected(&self, mac: &Mac) -> bool {
        let table = self.table();
        let machine = table.get(mac);
        machine.is_some_and(|machine| machine.served || machine.state != State::New)
    }

    /// The machine says that its installation is done. Writes to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when that could not be written down, and [`Error::MachinesFull`] when there is no
    /// room for a machine that was not known; nothing is changed then.
    pub fn done(&self, mac: &Mac) -> Result<(), Error> {
        self.set_state(mac, State::Installed)
    }

    /// The machine's next boot installs it again. Writes to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMachine`] for one that was never seen (a typing error must not look like success),
    /// and as [`Self::done`].
    pub fn reinstall(&self, mac: &Mac) -> Result<(), Error> {
        self.read_or_warn(&mut self.journal());
        if self.table().get(mac).is_none() {
            return Err(Error::UnknownMachine(mac.to_string()));
        }
        self.set_state(mac, State::New)
    }

    /// Writes a machine's state down and then believes it. Saying again what is known writes nothing, so
    /// that nobody fills the disk by repeating it.
    fn set_state(&self, mac: &Mac, state: State) -> Result<(), Error> {
        // An installation that began is no loss: it begins anew. Its end and its order are.
        self.write_down(state != State::Installing, || self.to_write(mac, state))
    }

    /// The machine is not known any more: its state, its place and its timeline are gone, here and in a
    /// server that runs. A forgotten machine that boots from the network installs. Writes to the disk.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMachine`] for one that nothing is known of, and as [`Self::done`].
    pub fn forget(&self, mac: &Mac) -> Result<(), Error> {
        let unknown = || Error::UnknownMachine(mac.to_string());
        self.write_down(true, || {
            self.read_or_warn(&mut self.journal());
            let table = self.table();
            let machine = table.get(mac).ok_or_else(unknown)?;
            Ok(Some(Line {
                state: State::New,
                forgotten: true,
                ..Line::of(mac, machine)
            }))
        })
    }

    /// Writes the line down that there is to write, if any, and then believes it; `lasts` says that it must
    /// survive a fall of the machine.
    fn write_down(
        &self,
        lasts: bool,
        line: impl Fn() -> Result<Option<Line>, Error>,
    ) -> Result<(), Error> {
        let patience = if lasts {
            journal::LOCK_PATIENCE
        } else {
            BEGINNING_PATIENCE
        };
        let deadline = Instant::now() + patience;
        if line()?.is_none() {
            return Ok(());
        }
        let failed = |error| Error::State(self.path.clone(), error);
        {
            let _turn = self.turn(deadline).map_err(failed)?;
            let locked = Locked::at(&self.path, deadline).map_err(failed)?;
            // Others may have written while this one waited.
            let Some(line) = line()? else {
                return Ok(());
            };
            self.journal().append(&locked, &line).map_err(failed)?;
            if lasts && let Err(error) = locked.sync(&self.path) {
                self.journal().forget();
                return Err(failed(error));
            }
            self.table().believe(&line);
        }
        if self.keeps {
            self.compact();
        }
        Ok(())
    }

    /// The right to write, for which others of this process wait too.
    fn turn(&self, deadline: Instant) -> io::Result<MutexGuard<'_, ()>> {
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(TURN_PAUSE);
                }
                Err(TryLockError::WouldBlock) => {
                    let text = "others have been writing for too long";
                    return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
                }
            }
        }
    }

    /// What there is to write down of a machine's new state, after all that was written so far.
    fn to_write(&self, mac: &Mac, state: State) -> Result<Option<Line>, Error> {
        self.read_or_warn(&mut self.journal());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut table = self.table();
        let machine = table
            .machine(mac)
            .ok_or(Error::MachinesFull(MACHINES_MAX))?;
        Ok((machine.state != state).then(|| Line {
            state,
            since: now.map_or(0, |since| since.as_secs()),
            ..Line::of(mac, machine)
        }))
    }

    fn read(&self, journal: &mut Journal) -> Result<(), Error> {
        let news = journal.news()?;
        if !news.is_empty() {
            let mut table = self.table();
            for line in &news {
                table.believe(line);
            }
        }
        Ok(())
    }

    fn read_or_warn(&self, journal: &mut Journal) {
        if let Err(error) = self.read(journal) {
            tracing::warn!("{}", error.with_cause());
        }
    }

    /// Writes a journal anew that says little with many lines, if nobody else writes.
    fn compact(&self) {
        let machines = self.table().all().len();
        if !self.journal().is_long(machines) {
            return;
        }
        if let Err(error) = self.write_anew() {
            tracing::warn!("left as it is: {}", error.with_cause());
        }
    }

    fn write_anew(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = Locked::at(&self.path, Instant::now());
        let mut locked = locked.map_err(|error| Error::State(self.path.clone(), error))?;
        self.journal().compact(&mut locked, |news| {
            let mut table = self.table();
            for line in &news {
                table.believe(line);
            }
            table.lines()
        })
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// Adds an event, or counts one more of the same.
    fn note(&mut self, at: SystemTime, step: Step, detail: &str) {
        self.served |= matches!(step, Step::Boot | Step::Config | Step::Kickstart);
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
mod tests;
