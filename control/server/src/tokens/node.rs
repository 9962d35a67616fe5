//! Which tokens a node gets: for a pod that it runs, and for an audience that this pod is given (NodeRestriction).

use serde_json::Value;
use skep_api::status::Status;

use super::Tokens;
use super::claims::Bound;
use crate::authz::node_of;
use crate::gate::ObjectReader;
use crate::refusal;
use crate::user::UserInfo;

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

impl Tokens {
    /// Checks a request of a node; those of others pass. `audiences` are as the request has them.
    pub(super) fn check_node(&self, user: &UserInfo, bound: &Bound, audiences: &Value) -> Result<(), Status> {
        let Some(node) = node_of(user) else { return Ok(()) };
        let account = &bound.serviceaccount.name;
        let refuse = |why: &str| Err(refusal::forbidden_object("", "serviceaccounts", account, why));
        let Some(pod) = &bound.pod else { return refuse("node requested token not bound to a pod") };
        if bound.node.as_ref().is_none_or(|of_pod| of_pod.name != node) {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        let audience = match audiences.as_array().map(Vec::as_slice).unwrap_or_default() {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return refuse("node may only request 0 or 1 audiences"),
        };
        let found = self.reader.get("", "pods", &bound.namespace, &pod.name);
        if found.is_some_and(|pod| is_given(self.reader.as_ref(), &bound.namespace, &pod, audience)) {
            return Ok(());
        }
        refuse(&format!(
            "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            user.name
        ))
    }
}

/// Whether a volume of the pod takes a token for this audience; empty is that of the API server.
fn is_given(reader: &dyn ObjectReader, namespace: &str, pod: &Value, audience: &str) -> bool {
    items(&pod["spec"], "volumes").any(|volume| {
        let projected = items(&volume["projected"], "sources").any(|source| {
            let token = &source["serviceAccountToken"];
            token.is_object() && token["audience"].as_str().unwrap_or_default() == audience
        });
        projected
            || driver(reader, namespace, pod, volume).is_some_and(|driver| takes(reader, &driver, audience))
    })
}

/// The CSI driver behind a volume of a pod.
fn driver(reader: &dyn ObjectReader, namespace: &str, pod: &Value, volume: &Value) -> Option<String> {
    if let Some(driver) = volume["csi"]["driver"].as_str() {
        return Some(driver.to_owned());
    }
    let claim = match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claim) => claim.to_owned(),
        None if volume["ephemeral"].is_object() => {
            format!("{}-{}", pod["metadata"]["name"].as_str()?, volume["name"].as_str()?)
        }
        None => return None,
    };
    let claim = reader.get("", "persistentvolumeclaims", namespace, &claim)?;
    let volume = reader.get("", "persistentvolumes", "", claim["spec"]["volumeName"].as_str()?)?;
    volume["spec"]["csi"]["driver"].as_str().map(str::to_owned)
}

fn takes(reader: &dyn ObjectReader, driver: &str, audience: &str) -> bool {
    let driver = reader.get("storage.k8s.io", "csidrivers", "", driver);
    driver.is_some_and(|driver| {
        items(&driver["spec"], "tokenRequests")
            .any(|one| one["audience"].as_str().unwrap_or_default() == audience)
    })
}
