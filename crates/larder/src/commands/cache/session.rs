//! The line to a cache: a running larder's socket, or the cache opened here where nobody has it.

use std::future::Future;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use larder_admin::{About, Admin, Client, ClientError};
use larder_store::{OpenError, Store};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Settings, Sources};
use crate::output::Failure;
use crate::serve::{cache_directory, place, store_config};

/// Which cache is meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Which {
    /// The unix socket of the running larder that is meant
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The cache directory that is meant [default: the configuration's]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// A line to a cache.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    /// The line itself.
    pub client: Client,
    /// What the configuration says.
    pub settings: Settings,
    /// Where the store was opened here.
    pub stopped: Option<Store>,
    interrupted: Arc<AtomicBool>,
}

impl Which {
    /// The cache directory that is meant.
    pub fn directory(&self, settings: &Settings, sources: &Sources) -> PathBuf {
        self.cache_dir.clone().unwrap_or_else(|| {
            cache_directory(settings.cache.directory.as_deref(), sources.environment())
        })
    }
}

/// What a command does with a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only looks: a stopped cache is not changed, and may be where nothing can be written.
    Look,
    /// It changes it.
    Change,
    /// It fills it: one that is not there is made.
    Fill,
}

impl Session {
    /// Finds the cache that is meant, running or stopped.
    pub fn open(which: &Which, sources: &Sources, access: Access) -> Result<Self, Failure> {
        let settings = sources.load().map_err(Failure::Configuration)?.settings;
        let runtime = runtime()?;
        let directory = which.directory(&settings, sources);
        if let Some(client) = runtime.block_on(running(which, &settings, sources, &directory))? {
            return Ok(Self {
                runtime,
                client,
                settings,
                stopped: None,
                interrupted: Arc::default(),
            });
        }
        let store = open_stopped(&settings, &directory, access)?;
        let about = About {
            version: env!("CARGO_PKG_VERSION"),
            started: SystemTime::now(),
            since: std::time::Instant::now(),
            directory: store.root().to_owned(),
            listeners: Vec::new(),
            machines: None,
        };
        let admin = Admin::stopped(about, store.clone());
        let client = runtime.block_on(Client::within(admin)).map_err(failed)?;
        Ok(Self {
            runtime,
            client,
            settings,
            stopped: Some(store),
            interrupted: Arc::default(),
        })
    }

    /// As [`Session::open`], where only a running larder will do. A configuration that is not good
    /// any more is for that larder to judge: here it only says where the socket may be.
    ///
    /// # Errors
    /// Where no larder is found, a bad configuration is why.
    pub fn of_running(which: &Which, sources: &Sources) -> Result<Self, Failure> {
        let (settings, bad) = match sources.load() {
            Ok(loaded) => (loaded.settings, None),
            Err(problems) => (sources.places(), Some(problems)),
        };
        let runtime = runtime()?;
        let directory = which.directory(&settings, sources);
        let found = runtime.block_on(running(which, &settings, sources, &directory))?;
        if let (None, Some(problems)) = (&found, bad) {
            return Err(Failure::Configuration(problems));
        }
        let client = found.ok_or_else(|| {
            let places = places(which, &settings, sources, &directory);
            let tried: Vec<String> = places
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Failure::step(
                "no larder is running here",
                format!("nobody answers on {}", tried.join(", ")),
            )
        })?;
        Ok(Self {
            runtime,
            client,
            settings,
            stopped: None,
            interrupted: Arc::default(),
        })
    }

    /// The running larder that answers this question, whichever cache it has; `None` where there is none.
    pub fn that_answers(
        path: &str,
        which: &Which,
        sources: &Sources,
    ) -> Result<Option<Self>, Failure> {
        let settings = sources.load().map_err(Failure::Configuration)?.settings;
        let runtime = runtime()?;
        let directory = cache_directory(settings.cache.directory.as_deref(), sources.environment());
        let places = places(which, &settings, sources, &directory);
        let found = runtime.block_on(async {
            for place in places {
                let Ok(client) = Client::connect(&place).await else {
                    continue;
                };
                if client.get(path).await.is_ok() {
                    return Some(client);
                }
            }
            None
        });
        Ok(found.map(|client| Self {
            runtime,
            client,
            settings,
            stopped: None,
            interrupted: Arc::default(),
        }))
    }

    /// From here on SIGINT and SIGTERM are for the command to end in order; a second one ends it.
    pub fn mind_interrupts(&self) -> Result<(), Failure> {
        let _context = self.runtime.enter();
        let listen =
            |kind| signal(kind).map_err(|error| Failure::step("cannot listen for signals", error));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let interrupted = Arc::clone(&self.interrupted);
        self.runtime.spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if interrupted.swap(true, Ordering::Relaxed) {
                    // What it waits for does not come: nothing is left to do in order.
                    let own = rustix::process::getpid();
                    let _ended = rustix::process::kill_process(own, rustix::process::Signal::KILL);
                }
            }
        });
        Ok(())
    }

    /// True once a signal has asked for the end.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Waits for what is asked.
    pub fn wait<T>(&self, asked: impl Future<Output = T>) -> T {
        self.runtime.block_on(asked)
    }

    /// Asks for lines and hands each to `each` until it returns false.
    pub fn lines(
        &self,
        path: &str,
        asked: Option<&Value>,
        each: impl FnMut(Value) -> bool,
    ) -> Result<(), Failure> {
        self.wait(self.client.lines(path, asked, each))
            .map_err(failed)
    }

    /// Asks for one value.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.wait(self.client.get(path)).map_err(failed)
    }

    /// Ends in order: a cache that was opened here is written down.
    pub fn close(self) {
        if let Some(store) = &self.stopped {
            self.runtime.block_on(store.close());
        }
    }
}

fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::step("cannot start the runtime", error))
}

/// What the other side said.
pub fn failed(error: ClientError) -> Failure {
    match error {
        // It understood, and cannot just now.
        ClientError::Refused { status, why } if status.is_server_error() => {
            Failure::step("larder refuses", why)
        }
        ClientError::Refused { why, .. } => Failure::Usage(why),
        error => Failure::step("the cache does not answer", error),
    }
}

fn places(which: &Which, settings: &Settings, sources: &Sources, directory: &Path) -> Vec<PathBuf> {
    if let Some(socket) = &which.socket {
        return vec![socket.clone()];
    }
    let configured = settings.admin.socket.as_ref().filter(|path| *path != "off");
    let mut places: Vec<PathBuf> = configured.map(PathBuf::from).into_iter().collect();
    // Beside another cache's files the store is in a folder of its own.
    for root in [directory.to_owned(), directory.join("larder")] {
        for place in place::sockets(sources.environment(), &root) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
    }
    places
}

/// The running larder that has the cache, if one answers.
async fn running(
    which: &Which,
    settings: &Settings,
    sources: &Sources,
    directory: &Path,
) -> Result<Option<Client>, Failure> {
    for place in places(which, settings, sources, directory) {
        let named = which.socket.is_some();
        let client = match Client::connect(&place).await {
            Ok(client) => client,
            Err(error) if named => {
                let step = format!("nobody answers on {}", place.display());
                return Err(match error {
                    ClientError::Gone(source) => Failure::step(step, source),
                    error => Failure::step(step, error),
                });
            }
            Err(_) => continue,
        };
        if named && which.cache_dir.is_some() && !has_cache(&client, directory).await {
            return Err(Failure::Usage(format!(
                "the larder on {} has another cache than {}: name one of the two",
                place.display(),
                directory.display()
            )));
        }
        if named || has_cache(&client, directory).await {
            return Ok(Some(client));
        }
    }
    Ok(None)
}

/// True if it is this directory that the larder at the other end has open.
async fn has_cache(client: &Client, directory: &Path) -> bool {
    let Ok(status) = client.get("/api/v1/status").await else {
        return false;
    };
    let theirs = status["directory"].as_str().unwrap_or_default();
    let Ok(theirs) = std::fs::canonicalize(theirs) else {
        return false;
    };
    [directory.to_owned(), directory.join("larder")]
        .iter()
        .filter_map(|ours| std::fs::canonicalize(ours).ok())
        .any(|ours| ours == theirs)
}

/// Opens a cache that nobody has open. A directory that is not there is made only to be filled.
fn open_stopped(settings: &Settings, directory: &Path, access: Access) -> Result<Store, Failure> {
    let step = || format!("cannot open the cache in {}", directory.display());
    let owner = match std::fs::metadata(directory) {
        Ok(data) => Some(data.uid()),
        Err(error) if error.kind() == ErrorKind::NotFound && access == Access::Fill => None,
        Err(error) => return Err(Failure::step(step(), error)),
    };
    let failed = |error| match error {
        OpenError::Held { .. } => Failure::step(
            step(),
            "a running larder has it, and answers on no socket that is known here: name its socket with --socket",
        ),
        OpenError::Foreign { path, why } => {
            Failure::step(format!("{} is no larder cache", path.display()), why)
        }
        error => Failure::step(step(), error),
    };
    if access == Access::Look {
        match Store::look(store_config(settings, directory)) {
            // A damaged index is mended by opening it in earnest.
            Err(OpenError::File { .. }) => {}
            looked => return looked.map_err(failed),
        }
    }
    if let Some(owner) = owner.filter(|&owner| owner != 0)
        && rustix::process::geteuid().is_root()
    {
        // What root makes there the owner could not read again.
        let why =
            format!("it belongs to user {owner}: run this as that user (sudo -u '#{owner}' …)");
        return Err(Failure::step(step(), why));
    }
    let config = store_config(settings, directory);
    let opened = match access {
        Access::Fill => Store::open(config),
        Access::Look | Access::Change => Store::open_existing(config),
    };
    opened.map_err(failed)
}
