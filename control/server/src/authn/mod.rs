//! Who makes a request: a front proxy's headers, client certificates, bearer tokens of several kinds, and impersonation.
//!
//! Owns the order in which credentials are tried, which is upstream's: a certificate that the TLS layer verified, then the
//! bearer token as one of the static file, of a service account, of a node that joins, of another issuer, or as one that a
//! webhook knows. What one does not know, the next is asked about; credentials that nobody accepts are an error, never the anonymous user.

mod anonymous;
mod bootstrap_token;
mod front_proxy;
mod impersonate;
mod jwt;
mod static_tokens;
#[cfg(test)]
mod tests;
mod webhook;
#[cfg(test)]
mod webhook_tests;
mod x509;

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;
use http::request::Parts;

pub use anonymous::Anonymous;
pub use bootstrap_token::BootstrapTokens;
pub use front_proxy::{FrontProxy, ProxyHeaders};
pub(crate) use impersonate::impersonated;
pub use jwt::{AuthenticationConfiguration, Issuer, JwtTokens, OidcFlags};
pub use skep_api::review::ReviewVersion;
pub use static_tokens::StaticTokens;
pub use webhook::WebhookTokens;
pub use x509::Verifier;
pub(crate) use x509::{BY_CERTIFICATE, CREDENTIAL_ID, seconds_left};

use crate::gate::{Authenticator, Clock, Credentials};
use crate::tokens::Tokens;
use crate::user::UserInfo;

/// What is said of a token that is nobody's.
const INVALID: &str = "invalid bearer token";
/// Longer tokens are nobody's.
const LONGEST: usize = 64 * 1024;

/// One kind of bearer token.
#[async_trait]
pub trait TokenAuthenticator: Send + Sync + 'static {
    /// `Ok(None)` for a token of another kind, `Err` for one of this kind that is not valid.
    ///
    /// Tokens that carry no audience are for the API server: `audiences` are those wanted, empty for its own.
    async fn authenticate(&self, token: &str, audiences: &[String]) -> Result<Option<Known>, String>;
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The user.
    pub user: UserInfo,
    /// Those of the wanted audiences that it is for; empty for kinds that know no audiences.
    pub audiences: Vec<String>,
}

/// The authenticators of this server, in order.
pub struct Chain {
    tokens: Vec<Arc<dyn TokenAuthenticator>>,
    audiences: Vec<String>,
    clock: Clock,
    /// The client CA, where the TLS layer accepts certificates of others, too.
    verifier: Option<Arc<Verifier>>,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

impl Chain {
    /// A chain of certificates, static tokens and service-account tokens.
    pub fn new(tokens: Arc<Tokens>, static_tokens: StaticTokens, clock: Clock) -> Self {
        let audiences = tokens.audiences().to_vec();
        let chain: Vec<Arc<dyn TokenAuthenticator>> = vec![Arc::new(static_tokens), tokens];
        Self { tokens: chain, audiences, clock, verifier: None }
    }

    /// Adds a kind of token, to be asked after those that are there.
    #[must_use]
    pub fn with(mut self, kind: Arc<dyn TokenAuthenticator>) -> Self {
        self.tokens.push(kind);
        self
    }

    /// Accepts only certificates of this authority.
    #[must_use]
    pub fn with_client_authority(mut self, verifier: Arc<Verifier>) -> Self {
        self.verifier = Some(verifier);
        self
    }

    /// Whose token it is, for one of `audiences`, or for the API server where there are none.
    ///
    /// # Errors
    ///
    /// Why it is nobody's.
    pub async fn token(&self, token: &str, audiences: &[String]) -> Result<Known, String> {
        if token.len() > LONGEST {
            return Err("the token is too long".into());
        }
        let mut errors = Vec::new();
        for kind in &self.tokens {
            match kind.authenticate(token, audiences).await {
                Ok(None) => {}
                Err(error) => errors.push(error),
                // One for others is as good as none.
                Ok(Some(known)) => match self.for_us(known, audiences) {
                    Some(known) => return Ok(known),
                    None => return Err(INVALID.into()),
                },
            }
        }
        match errors.as_slice() {
            [] => Err(INVALID.into()),
            reasons => Err(format!("[{INVALID}, {}]", reasons.join(", "))),
        }
    }

    /// Tokens without audiences are for this server; nothing for those of others.
    fn for_us(&self, mut known: Known, wanted: &[String]) -> Option<Known> {
        if known.audiences.is_empty() {
            let ours = self.audiences.iter().filter(|one| wanted.is_empty() || wanted.contains(one));
            known.audiences = ours.cloned().collect();
        }
        if known.audiences.is_empty() {
            return None;
        }
        Some(known)
    }
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, String> {
        let mut failed = credentials.refused.clone();
        if let [leaf, rest @ ..] = credentials.certificates.as_slice() {
            let now = (self.clock)();
            let verified = match &self.verifier {
                Some(verifier) => verifier.verify(leaf, rest, now),
                None => Ok(()),
            };
            match verified.and_then(|()| x509::user(leaf, now)) {
                Ok(user) => return Ok(Some(user)),
                Err(reason) => failed = Some(reason),
            }
        }
        let found = match &credentials.bearer {
            Some(token) => self.token(token, &[]).await.map(Some),
            None => Ok(None),
        };
        match (found, failed) {
            (Ok(Some(known)), _) => Ok(Some(authenticated(known.user))),
            (Err(reason), None) | (Ok(None), Some(reason)) => Err(reason),
            (Err(token), Some(certificate)) => Err(format!("[{certificate}, {token}]")),
            (Ok(None), None) => Ok(None),
        }
    }
}

/// Everybody who is known is in this group.
pub(crate) fn authenticated(mut user: UserInfo) -> UserInfo {
    const GENERAL: [&str; 2] = ["system:authenticated", "system:unauthenticated"];
    if user.name != "system:anonymous" && !user.groups.iter().any(|group| GENERAL.contains(&group.as_str())) {
        user.groups.push(GENERAL[0].to_owned());
    }
    user
}

/// The key in the name of an extra header, percent-decoded; as it is where it cannot be.
pub(super) fn unescape_key(key: &str) -> String {
    let key = key.to_lowercase();
    crate::request::percent_decoded(&key).unwrap_or(key)
}

/// The credentials of a request: what the connection brought (a request extension) and the `Authorization` header.
///
/// # Errors
///
/// For an `Authorization` header that is not text.
pub fn credentials(parts: &Parts) -> Result<Credentials, String> {
    let mut credentials = parts.extensions.get::<Credentials>().cloned().unwrap_or_default();
    if let Some(header) = parts.headers.get(http::header::AUTHORIZATION) {
        let text = header.to_str().map_err(|_| "the Authorization header is not text")?;
        // One space, and nothing that stands behind another one: so does upstream read it.
        let mut parts = text.trim().split(' ');
        let (scheme, token) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // An unknown scheme is as if nothing was said, as in upstream; a certificate may still speak.
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            credentials.bearer = Some(token.to_owned());
        }
    }
    if credentials.bearer.is_none() {
        credentials.bearer = websocket_bearer(&parts.headers);
    }
    Ok(credentials)
}

/// Browsers cannot set headers on a WebSocket: they send the token as a subprotocol.
fn websocket_bearer(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let offered = headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let encoded = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(PREFIX))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
