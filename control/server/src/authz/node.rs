//! NodeRestriction: what a node may write, by the object that would be stored.
//!
//! Its own Node, without labels and taints that others set; mirror pods of its own that refer to nothing; the status of
//! its pods; its own Lease, CSINode and resource slices. What a node may ask for at all is in `kubelet`.

use serde_json::Value;
use skep_api::status::Status;

use crate::pki::NODES;
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

/// The node that `user` is, if it is one.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == NODES).then_some(name)
}

fn runs_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

/// Checks what a node writes (NodeRestriction). `new` is what would be stored, absent for deletions; `old` what is there.
/// Users that are no nodes pass.
///
/// # Errors
///
/// 403 with the reason.
pub fn admit(
    user: &UserInfo,
    request: &RequestInfo,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(node) = node_of(user) else { return Ok(()) };
    let reason = match (request.group.as_str(), request.resource.as_str()) {
        ("", "nodes") => node_write(node, request, new, old),
        ("", "pods") => pod_write(node, request, new, old),
        ("resource.k8s.io", "resourceslices") => slice_write(node, new, old),
        ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes") => {
            let named = new.or(old).is_none_or(|object| object["metadata"]["name"] == node);
            (!named).then(|| format!("node {node:?} can only write its own {}", request.resource))
        }
        _ => None,
    };
    match reason {
        None => Ok(()),
        Some(reason) => {
            Err(refusal::forbidden_object(&request.group, &request.resource, &request.name, &reason))
        }
    }
}

/// A node writes slices about itself alone; whose an old one is, decides about changing and deleting it.
fn slice_write(node: &str, new: Option<&Value>, old: Option<&Value>) -> Option<String> {
    let object = old.or(new)?;
    (object["spec"]["nodeName"] != node).then(|| {
        "can only create, change or delete ResourceSlice with the same NodeName as the requesting node".into()
    })
}

fn node_write(node: &str, request: &RequestInfo, new: Option<&Value>, old: Option<&Value>) -> Option<String> {
    let name = new.or(old).map(|object| &object["metadata"]["name"]);
    if name.is_some_and(|name| name != node) {
        return Some(format!("node {node:?} is not allowed to modify node {}", name.unwrap_or(&Value::Null)));
    }
    let Some(new) = new else { return Some(format!("node {node:?} cannot delete its Node")) };
    if let Some(label) = changed_labels(new, old).into_iter().find(|label| !label_is_open(label)) {
        return Some(format!("node {node:?} is not allowed to set the label {label:?}"));
    }
    match old {
        None => None,
        Some(old) if request.subresource.is_empty() && old["spec"]["taints"] != new["spec"]["taints"] => {
            Some(format!("node {node:?} is not allowed to modify taints"))
        }
        Some(_) => None,
    }
}

fn changed_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let labels = |object: Option<&Value>| {
        object.and_then(|object| object["metadata"]["labels"].as_object()).cloned().unwrap_or_default()
    };
    let (new, old) = (labels(Some(new)), labels(old));
    let all: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    all.into_iter().filter(|key| new.get(*key) != old.get(*key)).cloned().collect()
}

/// Labels that a node may set on itself: all outside of Kubernetes' own domains, and the known few inside.
fn label_is_open(label: &str) -> bool {
    const KNOWN: [&str; 14] = [
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
    ];
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

fn pod_write(node: &str, request: &RequestInfo, new: Option<&Value>, old: Option<&Value>) -> Option<String> {
    let elsewhere = || Some(format!("node {node:?} can only write pods that are bound to it"));
    match (request.subresource.as_str(), new, old) {
        ("", Some(new), None) => {
            if !runs_on(new, node) {
                return elsewhere();
            }
            let mirror = new["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string();
            let privileged = new["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty())
                || refers_to_anything(new);
            (!mirror || privileged).then(|| {
                format!("node {node:?} can only create mirror pods, without references to other objects")
            })
        }
        (_, _, Some(old)) if !runs_on(old, node) => elsewhere(),
        // Of a pod that nobody knows, nobody knows where it runs.
        ("eviction", _, None) => elsewhere(),
        ("status", Some(new), Some(old)) if new["metadata"]["labels"] != old["metadata"]["labels"] => {
            Some(format!("node {node:?} cannot update labels through pod status"))
        }
        _ => None,
    }
}

/// Whether a pod would make further objects readable to its node.
fn refers_to_anything(pod: &Value) -> bool {
    const FIELDS: [&str; 8] = [
        "secret",
        "secretRef",
        "secretKeyRef",
        "configMap",
        "configMapRef",
        "configMapKeyRef",
        "persistentVolumeClaim",
        "imagePullSecrets",
    ];
    fn has_field(value: &Value) -> bool {
        match value {
            Value::Object(fields) => {
                fields.iter().any(|(key, value)| FIELDS.contains(&key.as_str()) || has_field(value))
            }
            Value::Array(items) => items.iter().any(has_field),
            _ => false,
        }
    }
    has_field(&pod["spec"])
}
