//! Starting: the sandbox, a container with its image, environment and mounts, its hook and its probes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use skep_runtime::cri;

use super::{Message, Worker, is_probed};
use crate::images::{self, PullPolicy};
use crate::observe::{Instance, State};
use crate::plan::{Health, Hold, SANDBOX};
use crate::probes::{self, Begin, Target};
use crate::recorder::Severity;
use crate::spec::container::ContainerContext;
use crate::spec::env::{Contents, Environment, Reference};
use crate::spec::{self, Member, Role};
use crate::{Error, cgroups, hooks, logs};

/// How long after a failure a container is tried again, if nothing wakes the pod before.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(10);
/// How long a failed pull is shown as such before it is shown as held back.
const SHOW_ERROR: SignedDuration = SignedDuration::from_secs(3);
/// Most time for a hook after the start.
const POST_START: Duration = Duration::from_secs(600);

/// Why a container could not be started, for status and events.
struct Failure {
    reason: &'static str,
    event: &'static str,
    message: String,
    until: Option<Timestamp>,
}

impl Failure {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, event: "Failed", message: message.into(), until: None }
    }
}

impl Worker {
    pub(super) fn sandbox_config(&self, attempt: u32) -> cri::PodSandboxConfig {
        let config = &self.context.config;
        let node = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let dns = spec::dns::for_pod(&self.pod, &self.context.cluster_dns(), &spec::dns::parse(&node));
        let context = spec::sandbox::SandboxContext {
            cgroup_parent: cgroups::pod_path(&config.cgroup_parent, &self.pod),
            log_directory: logs::pod_folder(&config.log_dir, &self.pod).display().to_string(),
            dns,
        };
        spec::sandbox::config(&self.pod, &context, attempt)
    }

    pub(super) async fn create_sandbox(&mut self, attempt: u32) -> Result<(), Error> {
        let config = self.sandbox_config(attempt);
        let folder = std::path::PathBuf::from(&config.log_directory);
        tokio::fs::create_dir_all(&folder).await.map_err(|source| Error::File { path: folder, source })?;
        let parent = config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default();
        if let Err(error) = self.context.cgroups.prepare(&parent, &self.pod) {
            // The runtime makes the cgroup too; only the pod's own limits are missing then.
            tracing::warn!(pod = spec::name(&self.pod), %error, "the pod's cgroup limits could not be set");
        }
        let class =
            self.pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.clone()).unwrap_or_default();
        match self.context.runtime.run_sandbox(config, &class).await {
            Ok(_) => {
                self.holds.remove(SANDBOX);
            }
            Err(error) => {
                let message = crate::describe(&error);
                let text = format!("Failed to create pod sandbox: {message}");
                self.tell("", Severity::Warning, "FailedCreatePodSandBox", text);
                let until = self.now().saturating_add(super::RETRY).unwrap_or(Timestamp::MAX);
                let hold = Hold { reason: "FailedCreatePodSandBox".into(), message, until };
                self.holds.insert(SANDBOX.to_owned(), hold);
            }
        }
        Ok(())
    }

    /// Starts a container. Failures are noted for the status; the plan tries again.
    pub(super) async fn start(
        &mut self,
        name: &str,
        attempt: u32,
        after: Option<Timestamp>,
    ) -> Result<(), Error> {
        let pod = self.pod.clone();
        let ephemeral = self.ephemeral.clone();
        let members = spec::members(&pod);
        let added = ephemeral.iter().map(|container| Member { container, role: Role::Ephemeral });
        let Some(member) = members.into_iter().chain(added).find(|member| member.name() == name) else {
            return Ok(());
        };
        match self.try_start(member, attempt).await {
            Ok(()) => {
                self.holds.remove(name);
                self.context.metrics.started_containers.inc();
                if let Some(after) = after {
                    self.backoff.advance(name, after, self.now());
                }
            }
            Err(failure) => {
                self.context.metrics.start_errors.with_label_values(&[failure.reason]).inc();
                let later = self.now().saturating_add(TRY_AGAIN).unwrap_or(Timestamp::MAX);
                let until = failure.until.unwrap_or(later);
                let held_before = self.holds.get(name).is_some_and(|hold| hold.reason == failure.reason);
                let back_off = failure.event == "BackOff";
                let severity = if back_off { Severity::Normal } else { Severity::Warning };
                if !back_off || !held_before {
                    self.tell(name, severity, failure.event, failure.message.clone());
                }
                let hold = Hold { reason: failure.reason.into(), message: failure.message, until };
                self.holds.insert(name.to_owned(), hold);
            }
        }
        Ok(())
    }

    async fn try_start(&mut self, member: Member<'_>, attempt: u32) -> Result<(), Failure> {
        let pod = self.pod.clone();
        let Some(sandbox) = self.observed.sandbox().cloned() else {
            return Err(Failure::new("CreateContainerError", "the sandbox is gone"));
        };
        let (image_ref, user) = self.ensure_image(member).await?;
        let config_error = |message: String| Failure::new("CreateContainerConfigError", message);
        let environment = self.environment(member).await.map_err(config_error)?;
        let security =
            spec::security::context(&pod, member.container, user.as_ref()).map_err(config_error)?;
        let mounts = self
            .mounts(member, &environment, attempt)
            .await
            .map_err(|error| Failure::new("CreateContainerConfigError", crate::describe(&error)))?;
        let context = ContainerContext {
            image_ref: &image_ref,
            environment: &environment,
            mounts,
            security,
            node_memory: self.context.allocatable.1,
        };
        let config = spec::container::config(&pod, member, context, attempt);
        let runtime = self.context.runtime.clone();
        let made = runtime.create_container(&sandbox.id, config, self.sandbox_config(sandbox.attempt)).await;
        let id = made.map_err(|error| Failure::new("CreateContainerError", error.to_string()))?;
        self.tell(
            member.name(),
            Severity::Normal,
            "Created",
            format!("Container created: {}", member.name()),
        );
        if let Err(error) = runtime.start_container(&id).await {
            return Err(Failure::new("RunContainerError", error.to_string()));
        }
        self.tell(
            member.name(),
            Severity::Normal,
            "Started",
            format!("Container started: {}", member.name()),
        );
        self.link_log(member.name(), &id, attempt);
        self.post_start(member, &id).await;
        Ok(())
    }

    async fn post_start(&mut self, member: Member<'_>, id: &str) {
        let hook = member.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let Some(hook) = hook else { return };
        let target = self.target(member, id);
        if let Err(message) = hooks::run(&*self.context.runtime, &target, hook, POST_START).await {
            let text = format!("PostStartHook failed: {message}");
            self.tell(member.name(), Severity::Warning, "FailedPostStartHook", text);
            if let Err(error) = self.kill(id, member.name(), "FailedPostStartHook").await {
                tracing::warn!(error = crate::describe(&error), "a container could not be killed");
            }
        }
    }

    pub(super) fn target(&self, member: Member<'_>, id: &str) -> Target {
        Target {
            id: id.to_owned(),
            ip: self.pod_ips.first().cloned().unwrap_or_default(),
            container: Arc::new(member.container.clone()),
        }
    }

    /// The image's reference and its user; pulls it if its policy says so.
    async fn ensure_image(
        &mut self,
        member: Member<'_>,
    ) -> Result<(String, Option<spec::security::ImageUser>), Failure> {
        let image = member.container.image.clone().unwrap_or_default();
        let runtime = self.context.runtime.clone();
        let inspect = async || {
            let found = runtime.image_status(&image).await;
            found.map_err(|error| Failure::new("ImageInspectError", error.to_string()))
        };
        let policy = images::pull_policy(member.container);
        let present = inspect().await?;
        if policy != PullPolicy::Always
            && let Some(found) = &present
        {
            let text = format!("Container image {image:?} already present on machine");
            self.tell(member.name(), Severity::Normal, "Pulled", text);
            return Ok((found.id.clone(), images::user(found)));
        }
        if policy == PullPolicy::Never {
            let text = format!("Container image {image:?} is not present with pull policy of Never");
            return Err(Failure { event: "ErrImageNeverPull", ..Failure::new("ErrImageNeverPull", text) });
        }
        self.pull(member.name(), &image).await?;
        match inspect().await? {
            Some(found) => Ok((found.id.clone(), images::user(&found))),
            None => {
                Err(Failure::new("ImageInspectError", format!("image {image:?} vanished after its pull")))
            }
        }
    }

    async fn pull(&mut self, name: &str, image: &str) -> Result<(), Failure> {
        let now = self.now();
        let held = self.holds.get(name).map(|hold| hold.reason.clone()).unwrap_or_default();
        if held == "ErrImagePull"
            && let Some((until, _)) = self.image_backoff.until(image, now).filter(|(until, _)| *until > now)
        {
            let text = format!("Back-off pulling image {image:?}");
            let failure =
                Failure { event: "BackOff", until: Some(until), ..Failure::new("ImagePullBackOff", text) };
            return Err(failure);
        }
        self.tell(name, Severity::Normal, "Pulling", format!("Pulling image {image:?}"));
        let auth = self.credentials(image).await;
        let runtime = self.context.runtime.clone();
        let pulled = tokio::select! {
            pulled = runtime.pull_image(image, auth) => pulled,
            () = self.until_ending() => {
                return Err(Failure::new("ErrImagePull", "the pod is being deleted"));
            }
        };
        let took = self.now().duration_since(now);
        match pulled {
            Ok(_) => {
                self.image_backoff.forget(image);
                let text = format!("Successfully pulled image {image:?} in {took:#}");
                self.tell(name, Severity::Normal, "Pulled", text);
                Ok(())
            }
            Err(error) => {
                let failed_at = self.now();
                self.image_backoff.advance(image, failed_at, failed_at);
                let until = failed_at.saturating_add(SHOW_ERROR).ok();
                let text = format!("Failed to pull image {image:?}: {}", crate::describe(&error));
                Err(Failure { until, ..Failure::new("ErrImagePull", text) })
            }
        }
    }

    /// Reads messages until one says that the pod is to end.
    async fn until_ending(&mut self) {
        while !self.is_ending() {
            match self.inbox.recv().await {
                Some(message) => self.take(message),
                None => std::future::pending().await,
            }
        }
    }

    async fn credentials(&self, image: &str) -> Option<cri::AuthConfig> {
        let secrets = self.pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_ref());
        for secret in secrets.into_iter().flatten() {
            let reference = Reference::Secret(secret.name.clone());
            let data = self.context.cluster.contents(&self.pod, &reference).await.ok().flatten();
            if let Some(auth) = data.and_then(|data| images::credentials(image, &data)) {
                return Some(auth);
            }
        }
        None
    }

    async fn environment(&self, member: Member<'_>) -> Result<Environment, String> {
        let cluster = &self.context.cluster;
        let mut contents = Contents::new();
        for reference in spec::env::references(member.container) {
            let found = cluster.contents(&self.pod, &reference).await;
            if let Some(data) = found.map_err(|error| crate::describe(&error))? {
                contents.insert(reference, (*data).clone());
            }
        }
        let services = cluster.services().await.map_err(|error| crate::describe(&error))?;
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let services = spec::service_env::variables(
            services.iter().map(|service| &**service),
            spec::namespace(&self.pod),
            links,
        );
        spec::env::environment(&self.pod, member.container, &self.facts(), &contents, &services)
    }

    async fn mounts(
        &self,
        member: Member<'_>,
        environment: &Environment,
        attempt: u32,
    ) -> Result<Vec<cri::Mount>, Error> {
        let context = &self.context;
        let node = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let text = spec::hosts::render(&self.pod, &self.pod_ips, &node, &context.config.cluster_domain);
        let hosts = context.volumes.write_hosts(&self.pod, &text).await?;
        let prepared = self.prepared.clone().unwrap_or_default();
        let expand = |expression: &str| spec::env::expand(expression, |name| environment.get(name));
        context.volumes.mounts(&self.pod, member.container, &prepared, expand, &hosts, attempt).await
    }

    /// Begins to look after a container that runs.
    pub(super) fn begin_probes(&mut self, run: &Instance) {
        let pod = self.pod.clone();
        let member = spec::members(&pod).into_iter().find(|member| member.name() == run.name);
        let Some(member) = member.filter(|member| is_probed(member.role)) else {
            self.health.insert(run.id.clone(), Health { started: true, ready: true, failed: None });
            return;
        };
        let id = format!("{}://{}", self.context.runtime_name, run.id);
        let status = self.status_before();
        let lists = [&status.init_container_statuses, &status.container_statuses];
        let known =
            lists.into_iter().flatten().flatten().find(|known| known.container_id.as_ref() == Some(&id));
        let container = member.container;
        let started =
            container.startup_probe.is_none() || known.is_some_and(|known| known.started == Some(true));
        let was_ready = known.is_some_and(|known| known.ready);
        let ready = container.readiness_probe.is_none() || was_ready;
        self.health.insert(run.id.clone(), Health { started, ready, failed: None });
        if !probes::any(container) {
            return;
        }
        let age = match run.state {
            State::Running { started_at } => self.now().duration_since(started_at),
            _ => SignedDuration::ZERO,
        };
        let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
        let begin = Begin { age, started, ready: was_ready };
        let (prober, target) = (self.context.prober.clone(), self.target(member, &run.id));
        let sender = self.sender.clone();
        let follow = async move {
            let report = |report| {
                // Without a receiver the worker is gone, and this task soon too.
                let _ = sender.send(Message::Probe(report));
            };
            probes::follow(prober, target, begin, report).await;
        };
        self.probes.insert(run.id.clone(), tokio::spawn(follow).abort_handle());
    }

    /// Makes the link by which log collectors find the container's log.
    fn link_log(&self, name: &str, id: &str, attempt: u32) {
        let config = &self.context.config;
        let log = logs::pod_folder(&config.log_dir, &self.pod).join(spec::container::log_path(name, attempt));
        let link = config.link_dir.join(logs::link_name(&self.pod, name, id));
        let made =
            std::fs::create_dir_all(&config.link_dir).and_then(|()| std::os::unix::fs::symlink(log, &link));
        if let Err(error) = made {
            tracing::debug!(link = %link.display(), %error, "the log's link could not be made");
        }
    }

    /// Removes the link again.
    pub(super) fn unlink_log(&self, id: &str) {
        if let Some(run) = self.observed.instances.iter().find(|run| run.id == id) {
            let link = logs::link_name(&self.pod, &run.name, id);
            // It may never have been made.
            let _ = std::fs::remove_file(self.context.config.link_dir.join(link));
        }
    }
}
