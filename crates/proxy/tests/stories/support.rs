//! A scripted origin, a proxy on a free port, and a client that sees every byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use larder_policy::access::{AccessList, Condition, Matcher, Rule};
use larder_policy::class::Class;
use larder_policy::policy::{Policy, Semantics};
use larder_policy::refresh::RefreshRules;
use larder_policy::route::{Mirror, Origin as Member, Routes, Select};
use larder_policy::store_id::StoreIds;
use larder_policy::target::Mode;
use larder_proxy::config::{Config, Limits, Listener, Upstream};
use larder_proxy::record::{Record, Recorder};
use larder_proxy::{Handle, Proxy};
use larder_store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bound on what has to come: a busy machine may give a test no turn for many seconds.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a scripted origin does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until the test says go.
    Wait(Arc<Notify>),
    /// Sends nothing for this long.
    Pause(Duration),
    /// Reads a chunked body to its end; one that is cut ends the connection.
    TakeChunks,
    /// Ends the connection here.
    Close,
}

/// A whole answer with a length.
pub(crate) fn answer(head: &str, body: &[u8]) -> Vec<Step> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\n{head}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// These bytes and nothing else.
pub(crate) fn raw(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec())]
}

type Script = dyn Fn(usize, &str) -> Vec<Step> + Send + Sync;

/// An origin that counts what it is asked.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicUsize>,
}

impl Origin {
    /// `script` is given the number of the request (from 0) and its head.
    pub(crate) async fn start(
        script: impl Fn(usize, &str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let requests = Arc::new(AtomicUsize::new(0));
        let script: Arc<Script> = Arc::new(script);
        let (seen, counted) = (Arc::clone(&heads), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen, counted) =
                    (Arc::clone(&script), Arc::clone(&seen), Arc::clone(&counted));
                tokio::spawn(converse(stream, script, seen, counted));
            }
        });
        Self {
            address,
            heads,
            requests,
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<String>>>,
    counted: Arc<AtomicUsize>,
) {
    while let Some(head) = read_head(&mut stream).await {
        if !head.contains(" HTTP/1.") {
            // The end of a request's body, which scripts do not look at.
            continue;
        }
        let nth = counted.fetch_add(1, Ordering::SeqCst);
        seen.lock().unwrap().push(head.clone());
        for step in script(nth, &head) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait(notify) => notify.notified().await,
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::TakeChunks => {
                    if read_head(&mut stream).await.is_none() {
                        return;
                    }
                }
                Step::Close => return,
            }
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Keeps every record.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<Record>>);

impl Recorder for Kept {
    fn record(&self, record: &Record) {
        self.0.lock().unwrap().push(record.clone());
    }
}

/// A proxy with a fresh store.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    kept: Arc<Kept>,
    pub(crate) store: Store,
    folder: tempfile::TempDir,
}

/// Everything is allowed, classes decide.
pub(crate) fn open_policy() -> Policy {
    let everything = Rule {
        allow: true,
        conditions: vec![Condition::from(Matcher::Any)],
        text: "allow everything".into(),
    };
    Policy {
        access: AccessList::new(vec![everything]),
        routes: Routes::default(),
        store_ids: StoreIds::default(),
        store_id_access: None,
        refresh: RefreshRules::default(),
        semantics: Semantics::Larder,
        cache_access: None,
        object_bytes_max: 1 << 30,
        whole_for_ranges: vec![Class::Root],
        offline: false,
    }
}

/// Mirrors by the one name `pool.test`, the first one first.
pub(crate) fn pooled(mirrors: &[crate::mirror::Mirror]) -> Policy {
    let members = mirrors
        .iter()
        .map(|mirror| Member::parse(&format!("http://{}/", mirror.address)).unwrap());
    let mut policy = open_policy();
    policy.routes = Routes {
        mirrors: vec![Mirror {
            name: "pool".into(),
            hosts: vec!["pool.test".into()],
            origins: members.collect(),
            select: Select::Ordered,
            access: None,
        }],
        ..Routes::default()
    };
    policy
}

impl Rig {
    pub(crate) fn start(policy: Policy, mode: Mode) -> Self {
        Self::within(policy, mode, Limits::default())
    }

    /// With other limits than the usual ones.
    pub(crate) fn within(policy: Policy, mode: Mode, limits: Limits) -> Self {
        Self::on(tempfile::tempdir().unwrap(), policy, mode, limits)
    }

    /// On a cache that an earlier one has left.
    pub(crate) fn on(
        folder: tempfile::TempDir,
        policy: Policy,
        mode: Mode,
        limits: Limits,
    ) -> Self {
        let upstream = Upstream {
            connect_timeout: LONG,
            first_byte_timeout: LONG,
            stall_timeout: LONG,
            patience: LONG,
            ..Upstream::default()
        };
        Self::with(folder, policy, (mode, limits), upstream)
    }

    /// Which waits no longer for an origin than a test of silence can last.
    pub(crate) fn hasty() -> Self {
        let upstream = Upstream {
            first_byte_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(1),
            ..Upstream::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let usual = (Mode::Forward, Limits::default());
        Self::with(folder, open_policy(), usual, upstream)
    }

    /// With less patience for its mirrors than the usual one.
    pub(crate) fn impatient(policy: Policy, mode: Mode, patience: Duration) -> Self {
        let upstream = Upstream {
            patience,
            stall_timeout: Duration::from_secs(1),
            ..Upstream::default()
        };
        let folder = tempfile::tempdir().unwrap();
        Self::with(folder, policy, (mode, Limits::default()), upstream)
    }

    fn with(
        folder: tempfile::TempDir,
        policy: Policy,
        (mode, limits): (Mode, Limits),
        upstream: Upstream,
    ) -> Self {
        let store = Store::open(larder_store::Config::new(folder.path())).unwrap();
        let kept = Arc::new(Kept::default());
        let config = Config {
            listeners: vec![Listener {
                address: "127.0.0.1:0".parse().unwrap(),
                mode,
                name: "test".into(),
                tls: None,
            }],
            name: "larder.test".into(),
            upstream,
            limits,
            policy: Arc::new(policy),
        };
        let recorder = Arc::clone(&kept) as Arc<dyn Recorder>;
        let handle = Proxy::start(config, store.clone(), recorder).unwrap();
        let address = handle.addresses()[0].1;
        Self {
            address,
            handle,
            kept,
            store,
            folder,
        }
    }

    /// Ends as a service does.
    pub(crate) async fn ended(self) {
        self.handle.shutdown(Duration::from_millis(10)).await;
        self.handle.end().await;
        self.store.close().await;
    }

    /// Ends as a service does, and begins again on the same cache.
    pub(crate) async fn restarted(self) -> Self {
        self.restarted_as(open_policy()).await
    }

    pub(crate) async fn restarted_as(self, policy: Policy) -> Self {
        self.handle.shutdown(Duration::from_millis(10)).await;
        self.handle.end().await;
        self.store.close().await;
        let Self {
            folder,
            store,
            handle,
            ..
        } = self;
        let directory = folder.path().to_owned();
        drop((store, handle));
        let begun = Instant::now();
        while begun.elapsed() < LONG {
            // Tasks that outlive their clients hold the store for a little longer.
            match Store::open(larder_store::Config::new(&directory)) {
                Ok(free) => {
                    free.close().await;
                    drop(free);
                    return Self::on(folder, policy, Mode::Forward, Limits::default());
                }
                Err(_held) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        panic!("the cache is not let go");
    }

    pub(crate) fn forward() -> Self {
        Self::start(open_policy(), Mode::Forward)
    }

    /// A GET through the proxy with further header lines (each ending in CR LF).
    pub(crate) async fn get(&self, url: &str, lines: &str) -> Answer {
        self.ask("GET", url, lines).await
    }

    pub(crate) async fn ask(&self, method: &str, url: &str, lines: &str) -> Answer {
        let text =
            format!("{method} {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        self.talk(text.as_bytes(), method == "HEAD").await
    }

    /// Sends bytes, reads until the connection ends.
    pub(crate) async fn talk(&self, bytes: &[u8], head_only: bool) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Answer::read(stream, head_only).await
    }

    /// The records so far, once there are at least `count`.
    pub(crate) async fn records(&self, count: usize) -> Vec<Record> {
        let kept = || self.kept.0.lock().unwrap().clone();
        until(&format!("{count} records"), || kept().len() >= count).await;
        kept()
    }

    /// Waits until so many requests have joined what another one began.
    pub(crate) async fn followed_by(&self, count: u64) {
        let following = || self.store.snapshot().followers >= count;
        until(&format!("{count} follow"), following).await;
    }
}

/// What a client saw.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The framing says that the body is whole.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) async fn read(mut stream: TcpStream, head_only: bool) -> Self {
        let mut bytes = Vec::new();
        // Longer than an origin is waited for.
        let ended = tokio::time::timeout(2 * LONG, stream.read_to_end(&mut bytes)).await;
        let clean = ended.expect("the proxy answers in time").is_ok();
        Self::parse(&bytes, clean, head_only)
    }

    pub(crate) fn parse(bytes: &[u8], clean: bool, head_only: bool) -> Self {
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0);
        let rest = &bytes[end..];
        let mut answer = Self {
            status,
            head,
            body: rest.to_vec(),
            whole: clean,
        };
        if head_only || matches!(status, 304 | 204) {
            answer.whole = rest.is_empty();
        } else if answer.field("transfer-encoding") == Some("chunked") {
            (answer.body, answer.whole) = dechunk(rest);
        } else if let Some(length) = answer.field("content-length") {
            answer.whole = length.parse() == Ok(rest.len());
        }
        answer
    }

    /// The value of the first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..at]), 16).unwrap_or(0);
        if size == 0 {
            return (body, true);
        }
        if rest.len() < at + 2 + size {
            body.extend_from_slice(&rest[at + 2..]);
            return (body, false);
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = rest.get(at + 4 + size..).unwrap_or_default();
    }
    (body, false)
}

/// Bytes that differ from each other at every offset that matters.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i * 31) ^ (i >> 8)) as u8).collect()
}
