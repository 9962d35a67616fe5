//! Ending: single containers, and the whole pod with everything it had on the node.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Context, Worker};
use crate::observe::Instance;
use crate::probes::Target;
use crate::recorder::Severity;
use crate::spec::{self, Role};
use crate::{Error, cgroups, hooks, logs};

/// The least time between the request to end and the kill, after a hook used up the grace.
const LEAST: Duration = Duration::from_secs(2);

impl Worker {
    /// Ends one container of a pod that goes on.
    pub(super) async fn kill(&mut self, id: &str, name: &str, why: &str) -> Result<(), Error> {
        let grace = self.grace_after_probe(name);
        self.tell(name, Severity::Normal, "Killing", why.to_owned());
        let killing = self.killing();
        let Some(run) = self.observed.instances.iter().find(|run| run.id == id).cloned() else {
            // It was only just made, and is not in what was observed.
            return Ok(self.context.runtime.stop_container(id, grace).await?);
        };
        killing.kill(&run, grace).await
    }

    /// A probe may bring its own grace period.
    fn grace_after_probe(&self, name: &str) -> Duration {
        let members = spec::members(&self.pod);
        let container = members.iter().find(|member| member.name() == name).map(|member| member.container);
        let probe = container.and_then(|container| {
            let seconds = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
                probe.as_ref().and_then(|probe| probe.termination_grace_period_seconds)
            };
            seconds(&container.liveness_probe).or_else(|| seconds(&container.startup_probe))
        });
        seconds(probe.unwrap_or_else(|| spec::grace_seconds(&self.pod)))
    }

    fn killing(&self) -> Killing {
        Killing {
            context: self.context.clone(),
            pod: self.pod.clone(),
            ip: self.pod_ips.first().cloned().unwrap_or_default(),
            hooked: self.hooked.clone(),
        }
    }

    /// Ends everything. Returns whether the pod is gone for good; otherwise only its status is left.
    pub(super) async fn take_down(&mut self) -> Result<bool, Error> {
        if !self.ended {
            self.waiting.clear();
            self.report().await?;
            self.end_containers().await?;
            self.probes.drain().for_each(|(_, task)| AbortHandle::abort(&task));
            for sandbox in self.observed.sandboxes.clone() {
                self.context.runtime.stop_sandbox(&sandbox.id).await?;
            }
            self.observe().await?;
            self.ended = true;
            self.context.claims.leave(spec::uid(&self.pod));
        }
        self.report().await?;
        if !self.gone && self.pod.metadata.deletion_timestamp.is_none() {
            return Ok(false);
        }
        self.clean_up().await?;
        if !self.gone {
            self.context.cluster.delete_pod(&self.pod).await?;
        }
        self.remove_runs().await?;
        Ok(true)
    }

    /// Ends all containers within the grace period, and sooner when deletion is asked for with a shorter one.
    async fn end_containers(&mut self) -> Result<(), Error> {
        loop {
            let running: Vec<Instance> =
                self.observed.instances.iter().filter(|run| run.is_running()).cloned().collect();
            if running.is_empty() {
                return Ok(());
            }
            for run in &running {
                let text = format!("Stopping container {}", run.name);
                self.tell(&run.name, Severity::Normal, "Killing", text);
            }
            let grace = spec::grace_seconds(&self.pod);
            let killing = self.killing();
            let ended = tokio::select! {
                ended = killing.kill_all(running, seconds(grace)) => Some(ended),
                () = self.until_hurried(grace) => None,
            };
            if let Some(ended) = ended {
                ended?;
            }
            self.observe().await?;
        }
    }

    /// Reads messages until the pod is to end sooner than in `grace` seconds. The status follows meanwhile.
    async fn until_hurried(&mut self, grace: i64) {
        loop {
            match self.inbox.recv().await {
                Some(message) => self.take(message),
                None => std::future::pending().await,
            }
            if spec::grace_seconds(&self.pod) < grace {
                return;
            }
            let reported = match self.observe().await {
                Ok(()) => self.report().await,
                Err(error) => Err(error),
            };
            if let Err(error) = reported {
                tracing::debug!(
                    error = crate::describe(&error),
                    "status of a pod that ends could not be told"
                );
            }
        }
    }

    /// Removes volumes and cgroups. The API is told of the end only after this.
    async fn clean_up(&mut self) -> Result<(), Error> {
        self.context.volumes.remove(spec::uid(&self.pod)).await?;
        let path = cgroups::pod_path(&self.context.config.cgroup_parent, &self.pod);
        if let Err(error) = self.context.cgroups.remove(&path) {
            tracing::debug!(path, %error, "a cgroup is still there");
        }
        Ok(())
    }

    async fn remove_runs(&mut self) -> Result<(), Error> {
        for id in self.observed.instances.iter().map(|run| run.id.clone()).collect::<Vec<_>>() {
            self.unlink_log(&id);
        }
        for sandbox in &self.observed.sandboxes {
            self.context.runtime.remove_sandbox(&sandbox.id).await?;
        }
        let folder = logs::pod_folder(&self.context.config.log_dir, &self.pod);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::File { path: folder, source });
            }
            _ => {}
        }
        let path = cgroups::pod_path(&self.context.config.cgroup_parent, &self.pod);
        // With the sandbox gone nothing keeps it busy any more.
        let _ = self.context.cgroups.remove(&path);
        Ok(())
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What is needed to end containers, apart from the worker, so that it can listen meanwhile.
struct Killing {
    context: Arc<Context>,
    pod: Arc<Pod>,
    ip: String,
    hooked: Arc<parking_lot::Mutex<std::collections::HashSet<String>>>,
}

impl Killing {
    /// All at once, and after them the sidecars, last started first.
    async fn kill_all(&self, running: Vec<Instance>, grace: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + grace;
        let members = spec::members(&self.pod);
        let place = |run: &Instance| {
            members.iter().position(|member| member.role == Role::Sidecar && member.name() == run.name)
        };
        let (mut sidecars, others): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|run| place(run).is_some());
        sidecars.sort_by_key(|run| std::cmp::Reverse(place(run)));
        let ended = futures::future::join_all(others.iter().map(|run| self.kill(run, grace))).await;
        ended.into_iter().collect::<Result<(), _>>()?;
        for run in &sidecars {
            let left = deadline.saturating_duration_since(Instant::now()).max(LEAST);
            self.kill(run, left).await?;
        }
        Ok(())
    }

    /// The hook before the end, once, then the request to end, then the kill.
    async fn kill(&self, run: &Instance, grace: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let members = spec::members(&self.pod);
        let member = members.iter().find(|member| member.name() == run.name);
        let hook = member
            .and_then(|member| member.container.lifecycle.as_ref())
            .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let (Some(member), Some(hook)) = (member, hook)
            && self.hooked.lock().insert(run.id.clone())
        {
            let target = Target {
                id: run.id.clone(),
                ip: self.ip.clone(),
                container: Arc::new(member.container.clone()),
            };
            if let Err(message) = hooks::run(&*self.context.runtime, &target, hook, grace).await {
                let text = format!("PreStopHook failed: {message}");
                let path = Some(member.field_path());
                self.context.recorder.pod(&self.pod, path, Severity::Warning, "FailedPreStopHook", text);
            }
        }
        let left = if hook.is_some() { grace.saturating_sub(began.elapsed()).max(LEAST) } else { grace };
        Ok(self.context.runtime.stop_container(&run.id, left.min(grace.max(LEAST))).await?)
    }
}
