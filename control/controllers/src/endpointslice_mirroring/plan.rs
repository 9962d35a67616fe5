//! From an Endpoints object and the slices that mirror it to the fewest slice writes. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

use super::MANAGED_BY;
use crate::backends::{Family, Port};
use crate::endpointslice::plan::{MANAGED_BY_LABEL, Owner, Plan, SERVICE_NAME_LABEL, Wanted, plan_slices};
use crate::runtime::ownership::controller_reference;

/// Asks for an Endpoints object to be left alone.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// An Endpoints object that is a lock of a leader election of long ago.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that are about the object itself.
const OWN: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// The most addresses of one subset that are mirrored.
const CAPACITY: usize = 1000;

/// Whether nothing about the Endpoints forbids a mirror.
pub(super) fn is_mirrored(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skipped = metadata.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|v| v == "true");
    let lock = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    !skipped && !lock && metadata.deletion_timestamp.is_none()
}

/// Whether the service's Endpoints are somebody else's to write.
pub(super) fn has_no_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(BTreeMap::is_empty)
}

/// Plans the slices that mirror the object.
pub(super) fn plan(endpoints: &Endpoints, slices: &[Arc<EndpointSlice>]) -> Plan {
    let metadata = &endpoints.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let mut labels = metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME_LABEL.to_owned(), name.clone());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !OWN.contains(&key.as_str()));
    let owner = Owner {
        name,
        namespace: metadata.namespace.clone(),
        labels,
        annotations: Some(annotations),
        reference: controller_reference(endpoints),
    };
    let wanted = [Family::V4, Family::V6]
        .into_iter()
        .map(|family| (family, wanted(endpoints, family)))
        .filter(|(_, wanted)| !wanted.is_empty())
        .collect();
    plan_slices(&owner, wanted, slices)
}

fn wanted(endpoints: &Endpoints, family: Family) -> Wanted {
    let mut wanted = Wanted::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let found: Vec<Endpoint> = ready
            .chain(others)
            .filter(|(address, _)| family.has(&address.ip))
            .take(CAPACITY)
            .map(|(address, ready)| endpoint(address, ready))
            .collect();
        if !found.is_empty() {
            let ports = subset.ports.iter().flatten().map(port).collect();
            wanted.entry(ports).or_default().extend(found);
        }
    }
    wanted
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn port(port: &EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    }
}
