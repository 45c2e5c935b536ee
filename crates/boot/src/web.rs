//! The boot part over HTTP: iPXE's scripts, and the files of HTTP boot.
//!
//! [`Web::answer`] answers what it knows and nothing else, so that one listener can serve the boot and the
//! provisioning part. UEFI firmware sends its `Host` without the port, so links are made from larder's own
//! address and never from that header.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, IF_RANGE, RANGE,
};
use http::{Method, Response, StatusCode, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::disk::Lane;
use crate::packet::hardware::HardwareAddress;
use crate::range::{self, Wanted};
use crate::serve::core::{Core, Counts};
use crate::serve::shares::Shares;
use crate::serve::supervise::Complaint;
use crate::stall::Patient;
use crate::tftp::files::{self, Content, NoFile};
use crate::timeline::{Machine, Step, Traits};

/// Bytes that are read from a file at once.
const CHUNK: usize = 64 * 1024;

/// Connections at once on larder's own listener.
const CONNECTIONS_MAX: usize = 4096;

/// Time to send a request's head in.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which a client must take some of its answer.
const STALL_MAX: Duration = Duration::from_mins(2);

/// A response's body.
pub type WebBody = BoxBody<Bytes, io::Error>;

/// A response that may wait for a file.
pub type Answering = Pin<Box<dyn Future<Output = Response<WebBody>> + Send>>;

/// Answers HTTP requests of booting machines.
#[derive(Debug)]
pub struct Web {
    core: Arc<Core>,
}

impl Web {
    /// Answers from what all sockets share.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Answers a request, or says with none that the path is not the boot part's: `/boot.ipxe`,
    /// `/menu.ipxe`, `/autoexec.ipxe`, `/m`, `/boot/NAME` and, for this host alone, `/machines.json`.
    pub fn answer(self: &Arc<Self>, request: &request::Parts, client: IpAddr) -> Option<Answering> {
        let path = request.uri.path();
        let is_machines = path == "/machines.json" && client.to_canonical().is_loopback();
        let name = path.strip_prefix('/')?;
        let script = match name.strip_suffix(".0").unwrap_or(name) {
            "m" => Some("boot.ipxe"),
            script @ ("boot.ipxe" | "menu.ipxe" | "autoexec.ipxe") => Some(script),
            _ => None,
        };
        let file = name.strip_prefix("boot/").filter(|file| !file.is_empty());
        if script.is_none() && file.is_none() && !is_machines {
            return None;
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return Some(at_once(refusal()));
        }
        let client = client.to_canonical();
        match (script, file) {
            (Some(script), _) => {
                let query = request.uri.query().unwrap_or_default();
                self.script(script, query, client).map(at_once)
            }
            (None, Some(file)) => {
                let (web, file, request) = (Arc::clone(self), file.to_owned(), request.clone());
                Some(Box::pin(
                    async move { web.file(&file, client, &request).await },
                ))
            }
            (None, None) => Some(at_once(self.machines())),
        }
    }

    fn script(&self, name: &str, query: &str, client: IpAddr) -> Option<Response<WebBody>> {
        let machine = self.asking(query, client);
        let text = self.core.generated(name, machine, client)?;
        self.saw_script(name, query, client);
        Some(text_response(StatusCode::OK, text))
    }

    /// The machine that a script is for: as its URL says, else by its address.
    fn asking(&self, query: &str, client: IpAddr) -> Option<HardwareAddress> {
        let told = label(query, "mac").and_then(|mac| mac.parse().ok());
        told.or_else(|| self.core.machine_at(client))
    }

    /// Notes that a machine got a script, by whoever answers for it on a shared listener: that its
    /// boot program works.
    pub fn saw_script(&self, name: &str, query: &str, client: IpAddr) {
        let client = client.to_canonical();
        let now = SystemTime::now();
        let machine = self.asking(query, client);
        if let Some(machine) = machine {
            let uuid = label(query, "uuid")
                .filter(|uuid| uuid.len() == 36)
                .map(str::to_owned);
            self.core.timeline.learn(
                machine,
                Traits {
                    uuid,
                    ..Traits::default()
                },
                now,
            );
            self.core.timeline.scripted(machine, now);
        }
        self.core
            .tell(machine, client, Step::Script, name.to_owned(), now);
    }

    /// The machines that were heard of, last heard of first.
    pub fn known_machines(&self) -> Vec<Machine> {
        self.core.timeline.machines()
    }

    /// How often each kind of reply was given, each reason for silence held, and each way a
    /// transfer ended.
    pub fn counts(&self) -> [Counts; 3] {
        let counts = self.core.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The machine that was last heard of from an address, if one was. Asks the timelines alone,
    /// so that every request of a busy proxy may ask.
    pub fn machine_at(&self, client: IpAddr) -> Option<HardwareAddress> {
        self.core.timeline.machine_at(client.to_canonical())
    }

    async fn file(
        &self,
        name: &str,
        client: IpAddr,
        request: &request::Parts,
    ) -> Response<WebBody> {
        let found = self.find(name, client).await;
        let now = SystemTime::now();
        let told = found.as_ref().ok().and_then(|(name, _)| name.machine);
        let machine = told.or_else(|| self.core.machine_at(client));
        match found {
            Ok((name, (content, lane))) => {
                let wanted = asked_range(request, content.length());
                if request.method != Method::HEAD {
                    let detail = format!("{} ({} bytes)", name.path, content.length());
                    self.core.tell(machine, client, Step::Http, detail, now);
                }
                if request.method != Method::HEAD && wanted == Wanted::Whole {
                    self.core.loaded(machine, &name.path, now);
                }
                let is_head = request.method == Method::HEAD;
                file_response(&name.path, (content, lane), wanted, is_head)
            }
            Err(reason) => {
                let status = match reason {
                    NoFile::Missing | NoFile::NotAFile => StatusCode::NOT_FOUND,
                    NoFile::NotAllowed | NoFile::LinkOut { .. } | NoFile::Private => {
                        StatusCode::FORBIDDEN
                    }
                    NoFile::Unreadable(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                let detail = format!("{}: {reason}", name.escape_debug());
                self.core.tell(machine, client, Step::Http, detail, now);
                text_response(
                    status,
                    format!("{}\n", status.canonical_reason().unwrap_or_default()),
                )
            }
        }
    }

    /// The file that a client means by a path.
    async fn find(
        &self,
        path: &str,
        client: IpAddr,
    ) -> Result<(files::Name, (Content, Lane)), NoFile> {
        let name = files::clean(&decoded(path)?)?;
        let machine = name.machine.or_else(|| self.core.machine_at(client));
        let own = self.core.own_folder(machine, client);
        let near = self.core.links.near(client);
        let content = self.core.find(client, near.as_ref(), own, &name).await?;
        Ok((name, content))
    }

    fn machines(&self) -> Response<WebBody> {
        match serde_json::to_string(&self.core.timeline.machines()) {
            Ok(json) => {
                let mut response = text_response(StatusCode::OK, json);
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => text_response(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// A label of a query, undecoded; hardware addresses and UUIDs need no escapes.
fn label<'q>(query: &'q str, wanted: &str) -> Option<&'q str> {
    let mut labels = query.split('&').filter_map(|label| label.split_once('='));
    labels
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

/// Undoes percent-encoding.
fn decoded(path: &str) -> Result<Vec<u8>, NoFile> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()]
            .map(|digit| digit.map(char::from).and_then(|d| d.to_digit(16)));
        match digits {
            [Some(high), Some(low)] => bytes.push((high * 16 + low) as u8),
            _ => return Err(NoFile::NotAllowed),
        }
    }
    Ok(bytes)
}

fn at_once(response: Response<WebBody>) -> Answering {
    Box::pin(std::future::ready(response))
}

fn refusal() -> Response<WebBody> {
    let mut response = text_response(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".into());
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text_response(status: StatusCode, text: String) -> Response<WebBody> {
    let body = Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The range that a GET asks for. No validator is ever sent, so that an `If-Range` never holds (RFC 9110
/// §13.1.5).
fn asked_range(request: &request::Parts, length: u64) -> Wanted {
    let is_conditional = request.headers.contains_key(IF_RANGE);
    let field = request.headers.get(RANGE);
    let field = field.filter(|_| request.method == Method::GET && !is_conditional);
    range::wanted(field.map(HeaderValue::as_bytes), length)
}

fn file_response(
    name: &str,
    (content, lane): (Content, Lane),
    wanted: Wanted,
    is_head: bool,
) -> Response<WebBody> {
    let whole = content.length();
    let (status, offset, length, told) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0, whole, None),
        Wanted::Part(first, count) => {
            let told = format!("bytes {first}-{}/{whole}", first + count - 1);
            (StatusCode::PARTIAL_CONTENT, first, count, Some(told))
        }
        Wanted::Beyond => {
            let told = format!("bytes */{whole}");
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0, Some(told))
        }
    };
    let body = FileBody {
        content: Arc::new(content),
        lane,
        offset,
        // To HEAD the length is told, and nothing is sent.
        end: if is_head { offset } else { offset + length },
        reading: None,
    };
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(told) = told.and_then(|told| HeaderValue::try_from(told).ok()) {
        headers.insert(CONTENT_RANGE, told);
    }
    // UEFI takes a boot program by this type, or by its name's end.
    let kind = match name
        .rsplit_once('.')
        .map(|(_, end)| end.to_ascii_lowercase())
        .as_deref()
    {
        Some("efi") => "application/efi",
        Some("iso") => "application/vnd.efi-iso",
        Some("img") => "application/vnd.efi-img",
        _ => "application/octet-stream",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

/// A piece of a file that is being read.
type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + Sync>>;

/// A file on its way out, or a part of it.
struct FileBody {
    content: Arc<Content>,
    lane: Lane,
    offset: u64,
    end: u64,
    reading: Option<Reading>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let body = self.get_mut();
        let (offset, left) = (body.offset, body.end.saturating_sub(body.offset));
        if left == 0 {
            return Poll::Ready(None);
        }
        let reading = body.reading.get_or_insert_with(|| {
            let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let (content, lane) = (Arc::clone(&body.content), body.lane.clone());
            Box::pin(async move { content.read(&lane, offset, length).await })
        });
        let read = ready!(reading.as_mut().poll(context));
        body.reading = None;
        body.offset += read.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end.saturating_sub(self.offset))
    }
}

/// Serves larder's own listener until it is dropped.
pub async fn serve(listener: Arc<TcpListener>, web: Arc<Web>) {
    let own = listener.local_addr().map(|own| own.ip());
    let is_for_all = own.is_ok_and(|own| own.is_unspecified());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let shares = Shares::of(CONNECTIONS_MAX);
    let mut connections = tokio::task::JoinSet::new();
    let mut complaint = Complaint::default();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                complaint.cannot_receive("boot-http", &error).await;
                continue;
            }
        };
        // Whom other interfaces bring is not served, as with the other ports.
        let own = stream.local_addr().map(|own| own.ip());
        if is_for_all && !own.is_ok_and(|own| web.core.links.hears_at(own)) {
            continue;
        }
        // One who has its share is hung up on at once, so that those behind it are heard.
        let Some(share) = shares.take(client.ip()) else {
            continue;
        };
        let web = Arc::clone(&web);
        connections.spawn(async move {
            connection(stream, client, &web).await;
            drop((permit, share));
        });
    }
}

async fn connection(stream: tokio::net::TcpStream, client: SocketAddr, web: &Arc<Web>) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
        let (parts, _) = request.into_parts();
        let response = match web.answer(&parts, client.ip()) {
            Some(answering) => answering.await,
            None => text_response(StatusCode::NOT_FOUND, "404 page not found\n".into()),
        };
        Ok::<_, std::convert::Infallible>(response)
    });
    let stream = Patient::new(stream, STALL_MAX);
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%client, %error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Ports};
    use crate::serve::Boot;

    #[tokio::test]
    async fn a_disk_that_hangs_keeps_only_those_waiting_who_ask_for_files() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("kernel"), "bytes").unwrap();
        let config = Config {
            interfaces: vec!["lo".to_owned()],
            root: Some(root.path().to_owned()),
            is_tftp: false,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ports: Ports {
                dhcp: 0,
                boot_server: 0,
                tftp: 0,
            },
            ..Config::default()
        };
        let handle = Boot::start(config, None, std::future::pending()).unwrap();
        let web = handle.web();
        let ask = |path: &str| {
            let (parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            web.answer(&parts, IpAddr::from([127, 0, 0, 1])).unwrap()
        };
        let hanging = web.core.disk.hanging().await;
        let mut waiting = ask("/boot/kernel");
        let first = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context)));
        assert!(first.await.is_pending());
        assert_eq!(ask("/boot.ipxe").await.status(), StatusCode::OK);
        drop(hanging);
        let body = waiting.await.into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "bytes");
    }
}
