//! Certificates by the name that a client asks for (SNI): those of `--tls-sni-cert-key`, or else the server's own. Clients
//! ask for no name when they connect to an address: then the certificate of that address counts, if there is one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::keys::{certificates, failed, private_key};
use crate::error::Error;
use crate::pki::{Leaf, read_text};

/// Files of a certificate for names of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFiles {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The names, `*.` for all below; those in the certificate where there are none.
    pub names: Vec<String>,
}

/// A certificate for names of its own.
#[derive(Clone)]
pub struct Named {
    /// The certificate and its key.
    pub leaf: Leaf,
    /// The names; those in the certificate where there are none.
    pub names: Vec<String>,
}

impl NamedFiles {
    /// Reads `CERTIFICATE,KEY` or `CERTIFICATE,KEY:NAME,NAME`.
    ///
    /// # Errors
    ///
    /// When that is not what it is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (files, names) = match text.split_once(':') {
            Some((files, names)) => {
                (files, names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect())
            }
            None => (text, Vec::new()),
        };
        match files.split_once(',') {
            Some((certificate, key)) if !certificate.is_empty() && !key.is_empty() && !key.contains(',') => {
                Ok(Self { certificate: certificate.into(), key: key.into(), names })
            }
            _ => Err("expected comma separated certificate and key file paths".into()),
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn read(&self) -> Result<Named, Error> {
        let leaf = Leaf { certificate_pem: read_text(&self.certificate)?, key_pem: read_text(&self.key)? };
        Ok(Named { leaf, names: self.names.clone() })
    }
}

/// All certificates of a listener.
#[derive(Clone, Debug)]
pub(super) struct Resolver {
    own: Arc<CertifiedKey>,
    /// For who asks for no name.
    unnamed: Arc<CertifiedKey>,
    named: Vec<(Vec<String>, Arc<CertifiedKey>)>,
}

impl Resolver {
    pub(super) fn new(own: &Leaf, named: &[Named]) -> Result<Self, Error> {
        let mut all = Vec::new();
        for one in named {
            let key = certified(&one.leaf)?;
            let names = if one.names.is_empty() { names_in(&key) } else { one.names.clone() };
            all.push((names, Arc::new(key)));
        }
        let own = Arc::new(certified(own)?);
        Ok(Self { unnamed: own.clone(), own, named: all })
    }

    /// For each address among the names: the same certificates, but that of the address for who asks for none.
    pub(super) fn by_address(&self) -> HashMap<IpAddr, Self> {
        let mut all = HashMap::new();
        for (names, key) in &self.named {
            for address in names.iter().filter_map(|name| name.parse::<IpAddr>().ok()) {
                // The first one counts, as with names.
                all.entry(address).or_insert_with(|| Self { unnamed: key.clone(), ..self.clone() });
            }
        }
        all
    }

    fn find(&self, name: &str) -> Arc<CertifiedKey> {
        let name = name.to_ascii_lowercase();
        let below = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let with = |wanted: &str| self.named.iter().find(|(names, _)| names.iter().any(|one| one == wanted));
        let found = with(&name).or_else(|| with(below.as_deref()?));
        found.map_or(&self.own, |(_, key)| key).clone()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(hello.server_name().map_or_else(|| self.unnamed.clone(), |name| self.find(name)))
    }
}

fn certified(leaf: &Leaf) -> Result<CertifiedKey, Error> {
    let chain = certificates(&leaf.certificate_pem)?;
    let key = rustls::crypto::ring::sign::any_supported_type(&private_key(&leaf.key_pem)?)
        .map_err(|source| failed("use a private key", source))?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .map_err(|source| failed("use a certificate with a key that is not its own", source))?;
    Ok(certified)
}

/// The DNS names and the addresses in a certificate.
fn names_in(key: &CertifiedKey) -> Vec<String> {
    let Some(first) = key.cert.first() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(first) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let known = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    known.collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_is_read_as_upstream_reads_it() {
        let files = NamedFiles::parse("a.crt,a.key:Example.org,*.example.org").unwrap();
        assert_eq!(files.names, ["example.org", "*.example.org"]);
        assert_eq!((files.certificate, files.key), ("a.crt".into(), "a.key".into()));
        assert!(NamedFiles::parse("a.crt,a.key").unwrap().names.is_empty());
        assert_eq!(NamedFiles::parse("a,b:192.0.2.1,fd00::1").unwrap().names, ["192.0.2.1", "fd00::1"]);
        for bad in ["", "a.crt", "a.crt,", ",a.key", "a,b,c"] {
            assert!(NamedFiles::parse(bad).is_err(), "{bad}");
        }
    }
}
