//! A running larder: the parts are opened in order, wired to each other, and closed in order.
//!
//! Order of opening: access log, store, sockets; what fails first is told, and nothing that was
//! opened before it is left behind. A reload swaps what decides about requests as one value; what
//! belongs to sockets and the store needs a restart, and a reload says so.

pub mod access_log;
pub mod admin;
pub mod boot;
mod machines;
pub mod notify;
pub mod place;
pub mod signals;
pub mod telemetry;

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use larder_admin::Wish;
use larder_proxy::config::{Config, Listener, Upstream};
use larder_proxy::{Handle, Proxy};
use larder_store::Store;
use tokio::time::{Interval, interval};

use crate::config::{Problems, Settings};
use crate::environment::Environment;
use crate::output::{self, Failure};
use access_log::AccessLog;
use boot::Boot;
use notify::Notifier;
use signals::{Event, Signals};
use telemetry::Telemetry;

pub use place::{cache_directory, proxy_name};

/// Reads the settings again, flags of the command line included.
pub type Load<'a> = &'a (dyn Fn() -> Result<Settings, Problems> + Sync);

/// What runs, and what it was started with.
struct Running {
    settings: Settings,
    telemetry: Telemetry,
    log: AccessLog,
    store: Store,
    proxy: Handle,
    boot: Boot,
    door: admin::Door,
    notifier: Notifier,
}

/// Serves until a signal ends it.
pub async fn serve(
    settings: Settings,
    environment: &Environment,
    load: Load<'_>,
) -> Result<ExitCode, Failure> {
    // Listened to before anything is said: whoever reads `listening` may send one.
    let mut signals =
        Signals::listen().map_err(|error| Failure::step("cannot listen for signals", error))?;
    let mut running = Running::start(settings, environment).await?;
    let _pid_file = PidFile::write(running.settings.pid_file.clone())?;
    running.announce();
    running.attend(&mut signals, load).await;
    running.end().await;
    Ok(ExitCode::SUCCESS)
}

impl Running {
    async fn start(settings: Settings, environment: &Environment) -> Result<Self, Failure> {
        let telemetry = Telemetry::start(&settings.log);
        raise_open_files(settings.limits.connections);
        let log = AccessLog::open(&settings.log.access)
            .map_err(|error| Failure::step("cannot start", error))?;
        let directory = cache_directory(settings.cache.directory.as_deref(), environment);
        let store = open_store(&settings, &directory).await?;
        let sockets = match admin::Sockets::bind(&settings.admin, environment, store.root()) {
            Ok(sockets) => sockets,
            Err(failure) => {
                store.close().await;
                return Err(failure);
            }
        };
        let config = Config {
            listeners: settings.listen.iter().map(reachable).collect(),
            name: proxy_name(settings.visible_name.as_deref(), &directory),
            upstream: Upstream {
                never: sockets.address().into_iter().collect(),
                ..settings.upstream.clone()
            },
            limits: settings.limits.clone(),
            policy: settings.policy(),
        };
        let journeys = Arc::default();
        let metrics = admin::metrics(&store, &journeys);
        let recorder = admin::both(boot::recorder(log.recorder(), &journeys), &metrics);
        let started = Proxy::start(config, store.clone(), recorder);
        let proxy = match started {
            Ok(proxy) => proxy,
            Err(error) => {
                store.close().await;
                return Err(Failure::step("cannot start", error));
            }
        };
        let boot = match Boot::start(&settings, proxy.addresses(), journeys).await {
            Ok(boot) => boot,
            Err(failure) => {
                drop(proxy);
                store.close().await;
                return Err(failure);
            }
        };
        let door = sockets.open(
            &settings.admin,
            &store,
            metrics,
            proxy.addresses(),
            boot.journeys(),
        );
        let notifier = Notifier::new(environment);
        Ok(Self {
            settings,
            telemetry,
            log,
            store,
            proxy,
            boot,
            door,
            notifier,
        })
    }

    /// One line for each socket, whatever the log's format: scripts wait for them.
    fn announce(&self) {
        for notice in self.boot.notices() {
            output::notice(&format!("note: {notice}\n"));
        }
        let sockets = self.proxy.addresses().iter();
        for (mode, address) in sockets.chain(self.boot.addresses()) {
            output::notice(&format!("listening mode={mode} address={address}\n"));
        }
        for at in self.door.places() {
            output::notice(&format!("listening mode=admin address={at}\n"));
        }
        self.notifier.ready("serving");
    }

    /// Does what signals ask for until one asks for the end.
    async fn attend(&mut self, signals: &mut Signals, load: Load<'_>) {
        let mut watchdog = self.notifier.watchdog_period().map(interval);
        loop {
            let event = tokio::select! {
                event = signals.next() => event,
                Wish::Reload(tell) = self.door.wish() => {
                    // Who asked may have gone.
                    let _unheard = tell.send(self.reload(load));
                    continue;
                }
                () = tick(watchdog.as_mut()) => {
                    self.notifier.alive();
                    continue;
                }
            };
            match event {
                // Said in the log.
                Event::Reload => drop(self.reload(load)),
                Event::ReopenLogs => self.log.reopen(),
                Event::Drain => {
                    self.notifier.stopping();
                    tracing::info!("draining");
                    let drain = self.settings.limits.drain;
                    tokio::select! {
                        _ended = async {
                            tokio::join!(self.proxy.shutdown(drain), self.boot.stop())
                        } => {}
                        () = signals.impatience() => {}
                    }
                    return;
                }
                Event::End => {
                    self.notifier.stopping();
                    return;
                }
            }
        }
    }

    /// Requests that come from now on are judged by the new configuration; returns what needs a
    /// restart. A bad one changes nothing, and is the error.
    fn reload(&mut self, load: Load<'_>) -> Result<Vec<&'static str>, String> {
        self.notifier.reloading();
        let reloaded = match load() {
            Ok(settings) => {
                self.proxy.reload(settings.policy());
                self.telemetry.set_level(&settings.log);
                let restart = needs_restart(&self.settings, &settings);
                for what in &restart {
                    tracing::warn!("{what} changed: this needs a restart");
                }
                self.settings.log = settings.log;
                tracing::info!("configuration reloaded");
                Ok(restart)
            }
            Err(problems) => {
                output::notice(&problems.render(output::stderr_is_terminal()));
                tracing::error!(
                    "the configuration is not good and was not loaded: nothing changed"
                );
                Err(problems.render(false))
            }
        };
        self.notifier.ready("serving");
        reloaded
    }

    /// Everything that is held is written down; then the log, so that its last lines are there.
    async fn end(self) {
        drop(self.boot);
        // Records of what is under way are written before the log ends.
        self.proxy.end().await;
        drop(self.door);
        self.store.close().await;
        let log = self.log;
        // The writer's last write may wait for a disk; nobody else is left to wait for this thread.
        drop(log);
        tracing::info!("ended");
    }
}

async fn tick(watchdog: Option<&mut Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}

async fn open_store(settings: &Settings, directory: &Path) -> Result<Store, Failure> {
    let config = store_config(settings, directory);
    let opened = tokio::task::spawn_blocking(move || Store::open_or_less(config)).await;
    let store = opened
        .map_err(|error| Failure::step("the cache could not be opened", error))?
        .map_err(|error| Failure::step("cannot start", error))?;
    let snapshot = store.snapshot();
    if let Some(why) = snapshot.read_only {
        let objects = snapshot.objects;
        tracing::error!(
            why = &*why,
            objects,
            "nothing is stored: serving without a cache that can be written"
        );
    }
    Ok(store)
}

/// What the operator decided about the store.
pub fn store_config(settings: &Settings, directory: &Path) -> larder_store::Config {
    larder_store::Config {
        directory: directory.to_owned(),
        size_max: settings.cache.size_max,
        memory_max: settings.cache.memory_max,
        replacement: settings.cache.replacement,
        durability: settings.cache.durability,
        verify: settings.cache.verify,
        scrub: settings.cache.scrub,
        admission: settings.cache.admission,
    }
}

/// Takes as many open files as the system allows; says so where they do not suffice for the
/// connections that the limits allow.
fn raise_open_files(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // A tunnel or a miss takes two.
    if most < 2 * connections as u64 {
        tracing::info!(
            open_files = most,
            connections,
            "fewer files than connections may need: raise LimitNOFILE= or `ulimit -n`"
        );
    }
}

/// The IPv6 wildcard becomes the IPv4 one on a host without IPv6.
fn reachable(listener: &Listener) -> Listener {
    let mut listener = listener.clone();
    let wildcard = listener.address.is_ipv6() && listener.address.ip().is_unspecified();
    if wildcard && TcpListener::bind("[::]:0").is_err() {
        tracing::info!(
            port = listener.address.port(),
            "this host has no IPv6: listening on IPv4"
        );
        let port = listener.address.port();
        listener.address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    }
    listener
}

/// What a reload cannot change.
fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let differ = |old: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
        format!("{old:?}") != format!("{new:?}")
    };
    let parts: [(&'static str, bool); 9] = [
        ("the cache", differ(&old.cache, &new.cache)),
        ("a listener", differ(&old.listen, &new.listen)),
        ("an upstream bound", differ(&old.upstream, &new.upstream)),
        ("a limit", differ(&old.limits, &new.limits)),
        ("an administrators' socket", differ(&old.admin, &new.admin)),
        ("the access log", differ(&old.log.access, &new.log.access)),
        (
            "the name in Via",
            differ(&old.visible_name, &new.visible_name),
        ),
        ("[boot]", differ(&old.boot, &new.boot)),
        ("[provision]", differ(&old.provision, &new.provision)),
    ];
    parts
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(what, _)| what)
        .collect()
}

/// A file with the process's number, for as long as the process runs.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(path: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(path) = &path {
            std::fs::write(path, format!("{}\n", std::process::id())).map_err(|error| {
                Failure::step(
                    format!("cannot write the pid file {}", path.display()),
                    error,
                )
            })?;
        }
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may be in a folder that only root can change: then the next start overwrites it.
            let _left_behind = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_change_is_told() {
        let old = Settings::default();
        assert!(needs_restart(&old, &Settings::default()).is_empty());
        let mut new = Settings::default();
        new.cache.size_max = 1;
        new.offline = true;
        assert_eq!(needs_restart(&old, &new), ["the cache"]);
    }
}
