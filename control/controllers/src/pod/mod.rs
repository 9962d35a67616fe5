//! A pod as the controllers keep it: those of its fields that one of them reads, under the names that they have in the
//! API.
//!
//! Every pod of the cluster is kept, so a field costs memory ten thousand times; `env`, probes, mounts and most of the
//! rest are passed over while the pod is decoded. What is left cannot be written back by mistake: the type has no
//! [`serde::Serialize`]. Who changes a pod patches it; who makes one makes the API's own type.

mod amounts;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{ContainerPort, Pod as ApiPod, PodIP, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

pub use self::amounts::Amounts;
use self::amounts::ResourceLists;

/// The one annotation that is read: lower is deleted earlier.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What is read of a `core/v1` Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its metadata without managed fields, and without annotations but for [`DELETION_COST`].
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What it should be.
    pub spec: Option<PodSpec>,
    /// What it is.
    pub status: Option<PodStatus>,
}

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    /// The node that it is bound to.
    pub node_name: Option<String>,
    /// Its host name within its subdomain.
    pub hostname: Option<String>,
    /// The headless service in whose domain its name is.
    pub subdomain: Option<String>,
    /// What of nodes it puts up with.
    pub tolerations: Option<Vec<Toleration>>,
    /// Its containers.
    #[serde(deserialize_with = "or_default")]
    pub containers: Vec<Container>,
    /// Those that run before, or beside, the others.
    pub init_containers: Option<Vec<Container>>,
    /// The volumes behind which there are claims.
    #[serde(deserialize_with = "claimed")]
    pub volumes: Vec<Volume>,
    /// How long it may run.
    pub active_deadline_seconds: Option<i64>,
    /// The class of its priority.
    pub priority_class_name: Option<String>,
    /// What its runtime takes besides.
    pub overhead: Option<Amounts>,
    resources: Option<Box<ResourceLists>>,
    #[serde(deserialize_with = "affinity")]
    affinity: Option<Box<Value>>,
}

/// What is read of a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The ports that services may name.
    pub ports: Option<Vec<ContainerPort>>,
    /// `Always` for an init container that keeps running.
    pub restart_policy: Option<String>,
    resources: Option<Box<ResourceLists>>,
}

/// A volume behind which there is a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Volume {
    /// Its name within the pod.
    pub name: String,
    /// The claim that it names.
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A claim is made for it.
    pub ephemeral: Option<Ephemeral>,
}

/// Names a claim.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClaimSource {
    /// The claim's name.
    pub claim_name: String,
}

/// Says that a claim is made for the pod; like what, nobody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Ephemeral {}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    /// Where in its life it is.
    pub phase: Option<String>,
    /// Its primary address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All of its addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    /// Its conditions.
    pub conditions: Option<Vec<PodCondition>>,
    /// Its containers.
    pub container_statuses: Option<Vec<ContainerStatus>>,
    /// Its init containers.
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    /// Its class of service.
    pub qos_class: Option<String>,
}

/// What is read of a condition.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodCondition {
    /// `Ready` and so on.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Time>,
}

/// What is read of a container's status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    /// How often it was started again.
    pub restart_count: i32,
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = <ApiPod as Resource>::Scope;

    fn kind(of: &()) -> Cow<'_, str> {
        ApiPod::kind(of)
    }

    fn group(of: &()) -> Cow<'_, str> {
        ApiPod::group(of)
    }

    fn version(of: &()) -> Cow<'_, str> {
        ApiPod::version(of)
    }

    fn plural(of: &()) -> Cow<'_, str> {
        ApiPod::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Pod {
    /// All of the pod that quotas go by (`skep_api::quota`), in the form of the API.
    pub fn counted(&self) -> Value {
        let meta = &self.metadata;
        let mut pod = json!({ "metadata": {
            "name": meta.name,
            "namespace": meta.namespace,
            "deletionTimestamp": meta.deletion_timestamp,
            "deletionGracePeriodSeconds": meta.deletion_grace_period_seconds,
        } });
        if let Some(spec) = &self.spec {
            let containers = |all: &[Container]| all.iter().map(Container::counted).collect::<Vec<_>>();
            pod["spec"] = json!({
                "containers": containers(&spec.containers),
                "initContainers": containers(spec.init_containers.as_deref().unwrap_or_default()),
                "activeDeadlineSeconds": spec.active_deadline_seconds,
                "priorityClassName": spec.priority_class_name,
                "overhead": spec.overhead.as_ref().map(Amounts::to_value),
                "resources": spec.resources.as_ref().map(|lists| lists.to_value()),
                "affinity": spec.affinity,
            });
        }
        if let Some(status) = &self.status {
            pod["status"] = json!({ "phase": status.phase, "qosClass": status.qos_class });
        }
        pod
    }
}

impl Container {
    fn counted(&self) -> Value {
        json!({
            "name": self.name,
            "restartPolicy": self.restart_policy,
            "resources": self.resources.as_ref().map(|lists| lists.to_value()),
        })
    }
}

fn metadata<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let mut meta = ObjectMeta::deserialize(from)?;
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|name, _| name == DELETION_COST);
    }
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    Ok(meta)
}

/// Null stands for nothing, as everywhere in the API.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn claimed<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Volume>, D::Error> {
    let mut volumes: Vec<Volume> = or_default(from)?;
    volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    volumes.shrink_to_fit();
    Ok(volumes)
}

/// Quotas ask whether a pod wants to be near to, or far from, pods of other namespaces; nodes do not matter to them.
fn affinity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<Value>>, D::Error> {
    let mut affinity: Value = Deserialize::deserialize(from)?;
    if let Some(members) = affinity.as_object_mut() {
        members.remove("nodeAffinity");
    }
    let says_anything = affinity.as_object().is_some_and(|members| !members.is_empty());
    Ok(says_anything.then(|| Box::new(affinity)))
}
