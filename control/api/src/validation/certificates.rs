//! Rules of certificates.k8s.io.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::FieldError;
use super::names;
use super::place::{Errors, Place};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY: &str = "kubernetes.io/legacy-unknown";

pub(super) fn check(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let request = spec.get("request");
    if let Err(why) = pem_request(request.text()) {
        request.invalid(why, errors);
    }
    let usages = spec.get("usages");
    if usages.count() == 0 {
        usages.required("", errors);
    }
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        usage.one_of(&USAGES, errors);
        if !seen.insert(usage.text()) {
            usage.duplicate(errors);
        }
    }
    let signer = spec.get("signerName");
    if signer.text() == LEGACY {
        signer.invalid("the legacy signerName is not allowed via this API version", errors);
    } else {
        signer_name(&signer, errors);
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.number().is_some_and(|seconds| seconds < 600) {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)", errors);
    }
}

/// Whether the text is, in base64, one PEM block of the right kind.
fn pem_request(text: &str) -> Result<(), &'static str> {
    let wrong = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = STANDARD.decode(text).map_err(|_| wrong)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong)?;
    let begin = "-----BEGIN CERTIFICATE REQUEST-----";
    let end = "-----END CERTIFICATE REQUEST-----";
    let body = text.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).ok_or(wrong)?.0;
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| wrong)?;
    // A DER sequence; what is in it is judged by who signs it.
    if der.first() == Some(&0x30) { Ok(()) } else { Err("asn1: structure error: tags don't match") }
}

/// Whether the text is, in base64, certificates in PEM and nothing else.
fn pem_certificates(text: &str) -> Result<(), String> {
    const BEGIN: &str = "-----BEGIN ";
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let whole = String::from_utf8_lossy(&bytes);
    let (mut rest, mut found) = (whole.as_ref(), 0);
    while let Some((label, behind)) =
        rest.split_once(BEGIN).and_then(|(_, behind)| behind.split_once("-----"))
    {
        let Some((body, after)) = behind.split_once(&format!("-----END {label}-----")) else { break };
        if label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {label:?}"));
        }
        if body.contains(':') {
            return Err("no PEM block headers are permitted".to_owned());
        }
        let der = STANDARD.decode(body.split_whitespace().collect::<String>()).unwrap_or_default();
        if der.first() != Some(&0x30) {
            return Err("x509: malformed certificate".to_owned());
        }
        (rest, found) = (after, found + 1);
    }
    if found == 0 { Err("must contain at least one CERTIFICATE PEM block".to_owned()) } else { Ok(()) }
}

/// `domain/path`, as names of signers are.
pub(super) fn signer_name(signer: &Place<'_>, errors: &mut Errors) {
    let text = signer.text();
    if text.is_empty() {
        return signer.required("", errors);
    }
    let parts: Vec<&str> = text.split('/').collect();
    let [domain, path] = parts[..] else {
        return signer.invalid(
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            errors,
        );
    };
    let invalid = |part: &str, why: String, errors: &mut Errors| {
        errors.push(FieldError::invalid(&signer.path, part, why));
    };
    if domain.len() > 253 {
        signer.too_long(253, errors);
    }
    let wrong = |label: &str, why: String| format!("validating label {label:?}: {why}");
    let first_wrong = |rule: fn(&str) -> names::Verdict, part: &str| {
        part.split('.').find_map(|label| rule(label).err().map(|why| wrong(label, why)))
    };
    if let Some(why) = first_wrong(names::dns_label, domain) {
        invalid(domain, why, errors);
    }
    if domain.split('.').count() < 2 {
        invalid(domain, "should be a domain with at least two segments separated by dots".into(), errors);
    }
    if let Some(why) = first_wrong(names::dns_subdomain, path) {
        invalid(path, why, errors);
    }
    if path.len() > 317 {
        signer.too_long(317, errors);
    }
}

/// What a change of the status, or of the approval, must keep. `approving` is the subresource that may decide.
pub(super) fn status(new: &Value, old: &Value, approving: bool, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "status"), Place::of(old, "status"));
    let conditions = now.get("conditions");
    let all = |status: &Place<'_>, kind: &str| -> Vec<Value> {
        status
            .each("conditions")
            .filter(|one| one.value["type"] == kind)
            .map(|one| one.value.clone())
            .collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        if all(&now, kind).len() < all(&before, kind).len() {
            conditions.forbidden(format!("updates may not remove a condition of type {kind:?}"), errors);
        } else if !approving && kind != "Failed" && all(&now, kind).len() > all(&before, kind).len() {
            conditions.forbidden(format!("updates may not add a condition of type {kind:?}"), errors);
        } else if !approving && kind != "Failed" && all(&now, kind) != all(&before, kind) {
            conditions.forbidden(format!("updates may not modify a condition of type {kind:?}"), errors);
        }
    }
    let (certificate, given) = (now.get("certificate"), before.get("certificate"));
    if certificate.is_full()
        && certificate.value != given.value
        && let Err(why) = pem_certificates(certificate.text())
    {
        // What it is instead is not shown.
        let shown = Value::from("<certificate data>");
        Place::new("status.certificate", &shown).invalid(why, errors);
    }
    if given.is_full() && certificate.value != given.value {
        let place = Place::new("status.certificate", certificate.value);
        if approving {
            place.forbidden("updates may not set certificate content", errors);
        } else {
            place.forbidden("updates may not change existing certificate content", errors);
        }
    }
}
