//! NodeRestriction: a node writes its own Node, Lease, CSINode and ResourceSlices, the status of its own pods, mirror pods
//! of its own, and asks for tokens of pods that it runs.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, flag, items, members, name, text, uid};
use skep_api::status::Status;

use super::certificates::Subject;
use super::node_labels::forbidden_labels;
use super::{Attributes, ConfigError, Ingredients, Operation, Plugin};
use crate::authz::{Authz, node_of};
use crate::cache::Cache;
use crate::gate::ObjectReader;
use crate::refusal;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

struct NodeRestriction {
    cache: Arc<Cache>,
    authorizer: Arc<Authz>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(NodeRestriction { cache: from.cache.clone(), authorizer: from.authorizer.clone() }))
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation != Operation::Connect && node_of(attributes.user()).is_some()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(node) = node_of(attributes.user()) else { return Ok(()) };
        let write = Write { node, attributes, new: object.as_deref(), reader: &*self.cache };
        write.judge().map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => attributes.forbid(&why),
            Refusal::Missing(plural, name) => refusal::not_found(plural, &name),
        })?;
        match write.audience() {
            Some(audience) => self.check_audience(attributes, &audience).await,
            None => Ok(()),
        }
    }
}

impl NodeRestriction {
    /// Whether the node may ask for tokens with an audience that none of the pod's volumes has.
    async fn check_audience(&self, attributes: &Attributes<'_>, audience: &str) -> Result<(), Status> {
        let request = crate::request::RequestInfo {
            is_resource: true,
            verb: "request-serviceaccounts-token-audience".to_owned(),
            version: "v1".to_owned(),
            namespace: attributes.namespace().to_owned(),
            resource: audience.to_owned(),
            name: attributes.name.to_owned(),
            ..Default::default()
        };
        if crate::gate::Authorizer::authorize(&*self.authorizer, attributes.user(), &request)
            == crate::gate::Decision::Allow
        {
            return Ok(());
        }
        Err(attributes.forbid(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this \
             audience",
            attributes.user().name
        )))
    }
}

/// Why a node may not write something.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Forbidden(String),
    /// A core object that the write is about is not there.
    Missing(&'static str, String),
}

type Verdict = Result<(), Refusal>;

fn forbid(why: impl Into<String>) -> Verdict {
    Err(Refusal::Forbidden(why.into()))
}

fn allow_if(condition: bool, why: impl FnOnce() -> String) -> Verdict {
    if condition { Ok(()) } else { forbid(why()) }
}

/// A write of a node.
struct Write<'a> {
    node: &'a str,
    attributes: &'a Attributes<'a>,
    new: Option<&'a Value>,
    reader: &'a dyn ObjectReader,
}

impl Write<'_> {
    fn judge(&self) -> Verdict {
        let resource = self.attributes.scope.resource;
        if resource.custom.is_some() {
            return Ok(());
        }
        match (resource.group.as_str(), resource.plural.as_str(), self.attributes.subresource()) {
            ("", "pods", "") => self.pod(),
            ("", "pods", "status") => self.pod_status(),
            ("", "pods", "eviction") => self.eviction(),
            ("", "pods", other) => forbid(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => self.node(),
            ("", "persistentvolumeclaims", "status") => self.claim_status(),
            ("", "persistentvolumeclaims", _) => forbid("may only update PVC status"),
            ("", "serviceaccounts", "token") => self.token(),
            ("coordination.k8s.io", "leases", _) => self.lease(),
            ("storage.k8s.io", "csinodes", _) => allow_if(self.attributes.name == self.node, || {
                "can only access CSINode with the same name as the requesting node".to_owned()
            }),
            ("resource.k8s.io", "resourceslices", _) => self.slice(),
            ("certificates.k8s.io", "certificatesigningrequests", _) => self.signing_request(),
            ("certificates.k8s.io", "podcertificaterequests", _) => self.pod_certificate(),
            _ => Ok(()),
        }
    }

    fn lookup(&self, plural: &'static str, namespace: &str, name: &str) -> Result<Arc<Value>, Refusal> {
        let found = self.reader.get("", plural, namespace, name);
        found.ok_or_else(|| Refusal::Missing(plural, name.to_owned()))
    }

    fn runs(&self, pod: &Value) -> bool {
        text(pod, &["spec", "nodeName"]) == self.node
    }

    fn pod(&self) -> Verdict {
        let node = self.node;
        match (self.attributes.operation, self.new, self.attributes.old) {
            (Operation::Create, Some(pod), _) => self.mirror_pod(pod),
            (Operation::Delete, _, Some(pod)) => allow_if(self.runs(pod), || {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            (operation, ..) => forbid(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.word()
            )),
        }
    }

    fn mirror_pod(&self, pod: &Value) -> Verdict {
        let node = self.node;
        if !members(pod, &["metadata", "annotations"]).any(|(key, _)| key == MIRROR) {
            return forbid(format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        allow_if(self.runs(pod), || {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        let owner = match items(pod, &["metadata", "ownerReferences"]) {
            [] => {
                return forbid(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            [owner] => owner,
            _ => {
                return forbid(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        let of = |member: &str| text(owner, &[member]);
        allow_if((of("apiVersion"), of("kind"), of("name")) == ("v1", "Node", node), || {
            format!("node {node:?} can only create pods with an owner reference set to itself")
        })?;
        allow_if(flag(owner, &["controller"]), || {
            format!("node {node:?} can only create pods with a controller owner reference set to itself")
        })?;
        allow_if(!flag(owner, &["blockOwnerDeletion"]), || {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let own = self.lookup("nodes", "", node)?;
        allow_if(of("uid") == uid(&own), || {
            format!("node {node} UID mismatch: expected {} got {}", of("uid"), uid(&own))
        })?;
        match reference(pod) {
            Some(what) => forbid(format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Verdict {
        let node = self.node;
        let (Operation::Update, Some(new), Some(old)) =
            (self.attributes.operation, self.new, self.attributes.old)
        else {
            return forbid(format!("unexpected operation {:?}", self.attributes.operation.word()));
        };
        allow_if(self.runs(old), || {
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
        })?;
        allow_if(same(new, old, &["metadata", "labels"]), || {
            format!("node {node:?} cannot update labels through pod status")
        })?;
        allow_if(same(new, old, &["status", "resourceClaimStatuses"]), || {
            format!("node {node:?} cannot update resource claim statues")
        })?;
        allow_if(same(new, old, &["status", "extendedResourceClaimStatus"]), || {
            format!("node {node:?} cannot update extended resource claim status")
        })
    }

    fn eviction(&self) -> Verdict {
        let pod = self.lookup("pods", self.attributes.namespace(), self.attributes.name)?;
        allow_if(self.runs(&pod), || {
            format!("node {} can only evict pods with spec.nodeName set to itself", self.node)
        })
    }

    fn claim_status(&self) -> Verdict {
        let (Some(new), Some(old)) = (self.new, self.attributes.old) else { return Ok(()) };
        // What a node finds out about a volume: its size, and how far its growth has come.
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            let open: [&[&str]; 2] = [
                &["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"],
                &["resourceVersion", "managedFields"],
            ];
            for (parent, names) in ["status", "metadata"].iter().zip(open) {
                if let Some(parent) = claim.get_mut(*parent).and_then(Value::as_object_mut) {
                    names.iter().for_each(|name| drop(parent.remove(*name)));
                }
            }
            claim
        };
        allow_if(rest(new) == rest(old), || {
            format!(
                "node {:?} is not allowed to update fields other than status.quantity and status.conditions",
                self.node
            )
        })
    }

    fn node(&self) -> Verdict {
        let (node, name) = (self.node, self.attributes.name);
        allow_if(name == node, || format!("node {node:?} is not allowed to modify node {name:?}"))?;
        let config = |object: &Value| at(object, &["spec", "configSource"]).cloned();
        match (self.new, self.attributes.old) {
            (Some(new), None) => {
                allow_if(config(new).is_none(), || {
                    format!("node {node:?} is not allowed to create pods with a non-nil configSource")
                })?;
                let labels = forbidden_labels(new, None);
                allow_if(labels.is_empty(), || {
                    format!("node {node:?} is not allowed to set the following labels: {}", labels.join(", "))
                })
            }
            (Some(new), Some(old)) => {
                allow_if(config(new).is_none() || config(new) == config(old), || {
                    format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    )
                })?;
                allow_if(same(new, old, &["spec", "taints"]), || {
                    format!("node {node:?} is not allowed to modify taints")
                })?;
                allow_if(same(new, old, &["metadata", "ownerReferences"]), || {
                    format!("node {node:?} is not allowed to modify ownerReferences")
                })?;
                let labels = forbidden_labels(new, Some(old));
                allow_if(labels.is_empty(), || {
                    format!("is not allowed to modify labels: {}", labels.join(", "))
                })
            }
            (None, _) => Ok(()),
        }
    }

    fn token(&self) -> Verdict {
        let Some(request) = self.new else { return Ok(()) };
        let of = |member: &str| text(request, &["spec", "boundObjectRef", member]);
        let bound = of("apiVersion") == "v1" && of("kind") == "Pod" && !of("name").is_empty();
        allow_if(bound, || "node requested token not bound to a pod".to_owned())?;
        allow_if(!of("uid").is_empty(), || {
            "node requested token with a pod binding without a uid".to_owned()
        })?;
        let pod = self.lookup("pods", self.attributes.namespace(), of("name"))?;
        allow_if(of("uid") == uid(&pod), || {
            format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                of("uid")
            )
        })?;
        allow_if(self.runs(&pod), || {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        allow_if(items(request, &["spec", "audiences"]).len() <= 1, || {
            "node may only request 0 or 1 audiences".to_owned()
        })
    }

    /// The audience of a token request that the volumes of its pod do not need.
    fn audience(&self) -> Option<String> {
        if !self.attributes.is_part("", "serviceaccounts", "token") {
            return None;
        }
        let request = self.new?;
        let audience =
            items(request, &["spec", "audiences"]).first().and_then(Value::as_str).unwrap_or_default();
        let name = text(request, &["spec", "boundObjectRef", "name"]);
        let pod = self.reader.get("", "pods", self.attributes.namespace(), name)?;
        (!self.pod_needs(&pod, audience)).then(|| audience.to_owned())
    }

    fn pod_needs(&self, pod: &Value, audience: &str) -> bool {
        items(pod, &["spec", "volumes"]).iter().any(|volume| {
            let projected = items(volume, &["projected", "sources"]).iter().any(|source| {
                at(source, &["serviceAccountToken"])
                    .is_some_and(|token| text(token, &["audience"]) == audience)
            });
            projected
                || self.driver(pod, volume).is_some_and(|driver| {
                    let driver = self.reader.get("storage.k8s.io", "csidrivers", "", &driver);
                    driver.is_some_and(|driver| {
                        let requests = items(&driver, &["spec", "tokenRequests"]);
                        requests.iter().any(|request| text(request, &["audience"]) == audience)
                    })
                })
        })
    }

    /// The driver of a volume, found through its claim if it has one.
    fn driver(&self, pod: &Value, volume: &Value) -> Option<String> {
        if at(volume, &["csi"]).is_some() {
            return Some(text(volume, &["csi", "driver"]).to_owned());
        }
        let claim = if at(volume, &["ephemeral", "volumeClaimTemplate"]).is_some() {
            format!("{}-{}", name(pod), text(volume, &["name"]))
        } else {
            at(volume, &["persistentVolumeClaim"])?["claimName"].as_str()?.to_owned()
        };
        let claim = self.reader.get("", "persistentvolumeclaims", self.attributes.namespace(), &claim)?;
        let found = self.reader.get("", "persistentvolumes", "", text(&claim, &["spec", "volumeName"]))?;
        Some(text(&found, &["spec", "csi", "driver"]).to_owned()).filter(|driver| !driver.is_empty())
    }

    fn lease(&self) -> Verdict {
        allow_if(self.attributes.namespace() == LEASES, || {
            format!("can only access leases in the {LEASES:?} system namespace")
        })?;
        allow_if(self.attributes.name == self.node, || {
            "can only access node lease with the same name as the requesting node".to_owned()
        })
    }

    fn slice(&self) -> Verdict {
        let own = |slice: Option<&Value>| {
            slice.is_some_and(|slice| text(slice, &["spec", "nodeName"]) == self.node)
        };
        let why = |verb: &str| {
            format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")
        };
        match self.attributes.operation {
            Operation::Create => allow_if(own(self.new), || why("create")),
            Operation::Delete => allow_if(own(self.attributes.old), || why("delete")),
            _ => Ok(()),
        }
    }

    fn signing_request(&self) -> Verdict {
        let Some(request) = self.new.filter(|_| self.attributes.creates()) else { return Ok(()) };
        if !SIGNERS.contains(&text(request, &["spec", "signerName"])) {
            return Ok(());
        }
        match Subject::of(request) {
            Err(why) => forbid(format!("unable to parse csr: {why}")),
            Ok(subject) => allow_if(subject.common_name == format!("system:node:{}", self.node), || {
                format!("can only create a node CSR with CN=system:node:{}", self.node)
            }),
        }
    }

    fn pod_certificate(&self) -> Verdict {
        let Some(request) = self.new.filter(|_| self.attributes.creates()) else {
            return forbid(format!("unexpected operation {}", self.attributes.operation.word()));
        };
        let of = |member: &str| text(request, &["spec", member]);
        allow_if(of("nodeName") == self.node, || {
            format!(
                "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {:?}",
                of("nodeName"),
                self.node
            )
        })?;
        let node = self.lookup("nodes", "", self.node)?;
        let pod = self.lookup("pods", self.attributes.namespace(), of("podName"))?;
        let place = format!("{}/{}", self.attributes.namespace(), of("podName"));
        allow_if(of("nodeUID") == uid(&node), || {
            format!(
                "PodCertificateRequest for pod {place:?} names another node UID than that of the running node"
            )
        })?;
        allow_if(of("podUID") == uid(&pod), || {
            format!(
                "PodCertificateRequest for pod {place:?} contains another pod UID than that of the running pod"
            )
        })?;
        allow_if(self.runs(&pod), || {
            format!("pod {place:?} is not running on node {:?} named in the PodCertificateRequest", self.node)
        })?;
        allow_if(!members(&pod, &["metadata", "annotations"]).any(|(key, _)| key == MIRROR), || {
            format!("pod {place:?} is a mirror pod")
        })?;
        let account = text(&pod, &["spec", "serviceAccountName"]);
        allow_if(of("serviceAccountName") == account, || {
            format!(
                "PodCertificateRequest for pod {place:?} contains serviceAccountName ({:?}) that differs from running \
                 pod ({account:?})",
                of("serviceAccountName")
            )
        })?;
        let account = self.lookup("serviceaccounts", self.attributes.namespace(), account)?;
        allow_if(of("serviceAccountUID") == uid(&account), || {
            format!(
                "PodCertificateRequest for pod {place:?} names another service account UID than that of the pod"
            )
        })
    }
}

fn same(new: &Value, old: &Value, path: &[&str]) -> bool {
    let empty = |value: &&Value| value.as_object().is_none_or(|members| !members.is_empty());
    let of = |object| {
        at(object, path).filter(empty).filter(|value| value.as_array().is_none_or(|all| !all.is_empty()))
    };
    of(new) == of(old)
}

/// The kind of another object that a pod refers to, which a node would come to read by it.
fn reference(pod: &Value) -> Option<&'static str> {
    const KINDS: [(&str, &[&str]); 5] = [
        ("serviceaccounts", &["serviceAccountToken"]),
        ("secrets", &["secret", "secretRef", "secretKeyRef", "nodePublishSecretRef"]),
        ("configmaps", &["configMap", "configMapRef", "configMapKeyRef"]),
        ("clustertrustbundles", &["clusterTrustBundle"]),
        ("persistentvolumeclaims", &["persistentVolumeClaim", "volumeClaimTemplate"]),
    ];
    fn has(value: &Value, names: &[&str]) -> bool {
        match value {
            Value::Object(fields) => fields
                .iter()
                .any(|(key, value)| !value.is_null() && (names.contains(&key.as_str()) || has(value, names))),
            Value::Array(items) => items.iter().any(|item| has(item, names)),
            _ => false,
        }
    }
    let spec = &pod["spec"];
    if !text(spec, &["serviceAccountName"]).is_empty() {
        return Some("serviceaccounts");
    }
    if !items(spec, &["imagePullSecrets"]).is_empty() {
        return Some("secrets");
    }
    if !items(spec, &["resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    KINDS.iter().find(|(_, names)| has(spec, names)).map(|(kind, _)| *kind)
}

#[cfg(test)]
#[path = "node_restriction_tests.rs"]
mod tests;
