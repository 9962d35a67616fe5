//! Rules of the subresources that write a few fields only.

use serde_json::Value;

use super::field::FieldError;
use super::{certificates, meta, pod, resize};
use crate::object::{items, text};
use crate::registry::Resource;
use crate::strategy::Narrow;

/// The rules that an object breaks as the successor of another, written through the subresource.
pub fn narrow_update(narrow: Narrow, resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = meta::update(resource, new, old);
    match narrow {
        Narrow::EphemeralContainers => ephemeral(new, old, &mut errors),
        Narrow::Resize => resize::check(new, old, &mut errors),
        Narrow::Approval => {
            approval(new, &mut errors);
            certificates::status(new, old, true, &mut errors);
        }
    }
    errors
}

/// Ephemeral containers are added, never taken away or changed.
fn ephemeral(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let path = "spec.ephemeralContainers";
    let (now, before) =
        (items(new, &["spec", "ephemeralContainers"]), items(old, &["spec", "ephemeralContainers"]));
    pod::spec("spec", &new["spec"], errors);
    for (index, one) in now.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if text(one, &["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
    }
    for old in before {
        let name = text(old, &["name"]);
        match now.iter().position(|one| text(one, &["name"]) == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(path, why));
            }
            Some(index) if now[index] != *old => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(FieldError::forbidden(format!("{path}[{index}]"), why));
            }
            Some(_) => {}
        }
    }
}

/// A request is approved or denied, once and for all.
fn approval(new: &Value, errors: &mut Vec<FieldError>) {
    let path = "status.conditions";
    let now = items(new, &["status", "conditions"]);
    let has = |list: &[Value], kind: &str| list.iter().any(|one| text(one, &["type"]) == kind);
    for (index, condition) in now.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let (kind, status) = (text(condition, &["type"]), text(condition, &["status"]));
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        match (kind, status) {
            (_, "") => errors.push(FieldError::required(format!("{path}.status"), "")),
            ("Approved" | "Denied" | "Failed", status) if status != "True" => {
                errors.push(FieldError::not_supported(format!("{path}.status"), status, &["True"]));
            }
            (_, "True" | "False" | "Unknown") => {}
            (_, status) => {
                let choices = ["True", "False", "Unknown"];
                errors.push(FieldError::not_supported(format!("{path}.status"), status, &choices));
            }
        }
        if now[..index].iter().any(|one| text(one, &["type"]) == kind) {
            errors.push(FieldError::duplicate(format!("{path}.type"), kind));
        }
    }
    if has(now, "Approved") && has(now, "Denied") {
        let index = now.iter().rposition(|one| matches!(text(one, &["type"]), "Approved" | "Denied"));
        let other = index.map_or("", |index| text(&now[index], &["type"]));
        let first = if other == "Denied" { "Approved" } else { "Denied" };
        let why = format!("{first} and {other} conditions are mutually exclusive");
        errors.push(FieldError::invalid(path, other, why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::registry;
    use crate::strategy::prepare_narrow;

    fn pod(ephemeral: Value) -> Value {
        json!({
            "metadata": { "name": "p", "namespace": "d", "uid": "u", "resourceVersion": "1", "generation": 1 },
            "spec": { "containers": [{ "name": "c", "image": "i" }], "ephemeralContainers": ephemeral },
        })
    }

    fn pod_errors(new: Value, old: Value) -> Vec<String> {
        let pods = registry().find("", "v1", "pods").expect("pods");
        narrow_update(Narrow::EphemeralContainers, pods, &pod(new), &pod(old))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn ephemeral_containers_are_only_added() {
        let one = json!({ "name": "debug", "image": "busybox", "targetContainerName": "c" });
        assert_eq!(pod_errors(json!([one]), json!([])), Vec::<String>::new());
        let gone = pod_errors(json!([]), json!([one]));
        assert!(gone[0].contains("may not be removed"), "{gone:?}");
        let other = json!({ "name": "debug", "image": "other" });
        let changed = pod_errors(json!([other]), json!([one]));
        assert!(changed[0].contains("may not be changed"), "{changed:?}");
        let wrong = json!({ "name": "c", "image": "i", "targetContainerName": "none", "ports": [{ "containerPort": 1 }] });
        assert_eq!(
            pod_errors(json!([wrong]), json!([])),
            [
                "spec.ephemeralContainers[0].name: Duplicate value: \"c\"",
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"none\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
            ]
        );
    }

    #[test]
    fn ephemeral_containers_are_all_that_the_subresource_writes() {
        let pods = registry().find("", "v1", "pods").expect("pods");
        let mut new = pod(json!([{ "name": "debug", "image": "busybox" }]));
        new["spec"]["containers"][0]["image"] = json!("other");
        new["metadata"]["labels"] = json!({ "a": "b" });
        prepare_narrow(Narrow::EphemeralContainers, pods, &mut new, &pod(json!([])), "T");
        assert_eq!(new["spec"]["containers"][0]["image"], "i");
        assert_eq!(new["spec"]["ephemeralContainers"][0]["name"], "debug");
        assert_eq!((&new["metadata"]["labels"], &new["metadata"]["generation"]), (&Value::Null, &json!(2)));
    }

    #[test]
    fn approval_stands_and_excludes_denial() {
        let requests =
            registry().find("certificates.k8s.io", "v1", "certificatesigningrequests").expect("requests");
        let request = |conditions: Value| {
            json!({
                "metadata": { "name": "r", "uid": "u", "resourceVersion": "1" }, "spec": { "request": "eA==" },
                "status": { "conditions": conditions, "certificate": "eA==" },
            })
        };
        let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status });
        let old = request(json!([]));
        let mut new = request(json!([condition("Approved", "True")]));
        new["spec"]["request"] = json!("other");
        prepare_narrow(Narrow::Approval, requests, &mut new, &old, "T");
        assert_eq!(new["spec"]["request"], "eA==");
        assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "T");
        let errors = |new: &Value, old: &Value| narrow_update(Narrow::Approval, requests, new, old);
        assert_eq!(errors(&new, &old), []);
        let taken_back = errors(&old, &new);
        assert_eq!(
            taken_back[0].to_string(),
            "status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""
        );
        let both = request(json!([condition("Approved", "True"), condition("Denied", "True")]));
        assert!(
            errors(&both, &old)[0]
                .to_string()
                .contains("Approved and Denied conditions are mutually exclusive")
        );
        let half = request(json!([condition("Denied", "False")]));
        assert_eq!(
            errors(&half, &old)[0].to_string(),
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""
        );
    }
}
