//! What the zone needs of a Service and of an EndpointSlice. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::ResourceExt;

/// How a service's name resolves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// To its cluster addresses.
    ClusterIps(Vec<IpAddr>),
    /// To its endpoints.
    Headless,
    /// To another name, absolute, without the final dot.
    External(String),
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its name, or empty.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it resolves.
    pub kind: ServiceKind,
    /// Its ports.
    pub ports: Vec<PortView>,
}

/// An endpoint that may be given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Its address.
    pub address: IpAddr,
    /// The name that its pod asked for.
    pub hostname: Option<String>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The service it belongs to.
    pub service: String,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// Its endpoints that are ready.
    pub endpoints: Vec<EndpointView>,
}

impl ServiceView {
    /// Reads a Service; `None` when it has no name to resolve yet.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let kind = if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().filter(|name| !name.is_empty())?;
            ServiceKind::External(target.trim_end_matches('.').to_lowercase())
        } else if spec.cluster_ip.as_deref() == Some("None") {
            ServiceKind::Headless
        } else {
            let mut texts: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
            if texts.is_empty() {
                texts.extend(spec.cluster_ip.as_deref());
            }
            let addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            if addresses.is_empty() {
                return None;
            }
            ServiceKind::ClusterIps(addresses)
        };
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| view(port.name.as_deref(), port.protocol.as_deref(), port.port))
            .collect();
        Some(Self {
            namespace: service.namespace().unwrap_or_default(),
            name: service.name_any(),
            kind,
            ports,
        })
    }
}

impl SliceView {
    /// Reads an EndpointSlice; `None` when it belongs to no service or does not hold addresses.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.labels().get("kubernetes.io/service-name")?.clone();
        if slice.address_type == "FQDN" {
            return None;
        }
        let ports = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| view(port.name.as_deref(), port.protocol.as_deref(), port.port?))
            .collect();
        Some(Self {
            namespace: slice.namespace().unwrap_or_default(),
            name: slice.name_any(),
            service,
            ports,
            endpoints: slice.endpoints.iter().flatten().flat_map(endpoints).collect(),
        })
    }
}

impl EndpointView {
    /// The label below the service's name: the hostname, or the address with dashes.
    pub fn host(&self) -> String {
        match &self.hostname {
            Some(hostname) => hostname.clone(),
            None => self.address.to_string().replace(['.', ':'], "-"),
        }
    }
}

/// A missing `ready` counts as ready (EndpointSlice API).
fn endpoints(endpoint: &Endpoint) -> Vec<EndpointView> {
    let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
    if !ready {
        return Vec::new();
    }
    let hostname = endpoint.hostname.as_ref().map(|name| name.to_lowercase());
    let addresses = endpoint.addresses.iter().filter_map(|address| address.parse().ok());
    addresses.map(|address| EndpointView { address, hostname: hostname.clone() }).collect()
}

fn view(name: Option<&str>, protocol: Option<&str>, port: i32) -> Option<PortView> {
    Some(PortView {
        name: name.unwrap_or_default().to_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_lowercase(),
        port: u16::try_from(port).ok()?,
    })
}
