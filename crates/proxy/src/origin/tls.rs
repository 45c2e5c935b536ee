//! TLS to origins: rustls with ring, the system's certificate authorities and an optional file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Why no TLS client could be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The file of certificate authorities cannot be read.
    #[error("cannot read certificate authorities from {0}")]
    CaFile(PathBuf, #[source] rustls_pki_types::pem::Error),
    /// The file holds no certificate.
    #[error("{0} holds no certificate")]
    NoCertificate(PathBuf),
    /// rustls refuses the protocol versions that it was built with.
    #[error("cannot set up TLS")]
    Setup(#[source] rustls::Error),
}

/// A client set-up that trusts the system's authorities and those of `ca_file`.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, refused) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    tracing::debug!(added, refused, "system certificate authorities");
    if let Some(path) = ca_file {
        let read: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates = read.map_err(|error| TlsError::CaFile(path.to_owned(), error))?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(TlsError::NoCertificate(path.to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
