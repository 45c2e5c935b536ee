//! The RPC port: TLS with a client certificate, HTTP/2, and the service that a path names.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use hyper::{body::Incoming, server::conn::http2};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::CertificateError;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tonic::{Status, body::Body, server::NamedService};

use super::{
    services::Services,
    wire::rpcpb::{
        generic_server::GenericServer, groups_server::GroupsServer,
        ignition_server::IgnitionServer, profiles_server::ProfilesServer,
        select_server::SelectServer,
    },
};
use crate::{
    Provision,
    config::TlsFiles,
    error::Error,
    library::FILE_BYTES_MAX,
    listen::{self, HEAD_TIMEOUT, Listening},
    tls,
};

/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 64;

/// Serves the RPC services on `address`.
///
/// # Errors
///
/// Files that make no TLS server, an address that cannot be bound.
pub async fn start(
    provision: Arc<Provision>,
    address: &str,
    files: &TlsFiles,
) -> Result<Listening, Error> {
    let acceptor = tls::for_rpc(files)?;
    let listener = listen::bind(address).await?;
    let services = Services(provision);
    listen::accept(listener, move |stream, client, stopping| {
        connection(services.clone(), acceptor.clone(), stream, client, stopping)
    })
}

async fn connection(
    services: Services,
    acceptor: TlsAcceptor,
    stream: listen::Stream,
    client: SocketAddr,
    mut stopping: watch::Receiver<bool>,
) {
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let mend = mend(&error);
            return tracing::warn!(%client, "RPC client refused: {error}{mend}");
        }
        Err(_) => return tracing::debug!(%client, "RPC: no TLS handshake in time"),
    };
    let service = hyper::service::service_fn(move |request| call(services.clone(), request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = listen::stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%client, "RPC connection: {error}");
    }
}

/// What to do about a certificate of X.509's first version, which openssl makes without extensions: Go takes it
/// of a client, rustls of nobody.
fn mend(error: &io::Error) -> &'static str {
    let source = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(CertificateError::Other(why))) = source else {
        return "";
    };
    if why.0.to_string().contains("UnsupportedCertVersion") {
        "; make one of version 3: `larder provision pki init`, or `openssl x509 -req -extfile` with extendedKeyUsage=clientAuth"
    } else {
        ""
    }
}

/// Hands a call to the service that its path names: `/rpcpb.Groups/GroupPut`.
async fn call(
    services: Services,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let service = request.uri().path().split('/').nth(1).unwrap_or_default();
    let bytes_max = FILE_BYTES_MAX as usize;
    macro_rules! serve {
        ($($server:ident),*) => {
            $(if service == <$server<Services> as NamedService>::NAME {
                let server = $server::new(services).max_decoding_message_size(bytes_max);
                let server = TowerToHyperService::new(server);
                return hyper::service::Service::call(&server, request).await;
            })*
        };
    }
    serve!(
        GroupsServer,
        ProfilesServer,
        IgnitionServer,
        GenericServer,
        SelectServer
    );
    let unknown = Status::unimplemented(format!("unknown service {service}"));
    Ok(unknown.into_http())
}
