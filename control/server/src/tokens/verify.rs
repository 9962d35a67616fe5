//! Is this token ours, in time, for us, and is everything it is bound to still there?

use std::sync::Arc;
use std::time::Instant;

use jsonwebtoken::{Validation, decode, decode_header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::claims::{Claims, Reference};
use super::{Tokens, meta};
use crate::remarks::remark;
use crate::user::UserInfo;

/// A token's key in `UserInfo::extra` (KEP-4193).
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
/// Clocks of the server's replicas may differ by this much, in seconds.
const LEEWAY: u64 = 10;
/// A deleted pod's token works this many seconds longer than the pod's own grace period.
const DELETED_LEEWAY: i64 = 60;
/// So many checked signatures are remembered; then all are forgotten.
const REMEMBERED: usize = 8192;
/// Nothing that long was ever issued; keeps hostile input cheap.
const LONGEST: usize = 16 * 1024;

/// A token that was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub user: UserInfo,
    /// Those of the wanted audiences that it is for.
    pub audiences: Vec<String>,
}

impl Tokens {
    /// Whether a token claims to be from this issuer, before anything about it is checked.
    pub fn claims_to_be_ours(&self, token: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Issuer {
            iss: String,
        }
        token.len() <= LONGEST
            && jsonwebtoken::dangerous::insecure_decode_claims::<Issuer>(token)
                .is_ok_and(|claims| self.is_issuer(&claims.iss))
    }

    fn is_issuer(&self, name: &str) -> bool {
        self.issuer == name || self.further_issuers.iter().any(|one| one == name)
    }

    /// Verifies a token for at least one of `audiences` (the API server's own where empty).
    ///
    /// # Errors
    ///
    /// The reason, for logs and TokenReview; a client is told only that it is not authorized.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, String> {
        let claims = self.checked_claims(token)?;
        let now = self.seconds();
        if now >= claims.expires.saturating_add(LEEWAY) {
            return Err("service account token has expired".into());
        }
        if claims.not_before > now.saturating_add(LEEWAY) {
            return Err("service account token is not valid yet".into());
        }
        if claims.issued > now.saturating_add(LEEWAY) {
            return Err("service account token is issued in the future".into());
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let audiences: Vec<String> =
            wanted.iter().filter(|a| claims.audiences.contains(a)).cloned().collect();
        if audiences.is_empty() {
            return Err(format!(
                "token audiences {:?} is invalid for the target audiences {wanted:?}",
                claims.audiences
            ));
        }
        self.check_bound(&claims, now)?;
        match tell_stale(&claims, now) {
            true => self.metrics.stale.inc(),
            false => self.metrics.valid.inc(),
        }
        Ok(Verified { user: user(&claims), audiences })
    }

    fn checked_claims(&self, token: &str) -> Result<Arc<Claims>, String> {
        if token.len() > LONGEST {
            return Err("token is too long".into());
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let (started, cache) = (Instant::now(), &self.metrics.cache);
        let known = self.checked.lock().get(&digest).cloned();
        if let Some(claims) = known {
            cache.looked(true, started.elapsed());
            return Ok(claims);
        }
        let decoded = self.decode(token);
        cache.looked(false, started.elapsed());
        cache.fetched(decoded.is_ok());
        let claims = Arc::new(decoded?);
        let mut checked = self.checked.lock();
        if checked.len() >= REMEMBERED {
            checked.clear();
        }
        checked.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims, String> {
        let claims: Claims = self.signed(token)?;
        let expected =
            format!("system:serviceaccount:{}:{}", claims.bound.namespace, claims.bound.serviceaccount.name);
        if !self.is_issuer(&claims.issuer) || claims.subject != expected {
            return Err("the token's subject and service account differ".into());
        }
        Ok(claims)
    }

    /// What a token says that a key of this cluster signed. Nothing else about it is checked.
    pub(super) fn signed<T: DeserializeOwned>(&self, token: &str) -> Result<T, String> {
        let header = decode_header(token).map_err(|error| error.to_string())?;
        // Times and audiences are checked at every use, with the clock given; here only what never changes.
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let candidates = self.keys.candidates(header.kid.as_deref());
        candidates
            .filter(|key| key.takes(header.alg))
            .find_map(|key| decode::<T>(token, &key.key, &validation).ok())
            .map(|data| data.claims)
            .ok_or_else(|| "no key of this cluster signed the token".into())
    }

    fn check_bound(&self, claims: &Claims, now: u64) -> Result<(), String> {
        let bound = &claims.bound;
        let namespace = bound.namespace.as_str();
        self.check_object("serviceaccounts", namespace, "service account", &bound.serviceaccount, now)?;
        if let Some(pod) = &bound.pod {
            self.check_object("pods", namespace, "pod", pod, now)?;
        } else if let Some(node) = &bound.node {
            self.check_object("nodes", "", "node", node, now)?;
        }
        if let Some(secret) = &bound.secret {
            self.check_object("secrets", namespace, "secret", secret, now)?;
        }
        Ok(())
    }

    fn check_object(
        &self,
        resource: &str,
        namespace: &str,
        what: &str,
        reference: &Reference,
        now: u64,
    ) -> Result<(), String> {
        let Some(object) = self.reader.get("", resource, namespace, &reference.name) else {
            return Err(format!("the {what} {} of the token is gone", reference.name));
        };
        if meta(&object, "uid") != reference.uid {
            return Err(format!("the {what} {} of the token was replaced", reference.name));
        }
        if deleted_before(&object, i64::try_from(now).unwrap_or(i64::MAX) - DELETED_LEEWAY) {
            return Err(format!("the {what} {} of the token is being deleted", reference.name));
        }
        Ok(())
    }
}

/// Has it written down that a token should have been renewed before, if so.
fn tell_stale(claims: &Claims, now: u64) -> bool {
    let since = claims.bound.warnafter.filter(|from| *from != 0 && *from < now);
    let Some(seconds) = since.map(|from| now - from) else { return false };
    let said = format!("subject: {}, seconds after warning threshold: {seconds}", claims.subject);
    remark(|notes| notes.annotate("authentication.k8s.io/stale-token", said));
    true
}

/// Whether an object's deletion was due before `limit`, in seconds since 1970.
fn deleted_before(object: &Value, limit: i64) -> bool {
    let timestamp = meta(object, "deletionTimestamp");
    !timestamp.is_empty() && timestamp.parse::<jiff::Timestamp>().is_ok_and(|at| at.as_second() < limit)
}

fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.bound;
    let mut user = UserInfo::service_account(&bound.namespace, &bound.serviceaccount.name);
    user.uid.clone_from(&bound.serviceaccount.uid);
    let mut add = |key: &str, value: &str| {
        user.extra.insert(key.to_owned(), vec![value.to_owned()]);
    };
    if !claims.id.is_empty() {
        add(CREDENTIAL_ID, &format!("JTI={}", claims.id));
    }
    if let Some(pod) = &bound.pod {
        add("authentication.kubernetes.io/pod-name", &pod.name);
        add("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        add("authentication.kubernetes.io/node-name", &node.name);
        add("authentication.kubernetes.io/node-uid", &node.uid);
    }
    user
}
