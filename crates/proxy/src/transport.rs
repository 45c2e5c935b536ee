//! What lies between a client's socket and HTTP: TLS where the listener has a certificate, and
//! which version of HTTP the client speaks, by ALPN (RFC 7301) or by prior knowledge
//! (RFC 9113 §3.3).

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use larder_policy::lines::Lines;

use crate::config;

/// What HTTP/2's connection preface begins with; no method of HTTP/1 does.
const PREFACE: &[u8; 3] = b"PRI";
const ALPN_HTTP_2: &[u8] = b"h2";

/// Why a listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read, or is no PEM file of this kind.
    #[error("cannot read {what} from {}", path.display())]
    File {
        what: &'static str,
        path: std::path::PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    /// The two do not belong together, or rustls does not take them.
    #[error("the certificate and the key cannot be used")]
    Unusable(#[source] rustls::Error),
}

/// A listener's certificate, ready to be shown.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads certificate chain and key.
    pub(crate) fn load(files: &config::Tls) -> Result<Self, TlsError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::File { what, path, source }
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
            .and_then(Iterator::collect)
            .map_err(failed("certificates", &files.cert))?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(failed("a private key", &files.key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![ALPN_HTTP_2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

/// A client's bytes.
#[derive(Debug)]
pub(crate) enum Stream {
    /// As they are, after those that have been read to find out what they are.
    Plain(Begun, TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The first bytes of a connection, as far as they have been read and not handed on.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    bytes: [u8; PREFACE.len()],
    read: usize,
    handed_on: usize,
}

impl Begun {
    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.read).unwrap_or_default()
    }

    /// Hands on what there is; false: nothing was left.
    fn fill(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = self.seen().get(self.handed_on..).unwrap_or_default();
        let fits = buf.remaining().min(left.len());
        buf.put_slice(left.get(..fits).unwrap_or_default());
        self.handed_on += fits;
        fits > 0
    }
}

/// Which version of HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.0 or 1.1.
    One,
    /// HTTP/2.
    Two,
}

/// Shakes hands where the listener has a certificate, and finds out what the client speaks.
/// HTTP/2 without TLS is looked for where `may_be_two`; once a client has begun to say, it has
/// `limit` to go on.
///
/// # Errors
/// The client's, or the socket's.
pub(crate) async fn open(
    mut stream: TcpStream,
    tls: Option<&Tls>,
    may_be_two: bool,
    limit: Duration,
) -> io::Result<(Stream, Spoken)> {
    if let Some(Tls(acceptor)) = tls {
        let stream = acceptor.accept(stream).await?;
        let spoken = match stream.get_ref().1.alpn_protocol() {
            Some(ALPN_HTTP_2) => Spoken::Two,
            _ => Spoken::One,
        };
        return Ok((Stream::Tls(Box::new(stream)), spoken));
    }
    let mut begun = Begun::default();
    let spoken = if may_be_two && knows_two(&mut stream, &mut begun, limit).await? {
        Spoken::Two
    } else {
        Spoken::One
    };
    Ok((Stream::Plain(begun, stream), spoken))
}

/// True if the client begins with HTTP/2's preface. Reads no more than it takes to tell.
async fn knows_two(stream: &mut TcpStream, begun: &mut Begun, limit: Duration) -> io::Result<bool> {
    read_some(stream, begun).await?;
    let telling = async {
        while begun.seen().len() < PREFACE.len() && PREFACE.starts_with(begun.seen()) {
            read_some(stream, begun).await?;
        }
        Ok(begun.seen() == PREFACE)
    };
    tokio::time::timeout(limit, telling).await?
}

async fn read_some(stream: &mut TcpStream, begun: &mut Begun) -> io::Result<()> {
    let room = begun.bytes.get_mut(begun.read..).unwrap_or_default();
    match stream.read(room).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => {
            begun.read += read;
            Ok(())
        }
    }
}

/// Marks what has come into `buf` since it held `before` bytes. A head that is spoilt is ended there:
/// its parser may have nothing to say of it before it sees its end. What makes room for the end may
/// have been what spoilt it, so the end does too.
pub(crate) fn mark(lines: &mut Lines, buf: &mut ReadBuf<'_>, before: usize) {
    const END: &[u8; 5] = b"\0\r\n\r\n";
    let come = buf.filled_mut().get_mut(before..).unwrap_or_default();
    if lines.mark(come) {
        let missing = END.len().saturating_sub(buf.remaining());
        let kept = buf.filled().len().saturating_sub(missing);
        buf.set_filled(kept.max(before));
        let fits = buf.remaining().min(END.len());
        buf.put_slice(END.get(..fits).unwrap_or_default());
    }
}

impl Stream {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(_, stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(begun, stream) => {
                if begun.fill(buf) {
                    return Poll::Ready(Ok(()));
                }
                Pin::new(stream).poll_read(cx, buf)
            }
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(_, stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(_, stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(_, stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_, stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_, stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser gets of `head`, which comes into a buffer of `size` bytes that has `before` of
    /// another.
    fn marked(head: &[u8], size: usize, before: usize) -> (Vec<u8>, bool) {
        let mut bytes = vec![b'x'; size];
        let mut buf = ReadBuf::new(&mut bytes);
        buf.set_filled(before);
        buf.put_slice(head);
        mark(&mut Lines::of_requests(), &mut buf, before);
        let come = buf.filled()[before..].to_vec();
        let (head, rest) = match come.iter().position(|byte| *byte == 0) {
            Some(at) => come.split_at(at),
            None => (&come[..], &[][..]),
        };
        (head.to_vec(), rest.ends_with(b"\0\r\n\r\n"))
    }

    #[test]
    fn what_spoils_a_head_stays_in_it_where_its_buffer_is_full() {
        let whole = b"GET / HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaa";
        for back in 1..=20 {
            let mut head = whole.to_vec();
            let at = head.len() - back;
            head[at] = b'\n';
            for room in 0..8 {
                for before in [0, 7] {
                    let size = before + head.len() + room;
                    let (kept, is_ended) = marked(&head, size, before);
                    let first = at.min(size - before - 5);
                    assert_eq!(kept, &head[..first], "{back} {room}");
                    assert!(is_ended, "{back} {room}");
                }
            }
        }
    }

    #[test]
    fn what_spoils_a_head_stays_in_the_smallest_buffer() {
        for size in 1..5 {
            let mut head = vec![b'G'; size];
            head[size - 1] = b'\n';
            for before in [0, 3] {
                assert_eq!(marked(&head, before + size, before), (vec![], false));
            }
        }
    }
}
