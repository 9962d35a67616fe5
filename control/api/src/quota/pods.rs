//! What pods count for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::Selector;
use crate::object::{items, number, text};
use crate::quantity::Quantity;
use crate::resources::{self, Amounts, Side, is_extended, is_native};
use crate::strategy::qos_class;

const COUNT: &str = "count/pods";
/// What pods use up, besides their number under another name and resources that have a domain.
pub(crate) const COMPUTE: [&str; 10] = [
    "pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];
/// Resources that, once limited, every container has to state.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(super) fn is_measured(name: &str) -> bool {
    name == COUNT
        || COMPUTE.contains(&name)
        || name.starts_with("hugepages-")
        || name.starts_with("requests.hugepages-")
        || name.strip_prefix("requests.").is_some_and(|_| !is_native(name))
}

/// Whether the pod takes anything: it has not ended, nor outlived its own deletion on a node that is lost.
pub(super) fn is_charged(pod: &Value, now: &str) -> bool {
    if matches!(text(pod, &["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let until = text(pod, &["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    let grace = number(pod, &["metadata", "deletionGracePeriodSeconds"]);
    let (Ok(until), Some(grace), Ok(now)) = (until, grace, now.parse::<Timestamp>()) else { return true };
    until.saturating_add(SignedDuration::from_secs(grace)).is_ok_and(|end| now <= end)
}

/// Whether the pod has a deadline.
pub(super) fn is_terminating(pod: &Value) -> bool {
    number(pod, &["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

pub(super) fn usage(pod: &Value, now: &str) -> Amounts {
    let mut usage = Amounts::from([(COUNT.to_owned(), Quantity::of(1))]);
    if is_charged(pod, now) {
        let requests = resources::of_pod_with_overhead(pod, Side::Requests);
        usage.extend(computed(&requests, &resources::of_pod_with_overhead(pod, Side::Limits)));
    }
    usage
}

/// Requests and limits under the names that quotas have for them.
fn computed(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([("pods".to_owned(), Quantity::of(1))]);
    for (name, amount) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            usage.insert(name.clone(), *amount);
            usage.insert(format!("requests.{name}"), *amount);
        } else if is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

/// Resources that containers do not state although a quota limits them, in upstream's words.
pub(super) fn missing(required: &[String], pod: &Value) -> Option<String> {
    if resources::has_pod_level(pod) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let spec = &pod["spec"];
    for container in items(spec, &["containers"]).iter().chain(items(spec, &["initContainers"])) {
        let stated = computed(&Side::Requests.of(container), &Side::Limits.of(container));
        let needed = required.iter().filter(|name| STATED.contains(&name.as_str()));
        for name in needed.filter(|name| !stated.contains_key(*name)) {
            missing.entry(name).or_default().insert(text(container, &["name"]));
        }
    }
    let parts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("must specify {}", parts.join("; ")))
}

pub(super) fn in_scope(selector: &Selector, pod: &Value) -> bool {
    match selector.scope.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => qos(pod) == "BestEffort",
        "NotBestEffort" => qos(pod) != "BestEffort",
        "PriorityClass" => {
            selector.admits(Some(text(pod, &["spec", "priorityClassName"])).filter(|name| !name.is_empty()))
        }
        "CrossNamespacePodAffinity" => reaches_out(pod),
        _ => false,
    }
}

fn qos(pod: &Value) -> &str {
    match text(pod, &["status", "qosClass"]) {
        "" => qos_class(pod),
        class => class,
    }
}

/// Whether a pod wants to be near to, or far from, pods of other namespaces.
fn reaches_out(pod: &Value) -> bool {
    let across = |term: &Value| {
        !items(term, &["namespaces"]).is_empty()
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let of = |list: &str| items(pod, &["spec", "affinity", kind, list]);
        of("requiredDuringSchedulingIgnoredDuringExecution").iter().any(across)
            || of("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| across(&weighted["podAffinityTerm"]))
    })
}
