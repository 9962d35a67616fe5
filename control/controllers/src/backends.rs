//! Which pods stand behind a service, at which addresses and ports. Pure; shared by the controllers for
//! EndpointSlices and Endpoints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ContainerPort, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::cache::Change;
use crate::runtime::informer::Informer;
use crate::runtime::key::ObjectKey;

/// Marks slices and endpoints of services without a cluster address.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// `IPv4`
    V4,
    /// `IPv6`
    V6,
}

impl Family {
    /// As `addressType` and `ipFamilies` write it.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// Whether the address is of this family.
    pub fn has(self, address: &str) -> bool {
        match address.parse() {
            Ok(IpAddr::V4(_)) => self == Family::V4,
            Ok(IpAddr::V6(_)) => self == Family::V6,
            Err(_) => false,
        }
    }
}

/// A resolved port of a service on a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The service port's name, empty for the only port of a service.
    pub name: String,
    /// The port on the pod.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// What is spoken on it.
    pub app_protocol: Option<String>,
}

/// The selector of a service that the controllers look after: not those without one, nor external names.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.selector.as_ref().filter(|selector| !external && !selector.is_empty())
}

/// Whether the service selects a pod with these labels.
pub fn selects(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    selector(service).is_some_and(|selector| {
        selector.iter().all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
    })
}

/// Whether the service has no cluster address.
pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// The families that the service has, the primary one first.
pub fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named: Vec<Family> = spec
        .and_then(|spec| spec.ip_families.as_ref())
        .into_iter()
        .flatten()
        .map(|name| if name == "IPv6" { Family::V6 } else { Family::V4 })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    vec![if Family::V6.has(address) { Family::V6 } else { Family::V4 }]
}

/// The pod's addresses of a family.
pub fn addresses(pod: &Pod, family: Family) -> Vec<String> {
    let Some(status) = pod.status.as_ref() else { return Vec::new() };
    let many = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut all: Vec<String> = many.filter(|ip| family.has(ip)).cloned().collect();
    if all.is_empty() {
        all.extend(status.pod_ip.iter().filter(|ip| family.has(ip)).cloned());
    }
    all
}

/// The service's ports as this pod has them. Named target ports that the pod lacks are left out.
pub fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                port: resolve(port, pod)?,
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match port.target_port.as_ref() {
        None | Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => return Some(port.port),
        Some(IntOrString::String(name)) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let same = |candidate: &&ContainerPort| {
        candidate.name.as_ref() == Some(name) && protocol(&candidate.protocol) == protocol(&port.protocol)
    };
    let containers = spec.containers.iter().chain(sidecars);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .find(same)
        .map(|found| found.container_port)
}

/// The pod's host name within the service's domain, if it has one.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let here = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|name| here && !name.is_empty())
}

/// Not-ready pods are published as ready.
pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true))
}

/// The services whose backends a change of a pod may change.
pub fn affected(services: &Informer<Service>, change: &Change<Pod>) -> Vec<ObjectKey> {
    let pod = change.object();
    if let Some(old) = change.before()
        && facts(old) == facts(pod)
    {
        return Vec::new();
    }
    let labels = |pod: &Pod| pod.metadata.labels.clone();
    let (now, before) = (labels(pod), change.before().and_then(|pod| labels(pod)));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let concerns = |service: &Service| selects(service, now.as_ref()) || selects(service, before.as_ref());
    let services = services.namespace(namespace);
    services
        .iter()
        .filter(|service| concerns(service))
        .map(|service| ObjectKey::of(&service.metadata))
        .collect()
}

/// All of a pod that services look at.
fn facts(pod: &Pod) -> impl PartialEq + use<'_> {
    let status = pod.status.as_ref();
    (
        pod.metadata.labels.as_ref(),
        pod.metadata.uid.as_ref(),
        pod_state::phase(pod),
        pod_state::is_ready(pod),
        pod_state::is_terminating(pod),
        pod_state::node_name(pod),
        status.and_then(|status| status.pod_ip.as_ref()),
        status.and_then(|status| status.pod_ips.as_ref()),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
    }

    #[test]
    fn ports_named_target_is_found_by_name_and_protocol() {
        let service = service(json!({"selector": {"a": "b"}, "ports": [
            {"name": "web", "port": 80, "targetPort": "http"},
            {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
            {"name": "gone", "port": 1, "targetPort": "missing"},
            {"name": "plain", "port": 9},
        ]}));
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "c", "ports": [
                {"name": "dns", "containerPort": 1053, "protocol": "TCP"},
                {"name": "dns", "containerPort": 5353, "protocol": "UDP"},
                {"name": "http", "containerPort": 8080},
            ]}]}}))
            .unwrap();
        let found: Vec<(String, i32)> = ports(&service, &pod).into_iter().map(|p| (p.name, p.port)).collect();
        assert_eq!(found, [("web".into(), 8080), ("dns".into(), 5353), ("plain".into(), 9)]);
    }

    #[test]
    fn selects_service_without_selector_selects_nothing() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(selects(&service(json!({"selector": {"a": "b"}})), Some(&labels)));
        assert!(!selects(&service(json!({"selector": {"a": "c"}})), Some(&labels)));
        assert!(!selects(&service(json!({"selector": {}})), Some(&labels)));
        assert!(!selects(&service(json!({})), Some(&labels)));
        let external = json!({"type": "ExternalName", "selector": {"a": "b"}});
        assert!(!selects(&service(external), Some(&labels)));
    }

    #[test]
    fn families_without_list_follow_the_cluster_address() {
        assert_eq!(families(&service(json!({"clusterIP": "fd96::1"}))), [Family::V6]);
        assert_eq!(families(&service(json!({"clusterIP": "None"}))), [Family::V4]);
        assert_eq!(families(&service(json!({"ipFamilies": ["IPv6", "IPv4"]}))), [Family::V6, Family::V4]);
    }
}
