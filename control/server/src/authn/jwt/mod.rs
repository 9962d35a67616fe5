//! Tokens of other issuers (OpenID Connect): whose signature their keys verify, and whose claims are mapped to a user.
//!
//! Owns the set of issuers that is in force, which can be replaced while requests run. [`configuration`] reads it,
//! [`provider`] follows an issuer's keys, [`signing`] judges signatures, [`distributed`] finds groups that are elsewhere,
//! [`mapping`] makes a user of claims.

pub(super) mod configuration;
mod distributed;
#[cfg(test)]
mod distributed_tests;
mod keyset;
mod mapping;
mod provider;
mod signing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Known, TokenAuthenticator};
use crate::error::Error;
use crate::gate::Clock;
use crate::metrics::IssuerMetrics;
use crate::user::UserInfo;

pub use configuration::{AuthenticationConfiguration, Issuer, OidcFlags};

use distributed::Distributed;
use provider::Provider;
use signing::{Head, Signing};

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
    metrics: IssuerMetrics,
}

struct Followed {
    issuer: Issuer,
    provider: Provider,
    distributed: Option<Distributed>,
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
    pub fn new(issuers: Vec<Issuer>, clock: Clock, metrics: IssuerMetrics) -> Result<Self, Error> {
        crate::tokens::use_ring();
        let issuers = RwLock::new(follow(issuers, &clock, &metrics)?);
        Ok(Self { issuers, clock, metrics })
    }

    /// Puts other issuers in place at once; those before are not asked any more.
    ///
    /// # Errors
    ///
    /// When the authority of an issuer cannot be used; the issuers before stay.
    pub fn replace(&self, issuers: Vec<Issuer>) -> Result<(), Error> {
        let followed = follow(issuers, &self.clock, &self.metrics)?;
        self.put(followed);
        Ok(())
    }

    fn put(&self, followed: Arc<[Followed]>) {
        let before = std::mem::replace(&mut *self.issuers.write(), followed.clone());
        self.forget(&before, &followed);
    }

    /// Counts nothing any more of issuers that are not among others.
    fn forget(&self, those: &[Followed], others: &[Followed]) {
        let stays = |url: &str| others.iter().any(|one| one.issuer.url == url);
        for gone in those.iter().filter(|one| !stays(&one.issuer.url)) {
            self.metrics.forget(&gone.issuer.url);
        }
    }

    /// Puts other issuers in place once all their keys are there, so that no token that is good before and after is refused
    /// in between.
    ///
    /// # Errors
    ///
    /// When the authority of an issuer cannot be used, or keys are not there in time; the issuers before stay.
    pub async fn replace_when_ready(&self, issuers: Vec<Issuer>) -> Result<(), Error> {
        let followed = follow(issuers, &self.clock, &self.metrics)?;
        let ready = async {
            for one in followed.iter() {
                one.provider.ready().await;
            }
        };
        if tokio::time::timeout(READY, ready).await.is_err() {
            let missing = followed.iter().filter(|one| !one.provider.is_ready());
            let issuers = missing.map(|one| one.issuer.url.clone()).collect();
            let current = Arc::clone(&self.issuers.read());
            self.forget(&followed, &current);
            return Err(Error::IssuersNotReady { issuers });
        }
        self.put(followed);
        Ok(())
    }

    /// The claims of a token of the issuer at `url`, whose keys `provider` has, by the rules that `issuer` has.
    async fn verified(
        &self,
        (url, provider): (&str, &Provider),
        issuer: &Issuer,
        token: &str,
    ) -> Result<Claims, String> {
        let Head { algorithm, key } = Head::of(token)?;
        let signing = Signing::named(&algorithm).filter(|signing| issuer.algorithms.contains(signing));
        let Some(signing) = signing else {
            return Err(format!("oidc: id token signed with unsupported algorithm {algorithm:?}"));
        };
        let keys = provider.keys(key.as_deref()).await?;
        let found =
            keys.candidates(key.as_deref(), signing).find_map(|candidate| candidate.claims(token, signing));
        let claims = found.ok_or("oidc: failed to verify id token signature")?;
        self.check(url, issuer, &claims)?;
        Ok(claims)
    }

    /// Puts the groups into the claims that these only refer to.
    async fn expand(
        &self,
        followed: &Followed,
        distributed: &Distributed,
        token: &str,
        claims: &mut Claims,
    ) -> Result<(), String> {
        let (claim, issuer) = (&distributed.claim, &followed.issuer);
        let source = distributed::sources(claims)?.remove(claim);
        // What the token has itself counts; and a claim that came along as a token of its own, upstream leaves alone.
        let Some(source) = source.filter(|one| !claims.contains_key(claim) && !one.endpoint.is_empty())
        else {
            return Ok(());
        };
        if let Some(value) = distributed.remembered(token) {
            claims.insert(claim.clone(), value);
            return Ok(());
        }
        let other = distributed.fetch(&source).await?;
        let named = claimed_issuer(&other).ok_or_else(|| {
            let place = &source.endpoint;
            format!(
                "getting untrusted issuer from endpoint {place} failed for claim {claim:?}: malformed token"
            )
        })?;
        let verified = if named == issuer.url {
            self.verified((named.as_str(), &followed.provider), issuer, &other).await
        } else {
            let provider = distributed.provider(&named).await;
            let provider =
                provider.map_err(|why| format!("verifying untrusted issuer {named} failed: {why}"))?;
            self.verified((named.as_str(), &*provider), issuer, &other).await
        };
        let mut found = verified.map_err(|why| format!("verify distributed claim token: {why}"))?;
        let value = found.remove(claim).ok_or_else(|| {
            let place = &source.endpoint;
            format!("jwt returned by distributed claim endpoint {place:?} did not contain claim: {claim}")
        })?;
        distributed.remember(token, value.clone());
        claims.insert(claim.clone(), value);
        Ok(())
    }

    fn check(&self, url: &str, issuer: &Issuer, claims: &Claims) -> Result<(), String> {
        if claims.get("iss").and_then(Value::as_str) != Some(url) {
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
        distributed::sources(claims).map(drop)
    }
}

impl JwtTokens {
    /// Whose a token of this issuer is.
    async fn user(&self, followed: &Followed, token: &str) -> Result<UserInfo, String> {
        let issuer = (followed.issuer.url.as_str(), &followed.provider);
        let mut claims = self.verified(issuer, &followed.issuer, token).await?;
        if let Some(distributed) = &followed.distributed {
            let expanded = self.expand(followed, distributed, token, &mut claims).await;
            expanded.map_err(|why| format!("oidc: could not expand distributed claims: {why}"))?;
        }
        mapping::user(&followed.issuer, claims)
    }
}

/// Begins to follow issuers. Needs a runtime.
fn follow(issuers: Vec<Issuer>, clock: &Clock, metrics: &IssuerMetrics) -> Result<Arc<[Followed]>, Error> {
    let followed = issuers.into_iter().map(|issuer| {
        let provider = Provider::follow(&issuer, clock.clone(), metrics.clone())?;
        let distributed = Distributed::of(&issuer);
        Ok(Followed { issuer, provider, distributed })
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
        let started = Instant::now();
        let user = self.user(followed, token).await;
        self.metrics.known(&claimed, user.is_ok(), started.elapsed());
        Ok(Some(Known { user: user?, audiences: Vec::new() }))
    }
}
