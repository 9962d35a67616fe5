//! Endpoints controller: the older form of what EndpointSlices say, which many clients still read.
//!
//! Watches Services, Pods and Endpoints. Writes one Endpoints object per service with a selector, of the
//! same name, in the service's primary address family; deletes it with the service. Touches no object that
//! it did not make: those lack its label.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service,
};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::ObjectMeta;
use kube::{Api, Client};

use crate::Context;
use crate::backends::{self, HEADLESS, Port};
use crate::error::{During, Result};
use crate::informers::Informers;
use crate::pod::Pod;
use crate::pod_state;
use crate::runtime::key::ObjectKey;
use crate::runtime::queue::Queue;
use crate::runtime::worker::{Reconcile, Requeue};

/// The controller's name, and its service account in kube-system.
pub const NAME: &str = "endpoint-controller";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses in one object.
const CAPACITY: usize = 1000;

/// The Endpoints controller.
pub struct EndpointsObjects {
    queue: Queue<ObjectKey>,
    informers: Informers,
    client: Client,
}

impl EndpointsObjects {
    /// Registers with the watches.
    pub fn new(context: &mut Context<'_>) -> Self {
        let (client, _) = context.identity(NAME);
        let informers = context.informers.clone();
        let queue: Queue<ObjectKey> = Queue::default();
        let to = queue.clone();
        informers.services.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let to = queue.clone();
        informers.endpoints.on_change(move |change| to.add(ObjectKey::of(&change.object().metadata)));
        let (to, services) = (queue.clone(), informers.services.clone());
        informers.pods.on_change(move |change| {
            backends::affected(&services, change).into_iter().for_each(|key| to.add(key));
        });
        Self { queue, informers, client }
    }

    async fn delete(&self, key: &ObjectKey, there: &Endpoints) -> Result<()> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let preconditions = Preconditions { uid: there.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match api.delete(&key.name, &params).await.during("delete endpoints", key) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Reconcile for EndpointsObjects {
    const NAME: &'static str = NAME;
    const WORKERS: usize = 2;

    fn queue(&self) -> &Queue<ObjectKey> {
        &self.queue
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue> {
        let there = self.informers.endpoints.get(&key);
        let Some(service) = self.informers.services.get(&key) else {
            if let Some(there) = there.filter(|there| is_ours(there)) {
                self.delete(&key, &there).await?;
            }
            return Ok(Requeue::Done);
        };
        if backends::selector(&service).is_none() || service.metadata.deletion_timestamp.is_some() {
            return Ok(Requeue::Done);
        }
        let mut pods = self.informers.pods.namespace(&key.namespace);
        pods.retain(|pod| backends::selects(&service, pod.metadata.labels.as_ref()));
        let Some(endpoints) = plan(&service, &pods, there.as_deref()) else { return Ok(Requeue::Done) };
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let written = match there {
            None => api.create(&PostParams::default(), &endpoints).await.during("create endpoints", &key),
            Some(_) => api
                .replace(&key.name, &PostParams::default(), &endpoints)
                .await
                .during("update endpoints", &key),
        };
        match written {
            Err(error) if error.is_namespace_terminating() => Ok(Requeue::Done),
            Err(error) => Err(error),
            Ok(_) => Ok(Requeue::Done),
        }
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).map(String::as_str)
        == Some(NAME)
}

/// The object to write; `None` when the one that is there is right.
fn plan(service: &Service, pods: &[Arc<Pod>], there: Option<&Endpoints>) -> Option<Endpoints> {
    let mut addresses: Vec<(Vec<Port>, bool, EndpointAddress)> =
        pods.iter().filter_map(|pod| address(service, pod)).collect();
    // Ready ones first, so that they are what is kept when there are too many.
    addresses.sort_by(|a, b| (!a.1, &a.2.ip).cmp(&(!b.1, &b.2.ip)));
    let over = addresses.len() > CAPACITY;
    addresses.truncate(CAPACITY);
    let mut groups: BTreeMap<Vec<Port>, (Vec<EndpointAddress>, Vec<EndpointAddress>)> = BTreeMap::new();
    for (ports, ready, address) in addresses {
        let (ready_ones, others) = groups.entry(ports).or_default();
        if ready { ready_ones.push(address) } else { others.push(address) }
    }
    let subsets: Vec<EndpointSubset> = groups
        .into_iter()
        .map(|(ports, (ready, others))| EndpointSubset {
            addresses: (!ready.is_empty()).then_some(ready),
            not_ready_addresses: (!others.is_empty()).then_some(others),
            ports: (!ports.is_empty()).then(|| ports.into_iter().map(port).collect()),
        })
        .collect();
    let mut metadata = there.map(|there| there.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..ObjectMeta::default()
    });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), NAME.to_owned());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    metadata.labels = Some(labels);
    let mut annotations = metadata.annotations.take().unwrap_or_default();
    annotations.remove(OVER_CAPACITY);
    if over {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    }
    metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let same = there.is_some_and(|there| {
        there.subsets.as_ref().filter(|subsets| !subsets.is_empty()) == subsets.as_ref()
            && there.metadata.labels == metadata.labels
            && there.metadata.annotations.clone().filter(|all| !all.is_empty()) == metadata.annotations
    });
    (!same).then_some(Endpoints { metadata, subsets })
}

/// A pod's ports and address, and whether it counts as ready; `None` when it does not belong.
fn address(service: &Service, pod: &Pod) -> Option<(Vec<Port>, bool, EndpointAddress)> {
    let family = *backends::families(service).first()?;
    let ip = backends::addresses(pod, family).into_iter().next()?;
    let anyway = backends::publishes_not_ready(service);
    if pod_state::is_terminal(pod) || (pod_state::is_terminating(pod) && !anyway) {
        return None;
    }
    let address = EndpointAddress {
        ip,
        hostname: backends::hostname(service, pod),
        node_name: pod_state::node_name(pod).map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    };
    Some((backends::ports(service, pod), anyway || pod_state::is_ready(pod), address))
}

fn port(port: Port) -> EndpointPort {
    EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ip: &str, ready: bool) -> Arc<Pod> {
        let status = if ready { "True" } else { "False" };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "spec": {"nodeName": "n1", "containers": []},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": status}]},
            }))
            .unwrap(),
        )
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.9", "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .unwrap()
    }

    #[test]
    fn plan_ready_and_not_ready_pods_are_told_apart() {
        let pods = [pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false), pod("c", "fd00::1", true)];
        let endpoints = plan(&service(), &pods, None).unwrap();
        let subsets = endpoints.subsets.as_ref().unwrap();
        assert_eq!(subsets.len(), 1);
        let ips = |list: &Option<Vec<EndpointAddress>>| {
            list.iter().flatten().map(|address| address.ip.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1"]);
        assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.2"]);
        assert_eq!(subsets[0].ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(plan(&service(), &pods, Some(&endpoints)), None, "a second look changes nothing");
    }

    #[test]
    fn plan_more_pods_than_fit_keeps_the_ready_ones() {
        let pods: Vec<_> = (0..1010)
            .map(|n| pod(&format!("p{n}"), &format!("10.0.{}.{}", n / 250, n % 250), n >= 10))
            .collect();
        let endpoints = plan(&service(), &pods, None).unwrap();
        let subset = &endpoints.subsets.unwrap()[0];
        assert_eq!(
            (subset.addresses.as_ref().unwrap().len(), subset.not_ready_addresses.as_ref()),
            (1000, None)
        );
        assert_eq!(endpoints.metadata.annotations.unwrap()[OVER_CAPACITY], "truncated");
    }
}
