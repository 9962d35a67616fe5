//! The scheduler's writes: bindings, and the condition `PodScheduled` of pods that found no node.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;

use crate::error::{Error, Result};

/// Namespace and name, for messages.
pub(crate) fn name_of(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn api(client: &Client, pod: &Pod) -> Api<Pod> {
    Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or("default"))
}

/// Gives the pod to the node. The uid guards against another pod of the same name.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<()> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let answer: Result<serde_json::Value, kube::Error> =
        api(client, pod).create_subresource("binding", &name, &PostParams::default(), &binding).await;
    answer.map(drop).map_err(|source| Error::Bind {
        pod: name_of(pod),
        node: node.to_owned(),
        source: Box::new(source),
    })
}

/// The condition to write: `None` when the pod says so already.
pub(crate) fn unschedulable_condition(pod: &Pod, message: &str, now: Timestamp) -> Option<PodCondition> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let known = conditions.iter().find(|condition| condition.type_ == "PodScheduled");
    if known.is_some_and(|known| known.status == "False" && known.message.as_deref() == Some(message)) {
        return None;
    }
    let kept =
        known.filter(|known| known.status == "False").and_then(|known| known.last_transition_time.clone());
    Some(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(kept.unwrap_or(Time(now))),
        ..PodCondition::default()
    })
}

/// Writes the condition into the pod's status.
pub(crate) async fn write_condition(client: &Client, pod: &Pod, condition: PodCondition) -> Result<()> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "conditions": [condition] } });
    let patched =
        api(client, pod).patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
    match patched {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Status { pod: name_of(pod), source: Box::new(source) }),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_that_is_there_is_not_written_again() {
        let mut pod = Pod::default();
        let first = unschedulable_condition(&pod, "no", Timestamp::UNIX_EPOCH).unwrap();
        pod.status.get_or_insert_default().conditions = Some(vec![first.clone()]);
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(unschedulable_condition(&pod, "no", later), None);
        let other = unschedulable_condition(&pod, "still no", later).unwrap();
        assert_eq!(other.last_transition_time, first.last_transition_time);
    }
}
