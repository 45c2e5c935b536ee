//! What each machine asked, what it was answered and how far it came.
//!
//! Memory is bounded whatever comes in: machines by their number (the longest silent goes first), events a
//! machine likewise. The log gets one line an event, repeats once with their count, and a flood of made-up
//! addresses is summed up instead of written out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::decide::{OfferStyle, Past};
use crate::packet::hardware::HardwareAddress;
use crate::words::script::Given;

/// Most machines that are remembered.
pub const MACHINES_MAX: usize = 4096;

/// Most events that are remembered of a machine.
pub const EVENTS_MAX: usize = 64;

/// Longest text of an event, in characters.
const DETAIL_MAX: usize = 200;

/// Log lines a second; what is beyond is counted.
const LINES_PER_SECOND: u32 = 50;

/// A step on the way from power-on to a running system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It looked for servers and was offered something.
    Offer,
    /// It was not answered.
    Silence,
    /// It asked on port 4011 and was answered.
    BootServer,
    /// It asked for a file's size.
    Probe,
    /// It loaded a file by TFTP.
    Tftp,
    /// A TFTP transfer failed.
    TftpFailed,
    /// It fetched a script.
    Script,
    /// It fetched a file by HTTP.
    Http,
    /// It loads its boot program again and again.
    Loop,
    /// Its offers are not followed; another style is tried.
    Unfollowed,
}

impl Step {
    /// The step in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Silence => "silence",
            Self::BootServer => "boot-server",
            Self::Probe => "probe",
            Self::Tftp => "tftp",
            Self::TftpFailed => "tftp-failed",
            Self::Script => "script",
            Self::Http => "http",
            Self::Loop => "loop",
            Self::Unfollowed => "unfollowed",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it last happened, in seconds since 1970.
    pub at: u64,
    /// What.
    pub step: Step,
    /// Details in words.
    pub detail: String,
    /// How often in a row.
    pub count: u32,
}

/// A machine and its way so far.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Its hardware address.
    pub mac: HardwareAddress,
    /// Its UUID, if it told.
    pub uuid: Option<String>,
    /// Its architecture in words, if it told.
    pub architecture: Option<String>,
    /// Its vendor class, if it told.
    pub vendor: Option<String>,
    /// Its last known address.
    pub address: Option<IpAddr>,
    /// First and last heard of, in seconds since 1970.
    pub seen: (u64, u64),
    /// What happened, oldest first.
    pub events: VecDeque<Event>,
    /// The script that dnsmasq's words give to its iPXE.
    #[serde(skip)]
    script: Given,
    #[serde(skip)]
    past: Past,
    #[serde(skip)]
    round: Option<Round>,
    #[serde(skip)]
    turn: u64,
}

/// The last offer round.
#[derive(Debug, Clone, Copy)]
struct Round {
    transaction: u32,
    style: Option<OfferStyle>,
    is_followed: bool,
}

/// What a machine tells of itself.
#[derive(Debug, Clone, Default)]
pub struct Traits {
    /// UUID.
    pub uuid: Option<String>,
    /// Architecture in words.
    pub architecture: Option<String>,
    /// Vendor class.
    pub vendor: Option<String>,
    /// Address.
    pub address: Option<IpAddr>,
}

#[derive(Debug, Default)]
struct Inner {
    machines: HashMap<HardwareAddress, Machine>,
    /// Machines by when they were last heard of, oldest first.
    order: BTreeMap<u64, HardwareAddress>,
    by_address: HashMap<IpAddr, HardwareAddress>,
    turn: u64,
    log: LogBudget,
}

/// Keeps a flood out of the log.
#[derive(Debug, Default)]
struct LogBudget {
    second: u64,
    written: u32,
    withheld: u64,
}

impl LogBudget {
    /// Tells whether a line may be written now, and how many were withheld before it.
    fn take(&mut self, second: u64) -> Option<u64> {
        let mut withheld = 0;
        if self.second != second {
            withheld = std::mem::take(&mut self.withheld);
            *self = Self {
                second,
                written: 0,
                withheld: 0,
            };
        }
        if self.written >= LINES_PER_SECOND {
            self.withheld += 1;
            return None;
        }
        self.written += 1;
        Some(withheld)
    }
}

/// All machines' timelines.
#[derive(Debug, Default)]
pub struct Timeline {
    inner: Mutex<Inner>,
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

impl Timeline {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What decisions need to know of a machine.
    pub fn past(&self, mac: HardwareAddress) -> Past {
        self.lock()
            .machines
            .get(&mac)
            .map(|machine| machine.past)
            .unwrap_or_default()
    }

    /// The machine behind an address, if it is known.
    pub fn machine_at(&self, address: IpAddr) -> Option<HardwareAddress> {
        self.lock().by_address.get(&address).copied()
    }

    /// All machines, last heard of first.
    pub fn machines(&self) -> Vec<Machine> {
        let inner = self.lock();
        inner
            .order
            .values()
            .rev()
            .filter_map(|mac| inner.machines.get(mac))
            .cloned()
            .collect()
    }

    /// Notes what a machine tells of itself.
    pub fn learn(&self, mac: HardwareAddress, traits: Traits, now: SystemTime) {
        let mut inner = self.lock();
        let machine = inner.machine(mac, now);
        machine.uuid = traits.uuid.or(machine.uuid.take());
        machine.architecture = traits.architecture.or(machine.architecture.take());
        machine.vendor = traits.vendor.or(machine.vendor.take());
        if let Some(address) = traits.address {
            let before = machine.address.replace(address);
            if let Some(before) = before.filter(|before| *before != address) {
                inner.leave(before, mac);
            }
            inner.by_address.insert(address, mac);
        }
    }

    /// Notes an event, and logs it unless it repeats the one before.
    pub fn record(&self, mac: HardwareAddress, step: Step, detail: String, now: SystemTime) {
        let detail = cut(detail);
        let mut inner = self.lock();
        let at = seconds(now);
        let machine = inner.machine(mac, now);
        if let Some(last) = machine
            .events
            .back_mut()
            .filter(|e| e.step == step && e.detail == detail)
        {
            last.count = last.count.saturating_add(1);
            last.at = at;
            return;
        }
        if machine.events.len() >= EVENTS_MAX {
            machine.events.pop_front();
        }
        if let Some(withheld) = inner.log.take(at) {
            if withheld > 0 {
                tracing::warn!(withheld, "log lines of boot events withheld");
            }
            tracing::info!(machine = %mac, step = step.as_str(), "{detail}");
        }
        let machine = inner.machine(mac, now);
        machine.events.push_back(Event {
            at,
            step,
            detail,
            count: 1,
        });
    }

    /// Notes an offer; a new transaction whose forerunner nobody followed is a failed round.
    pub fn offered(
        &self,
        mac: HardwareAddress,
        transaction: u32,
        style: Option<OfferStyle>,
        now: SystemTime,
    ) {
        let mut inner = self.lock();
        let machine = inner.machine(mac, now);
        machine.past.seen = Some(now);
        let round = Round {
            transaction,
            style,
            is_followed: false,
        };
        match machine.round.replace(round) {
            Some(before) if before.transaction == transaction => {
                machine.round = Some(Round {
                    is_followed: before.is_followed,
                    ..round
                });
            }
            Some(before) if !before.is_followed => machine.past.rounds_unfollowed += 1,
            _ => {}
        }
    }

    /// Notes which script dnsmasq's words give to a machine's iPXE.
    pub fn gave(&self, mac: HardwareAddress, script: Given, now: SystemTime) {
        self.lock().machine(mac, now).script = script;
    }

    /// The script that dnsmasq's words give to a machine's iPXE.
    pub fn script(&self, mac: HardwareAddress) -> Given {
        let inner = self.lock();
        let machine = inner.machines.get(&mac);
        machine
            .map(|machine| machine.script.clone())
            .unwrap_or_default()
    }

    /// Notes that a machine followed its offer with a request on port 4011.
    pub fn followed(&self, mac: HardwareAddress, now: SystemTime) {
        self.lock().machine(mac, now).follow();
    }

    /// Notes a load of a boot program, and tells whether that makes a loop of it.
    pub fn loaded(&self, mac: HardwareAddress, now: SystemTime) -> bool {
        let mut inner = self.lock();
        let machine = inner.machine(mac, now);
        machine.prove();
        machine.past.loads_without_script = machine.past.loads_without_script.saturating_add(1);
        machine.past.loads_without_script == crate::decide::past::LOADS_OF_A_LOOP
    }

    /// Notes a script fetch: the boot program runs.
    pub fn scripted(&self, mac: HardwareAddress, now: SystemTime) {
        let mut inner = self.lock();
        let machine = inner.machine(mac, now);
        machine.prove();
        machine.past.loads_without_script = 0;
    }
}

impl Machine {
    fn follow(&mut self) {
        if let Some(round) = &mut self.round {
            round.is_followed = true;
        }
        self.past.rounds_unfollowed = 0;
    }

    /// The style of the last offer led to a file.
    fn prove(&mut self) {
        if let Some(style) = self.round.and_then(|round| round.style) {
            self.past.proven_style = Some(style);
        }
        self.follow();
    }
}

impl Inner {
    /// The machine, made if need be, now the last heard of.
    fn machine(&mut self, mac: HardwareAddress, now: SystemTime) -> &mut Machine {
        self.turn += 1;
        let turn = self.turn;
        if let Some(known) = self.machines.get(&mac) {
            self.order.remove(&known.turn);
        } else if self.machines.len() >= MACHINES_MAX {
            self.forget_oldest();
        }
        self.order.insert(turn, mac);
        let at = seconds(now);
        let machine = self.machines.entry(mac).or_insert_with(|| Machine {
            mac,
            uuid: None,
            architecture: None,
            vendor: None,
            address: None,
            seen: (at, at),
            events: VecDeque::new(),
            script: Given::default(),
            past: Past::default(),
            round: None,
            turn,
        });
        machine.turn = turn;
        machine.seen.1 = at;
        machine
    }

    fn forget_oldest(&mut self) {
        let Some((_, mac)) = self.order.pop_first() else {
            return;
        };
        if let Some(address) = self
            .machines
            .remove(&mac)
            .and_then(|machine| machine.address)
        {
            self.leave(address, mac);
        }
    }

    /// Takes a machine's former address away, unless another machine has it by now.
    fn leave(&mut self, address: IpAddr, mac: HardwareAddress) {
        if self.by_address.get(&address) == Some(&mac) {
            self.by_address.remove(&address);
        }
    }
}

/// Cuts what clients had a say in: their names would fill memory and log otherwise.
pub fn cut(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_MAX) {
        detail.truncate(end);
        detail.push('…');
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn mac(number: u32) -> HardwareAddress {
        let [a, b, c, d] = number.to_be_bytes();
        HardwareAddress::new(&[2, 0, a, b, c, d])
    }

    #[test]
    fn repeats_are_counted_and_events_bounded() {
        let timeline = Timeline::default();
        for _ in 0..3 {
            timeline.record(mac(1), Step::Offer, "file".into(), NOW);
        }
        for number in 0..200 {
            timeline.record(mac(1), Step::Tftp, number.to_string(), NOW);
        }
        let machines = timeline.machines();
        assert_eq!(machines[0].events.len(), EVENTS_MAX);
        timeline.record(mac(2), Step::Offer, "file".into(), NOW);
        timeline.record(mac(2), Step::Offer, "file".into(), NOW);
        assert_eq!(timeline.machines()[0].events[0].count, 2);
    }

    #[test]
    fn a_flood_of_machines_stays_bounded_and_the_last_are_kept() {
        let timeline = Timeline::default();
        for number in 0..20_000_u32 {
            let address = Some(IpAddr::from(number.to_be_bytes()));
            timeline.learn(
                mac(number),
                Traits {
                    address,
                    ..Traits::default()
                },
                NOW,
            );
            timeline.record(mac(number), Step::Offer, "x".into(), NOW);
        }
        let machines = timeline.machines();
        assert_eq!(machines.len(), MACHINES_MAX);
        assert_eq!(machines[0].mac, mac(19_999));
        let inner = timeline.lock();
        assert_eq!(
            (inner.order.len(), inner.by_address.len()),
            (MACHINES_MAX, MACHINES_MAX)
        );
        assert!(inner.log.withheld > 0);
    }

    #[test]
    fn an_address_belongs_to_whom_was_last_heard_of_at_it() {
        let timeline = Timeline::default();
        let at = |number: u32, last: u8| {
            let address = Some(IpAddr::from([10, 0, 0, last]));
            let traits = Traits {
                address,
                ..Traits::default()
            };
            timeline.learn(mac(number), traits, NOW);
        };
        at(1, 5);
        at(2, 5);
        // The first machine's move takes nothing from the second.
        at(1, 6);
        assert_eq!(timeline.machine_at([10, 0, 0, 5].into()), Some(mac(2)));
        assert_eq!(timeline.machine_at([10, 0, 0, 6].into()), Some(mac(1)));
        at(2, 7);
        assert_eq!(timeline.machine_at([10, 0, 0, 5].into()), None);
    }

    #[test]
    fn unfollowed_rounds_count_by_transaction() {
        let timeline = Timeline::default();
        for transaction in [1, 1, 2, 2, 3] {
            timeline.offered(mac(1), transaction, None, NOW);
        }
        assert_eq!(timeline.past(mac(1)).rounds_unfollowed, 2);
        timeline.followed(mac(1), NOW);
        timeline.offered(mac(1), 4, None, NOW);
        assert_eq!(timeline.past(mac(1)).rounds_unfollowed, 0);
    }

    #[test]
    fn a_style_that_led_to_a_file_is_remembered() {
        let timeline = Timeline::default();
        timeline.offered(mac(1), 1, Some(OfferStyle::Direct), NOW);
        timeline.loaded(mac(1), NOW);
        assert_eq!(timeline.past(mac(1)).proven_style, Some(OfferStyle::Direct));
    }

    #[test]
    fn loads_without_a_script_make_a_loop_once() {
        let timeline = Timeline::default();
        let loops: Vec<bool> = (0..5).map(|_| timeline.loaded(mac(1), NOW)).collect();
        assert_eq!(loops, [false, false, true, false, false]);
        timeline.scripted(mac(1), NOW);
        assert!(!timeline.past(mac(1)).is_looping());
    }

    #[test]
    fn what_a_client_had_a_say_in_is_cut() {
        let timeline = Timeline::default();
        let mac: HardwareAddress = "52:54:00:77:00:20".parse().unwrap();
        let long = "é".repeat(5000);
        timeline.record(mac, Step::Http, long, SystemTime::UNIX_EPOCH);
        let machines = timeline.machines();
        let detail = &machines[0].events.back().unwrap().detail;
        assert_eq!(detail.chars().count(), DETAIL_MAX + 1);
        assert_eq!(cut("short".to_owned()), "short");
    }
}
