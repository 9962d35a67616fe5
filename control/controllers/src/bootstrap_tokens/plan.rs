//! What becomes of tokens and of what they sign. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use ring::hmac;

use super::KUBECONFIG;

/// How keys with signatures begin; the token's id follows.
const SIGNATURE: &str = "jws-kubeconfig-";

fn data<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// The seconds that are left to a token, nothing for one without an end. One whose end cannot be read is over.
pub(super) fn left(secret: &Secret, now: i64) -> Option<u64> {
    let end = data(secret, "expiration")?;
    let seconds = end.parse::<jiff::Timestamp>().map_or(0, |end| end.as_second().saturating_sub(now));
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Id and secret of a token that is in time and may sign.
pub(super) fn signing_token(secret: &Secret, now: i64) -> Option<(String, String)> {
    let (id, token) = (data(secret, "token-id")?, data(secret, "token-secret")?);
    let named = secret.metadata.name.as_deref() == Some(&format!("bootstrap-token-{id}"));
    let may = data(secret, "usage-bootstrap-signing") == Some("true");
    let in_time = left(secret, now) != Some(0);
    (named && may && in_time && secret.metadata.deletion_timestamp.is_none())
        .then(|| (id.to_owned(), token.to_owned()))
}

/// A detached signature (RFC 7515, appendix F): header and signature, the content left out between them.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{id}\"}}").as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("{id}.{secret}").as_bytes());
    let tag = hmac::sign(&key, format!("{header}.{}", encode(content.as_bytes())).as_bytes());
    format!("{header}..{}", encode(tag.as_ref()))
}

/// The ConfigMap with exactly the signatures of these tokens; `None` when it has them, or has nothing to sign.
pub(super) fn signed(there: &ConfigMap, tokens: &BTreeMap<String, String>) -> Option<ConfigMap> {
    let before = there.data.as_ref()?;
    let content = before.get(KUBECONFIG)?;
    let mut after = before.clone();
    after.retain(|key, _| !key.starts_with(SIGNATURE));
    for (id, secret) in tokens {
        after.insert(format!("{SIGNATURE}{id}"), signature(content, id, secret));
    }
    (after != *before).then(|| ConfigMap { data: Some(after), ..there.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(id: &str, changes: &[(&str, &str)]) -> Secret {
        let usual =
            [("token-id", id), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", "true")];
        let all: serde_json::Map<String, Value> = usual
            .iter()
            .chain(changes)
            .map(|(key, value)| {
                ((*key).to_owned(), json!(base64::engine::general_purpose::STANDARD.encode(value)))
            })
            .collect();
        let name = format!("bootstrap-token-{id}");
        serde_json::from_value(json!({"metadata": {"name": name}, "data": all})).unwrap()
    }

    #[test]
    fn token_ends_when_it_says_and_at_once_when_it_makes_no_sense() {
        assert_eq!(left(&token("abcdef", &[]), 100), None);
        assert_eq!(left(&token("abcdef", &[("expiration", "1970-01-01T00:02:00Z")]), 100), Some(20));
        assert_eq!(left(&token("abcdef", &[("expiration", "1970-01-01T00:01:00Z")]), 100), Some(0));
        assert_eq!(left(&token("abcdef", &[("expiration", "tomorrow")]), 100), Some(0));
    }

    #[test]
    fn token_signs_only_with_the_right_to_and_in_time() {
        assert!(signing_token(&token("abcdef", &[]), 0).is_some());
        assert!(signing_token(&token("abcdef", &[("usage-bootstrap-signing", "no")]), 0).is_none());
        assert!(signing_token(&token("abcdef", &[("token-id", "other1")]), 0).is_none());
        assert!(signing_token(&token("abcdef", &[("expiration", "1970-01-01T00:00:01Z")]), 9).is_none());
    }

    #[test]
    fn signatures_follow_content_and_tokens() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"kubeconfig": "text", "jws-kubeconfig-gone00": "x"}}))
                .unwrap();
        let tokens = BTreeMap::from([("abcdef".to_owned(), "0123456789abcdef".to_owned())]);
        let new = signed(&map, &tokens).unwrap();
        let data = new.data.as_ref().unwrap();
        assert!(!data.contains_key("jws-kubeconfig-gone00"));
        // The same as `openssl dgst -sha256 -hmac abcdef.0123456789abcdef` over `HEADER.dGV4dA`.
        let (header, tag) = data["jws-kubeconfig-abcdef"].split_once("..").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"abcdef.0123456789abcdef");
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap();
        hmac::verify(&key, format!("{header}.dGV4dA").as_bytes(), &tag).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(header).unwrap(), br#"{"alg":"HS256","kid":"abcdef"}"#);
        assert_eq!(signed(&new, &tokens), None);
        assert!(signed(&ConfigMap::default(), &tokens).is_none());
    }
}
