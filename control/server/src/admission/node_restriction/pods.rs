//! Pods: mirror pods of the node's own, the status of those that it runs, and their end.

use serde_json::Value;
use skep_api::object::{flag, items, members, text, uid};

use super::{MIRROR, Verdict, Write, allow_if, forbid, same};
use crate::admission::Operation;

impl Write<'_> {
    pub(super) fn pod(&self) -> Verdict {
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

    pub(super) fn mirror_pod(&self, pod: &Value) -> Verdict {
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

    pub(super) fn pod_status(&self) -> Verdict {
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

    pub(super) fn eviction(&self) -> Verdict {
        let pod = self.lookup("pods", self.attributes.namespace(), self.attributes.name)?;
        allow_if(self.runs(&pod), || {
            format!("node {} can only evict pods with spec.nodeName set to itself", self.node)
        })
    }
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
