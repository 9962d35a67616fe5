//! Computing and writing the pod's status.

use k8s_openapi::api::core::v1::{Pod, PodStatus};

use super::Worker;
use crate::Error;
use crate::status::{self, Inputs};

impl Worker {
    /// The status as the API has it, as far as we know: what we wrote last, with others' conditions as they are now.
    pub(super) fn status_before(&self) -> PodStatus {
        self.reported.clone().or_else(|| self.pod.status.clone()).unwrap_or_default()
    }

    /// The pod as the API has it, with the status as far as we know it.
    pub(super) fn pod_with_status(&self) -> Pod {
        Pod { status: Some(self.status_before()), ..(*self.desired).clone() }
    }

    /// Writes the status if it says anything new.
    pub(super) async fn report(&mut self) -> Result<(), Error> {
        let before = self.status_before();
        let pod = Pod { status: Some(before.clone()), ..(*self.pod).clone() };
        let over = self.ended;
        let new = status::compute(&Inputs {
            pod: &pod,
            ephemeral: &self.ephemeral,
            observed: &self.observed,
            health: &self.health,
            waiting: &self.waiting,
            host_ips: &self.context.host_ips(),
            pod_ips: &self.pod_ips,
            runtime: &self.context.runtime_name,
            over,
            verdict: self.verdict.as_ref(),
            resize: &self.resize,
            now: self.now(),
        });
        if self.gone || status::same(&before, &new) {
            return Ok(());
        }
        let patch = status::patch(&self.pod, &before, &new);
        // That a pod is gone is believed only to the watch: ending its containers cannot be undone.
        if let Some(revision) = self.context.cluster.patch_status(&self.pod, &patch).await? {
            self.reported = Some(new);
            self.reported_revision = revision;
        }
        Ok(())
    }
}
