//! Services: addresses and node ports that were allocated stay when an update leaves them out, and go with the type.

use serde_json::Value;

use crate::object::{at, items, remove, set, text};

fn needs_address(service: &Value) -> bool {
    matches!(text(service, &["spec", "type"]), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(service: &Value) -> bool {
    matches!(text(service, &["spec", "type"]), "NodePort" | "LoadBalancer")
}

/// Whether nodes answer on a port of their own how many endpoints they have.
fn needs_health_port(service: &Value) -> bool {
    is_load_balancer(service) && text(service, &["spec", "externalTrafficPolicy"]) == "Local"
}

fn is_load_balancer(service: &Value) -> bool {
    text(service, &["spec", "type"]) == "LoadBalancer"
}

/// Whether clients from outside come to it at all.
fn is_external(service: &Value) -> bool {
    needs_node_port(service)
        || text(service, &["spec", "type"]) == "ClusterIP"
            && !items(service, &["spec", "externalIPs"]).is_empty()
}

pub(super) fn update(new: &mut Value, old: &Value) {
    if !new["spec"].is_object() {
        return;
    }
    if needs_address(new) && needs_address(old) {
        keep_addresses(new, old);
    }
    if needs_node_port(new) && needs_node_port(old) {
        keep_node_ports(new, old);
    }
    if needs_health_port(new)
        && needs_health_port(old)
        && at(new, &["spec", "healthCheckNodePort"]).is_none_or(|port| port == 0)
        && let Some(port) = at(old, &["spec", "healthCheckNodePort"])
    {
        let port = port.clone();
        set(&mut new["spec"], "healthCheckNodePort", port);
    }
    drop_what_the_type_ends(new, old);
}

fn keep_addresses(new: &mut Value, old: &Value) {
    if text(new, &["spec", "clusterIP"]).is_empty() && items(new, &["spec", "clusterIPs"]).is_empty() {
        for name in ["clusterIP", "clusterIPs"] {
            if let Some(value) = at(old, &["spec", name]) {
                let value = value.clone();
                set(&mut new["spec"], name, value);
            }
        }
    }
    // A client that knows only the one of the two fields still means both.
    let (first, list) = (text(new, &["spec", "clusterIP"]).to_owned(), items(new, &["spec", "clusterIPs"]));
    let unchanged = first == text(old, &["spec", "clusterIP"]);
    if !unchanged && !first.is_empty() && list == items(old, &["spec", "clusterIPs"]) && !list.is_empty() {
        // The list was sent along as it was.
        let mut list = list.to_vec();
        list[0] = first.into();
        return set(&mut new["spec"], "clusterIPs", list);
    }
    if !first.is_empty() && list.is_empty() {
        let kept = if unchanged { at(old, &["spec", "clusterIPs"]).cloned() } else { None };
        set(&mut new["spec"], "clusterIPs", kept.unwrap_or_else(|| Value::Array(vec![first.into()])));
    } else if first.is_empty() && !list.is_empty() {
        let first = list[0].clone();
        set(&mut new["spec"], "clusterIP", first);
    }
    for name in ["ipFamilies", "ipFamilyPolicy"] {
        if at(new, &["spec", name]).is_none()
            && let Some(value) = at(old, &["spec", name])
        {
            let value = value.clone();
            set(&mut new["spec"], name, value);
        }
    }
}

fn keep_node_ports(new: &mut Value, old: &Value) {
    let key = |port: &Value| (port["port"].clone(), text(port, &["protocol"]).to_owned());
    let has = |port: &Value| port["nodePort"].as_i64().is_some_and(|number| number != 0);
    let used: Vec<Value> = items(new, &["spec", "ports"])
        .iter()
        .filter(|port| has(port))
        .map(|port| port["nodePort"].clone())
        .collect();
    let known: Vec<(_, Value)> = items(old, &["spec", "ports"])
        .iter()
        .filter(|port| has(port) && !used.contains(&port["nodePort"]))
        .map(|port| (key(port), port["nodePort"].clone()))
        .collect();
    for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if !has(port)
            && let Some((_, number)) = known.iter().find(|(known, _)| *known == key(port))
        {
            set(port, "nodePort", number.clone());
        }
    }
}

/// What was given to a service or set by default goes when the service no longer needs it, if the client sent it along as it
/// was. What the client changed as well stays, and is refused.
fn drop_what_the_type_ends(new: &mut Value, old: &Value) {
    if needs_address(old) && !needs_address(new) {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_if_same(new, old, name);
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        drop_node_ports(new, old);
    }
    for (needs, name) in [
        (needs_health_port as fn(&Value) -> bool, "healthCheckNodePort"),
        (is_load_balancer, "allocateLoadBalancerNodePorts"),
        (is_load_balancer, "loadBalancerClass"),
        (is_external, "externalTrafficPolicy"),
    ] {
        // The health check's port goes by the policy, which is the last of them.
        if needs(old) && !needs(new) {
            drop_if_same(new, old, name);
        }
    }
}

fn drop_if_same(new: &mut Value, old: &Value, name: &str) {
    if new["spec"].get(name) == old["spec"].get(name) {
        remove(&mut new["spec"], name);
    }
}

/// All node ports, if none of them is new.
fn drop_node_ports(new: &mut Value, old: &Value) {
    let numbers = |service: &Value| -> Vec<i64> {
        let ports = items(service, &["spec", "ports"]).iter();
        ports.filter_map(|port| port["nodePort"].as_i64()).filter(|number| *number != 0).collect()
    };
    let known = numbers(old);
    if numbers(new).iter().all(|number| known.contains(number)) {
        for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
            remove(port, "nodePort");
        }
    }
}
