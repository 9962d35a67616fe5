//! From API objects to what the tables lead to.

mod engine;
mod host_ports;
mod oracle;
mod plan;
mod random;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::plan::NodeView;

/// A Service from the fields of its spec.
fn service(name: &str, spec: Value) -> Service {
    let object = json!({
        "metadata": { "namespace": "default", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

/// A slice of service `name`; endpoints are "address node" with an optional "!" for not ready or "~" for
/// terminating but serving before them. The ports are http 8080/TCP and dns 5353/UDP.
fn slice(name: &str, suffix: &str, endpoints: &[&str]) -> EndpointSlice {
    let endpoint = |text: &&str| {
        let conditions = match text.chars().next() {
            Some('!') => json!({ "ready": false, "serving": false }),
            Some('~') => json!({ "ready": false, "serving": true, "terminating": true }),
            _ => json!({ "ready": true }),
        };
        let (address, node) = text.trim_start_matches(['!', '~']).split_once(' ').unwrap();
        json!({ "addresses": [address], "conditions": conditions, "nodeName": node })
    };
    let v6 = endpoints.iter().any(|text| text.contains(':'));
    let object = json!({
        "metadata": {
            "namespace": "default",
            "name": format!("{name}-{suffix}"),
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [
            { "name": "http", "port": 8080, "protocol": "TCP" },
            { "name": "dns", "port": 5353, "protocol": "UDP" },
        ],
    });
    serde_json::from_value(object).unwrap()
}

/// A spec with one port "http" and a ClusterIP, and `more` fields.
fn spec(cluster_ips: &[&str], more: Value) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "clusterIP": cluster_ips[0],
        "clusterIPs": cluster_ips,
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080 }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

fn node() -> NodeView {
    NodeView {
        name: "n1".into(),
        zone: None,
        node_port_addresses: vec!["172.30.0.11".parse().unwrap(), "fd30::11".parse().unwrap()],
        loopback_addresses: vec!["127.0.0.1".parse().unwrap()],
        ..NodeView::default()
    }
}
