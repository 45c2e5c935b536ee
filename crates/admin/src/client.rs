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

    /// Asks for lines, and hands each to `each` until it returns false.
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
        loop {
            while let Some(end) = waiting.iter().position(|&byte| byte == b'\n') {
                let line = waiting.split_to(end + 1);
                let value: Value = serde_json::from_slice(&line)
                    .map_err(|error| ClientError::Senseless(error.to_string()))?;
                if let Some(why) = value.get("error").and_then(Value::as_str) {
                    return Err(ClientError::Senseless(why.to_owned()));
                }
                if !each(value) {
                    return Ok(());
                }
            }
            match next(&mut answer).await? {
                Some(bytes) if waiting.len() < LINE_MAX => waiting.extend_from_slice(&bytes),
                Some(_) => return Err(ClientError::Senseless("a line without end".to_owned())),
                None if waiting.is_empty() => return Ok(()),
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
