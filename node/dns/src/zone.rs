//! The cluster's zone: what each name answers. Pure.
//!
//! Source: the Kubernetes DNS-based service discovery specification, version 1.1.0, and its `pod` names as CoreDNS
//! serves them. Names are handled as lower-case labels below the cluster's domain, the leftmost first.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::view::{EndpointView, ServiceKind, ServiceView, SliceView};

/// The version of the specification that `dns-version` answers with.
pub const SPECIFICATION: &str = "1.1.0";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Ports and the names that have them.
    Srv,
    /// The name of an address.
    Ptr,
    /// Text.
    Txt,
    /// The real name.
    Cname,
    /// Everything.
    Any,
    /// A type that no name here has.
    Other,
}

/// One record's data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    /// An address of either family.
    Address(IpAddr),
    /// A port, and the full name that has it.
    Service {
        /// The port.
        port: u16,
        /// The name, absolute, without the final dot.
        target: String,
    },
    /// A name, absolute, without the final dot.
    Pointer(String),
    /// The real name, absolute, without the final dot.
    Alias(String),
    /// Text.
    Text(String),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is not in this zone: ask elsewhere.
    Elsewhere,
    /// The name does not exist.
    NoName,
    /// The name exists and has these records of the kind asked for, perhaps none.
    Records(Vec<Data>),
}

/// All names of one cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Vec<String>,
    services: BTreeMap<(String, String), ServiceView>,
    /// By namespace and slice name.
    slices: HashMap<(String, String), SliceView>,
    /// Slice names by namespace and service.
    slices_of: HashMap<(String, String), Vec<String>>,
}

impl Zone {
    /// An empty zone for a domain such as `cluster.local`.
    pub fn new(domain: &str) -> Self {
        let domain = domain.trim_end_matches('.').to_lowercase().split('.').map(str::to_owned).collect();
        Self { domain, services: BTreeMap::new(), slices: HashMap::new(), slices_of: HashMap::new() }
    }

    /// Sets or replaces a Service.
    pub fn set_service(&mut self, service: ServiceView) {
        self.services.insert((service.namespace.clone(), service.name.clone()), service);
    }

    /// Forgets a Service.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.services.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// Sets or replaces an EndpointSlice.
    pub fn set_slice(&mut self, slice: SliceView) {
        self.remove_slice(&slice.namespace, &slice.name);
        let service = (slice.namespace.clone(), slice.service.clone());
        self.slices_of.entry(service).or_default().push(slice.name.clone());
        self.slices.insert((slice.namespace.clone(), slice.name.clone()), slice);
    }

    /// Forgets an EndpointSlice.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let Some(old) = self.slices.remove(&(namespace.to_owned(), name.to_owned())) else { return };
        let service = (old.namespace, old.service);
        if let Some(names) = self.slices_of.get_mut(&service) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
    }

    /// The zone's own name.
    pub fn domain(&self) -> String {
        self.domain.join(".")
    }

    /// Answers a question about a name given as lower-case labels.
    pub fn answer(&self, labels: &[String], kind: Kind) -> Answer {
        if let Some(address) = reverse(labels) {
            return self.pointers(address, kind);
        }
        let Some(below) = labels.strip_suffix(self.domain.as_slice()) else { return Answer::Elsewhere };
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        match below.as_slice() {
            [] | ["svc"] | ["pod"] => Answer::Records(Vec::new()),
            ["dns-version"] => select(vec![Data::Text(SPECIFICATION.to_owned())], kind),
            [namespace, "svc"] | [namespace, "pod"] => self.namespace(namespace),
            [address, namespace, "pod"] => self.pod(address, namespace, kind),
            [rest @ .., service, namespace, "svc"] => {
                match self.services.get(&((*namespace).to_owned(), (*service).to_owned())) {
                    Some(service) => self.service(service, rest, kind),
                    None => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }

    /// A namespace exists in the zone as long as it has a Service.
    fn namespace(&self, namespace: &str) -> Answer {
        let from = (namespace.to_owned(), String::new());
        let exists = self.services.range(from..).next().is_some_and(|((first, _), _)| first == namespace);
        if exists { Answer::Records(Vec::new()) } else { Answer::NoName }
    }

    fn service(&self, service: &ServiceView, rest: &[&str], kind: Kind) -> Answer {
        match (&service.kind, rest) {
            (ServiceKind::External(target), []) => Answer::Records(vec![Data::Alias(target.clone())]),
            (ServiceKind::External(_), _) => Answer::NoName,
            (ServiceKind::ClusterIps(addresses), []) => {
                let mut all: Vec<Data> = addresses.iter().copied().map(Data::Address).collect();
                all.extend(self.every_port(service));
                select(all, kind)
            }
            (ServiceKind::Headless, []) => {
                let mut all: Vec<Data> =
                    self.endpoints(service).map(|(_, e)| Data::Address(e.address)).collect();
                all.extend(self.every_port(service));
                all.sort();
                all.dedup();
                select(all, kind)
            }
            (ServiceKind::Headless, [host]) => {
                let found: Vec<Data> = self
                    .endpoints(service)
                    .filter(|(_, endpoint)| endpoint.host() == *host)
                    .map(|(_, endpoint)| Data::Address(endpoint.address))
                    .collect();
                if found.is_empty() { self.intermediate(service, host) } else { select(found, kind) }
            }
            (_, [protocol]) => self.intermediate(service, protocol),
            (_, [port, protocol]) => self.port(service, port, protocol, kind),
            _ => Answer::NoName,
        }
    }

    /// `_tcp.SERVICE`: exists when a port of that protocol has a name.
    fn intermediate(&self, service: &ServiceView, label: &str) -> Answer {
        let protocols = self.ports(service).into_iter().map(|(_, protocol, ..)| format!("_{protocol}"));
        if protocols.into_iter().any(|protocol| protocol == label) {
            Answer::Records(Vec::new())
        } else {
            Answer::NoName
        }
    }

    fn port(&self, service: &ServiceView, port: &str, protocol: &str, kind: Kind) -> Answer {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Answer::NoName;
        };
        let found: Vec<Data> = self
            .ports(service)
            .into_iter()
            .filter(|(name, transport, ..)| name == port && transport == protocol)
            .map(|(_, _, port, target)| Data::Service { port, target })
            .collect();
        if found.is_empty() { Answer::NoName } else { select(found, kind) }
    }

    fn every_port(&self, service: &ServiceView) -> Vec<Data> {
        self.ports(service).into_iter().map(|(_, _, port, target)| Data::Service { port, target }).collect()
    }

    /// Named ports: name, protocol, number, and who has it: the service, or each endpoint of a headless one.
    fn ports(&self, service: &ServiceView) -> Vec<(String, String, u16, String)> {
        let own = self.full_name(&[&service.name, &service.namespace, "svc"]);
        let mut all: Vec<(String, String, u16, String)> = match service.kind {
            ServiceKind::Headless => self
                .endpoints(service)
                .flat_map(|(slice, endpoint)| {
                    let target = format!("{}.{own}", endpoint.host());
                    slice
                        .ports
                        .iter()
                        .map(move |p| (p.name.clone(), p.protocol.clone(), p.port, target.clone()))
                })
                .collect(),
            _ => service
                .ports
                .iter()
                .map(|p| (p.name.clone(), p.protocol.clone(), p.port, own.clone()))
                .collect(),
        };
        all.retain(|(name, ..)| !name.is_empty());
        all.sort();
        all.dedup();
        all
    }

    /// Endpoints of a service that may be given out.
    fn endpoints<'a>(
        &'a self,
        service: &ServiceView,
    ) -> impl Iterator<Item = (&'a SliceView, &'a EndpointView)> {
        let namespace = service.namespace.clone();
        let names = self.slices_of.get(&(service.namespace.clone(), service.name.clone()));
        names
            .into_iter()
            .flatten()
            .filter_map(move |name| self.slices.get(&(namespace.clone(), name.clone())))
            .flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
    }

    /// `10-244-1-5.NAMESPACE.pod`: says the address that it spells, in any namespace that exists.
    fn pod(&self, spelled: &str, namespace: &str, kind: Kind) -> Answer {
        if self.namespace(namespace) == Answer::NoName {
            return Answer::NoName;
        }
        match address_of(spelled) {
            Some(address) => select(vec![Data::Address(address)], kind),
            None => Answer::NoName,
        }
    }

    fn pointers(&self, address: IpAddr, kind: Kind) -> Answer {
        let mut found = Vec::new();
        for service in self.services.values() {
            let own = self.full_name(&[&service.name, &service.namespace, "svc"]);
            match &service.kind {
                ServiceKind::ClusterIps(addresses) if addresses.contains(&address) => {
                    found.push(Data::Pointer(own))
                }
                ServiceKind::Headless => {
                    let hosts = self.endpoints(service).filter(|(_, endpoint)| endpoint.address == address);
                    found.extend(
                        hosts.map(|(_, endpoint)| Data::Pointer(format!("{}.{own}", endpoint.host()))),
                    );
                }
                _ => {}
            }
        }
        found.sort();
        found.dedup();
        if found.is_empty() { Answer::Elsewhere } else { select(found, kind) }
    }

    fn full_name(&self, labels: &[&str]) -> String {
        format!("{}.{}", labels.join("."), self.domain())
    }
}

/// The records of the kind that was asked for.
fn select(all: Vec<Data>, kind: Kind) -> Answer {
    let wanted = |data: &Data| match (kind, data) {
        (Kind::A, Data::Address(address)) => address.is_ipv4(),
        (Kind::Aaaa, Data::Address(address)) => address.is_ipv6(),
        (Kind::Srv, Data::Service { .. })
        | (Kind::Ptr, Data::Pointer(_))
        | (Kind::Txt, Data::Text(_))
        | (Kind::Cname, Data::Alias(_))
        | (Kind::Any, _) => true,
        _ => false,
    };
    Answer::Records(all.into_iter().filter(wanted).collect())
}

/// The address that a dashed label spells.
fn address_of(label: &str) -> Option<IpAddr> {
    let v4: Option<Ipv4Addr> = label.replace('-', ".").parse().ok();
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>().ok();
    v4.map(IpAddr::V4).or_else(|| v6().map(IpAddr::V6))
}

/// The address of a name under `in-addr.arpa` or `ip6.arpa`.
fn reverse(labels: &[String]) -> Option<IpAddr> {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    match labels.as_slice() {
        [octets @ .., "in-addr", "arpa"] if octets.len() == 4 => {
            let text: Vec<&str> = octets.iter().rev().copied().collect();
            text.join(".").parse().ok().map(IpAddr::V4)
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 && nibbles.iter().all(|n| n.len() == 1) => {
            let text: String = nibbles.iter().rev().copied().collect();
            u128::from_str_radix(&text, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
