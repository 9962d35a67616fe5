//! Resizing the pod's containers in place: asking the node for room, and giving containers what was promised.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::cri;

use super::{RETRY, Worker};
use crate::recorder::Severity;
use crate::resize::{self, Change, Resize};
use crate::spec;
use crate::spec::resources::{Needs, for_container};
use crate::status::Verdict;
use crate::{Error, cgroups};

impl Worker {
    /// The pod changed in the API: goes on with what it was promised until [`Worker::allocate`] says otherwise.
    pub(super) fn set_pod(&mut self, pod: Arc<Pod>) {
        self.pod = Arc::new(self.resize.effective(&pod));
        self.desired = pod;
    }

    /// Takes note of what the pod was promised when the agent first sees it. A pod that has not begun yet must find
    /// its place on the node first.
    pub(super) fn enter_claims(&mut self) {
        self.resize = Resize::of(&self.desired);
        self.pod = Arc::new(self.resize.effective(&self.desired));
        if spec::is_terminal(&self.pod) {
            return;
        }
        let begun = self.status_before().start_time.is_some();
        if begun || self.pod.metadata.deletion_timestamp.is_some() {
            self.context.claims.enter(&self.pod);
        } else if let Err(refused) = self.context.claims.admit(&self.pod) {
            self.tell("", Severity::Warning, refused.reason, refused.message.clone());
            self.verdict = Some(Verdict { reason: refused.reason.to_owned(), message: refused.message });
        }
    }

    /// Asks the node for what the pod wants and was not promised.
    pub(super) fn allocate(&mut self) {
        let desired = resize::desired(&self.desired);
        if !resize::differ(&desired, &self.resize.allocated) {
            self.resize.pending = None;
            return;
        }
        let uid = spec::uid(&self.pod).to_owned();
        match self.context.claims.change(&uid, &Needs::of_pod(&self.desired), &self.sender) {
            Ok(()) => {
                self.resize.allocated = desired;
                self.resize.pending = None;
                self.resize.failed = None;
                self.pod = Arc::new(self.resize.effective(&self.desired));
                self.tell("", Severity::Normal, "ResizeStarted", "Pod resize started");
            }
            Err(why) => {
                if self.resize.pending.as_ref() != Some(&why) {
                    let text = format!("Pod resize Deferred: {why}");
                    self.tell("", Severity::Warning, "ResizeDeferred", text);
                }
                self.resize.pending = Some(why);
            }
        }
    }

    /// Gives running containers what they were promised. What fails is told and tried again.
    pub(super) async fn actuate(&mut self) -> Result<(), Error> {
        self.resize.adopt(&self.pod_with_status(), &self.observed);
        let changes = self.resize.changes(&self.pod, &self.observed);
        if changes.is_empty() {
            return Ok(());
        }
        // It may take a while, and is to be seen.
        self.report().await?;
        match self.change_all(&changes).await {
            Ok(()) => {
                self.resize.failed = None;
                self.tell("", Severity::Normal, "ResizeCompleted", "Pod resize completed");
            }
            Err(why) => {
                if self.resize.failed.as_ref() != Some(&why) {
                    self.tell("", Severity::Warning, "ResizeError", format!("Pod resize error: {why}"));
                }
                self.resize.failed = Some(why);
                self.wake_in(RETRY);
            }
        }
        self.observe().await
    }

    /// The whole's bounds are wide enough at any time for what its parts have.
    async fn change_all(&mut self, changes: &[Change]) -> Result<(), String> {
        self.check_usage(changes).await?;
        self.set_pod_limits(&self.resize.widest(&self.pod, &self.observed))?;
        for change in changes {
            self.change_one(change).await?;
        }
        self.set_pod_limits(&self.pod)
    }

    async fn change_one(&mut self, change: &Change) -> Result<(), String> {
        if change.restart {
            let why = format!("Container {} resize requires restart", change.name);
            // What starts it anew gives it what is promised.
            return self.kill(&change.id, &change.name, &why).await.map_err(|error| crate::describe(&error));
        }
        let pod = self.pod.clone();
        let members = spec::members(&pod);
        let Some(member) = members.iter().find(|member| member.name() == change.name) else { return Ok(()) };
        let resources = for_container(&pod, member.container, self.context.allocatable.1);
        // Its place in the order of the kernel's killing stays that of its start.
        let resources = cri::LinuxContainerResources { oom_score_adj: 0, ..resources };
        let updated = self.context.runtime.update_container(&change.id, resources).await;
        updated.map_err(|error| crate::describe(&error))?;
        self.resize.actual.insert(change.id.clone(), member.container.resources.clone().unwrap_or_default());
        Ok(())
    }

    /// A limit below what is in use would be refused by the kernel, or end the container.
    async fn check_usage(&self, changes: &[Change]) -> Result<(), String> {
        for change in changes.iter().filter(|change| !change.restart) {
            let Some(limit) = change.shrinks_to else { continue };
            let filter = cri::ContainerStatsFilter { id: change.id.clone(), ..Default::default() };
            let stats = self.context.runtime.container_stats(Some(filter)).await;
            let stats = stats.map_err(|error| crate::describe(&error))?;
            let memory = stats.into_iter().find_map(|one| one.memory);
            let usage = memory.and_then(|memory| memory.usage_bytes.or(memory.working_set_bytes));
            let usage = usage.map_or(0, |usage| i64::try_from(usage.value).unwrap_or(i64::MAX));
            if usage > limit {
                return Err(format!(
                    "attempting to set container {:?} memory limit ({limit}) below current usage ({usage})",
                    change.name
                ));
            }
        }
        Ok(())
    }

    fn set_pod_limits(&self, pod: &Pod) -> Result<(), String> {
        let path = cgroups::pod_path(&self.context.config.cgroup_parent, pod);
        let set = self.context.cgroups.prepare(&path, pod);
        set.map_err(|error| format!("cannot set the pod's limits: {error}"))
    }
}
