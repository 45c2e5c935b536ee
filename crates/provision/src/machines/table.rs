//! The machines in memory: bounded, and each at one address.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::SystemTime,
};

use super::{MACHINES_MAX, Machine, State, journal::Line};
use crate::mac::Mac;

/// When there is no room, one of so many is forgotten at once: finding the oldest looks at all.
const FORGOTTEN_AT_ONCE: usize = MACHINES_MAX / 16;

/// All machines that are known.
#[derive(Debug, Default)]
pub(super) struct Table {
    machines: BTreeMap<Mac, Machine>,
    by_address: HashMap<IpAddr, Mac>,
    /// How many of them are installed.
    installed: usize,
}

impl Table {
    pub(super) fn all(&self) -> &BTreeMap<Mac, Machine> {
        &self.machines
    }

    pub(super) fn get(&self, mac: &Mac) -> Option<&Machine> {
        self.machines.get(mac)
    }

    pub(super) fn at(&self, address: IpAddr) -> Option<Mac> {
        self.by_address.get(&address.to_canonical()).cloned()
    }

    /// The machine's entry; makes room for a new one. `None` when all that are kept are installed: those
    /// are never forgotten, whoever asks.
    pub(super) fn machine(&mut self, mac: &Mac) -> Option<&mut Machine> {
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(mac) {
            self.forget_oldest();
            if self.machines.len() >= MACHINES_MAX {
                return None;
            }
        }
        Some(self.machines.entry(mac.clone()).or_default())
    }

    fn forget_oldest(&mut self) {
        if self.installed >= self.machines.len() {
            return;
        }
        let last_seen = |machine: &Machine| machine.events.back().map(|event| event.at);
        let mut candidates: Vec<(Option<SystemTime>, Mac)> = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.state != State::Installed)
            .map(|(mac, machine)| (last_seen(machine), mac.clone()))
            .collect();
        candidates.sort_unstable();
        // The youngest half stays, as far as it may: it is what boots just now.
        let count = candidates.len().div_ceil(2).min(FORGOTTEN_AT_ONCE);
        for (_, mac) in candidates.into_iter().take(count) {
            self.forget(&mac);
        }
    }

    /// Moves a known machine to an address. The one it had is nobody's then, unless another took it over.
    /// IPv4 addresses are kept as such, whichever socket heard them.
    pub(super) fn seen_at(&mut self, mac: &Mac, address: IpAddr) {
        let address = address.to_canonical();
        let Some(machine) = self.machines.get_mut(mac) else {
            return;
        };
        let former = machine.address.replace(address);
        if let Some(former) = former.filter(|former| *former != address) {
            self.leave(mac, former);
        }
        self.by_address.insert(address, mac.clone());
    }

    fn leave(&mut self, mac: &Mac, address: IpAddr) {
        if self.by_address.get(&address) == Some(mac) {
            self.by_address.remove(&address);
        }
    }

    /// A machine that is not known any more, whatever was known.
    fn forget(&mut self, mac: &Mac) {
        let Some(gone) = self.machines.remove(mac) else {
            return;
        };
        self.installed -= usize::from(gone.state == State::Installed);
        if let Some(address) = gone.address {
            self.leave(mac, address);
        }
    }

    /// Takes over what the journal says of a machine.
    pub(super) fn believe(&mut self, line: &Line) {
        if line.forgotten {
            return self.forget(&line.mac);
        }
        let Some(machine) = self.machine(&line.mac) else {
            tracing::warn!(mac = %line.mac, "no room for another machine: forgotten");
            return;
        };
        let was_installed = machine.state == State::Installed;
        // What was said before it was told to install again does not end that installation.
        machine.served &= machine.state == line.state || line.state != State::New;
        machine.state = line.state;
        machine.since = line.since;
        // Of the rest a machine that was seen since the start says more than the journal.
        let is_seen = !machine.events.is_empty();
        if !is_seen {
            line.group.clone_into(&mut machine.group);
            line.profile.clone_into(&mut machine.profile);
        }
        self.installed -= usize::from(was_installed);
        self.installed += usize::from(line.state == State::Installed);
        if let Some(address) = line.address.filter(|_| !is_seen) {
            self.seen_at(&line.mac, address);
        }
    }

    /// What the journal has to say of all of them.
    pub(super) fn lines(&self) -> Vec<Line> {
        let written = self
            .machines
            .iter()
            .filter(|(_, machine)| machine.since > 0);
        written
            .map(|(mac, machine)| Line::of(mac, machine))
            .collect()
    }
}
