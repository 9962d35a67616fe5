//! The endpoint's TLS: its certificate, read anew when its file changes, and which authority's clients are taken.
//!
//! A client without a certificate completes the handshake and is answered 401, as upstream's kubelet does; one with
//! a certificate of another authority does not get that far.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::refusal::describe;
use crate::{EndpointConfig, EndpointError};

/// What the files said when they were last read, and when their certificate was written.
struct Loaded {
    written: Option<SystemTime>,
    tls: Arc<ServerConfig>,
}

/// The endpoint's certificate and its clients' authority.
pub(crate) struct Credentials {
    config: EndpointConfig,
    loaded: Mutex<Loaded>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// Files that cannot be read or used.
    pub(crate) fn load(config: EndpointConfig) -> Result<Self, EndpointError> {
        let loaded = Loaded { written: written(&config.serving_cert), tls: read(&config)? };
        Ok(Self { config, loaded: Mutex::new(loaded) })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut loaded = self.loaded.lock();
        let written = written(&self.config.serving_cert);
        if written.is_some() && written != loaded.written {
            match read(&self.config) {
                Ok(tls) => *loaded = Loaded { written, tls },
                // Half of it is written, perhaps: what there was serves until the new can be read.
                Err(error) => tracing::warn!(error = describe(&error), "a new certificate cannot be used"),
            }
        }
        TlsAcceptor::from(Arc::clone(&loaded.tls))
    }
}

fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// The server's side of TLS 1.2 and 1.3 for HTTP/1.1.
fn read(config: &EndpointConfig) -> Result<Arc<ServerConfig>, EndpointError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |source| EndpointError::Authority { path: config.client_ca.clone(), source };
    let mut roots = RootCertStore::empty();
    for authority in certificates(&config.client_ca)? {
        roots.add(authority).map_err(|error| unusable(error.into()))?;
    }
    // Refuses an empty set.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(error.into()))?;
    let chain = certificates(&config.serving_cert)?;
    let key = PrivateKeyDer::from_pem_file(&config.serving_key)
        .map_err(|source| EndpointError::Read { path: config.serving_key.clone(), source })?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    // Upgrades to WebSocket and SPDY exist in HTTP/1.1 only.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let fail = |source| EndpointError::Read { path: path.to_owned(), source };
    CertificateDer::pem_file_iter(path).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)
}
