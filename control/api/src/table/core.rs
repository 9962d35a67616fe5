//! Rows of the core group.

use jiff::Timestamp;
use serde_json::Value;

use super::age::since;
use super::cells::{age, containers, count, images, labels};
use super::{node, pod, service};
use crate::object::{at, items, members, name, number, text};
use crate::registry::Resource;

pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let cells = match resource.plural.as_str() {
        "pods" => pod::cells(object, now),
        "nodes" => node::cells(object, now),
        "services" => service::service(object, now),
        "endpoints" => service::endpoints(object, now),
        "events" => event(object, now),
        "componentstatuses" => component(object),
        "namespaces" => {
            vec![name(object).into(), text(object, &["status", "phase"]).into(), age(object, now)]
        }
        "configmaps" => {
            let data = members(object, &["data"]).count() + members(object, &["binaryData"]).count();
            vec![name(object).into(), data.into(), age(object, now)]
        }
        "secrets" => {
            let data = members(object, &["data"]).count();
            vec![name(object).into(), text(object, &["type"]).into(), data.into(), age(object, now)]
        }
        "serviceaccounts" => vec![name(object).into(), age(object, now)],
        "persistentvolumes" => volume(object, now),
        "persistentvolumeclaims" => claim(object, now),
        "replicationcontrollers" => vec![
            name(object).into(),
            count(object, &["spec", "replicas"]),
            count(object, &["status", "replicas"]),
            count(object, &["status", "readyReplicas"]),
            age(object, now),
            containers(&object["spec"]["template"]["spec"]),
            images(&object["spec"]["template"]["spec"]),
            labels(at(object, &["spec", "selector"])),
        ],
        "podtemplates" => vec![
            name(object).into(),
            containers(&object["template"]["spec"]),
            images(&object["template"]["spec"]),
            labels(at(object, &["template", "metadata", "labels"])),
        ],
        "resourcequotas" => quota(object, now),
        _ => return None,
    };
    Some(cells)
}

/// Both forms of an event come here as the core one.
pub(super) fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let about = |names: [&str; 2]| {
        names.iter().map(|name| &object[*name]).find(|one| one.is_object()).unwrap_or(&Value::Null)
    };
    let involved = about(["involvedObject", "regarding"]);
    let source = about(["source", "deprecatedSource"]);
    let first_text = |names: &[&str]| {
        names.iter().map(|name| text(object, &[name])).find(|one| !one.is_empty()).unwrap_or("")
    };
    let moment = first_text(&["eventTime"]);
    let or = |one: &str, other: &str| if one.is_empty() { other.to_owned() } else { one.to_owned() };
    let first = or(first_text(&["firstTimestamp", "deprecatedFirstTimestamp"]), moment);
    let last = text(object, &["series", "lastObservedTime"]);
    let last = or(&or(last, first_text(&["lastTimestamp", "deprecatedLastTimestamp"])), &first);
    let component =
        or(text(source, &["component"]), first_text(&["reportingComponent", "reportingController"]));
    let host = or(text(source, &["host"]), first_text(&["reportingInstance"]));
    let from = if host.is_empty() { component } else { format!("{component}, {host}") };
    let times = number(object, &["series", "count"])
        .or_else(|| number(object, &["count"]))
        .or_else(|| number(object, &["deprecatedCount"]))
        .unwrap_or(1);
    let target = match text(involved, &["name"]) {
        "" => text(involved, &["kind"]).to_lowercase(),
        name => format!("{}/{name}", text(involved, &["kind"]).to_lowercase()),
    };
    vec![
        since(&last, now).into(),
        text(object, &["type"]).into(),
        text(object, &["reason"]).into(),
        target.into(),
        text(involved, &["fieldPath"]).into(),
        from.into(),
        first_text(&["message", "note"]).trim().into(),
        since(&first, now).into(),
        times.into(),
        name(object).into(),
    ]
}

fn component(object: &Value) -> Vec<Value> {
    let conditions = items(object, &["conditions"]);
    let healthy = conditions.iter().find(|one| text(one, &["type"]) == "Healthy");
    let state = match healthy.map(|one| text(one, &["status"])) {
        None => "Unknown",
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
    };
    let said = |field: &str| healthy.map(|one| text(one, &[field])).unwrap_or_default();
    vec![name(object).into(), state.into(), said("message").into(), said("error").into()]
}

fn access_modes(list: &[Value]) -> Value {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO".to_owned(),
        "ReadOnlyMany" => "ROX".to_owned(),
        "ReadWriteMany" => "RWX".to_owned(),
        "ReadWriteOncePod" => "RWOP".to_owned(),
        other => other.to_owned(),
    };
    list.iter().filter_map(Value::as_str).map(short).collect::<Vec<_>>().join(",").into()
}

fn phase(object: &Value) -> Value {
    if at(object, &["metadata", "deletionTimestamp"]).is_some() {
        return "Terminating".into();
    }
    text(object, &["status", "phase"]).into()
}

fn volume(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let claim = match text(spec, &["claimRef", "name"]) {
        "" => String::new(),
        name => format!("{}/{name}", text(spec, &["claimRef", "namespace"])),
    };
    let or_unset = |text: &str| Value::from(if text.is_empty() { "<unset>" } else { text });
    vec![
        name(object).into(),
        text(spec, &["capacity", "storage"]).into(),
        access_modes(items(spec, &["accessModes"])),
        text(spec, &["persistentVolumeReclaimPolicy"]).into(),
        phase(object),
        claim.into(),
        text(spec, &["storageClassName"]).into(),
        or_unset(text(spec, &["volumeAttributesClassName"])),
        text(object, &["status", "reason"]).into(),
        age(object, now),
        or_unset(text(spec, &["volumeMode"])),
    ]
}

fn claim(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let or_unset = |text: &str| Value::from(if text.is_empty() { "<unset>" } else { text });
    let bound = !text(spec, &["volumeName"]).is_empty();
    let modes = if bound { access_modes(items(object, &["status", "accessModes"])) } else { "".into() };
    vec![
        name(object).into(),
        phase(object),
        text(spec, &["volumeName"]).into(),
        if bound {
            at(object, &["status", "capacity", "storage"]).cloned().unwrap_or_else(|| "0".into())
        } else {
            "".into()
        },
        modes,
        text(spec, &["storageClassName"]).into(),
        or_unset(text(spec, &["volumeAttributesClassName"])),
        age(object, now),
        or_unset(text(spec, &["volumeMode"])),
    ]
}

fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in members(object, &["status", "hard"]) {
        let used = text(object, &["status", "used", resource]);
        let entry = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits.") { limits.push(entry) } else { requests.push(entry) }
    }
    vec![name(object).into(), requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
}
