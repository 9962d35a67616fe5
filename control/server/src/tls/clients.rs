//! Certificates of clients. One that the cluster's authority did not sign does not end the handshake, as long as the client
//! has its key: the requests that come with it are answered, with 401 unless another credential speaks for them. A client
//! whose certificate is out of date learns that from an answer, not from a connection that ends.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::keys::{failed, roots};
use crate::error::Error;
use crate::gate::Credentials;

/// Asks for a certificate, takes any, and [tells](Self::credentials) afterwards what it is worth.
#[derive(Debug)]
pub(super) struct Clients(Arc<dyn ClientCertVerifier>);

impl Clients {
    /// Those whose certificates the authorities in a PEM text signed.
    pub(super) fn of(authorities: &str, provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|source| failed("use the client certificate authority", source))?;
        Ok(Self(verifier))
    }

    /// What a client that showed this chain comes with. A chain that is not accepted is not among it.
    pub(super) fn credentials(&self, chain: &[CertificateDer<'_>]) -> Credentials {
        let [leaf, rest @ ..] = chain else { return Credentials::default() };
        match self.0.verify_client_cert(leaf, rest, UnixTime::now()) {
            Ok(_) => {
                let certificates = chain.iter().map(|certificate| certificate.to_vec()).collect();
                Credentials { certificates, ..Credentials::default() }
            }
            Err(error) => {
                let refused = Some(format!("the client certificate is not accepted: {error}"));
                Credentials { refused, ..Credentials::default() }
            }
        }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
