//! NodeRestriction: a node writes its own Node, Lease, CSINode and ResourceSlices, the status of its own pods, mirror pods
//! of its own, and asks for tokens of pods that it runs.

mod labels;
mod objects;
mod pods;
mod tokens;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use skep_api::object::{at, text};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Operation, Plugin};
use crate::authz::{Authz, node_of};
use crate::cache::Cache;
use crate::gate::{Authorizer, ObjectReader};
use crate::refusal;

pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

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
        if self.authorizer.authorize(attributes.user(), &request).await.is_allowed() {
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
}

fn same(new: &Value, old: &Value, path: &[&str]) -> bool {
    let empty = |value: &&Value| value.as_object().is_none_or(|members| !members.is_empty());
    let of = |object| {
        at(object, path).filter(empty).filter(|value| value.as_array().is_none_or(|all| !all.is_empty()))
    };
    of(new) == of(old)
}

#[cfg(test)]
mod tests;
