//! The cluster's zone: what each name answers. Pure.
//!
//! Source: the Kubernetes DNS-based service discovery specification, version 1.1.0, and its `pod` names as CoreDNS
//! serves them. Names are handled as lower-case labels below the cluster's domain, the leftmost first. A change costs
//! what changed: every look-up, reverse ones too, goes through an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::answer::select;
pub use crate::answer::{Answer, Data, Kind};
use crate::names::{address_of, reverse};
use crate::view::{EndpointView, ServiceKind, ServiceView, SliceView};

/// The version of the specification that `dns-version` answers with.
pub const SPECIFICATION: &str = "1.1.0";

/// All names of one cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Vec<String>,
    services: BTreeMap<(String, String), ServiceView>,
    /// By namespace and slice name.
    slices: HashMap<(String, String), SliceView>,
    /// Slice names by namespace and service.
    slices_of: HashMap<(String, String), Vec<String>>,
    /// Who has an address, for reverse names.
    owners: HashMap<IpAddr, BTreeSet<Owner>>,
    services_listed: bool,
    slices_listed: bool,
}

/// Who has an address: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Service(String, String),
    Slice(String, String),
}

impl Zone {
    /// An empty zone for a domain such as `cluster.local`. It answers [`Answer::NotYet`] instead of denying a name until
    /// both [`Zone::services_listed`] and [`Zone::slices_listed`] were called.
    pub fn new(domain: &str) -> Self {
        let domain = domain.trim_end_matches('.').to_lowercase().split('.').map(str::to_owned).collect();
        Self {
            domain,
            services: BTreeMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            owners: HashMap::new(),
            services_listed: false,
            slices_listed: false,
        }
    }

    /// Every Service that exists was set.
    pub fn services_listed(&mut self) {
        self.services_listed = true;
    }

    /// Every EndpointSlice that exists was set.
    pub fn slices_listed(&mut self) {
        self.slices_listed = true;
    }

    /// Sets or replaces a Service.
    pub fn set_service(&mut self, service: ServiceView) {
        self.remove_service(&service.namespace, &service.name);
        let key = (service.namespace.clone(), service.name.clone());
        for address in cluster_addresses(&service) {
            self.own(*address, Owner::Service(key.0.clone(), key.1.clone()));
        }
        self.services.insert(key, service);
    }

    /// Forgets a Service.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(old) = self.services.remove(&key) else { return };
        let owner = Owner::Service(key.0, key.1);
        for address in cluster_addresses(&old) {
            self.disown(*address, &owner);
        }
    }

    /// Sets or replaces an EndpointSlice.
    pub fn set_slice(&mut self, slice: SliceView) {
        self.remove_slice(&slice.namespace, &slice.name);
        for endpoint in &slice.endpoints {
            self.own(endpoint.address, Owner::Slice(slice.namespace.clone(), slice.name.clone()));
        }
        let service = (slice.namespace.clone(), slice.service.clone());
        self.slices_of.entry(service).or_default().push(slice.name.clone());
        self.slices.insert((slice.namespace.clone(), slice.name.clone()), slice);
    }

    /// Forgets an EndpointSlice.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(old) = self.slices.remove(&key) else { return };
        let owner = Owner::Slice(key.0, key.1);
        for endpoint in &old.endpoints {
            self.disown(endpoint.address, &owner);
        }
        let service = (old.namespace, old.service);
        if let Some(names) = self.slices_of.get_mut(&service) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.slices_of.remove(&service);
            }
        }
    }

    fn own(&mut self, address: IpAddr, owner: Owner) {
        self.owners.entry(address).or_default().insert(owner);
    }

    fn disown(&mut self, address: IpAddr, owner: &Owner) {
        if let Some(owners) = self.owners.get_mut(&address) {
            owners.remove(owner);
            if owners.is_empty() {
                self.owners.remove(&address);
            }
        }
    }

    /// The zone's own name.
    pub fn domain(&self) -> String {
        self.domain.join(".")
    }

    /// Answers a question about a name given as lower-case labels.
    pub fn answer(&self, labels: &[String], kind: Kind) -> Answer {
        let complete = self.services_listed && self.slices_listed;
        let reversed = reverse(labels);
        let answer = match reversed {
            Some(address) => self.pointers(address, kind),
            None => match labels.strip_suffix(self.domain.as_slice()) {
                Some(below) => self.below(below, kind),
                None => return Answer::Elsewhere,
            },
        };
        match answer {
            Answer::Elsewhere | Answer::NoName if !complete => Answer::NotYet,
            // A headless service whose slices are still to come.
            Answer::Records(records) if records.is_empty() && !complete => Answer::NotYet,
            answer => answer,
        }
    }

    fn below(&self, labels: &[String], kind: Kind) -> Answer {
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels.as_slice() {
            // A namespace has a name for every address, so it exists here whatever it is called.
            [] | ["svc"] | ["pod"] | [_, "pod"] => Answer::Records(Vec::new()),
            ["dns-version"] => select(vec![Data::Text(SPECIFICATION.to_owned())], kind),
            [namespace, "svc"] => self.namespace(namespace),
            [address, _, "pod"] => pod(address, kind),
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
            (_, []) if kind == Kind::Srv => select(self.every_port(service), kind),
            (ServiceKind::ClusterIps(addresses), []) => {
                select(addresses.iter().copied().map(Data::Address).collect(), kind)
            }
            (ServiceKind::Headless, []) => {
                let mut all: Vec<Data> =
                    self.endpoints(service).map(|(_, endpoint)| Data::Address(endpoint.address)).collect();
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

    fn pointers(&self, address: IpAddr, kind: Kind) -> Answer {
        let owners = self.owners.get(&address);
        let mut found: Vec<Data> =
            owners.into_iter().flatten().flat_map(|owner| self.named(owner, address)).collect();
        found.sort();
        found.dedup();
        if found.is_empty() { Answer::Elsewhere } else { select(found, kind) }
    }

    /// The names that an owner gives to its address. Only headless services name their endpoints.
    fn named(&self, owner: &Owner, address: IpAddr) -> Vec<Data> {
        match owner {
            Owner::Service(namespace, name) => vec![Data::Pointer(self.full_name(&[name, namespace, "svc"]))],
            Owner::Slice(namespace, name) => {
                let Some(slice) = self.slices.get(&(namespace.clone(), name.clone())) else {
                    return Vec::new();
                };
                let service = self.services.get(&(namespace.clone(), slice.service.clone()));
                if service.is_none_or(|service| service.kind != ServiceKind::Headless) {
                    return Vec::new();
                }
                let own = self.full_name(&[&slice.service, namespace, "svc"]);
                let hosts = slice.endpoints.iter().filter(|endpoint| endpoint.address == address);
                hosts.map(|endpoint| Data::Pointer(format!("{}.{own}", endpoint.host()))).collect()
            }
        }
    }

    fn full_name(&self, labels: &[&str]) -> String {
        format!("{}.{}", labels.join("."), self.domain())
    }
}

/// `10-244-1-5.NAMESPACE.pod` says the address that it spells.
fn pod(spelled: &str, kind: Kind) -> Answer {
    match address_of(spelled) {
        Some(address) => select(vec![Data::Address(address)], kind),
        None => Answer::NoName,
    }
}

fn cluster_addresses(service: &ServiceView) -> &[IpAddr] {
    match &service.kind {
        ServiceKind::ClusterIps(addresses) => addresses,
        ServiceKind::Headless | ServiceKind::External(_) => &[],
    }
}
