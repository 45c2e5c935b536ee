//! Clients that mean harm, or are broken: raw bytes, each case named for the rule that only it
//! reaches. Each gets the status expected or the end of its connection, the origin never sees more
//! requests than were made, and the proxy serves the next client.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Answer, LONG, Origin, Rig, Step, answer};

mod cases;

use cases::Want::{self, AtMostOnce, Refused, RefusedOrClosed, Served};
use cases::{CHUNKS, FIELDS, FRAMINGS, HIDDEN, LINES, TARGETS, TUNNELS};

#[derive(Debug)]
struct Seen {
    /// The statuses of all answers on the connection.
    statuses: Vec<u16>,
    requests: usize,
}

/// Sends bytes and reads until the proxy closes; five seconds at most.
async fn seen(rig: &Rig, origin: &Origin, bytes: &[u8]) -> Seen {
    seen_by(rig, origin, bytes, true).await
}

/// The same of a client that goes on listening and could send more: the proxy answers or closes of
/// itself.
async fn seen_waiting(rig: &Rig, origin: &Origin, bytes: &[u8]) -> Seen {
    seen_by(rig, origin, bytes, false).await
}

async fn seen_by(rig: &Rig, origin: &Origin, bytes: &[u8], is_ended: bool) -> Seen {
    let before = origin.requests();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // A refusal may come, and the connection end, before all is written.
    let _ = stream.write_all(bytes).await;
    if is_ended {
        let _ = stream.shutdown().await;
    }
    let mut got = Vec::new();
    let reading = async {
        while let Ok(1..) = stream.read_buf(&mut got).await {
            let answer = Answer::parse(&got, false, false);
            if !is_ended && answer.whole && got.ends_with(&answer.body) {
                return;
            }
        }
    };
    let read = tokio::time::timeout(LONG, reading).await;
    assert!(
        read.is_ok(),
        "no end within a minute: {}",
        String::from_utf8_lossy(&got)
    );
    let text = String::from_utf8_lossy(&got);
    // Pages of larder's own name no version.
    let statuses = text
        .split("HTTP/1.")
        .skip(1)
        .filter_map(|rest| rest.get(2..5)?.parse().ok())
        .collect();
    Seen {
        statuses,
        requests: origin.requests() - before,
    }
}

async fn origin() -> Origin {
    Origin::start(|_, _| answer("Cache-Control: no-store\r\n", b"served")).await
}

fn filled(text: &str, origin: &Origin) -> Vec<u8> {
    text.replace("://O", &format!("://{}", origin.address))
        .replace("/http/O", &format!("/http/{}", origin.address))
        .replace(": O\r\n", &format!(": {}\r\n", origin.address))
        .into_bytes()
}

fn is_as_wanted(want: Want, seen: &Seen) -> bool {
    let refusal = |status: &u16| *status >= 400;
    match want {
        Refused(status) => seen.statuses == [status] && seen.requests == 0,
        RefusedOrClosed => {
            seen.statuses.len() <= 1 && seen.statuses.iter().all(refusal) && seen.requests == 0
        }
        Served => seen.statuses == [200] && seen.requests == 1,
        AtMostOnce => {
            seen.statuses.len() <= 1
                && seen.statuses.iter().all(|s| *s == 200 || refusal(s))
                && seen.requests <= 1
        }
    }
}

/// The next client is served as if nothing had been.
async fn is_well(rig: &Rig, origin: &Origin) -> bool {
    rig.get(&origin.url("/well"), "").await.body == b"served"
}

#[tokio::test(flavor = "multi_thread")]
async fn each_odd_request_gets_its_status_or_a_close_and_costs_nothing() {
    let (rig, origin) = (Rig::forward(), origin().await);
    let mut wrong = Vec::new();
    for (name, text, want) in [LINES, FIELDS, TARGETS, TUNNELS].concat() {
        let bytes = filled(text, &origin);
        let seen = match want {
            Refused(_) | RefusedOrClosed => seen_waiting(&rig, &origin, &bytes).await,
            Served | AtMostOnce => seen(&rig, &origin, &bytes).await,
        };
        if !is_as_wanted(want, &seen) {
            wrong.push(format!("{name}: wanted {want:?}, saw {seen:?}"));
        }
        if !is_well(&rig, &origin).await {
            wrong.push(format!("{name}: the next client was not served"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_the_body_of_another() {
    let (rig, origin) = (Rig::forward(), origin().await);
    let mut wrong = Vec::new();
    let mut cases: Vec<(&str, String)> = FRAMINGS
        .iter()
        .map(|(name, fields)| (*name, format!("{fields}\r\n0\r\n\r\n{HIDDEN}")))
        .collect();
    cases.extend(CHUNKS.iter().map(|(name, body)| {
        (
            *name,
            format!("Transfer-Encoding: chunked\r\n\r\n{body}{HIDDEN}"),
        )
    }));
    for (name, rest) in cases {
        let text = format!("POST http://O/a HTTP/1.1\r\nHost: O\r\n{rest}");
        let seen = seen(&rig, &origin, &filled(&text, &origin)).await;
        // The origin may see the head of one that was refused while the next is made: it is the hidden
        // one that must not come, then or ever.
        let hidden = origin.heads().iter().any(|head| head.contains("/hidden"));
        if hidden || seen.statuses.len() > 1 {
            wrong.push(format!("{name}: {seen:?}, hidden request: {hidden}"));
        }
        if !is_well(&rig, &origin).await {
            wrong.push(format!("{name}: the next client was not served"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_well_chunked_has_no_success() {
    let rig = Rig::forward();
    let origin = Origin::start(|_, head| {
        let mut steps = answer("Cache-Control: no-store\r\n", b"served");
        if head.starts_with("POST ") {
            steps.insert(0, Step::TakeChunks);
        }
        steps
    });
    let origin = origin.await;
    let mut wrong = Vec::new();
    for (name, body) in CHUNKS {
        let head = "POST http://O/a HTTP/1.1\r\nHost: O\r\nTransfer-Encoding: chunked\r\n\r\n";
        // With nothing behind it: what is wrong is told without waiting for more.
        let bytes = filled(&format!("{head}{body}"), &origin);
        let seen = seen_waiting(&rig, &origin, &bytes).await;
        // The fields of a trailer are dropped, whatever they say (RFC 9110 §6.5.1).
        let is_dropped = *name == "trailer names the framing";
        let is_refused = seen.statuses.len() <= 1 && seen.statuses.iter().all(|s| *s >= 400);
        if !is_dropped && !is_refused {
            wrong.push(format!("{name}: {seen:?}"));
        }
    }
    // The origin may see the head of one that was refused while the next is made.
    assert!(origin.requests() <= CHUNKS.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_every_bound_are_refused() {
    let (rig, origin) = (Rig::forward(), origin().await);
    let url = origin.url("/a");
    let many = "X-Many: y\r\n".repeat(2000);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (name, text) in [
        (
            "field just beyond the bound",
            format!(
                "GET {url} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
                "a".repeat(64 << 10)
            ),
        ),
        (
            "zeros before a chunk's size",
            format!(
                "POST {url} HTTP/1.1\r\nHost: x\r\n{chunked}{}5\r\nhello\r\n0\r\n\r\n",
                "0".repeat(100_000)
            ),
        ),
        (
            "long target",
            format!(
                "GET {url}/{} HTTP/1.1\r\nHost: x\r\n\r\n",
                "a".repeat(200_000)
            ),
        ),
        (
            "long field",
            format!(
                "GET {url} HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
                "a".repeat(200_000)
            ),
        ),
        (
            "long field name",
            format!(
                "GET {url} HTTP/1.1\r\nHost: x\r\n{}: y\r\n\r\n",
                "a".repeat(200_000)
            ),
        ),
        (
            "many fields",
            format!("GET {url} HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        ),
        (
            "long method",
            format!("{} {url} HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(200_000)),
        ),
        ("no end of a line", "A".repeat(200_000)),
    ] {
        let seen = seen(&rig, &origin, text.as_bytes()).await;
        // Of a request with a body the head may have gone on.
        let want = if text.contains(chunked) {
            AtMostOnce
        } else {
            RefusedOrClosed
        };
        assert!(is_as_wanted(want, &seen), "{name}: {seen:?}");
        assert!(!seen.statuses.contains(&200), "{name}: {seen:?}");
        assert!(is_well(&rig, &origin).await, "{name}");
    }
}

#[test]
fn there_are_a_hundred_cases() {
    let cases = [LINES, FIELDS, TARGETS, TUNNELS].concat().len() + FRAMINGS.len() + CHUNKS.len();
    assert!(cases >= 100, "{cases}");
}
