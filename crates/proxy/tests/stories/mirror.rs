//! A mirror of one file that changes: it knows ranges and conditions, breaks where it is told to,
//! and counts every byte that it has sent of every version.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Bytes that are sent at once, and that may lie unread in the socket beyond that.
pub(crate) const PIECE: usize = 32 << 10;

/// One version of the file.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) body: Arc<[u8]>,
    /// Lines of the head, each ending in CR LF.
    pub(crate) fields: String,
    pub(crate) tag: Option<String>,
    pub(crate) modified: Option<String>,
}

impl Version {
    pub(crate) fn new(body: Vec<u8>, tag: Option<&str>, modified: Option<&str>) -> Self {
        let line = |name: &str, value: Option<&str>| {
            value.map_or(String::new(), |value| format!("{name}: {value}\r\n"))
        };
        Self {
            body: body.into(),
            fields: line("ETag", tag) + &line("Last-Modified", modified),
            tag: tag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        }
    }
}

/// A part of a version that has been sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) version: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// It is all that was announced.
    pub(crate) complete: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Held back before each head.
    pub(crate) head: Duration,
    /// Held back after each piece of a body.
    pub(crate) pace: Duration,
    /// Answers that break after so many bytes of their body, next first; 0: none.
    pub(crate) breaks: VecDeque<usize>,
    /// The status of everything after the next break.
    pub(crate) then: Option<u16>,
    /// Every request gets the whole file.
    pub(crate) ignores_ranges: bool,
    /// Answers everything with this status.
    pub(crate) status: Option<u16>,
}

#[derive(Debug, Default)]
struct State {
    versions: Vec<Version>,
    plan: Plan,
    sent: Vec<Sent>,
    heads: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Mirror {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    #[expect(dead_code, reason = "held for its drop")]
    serving: Arc<Serving>,
}

/// What serves ends with the last handle: sequences by the thousand leave no sockets behind.
#[derive(Debug)]
struct Serving(AbortHandle);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Mirror {
    pub(crate) fn start(version: Version) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(PIECE as u32).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(256).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            versions: vec![version],
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            // They end with it.
            let mut conversations = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                conversations.spawn(converse(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            serving: Arc::new(Serving(serving.abort_handle())),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The file is another one from now on.
    pub(crate) fn change(&self, version: Version) {
        self.state.lock().unwrap().versions.push(version);
    }

    pub(crate) fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.state.lock().unwrap().plan);
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.state.lock().unwrap().sent.clone()
    }

    /// Bytes of bodies sent so far.
    pub(crate) fn bytes(&self) -> usize {
        self.sent().iter().map(|sent| sent.end - sent.start).sum()
    }

    /// Waits until all that was announced has been sent.
    pub(crate) async fn settled(&self) {
        let all_sent = || self.sent().iter().all(|sent| sent.complete);
        crate::support::until("an answer stands still", all_sent).await;
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.lock().unwrap().heads.clone()
    }
}

pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// What one request asks for, of the newest version.
struct Asked {
    version: usize,
    body: Arc<[u8]>,
    head: String,
    span: (usize, usize),
    break_after: usize,
    pace: Duration,
    delay: Duration,
}

impl Asked {
    fn of(state: &mut State, head: &str) -> Self {
        state.heads.push(head.to_owned());
        let number = state.versions.len() - 1;
        let version = state.versions[number].clone();
        let length = version.body.len();
        let is_head = head.starts_with("HEAD ");
        let (status, span) = match state.plan.status {
            Some(status) => (status, (0, 0)),
            None => selected(&version, head, state.plan.ignores_ranges),
        };
        let range = match status {
            206 => format!(
                "Content-Range: bytes {}-{}/{length}\r\n",
                span.0,
                span.1 - 1
            ),
            416 => format!("Content-Range: bytes */{length}\r\n"),
            _ => String::new(),
        };
        let framing = match status {
            304 => String::new(),
            _ => format!("Content-Length: {}\r\n", span.1 - span.0),
        };
        let text = format!(
            "HTTP/1.1 {status} Word\r\n{}{range}{framing}\r\n",
            version.fields
        );
        Self {
            version: number,
            body: version.body,
            head: text,
            span: if is_head { (0, 0) } else { span },
            break_after: if is_head || span.0 == span.1 {
                0
            } else {
                state.plan.breaks.pop_front().unwrap_or(0)
            },
            pace: state.plan.pace,
            delay: state.plan.head,
        }
    }
}

fn selected(version: &Version, head: &str, ignores_ranges: bool) -> (u16, (usize, usize)) {
    let length = version.body.len();
    let same_tag = |value: Option<&str>| value.is_some() && value == version.tag.as_deref();
    let same_date = |value: Option<&str>| value.is_some() && value == version.modified.as_deref();
    let unchanged = match field(head, "if-none-match") {
        Some(tag) => same_tag(Some(tag)),
        None => same_date(field(head, "if-modified-since")),
    };
    if unchanged {
        return (304, (0, 0));
    }
    let applies = match field(head, "if-range") {
        None => true,
        value => same_tag(value) || same_date(value),
    };
    let is_one = |range: &&str| head.starts_with("GET ") && !range.contains(',');
    let Some(range) = field(head, "range")
        .filter(|_| applies && !ignores_ranges)
        .filter(is_one)
    else {
        return (200, (0, length));
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let (start, end) = if first.is_empty() {
        (length.saturating_sub(last.parse().unwrap()), length)
    } else {
        let last = last
            .parse()
            .map_or(length, |last: usize| last.saturating_add(1));
        (first.parse().unwrap(), last.min(length))
    };
    if start >= end {
        (416, (0, 0))
    } else {
        (206, (start, end))
    }
}

async fn converse(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Some(head) = read_head(&mut stream).await {
        let asked = Asked::of(&mut state.lock().unwrap(), &head);
        tokio::time::sleep(asked.delay).await;
        if stream.write_all(asked.head.as_bytes()).await.is_err() {
            return;
        }
        let (start, end) = asked.span;
        let number = {
            let mut state = state.lock().unwrap();
            state.sent.push(Sent {
                version: asked.version,
                start,
                end: start,
                complete: start == end,
            });
            state.sent.len() - 1
        };
        let mut at = start;
        while at < end {
            let mut next = end.min(at + PIECE);
            if asked.break_after > 0 {
                next = next.min(start + asked.break_after);
            }
            let written = stream.write_all(&asked.body[at..next]).await;
            if written.is_err() {
                return;
            }
            at = next;
            {
                let sent = &mut state.lock().unwrap().sent[number];
                (sent.end, sent.complete) = (at, at == end);
            }
            if asked.break_after > 0 && at == start + asked.break_after && at < end {
                {
                    let plan = &mut state.lock().unwrap().plan;
                    plan.status = plan.then.or(plan.status);
                }
                // Long enough for the bytes to be read before the connection ends.
                tokio::time::sleep(Duration::from_millis(30)).await;
                return;
            }
            if !asked.pace.is_zero() {
                tokio::time::sleep(asked.pace).await;
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
