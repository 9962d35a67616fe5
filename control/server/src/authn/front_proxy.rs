//! A front proxy: a client whose certificate is of an authority of its own says in headers for whom it asks
//! (`--requestheader-*`; how an API server speaks to the servers that extend it).
//!
//! Headers of anybody else mean nothing, and nobody further on sees them.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::HeaderName;

use super::x509::{self, Verifier};
use super::{authenticated, unescape_key};
use crate::user::UserInfo;

/// The names of the headers; where several are given, the first with a value counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeaders {
    /// For the name (`X-Remote-User`).
    pub user: Vec<String>,
    /// For the uid (`X-Remote-Uid`).
    pub uid: Vec<String>,
    /// For the groups (`X-Remote-Group`), each of which may come several times.
    pub groups: Vec<String>,
    /// How headers for further attributes begin (`X-Remote-Extra-`).
    pub extra_prefixes: Vec<String>,
}

/// Believes a front proxy.
#[derive(Debug)]
pub struct FrontProxy {
    verifier: Arc<Verifier>,
    /// Common names of proxies; every certificate of the authority is one where there are none.
    allowed_names: Vec<String>,
    headers: ProxyHeaders,
}

impl FrontProxy {
    /// A proxy with a certificate of this authority and one of these names.
    pub fn new(verifier: Arc<Verifier>, allowed_names: Vec<String>, headers: ProxyHeaders) -> Self {
        Self { verifier, allowed_names, headers }
    }

    /// For whom a proxy asks; nobody where the client is no proxy or says nothing.
    ///
    /// # Errors
    ///
    /// When a proxy's certificate has a name that is not allowed.
    pub(crate) fn user(
        &self,
        certificates: &[Vec<u8>],
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<UserInfo>, String> {
        let [leaf, rest @ ..] = certificates else { return Ok(None) };
        if self.verifier.verify(leaf, rest, now).is_err() {
            return Ok(None);
        }
        let name = x509::common_name(leaf)?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&name) {
            return Err(format!("the front proxy {name:?} is not among those allowed"));
        }
        let Some(user) = self.first(headers, &self.headers.user) else { return Ok(None) };
        let mut found = UserInfo {
            name: user,
            uid: self.first(headers, &self.headers.uid).unwrap_or_default(),
            ..UserInfo::default()
        };
        for name in &self.headers.groups {
            let values = headers.get_all(name.as_str()).iter().filter_map(|value| value.to_str().ok());
            found.groups.extend(values.filter(|value| !value.is_empty()).map(str::to_owned));
        }
        for prefix in &self.headers.extra_prefixes {
            let prefix = prefix.to_lowercase();
            for (name, value) in headers {
                if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(&prefix), value.to_str()) {
                    found.extra.entry(unescape_key(key)).or_default().push(value.to_owned());
                }
            }
        }
        Ok(Some(authenticated(found)))
    }

    fn first(&self, headers: &HeaderMap, names: &[String]) -> Option<String> {
        let values = names.iter().filter_map(|name| headers.get(name.as_str())?.to_str().ok());
        values.filter(|value| !value.is_empty()).map(str::to_owned).next()
    }

    /// Takes the proxy's headers off a request.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        let ProxyHeaders { user, uid, groups, extra_prefixes } = &self.headers;
        let named = user.iter().chain(uid).chain(groups);
        let named: Vec<HeaderName> = named.filter_map(|name| name.parse().ok()).collect();
        let prefixed = headers.keys().filter(|key| {
            extra_prefixes.iter().any(|prefix| key.as_str().starts_with(&prefix.to_lowercase()))
        });
        let prefixed: Vec<HeaderName> = prefixed.cloned().collect();
        for name in named.into_iter().chain(prefixed) {
            headers.remove(name);
        }
    }
}
