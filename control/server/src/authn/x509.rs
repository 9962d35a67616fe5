//! Client certificates: the common name is the user, the organizations are the groups.
//!
//! The TLS layer has verified the chain when the connection was made; the dates are checked at every request, because
//! connections live longer than that.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::user::UserInfo;

pub(super) fn user(der: &[u8], now: SystemTime) -> Result<UserInfo, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "the client certificate is malformed")?;
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() || now > validity.not_after.timestamp() {
        return Err("the client certificate has expired or is not yet valid".into());
    }
    let subject = certificate.subject();
    let text =
        |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned);
    let name = subject
        .iter_common_name()
        .last()
        .and_then(|attribute| text(attribute).ok())
        .filter(|name| !name.is_empty())
        .ok_or("the client certificate has no common name")?;
    let groups: Vec<String> =
        subject.iter_organization().filter_map(|attribute| text(attribute).ok()).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut user = UserInfo::new(name, &groups);
    let mut id = "X509SHA256=".to_owned();
    for byte in Sha256::digest(der) {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    user.extra.insert("authentication.kubernetes.io/credential-id".into(), vec![id]);
    Ok(user)
}
