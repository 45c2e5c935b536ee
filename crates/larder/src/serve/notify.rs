//! Tells the service manager how things stand (systemd's `sd_notify` protocol): datagrams of
//! `KEY=VALUE` lines to the socket that `$NOTIFY_SOCKET` names.
//!
//! Without that variable, or where the socket is gone, nothing is sent and nothing fails: the
//! service manager's interest is its own affair.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::environment::Environment;

/// The service manager's ear.
#[derive(Debug, Default)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Finds the service manager, if there is one.
    pub fn new(environment: &Environment) -> Self {
        let own_watch = environment
            .text("WATCHDOG_PID")
            .is_none_or(|pid| pid == std::process::id().to_string());
        Self {
            manager: environment.text("NOTIFY_SOCKET").and_then(connect),
            watchdog: environment
                .text("WATCHDOG_USEC")
                .filter(|_| own_watch)
                .and_then(|usec| usec.parse().ok())
                .map(Duration::from_micros),
        }
    }

    /// How often [`Notifier::alive`] is wanted: twice in the manager's period.
    pub fn watchdog_period(&self) -> Option<Duration> {
        self.watchdog
            .filter(|_| self.manager.is_some())
            .map(|period| period / 2)
    }

    /// All sockets accept.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; [`Notifier::ready`] follows.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// Still there.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, manager)) = &self.manager {
            let _unheard = socket.send_to_addr(text.as_bytes(), manager);
        }
    }
}

/// A path, or `@name` in the abstract namespace.
fn connect(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let manager = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, manager))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(buffer.get(..length).unwrap()).into_owned()
    }

    #[test]
    fn the_manager_hears_ready_reloading_and_stopping() {
        let name = format!("larder-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let environment = Environment::of_pairs([
            ("NOTIFY_SOCKET", &format!("@{name}")),
            ("WATCHDOG_USEC", "4000000"),
        ]);
        let notifier = Notifier::new(&environment);
        notifier.ready("serving");
        assert_eq!(heard(&manager), "READY=1\nSTATUS=serving");
        notifier.reloading();
        assert!(heard(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notifier.stopping();
        assert!(heard(&manager).starts_with("STOPPING=1"));
        assert_eq!(notifier.watchdog_period(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_no_watchdog_runs() {
        let notifier = Notifier::new(&Environment::of_pairs([("WATCHDOG_USEC", "4000000")]));
        notifier.ready("serving");
        assert_eq!(notifier.watchdog_period(), None);
    }

    #[test]
    fn a_watchdog_meant_for_another_process_is_not_served() {
        let environment = Environment::of_pairs([
            ("NOTIFY_SOCKET", "@nobody-listens-here"),
            ("WATCHDOG_USEC", "4000000"),
            ("WATCHDOG_PID", "1"),
        ]);
        assert_eq!(Notifier::new(&environment).watchdog_period(), None);
    }
}
