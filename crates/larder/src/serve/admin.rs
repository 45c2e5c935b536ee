//! The administrators' doors: a TCP address and a unix socket, opened and closed with the rest.
//!
//! One that was asked for and cannot be had ends the start; a default one that is taken (by another
//! larder on this host) is a warning.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use larder_admin::{About, Admin, Metrics, Wish, serve_tcp, serve_unix};
use larder_proxy::record::{Record, Recorder};
use larder_store::Store;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::boot::Journeys;
use super::machines::Known;
use super::place;
use crate::config::settings;
use crate::environment::Environment;
use crate::output::Failure;

/// The word that means none.
const OFF: &str = "off";
/// Wishes that wait; who wishes waits then.
const WISHES_MAX: usize = 4;

/// The metrics of this run.
pub fn metrics(store: &Store, journeys: &Arc<Journeys>) -> Arc<Metrics> {
    let metrics = Metrics::new(env!("CARGO_PKG_VERSION"), store.clone());
    metrics.machines(Arc::new(Known(Arc::clone(journeys))));
    Arc::new(metrics)
}

/// Records for the access log and for the metrics.
#[derive(Debug)]
struct Both(Arc<dyn Recorder>, Arc<Metrics>);

impl Recorder for Both {
    fn record(&self, record: &Record) {
        self.0.record(record);
        self.1.record(record);
    }
}

/// A recorder that tells both.
pub fn both(log: Arc<dyn Recorder>, metrics: &Arc<Metrics>) -> Arc<dyn Recorder> {
    Arc::new(Both(log, Arc::clone(metrics)))
}

/// Sockets that are bound and not yet answered on.
#[derive(Debug, Default)]
pub struct Sockets {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, PathBuf)>,
}

impl Sockets {
    /// Binds what the settings say. `root`: the store's folder, the last of the default places.
    pub fn bind(
        wanted: &settings::Admin,
        environment: &Environment,
        root: &Path,
    ) -> Result<Self, Failure> {
        let mut sockets = Self::default();
        if let Some(address) = wanted.address {
            let by_default = settings::Admin::default().address == Some(address);
            match bind_tcp(address) {
                Ok(listener) => sockets.tcp = Some(listener),
                Err(error) if by_default && !wanted.address_required => {
                    tracing::warn!(%address, %error, "no administrators' address");
                }
                Err(error) => {
                    return Err(Failure::step(format!("cannot listen on {address}"), error));
                }
            }
        }
        sockets.unix = match wanted.socket.as_deref() {
            Some(OFF) => None,
            Some(path) => {
                let bound = bind_unix(Path::new(path));
                let failed = |error| Failure::step(format!("cannot listen on {path}"), error);
                Some((bound.map_err(failed)?, PathBuf::from(path)))
            }
            None => bind_first(&place::sockets(environment, root)),
        };
        Ok(sockets)
    }

    /// The TCP address that was bound.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref()?.local_addr().ok()
    }

    /// Answers from now on. Called within a Tokio runtime.
    pub fn open(
        self,
        wanted: &settings::Admin,
        store: &Store,
        metrics: Arc<Metrics>,
        listeners: &[(&'static str, SocketAddr)],
        journeys: &Arc<Journeys>,
    ) -> Door {
        let (wish, wishes) = mpsc::channel(WISHES_MAX);
        let about = About {
            version: env!("CARGO_PKG_VERSION"),
            started: SystemTime::now(),
            since: std::time::Instant::now(),
            directory: store.root().to_owned(),
            listeners: listeners
                .iter()
                .map(|(mode, address)| ((*mode).to_owned(), *address))
                .collect(),
            machines: Some(Arc::new(Known(Arc::clone(journeys)))),
        };
        let token = wanted.token.clone();
        let admin = Admin::running(about, store.clone(), metrics, wish, token);
        let mut door = Door {
            wishes,
            tasks: JoinSet::new(),
            places: Vec::new(),
            file: None,
        };
        if let Some(listener) = self.tcp {
            door.open_tcp(listener, &admin);
        }
        if let Some((listener, path)) = self.unix {
            door.open_unix(listener, path, &admin);
        }
        door
    }
}

/// The doors, open until this is dropped.
#[derive(Debug)]
pub struct Door {
    wishes: mpsc::Receiver<Wish>,
    tasks: JoinSet<()>,
    places: Vec<String>,
    /// The unix socket's file.
    file: Option<PathBuf>,
}

impl Door {
    fn open_tcp(&mut self, listener: TcpListener, admin: &Arc<Admin>) {
        let address = listener.local_addr();
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::TcpListener::from_std(listener));
        match (listener, address) {
            (Ok(listener), Ok(address)) => {
                self.places.push(address.to_string());
                self.tasks.spawn(serve_tcp(Arc::clone(admin), listener));
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "no administrators' address");
            }
        }
    }

    fn open_unix(&mut self, listener: UnixListener, path: PathBuf, admin: &Arc<Admin>) {
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(listener));
        match listener {
            Ok(listener) => {
                self.places.push(format!("unix:{}", path.display()));
                self.tasks.spawn(serve_unix(Arc::clone(admin), listener));
                self.file = Some(path);
            }
            Err(error) => tracing::warn!(%error, "no administrators' socket"),
        }
    }

    /// Where the doors are.
    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// Waits for a wish; forever, where there is no door. Cancel safe.
    pub async fn wish(&mut self) -> Wish {
        match self.wishes.recv().await {
            Some(wish) => wish,
            None => pending().await,
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Left behind, it is found to be nobody's at the next start.
            let _left_behind = std::fs::remove_file(file);
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
}

/// Who connects is trusted: its owner and its group.
const SOCKET_MODE: u32 = 0o660;

/// Binds a path; a socket there that nobody answers on any more makes way. Nothing else does: a
/// file refuses connections just as a dead socket.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
            match UnixStream::connect(path) {
                Err(refused) if is_socket && refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                _ => return Err(error),
            }
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(bound)
}

/// Binds the first of the default places that can be had.
fn bind_first(places: &[PathBuf]) -> Option<(UnixListener, PathBuf)> {
    for path in places {
        if let Some(folder) = path.parent() {
            // Where it cannot be made the binding tells why.
            let _there = std::fs::create_dir(folder);
        }
        match bind_unix(path) {
            Ok(listener) => return Some((listener, path.clone())),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let path = path.display();
                tracing::warn!(%path, "another larder answers on this socket: trying elsewhere");
            }
            Err(error) => tracing::debug!(path = %path.display(), %error, "no socket here"),
        }
    }
    tracing::warn!("no administrators' socket: none of the default places can be had");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_sockets_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious.toml");
        std::fs::write(&path, "kept").unwrap();
        let error = bind_unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }

    #[test]
    fn a_socket_is_for_its_owner_and_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _held = bind_unix(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
    }

    #[test]
    fn a_socket_that_nobody_answers_on_makes_way_and_one_in_use_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let held = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(held);
        assert!(path.exists(), "the file outlives its socket");
        assert!(bind_unix(&path).is_ok());
    }

    #[test]
    fn of_the_default_places_the_first_free_one_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let places = ["none/deeper/s", "made/s", "t"].map(|name| folder.path().join(name));
        let (_held, path) = bind_first(&places).unwrap();
        assert_eq!(path, places[1]);
        let (_other, path) = bind_first(&places).unwrap();
        assert_eq!(path, places[2]);
    }

    #[test]
    fn a_default_address_that_is_taken_is_a_warning_and_one_that_was_asked_for_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let environment = Environment::default();
        let by_default = settings::Admin {
            socket: Some("off".to_owned()),
            ..settings::Admin::default()
        };
        // Taken by this test, or by somebody else on this machine.
        let _taken = TcpListener::bind(by_default.address.unwrap());
        let sockets = Sockets::bind(&by_default, &environment, folder.path()).unwrap();
        assert_eq!(sockets.address(), None);
        let required = settings::Admin {
            address_required: true,
            ..by_default
        };
        assert!(Sockets::bind(&required, &environment, folder.path()).is_err());
        let wanted = settings::Admin {
            address: Some(taken.local_addr().unwrap()),
            socket: Some("off".to_owned()),
            ..settings::Admin::default()
        };
        assert!(Sockets::bind(&wanted, &environment, folder.path()).is_err());
        let wanted = settings::Admin {
            socket: Some(folder.path().join("none/s").display().to_string()),
            address: None,
            ..wanted
        };
        assert!(Sockets::bind(&wanted, &environment, folder.path()).is_err());
    }
}
