//! What is said to the author of an object that keeps the rules but is likely not what was meant (upstream's
//! `pkg/api/*/warnings.go` and the `WarningsOnCreate` and `WarningsOnUpdate` of its strategies).

mod files;
mod network;
mod pod;
mod storage;

use serde_json::Value;

use network::{policy, service};
use pod::pod;
use storage::{capacity, claim, claim_spec, class, csi_driver, volume};

use super::names;
use super::path;
use super::place::Place;
use crate::registry::Resource;

/// Warnings, in the order in which they are told.
type Told = Vec<String>;

const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

/// What every use of a resource is warned about: that it is on its way out.
pub fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// The warnings about an object that is written whole: a new one, or the successor of another.
pub fn warnings(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<String> {
    if resource.custom.is_some() {
        return Vec::new();
    }
    path::twice(|| of_kind(resource, new, old))
}

fn of_kind(resource: &Resource, new: &Value, old: Option<&Value>) -> Told {
    let mut told = Told::new();
    let spec = Place::of(new, "spec");
    let is_new = old.is_none();
    let counted = old.is_none_or(|old| old["metadata"]["generation"] != new["metadata"]["generation"]);
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Pod") if is_new => pod(&Place::new("", new), &mut told),
        ("", "ServiceAccount") => account(new, old, &mut told),
        ("", "PodTemplate") if counted => pod(&Place::of(new, "template"), &mut told),
        ("", "ReplicationController")
        | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            if counted =>
        {
            workload(resource, &spec, &mut told);
        }
        ("batch", "Job") => {
            if is_new {
                host_name(new, &mut told);
            }
            if counted {
                job(&spec, &mut told);
            }
        }
        ("batch", "CronJob") => {
            if is_new {
                host_name(new, &mut told);
            }
            if counted {
                job(&spec.get("jobTemplate").get("spec"), &mut told);
            }
            if !is_new && spec.get("schedule").text().contains("TZ") {
                told.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                     https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .to_owned(),
                );
            }
        }
        ("", "Service") => service(new, &mut told),
        ("", "PersistentVolume") => volume(new, &mut told),
        ("", "PersistentVolumeClaim") => claim(new, &mut told),
        ("networking.k8s.io", "Ingress") if is_new => {
            ingress(new, &spec, &mut told);
        }
        ("networking.k8s.io", "NetworkPolicy") => policy(&spec, &mut told),
        ("storage.k8s.io", "CSIDriver") => csi_driver(&spec, old, &mut told),
        ("storage.k8s.io", "StorageClass") => class(new, &mut told),
        ("storage.k8s.io", "CSIStorageCapacity") => capacity(new, &mut told),
        ("node.k8s.io", "RuntimeClass") => {
            let labels = Place::of(new, "scheduling").get("nodeSelector");
            for why in labels.entries().filter_map(|(key, _)| of_label(key)) {
                told.push(format!("{}: {why}", labels.path));
            }
        }
        _ => {}
    }
    told
}

fn workload(resource: &Resource, spec: &Place<'_>, told: &mut Told) {
    pod(&spec.get("template"), told);
    for template in spec.each("volumeClaimTemplates") {
        claim_spec(&Place::new(template.path.clone(), template.get("spec").value), told);
    }
    let history = spec.get("revisionHistoryLimit").number();
    if resource.kind == "StatefulSet" && history.is_some_and(|limit| limit < 0) {
        told.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
}

/// Names of pods are made of the name, and are names of hosts.
fn host_name(object: &Value, told: &mut Told) {
    if let Err(why) = names::dns_label(object["metadata"]["name"].as_str().unwrap_or_default()) {
        told.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
             label is recommended: [{why}]"
        ));
    }
}

fn job(spec: &Place<'_>, told: &mut Told) {
    let number = |name| spec.get(name).number().unwrap_or_default();
    if spec.get("completionMode").text() == "Indexed"
        && number("completions") > 100_000
        && number("parallelism") > 10_000
    {
        told.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    pod(&spec.get("template"), told);
}

fn ingress(object: &Value, spec: &Place<'_>, told: &mut Told) {
    let class = "kubernetes.io/ingress.class";
    let annotated = object["metadata"]["annotations"].get(class).is_some();
    if annotated && !spec.get("ingressClassName").is_set() {
        told.push(format!("annotation {class:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
}

/// The annotation by which an account says which secrets its pods may use.
fn account(new: &Value, old: Option<&Value>, told: &mut Told) {
    const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
    let says = |object: &Value| !object["metadata"]["annotations"][ENFORCED].is_null();
    if says(new) && !old.is_some_and(says) {
        told.push(format!(
            "metadata.annotations[{ENFORCED}]: deprecated in v1.32+; prefer separate namespaces to isolate access to \
             mounted secrets"
        ));
    }
}

fn of_label(key: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, why)| *why)
}

/// Labels of nodes in `matchExpressions`, and values no label can have where nobody refuses them.
fn expressions(term: &Place<'_>, values: bool, told: &mut Told) {
    for expression in term.each("matchExpressions") {
        let key = expression.get("key");
        if let Some(why) = of_label(key.text()) {
            told.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        for value in expression.each("values").filter(|_| values) {
            if let Err(why) = names::label_value(value.text()) {
                told.push(format!("{}: {} is invalid, {why}", value.path, value.text()));
            }
        }
    }
}

/// Parts of bytes.
fn fractions(amounts: &Place<'_>, resources: &[&str], told: &mut Told) {
    for resource in resources {
        let place = amounts.get(resource);
        if place.quantity().is_some_and(|amount| amount.milli() % 1000 != 0) {
            told.push(format!(
                "{}[{resource}]: fractional byte value {:?} is invalid, must be an integer",
                amounts.path,
                place.text()
            ));
        }
    }
}
