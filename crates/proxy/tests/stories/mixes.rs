//! Random mixes of clients, breaks, changes, mirrors and restarts: every byte that a client takes
//! for whole belongs to one version of the file, and nothing is drawn twice.
//!
//! A sequence is repeated by its number, which a failure prints. `LARDER_MIXES` sets how many run.

use std::sync::Arc;
use std::time::Duration;

use larder_policy::target::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::mirror::{Mirror, Sent, Version};
use crate::support::{Answer, LONG, Rig, pooled};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const CLIENTS: usize = 8;
const URL: &str = "http://pool.test/p/big-1.0-1.x86_64.rpm";
const DATES: [&str; 2] = [
    "Mon, 01 Jan 2024 00:00:00 GMT",
    "Tue, 02 Jan 2024 00:00:00 GMT",
];
/// What may come twice for each transfer that did not end of itself: the bytes by which mirrors
/// are compared, and what lay in sockets and buffers.
const OVERLAP: usize = COMPARED + IN_FLIGHT;
/// By so much mirrors are compared.
const COMPARED: usize = 64 * KIB;
/// What lies in sockets and buffers.
pub(crate) const IN_FLIGHT: usize = 512 * KIB;

/// SplitMix64.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// One request of one client.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    lines: String,
    /// Gone after so many bytes.
    abort: Option<usize>,
}

impl Request {
    fn random(random: &mut Random, length: usize) -> Self {
        let span = |random: &mut Random| {
            let start = random.below(length);
            let most = if random.one_in(3) { length } else { 70 * KIB };
            let size = 1 + random.below(most);
            format!("{start}-{}", start + size)
        };
        let lines = match random.below(10) {
            0..=2 => String::new(),
            3..=5 => format!("Range: bytes={}\r\n", span(random)),
            6 => {
                let spans: Vec<String> = (0..2 + random.below(6)).map(|_| span(random)).collect();
                format!("Range: bytes={}\r\n", spans.join(","))
            }
            7 => format!("Range: bytes={}-\r\n", random.below(length)),
            8 => format!("Range: bytes=-{}\r\n", 1 + random.below(length)),
            _ => format!(
                "Range: bytes={}-\r\nIf-Range: {}\r\n",
                random.below(length),
                DATES[random.below(2)]
            ),
        };
        let condition = if random.one_in(8) {
            format!("If-Modified-Since: {}\r\n", DATES[random.below(2)])
        } else {
            String::new()
        };
        Self {
            method: if random.one_in(12) { "HEAD" } else { "GET" },
            lines: lines + &condition,
            abort: random.one_in(5).then(|| random.below(length)),
        }
    }

    async fn send(&self, rig: &Rig) -> Answer {
        let text = format!(
            "{} {URL} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n",
            self.method, self.lines
        );
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let Some(most) = self.abort else {
            return Answer::read(stream, self.method == "HEAD").await;
        };
        let (mut bytes, mut piece) = (Vec::new(), vec![0; 16 * KIB]);
        while bytes.len() < most {
            let read = tokio::time::timeout(2 * LONG, stream.read(&mut piece)).await;
            match read.expect("the proxy answers in time") {
                Ok(0) | Err(_) => break,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
            }
        }
        drop(stream);
        Answer {
            whole: false,
            ..Answer::parse(&bytes, true, self.method == "HEAD")
        }
    }
}

/// The spans that a 206 says it has, with the bytes of each; the last may be cut.
fn parts(answer: &Answer) -> Vec<((usize, usize, usize), Vec<u8>)> {
    if let Some(range) = answer.field("content-range") {
        return vec![(numbers(range), answer.body.clone())];
    }
    let boundary = answer
        .field("content-type")
        .unwrap()
        .split_once("boundary=")
        .unwrap()
        .1;
    let start = format!("\r\n--{boundary}\r\n");
    let mut rest = &answer.body[..];
    let mut parts = Vec::new();
    while rest.starts_with(start.as_bytes()) {
        let Some(end) = rest[2..]
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        else {
            break;
        };
        let head = String::from_utf8_lossy(&rest[..end + 2]).into_owned();
        let range = head
            .split("Content-Range: ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        let (first, last, total) = numbers(range);
        let bytes = &rest[end + 6..];
        let length = (last - first).min(bytes.len());
        parts.push(((first, last, total), bytes[..length].to_vec()));
        rest = &bytes[length..];
    }
    if answer.whole {
        assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
    }
    parts
}

fn numbers(range: &str) -> (usize, usize, usize) {
    let (span, total) = range
        .strip_prefix("bytes ")
        .unwrap()
        .split_once('/')
        .unwrap();
    let (first, last) = span.split_once('-').unwrap();
    let last: usize = last.parse().unwrap();
    (first.parse().unwrap(), last + 1, total.parse().unwrap())
}

/// Panics unless what came belongs to one version.
fn check(answer: &Answer, request: &Request, versions: &[Version]) {
    let is_of = |version: &Version| match answer.status {
        200 if answer.whole && request.method == "GET" => answer.body == version.body[..],
        200 => version.body.starts_with(&answer.body),
        206 => parts(answer).iter().all(|((first, last, total), bytes)| {
            let length = if answer.whole {
                last - first
            } else {
                bytes.len()
            };
            *total == version.body.len()
                && bytes.len() == length
                && version.body[*first..*last].starts_with(bytes)
        }),
        304 | 416 | 0 | 502..=504 => true,
        _ => false,
    };
    assert!(
        versions.iter().any(is_of),
        "{request:?} got what is no version of the file: {}",
        answer.head
    );
}

/// Bytes of a version that were sent more than once.
fn surplus(sent: &[Sent], version: usize) -> usize {
    let mut spans: Vec<(usize, usize)> = sent
        .iter()
        .filter(|sent| sent.version == version)
        .map(|sent| (sent.start, sent.end))
        .collect();
    spans.sort_unstable();
    let total: usize = spans.iter().map(|(start, end)| end - start).sum();
    let (mut union, mut reach) = (0, 0);
    for (start, end) in spans {
        union += end.saturating_sub(start.max(reach));
        reach = reach.max(end);
    }
    total - union
}

/// One file on two mirrors, and what its versions are.
struct Scene {
    random: Random,
    length: usize,
    tagged: bool,
    /// The file becomes another in the middle.
    changes: bool,
    bodies: [Vec<u8>; 2],
    versions: Vec<Version>,
    mirrors: Vec<Mirror>,
}

impl Scene {
    fn set(number: u64) -> Self {
        let mut random = Random(number);
        let length = MIB + random.below(5 * MIB / 2);
        let shorter = length - random.below(KIB);
        let mut scene = Self {
            length,
            tagged: random.one_in(2),
            changes: random.one_in(4),
            bodies: [random.bytes(length), random.bytes(shorter)],
            random,
            versions: Vec::new(),
            mirrors: Vec::new(),
        };
        for of in 0..2 {
            let version = scene.version(0, of);
            scene.mirrors.push(Mirror::start(version));
        }
        scene
    }

    /// A version as one mirror has it: tags may differ between mirrors.
    fn version(&mut self, nth: usize, of: usize) -> Version {
        let of = if self.random.one_in(2) { 0 } else { of };
        let tag = format!("\"v{nth}-{of}\"");
        let tag = self.tagged.then_some(tag.as_str());
        let version = Version::new(self.bodies[nth].clone(), tag, Some(DATES[nth]));
        self.versions.push(version.clone());
        version
    }

    /// How the mirrors behave from now on.
    fn plan(&mut self) {
        let (random, length) = (&mut self.random, self.length);
        for mirror in &self.mirrors {
            let breaks = (0..random.below(4)).map(|_| 1 + random.below(length));
            let breaks = breaks.collect();
            let pace = Duration::from_micros(random.below(2_000) as u64);
            let is_slow = random.one_in(3);
            mirror.plan(|plan| {
                plan.breaks = breaks;
                plan.pace = if is_slow { pace } else { Duration::ZERO };
            });
        }
    }

    async fn change(&mut self) {
        let pause = self.random.below(40) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        for of in 0..2 {
            let version = self.version(1, of);
            self.mirrors[of].change(version);
        }
    }

    /// All clients at once; what they get is checked.
    async fn clients(&mut self, rig: Rig, is_changing: bool) -> Rig {
        let (shared, length) = (Arc::new(rig), self.length);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let random = Random(self.random.next());
                tokio::spawn(client(Arc::clone(&shared), random, length))
            })
            .collect();
        if is_changing {
            self.change().await;
        }
        for client in clients {
            for (answer, request) in client.await.unwrap() {
                check(&answer, &request, &self.versions);
                // Breaks cost nobody the answer where the file stays the same.
                let served = answer.whole && answer.status < 500;
                assert!(
                    self.changes || request.abort.is_some() || served,
                    "{request:?} was cut or refused after {} bytes: {}",
                    answer.body.len(),
                    answer.head
                );
            }
        }
        Arc::into_inner(shared).expect("all clients have ended")
    }

    /// Transfers that did not come to the end that was announced.
    fn unfinished(&self) -> usize {
        let sent = self.mirrors.iter().flat_map(Mirror::sent);
        sent.filter(|sent| !sent.complete).count()
    }

    /// Nothing was drawn twice but what may be.
    fn judge(&self, mut allowed: usize) {
        let sent: Vec<Sent> = self.mirrors.iter().flat_map(Mirror::sent).collect();
        allowed += OVERLAP * self.unfinished();
        // Where two mirrors are compared by bytes that do not come before the wanted ones.
        let compared = sent.iter().map(|sent| sent.end - sent.start);
        allowed += compared.filter(|size| *size <= COMPARED).sum::<usize>();
        allowed += in_flight(&sent);
        for version in 0..2 {
            let surplus = surplus(&sent, version);
            assert!(
                surplus <= allowed,
                "{surplus} bytes of version {version} were drawn twice, {allowed} may be: {sent:?}"
            );
        }
    }
}

/// Ends of transfers that a mirror had written to its socket when another began at one of their
/// blocks: somebody wanted bytes far ahead of what had come. Another mirror is asked for what stands
/// before the block too, which is compared.
fn in_flight(sent: &[Sent]) -> usize {
    let block_of = |other: &Sent| {
        let compared = [0, COMPARED].into_iter();
        let mut blocks = compared.map(|before| other.start + before);
        blocks.find(|start| start % MIB == 0)
    };
    let ends = sent.iter().flat_map(|one| {
        let later = sent.iter().filter(|other| other.version == one.version);
        let within = later.filter(|other| one.start < other.start);
        within.filter_map(move |other| {
            let block = block_of(other)?;
            let bytes = one.end.saturating_sub(block);
            (bytes <= IN_FLIGHT).then(|| bytes + (block - other.start))
        })
    });
    ends.sum()
}

async fn client(rig: Arc<Rig>, mut random: Random, length: usize) -> Vec<(Answer, Request)> {
    let mut answers = Vec::new();
    for _ in 0..2 {
        let pause = random.below(30) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let request = Request::random(&mut random, length);
        answers.push((request.send(&rig).await, request));
    }
    answers
}

async fn sequence(number: u64) {
    let mut scene = Scene::set(number);
    let mut allowed = 0;
    let mut rig = Rig::start(pooled(&scene.mirrors), Mode::Forward);
    for round in 0..2 {
        scene.plan();
        let is_changing = scene.changes && round == 0;
        rig = scene.clients(rig, is_changing).await;
        if round == 0 && scene.random.one_in(3) {
            // Blocks that were not whole are not kept, one for each run that was cut.
            allowed += MIB * (scene.unfinished() + 2);
            rig = rig.restarted_as(pooled(&scene.mirrors)).await;
        }
    }
    scene.judge(allowed);
    rig.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_mix_of_clients_breaks_and_changes_gets_one_version_and_draws_it_once() {
    let asked = std::env::var("LARDER_MIXES").ok();
    let first: u64 = std::env::var("LARDER_MIX")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let is_long = std::env::var("LARDER_TESTS_LONG").is_ok_and(|long| !long.is_empty());
    let usual = if is_long { 5_000 } else { 300 };
    let count = asked.and_then(|count| count.parse().ok()).unwrap_or(usual);
    let mut running = tokio::task::JoinSet::new();
    for number in first..first + count {
        if running.len() == 6 {
            joined(&running.join_next().await.expect("six are running"));
        }
        running.spawn(async move {
            let limit = Duration::from_mins(10);
            let ran = tokio::spawn(tokio::time::timeout(limit, sequence(number))).await;
            (number, ran.is_ok_and(|ended| ended.is_ok()))
        });
    }
    while let Some(ended) = running.join_next().await {
        joined(&ended);
    }
}

fn joined(ended: &Result<(u64, bool), tokio::task::JoinError>) {
    if let Ok((number, good)) = ended {
        assert!(
            good,
            "sequence {number} failed: LARDER_MIX={number} LARDER_MIXES=1 repeats it"
        );
    }
}
