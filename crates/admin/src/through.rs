//! Fetches an object through the proxy, as a client would, and throws the bytes away: what it
//! leaves in the cache is what is wanted.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::ClientError;
use crate::variant::Field;

/// Asks the forward proxy at `proxy` for a URL, with these fields, and reads the answer to its end.
/// Returns its status.
pub async fn fetch(proxy: SocketAddr, url: &str, fields: &[Field]) -> Result<u16, ClientError> {
    let senseless = |why: String| ClientError::Senseless(why);
    let uri: Uri = url
        .parse()
        .map_err(|_bad| senseless(format!("{url} is no URL")))?;
    let authority = uri.authority().map(ToString::to_string);
    let stream = TcpStream::connect(proxy).await.map_err(ClientError::Gone)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ClientError::Broken)?;
    // Its end is seen by the sender.
    tokio::spawn(async move { drop(connection.await) });
    let mut request = Request::get(uri).header(HOST, authority.unwrap_or_default());
    for (name, value) in fields {
        if let Some(value) = value {
            request = request.header(name, value.as_slice());
        }
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| senseless(error.to_string()))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(ClientError::Broken)?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        drop(frame.map_err(ClientError::Broken)?);
    }
    Ok(status)
}
