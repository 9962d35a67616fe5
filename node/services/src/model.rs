//! What the planner knows about a Service and its EndpointSlices, free of Kubernetes types.
//!
//! Owns: the parsed form, and the rules by which an API object becomes one (what is proxied at all, which
//! addresses count, what a missing condition means). It does not decide which endpoints are used: that is
//! [`crate::endpoints`].
//!
//! Parsing never fails: the API server has validated the objects, and what is still unusable (an address that
//! does not parse, a port out of range) is left out, so that one bad field cannot take a whole service down.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::ResourceExt;
use skep_maps::Prefix;

/// A service with this label is somebody else's to proxy (Kubernetes: `service.kubernetes.io/service-proxy-name`).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Set by the EndpointSlice controller on slices of headless services.
pub const LABEL_HEADLESS: &str = "service.kubernetes.io/headless";
/// Names the Service that an EndpointSlice belongs to.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Session affinity time-out where the Service does not say (Service API: 3 hours).
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// Namespace and name of a Service; copies share their text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ServiceName {
    /// A name from its two parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// From the API's name; absent means TCP (Service API).
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The API's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty when the service has one unnamed port. Pairs with [`SlicePort::name`].
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the service's addresses.
    pub port: u16,
    /// Port on the nodes' addresses.
    pub node_port: Option<u16>,
}

/// A Service that is proxied here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Creation, nanoseconds since 1970: the older service keeps an address that two of them claim.
    pub created: i64,
    /// ClusterIPs, each family at most once.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of the load balancer in VIP mode; those in Proxy mode are left to the balancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`: clients of the load balancer's addresses, of both families.
    pub source_ranges: Vec<Prefix>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Port at which balancers ask whether this node has endpoints.
    pub health_check_node_port: Option<u16>,
    /// Session affinity by client address: the time-out in seconds.
    pub affinity_seconds: Option<u32>,
}

impl Service {
    /// The proxied form of `object`; `None` when it is not ours to proxy: headless, ExternalName, no
    /// address, or labelled for another proxy.
    pub fn from_api(object: &core::Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        if object.labels().contains_key(LABEL_PROXY_NAME) || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let cluster_ips = cluster_ips(spec);
        if cluster_ips.is_empty() {
            return None;
        }
        let load_balancer_ips =
            if spec.type_.as_deref() == Some("LoadBalancer") { ingress(object) } else { Vec::new() };
        Some(Self {
            name: ServiceName::new(object.namespace().unwrap_or_default(), object.name_any()),
            created: object
                .creation_timestamp()
                .and_then(|time| i64::try_from(time.0.as_nanosecond()).ok())
                .unwrap_or(i64::MAX),
            cluster_ips,
            external_ips: addresses(spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips,
            source_ranges: source_ranges(spec),
            ports: spec.ports.as_deref().unwrap_or_default().iter().filter_map(port).collect(),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            health_check_node_port: spec.health_check_node_port.and_then(port_number),
            affinity_seconds: affinity(spec),
        })
    }
}

fn cluster_ips(spec: &core::ServiceSpec) -> Vec<IpAddr> {
    match spec.cluster_ips.as_deref() {
        Some(list) if !list.is_empty() => addresses(list),
        _ => addresses(spec.cluster_ip.as_slice()),
    }
}

/// Parses what is an address; "None" and "" (headless, not yet allocated) are none.
fn addresses(list: &[String]) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::with_capacity(list.len());
    for address in list.iter().filter_map(|text| text.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// Upstream's reading: space around an entry does not count, and what is no range is left out, with a word in the log.
fn source_ranges(spec: &core::ServiceSpec) -> Vec<Prefix> {
    let mut found = Vec::new();
    for text in spec.load_balancer_source_ranges.as_deref().unwrap_or_default() {
        match Prefix::parse(text.trim()) {
            Some(range) if !found.contains(&range) => found.push(range),
            Some(_) => {}
            None if text.trim().is_empty() => {}
            None => tracing::warn!(range = text, "a load balancer's source range that is none is left out"),
        }
    }
    found
}

fn ingress(object: &core::Service) -> Vec<IpAddr> {
    let entries = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let vip: Vec<String> = entries
        .iter()
        .filter(|entry| entry.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|entry| entry.ip.clone())
        .collect();
    addresses(&vip)
}

fn port(port: &core::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port_number(port.port)?,
        node_port: port.node_port.and_then(port_number),
    })
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn affinity(spec: &core::ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        spec.session_affinity_config
            .as_ref()
            .and_then(|config| config.client_ip.as_ref())
            .and_then(|client| client.timeout_seconds)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .unwrap_or(DEFAULT_AFFINITY_SECONDS)
    })
}

/// One port of an EndpointSlice: every endpoint of the slice serves it. Named target ports arrive resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the service port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the endpoint.
    pub port: u16,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address (the first one: Kubernetes uses no other).
    pub address: IpAddr,
    /// May receive new connections.
    pub ready: bool,
    /// Would be ready if it were not terminating.
    pub serving: bool,
    /// Is shutting down.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// Who should use it. Apart, since few have it and there may be a million endpoints.
    pub hints: Option<Box<Hints>>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Nodes (`hints.forNodes`).
    pub nodes: Vec<String>,
    /// Zones (`hints.forZones`).
    pub zones: Vec<String>,
}

impl Endpoint {
    /// Nodes that should use it.
    pub fn for_nodes(&self) -> &[String] {
        self.hints.as_deref().map_or(&[], |hints| &hints.nodes)
    }

    /// Zones that should use it.
    pub fn for_zones(&self) -> &[String] {
        self.hints.as_deref().map_or(&[], |hints| &hints.zones)
    }
}

/// An EndpointSlice of IP addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its own name, unique in the namespace.
    pub name: String,
    /// Ports.
    pub ports: Vec<SlicePort>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// The port of its endpoints that serves the service port `port`.
    pub fn port(&self, port: &ServicePort) -> Option<u16> {
        self.ports
            .iter()
            .find(|candidate| candidate.name == port.name && candidate.protocol == port.protocol)
            .map(|candidate| candidate.port)
    }

    /// The planner's form of `object`; `None` when it names no service, is not of IP addresses, or belongs
    /// to another proxy.
    pub fn from_api(object: &discovery::EndpointSlice) -> Option<Self> {
        let labels = object.labels();
        if labels.contains_key(LABEL_PROXY_NAME) {
            return None;
        }
        let service = labels.get(LABEL_SERVICE_NAME).filter(|name| !name.is_empty())?;
        let v4 = match object.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            _ => return None,
        };
        let endpoints = object.endpoints.as_deref().unwrap_or_default();
        Some(Self {
            service: ServiceName::new(object.namespace().unwrap_or_default(), service.clone()),
            name: object.name_any(),
            ports: object.ports.as_deref().unwrap_or_default().iter().filter_map(slice_port).collect(),
            endpoints: endpoints
                .iter()
                .filter_map(endpoint)
                .filter(|endpoint| endpoint.address.is_ipv4() == v4)
                .collect(),
        })
    }
}

fn slice_port(port: &discovery::EndpointPort) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port_number(port.port?)?,
    })
}

/// Missing conditions read as the EndpointSlice API says: ready and serving true, terminating false.
fn endpoint(endpoint: &discovery::Endpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let hints = endpoint.hints.as_ref();
    let for_nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let for_zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        serving: conditions.and_then(|c| c.serving).unwrap_or(true),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.as_deref().map(Arc::from),
        hints: (!for_nodes.is_empty() || !for_zones.is_empty()).then(|| {
            Box::new(Hints {
                nodes: for_nodes.iter().map(|node| node.name.clone()).collect(),
                zones: for_zones.iter().map(|zone| zone.name.clone()).collect(),
            })
        }),
    })
}
