//! The listener's keys, replaceable while connections are served.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::clients::Clients;
use super::named::{Named, Resolver};
use super::options::TlsOptions;
use crate::error::Error;
use crate::pki::Leaf;

/// The serving certificate and the authority of clients. Clones share them.
#[derive(Clone)]
pub struct TlsKeys {
    options: TlsOptions,
    material: Arc<Mutex<Material>>,
    configs: Arc<RwLock<Configs>>,
}

/// What connections begin with.
struct Configs {
    clients: Arc<Clients>,
    usual: Arc<ServerConfig>,
    /// By the address that a client connected to: those who ask for no name may know the server by that.
    by_address: HashMap<IpAddr, Arc<ServerConfig>>,
}

/// What is in use.
struct Material {
    serving: Leaf,
    client_ca: String,
    named: Vec<Named>,
}

impl std::fmt::Debug for TlsKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsKeys").finish_non_exhaustive()
    }
}

impl TlsKeys {
    /// Keys that serve with `serving` and accept client certificates signed by `client_ca_pem`.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub fn new(serving: &Leaf, client_ca_pem: &str) -> Result<Self, Error> {
        Self::with(serving, client_ca_pem, TlsOptions::default())
    }

    /// The same, with these versions and ciphers.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub fn with(serving: &Leaf, client_ca_pem: &str, options: TlsOptions) -> Result<Self, Error> {
        let (serving, client_ca) = (serving.clone(), client_ca_pem.to_owned());
        let material = Material { serving, client_ca, named: Vec::new() };
        let configs = Arc::new(RwLock::new(configs(&material, &options)?));
        Ok(Self { options, material: Arc::new(Mutex::new(material)), configs })
    }

    /// Uses other keys for new connections.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the former ones stay.
    pub fn reload(&self, serving: &Leaf, client_ca_pem: &str) -> Result<(), Error> {
        let (serving, client_ca) = (serving.clone(), client_ca_pem.to_owned());
        self.change(|former| Material { serving, client_ca, named: former.named.clone() })
    }

    /// Uses these certificates for clients that ask for their names, from now on and besides the serving certificate.
    ///
    /// # Errors
    ///
    /// When they cannot be used; the former ones stay.
    pub fn name(&self, named: Vec<Named>) -> Result<(), Error> {
        self.change(|former| Material {
            serving: former.serving.clone(),
            client_ca: former.client_ca.clone(),
            named,
        })
    }

    fn change(&self, how: impl FnOnce(&Material) -> Material) -> Result<(), Error> {
        let mut material = self.material.lock();
        let new = how(&material);
        *self.configs.write() = configs(&new, &self.options)?;
        *material = new;
        Ok(())
    }

    /// What a connection to that address of this machine begins with, and what its client's certificate is held against.
    pub(super) fn current(&self, local: Option<IpAddr>) -> (Arc<ServerConfig>, Arc<Clients>) {
        let configs = self.configs.read();
        let config = local.and_then(|local| configs.by_address.get(&local)).unwrap_or(&configs.usual);
        (Arc::clone(config), Arc::clone(&configs.clients))
    }
}

fn configs(material: &Material, options: &TlsOptions) -> Result<Configs, Error> {
    let clients = Arc::new(Clients::of(&material.client_ca, options.provider())?);
    let config = |resolver| config(&clients, options, resolver).map(Arc::new);
    let resolver = Resolver::new(&material.serving, &material.named)?;
    let by_address = resolver.by_address().into_iter();
    let by_address = by_address.map(|(address, one)| Ok((address, config(one)?)));
    let by_address = by_address.collect::<Result<_, Error>>()?;
    let usual = config(resolver)?;
    Ok(Configs { clients, usual, by_address })
}

fn config(clients: &Arc<Clients>, options: &TlsOptions, resolver: Resolver) -> Result<ServerConfig, Error> {
    let clients: Arc<dyn ClientCertVerifier> = Arc::<Clients>::clone(clients);
    let mut config = ServerConfig::builder_with_provider(options.provider())
        .with_protocol_versions(options.versions())
        .map_err(|source| failed("choose protocol versions", source))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(resolver));
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM text, at least one.
///
/// # Errors
///
/// When there is none or one is malformed.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| failed("read certificates", source))?;
    if all.is_empty() { Err(Error::NotACertificate) } else { Ok(all) }
}

/// The private key of a PEM text.
///
/// # Errors
///
/// When there is none.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|source| failed("read a private key", source))
}

/// The certificates of a PEM text as trust anchors.
///
/// # Errors
///
/// When there is none or one cannot be an anchor.
pub fn roots(pem: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|source| failed("use a certificate authority", source))?;
    }
    Ok(roots)
}

pub(super) fn failed(
    operation: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::Tls { operation, source: source.into() }
}
