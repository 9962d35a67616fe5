//! What a pod asks of a node, worked out once per pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity;

/// A pod that asks for no processor time counts as this much when loads are compared.
const USUAL_CPU: i64 = 100;
/// A pod that asks for no memory counts as this much when loads are compared.
const USUAL_MEMORY: i64 = 200 << 20;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of ephemeral storage.
    pub storage: i64,
    /// Everything else by name: huge pages, devices.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// From the API's map. What does not parse counts as zero: the API refuses it.
    pub fn read(map: Option<&BTreeMap<String, Quantity>>) -> Self {
        let mut resources = Self::default();
        for (name, amount) in map.into_iter().flatten() {
            let value = match name.as_str() {
                "cpu" => quantity::milli(amount),
                _ => quantity::units(amount),
            };
            resources.set(name, value.unwrap_or(0));
        }
        resources
    }

    fn set(&mut self, name: &str, value: i64) {
        match name {
            "cpu" => self.cpu = value,
            "memory" => self.memory = value,
            "ephemeral-storage" => self.storage = value,
            "pods" => {}
            _ => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }

    /// Adds each amount.
    pub fn add(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_add(other.cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.storage = self.storage.saturating_add(other.storage);
        for (name, value) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = own.saturating_add(*value);
        }
    }

    /// Takes each amount away.
    pub fn subtract(&mut self, other: &Self) {
        self.cpu = self.cpu.saturating_sub(other.cpu);
        self.memory = self.memory.saturating_sub(other.memory);
        self.storage = self.storage.saturating_sub(other.storage);
        for (name, value) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = own.saturating_sub(*value);
        }
        self.others.retain(|_, value| *value != 0);
    }

    fn at_least(&mut self, other: &Self) {
        self.cpu = self.cpu.max(other.cpu);
        self.memory = self.memory.max(other.memory);
        self.storage = self.storage.max(other.storage);
        for (name, value) in &other.others {
            let own = self.others.entry(name.clone()).or_default();
            *own = (*own).max(*value);
        }
    }
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// Address; empty for all.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port number.
    pub port: i32,
}

impl HostPort {
    /// Whether two pods cannot have these ports on one node.
    pub fn clashes(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip.is_empty() || other.ip.is_empty())
    }
}

/// What a pod takes up on the node it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// What it asks for.
    pub requests: Resources,
    /// Processor time for comparing loads; never zero.
    pub usual_cpu: i64,
    /// Memory for comparing loads; never zero.
    pub usual_memory: i64,
    /// Ports of the node.
    pub ports: Vec<HostPort>,
    /// The uid of its controller: pods of one controller are spread.
    pub group: Option<String>,
}

impl Shape {
    /// Works a pod's shape out.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = pod.spec.as_ref() else { return Self::default() };
        let requests = requests(spec);
        let owners = pod.metadata.owner_references.iter().flatten();
        let group =
            owners.filter(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).next();
        Self {
            usual_cpu: if requests.cpu > 0 { requests.cpu } else { USUAL_CPU },
            usual_memory: if requests.memory > 0 { requests.memory } else { USUAL_MEMORY },
            ports: host_ports(spec),
            requests,
            group,
        }
    }
}

/// The containers together, or what the most demanding moment of initialisation takes, whichever is more;
/// plus overhead. Sidecars run from their turn on to the end. Requests of the pod as a whole replace those
/// of its containers.
fn requests(spec: &PodSpec) -> Resources {
    let mut total = Resources::default();
    spec.containers.iter().for_each(|container| total.add(&of_container(container)));
    let (mut sidecars, mut peak) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            total.add(&own);
            sidecars.add(&own);
            peak.at_least(&sidecars);
        } else {
            let mut moment = sidecars.clone();
            moment.add(&own);
            peak.at_least(&moment);
        }
    }
    total.at_least(&peak);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let amounts = Resources::read(Some(whole));
        for name in whole.keys() {
            let value = match name.as_str() {
                "cpu" => amounts.cpu,
                "memory" => amounts.memory,
                "ephemeral-storage" => amounts.storage,
                other => amounts.others.get(other).copied().unwrap_or(0),
            };
            total.set(name, value);
        }
    }
    total.add(&Resources::read(spec.overhead.as_ref()));
    total
}

/// A container's requests; where it gives only a limit, that is its request.
fn of_container(container: &Container) -> Resources {
    let Some(ResourceRequirements { requests, limits, .. }) = container.resources.as_ref() else {
        return Resources::default();
    };
    let mut all = limits.clone().unwrap_or_default();
    all.extend(requests.clone().unwrap_or_default());
    Resources::read(Some(&all))
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let on_host = if spec.host_network == Some(true) { Some(port.container_port) } else { None };
            let number = port.host_port.filter(|number| *number > 0).or(on_host)?;
            let ip = port.host_ip.clone().filter(|ip| ip != "0.0.0.0" && ip != "::").unwrap_or_default();
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some(HostPort { ip, protocol, port: number })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shape(spec: serde_json::Value) -> Shape {
        Shape::of(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    fn cpu(amount: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": amount}}})
    }

    #[test]
    fn requests_init_container_that_needs_more_decides() {
        let shape =
            shape(json!({"containers": [cpu("100m"), cpu("200m")], "initContainers": [cpu("1"), cpu("2")]}));
        assert_eq!(shape.requests.cpu, 2000);
    }

    #[test]
    fn requests_sidecar_counts_beside_containers_and_later_init_containers() {
        let mut sidecar = cpu("500m");
        sidecar["restartPolicy"] = json!("Always");
        let before = shape(json!({"containers": [cpu("100m")], "initContainers": [sidecar, cpu("1")]}));
        assert_eq!(before.requests.cpu, 1500);
        let after = shape(json!({"containers": [cpu("100m")], "initContainers": [cpu("1"), sidecar]}));
        assert_eq!(after.requests.cpu, 1000);
    }

    #[test]
    fn requests_overhead_is_added_and_the_pods_own_replace_the_containers() {
        let spec = json!({"containers": [cpu("100m")], "overhead": {"cpu": "50m"}});
        assert_eq!(shape(spec).requests.cpu, 150);
        let spec = json!({"containers": [cpu("100m")], "resources": {"requests": {"cpu": "3"}}});
        assert_eq!(shape(spec).requests.cpu, 3000);
    }

    #[test]
    fn usual_load_of_a_pod_that_asks_for_nothing_is_not_zero() {
        let shape = shape(json!({"containers": [{"name": "c"}]}));
        assert_eq!((shape.requests.cpu, shape.usual_cpu, shape.usual_memory), (0, 100, 200 << 20));
    }

    #[test]
    fn host_ports_all_addresses_clash_with_any_address() {
        let port = |ip: &str| HostPort { ip: ip.into(), protocol: "TCP".into(), port: 80 };
        assert!(port("").clashes(&port("10.0.0.1")));
        assert!(!port("10.0.0.2").clashes(&port("10.0.0.1")));
    }
}
