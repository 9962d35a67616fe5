//! The cluster's certificate authorities: created once, read ever after, sign everything else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::files::{read_text, write_private, write_public};
use super::leaf::{Leaf, Purpose, Subject};
use crate::error::Error;

const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates start this long before they are made, for machines whose clocks are behind.
pub(super) const BACKDATE: Duration = Duration::from_secs(300);

/// What an authority vouches for. The two never share a key: whoever the front proxy's authority signs for may speak for
/// any user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Users, nodes and servers of the cluster.
    Cluster,
    /// The proxy before aggregated API servers, which tells them who a user is.
    FrontProxy,
}

impl Role {
    fn file(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }

    fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// A certificate authority with its private key.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in `directory`.
    ///
    /// # Errors
    ///
    /// When one of its two files is missing or not what it should be.
    pub fn open(directory: &Path, role: Role) -> Result<Self, Error> {
        let file = |ending: &str| directory.join(format!("{}.{ending}", role.file()));
        Self::read(&file("crt"), &file("key"))
    }

    /// Reads an authority from its two files.
    ///
    /// # Errors
    ///
    /// When one of them is missing or not what it should be.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let (certificate_pem, key_path) = (read_text(certificate)?, key);
        let key = parse_key(key_path)?;
        let block = super::leaf::parse_certificate(&certificate_pem)?;
        let certificate = block.parse_x509().map_err(|_| Error::NotACertificate)?;
        if certificate.public_key().raw != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(Error::KeyMismatch { path: key_path.to_owned() });
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|source| Error::Certificate { operation: "read the certificate authority", source })?;
        Ok(Self { certificate_pem, issuer })
    }

    /// Opens the authority in `directory`, or makes one where there is none.
    ///
    /// # Errors
    ///
    /// When there is a certificate without its key (a new authority would cut off every client), or on failing files.
    pub fn open_or_create(directory: &Path, role: Role, now: SystemTime) -> Result<Self, Error> {
        let certificate_path = directory.join(format!("{}.crt", role.file()));
        let key_path = directory.join(format!("{}.key", role.file()));
        if certificate_path.exists() {
            return Self::open(directory, role);
        }
        // A key without a certificate is what a crash between the two leaves behind.
        let key = if key_path.exists() {
            parse_key(&key_path)?
        } else {
            let key = generate()?;
            write_private(&key_path, &key.serialize_pem())?;
            key
        };
        let certificate = parameters(role, now)
            .self_signed(&key)
            .map_err(|source| Error::Certificate { operation: "sign the certificate authority", source })?;
        write_public(&certificate_path, &certificate.pem())?;
        Self::open(directory, role)
    }

    /// The authority's own certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What signs.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// A new key with a certificate for `subject`, valid for a year from `now`.
    ///
    /// # Errors
    ///
    /// When a name cannot be put into a certificate.
    pub fn issue(&self, subject: &Subject, now: SystemTime) -> Result<Leaf, Error> {
        let key = generate()?;
        let failed = |source| Error::Certificate { operation: "issue a certificate", source };
        let mut params = CertificateParams::new(subject.names.clone()).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        // As in every certificate of Kubernetes: the common name is the user, the organization is a group.
        if let Some(group) = &subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, subject.name.as_str());
        params.not_before = offset(now - BACKDATE);
        params.not_after = offset(now + super::LEAF_LIFETIME);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.purpose {
            Purpose::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Purpose::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Leaf { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn generate() -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(|source| Error::Certificate { operation: "generate a key", source })
}

fn parse_key(path: &Path) -> Result<KeyPair, Error> {
    KeyPair::from_pem(&read_text(path)?)
        .map_err(|source| Error::Certificate { operation: "read the authority's key", source })
}

fn parameters(role: Role, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, role.common_name());
    params.not_before = offset(now - BACKDATE);
    params.not_after = offset(now + LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(super) fn offset(at: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(at)
}
