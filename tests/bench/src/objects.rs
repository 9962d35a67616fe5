//! Services and EndpointSlices by number, and an engine that has seen them.

use std::net::Ipv4Addr;

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

/// Where services listen.
pub const PORT: u16 = 80;
/// Where their endpoints do.
pub const TARGET_PORT: u16 = 8080;

/// The cluster address of a numbered service.
pub fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 0).to_bits() + 1 + number)
}

/// A numbered service.
///
/// # Errors
/// Never: the object is one.
pub fn service(number: u32, node_port: Option<u16>) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "metadata": { "namespace": "default", "name": format!("s{number}") },
        "spec": {
            "type": if node_port.is_some() { "NodePort" } else { "ClusterIP" },
            "clusterIP": cluster_ip(number),
            "ports": [{ "name": "http", "port": PORT, "nodePort": node_port }],
        },
    }))?)
}

/// Its slice with these endpoints, on three nodes in turn.
///
/// # Errors
/// Never: the object is one.
pub fn slice(number: u32, addresses: impl Iterator<Item = Ipv4Addr>) -> Result<EndpointSlice> {
    let endpoint = |(at, address): (usize, Ipv4Addr)| json!({ "addresses": [address], "nodeName": format!("n{}", 1 + at % 3) });
    Ok(serde_json::from_value(json!({
        "metadata": {
            "namespace": "default",
            "name": format!("s{number}-a"),
            "labels": { "kubernetes.io/service-name": format!("s{number}") },
        },
        "addressType": "IPv4",
        "endpoints": addresses.enumerate().map(endpoint).collect::<Vec<_>>(),
        "ports": [{ "name": "http", "port": TARGET_PORT }],
    }))?)
}
