//! Between the version that a client speaks and the version that is stored, where the two differ.
//!
//! Two kinds are served in two forms: events (core and `events.k8s.io`, stored as core) and horizontal pod autoscalers
//! (v1 and v2, stored as v2). What the older form cannot say is kept in annotations, as upstream keeps it. The versions of
//! a custom resource differ in `apiVersion` and schema alone.

use serde_json::{Map, Value, json};

use crate::decode;
use crate::object::{at, items, remove, set, text};
use crate::registry::{Resource, join_group_version, registry};

/// Brings an object of the resource into its stored form.
pub fn to_storage(resource: &Resource, object: &mut Value) {
    if !resource.needs_conversion() {
        return;
    }
    match resource.plural.as_str() {
        _ if resource.custom.is_some() => {}
        "events" => rename(object, &EVENT, false),
        "horizontalpodautoscalers" => autoscaler_to_v2(object),
        _ => {}
    }
    set(object, "apiVersion", join_group_version(&resource.storage.group, &resource.storage.version));
    let stored = &resource.storage;
    if let Some(stored) = registry().find_kind(&stored.group, &stored.version, &resource.kind) {
        written_as(stored, object);
    }
}

/// The zeros of one form are not those of the other.
fn written_as(resource: &Resource, object: &mut Value) {
    if resource.custom.is_none() {
        decode::omit_zeros(resource, object);
        decode::fill_zeros(resource, object);
    }
}

/// Brings a stored object into the form that the resource serves.
pub fn from_storage(resource: &Resource, object: &mut Value) {
    if let Some(custom) = &resource.custom {
        return custom.refresh(resource, object);
    }
    if !resource.needs_conversion() {
        return;
    }
    match resource.plural.as_str() {
        "events" => rename(object, &EVENT, true),
        "horizontalpodautoscalers" => autoscaler_to_v1(object),
        _ => {}
    }
    set(object, "apiVersion", resource.group_version());
    written_as(resource, object);
}

/// The names in core, and in `events.k8s.io`.
const EVENT: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingInstance", "reportingInstance"),
];

fn rename(object: &mut Value, names: &[(&str, &str)], forward: bool) {
    for (core, new) in names {
        let (from, to) = if forward { (core, new) } else { (new, core) };
        if let Some(value) = remove(object, from) {
            set(object, to, value);
        }
    }
}

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

fn is_cpu(metric: &Value) -> bool {
    text(metric, &["type"]) == "Resource" && text(metric, &["resource", "name"]) == "cpu"
}

fn autoscaler_to_v1(object: &mut Value) {
    let mut kept = Map::new();
    if let Some(spec) = object.get_mut("spec") {
        let metrics = items(spec, &["metrics"]).to_vec();
        remove(spec, "metrics");
        let target = metrics
            .iter()
            .find(|metric| is_cpu(metric))
            .and_then(|metric| at(metric, &["resource", "target", "averageUtilization"]).cloned());
        let others: Vec<Value> = metrics
            .into_iter()
            .filter(|metric| {
                !(is_cpu(metric) && at(metric, &["resource", "target", "averageUtilization"]).is_some())
            })
            .collect();
        if let Some(target) = target {
            set(spec, "targetCPUUtilizationPercentage", target);
        }
        if !others.is_empty() {
            kept.insert(METRICS.into(), Value::Array(others).to_string().into());
        }
        if let Some(behavior) = remove(spec, "behavior") {
            kept.insert(BEHAVIOR.into(), behavior.to_string().into());
        }
    }
    if let Some(status) = object.get_mut("status") {
        let current = items(status, &["currentMetrics"]);
        let cpu = current
            .iter()
            .find(|metric| is_cpu(metric))
            .and_then(|metric| at(metric, &["resource", "current", "averageUtilization"]).cloned());
        for (name, annotation) in [("currentMetrics", CURRENT), ("conditions", CONDITIONS)] {
            if let Some(value) = remove(status, name).filter(|value| !value.is_null()) {
                kept.insert(annotation.into(), value.to_string().into());
            }
        }
        if let Some(cpu) = cpu {
            set(status, "currentCPUUtilizationPercentage", cpu);
        }
    }
    if !kept.is_empty() && object["metadata"].is_object() {
        let metadata = &mut object["metadata"];
        if !metadata["annotations"].is_object() {
            set(metadata, "annotations", json!({}));
        }
        for (name, value) in kept {
            set(&mut metadata["annotations"], &name, value);
        }
    }
}

fn autoscaler_to_v2(object: &mut Value) {
    let mut take = |name: &str| -> Option<Value> {
        let annotations = object.get_mut("metadata")?.get_mut("annotations")?;
        let value = serde_json::from_str(remove(annotations, name)?.as_str()?).ok();
        if annotations.as_object().is_some_and(Map::is_empty) {
            remove(&mut object["metadata"], "annotations");
        }
        value
    };
    let (metrics, behavior, current, conditions) =
        (take(METRICS), take(BEHAVIOR), take(CURRENT), take(CONDITIONS));
    if let Some(spec) = object.get_mut("spec") {
        let mut all: Vec<Value> = metrics.and_then(|one| one.as_array().cloned()).unwrap_or_default();
        if let Some(target) = remove(spec, "targetCPUUtilizationPercentage") {
            all.push(json!({
                "type": "Resource",
                "resource": { "name": "cpu", "target": { "type": "Utilization", "averageUtilization": target } }
            }));
        }
        if !all.is_empty() {
            set(spec, "metrics", all);
        }
        if let Some(behavior) = behavior.filter(Value::is_object) {
            set(spec, "behavior", behavior);
        }
    }
    if let Some(status) = object.get_mut("status") {
        let cpu = remove(status, "currentCPUUtilizationPercentage");
        if let Some(current) = current.filter(Value::is_array) {
            set(status, "currentMetrics", current);
        } else if let Some(cpu) = cpu {
            let current =
                json!({ "name": "cpu", "current": { "averageUtilization": cpu, "averageValue": "0" } });
            set(status, "currentMetrics", json!([{ "type": "Resource", "resource": current }]));
        }
        if let Some(conditions) = conditions.filter(Value::is_array) {
            set(status, "conditions", conditions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_the_new_group_survives_storage() {
        let events = registry().find("events.k8s.io", "v1", "events").unwrap();
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"}, "regarding": {"name": "x"},
            "note": "n", "reason": "R", "reportingController": "c", "reportingInstance": "i", "deprecatedCount": 2
        });
        decode::fill_zeros(events, &mut event);
        let mut stored = event.clone();
        to_storage(events, &mut stored);
        assert_eq!(stored["apiVersion"], "v1");
        assert_eq!(stored["involvedObject"]["name"], "x");
        assert_eq!(stored["message"], "n");
        from_storage(events, &mut stored);
        assert_eq!(stored, event);
    }

    #[test]
    fn autoscaler_of_v2_survives_a_client_of_v1() {
        let v1 = registry().find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let mut object = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {}}, "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
            ]}
        });
        let v2 = registry().find("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
        decode::fill_zeros(v2, &mut object);
        let original = object.clone();
        from_storage(v1, &mut object);
        assert_eq!(object["spec"]["targetCPUUtilizationPercentage"], 70);
        assert_eq!(object["apiVersion"], "autoscaling/v1");
        to_storage(v1, &mut object);
        assert_eq!(object, original);
    }
}
