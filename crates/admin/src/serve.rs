//! Who may ask what, and the connections that ask.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HOST};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::Admin;
use crate::routes::{self, Answer};

/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// A head has to arrive within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no free descriptor): as long as the next try waits.
const RETRY: Duration = Duration::from_millis(200);

/// What a door lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everything: whoever can open the unix socket, or is this process.
    Full,
    /// Loopback over TCP: any user of this host, or a web page that a browser on it shows. Reading
    /// is allowed to requests that name this host; changing needs the token.
    Loopback,
    /// From elsewhere: everything but health needs the token.
    Distant,
}

impl Trust {
    fn of(client: IpAddr) -> Self {
        if client.to_canonical().is_loopback() {
            Self::Loopback
        } else {
            Self::Distant
        }
    }

    /// Why a request is refused, if it is.
    fn refusal(
        self,
        admin: &Admin,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Answer> {
        if self == Self::Full || has_token(admin, headers) {
            return None;
        }
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let health = matches!(path, "/healthz" | "/readyz");
        let allowed = match self {
            Self::Full => true,
            Self::Loopback => reads && names_this_host(headers),
            Self::Distant => reads && health,
        };
        (!allowed).then(|| {
            let (status, what) = match &admin.token {
                Some(_) => (
                    StatusCode::UNAUTHORIZED,
                    "this needs `Authorization: Bearer TOKEN`",
                ),
                None => (
                    StatusCode::FORBIDDEN,
                    "this needs the unix socket, or a token (admin.token in larder.toml)",
                ),
            };
            routes::refused(status, what)
        })
    }
}

fn has_token(admin: &Admin, headers: &HeaderMap) -> bool {
    let Some(token) = &admin.token else {
        return false;
    };
    let shown = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let shown = shown.and_then(|value| value.strip_prefix(b"Bearer "));
    shown.is_some_and(|shown| are_equal(shown, token.as_bytes()))
}

/// Compares in a time that does not tell where two texts differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && differences == 0
}

/// A page of another site that has its own name point at this host says that name in Host.
fn names_this_host(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return false;
    };
    let name = host.host().trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// Answers on a TCP listener until the future is dropped.
pub async fn serve_tcp(admin: Arc<Admin>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let accepted: io::Result<(_, SocketAddr)> = listener.accept().await;
        match accepted {
            Ok((stream, client)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    connection(admin, stream, Trust::of(client.ip())).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Answers on a unix socket until the future is dropped. Its file's mode says who may connect.
pub async fn serve_unix(admin: Arc<Admin>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    connection(admin, stream, Trust::Full).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

pub(crate) async fn connection<S>(admin: Arc<Admin>, stream: S, trust: Trust)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(admin, request, trust).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "administrator's connection ended");
    }
}

async fn answer(
    admin: Arc<Admin>,
    request: Request<Incoming>,
    trust: Trust,
) -> Response<routes::Body> {
    let path = request.uri().path();
    if let Some(refused) = trust.refusal(&admin, request.method(), path, request.headers()) {
        return refused;
    }
    routes::answer(admin, request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_sites_name_for_this_host_is_not_taken_for_this_host() {
        let of = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a value"));
            names_this_host(&headers)
        };
        for good in ["localhost:3180", "127.0.0.1:3180", "[::1]:3180", "10.0.0.7"] {
            assert!(of(good), "{good}");
        }
        for bad in ["evil.example:3180", "localhost.evil.example", ""] {
            assert!(!of(bad), "{bad}");
        }
        assert!(!names_this_host(&HeaderMap::new()));
    }

    fn admin(folder: &std::path::Path, token: Option<&str>) -> Arc<Admin> {
        let store = larder_store::Store::open(larder_store::Config::new(folder)).expect("opens");
        let about = crate::About {
            version: "0",
            started: std::time::SystemTime::now(),
            since: std::time::Instant::now(),
            directory: folder.to_owned(),
            listeners: Vec::new(),
            machines: None,
        };
        let mut admin = Admin::stopped(about, store);
        Arc::get_mut(&mut admin).expect("nobody else has it").token = token.map(str::to_owned);
        admin
    }

    /// What a door answers to a request, by its head alone: hyper reads it, a client's bytes go in.
    async fn status(admin: &Arc<Admin>, trust: Trust, head: &str) -> u16 {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut here, there) = tokio::io::duplex(64 << 10);
        let served = tokio::spawn(connection(Arc::clone(admin), there, trust));
        let request = format!("{head}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
        here.write_all(request.as_bytes()).await.expect("taken");
        let mut answer = Vec::new();
        here.read_to_end(&mut answer).await.expect("an end");
        served.await.expect("ends");
        let text = String::from_utf8_lossy(&answer);
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("{text}"))
    }

    const HERE: &str = "Host: 127.0.0.1:3180";
    const ELSEWHERE: &str = "Host: evil.example:3180";
    const TOKEN: &str = "Authorization: Bearer secret";
    const WRONG: &str = "Authorization: Bearer secreT";

    #[tokio::test]
    async fn who_may_do_what_depends_on_the_door_the_token_and_the_name() {
        use Trust::{Distant, Full, Loopback};
        let folder = tempfile::tempdir().expect("a folder");
        let admin = admin(folder.path(), Some("secret"));
        let (health, read, change) = ("GET /healthz", "GET /api/v1/status", "POST /api/v1/purge");
        // 400: it was let through, and says that nothing is asked for.
        for (trust, what, fields, wanted) in [
            (Full, change, HERE, 400),
            (Full, read, ELSEWHERE, 200),
            (Loopback, health, HERE, 200),
            (Loopback, read, HERE, 200),
            (Loopback, read, ELSEWHERE, 401),
            (Loopback, "HEAD /healthz", HERE, 200),
            (Loopback, change, HERE, 401),
            (Distant, health, ELSEWHERE, 200),
            (Distant, "HEAD /readyz", HERE, 200),
            (Distant, "POST /healthz", HERE, 401),
            (Distant, read, HERE, 401),
            (Distant, "GET /metrics", HERE, 401),
            (Distant, change, HERE, 401),
        ] {
            let line = format!("{what} HTTP/1.1\r\n{fields}");
            assert_eq!(
                status(&admin, trust, &line).await,
                wanted,
                "{trust:?} {line}"
            );
            if trust != Full {
                let wrong = format!("{line}\r\n{WRONG}");
                assert_eq!(
                    status(&admin, trust, &wrong).await,
                    wanted,
                    "{trust:?} {wrong}"
                );
            }
        }
        for trust in [Loopback, Distant] {
            let line = format!("{read} HTTP/1.1\r\n{ELSEWHERE}\r\n{TOKEN}");
            assert_eq!(status(&admin, trust, &line).await, 200);
            let line = format!("{change} HTTP/1.1\r\n{HERE}\r\n{TOKEN}");
            assert_eq!(status(&admin, trust, &line).await, 400);
        }
    }

    #[tokio::test]
    async fn without_a_token_nobody_changes_anything_over_tcp() {
        let folder = tempfile::tempdir().expect("a folder");
        let admin = admin(folder.path(), None);
        for trust in [Trust::Loopback, Trust::Distant] {
            let line = format!("POST /api/v1/purge HTTP/1.1\r\n{HERE}\r\nAuthorization: Bearer ");
            assert_eq!(status(&admin, trust, &line).await, 403, "{trust:?}");
        }
        let line = format!("GET /api/v1/status HTTP/1.1\r\n{HERE}");
        assert_eq!(status(&admin, Trust::Distant, &line).await, 403);
        assert_eq!(status(&admin, Trust::Loopback, &line).await, 200);
    }

    #[test]
    fn a_client_is_judged_by_its_address() {
        for (address, trust) in [
            ("127.0.0.9", Trust::Loopback),
            ("::1", Trust::Loopback),
            ("::ffff:127.0.0.1", Trust::Loopback),
            ("10.0.0.1", Trust::Distant),
            ("::ffff:10.0.0.1", Trust::Distant),
        ] {
            assert_eq!(
                Trust::of(address.parse().expect("an address")),
                trust,
                "{address}"
            );
        }
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(are_equal(b"secret", b"secret"));
        for other in [&b"secre"[..], b"secretx", b"Secret", b""] {
            assert!(!are_equal(other, b"secret"));
        }
    }
}
