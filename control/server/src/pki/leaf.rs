//! Keys with certificates that the authority signed: for whom, and when a new one is due.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::authority::Authority;
use super::files::{read_text, write_private, write_public};
use crate::error::Error;

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To prove an identity to a server.
    Client,
    /// To be a server.
    Server,
}

/// Whom a certificate names.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Common name: the user.
    pub name: String,
    /// Organization: the user's group. (rcgen writes one value of a kind; more than one is never needed.)
    pub group: Option<String>,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// Client or server.
    pub purpose: Purpose,
}

impl Subject {
    /// A client with its group.
    pub fn client(name: &str, group: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            group: group.map(str::to_owned),
            names: Vec::new(),
            purpose: Purpose::Client,
        }
    }

    /// A server under the DNS names and addresses given.
    pub fn server(name: &str, group: Option<&str>, names: Vec<String>) -> Self {
        Self { names, purpose: Purpose::Server, ..Self::client(name, group) }
    }
}

/// A private key with its certificate.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PEM (PKCS #8).
    pub key_pem: String,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

impl Leaf {
    /// Reads `NAME.crt` and `NAME.key`.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub fn read(directory: &Path, name: &str) -> Result<Self, Error> {
        Ok(Self {
            certificate_pem: read_text(&directory.join(format!("{name}.crt")))?,
            key_pem: read_text(&directory.join(format!("{name}.key")))?,
        })
    }

    /// Makes sure that `NAME.crt` and `NAME.key` are there and good for a while; returns whether they were issued anew.
    pub(super) fn ensure(
        directory: &Path,
        name: &str,
        subject: &Subject,
        authority: &Authority,
        now: SystemTime,
    ) -> Result<bool, Error> {
        if Self::read(directory, name).is_ok_and(|leaf| leaf.is_good(subject, authority, now)) {
            return Ok(false);
        }
        let leaf = authority.issue(subject, now)?;
        // A crash between the two leaves a pair that does not match, which the next start replaces.
        write_private(&directory.join(format!("{name}.key")), &leaf.key_pem)?;
        write_public(&directory.join(format!("{name}.crt")), &leaf.certificate_pem)?;
        Ok(true)
    }

    fn is_good(&self, subject: &Subject, authority: &Authority, now: SystemTime) -> bool {
        let (Ok(block), Ok(ca), Ok(key)) = (
            parse_certificate(&self.certificate_pem),
            parse_certificate(authority.certificate_pem()),
            rcgen::KeyPair::from_pem(&self.key_pem),
        ) else {
            return false;
        };
        let (Ok(certificate), Ok(ca)) = (block.parse_x509(), ca.parse_x509()) else { return false };
        certificate.public_key().raw == rcgen::PublicKeyData::subject_public_key_info(&key)
            && certificate.verify_signature(Some(ca.public_key())).is_ok()
            && names(&certificate) == subject.names.iter().cloned().collect()
            && remaining(&certificate, now) > super::RENEW_BEFORE
    }
}

/// The first certificate of a PEM text.
pub(super) fn parse_certificate(pem: &str) -> Result<Pem, Error> {
    match x509_parser::pem::parse_x509_pem(pem.as_bytes()) {
        Ok((_, block)) if block.label == "CERTIFICATE" => Ok(block),
        _ => Err(Error::NotACertificate),
    }
}

fn remaining(certificate: &X509Certificate<'_>, now: SystemTime) -> Duration {
    let end = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    (UNIX_EPOCH + Duration::from_secs(end)).duration_since(now).unwrap_or(Duration::ZERO)
}

fn names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return BTreeSet::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(IpAddr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).collect()
}
