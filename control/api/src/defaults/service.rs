//! Defaults of services and endpoints.

use serde_json::{Value, json};

use super::{child, default, default_unset, each};
use crate::object::{at, items, set, text};

/// A Service. Addresses and node ports come from the server's allocator.
pub(super) fn service(object: &mut Value) {
    let spec = child(object, "spec");
    default(spec, "sessionAffinity", "None");
    if text(spec, &["sessionAffinity"]) == "ClientIP" {
        let config = child(child(spec, "sessionAffinityConfig"), "clientIP");
        default(config, "timeoutSeconds", 10800);
    } else if text(spec, &["sessionAffinity"]) == "None" {
        crate::object::remove(spec, "sessionAffinityConfig");
    }
    default(spec, "type", "ClusterIP");
    for port in each(spec, "ports") {
        default(port, "protocol", "TCP");
        let unset = match at(port, &["targetPort"]) {
            None => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => *number == 0,
        };
        if unset && let Some(number) = port.get("port").cloned() {
            set(port, "targetPort", number);
        }
    }
    let kind = text(spec, &["type"]).to_owned();
    let external = !items(spec, &["externalIPs"]).is_empty();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && external) {
        default(spec, "externalTrafficPolicy", "Cluster");
    }
    if kind != "ExternalName" {
        default_unset(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
    }
    each_ip_mode(object);
}

fn each_ip_mode(object: &mut Value) {
    if text(object, &["spec", "type"]) != "LoadBalancer" {
        return;
    }
    let Some(balancer) = object.get_mut("status").and_then(|status| status.get_mut("loadBalancer")) else {
        return;
    };
    for ingress in each(balancer, "ingress") {
        if !text(ingress, &["ip"]).is_empty() {
            default(ingress, "ipMode", "VIP");
        }
    }
}

/// An Endpoints object.
pub(super) fn endpoints(object: &mut Value) {
    for subset in each(object, "subsets") {
        for port in each(subset, "ports") {
            default(port, "protocol", "TCP");
        }
    }
}

/// An EndpointSlice.
pub(super) fn slice(object: &mut Value) {
    for port in each(object, "ports") {
        if port.get("name").is_none_or(Value::is_null) {
            set(port, "name", "");
        }
        default_unset(port, "protocol", "TCP");
    }
    for endpoint in each(object, "endpoints") {
        if !endpoint.get("conditions").is_some_and(Value::is_object) {
            set(endpoint, "conditions", json!({}));
        }
    }
}
