//! Tokens of other issuers (OpenID Connect): whose signature their keys verify, and whose claims are mapped to a user.
//!
//! Owns the set of issuers that is in force, which can be replaced while requests run. [`configuration`] reads it,
//! [`provider`] follows an issuer's keys, [`mapping`] makes a user of claims.

pub(super) mod configuration;
mod keyset;
mod mapping;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::{Known, TokenAuthenticator};
use crate::error::Error;
use crate::gate::Clock;

pub use configuration::{AuthenticationConfiguration, Issuer, OidcFlags};

use provider::Provider;

/// `nbf` may be so far in the future (seconds): clocks differ.
const LEEWAY: f64 = 300.0;

/// So long issuers may take to tell their keys before they take the place of others.
const READY: Duration = Duration::from_secs(60);

/// The claims of a token.
pub(super) type Claims = Map<String, Value>;

/// Knows the tokens of the issuers that are configured.
pub struct JwtTokens {
    issuers: RwLock<Arc<[Followed]>>,
    clock: Clock,
}

struct Followed {
    issuer: Issuer,
    provider: Provider,
}

impl std::fmt::Debug for JwtTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JwtTokens").finish_non_exhaustive()
    }
}

impl JwtTokens {
    /// The tokens of these issuers, whose keys are fetched from now on.
    ///
    /// # Errors
    ///
    /// When the authority of an issuer cannot be used.
    pub fn new(issuers: Vec<Issuer>, clock: Clock) -> Result<Self, Error> {
        crate::tokens::use_ring();
        Ok(Self { issuers: RwLock::new(follow(issuers)?), clock })
    }

    /// Puts other issuers in place at once; those before are not asked any more.
    ///
    /// # Errors
    ///
    /// When the authority of an issuer cannot be used; the issuers before stay.
    pub fn replace(&self, issuers: Vec<Issuer>) -> Result<(), Error> {
        *self.issuers.write() = follow(issuers)?;
        Ok(())
    }

    /// Puts other issuers in place once all their keys are there, so that no token that is good before and after is refused
    /// in between.
    ///
    /// # Errors
    ///
    /// When the authority of an issuer cannot be used, or keys are not there in time; the issuers before stay.
    pub async fn replace_when_ready(&self, issuers: Vec<Issuer>) -> Result<(), Error> {
        let followed = follow(issuers)?;
        let ready = async {
            for one in followed.iter() {
                one.provider.ready().await;
            }
        };
        if tokio::time::timeout(READY, ready).await.is_err() {
            let missing = followed.iter().filter(|one| !one.provider.is_ready());
            let issuers = missing.map(|one| one.issuer.url.clone()).collect();
            return Err(Error::IssuersNotReady { issuers });
        }
        *self.issuers.write() = followed;
        Ok(())
    }

    async fn verified(&self, followed: &Followed, token: &str) -> Result<Claims, String> {
        let header = decode_header(token).map_err(|error| format!("oidc: malformed jwt: {error}"))?;
        let algorithm = header.alg;
        if !followed.issuer.algorithms.contains(&algorithm) {
            return Err(format!("oidc: id token signed with unsupported algorithm {algorithm:?}"));
        }
        let keys = followed.provider.keys(header.kid.as_deref()).await?;
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        // Times and audiences are checked below, by the clock that this server goes by.
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        let found = keys
            .candidates(header.kid.as_deref(), algorithm)
            .find_map(|key| decode::<Claims>(token, key, &validation).ok());
        let claims = found.ok_or("oidc: failed to verify id token signature")?.claims;
        self.check(&followed.issuer, &claims)?;
        Ok(claims)
    }

    fn check(&self, issuer: &Issuer, claims: &Claims) -> Result<(), String> {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer.url.as_str()) {
            return Err("oidc: id token issued by a different provider".into());
        }
        let audiences = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !audiences.iter().any(|one| issuer.audiences.iter().any(|wanted| wanted == one)) {
            return Err(format!("oidc: expected audience in {:?} got {audiences:?}", issuer.audiences));
        }
        let now = (self.clock)().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let time = |claim: &str| claims.get(claim).and_then(Value::as_f64);
        if time("exp").is_none_or(|expires| now > expires) {
            return Err("oidc: token is expired".into());
        }
        if time("nbf").is_some_and(|begins| now + LEEWAY < begins) {
            return Err("oidc: current time is before the nbf (not before) time".into());
        }
        Ok(())
    }
}

/// Begins to follow issuers. Needs a runtime.
fn follow(issuers: Vec<Issuer>) -> Result<Arc<[Followed]>, Error> {
    let followed = issuers.into_iter().map(|issuer| {
        let provider = Provider::follow(&issuer)?;
        Ok(Followed { issuer, provider })
    });
    Ok(followed.collect::<Result<Vec<_>, Error>>()?.into())
}

/// The issuer that a token claims to be from, before anything about it is checked.
fn claimed_issuer(token: &str) -> Option<String> {
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token).ok()?;
    claims.get("iss").and_then(Value::as_str).map(str::to_owned)
}

#[async_trait]
impl TokenAuthenticator for JwtTokens {
    async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Known>, String> {
        let issuers = Arc::clone(&self.issuers.read());
        if issuers.is_empty() {
            return Ok(None);
        }
        let Some(claimed) = claimed_issuer(token) else { return Ok(None) };
        let Some(followed) = issuers.iter().find(|one| one.issuer.url == claimed) else { return Ok(None) };
        let claims = self.verified(followed, token).await?;
        let user = mapping::user(&followed.issuer, claims)?;
        Ok(Some(Known { user, audiences: Vec::new() }))
    }
}

/// Algorithms that a token may be signed with, by name.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "RS256" => Some(Algorithm::RS256),
        "RS384" => Some(Algorithm::RS384),
        "RS512" => Some(Algorithm::RS512),
        "ES256" => Some(Algorithm::ES256),
        "ES384" => Some(Algorithm::ES384),
        "PS256" => Some(Algorithm::PS256),
        "PS384" => Some(Algorithm::PS384),
        "PS512" => Some(Algorithm::PS512),
        _ => None,
    }
}
