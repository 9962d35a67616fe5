//! What else bears the node's name: its Node, lease, volumes, slices and certificates.

use serde_json::Value;
use skep_api::object::{at, members, text, uid};

use super::labels::forbidden_labels;
use super::{MIRROR, Verdict, Write, allow_if, forbid, same};
use crate::admission::Operation;
use crate::admission::certificates::Subject;

const LEASES: &str = "kube-node-lease";
pub(super) const SIGNERS: [&str; 2] =
    ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

impl Write<'_> {
    pub(super) fn claim_status(&self) -> Verdict {
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

    pub(super) fn node(&self) -> Verdict {
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

    pub(super) fn lease(&self) -> Verdict {
        allow_if(self.attributes.namespace() == LEASES, || {
            format!("can only access leases in the {LEASES:?} system namespace")
        })?;
        allow_if(self.attributes.name == self.node, || {
            "can only access node lease with the same name as the requesting node".to_owned()
        })
    }

    pub(super) fn slice(&self) -> Verdict {
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

    pub(super) fn signing_request(&self) -> Verdict {
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

    pub(super) fn pod_certificate(&self) -> Verdict {
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
