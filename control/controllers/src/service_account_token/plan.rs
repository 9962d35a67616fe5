//! What becomes of the Secret of an account.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

use super::{TokenOf, TokenSigner};

const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Leave,
    /// Its account is gone, or is another one of that name.
    Delete,
    Write(Box<Secret>),
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str).filter(|text| !text.is_empty())
}

/// The account that a Secret is for.
pub(super) fn account_of(secret: &Secret) -> Option<&str> {
    annotation(secret, NAME)
}

/// Brings a Secret to hold what it must. A token that is there stays: who has read it goes on using it.
pub(super) fn step(
    secret: &Secret,
    account: Option<&ServiceAccount>,
    certificate: &str,
    sign: &TokenSigner,
) -> Result<Step, String> {
    if secret.metadata.deletion_timestamp.is_some() {
        return Ok(Step::Leave);
    }
    let Some(account) = account else { return Ok(Step::Delete) };
    let (name, uid) = (account.metadata.name.as_deref(), account.metadata.uid.as_deref());
    let (name, uid) = (name.unwrap_or_default(), uid.unwrap_or_default());
    if annotation(secret, UID).is_some_and(|of| of != uid) {
        return Ok(Step::Delete);
    }
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let mut new = secret.clone();
    new.metadata.annotations.get_or_insert_default().insert(UID.to_owned(), uid.to_owned());
    let data = new.data.get_or_insert_default();
    data.insert("ca.crt".to_owned(), ByteString(certificate.as_bytes().to_vec()));
    data.insert("namespace".to_owned(), ByteString(namespace.as_bytes().to_vec()));
    if data.get("token").is_none_or(|token| token.0.is_empty()) {
        let secret = secret.metadata.name.as_deref().unwrap_or_default();
        let token = sign(&TokenOf { namespace, account: name, uid, secret })?;
        data.insert("token".to_owned(), ByteString(token.into_bytes()));
    }
    Ok(if new == *secret { Step::Leave } else { Step::Write(Box::new(new)) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn signer() -> TokenSigner {
        Arc::new(|of: &TokenOf<'_>| Ok(format!("{}/{}/{}/{}", of.namespace, of.account, of.uid, of.secret)))
    }

    fn secret(annotations: Value) -> Secret {
        serde_json::from_value(
            json!({"metadata": {"name": "t", "namespace": "shop", "annotations": annotations}}),
        )
        .unwrap()
    }

    fn account(uid: &str) -> ServiceAccount {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "uid": uid}})).unwrap()
    }

    #[test]
    fn secret_of_an_account_gets_token_authority_and_namespace_once() {
        let secret = secret(json!({NAME: "web"}));
        let Ok(Step::Write(new)) = step(&secret, Some(&account("1")), "PEM", &signer()) else { panic!() };
        let data = new.data.as_ref().unwrap();
        let text = |key: &str| std::str::from_utf8(&data[key].0).unwrap();
        assert_eq!((text("token"), text("ca.crt"), text("namespace")), ("shop/web/1/t", "PEM", "shop"));
        assert_eq!(annotation(&new, UID), Some("1"));
        assert_eq!(step(&new, Some(&account("1")), "PEM", &signer()), Ok(Step::Leave));
        let Ok(Step::Write(renewed)) = step(&new, Some(&account("1")), "NEW", &signer()) else { panic!() };
        assert_eq!(renewed.data.unwrap()["token"], data["token"]);
    }

    #[test]
    fn secret_of_an_account_that_is_gone_or_another_goes() {
        let plain = secret(json!({NAME: "web"}));
        assert_eq!(step(&plain, None, "PEM", &signer()), Ok(Step::Delete));
        let of_another = secret(json!({NAME: "web", UID: "1"}));
        assert_eq!(step(&of_another, Some(&account("2")), "PEM", &signer()), Ok(Step::Delete));
    }
}
