//! What is wrong between services and the records of their addresses and ports, and how it is mended: pure.
//!
//! The rules are upstream's (`ipallocator/controller/repairip.go`, `portallocator/controller/repair.go`). [`super::mend`]
//! applies them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::claim::{FAMILY, MANAGED_BY, MANAGER};
use super::ports::PortSet;
use super::range::family;

/// So long a record may be without its service: the longest that a request takes.
const GRACE: Duration = Duration::from_secs(60);
/// So long a new record may be another than that of the service: somebody may be taking it back.
const REVERTING: Duration = Duration::from_secs(5);
/// So many times a port without a service is passed over before it is given back.
const ROUNDS: u8 = 3;

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) reason: &'static str,
    pub(super) action: &'static str,
    pub(super) text: String,
}

/// What is to be done about the record of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    /// It is as it should be, or beyond mending.
    Leave,
    /// It is made.
    Create(IpAddr),
    /// It is replaced.
    Replace(IpAddr),
    /// It goes.
    Delete,
    /// It is looked at again.
    Later(Duration),
}

/// What there is besides the object at hand.
pub(super) trait World {
    /// The record of an address.
    fn record(&self, address: IpAddr) -> Option<Arc<Value>>;
    /// A service.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Value>>;
    /// Whether the address lies in some ServiceCIDR.
    fn in_range(&self, address: IpAddr) -> bool;
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

fn parent(record: &Value) -> (&str, &str, &str, &str) {
    let parent = &record["spec"]["parentRef"];
    (text(parent, "group"), text(parent, "resource"), text(parent, "namespace"), text(parent, "name"))
}

/// The addresses that a service says it has, as they are written there.
fn addresses(service: &Value) -> impl Iterator<Item = &str> {
    let has = service["spec"]["type"] != "ExternalName";
    let list = service["spec"]["clusterIPs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    list.filter(move |text| has && !text.is_empty() && *text != "None")
}

/// What is wrong with the records of a service.
pub(super) fn service(service: &Value, world: &impl World) -> Vec<(Mend, Option<Note>)> {
    addresses(service).map(|text| service_address(service, text, world)).collect()
}

fn service_address(service: &Value, given: &str, world: &impl World) -> (Mend, Option<Note>) {
    let (namespace, name) = (text(&service["metadata"], "namespace"), text(&service["metadata"], "name"));
    let note = |reason, action, text| Some(Note { reason, action, text });
    let allocation = "ClusterIPAllocation";
    let Ok(address) = given.parse::<IpAddr>() else {
        let text = format!("Cluster IP {given} is not a valid IP; please recreate Service");
        return (Mend::Leave, note("ClusterIPNotValid", "ClusterIPValidation", text));
    };
    let kind = family(address);
    if !world.in_range(address) {
        let text = format!(
            "Cluster IP [{kind}]: {address} is not within any configured Service CIDR; please recreate service"
        );
        return (Mend::Leave, note("ClusterIPOutOfRange", allocation, text));
    }
    let Some(record) = world.record(address) else {
        let text = format!("Cluster IP [{kind}]: {address} is not allocated; repairing");
        return (Mend::Create(address), note("ClusterIPNotAllocated", allocation, text));
    };
    let wrong = || {
        let text = format!(
            "the ClusterIP [{kind}]: {address} for Service {namespace}/{name} has a wrong reference; repairing"
        );
        (Mend::Replace(address), note("ClusterIPNotAllocated", allocation, text))
    };
    match parent(&record) {
        ("", "services", of_namespace, of_name) if (of_namespace, of_name) == (namespace, name) => {
            if has_labels(&record, address) {
                (Mend::Leave, None)
            } else {
                (Mend::Replace(address), None)
            }
        }
        ("", "services", of_namespace, of_name) => match world.service(of_namespace, of_name) {
            None => wrong(),
            Some(other) if addresses(&other).any(|one| one.parse() == Ok(address)) => {
                let text = format!(
                    "Cluster IP [{kind}]:{address} was assigned to multiple services; please recreate service"
                );
                (Mend::Leave, note("ClusterIPAlreadyAllocated", allocation, text))
            }
            // The record goes when it is looked at itself; then one is made for this service.
            Some(_) => (Mend::Later(GRACE), None),
        },
        _ => wrong(),
    }
}

fn is_managed(record: &Value) -> bool {
    record["metadata"]["labels"][MANAGED_BY] == MANAGER
}

fn has_labels(record: &Value, address: IpAddr) -> bool {
    is_managed(record) && record["metadata"]["labels"][FAMILY] == family(address)
}

/// What is wrong with a record. Those of others are left alone.
pub(super) fn record(record: &Value, world: &impl World, now: Timestamp) -> (Mend, Option<Note>) {
    if !is_managed(record) {
        return (Mend::Leave, None);
    }
    let address = text(&record["metadata"], "name");
    let note = |reason, text| Some(Note { reason, action: "IPAddressAllocation", text });
    let (group, resource, namespace, name) = parent(record);
    if !group.is_empty() || resource != "services" {
        let text = format!(
            "IPAddress {address} appears to have been modified, not referencing a Service {}: cleaning up",
            record["spec"]["parentRef"]
        );
        return (Mend::Delete, note("IPAddressNotAllocated", text));
    }
    let made = |object: &Value| text(&object["metadata"], "creationTimestamp").parse::<Timestamp>().ok();
    let age = made(record).map_or(GRACE, |made| Duration::try_from(now - made).unwrap_or_default());
    let Some(service) = world.service(namespace, name) else {
        if age < GRACE {
            return (Mend::Later(GRACE - age), None);
        }
        let text = format!(
            "IPAddress: {address} for Service {namespace}/{name} appears to have leaked: cleaning up"
        );
        return (Mend::Delete, note("IPAddressNotAllocated", text));
    };
    if addresses(&service).any(|one| one == address) {
        return (Mend::Leave, None);
    }
    // An address may have been taken for a service that is about to need one.
    if service["spec"]["type"] == "ExternalName" && age < GRACE {
        return (Mend::Later(GRACE - age), None);
    }
    if age < REVERTING && made(record) > made(&service) {
        return (Mend::Later(REVERTING), None);
    }
    let text =
        format!("IPAddress: {address} for Service {namespace}/{name} has a wrong reference; cleaning up");
    (Mend::Delete, note("IPAddressWrongReference", text))
}

/// The ports of a service, those that it uses for two protocols once.
fn node_ports(service: &Value) -> Vec<u16> {
    let mut seen: HashMap<u16, Vec<&str>> = HashMap::new();
    let mut all = Vec::new();
    let number =
        |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    for port in service["spec"]["ports"].as_array().into_iter().flatten() {
        let Some(number) = number(&port["nodePort"]) else { continue };
        let protocols = seen.entry(number).or_default();
        let protocol = text(port, "protocol");
        if protocols.is_empty() || protocols.contains(&protocol) {
            all.push(number);
        }
        protocols.push(protocol);
    }
    if let Some(health) = number(&service["spec"]["healthCheckNodePort"])
        && seen.get(&health).is_none_or(|protocols| protocols.contains(&"TCP"))
    {
        all.push(health);
    }
    all
}

/// The record of node ports as it should be, by the services there are and by what it says. `leaks` counts how often a
/// port without a service is passed over yet.
pub(super) fn ports<'a>(
    stored: &PortSet,
    range: (u16, u16),
    services: impl Iterator<Item = &'a Arc<Value>>,
    leaks: &mut HashMap<u16, u8>,
) -> (PortSet, Vec<(Arc<Value>, Note)>) {
    let (mut rebuilt, mut left) = (PortSet::none(range), stored.clone());
    let mut notes = Vec::new();
    for service in services {
        for port in node_ports(service) {
            let mut note = |reason, text| {
                notes.push((service.clone(), Note { reason, action: "PortAllocation", text }));
            };
            if !rebuilt.covers(port) {
                let (first, last) = range;
                let text = format!(
                    "Port {port} is not within the port range {first}-{last}; please recreate service"
                );
                note("PortOutOfRange", text);
            } else if !rebuilt.insert(port) {
                let text = format!("Port {port} was assigned to multiple services; please recreate service");
                note("PortAlreadyAllocated", text);
            } else if left.has(port) {
                left.remove(port);
                leaks.remove(&port);
            } else {
                note("PortNotAllocated", format!("Port {port} is not allocated; repairing"));
                leaks.remove(&port);
            }
        }
    }
    for port in left.iter() {
        let rounds = leaks.entry(port).or_insert(ROUNDS);
        if *rounds > 0 {
            *rounds -= 1;
            rebuilt.insert(port);
        } else {
            tracing::warn!(port, "a node port without a service is given back");
        }
    }
    leaks.retain(|port, _| left.has(*port) && rebuilt.has(*port));
    (rebuilt, notes)
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
