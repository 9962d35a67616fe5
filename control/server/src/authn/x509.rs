//! Client certificates: the common name is the user, the organizations are the groups.
//!
//! The TLS layer has verified the chain when the connection was made; the dates are checked at every request, because
//! connections live longer than that. Where that layer accepts several authorities, a [`Verifier`] tells them apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::error::Error;
use crate::user::UserInfo;

/// Where a user's extra tells by which credentials it is known, and how that begins for certificates.
pub(crate) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
pub(crate) const BY_CERTIFICATE: &str = "X509SHA256=";
/// The attribute of a subject that is its uid (Kubernetes' own, below its enterprise number).
const UID: &str = "1.3.6.1.4.1.57683.2";
/// So many verified certificates are remembered; then all are forgotten.
const REMEMBERED: usize = 4096;

/// Tells the certificates of one authority from others: signature, dates, and that they are for clients.
pub struct Verifier {
    inner: RwLock<Arc<dyn ClientCertVerifier>>,
    /// Digests of chains that were found good. Dates are checked at every use.
    good: Mutex<HashMap<[u8; 32], ()>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for the authorities in a PEM text.
    ///
    /// # Errors
    ///
    /// When there are none, or one cannot be used.
    pub fn new(ca_pem: &str) -> Result<Self, Error> {
        Ok(Self { inner: RwLock::new(verifier(ca_pem)?), good: Mutex::default() })
    }

    /// Goes on with other authorities.
    ///
    /// # Errors
    ///
    /// When there are none, or one cannot be used; the former ones stay.
    pub fn reload(&self, ca_pem: &str) -> Result<(), Error> {
        let new = verifier(ca_pem)?;
        let mut good = self.good.lock();
        *self.inner.write() = new;
        good.clear();
        Ok(())
    }

    pub(super) fn verify(&self, leaf: &[u8], rest: &[Vec<u8>], now: SystemTime) -> Result<(), String> {
        let digest: [u8; 32] = {
            let mut hash = Sha256::new();
            [leaf].into_iter().chain(rest.iter().map(Vec::as_slice)).for_each(|part| hash.update(part));
            hash.finalize().into()
        };
        if self.good.lock().contains_key(&digest) {
            return in_time(leaf, now);
        }
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let rest: Vec<CertificateDer<'_>> =
            rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let inner = Arc::clone(&self.inner.read());
        inner
            .verify_client_cert(&CertificateDer::from(leaf), &rest, now)
            .map_err(|error| format!("the client certificate is not accepted: {error}"))?;
        let mut good = self.good.lock();
        if !Arc::ptr_eq(&inner, &self.inner.read()) {
            // The authorities changed meanwhile.
            return Ok(());
        }
        if good.len() >= REMEMBERED {
            good.clear();
        }
        good.insert(digest, ());
        Ok(())
    }
}

fn verifier(ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(crate::tls::roots(ca_pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| Error::Tls { operation: "build a client verifier", source: Box::new(error) })
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| "the client certificate is malformed".to_owned())
}

/// What a certificate says, whatever the time is.
#[derive(Debug)]
struct Told {
    /// Seconds since the Unix epoch.
    not_before: i64,
    not_after: i64,
    /// Nobody, if it has no common name, or uids that cannot be taken for one.
    user: Result<UserInfo, String>,
}

/// What the certificates said that came last. Every request comes with one, and reading it costs more than most of what
/// else is done for a small request; what it says never changes.
static READ: RwLock<BTreeMap<Box<[u8]>, Arc<Told>>> = RwLock::new(BTreeMap::new());

/// What a certificate says, read once.
fn told(der: &[u8]) -> Result<Arc<Told>, String> {
    if let Some(told) = READ.read().get(der) {
        return Ok(Arc::clone(told));
    }
    let told = Arc::new(Told::read(der)?);
    let mut read = READ.write();
    if read.len() >= REMEMBERED {
        read.clear();
    }
    read.insert(der.into(), Arc::clone(&told));
    Ok(told)
}

impl Told {
    fn read(der: &[u8]) -> Result<Self, String> {
        let certificate = parse(der)?;
        let (subject, validity) = (certificate.subject(), certificate.validity());
        let name = subject.iter_common_name().last().and_then(|name| name.as_str().ok());
        let groups: Vec<&str> =
            subject.iter_organization().filter_map(|attribute| attribute.as_str().ok()).collect();
        let name = name.filter(|name| !name.is_empty()).ok_or("the client certificate has no common name");
        let user = name.map_err(str::to_owned).and_then(|name| {
            let mut user = UserInfo::new(name, &groups);
            user.uid = uid(subject)?;
            let mut id = BY_CERTIFICATE.to_owned();
            for byte in Sha256::digest(der) {
                // Writing to a string cannot fail.
                let _ = write!(id, "{byte:02x}");
            }
            user.extra.insert(CREDENTIAL_ID.into(), vec![id]);
            Ok(user)
        });
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { not_before, not_after, user })
    }

    fn user(&self) -> Result<&UserInfo, String> {
        self.user.as_ref().map_err(Clone::clone)
    }
}

/// The uid that a certificate gives its user, empty if it gives none.
fn uid(subject: &X509Name<'_>) -> Result<String, String> {
    let uids = subject.iter_attributes().filter(|attribute| attribute.attr_type().to_id_string() == UID);
    let uids: Vec<&str> = uids
        .map(|attribute| attribute.as_str().map_err(|_| "unable to parse UID into a string".to_owned()))
        .collect::<Result<_, _>>()?;
    match uids.as_slice() {
        [] => Ok(String::new()),
        [""] => Err("UID cannot be an empty string".to_owned()),
        [one] => Ok((*one).to_owned()),
        several => Err(format!("expected 1 UID, but found multiple: [{}]", several.join(" "))),
    }
}

fn in_time(der: &[u8], now: SystemTime) -> Result<(), String> {
    let told = told(der)?;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now < told.not_before || now > told.not_after {
        return Err("the client certificate has expired or is not yet valid".into());
    }
    Ok(())
}

/// For how many seconds a certificate is still good.
pub(crate) fn seconds_left(der: &[u8], now: SystemTime) -> Option<i64> {
    let now = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok())?;
    Some(told(der).ok()?.not_after - now)
}

/// The common name of a certificate.
pub(super) fn common_name(der: &[u8]) -> Result<String, String> {
    Ok(told(der)?.user()?.name.clone())
}

pub(super) fn user(der: &[u8], now: SystemTime) -> Result<UserInfo, String> {
    in_time(der, now)?;
    told(der)?.user().cloned()
}
