//! `AdmissionReview`: the question, and what of the answer counts. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skep_api::object::{at, flag, items, members, text};
use skep_api::review::ReviewVersion;
use skep_api::status::Status;

const GROUP: &str = "admission.k8s.io";

/// The question.
pub(super) fn question(
    version: ReviewVersion,
    id: &str,
    request: &Value,
    object: &Value,
    old: &Value,
) -> Value {
    let mut request = request.clone();
    request["uid"] = json!(id);
    request["object"] = object.clone();
    request["oldObject"] = old.clone();
    json!({ "kind": "AdmissionReview", "apiVersion": version.of_group(GROUP), "request": request })
}

/// What a webhook answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Why it refuses, if it does: a `Status` or nothing.
    pub(super) denied: Option<Value>,
    /// Operations of a JSON patch.
    pub(super) patch: Vec<u8>,
    pub(super) annotations: Vec<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer to the question `id`.
///
/// # Errors
///
/// Why it is none, in upstream's words.
pub(super) fn read(version: ReviewVersion, id: &str, mutating: bool, bytes: &[u8]) -> Result<Answer, String> {
    let review: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let response = at(&review, &["response"]).filter(|one| one.is_object());
    let response = response.ok_or("webhook response was absent")?;
    if version == ReviewVersion::V1 {
        let found = text(response, &["uid"]);
        if found != id {
            return Err(format!("expected response.uid={id:?}, got {found:?}"));
        }
        let (api_version, kind) = (text(&review, &["apiVersion"]), text(&review, &["kind"]));
        let wanted = version.of_group(GROUP);
        if (api_version, kind) != (wanted.as_str(), "AdmissionReview") {
            let wanted = format!("{wanted}, Kind=AdmissionReview");
            return Err(format!("expected webhook response of {wanted}, got {api_version}, Kind={kind}"));
        }
    }
    let strings = |member: &str| {
        members(response, &[member])
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let result = at(response, &["result"]).or_else(|| at(response, &["status"]));
    Ok(Answer {
        denied: (!flag(response, &["allowed"])).then(|| result.cloned().unwrap_or_default()),
        patch: patch(version, mutating, response)?,
        annotations: strings("auditAnnotations"),
        warnings: items(response, &["warnings"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    })
}

fn patch(version: ReviewVersion, mutating: bool, response: &Value) -> Result<Vec<u8>, String> {
    let (patch, kind) = (text(response, &["patch"]), at(response, &["patchType"]));
    let why = match (mutating, patch.is_empty(), kind) {
        _ if version == ReviewVersion::V1beta1 => None,
        (true, false, None) => Some("webhook returned response.patch but not response.patchType".to_owned()),
        (true, true, Some(_)) => {
            Some("webhook returned response.patchType but not response.patch".to_owned())
        }
        (true, false, Some(kind)) if kind != "JSONPatch" => Some(match kind.as_str() {
            Some("") | None => format!("webhook returned invalid response.patchType of {kind}"),
            Some(kind) => format!("unsupported patch type {kind:?}"),
        }),
        (false, false, _) => Some("validating webhook may not return response.patch".to_owned()),
        (false, true, Some(_)) => Some("validating webhook may not return response.patchType".to_owned()),
        _ => None,
    };
    match why {
        Some(why) => Err(why),
        None if !mutating => Ok(Vec::new()),
        None => {
            STANDARD.decode(patch).map_err(|error| format!("illegal base64 data in response.patch: {error}"))
        }
    }
}

/// The refusal of a webhook, with what it says itself.
pub(super) fn denial(webhook: &str, mut result: Value) -> Status {
    if !result.is_object() {
        result = json!({});
    }
    if result["code"].as_u64().is_none_or(|code| code < 400) {
        result["code"] = json!(400);
    }
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (text(&result, &["message"]), text(&result, &["reason"])) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    result["message"] = json!(message);
    Status::passed_on(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        let review =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
        review.to_string().into_bytes()
    }

    #[test]
    fn answer_says_what_it_is_about_or_is_none() {
        let read = |response: Value, mutating| read(ReviewVersion::V1, "1", mutating, &answer(response));
        assert_eq!(read(json!({ "uid": "1", "allowed": true }), false), Ok(Answer::default()));
        let patched = json!({ "uid": "1", "allowed": true, "patch": "W10=", "patchType": "JSONPatch" });
        assert_eq!(read(patched.clone(), true).unwrap().patch, b"[]");
        for (response, mutating, expected) in [
            (Value::Null, true, "webhook response was absent"),
            (json!({ "uid": "2" }), true, "expected response.uid=\"1\", got \"2\""),
            (patched.clone(), false, "validating webhook may not return response.patch"),
            (
                json!({ "uid": "1", "patch": "W10=" }),
                true,
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({ "uid": "1", "patchType": "JSONPatch" }),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({ "uid": "1", "patch": "W10=", "patchType": "Other" }),
                true,
                "unsupported patch type \"Other\"",
            ),
        ] {
            assert_eq!(read(response, mutating), Err(expected.to_owned()));
        }
        let other = json!({ "kind": "Pod", "apiVersion": "v1", "response": { "uid": "1" } }).to_string();
        let why = super::read(ReviewVersion::V1, "1", true, other.as_bytes()).unwrap_err();
        assert_eq!(
            why,
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"
        );
        assert!(super::read(ReviewVersion::V1, "1", true, b"nonsense").is_err());
        assert!(super::read(ReviewVersion::V1beta1, "1", true, b"{\"response\":{\"allowed\":true}}").is_ok());
    }

    #[test]
    fn denial_has_the_webhooks_own_words() {
        let said = |result: Value| {
            let status = denial("a.b.c", result);
            (status.code, status.message.clone(), status.to_value()["reason"].clone())
        };
        let denied = "admission webhook \"a.b.c\" denied the request";
        assert_eq!(said(Value::Null), (400, format!("{denied} without explanation"), Value::Null));
        assert_eq!(
            said(json!({ "code": 403, "message": "no", "reason": "Because" })),
            (403, format!("{denied}: no"), json!("Because"))
        );
        assert_eq!(said(json!({ "code": 200, "reason": "R" })), (400, format!("{denied}: R"), json!("R")));
    }
}
