//! Defaults of the smaller groups: networking, discovery, rbac, autoscaling, scheduling, policy, flow control, devices.

use serde_json::{Value, json};

use super::{child, default, default_number, default_unset, each, service};
use crate::object::{at, items, set, text};
use crate::registry::Resource;

pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("discovery.k8s.io", "endpointslices") => service::slice(object),
        ("networking.k8s.io", "networkpolicies") => network_policy(child(object, "spec")),
        ("networking.k8s.io", "ingressclasses") => {
            if let Some(parameters) = object.get_mut("spec").and_then(|spec| spec.get_mut("parameters")) {
                default_unset(parameters, "scope", "Cluster");
            }
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => binding(object),
        ("autoscaling", _) => autoscaler(&resource.version, child(object, "spec")),
        ("scheduling.k8s.io", "priorityclasses") => {
            default_unset(object, "preemptionPolicy", "PreemptLowerPriority")
        }
        ("resource.k8s.io", "resourceclaims") => devices(child(object, "spec")),
        ("resource.k8s.io", "resourceclaimtemplates") => devices(child(child(object, "spec"), "spec")),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
            default_number(child(object, "spec"), "matchingPrecedence", 1000);
        }
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            priority_level(child(object, "spec"))
        }
        _ => {}
    }
}

fn network_policy(spec: &mut Value) {
    for list in ["ingress", "egress"] {
        for rule in each(spec, list) {
            for port in each(rule, "ports") {
                default_unset(port, "protocol", "TCP");
            }
        }
    }
    default(spec, "podSelector", json!({}));
    if items(spec, &["policyTypes"]).is_empty() {
        let egress =
            at(spec, &["egress"]).is_some_and(|list| list.as_array().is_some_and(|list| !list.is_empty()));
        let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        set(spec, "policyTypes", types);
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn binding(object: &mut Value) {
    default(child(object, "roleRef"), "apiGroup", RBAC);
    for subject in each(object, "subjects") {
        match text(subject, &["kind"]) {
            "User" | "Group" => default(subject, "apiGroup", RBAC),
            _ => {}
        }
    }
}

fn autoscaler(version: &str, spec: &mut Value) {
    default(spec, "minReplicas", 1);
    if version == "v1" {
        // Stored in the other version, which has a metric in any case.
        default(spec, "targetCPUUtilizationPercentage", 80);
        return;
    }
    if items(spec, &["metrics"]).is_empty() {
        let cpu = json!({ "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 } });
        set(spec, "metrics", json!([{ "type": "Resource", "resource": cpu }]));
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|one| one.is_object()) else { return };
    let up = json!([
        { "type": "Pods", "value": 4, "periodSeconds": 15 }, { "type": "Percent", "value": 100, "periodSeconds": 15 }
    ]);
    let down = json!([{ "type": "Percent", "value": 100, "periodSeconds": 15 }]);
    for (name, policies, window) in [("scaleUp", up, Some(0)), ("scaleDown", down, None)] {
        let rules = child(behavior, name);
        default_unset(rules, "selectPolicy", "Max");
        default_unset(rules, "policies", policies);
        if let Some(window) = window {
            default(rules, "stabilizationWindowSeconds", window);
        }
    }
}

/// A request that does not say how many devices it wants is for one.
fn devices(spec: &mut Value) {
    let one = |request: &mut Value| {
        default(request, "allocationMode", "ExactCount");
        let none = at(request, &["count"]).is_none_or(|count| count == 0);
        if text(request, &["allocationMode"]) == "ExactCount" && none {
            set(request, "count", 1);
        }
    };
    let Some(claim) = spec.get_mut("devices") else { return };
    for request in each(claim, "requests") {
        if let Some(exact) = request.get_mut("exactly").filter(|exact| exact.is_object()) {
            one(exact);
        }
        each(request, "firstAvailable").for_each(one);
    }
}

fn priority_level(spec: &mut Value) {
    if let Some(exempt) = spec.get_mut("exempt").filter(|exempt| exempt.is_object()) {
        default(exempt, "nominalConcurrencyShares", 0);
        default(exempt, "lendablePercent", 0);
    }
    let Some(limited) = spec.get_mut("limited").filter(|limited| limited.is_object()) else { return };
    default(limited, "nominalConcurrencyShares", 30);
    default(limited, "lendablePercent", 0);
    let response = child(limited, "limitResponse");
    if text(response, &["type"]) == "Queue"
        && let Some(queuing) = response.get_mut("queuing").filter(|queuing| queuing.is_object())
    {
        default_number(queuing, "queues", 64);
        default_number(queuing, "handSize", 8);
        default_number(queuing, "queueLengthLimit", 50);
    }
}
