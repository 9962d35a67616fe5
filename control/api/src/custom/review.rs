//! What a conversion webhook is asked, and what of its answer is taken (`apiextensions.k8s.io ConversionReview`).
//!
//! Pure: the server makes the call. An answer may change everything but who the object is: of its metadata, only labels
//! and annotations are taken.

use serde_json::{Map, Value, json};

use super::Custom;
use crate::object::{name, namespace, text, uid};
use crate::registry::Resource;
use crate::review::ReviewVersion;
use crate::validation::names;

const GROUP: &str = "apiextensions.k8s.io";

/// The question: these objects in the version `desired`.
pub fn request(version: ReviewVersion, id: &str, desired: &str, objects: &[&Value]) -> Value {
    json!({
        "kind": "ConversionReview",
        "apiVersion": version.of_group(GROUP),
        "request": { "uid": id, "desiredAPIVersion": desired, "objects": objects },
    })
}

/// The objects of an answer to the question `id` about `asked`, with what must not change as it was.
///
/// # Errors
///
/// Why the answer cannot be taken, in upstream's words.
pub fn read(
    version: ReviewVersion,
    id: &str,
    desired: &str,
    asked: &[&Value],
    mut answer: Value,
) -> Result<Vec<Value>, String> {
    let Some(first) = asked.first() else { return Ok(Vec::new()) };
    let kind = kind_of(first);
    let failed = |why: String| format!("conversion webhook for {kind} failed: {why}");
    check(version, id, &answer).map_err(failed)?;
    let converted = match answer["response"]["convertedObjects"].take() {
        Value::Array(converted) => converted,
        _ => Vec::new(),
    };
    if converted.len() != asked.len() {
        let (got, wanted) = (converted.len(), asked.len());
        return Err(format!("conversion webhook for {kind} returned {got} objects, expected {wanted}"));
    }
    let pairs = asked.iter().zip(converted).enumerate();
    pairs.map(|(index, (from, to))| settle(desired, &kind, index, from, to)).collect()
}

/// A failed call as a message.
pub fn call_failed(first: &Value, why: impl std::fmt::Display) -> String {
    format!("conversion webhook for {} failed: {why}", kind_of(first))
}

/// `stable.example.com/v1, Kind=E2e`.
fn kind_of(object: &Value) -> String {
    format!("{}, Kind={}", text(object, &["apiVersion"]), text(object, &["kind"]))
}

fn check(version: ReviewVersion, id: &str, answer: &Value) -> Result<(), String> {
    if version == ReviewVersion::V1 {
        let (api_version, kind) = (text(answer, &["apiVersion"]), text(answer, &["kind"]));
        let wanted = version.of_group(GROUP);
        if (api_version, kind) != (wanted.as_str(), "ConversionReview") {
            let wanted = format!("{wanted}, Kind=ConversionReview");
            return Err(format!("expected webhook response of {wanted}, got {api_version}, Kind={kind}"));
        }
    }
    let response = &answer["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let found = text(response, &["uid"]);
    if version == ReviewVersion::V1 && found != id {
        return Err(format!("expected response.uid={id:?}, got {found:?}"));
    }
    let (status, message) = (text(response, &["result", "status"]), text(response, &["result", "message"]));
    match (status, message) {
        ("Success", _) => Ok(()),
        (_, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

fn settle(desired: &str, kind: &str, index: usize, from: &Value, mut to: Value) -> Result<Value, String> {
    let object = format!("conversion webhook for {kind} returned invalid converted object at index {index}");
    let broken = |why: String| format!("{object}: {why}");
    if !to.is_object() {
        return Err(broken("it is no object".into()));
    }
    let version = text(&to, &["apiVersion"]);
    if version != desired {
        return Err(broken(format!("invalid groupVersion (expected {desired}, received {version})")));
    }
    let (wanted, found) = (text(from, &["kind"]), text(&to, &["kind"]));
    if wanted != found {
        return Err(broken(format!("invalid kind (expected {wanted}, received {found})")));
    }
    type Part = (&'static str, fn(&Value) -> &str);
    let same: [Part; 3] = [("name", name), ("namespace", namespace), ("UID", uid)];
    for (what, part) in same {
        let (wanted, found) = (part(from), part(&to));
        if wanted != found {
            return Err(broken(format!("must have the same {what}: {wanted} != {found}")));
        }
    }
    let metadata = metadata(&from["metadata"], &to["metadata"]).map_err(|why| {
        format!("conversion webhook for {kind} returned invalid metadata in object at index {index}: {why}")
    })?;
    to["metadata"] = metadata;
    Ok(to)
}

/// The metadata that it was, with the labels and annotations that the webhook gave it.
fn metadata(from: &Value, to: &Value) -> Result<Value, String> {
    if to.is_null() {
        return Err("missing metadata in converted object".into());
    }
    let mut kept = from.as_object().cloned().unwrap_or_else(Map::new);
    for member in ["labels", "annotations"] {
        match to.get(member) {
            None | Some(Value::Null) => drop(kept.remove(member)),
            Some(given) => {
                let Some(all) = given.as_object() else {
                    return Err(format!("invalid metadata.{member} in converted object: it is no map"));
                };
                if kept.get(member) != Some(given) {
                    check_texts(member, all)?;
                }
                kept.insert(member.to_owned(), given.clone());
            }
        }
    }
    Ok(Value::Object(kept))
}

fn check_texts(member: &str, all: &Map<String, Value>) -> Result<(), String> {
    let mut size = 0;
    for (key, value) in all {
        let Some(value) = value.as_str() else {
            return Err(format!("metadata.{member}[{key}] must be a string in converted object"));
        };
        let wrong = |given: &str, why: String| format!("metadata.{member}: Invalid value: {given:?}: {why}");
        let checked = if member == "annotations" { key.to_lowercase() } else { key.clone() };
        names::label_key(&checked).map_err(|why| wrong(key, why))?;
        if member == "labels" {
            names::label_value(value).map_err(|why| wrong(value, why))?;
        }
        size += key.len() + value.len();
    }
    match member {
        "annotations" if size > 256 << 10 => {
            Err("metadata.annotation: Too long: may not be more than 262144 bytes".into())
        }
        _ => Ok(()),
    }
}

/// Whether an object has to be asked about: not one that is in the version already.
pub fn is_needed(object: &Value, desired: &str) -> bool {
    text(object, &["apiVersion"]) != desired
}

/// The webhook of a resource, if its versions differ in more than their schemas.
pub fn webhook(resource: &Resource) -> Option<&super::Conversion> {
    resource.custom.as_deref().and_then(|custom: &Custom| custom.conversion.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, metadata: Value) -> Value {
        json!({ "apiVersion": version, "kind": "E", "metadata": metadata })
    }

    fn answer(objects: Value) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "response": { "uid": "1", "result": { "status": "Success" }, "convertedObjects": objects },
        })
    }

    fn take(answer: Value) -> Result<Vec<Value>, String> {
        let meta = json!({ "name": "a", "uid": "u", "labels": { "x": "1" }, "finalizers": ["f"] });
        read(ReviewVersion::V1, "1", "g/v2", &[&object("g/v1", meta)], answer)
    }

    #[test]
    fn converted_object_keeps_its_metadata_but_for_labels_and_annotations() {
        let meta = json!({ "name": "a", "uid": "u", "annotations": { "y": "2" }, "finalizers": [] });
        let found = take(answer(json!([object("g/v2", meta)]))).unwrap();
        let kept = json!({ "name": "a", "uid": "u", "annotations": { "y": "2" }, "finalizers": ["f"] });
        assert_eq!(found, [object("g/v2", kept)]);
    }

    #[test]
    fn answer_that_lies_is_refused_in_upstreams_words() {
        let meta = json!({ "name": "a", "uid": "u" });
        let with = |member: &str, value: Value| {
            let mut meta = meta.clone();
            meta[member] = value;
            answer(json!([object("g/v2", meta)]))
        };
        let mut other = answer(json!([object("g/v2", meta.clone())]));
        other["response"]["uid"] = json!("2");
        let mut failed = answer(json!([]));
        failed["response"]["result"] = json!({ "status": "Failed", "message": "no" });
        let at = "conversion webhook for g/v1, Kind=E";
        for (answer, expected) in [
            (
                json!(null),
                format!(
                    "{at} failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind="
                ),
            ),
            (other, format!("{at} failed: expected response.uid=\"1\", got \"2\"")),
            (failed, format!("{at} failed: no")),
            (answer(json!([])), format!("{at} returned 0 objects, expected 1")),
            (
                answer(json!([object("g/v1", meta.clone())])),
                format!(
                    "{at} returned invalid converted object at index 0: invalid groupVersion (expected g/v2, received g/v1)"
                ),
            ),
            (
                with("name", json!("b")),
                format!("{at} returned invalid converted object at index 0: must have the same name: a != b"),
            ),
            (
                with("uid", json!("v")),
                format!("{at} returned invalid converted object at index 0: must have the same UID: u != v"),
            ),
            (
                with("labels", json!({ "a": 1 })),
                format!(
                    "{at} returned invalid metadata in object at index 0: metadata.labels[a] must be a string in converted object"
                ),
            ),
            (
                with("labels", json!([])),
                format!(
                    "{at} returned invalid metadata in object at index 0: invalid metadata.labels in converted object: it is no map"
                ),
            ),
            (
                answer(json!([{ "apiVersion": "g/v2", "kind": "F" }])),
                format!(
                    "{at} returned invalid converted object at index 0: invalid kind (expected E, received F)"
                ),
            ),
        ] {
            assert_eq!(take(answer), Err(expected));
        }
    }

    #[test]
    fn review_is_of_the_first_version_that_both_know() {
        let asked = object("g/v1", json!({ "name": "a" }));
        let review = request(ReviewVersion::V1beta1, "1", "g/v2", &[&asked]);
        assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1beta1");
        assert_eq!(review["request"]["desiredAPIVersion"], "g/v2");
        let loose = json!({ "response": { "result": { "status": "Success" }, "convertedObjects": [object("g/v2", json!({ "name": "a" }))] } });
        assert!(read(ReviewVersion::V1beta1, "1", "g/v2", &[&asked], loose).is_ok());
    }
}
