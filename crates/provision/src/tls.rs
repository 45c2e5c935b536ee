//! Certificates and keys from PEM files to TLS servers; rustls with ring.
//!
//! Everything is read and tried before a port is opened. matchbox starts with a garbage authority
//! and then refuses every client; larder refuses to start.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use crate::{config::TlsFiles, error::Error};

/// TLS for machines: no client certificate, HTTP/1.1.
pub(crate) fn for_machines(certificate: &Path, key: &Path) -> Result<TlsAcceptor, Error> {
    let tls = builder(certificate)?.with_no_client_auth();
    finish(tls, certificate, key, b"http/1.1")
}

/// TLS for the RPC port: every client shows a certificate of the authority, HTTP/2.
pub(crate) fn for_rpc(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("authority", &files.authority)? {
        roots.add(certificate).map_err(|error| Error::Pem {
            what: "authority",
            path: files.authority.clone(),
            why: error.to_string(),
        })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::Pem {
            what: "authority",
            path: files.authority.clone(),
            why: error.to_string(),
        })?;
    let tls = builder(&files.certificate)?.with_client_cert_verifier(verifier);
    finish(tls, &files.certificate, &files.key, b"h2")
}

fn builder(
    certificate: &Path,
) -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Tls(certificate.to_owned(), error))
}

fn finish(
    tls: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    certificate: &Path,
    key: &Path,
    protocol: &[u8],
) -> Result<TlsAcceptor, Error> {
    let chain = certificates("certificate", certificate)?;
    let pem = read("key", key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| Error::Pem {
        what: "key",
        path: key.to_owned(),
        why: format!("is no PEM key: {error}"),
    })?;
    let mut tls = tls
        .with_single_cert(chain, private)
        .map_err(|error| Error::Tls(certificate.to_owned(), error))?;
    tls.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsAcceptor::from(Arc::new(tls)))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |why| Error::Pem {
        what,
        path: path.to_owned(),
        why,
    };
    let pem = read(what, path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(format!("is no PEM certificate: {error}")))?;
    if chain.is_empty() {
        return Err(failed("holds no certificate".to_owned()));
    }
    Ok(chain)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Pem {
        what,
        path: path.to_owned(),
        why: format!("is unreadable: {error}"),
    })
}
