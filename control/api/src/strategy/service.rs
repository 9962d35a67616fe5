//! Services: addresses and node ports that were allocated stay when an update leaves them out, and go with the type.

use serde_json::Value;

use crate::object::{at, items, remove, set, text};

fn needs_address(service: &Value) -> bool {
    matches!(text(service, &["spec", "type"]), "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_port(service: &Value) -> bool {
    matches!(text(service, &["spec", "type"]), "NodePort" | "LoadBalancer")
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
        let local = text(new, &["spec", "externalTrafficPolicy"]) == "Local";
        if local
            && at(new, &["spec", "healthCheckNodePort"]).is_none_or(|port| port == 0)
            && let Some(port) = at(old, &["spec", "healthCheckNodePort"])
        {
            let port = port.clone();
            set(&mut new["spec"], "healthCheckNodePort", port);
        }
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

/// When the type no longer has addresses or node ports and the client sent the old ones along, they go.
fn drop_what_the_type_ends(new: &mut Value, old: &Value) {
    if needs_address(old) && !needs_address(new) {
        for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            if new["spec"].get(name) == old["spec"].get(name) {
                remove(&mut new["spec"], name);
            }
        }
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let old_ports = items(old, &["spec", "ports"]).to_vec();
        for port in new["spec"]["ports"].as_array_mut().into_iter().flatten() {
            let sent = port.get("nodePort").cloned();
            if sent.is_some() && old_ports.iter().any(|one| one.get("nodePort") == sent.as_ref()) {
                remove(port, "nodePort");
            }
        }
        for name in ["externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts"] {
            let external =
                !items(new, &["spec", "externalIPs"]).is_empty() && name == "externalTrafficPolicy";
            if !external && new["spec"].get(name) == old["spec"].get(name) {
                remove(&mut new["spec"], name);
            }
        }
    }
}
