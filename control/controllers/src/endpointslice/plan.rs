//! From a service, its pods and its present slices to the fewest slice writes. Pure. [`plan_slices`] also serves the
//! mirroring of Endpoints, which has no pods.
//!
//! Endpoints with the same ports share slices, at most [`PER_SLICE`] each. Endpoints stay in the slice where
//! they are; new ones go first to a slice that is written anyway, then to one with room, then to new ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;

use super::MANAGED_BY;
use crate::backends::{self, Family, HEADLESS, Port};
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::ownership::controller_reference;

/// The most endpoints in one slice.
pub const PER_SLICE: usize = 100;
/// The label with the service's name.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The label with the controller's name.
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// The writes, in this order: what adds comes before what removes.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Slices to create; the API names them.
    pub create: Vec<EndpointSlice>,
    /// Slices to replace.
    pub update: Vec<EndpointSlice>,
    /// Slices to delete.
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// Plans the slices of all address families of a service.
pub fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone_of: impl Fn(&str) -> Option<String>,
) -> Plan {
    let mut families = Vec::new();
    for family in backends::families(service) {
        let mut wanted = Wanted::new();
        for pod in pods {
            if let Some(endpoint) = endpoint(service, pod, family, &zone_of) {
                wanted.entry(backends::ports(service, pod)).or_default().push(endpoint);
            }
        }
        if wanted.is_empty() {
            // Clients learn from an empty slice that the service is known and has nothing behind it.
            wanted.insert(Vec::new(), Vec::new());
        }
        families.push((family, wanted));
    }
    let owner = Owner {
        name: service.metadata.name.clone().unwrap_or_default(),
        namespace: service.metadata.namespace.clone(),
        labels: labels(service),
        annotations: None,
        reference: controller_reference(service),
    };
    plan_slices(&owner, families, slices)
}

/// What the slices carry of the object that they belong to.
pub(crate) struct Owner {
    /// The object's name, and the beginning of theirs.
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    /// All of the slices' labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// All of the slices' annotations; `None` leaves them as they are.
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) reference: OwnerReference,
}

/// The endpoints of one address family, by their ports.
pub(crate) type Wanted = BTreeMap<Vec<Port>, Vec<Endpoint>>;

/// Plans the slices of all address families; those of families that are not wanted go.
pub(crate) fn plan_slices(
    owner: &Owner,
    wanted: Vec<(Family, Wanted)>,
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    let mut plan = Plan::default();
    let families: Vec<Family> = wanted.iter().map(|(family, _)| *family).collect();
    for (family, wanted) in wanted {
        let present = slices.iter().filter(|slice| {
            slice.address_type == family.name() && slice.metadata.deletion_timestamp.is_none()
        });
        plan_family(owner, family, wanted, present.cloned().collect(), &mut plan);
    }
    let named = |slice: &EndpointSlice| families.iter().any(|family| family.name() == slice.address_type);
    plan.delete.extend(slices.iter().filter(|slice| !named(slice)).cloned());
    plan
}

/// A pod as an endpoint; `None` when it has ended or has no address of the family.
fn endpoint(
    service: &Service,
    pod: &Pod,
    family: Family,
    zone_of: &impl Fn(&str) -> Option<String>,
) -> Option<Endpoint> {
    let addresses = backends::addresses(pod, family);
    if addresses.is_empty() || pod_state::is_terminal(pod) {
        return None;
    }
    let (serving, terminating) = (pod_state::is_ready(pod), pod_state::is_terminating(pod));
    let node = pod_state::node_name(pod).map(str::to_owned);
    let zone = node.as_deref().and_then(zone_of);
    let ready = backends::publishes_not_ready(service) || (serving && !terminating);
    Some(Endpoint {
        addresses: addresses.into_iter().take(1).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: backends::hostname(service, pod),
        hints: if ready { hints(service, node.as_deref(), zone.as_deref()) } else { None },
        node_name: node,
        zone,
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// Who should use a ready endpoint, as `spec.trafficDistribution` asks (KEP-3015): its own zone, or its own node and,
/// where that has no endpoint, its zone.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let same_node = match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let for_nodes = node.filter(|_| same_node).map(|name| vec![ForNode { name: name.to_owned() }]);
    let for_zones = zone.map(|name| vec![ForZone { name: name.to_owned() }]);
    (for_nodes.is_some() || for_zones.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// A slice while it is planned.
struct Draft {
    old: Option<Arc<EndpointSlice>>,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
    changed: bool,
    /// It says that there is nothing, and may therefore be empty.
    placeholder: bool,
}

fn plan_family(
    owner: &Owner,
    family: Family,
    wanted: Wanted,
    present: Vec<Arc<EndpointSlice>>,
    plan: &mut Plan,
) {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut spare = present;
    for (ports, endpoints) in wanted {
        let (same, others) = spare.into_iter().partition(|slice| ports_of(slice) == ports);
        spare = others;
        fill(&mut drafts, ports, endpoints, same);
    }
    // Slices that nobody needs any more serve for those that are missing: a write less, and no gap.
    let (keep, surplus): (Vec<Draft>, Vec<Draft>) = drafts.into_iter().partition(|draft| !draft.is_surplus());
    spare.extend(surplus.into_iter().filter_map(|draft| draft.old));
    for mut draft in keep {
        if draft.old.is_none() {
            draft.old = spare.pop();
        }
        let slice = finished(owner, family, &draft);
        match draft.old {
            None => plan.create.push(slice),
            Some(old) if draft.changed || !same_slice(&old, &slice) => plan.update.push(slice),
            Some(_) => {}
        }
    }
    plan.delete.extend(spare);
}

impl Draft {
    /// A present slice that has no endpoints and is not the one that says "none".
    fn is_surplus(&self) -> bool {
        self.old.is_some() && self.endpoints.is_empty() && !self.placeholder
    }
}

/// Distributes the endpoints of one set of ports over its slices.
fn fill(drafts: &mut Vec<Draft>, ports: Vec<Port>, endpoints: Vec<Endpoint>, same: Vec<Arc<EndpointSlice>>) {
    let nothing = endpoints.is_empty();
    let mut wanted: BTreeMap<String, Endpoint> = endpoints.into_iter().map(|e| (identity(&e), e)).collect();
    let mut group: Vec<Draft> = Vec::new();
    for slice in same {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let kept: Vec<Endpoint> = old.iter().filter_map(|e| wanted.remove(&identity(e))).collect();
        let changed = kept != old;
        group.push(Draft {
            ports: ports.clone(),
            endpoints: kept,
            changed,
            placeholder: false,
            old: Some(slice),
        });
    }
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    for draft in group.iter_mut().filter(|draft| draft.changed) {
        draft.take(&mut rest);
    }
    let room = |draft: &&mut Draft| !draft.changed && draft.endpoints.len() + rest.len() <= PER_SLICE;
    if !rest.is_empty()
        && let Some(draft) = group.iter_mut().filter(room).max_by_key(|draft| draft.endpoints.len())
    {
        draft.take(&mut rest);
    }
    while !rest.is_empty() {
        let mut draft = Draft::new(ports.clone());
        draft.take(&mut rest);
        group.push(draft);
    }
    if nothing {
        // One empty slice stays, or is made.
        if group.is_empty() {
            group.push(Draft::new(ports));
        }
        group[0].placeholder = true;
    }
    drafts.extend(group);
}

impl Draft {
    fn new(ports: Vec<Port>) -> Self {
        Self { old: None, ports, endpoints: Vec::new(), changed: true, placeholder: false }
    }

    fn take(&mut self, rest: &mut Vec<Endpoint>) {
        let room = PER_SLICE.saturating_sub(self.endpoints.len()).min(rest.len());
        if room > 0 {
            self.endpoints.extend(rest.drain(..room));
            self.changed = true;
        }
    }
}

/// What makes two endpoints the same one: the pod, or else the address.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.or_else(|| endpoint.addresses.first().cloned()).unwrap_or_default()
}

fn finished(owner: &Owner, family: Family, draft: &Draft) -> EndpointSlice {
    let mut metadata = match draft.old.as_ref() {
        Some(old) => old.metadata.clone(),
        None => ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace: owner.namespace.clone(),
            ..ObjectMeta::default()
        },
    };
    metadata.labels = Some(owner.labels.clone());
    if let Some(annotations) = &owner.annotations {
        metadata.annotations = Some(annotations.clone()).filter(|all| !all.is_empty());
    }
    metadata.owner_references = Some(vec![owner.reference.clone()]);
    let port = |port: &Port| EndpointPort {
        name: Some(port.name.clone()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone()),
        app_protocol: port.app_protocol.clone(),
    };
    EndpointSlice {
        metadata,
        address_type: family.name().to_owned(),
        endpoints: Some(draft.endpoints.clone()),
        ports: Some(draft.ports.iter().map(port).collect()),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME_LABEL.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let port = |port: &EndpointPort| Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    };
    slice.ports.iter().flatten().map(port).collect()
}

/// Whether a write would change nothing.
fn same_slice(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    let endpoints = |slice: &EndpointSlice| slice.endpoints.clone().unwrap_or_default();
    old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
        && old.metadata.owner_references == new.metadata.owner_references
        && ports_of(old) == ports_of(new)
        && endpoints(old) == endpoints(new)
}
