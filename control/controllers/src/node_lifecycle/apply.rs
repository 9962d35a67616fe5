//! Writes conditions and taints of nodes, and the readiness of pods on silent ones.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::plan::Plan;
use crate::error::{During, Result};
use crate::pod::Pod;
use crate::runtime::clock::Clock;
use crate::runtime::events::{Recorder, Severity};
use crate::runtime::key::ObjectKey;

pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) recorder: Recorder,
    pub(super) clock: Clock,
}

impl Writer {
    pub(super) async fn apply(&self, node: &Node, plan: &Plan) -> Result<()> {
        let key = ObjectKey::of(&node.metadata);
        let api: Api<Node> = Api::all(self.client.clone());
        let params = PatchParams::default();
        let mut version = node.metadata.resource_version.clone();
        if let Some(conditions) = &plan.conditions {
            // The version guards against a heartbeat that came meanwhile.
            let patch = json!({
                "metadata": { "uid": node.metadata.uid, "resourceVersion": version },
                "status": { "conditions": conditions },
            });
            let patched = api.patch_status(&key.name, &params, &Patch::Merge(&patch)).await;
            version = patched.during("update status of node", &key)?.metadata.resource_version;
        }
        if plan.fell_silent {
            let message = format!("Node {key} status is now: NodeNotReady");
            self.recorder.record(node, Severity::Normal, "NodeNotReady", message);
        }
        if let Some(taints) = &plan.taints {
            let patch = json!({
                "metadata": { "uid": node.metadata.uid, "resourceVersion": version },
                "spec": { "taints": taints },
            });
            api.patch(&key.name, &params, &Patch::Merge(&patch)).await.during("taint node", &key)?;
        }
        Ok(())
    }

    pub(super) async fn mark_not_ready(&self, pod: &Pod) -> Result<()> {
        let key = ObjectKey::of(&pod.metadata);
        // Merged by type: the other conditions, and what else is said of this one, stay.
        let ready = json!({ "type": "Ready", "status": "False", "lastTransitionTime": self.clock.time() });
        let patch = json!({
            "metadata": { "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version },
            "status": { "conditions": [ready] },
        });
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => {
                let message = "Node is not ready".to_owned();
                self.recorder.record(pod, Severity::Warning, "NodeNotReady", message);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            failed => failed.map(drop).during("mark pod not ready", &key),
        }
    }
}
