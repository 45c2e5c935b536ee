//! Files for booting machines, through the cache: a request to larder's own forward listener, in the
//! form `/http/HOST/PATH` that iPXE uses too. It is judged, kept and logged as every other request.

use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Address;

/// The way into the cache of a larder on this host, or of any that takes `/http/HOST/PATH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    listener: SocketAddr,
}

type Error = Box<dyn StdError + Send + Sync>;

impl Cache {
    /// The way by the first forward listener among `proxy`.
    pub fn behind(proxy: &[Address]) -> Option<Self> {
        let mut forward = proxy.iter().filter(|(mode, _)| *mode == "forward");
        forward.next().map(|(_, listener)| Self::at(*listener))
    }

    /// The way by a forward listener at this address.
    pub fn at(listener: SocketAddr) -> Self {
        Self { listener }
    }

    /// The port by which machines reach it, unless it listens for this host alone.
    pub fn port_for_machines(&self) -> Option<u16> {
        let is_local = self.listener.ip().to_canonical().is_loopback();
        (!is_local).then_some(self.listener.port())
    }

    /// Where to connect: a wildcard address is reached by loopback.
    fn door(self) -> SocketAddr {
        let ip = match self.listener.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.listener.port())
    }

    async fn get(self, mut request: Request<()>) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = own_form(request.uri())?;
        let door = self.door();
        let host = HeaderValue::from_str(&door.to_string())?;
        request.headers_mut().insert(HOST, host);
        let stream = TcpStream::connect(door).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with its one answer, read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a fetch through the cache broke off");
            }
        });
        let request = request.map(|()| Empty::<Bytes>::new());
        Ok(sender.send_request(request).await?)
    }
}

/// `/http/HOST/PATH` of an absolute URL.
fn own_form(url: &Uri) -> Result<Uri, Error> {
    let scheme = url.scheme_str().ok_or("the URL has no scheme")?;
    let authority = url.authority().ok_or("the URL has no host")?;
    if !matches!(scheme, "http" | "https") || authority.as_str().contains('@') {
        return Err(format!("{scheme} URLs with this host are not fetched").into());
    }
    let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
    Ok(format!("/{scheme}/{authority}{path}").parse()?)
}

impl larder_provision::Fetch for Cache {
    fn fetch(
        &self,
        request: Request<()>,
        _client: Option<IpAddr>,
    ) -> larder_provision::Fetching<'_> {
        let cache = *self;
        Box::pin(async move {
            let response = cache.get(request).await?;
            Ok(response.map(|body| body.map_err(io::Error::other).boxed_unsync()))
        })
    }
}

impl larder_boot::Fetch for Cache {
    fn fetch(&self, url: &str) -> larder_boot::fetch::Fetching {
        let cache = *self;
        let request = Request::get(url).body(());
        Box::pin(async move {
            let response = cache.get(request.map_err(io::Error::other)?).await;
            let response = response.map_err(io::Error::other)?;
            if response.status() != StatusCode::OK {
                return Err(io::Error::other(format!("answered {}", response.status())));
            }
            let length = response.headers().get(CONTENT_LENGTH);
            let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
            let body = response.into_body().map_err(io::Error::other).boxed();
            Ok(larder_boot::Fetched { length, body })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_take_the_form_that_the_forward_listener_knows() {
        let form = |url: &str| own_form(&url.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(form("http://h/a/b?c").unwrap(), "/http/h/a/b?c");
        assert_eq!(form("https://h:8443").unwrap(), "/https/h:8443/");
        for url in ["ftp://h/a", "/a", "http://user@h/a"] {
            assert!(form(url).is_err(), "{url}");
        }
    }

    /// A listener that gives one answer; its address and, later, the request's first line.
    async fn answering(answer: &'static str) -> (Cache, tokio::task::JoinHandle<String>) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cache = Cache::at(listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            text.lines().next().unwrap_or_default().to_owned()
        });
        (cache, asked)
    }

    #[tokio::test]
    async fn tftp_gets_a_body_whole_or_an_error() {
        let (cache, asked) = answering("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody").await;
        let fetched = larder_boot::Fetch::fetch(&cache, "http://h/a")
            .await
            .unwrap();
        assert_eq!(fetched.length, Some(4));
        let body = fetched.body.collect().await.unwrap().to_bytes();
        assert_eq!(
            (&body[..], asked.await.unwrap()),
            (&b"body"[..], "GET /http/h/a HTTP/1.1".to_owned())
        );
        let (cache, _asked) =
            answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        let refused = larder_boot::Fetch::fetch(&cache, "http://h/a").await;
        assert!(refused.unwrap_err().to_string().contains("404"));
        let (cache, _asked) = answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody").await;
        let cut = larder_boot::Fetch::fetch(&cache, "http://h/a")
            .await
            .unwrap();
        assert!(cut.body.collect().await.is_err(), "a torn body is no body");
    }

    #[test]
    fn a_wildcard_is_reached_by_loopback_and_a_loopback_listener_is_for_nobody_else() {
        let wildcard = Cache::at("[::]:3128".parse().unwrap());
        assert_eq!(wildcard.door().to_string(), "[::1]:3128");
        assert_eq!(wildcard.port_for_machines(), Some(3128));
        let local = Cache::at("127.0.0.1:3128".parse().unwrap());
        assert_eq!(local.port_for_machines(), None);
    }
}
