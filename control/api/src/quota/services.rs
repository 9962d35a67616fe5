//! What services count for.

use serde_json::Value;

use crate::object::{at, items, number, text};
use crate::quantity::Quantity;
use crate::resources::Amounts;

pub(super) const NAMES: [&str; 4] =
    ["count/services", "services", "services.nodeports", "services.loadbalancers"];

pub(super) fn usage(service: &Value) -> Amounts {
    let ports = items(service, &["spec", "ports"]);
    let own = ports.iter().filter(|port| number(port, &["nodePort"]).unwrap_or_default() != 0).count();
    let suppressed = at(service, &["spec", "allocateLoadBalancerNodePorts"]) == Some(&Value::Bool(false));
    // Ports are not given out yet when a service is judged: what counts is the intent.
    let (node_ports, balancers) = match text(service, &["spec", "type"]) {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if suppressed => (own, 1),
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    let counts = [1, 1, node_ports as i64, balancers];
    NAMES.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), Quantity::of(count))).collect()
}
