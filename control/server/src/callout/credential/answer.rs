//! `ExecCredential`: what a program is told, and what of its answer counts. Pure.
//!
//! The messages are those of upstream's client.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::decode::{self, Encoding};

use super::super::target::Trust;
use super::{Called, secret_header};
use crate::pki::Leaf;
use crate::tls::{certificates, private_key};

const KIND: &str = "ExecCredential";
pub(in crate::callout) const VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// What a program answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) leaf: Option<Leaf>,
    /// It counts until then.
    pub(super) expires: Option<SystemTime>,
}

/// What a program is told: whether it may ask its user, and, if it is to know, which server is called. `extra` is what the
/// file says of that server to programs alone.
pub(super) fn question(version: &str, interactive: bool, called: Option<(&Called, &Value)>) -> Value {
    let mut spec = json!({ "interactive": interactive });
    if let Some((called, extra)) = called {
        let mut cluster = json!({ "server": called.server, "config": extra });
        if let Some(name) = &called.server_name {
            cluster["tls-server-name"] = json!(name);
        }
        if let Some(url) = &called.proxy {
            cluster["proxy-url"] = json!(url);
        }
        match &called.trust {
            Trust::System => {}
            Trust::Anyone => cluster["insecure-skip-tls-verify"] = json!(true),
            Trust::Authority(pem) => cluster["certificate-authority-data"] = json!(STANDARD.encode(pem)),
        }
        spec["cluster"] = cluster;
    }
    json!({ "kind": KIND, "apiVersion": version, "spec": spec })
}

/// Reads what a program wrote, which is to be of that version.
///
/// # Errors
///
/// Why nothing can be shown of it.
pub(super) fn read(version: &str, written: &[u8]) -> Result<Answer, String> {
    let unreadable = |why: &str| format!("decoding stdout: {why}");
    let parsed = decode::parse(written, Encoding::Yaml).map_err(|status| unreadable(&status.message))?;
    let credential = parsed.value;
    let found = credential["apiVersion"].as_str().unwrap_or_default();
    let kind = credential["kind"].as_str().unwrap_or_default();
    if kind != KIND || !VERSIONS.contains(&found) {
        return Err(unreadable(&format!("no kind {kind:?} is registered for version {found:?}")));
    }
    if found != version {
        return Err(format!(
            "exec plugin is configured to use API version {version}, plugin returned version {found}"
        ));
    }
    let status = credential.get("status").filter(|status| status.is_object());
    let status = status.ok_or("exec plugin didn't return a status field")?;
    let text = |field: &str| match &status[field] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        _ => Err(unreadable(&format!("status.{field} is not a string"))),
    };
    let (token, certificate, key) = (text("token")?, text("clientCertificateData")?, text("clientKeyData")?);
    let leaf = match (token, certificate, key) {
        ("", "", "") => return Err("exec plugin didn't return a token or cert/key pair".to_owned()),
        (_, "", "") => None,
        (_, "", _) | (_, _, "") => {
            return Err("exec plugin returned only certificate or key, not both".to_owned());
        }
        _ => Some(Leaf { certificate_pem: certificate.to_owned(), key_pem: key.to_owned() }),
    };
    if let Some(leaf) = &leaf {
        check_pair(leaf)?;
    }
    let mut headers = HeaderMap::new();
    if !token.is_empty() {
        let header = secret_header(format!("Bearer {token}"));
        headers.insert(AUTHORIZATION, header.map_err(|why| format!("the token of the exec plugin: {why}"))?);
    }
    let expires = match text("expirationTimestamp")? {
        "" => None,
        stamp => {
            let stamp: Timestamp =
                stamp.parse().map_err(|error: jiff::Error| unreadable(&error.to_string()))?;
            Some(stamp.into())
        }
    };
    Ok(Answer { headers, leaf, expires })
}

/// Whether a key belongs to its certificate, and both can be used.
///
/// # Errors
///
/// Why not.
pub(super) fn check_pair(leaf: &Leaf) -> Result<(), String> {
    let bad = |why: String| format!("failed parsing client key/certificate: {why}");
    let own = |error: crate::error::Error| bad(crate::failure::with_causes(&error));
    let (certificates, key) =
        (certificates(&leaf.certificate_pem).map_err(own)?, private_key(&leaf.key_pem).map_err(own)?);
    let provider = rustls::crypto::ring::default_provider();
    let pair = rustls::sign::CertifiedKey::from_der(certificates, key, &provider);
    pair.map(drop).map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = VERSIONS[0];

    fn answer(status: &Value) -> Result<Answer, String> {
        read(V1, json!({ "kind": KIND, "apiVersion": V1, "status": status }).to_string().as_bytes())
    }

    #[test]
    fn program_is_told_of_the_server_only_where_it_is_to_know() {
        let trust = Trust::Authority("pem".into());
        let called = Called {
            server: "https://a:1".into(),
            server_name: Some("b".into()),
            trust,
            proxy: Some("http://p".into()),
        };
        assert_eq!(
            question(V1, true, None),
            json!({ "kind": KIND, "apiVersion": V1, "spec": { "interactive": true } })
        );
        let told = question(V1, false, Some((&called, &json!({ "audience": "x" }))));
        let cluster = json!({
            "server": "https://a:1", "tls-server-name": "b", "certificate-authority-data": "cGVt",
            "proxy-url": "http://p",
            "config": { "audience": "x" },
        });
        assert_eq!(told["spec"], json!({ "interactive": false, "cluster": cluster }));
    }

    #[test]
    fn answer_has_a_token_and_perhaps_an_end() {
        let found = answer(&json!({ "token": "t", "expirationTimestamp": "1970-01-01T00:01:00Z" })).unwrap();
        assert_eq!(found.headers[AUTHORIZATION], "Bearer t");
        assert!(found.headers[AUTHORIZATION].is_sensitive());
        assert_eq!(found.expires, Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60)));
        let yaml = format!("kind: {KIND}\napiVersion: {V1}\nstatus: {{token: t}}\n");
        assert_eq!(read(V1, yaml.as_bytes()).unwrap().expires, None);
    }

    #[test]
    fn answer_that_is_none_is_refused_by_name() {
        let check = |written: &str, expected: &str| {
            let why = read(V1, written.as_bytes()).unwrap_err();
            assert!(why.contains(expected), "{written}: {why}");
        };
        let of = |version: &str, rest: &str| format!("{{kind: {KIND}, apiVersion: {version}, {rest}}}");
        check("{", "decoding stdout: ");
        check("", "decoding stdout: ");
        check("{kind: Pod, apiVersion: v1}", "no kind \"Pod\" is registered for version \"v1\"");
        check(&of("client.authentication.k8s.io/v1alpha1", ""), "no kind \"ExecCredential\" is registered");
        check(
            &of(VERSIONS[1], "status: {token: t}"),
            "to use API version client.authentication.k8s.io/v1, plugin returned version \
             client.authentication.k8s.io/v1beta1",
        );
        check(&of(V1, ""), "exec plugin didn't return a status field");
        check(&of(V1, "status: {}"), "exec plugin didn't return a token or cert/key pair");
        check(&of(V1, "status: {token: 5}"), "status.token is not a string");
        check(&of(V1, "status: {clientKeyData: x}"), "returned only certificate or key, not both");
        check(&of(V1, "status: {token: t, expirationTimestamp: soon}"), "decoding stdout: ");
        check(&of(V1, "status: {clientCertificateData: x, clientKeyData: z}"), "failed parsing client key");
        check(&of(V1, r#"status: {token: "a\nb"}"#), "it is not text");
    }
}
