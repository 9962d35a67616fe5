//! What nodes may do: their own Node, Lease and pods, and what those pods need.
//!
//! [`judge`] decides by the request alone (the Node authorizer), [`admit`] by the object that would be written
//! (NodeRestriction). Which secrets and config maps a node may read follows from the pods bound to it, looked up in the
//! pod's namespace at each request. Not here yet: persistent volumes, resource claims and attachments (their kinds are
//! refused), and that lists and watches of pods and nodes carry a selector for the node itself.

use serde_json::Value;
use skep_api::status::Status;

use crate::gate::ObjectReader;
use crate::pki::NODES;
use crate::refusal;
use crate::request::RequestInfo;
use crate::user::UserInfo;

const LEASES: &str = "kube-node-lease";

/// The node that `user` is, if it is one.
pub fn node_of(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:").filter(|name| !name.is_empty())?;
    user.groups.iter().any(|group| group == NODES).then_some(name)
}

/// What the Node authorizer says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may pass.
    Allow,
    /// It may not, whatever roles say.
    Deny(String),
    /// Roles decide.
    NoOpinion,
}

/// Judges a request of `node`.
pub(super) fn judge(node: &str, request: &RequestInfo, reader: &dyn ObjectReader) -> Verdict {
    if !request.is_resource {
        return Verdict::NoOpinion;
    }
    let own = |what: &str| {
        if request.name == node {
            Verdict::Allow
        } else {
            Verdict::Deny(format!("node {node:?} can only access its own {what}"))
        }
    };
    let verb = request.verb.as_str();
    let subresource = request.subresource.as_str();
    match (request.group.as_str(), request.resource.as_str()) {
        ("", "secrets" | "configmaps") => match verb {
            "get" | "list" | "watch" if subresource.is_empty() => referenced(node, request, reader),
            _ => Verdict::Deny(format!("nodes cannot {verb} {}", request.resource)),
        },
        ("", "persistentvolumeclaims" | "persistentvolumes") | ("storage.k8s.io", "volumeattachments") => {
            Verdict::Deny(format!("nodes cannot access {} yet", request.resource))
        }
        ("", "serviceaccounts") => match (verb, subresource) {
            ("create", "token") | ("get", "") => {
                let used = pods_of(node, &request.namespace, reader).any(|pod| {
                    pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| name == request.name)
                });
                allow_if(used, || no_relationship(node))
            }
            _ => Verdict::Deny(format!("nodes cannot {verb} serviceaccounts")),
        },
        ("", "nodes") => judge_node(verb, subresource, own("Node")),
        ("", "pods") => judge_pod(node, request, reader),
        ("coordination.k8s.io", "leases") => match verb {
            // A create has no name in its path; `admit` looks at the object.
            "create" => allow_if(request.namespace == LEASES, || lease_refusal(node)),
            "get" | "update" | "patch" | "delete" => {
                allow_if(request.namespace == LEASES && request.name == node, || lease_refusal(node))
            }
            _ => Verdict::Deny(lease_refusal(node)),
        },
        ("storage.k8s.io", "csinodes") => match verb {
            "create" => Verdict::Allow,
            "get" | "update" | "patch" | "delete" => own("CSINode"),
            _ => Verdict::Deny(format!("nodes cannot {verb} csinodes")),
        },
        ("", "events") | ("events.k8s.io", "events") => {
            allow_if(matches!(verb, "create" | "patch" | "update"), || format!("nodes cannot {verb} events"))
        }
        ("", "services") => NoWrites(verb).verdict(),
        ("authentication.k8s.io", "tokenreviews")
        | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews") => {
            if verb == "create" { Verdict::Allow } else { Verdict::NoOpinion }
        }
        ("node.k8s.io", "runtimeclasses") | ("storage.k8s.io", "csidrivers") => NoWrites(verb).verdict(),
        _ => Verdict::NoOpinion,
    }
}

/// Kinds that every node reads and none writes.
struct NoWrites<'a>(&'a str);

impl NoWrites<'_> {
    fn verdict(&self) -> Verdict {
        if matches!(self.0, "get" | "list" | "watch") { Verdict::Allow } else { Verdict::NoOpinion }
    }
}

fn judge_node(verb: &str, subresource: &str, own: Verdict) -> Verdict {
    match (verb, subresource) {
        // The other nodes' addresses and pod ranges are what routes are made of.
        ("get" | "list" | "watch", "") | ("create", "") => Verdict::Allow,
        ("update" | "patch", "" | "status") | ("get", "status") => own,
        _ => {
            Verdict::Deny(format!("nodes cannot {verb} nodes/{subresource}").trim_end_matches('/').to_owned())
        }
    }
}

fn judge_pod(node: &str, request: &RequestInfo, reader: &dyn ObjectReader) -> Verdict {
    let refusal = || format!("node {node:?} can only access pods that are bound to it");
    let bound = || {
        let pod = reader.get("", "pods", &request.namespace, &request.name);
        // Of a pod that is not there, the answer is 404.
        allow_if(pod.is_none_or(|pod| runs_on(&pod, node)), refusal)
    };
    match (request.verb.as_str(), request.subresource.as_str()) {
        ("list" | "watch", "") | ("create", "") => Verdict::Allow,
        ("get" | "delete", "") | ("update" | "patch" | "get", "status") | ("create", "eviction") => bound(),
        (verb, "") => Verdict::Deny(format!("nodes cannot {verb} pods")),
        (verb, subresource) => Verdict::Deny(format!("nodes cannot {verb} pods/{subresource}")),
    }
}

fn allow_if(condition: bool, refusal: impl FnOnce() -> String) -> Verdict {
    if condition { Verdict::Allow } else { Verdict::Deny(refusal()) }
}

fn lease_refusal(node: &str) -> String {
    format!("node {node:?} can only access the lease {node:?} in the namespace {LEASES:?}")
}

fn no_relationship(node: &str) -> String {
    format!("no relationship found between node {node:?} and this object")
}

fn runs_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn pods_of<'a>(
    node: &'a str,
    namespace: &str,
    reader: &dyn ObjectReader,
) -> impl Iterator<Item = std::sync::Arc<Value>> + 'a {
    let pods = if namespace.is_empty() { Vec::new() } else { reader.list("", "pods", namespace) };
    pods.into_iter().filter(move |pod| runs_on(pod, node))
}

/// Whether a pod of the node refers to the secret or config map asked for.
fn referenced(node: &str, request: &RequestInfo, reader: &dyn ObjectReader) -> Verdict {
    if request.name.is_empty() || request.namespace.is_empty() {
        return Verdict::Deny(format!("nodes read {} one by one", request.resource));
    }
    let wanted = if request.resource == "secrets" { Wanted::Secret } else { Wanted::ConfigMap };
    let found = pods_of(node, &request.namespace, reader).any(|pod| refers_to(&pod, wanted, &request.name));
    allow_if(found, || no_relationship(node))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Secret,
    ConfigMap,
}

/// Whether a pod's volumes, environment or pull secrets name the object.
fn refers_to(pod: &Value, wanted: Wanted, name: &str) -> bool {
    let spec = &pod["spec"];
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (volume, in_volume, from, key) = match wanted {
        Wanted::Secret => ("secret", "secretName", "secretRef", "secretKeyRef"),
        Wanted::ConfigMap => ("configMap", "name", "configMapRef", "configMapKeyRef"),
    };
    let in_volumes = items(&spec["volumes"]).iter().any(|v| {
        let projected = items(&v["projected"]["sources"]).iter().any(|source| source[volume]["name"] == name);
        // Drivers of volumes have their credentials in a secret too.
        let driver = wanted == Wanted::Secret
            && v.as_object().into_iter().flatten().any(|(_, driver)| {
                driver["secretRef"]["name"] == name || driver["nodePublishSecretRef"]["name"] == name
            });
        v[volume][in_volume] == name || projected || driver
    });
    let pulls =
        wanted == Wanted::Secret && items(&spec["imagePullSecrets"]).iter().any(|s| s["name"] == name);
    let in_environment = ["containers", "initContainers", "ephemeralContainers"].iter().any(|list| {
        items(&spec[*list]).iter().any(|container| {
            items(&container["envFrom"]).iter().any(|source| source[from]["name"] == name)
                || items(&container["env"]).iter().any(|env| env["valueFrom"][key]["name"] == name)
        })
    });
    in_volumes || pulls || in_environment
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
