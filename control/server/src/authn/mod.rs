//! Who makes a request: client certificates, service-account tokens, a static token file, and impersonation.
//!
//! Owns the order in which credentials are tried. A certificate that the TLS layer verified comes first, then the bearer
//! token. Credentials that nobody accepts are an error, never the anonymous user.

mod impersonate;
mod static_tokens;
#[cfg(test)]
mod tests;
mod x509;

use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

pub use impersonate::impersonated;
pub use static_tokens::StaticTokens;

use crate::gate::{Authenticator, Clock, Credentials};
use crate::tokens::Tokens;
use crate::user::UserInfo;

/// The authenticators of this server, in order.
pub struct Chain {
    tokens: Arc<Tokens>,
    static_tokens: StaticTokens,
    clock: Clock,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

impl Chain {
    /// A chain of certificates, service-account tokens and the static tokens given.
    pub fn new(tokens: Arc<Tokens>, static_tokens: StaticTokens, clock: Clock) -> Self {
        Self { tokens, static_tokens, clock }
    }
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, String> {
        if let Some(leaf) = credentials.certificates.first() {
            return x509::user(leaf, (self.clock)()).map(Some);
        }
        let Some(token) = &credentials.bearer else { return Ok(None) };
        if let Some(user) = self.static_tokens.find(token) {
            return Ok(Some(user));
        }
        if !self.tokens.claims_to_be_ours(token) {
            return Err("the bearer token is of no known kind".into());
        }
        self.tokens.verify(token, &[]).map(|verified| Some(verified.user))
    }
}

/// The credentials of a request: what the connection brought (a request extension) and the `Authorization` header.
///
/// # Errors
///
/// For an `Authorization` header that is neither absent nor `Bearer TOKEN`.
pub fn credentials(parts: &Parts) -> Result<Credentials, String> {
    let mut credentials = parts.extensions.get::<Credentials>().cloned().unwrap_or_default();
    if let Some(header) = parts.headers.get(http::header::AUTHORIZATION) {
        let text = header.to_str().map_err(|_| "the Authorization header is not text")?;
        let (scheme, token) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let token = token.trim();
        // An unknown scheme is as if nothing was said, as in upstream; a certificate may still speak.
        if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            credentials.bearer = Some(token.to_owned());
        }
    }
    if credentials.bearer.is_none() {
        credentials.bearer = websocket_bearer(parts);
    }
    Ok(credentials)
}

/// Browsers cannot set headers on a WebSocket: they send the token as a subprotocol.
fn websocket_bearer(parts: &Parts) -> Option<String> {
    use base64::Engine;
    const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";
    let offered = parts.headers.get_all(http::header::SEC_WEBSOCKET_PROTOCOL);
    let encoded = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(PREFIX))?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
    String::from_utf8(bytes).ok()
}
