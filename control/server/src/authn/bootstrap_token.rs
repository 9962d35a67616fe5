//! Bootstrap tokens: `ID.SECRET`, kept as Secrets of the type `bootstrap.kubernetes.io/token` in kube-system, with which
//! nodes ask for their first certificate. They end when the Secret says so, or is gone.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Known, TokenAuthenticator};
use crate::gate::{Clock, ObjectReader};
use crate::user::UserInfo;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// Looks bootstrap tokens up.
pub struct BootstrapTokens {
    reader: Arc<dyn ObjectReader>,
    clock: Clock,
}

impl std::fmt::Debug for BootstrapTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BootstrapTokens").finish_non_exhaustive()
    }
}

impl BootstrapTokens {
    /// Tokens in the Secrets that `reader` shows.
    pub fn new(reader: Arc<dyn ObjectReader>, clock: Clock) -> Self {
        Self { reader, clock }
    }
}

/// The two parts of a token: six and sixteen lower-case letters or digits.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

fn data(secret: &Value, key: &str) -> String {
    let encoded = secret["data"][key].as_str().unwrap_or_default();
    STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Whether a token with that expiry is still good. One that cannot be read is not.
fn is_in_time(expiration: &str, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    expiration.is_empty() || expiration.parse::<jiff::Timestamp>().is_ok_and(|at| at.as_second() > now)
}

/// `system:bootstrappers` and what the Secret adds to it, which must lie below.
fn groups(listed: &str) -> Option<Vec<String>> {
    let mut groups = vec![GROUP.to_owned()];
    for group in listed.split(',').filter(|group| !group.is_empty()) {
        let rest = group.strip_prefix(GROUP)?.strip_prefix(':')?;
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '-');
        let ends = rest.chars().last().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !ends || rest.len() > 255 || !rest.chars().all(inner) {
            return None;
        }
        if !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups.sort();
    Some(groups)
}

/// The user of a token, if the Secret makes it one.
fn user(object: &Value, id: &str, secret: &str, now: SystemTime) -> Result<UserInfo, &'static str> {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return Err("is being deleted");
    }
    if object["type"] != TYPE {
        return Err("is of another type");
    }
    // By digest, so that the time it takes tells nothing of the secret.
    if Sha256::digest(data(object, "token-secret")) != Sha256::digest(secret) {
        return Err("has another token-secret");
    }
    if data(object, "token-id") != id {
        return Err("has another token-id");
    }
    if !is_in_time(&data(object, "expiration"), now) {
        return Err("has expired");
    }
    if data(object, "usage-bootstrap-authentication") != "true" {
        return Err("is not for authentication");
    }
    let groups = groups(&data(object, "auth-extra-groups")).ok_or("has groups that it may not have")?;
    Ok(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate(&self, token: &str, _: &[String]) -> Result<Option<Known>, String> {
        let Some((id, secret)) = parse(token) else { return Ok(None) };
        let name = format!("bootstrap-token-{id}");
        let Some(object) = self.reader.get("", "secrets", "kube-system", &name) else { return Ok(None) };
        match user(&object, id, secret, (self.clock)()) {
            Ok(user) => Ok(Some(Known { user, audiences: Vec::new() })),
            Err(why) => {
                tracing::info!(secret = name, why, "a bootstrap token was not accepted");
                Ok(None)
            }
        }
    }
}
