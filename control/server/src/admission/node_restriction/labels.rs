//! Labels that a node may set on itself: all outside of Kubernetes' own domains, and the known few inside
//! (`kubelet/apis/well_known_labels.go`).

use std::collections::BTreeSet;

use serde_json::Value;
use skep_api::object::at;

const KNOWN: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

/// The labels that differ and are not the node's to set, in order.
pub(super) fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let labels = |object: Option<&Value>| {
        let labels = object.and_then(|object| at(object, &["metadata", "labels"]));
        labels.and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (new, old) = (labels(Some(new)), labels(old));
    let all: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    all.into_iter().filter(|key| new.get(*key) != old.get(*key) && !is_open(key)).cloned().collect()
}

fn is_open(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return true };
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return false;
    }
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    KNOWN.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_kubernetes_are_open_only_where_known() {
        let cases = [
            ("role", true),
            ("example.com/role", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("x.kubelet.kubernetes.io/y", true),
            ("kubernetes.io/role", false),
            ("x.k8s.io/role", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("fakekubernetes.io/x", true),
        ];
        for (label, open) in cases {
            assert_eq!(is_open(label), open, "{label}");
        }
    }
}
