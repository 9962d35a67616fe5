//! Where a webhook may be: rules for `clientConfig`, the same for conversion and admission
//! (`apiserver/pkg/util/webhook/validation.go`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::FieldError;
use super::{names, url};
use crate::object::{at, number, text};

/// The versions of reviews that there are, of admission and of conversion.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// The versions of reviews that a webhook takes; `missing` is said when there is none.
pub(crate) fn reviews(path: &str, versions: &[Value], missing: &str, errors: &mut Vec<FieldError>) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, missing));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(path, version.clone(), "duplicate version"));
        } else if let Err(why) = names::dns_1035_label(version.as_str().unwrap_or_default()) {
            errors.push(FieldError::invalid(path, version.clone(), why));
        }
    }
    if !versions.iter().any(|version| REVIEWS.iter().any(|known| version == known)) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(path, versions.to_vec(), why));
    }
}

/// The rules that a `WebhookClientConfig` breaks, but for its `caBundle`: that of an admission webhook may be anything.
pub(crate) fn client_config(path: &str, config: &Value, errors: &mut Vec<FieldError>) {
    match (at(config, &["url"]), at(config, &["service"])) {
        (Some(_), Some(_)) | (None, None) => {
            errors.push(FieldError::required(path, "exactly one of url or service is required"));
        }
        (Some(url), None) => self::url(&format!("{path}.url"), url.as_str().unwrap_or_default(), errors),
        (None, Some(service)) => self::service(&format!("{path}.service"), service, errors),
    }
}

/// A bundle of certificates in PEM, as base64.
pub(crate) fn bundle(path: &str, bundle: &str, errors: &mut Vec<FieldError>) {
    let Ok(bytes) = STANDARD.decode(bundle) else {
        errors.push(FieldError::invalid(path, bundle, "must be base64"));
        return;
    };
    let blank = bytes.iter().all(u8::is_ascii_whitespace);
    if !blank && !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----") {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(FieldError::invalid(path, bundle, why));
    }
}

fn url(path: &str, text: &str, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = match url::parse(text) {
        Ok(url) => url,
        Err(why) => {
            errors.push(FieldError::required(path, format!("url must be a valid URL: {why}{FORM}")));
            return;
        }
    };
    let mut broken = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    if url.scheme != "https" {
        broken(&url.scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        broken("", format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        broken(user, "user information is not permitted in the URL".into());
    }
    if !url.fragment.is_empty() {
        broken(&url.fragment, "fragments are not permitted in the URL".into());
    }
    if !url.query.is_empty() {
        broken(url.query, "query parameters are not permitted in the URL".into());
    }
}

fn service(path: &str, service: &Value, errors: &mut Vec<FieldError>) {
    // Upstream takes the one for the other.
    let of_admission = path.starts_with("webhooks[");
    for (member, read) in [("name", "namespace"), ("namespace", "name")] {
        let read = if of_admission { read } else { member };
        if text(service, &[read]).is_empty() {
            errors.push(FieldError::required(format!("{path}.{member}"), ""));
        }
    }
    let port = number(service, &["port"]).unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(format!("{path}.port"), port, why));
    }
    let at = format!("{path}.path");
    let written = text(service, &["path"]);
    let mut broken = |why: String| errors.push(FieldError::invalid(at.as_str(), written, why));
    match written {
        "" | "/" => return,
        "//" => return broken("segment[0] may not be empty".into()),
        _ => {}
    }
    if !written.starts_with('/') {
        broken("must start with a '/'".into());
    }
    // The first letter is taken for a slash, whatever it is.
    let inner = String::from_utf8_lossy(written.as_bytes().get(1..).unwrap_or_default());
    let inner = inner.as_ref();
    for (index, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            broken(format!("segment[{index}] may not be empty"));
        } else if let Err(why) = names::dns_subdomain(step) {
            broken(format!("segment[{index}]: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(config: Value, expected: &[&str]) {
        let mut errors = Vec::new();
        client_config("c", &config, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{config}");
    }

    #[test]
    fn place_that_can_be_called_is_taken() {
        let pem = STANDARD.encode("-----BEGIN CERTIFICATE-----\n");
        check(json!({ "url": "https://a.example/b", "caBundle": pem }), &[]);
        check(json!({ "service": { "name": "a", "namespace": "b", "path": "/c/d" } }), &[]);
    }

    #[test]
    fn place_that_cannot_be_called_is_refused_in_upstreams_words() {
        check(json!({}), &["c: Required value: exactly one of url or service is required"]);
        check(
            json!({ "url": "http://u@a?b#c" }),
            &[
                "c.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "c.url: Invalid value: \"u\": user information is not permitted in the URL",
                "c.url: Invalid value: \"c\": fragments are not permitted in the URL",
                "c.url: Invalid value: \"b\": query parameters are not permitted in the URL",
            ],
        );
        check(
            json!({ "service": { "name": "a", "port": 0, "path": "b//" } }),
            &[
                "c.service.namespace: Required value",
                "c.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
                "c.service.path: Invalid value: \"b//\": must start with a '/'",
                "c.service.path: Invalid value: \"b//\": segment[0] may not be empty",
                "c.service.path: Invalid value: \"b//\": segment[1] may not be empty",
            ],
        );
    }

    #[test]
    fn bundle_is_certificates_or_nothing() {
        let check = |text: &str, expected: &str| {
            let mut errors = Vec::new();
            bundle("c", text, &mut errors);
            assert_eq!(errors.first().map(ToString::to_string).unwrap_or_default(), expected, "{text}");
        };
        check("", "");
        check(&STANDARD.encode("-----BEGIN CERTIFICATE-----\n"), "");
        check(
            "eA==",
            "c: Invalid value: \"eA==\": unable to load root certificates: unable to parse bytes as PEM block",
        );
        check("%", "c: Invalid value: \"%\": must be base64");
    }
}
