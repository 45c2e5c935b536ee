//! The other end of the line: what the commands ask a running larder, or a cache that they have
//! opened themselves, in the same words.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::Admin;
use crate::events;
use crate::serve::{self, Trust};

/// Bytes that may be under way between a command and the cache that it has opened.
const PIPE: usize = 256 << 10;
/// What the last line of an answer has.
const LAST: [&str; 3] = ["done", "stats", "end"];
/// A line of an answer may have this many bytes.
const LINE_MAX: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or not any more.
    #[error("nobody answers")]
    Gone(#[source] io::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    /// It said no.
    #[error("{why}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// What it said.
        why: String,
    },
    /// The answer ended before its last line: whoever gave it has failed or was ended.
    #[error("the answer ended before it was complete")]
    Unfinished,
    /// What came is no answer to this.
    #[error("an answer that makes no sense: {0}")]
    Senseless(String),
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A connection to the API.
#[derive(Debug)]
pub struct Client {
    sender: Mutex<http1::SendRequest<Body>>,
}

impl Client {
    /// Connects to a running larder's unix socket. Called within a Tokio runtime.
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).await;
        Self::over(stream.map_err(ClientError::Gone)?).await
    }

    /// Speaks to an API within this process. Called within a Tokio runtime.
    pub async fn within(admin: Arc<Admin>) -> Result<Self, ClientError> {
        let (here, there) = tokio::io::duplex(PIPE);
        tokio::spawn(serve::connection(admin, there, Trust::Full));
        Self::over(here).await
    }

    async fn over<S>(stream: S) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::Broken)?;
        // Its end is seen by the sender.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            sender: Mutex::new(sender),
        })
    }

    /// Asks for one JSON value.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        whole(self.send(Method::GET, path, nothing()).await?).await
    }

    /// Asks for a change that is told in one JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        whole(self.send(Method::POST, path, text(body)).await?).await
    }

    /// Sends what `bytes` reads, after the line that describes it.
    pub async fn import(
        &self,
        head: &Value,
        mut bytes: impl io::Read + Send + 'static,
    ) -> Result<Value, ClientError> {
        let (mut teller, lines) = events::channel();
        let head = head.clone();
        tokio::task::spawn_blocking(move || {
            let mut heard = teller.say(&head);
            while heard {
                let mut piece = vec![0; PIPE];
                match bytes.read(&mut piece) {
                    // An end before the announced length is refused by the other side.
                    Ok(0) | Err(_) => return,
                    Ok(read) => {
                        piece.truncate(read);
                        heard = teller.bytes(Bytes::from(piece));
                    }
                }
            }
        });
        let body = lines.map_err(|never| match never {}).boxed_unsync();
        whole(self.send(Method::POST, "/api/v1/import", body).await?).await
    }

    /// Asks for lines, and hands each to `each` until it returns false. An answer without its last
    /// line is an error.
    pub async fn lines(
        &self,
        path: &str,
        asked: Option<&Value>,
        mut each: impl FnMut(Value) -> bool,
    ) -> Result<(), ClientError> {
        let (method, body) = match asked {
            Some(asked) => (Method::POST, text(asked)),
            None => (Method::GET, nothing()),
        };
        let mut answer = self.send(method, path, body).await?;
        let mut waiting = BytesMut::new();
        let mut is_whole = false;
        loop {
            while let Some(end) = waiting.iter().position(|&byte| byte == b'\n') {
                let line = waiting.split_to(end + 1);
                let value: Value = serde_json::from_slice(&line)
                    .map_err(|error| ClientError::Senseless(error.to_string()))?;
                if let Some(why) = value.get("error").and_then(Value::as_str) {
                    return Err(ClientError::Senseless(why.to_owned()));
                }
                is_whole |= LAST.iter().any(|name| value.get(name).is_some());
                if value.get("end").is_none() && !each(value) {
                    return Ok(());
                }
            }
            match next(&mut answer).await? {
                Some(bytes) if waiting.len() < LINE_MAX => waiting.extend_from_slice(&bytes),
                Some(_) => return Err(ClientError::Senseless("a line without end".to_owned())),
                None if waiting.is_empty() && is_whole => return Ok(()),
                None if waiting.is_empty() => return Err(ClientError::Unfinished),
                None => return Err(ClientError::Senseless("it ends within a line".to_owned())),
            }
        }
    }

    /// Asks for bytes, and hands them to `each` as they come.
    pub async fn bytes(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ClientError> {
        let mut answer = self.send(Method::GET, path, nothing()).await?;
        while let Some(bytes) = next(&mut answer).await? {
            each(&bytes).map_err(ClientError::Gone)?;
        }
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<Incoming, ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| ClientError::Senseless(error.to_string()))?;
        let answer = {
            let mut sender = self.sender.lock().await;
            sender.ready().await.map_err(ClientError::Broken)?;
            sender
                .send_request(request)
                .await
                .map_err(ClientError::Broken)?
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer.into_body());
        }
        let said = whole(answer.into_body()).await.unwrap_or_default();
        let why = said
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("refused");
        Err(ClientError::Refused {
            status,
            why: why.to_owned(),
        })
    }
}

async fn next(answer: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    match answer.frame().await {
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(error)) => Err(ClientError::Broken(error)),
        None => Ok(None),
    }
}

async fn whole(answer: Incoming) -> Result<Value, ClientError> {
    let body = answer.collect().await.map_err(ClientError::Broken)?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| ClientError::Senseless(error.to_string()))
}

fn nothing() -> Body {
    Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn text(value: &Value) -> Body {
    let text = Bytes::from(value.to_string());
    Full::new(text)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A parameter's value, as a request's query has it.
pub fn parameter(name: &str, value: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(name, value);
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::key::CacheKey;
    use larder_policy::meta::{Fetched, Meta};
    use larder_policy::url::Url;
    use larder_store::{Config, Join, Store};
    use serde_json::json;

    async fn put(store: &Store, name: &str, body: &'static str) {
        let url = format!("http://h/{name}");
        let key = CacheKey::of_url(&Url::parse(&url).expect("good"));
        let Join::Lead(slot) = store.join(&key) else {
            panic!("somebody else fetches {name}");
        };
        let fetched = Fetched {
            url,
            ..Fetched::default()
        };
        let meta = Meta::new(200, http::HeaderMap::new(), fetched);
        let len = Some(body.len() as u64);
        let mut fill = slot.begin(meta, len, key).await.expect("room");
        fill.write(Bytes::from_static(body.as_bytes()))
            .await
            .expect("written");
        fill.commit().await.expect("stored");
    }

    async fn client(folder: &Path) -> (Client, Arc<Admin>, Store) {
        let store = Store::open(Config::new(folder)).expect("opens");
        let about = crate::About {
            version: "0",
            started: std::time::SystemTime::now(),
            since: std::time::Instant::now(),
            directory: folder.to_owned(),
            listeners: Vec::new(),
            machines: None,
        };
        let admin = Admin::stopped(about, store.clone());
        let client = Client::within(Arc::clone(&admin)).await.expect("speaks");
        (client, admin, store)
    }

    #[tokio::test]
    async fn a_list_in_the_order_of_keys_is_whole_over_many_pages_and_within_its_limit() {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, _, store) = client(folder.path()).await;
        for n in 0..40 {
            put(&store, &format!("{n:02}"), "x").await;
        }
        let names = async |query: &str| {
            let mut names = Vec::new();
            let path = format!("/api/v1/objects?{query}");
            let each = |line: Value| {
                names.push(line["url"].as_str().unwrap_or("?").to_owned());
                true
            };
            client
                .lines(&path, None, each)
                .await
                .expect("a whole answer");
            names
        };
        let all: Vec<String> = (0..40).map(|n| format!("http://h/{n:02}")).collect();
        assert_eq!(names("").await, all);
        assert_eq!(names("limit=9").await, all[..9]);
        assert_eq!(names("limit=7").await, all[..7]);
        assert_eq!(names("limit=0").await, all[..0]);
        assert_eq!(
            names("pattern=*3").await,
            ["http://h/03", "http://h/13", "http://h/23", "http://h/33"]
        );
    }

    #[tokio::test]
    async fn no_more_than_some_go_through_all_objects_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_, admin, _) = client(folder.path()).await;
        let mut places = Vec::new();
        for _ in 0..crate::WALKS_MAX {
            places.push(admin.walk().await.expect("a place"));
        }
        let waiting = tokio::spawn({
            let admin = Arc::clone(&admin);
            async move { admin.walk().await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one too many");
        drop(places.pop());
        assert!(waiting.await.expect("ends"), "no place after one has gone");
        let audit = admin.audit().expect("a place");
        assert!(admin.audit().is_none(), "two audits at once");
        drop(audit);
        assert!(admin.audit().is_some());
    }

    #[tokio::test]
    async fn an_answer_that_ends_before_its_last_line_is_an_error() {
        let (here, mut there) = tokio::io::duplex(PIPE);
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut head = [0; 4096];
            let _read = there.read(&mut head).await;
            let body = "{\"removed\":{}}\n";
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            there.write_all(answer.as_bytes()).await.expect("taken");
            // Until the other side goes.
            let _gone = there.read(&mut head).await;
        });
        let client = Client::over(here).await.expect("speaks");
        let ended = client
            .lines("/api/v1/purge", Some(&json!({})), |_| true)
            .await;
        assert!(matches!(ended, Err(ClientError::Unfinished)), "{ended:?}");
    }

    #[tokio::test]
    async fn a_purge_tells_bytes_once_and_a_dry_run_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, _, store) = client(folder.path()).await;
        for name in ["a", "b"] {
            put(&store, name, "twin").await;
        }
        let purge = async |asked: Value| {
            let mut last = Value::Null;
            let each = |mut line: Value| {
                last = line["done"].take();
                true
            };
            client
                .lines("/api/v1/purge", Some(&asked), each)
                .await
                .expect("a whole answer");
            (last["objects"].as_u64(), last["bytes"].as_u64())
        };
        assert_eq!(
            purge(json!({"pattern": "*/a", "dry_run": true})).await,
            (Some(1), Some(0))
        );
        assert_eq!(
            purge(json!({"pattern": "*", "dry_run": true})).await,
            (Some(2), Some(4))
        );
        assert_eq!(purge(json!({"pattern": "*/a"})).await, (Some(1), Some(0)));
        assert_eq!(purge(json!({"pattern": "*"})).await, (Some(1), Some(4)));
    }

    #[tokio::test]
    async fn an_imported_variant_is_found_as_a_request_looks_for_it_and_counts_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, _, store) = client(folder.path()).await;
        let key = CacheKey::of_url(&Url::parse("http://h/v").expect("good"));
        let fields = vec![("accept-encoding".to_owned(), Some(b"gzip, br".to_vec()))];
        let whole = key.with_variant(&fields);
        let text = whole.to_string();
        let (base, variant) = text.split_once('\n').expect("a variant");
        let head = json!({"key": base, "variant": variant, "url": "http://h/v", "bytes": 4,
            "sha256": larder_store::Digest::of(b"body").to_string(), "status": 200, "fetched": 1,
            "head": [["vary", "accept-encoding"]]});
        for became in ["stored", "held"] {
            let answer = client.import(&head, &b"body"[..]).await.expect("taken");
            assert_eq!(answer["became"], became);
        }
        let snapshot = store.snapshot();
        assert_eq!(
            (snapshot.lookups_ever, snapshot.bytes_ever),
            ((0, 0), (0, 0))
        );
        assert_eq!(store.vary(&key).await.expect("known"), ["accept-encoding"]);
        let entry = store.lookup(&whole).await.expect("held");
        assert_eq!(entry.meta.vary(), fields);
    }
}
