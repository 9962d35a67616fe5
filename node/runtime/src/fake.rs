//! A runtime without containers, for tests: it keeps what CRI would show and does what it is told.
//!
//! It passes the same suite as the real one (`tests/suite.rs`). Its clock is tokio's, so that tests run on
//! paused time; [`FakeRuntime::now`] gives it in Unix nanoseconds.

mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_cri::v1 as cri;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::{Error, Event, EventKind, Result, Runtime, Streams};
use state::State;

/// Unix time at which every fake begins (2026-01-01T00:00:00Z).
pub const EPOCH_SECONDS: i64 = 1_767_225_600;

/// What commands run in a container answer: container name and command in, answer out.
pub type ExecAnswer = dyn Fn(&str, &[String]) -> Result<cri::ExecSyncResponse> + Send + Sync;

/// A runtime in memory.
#[derive(Clone)]
pub struct FakeRuntime {
    started: Instant,
    state: Arc<Mutex<State>>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { started: Instant::now(), state: Arc::default() }
    }
}

impl FakeRuntime {
    /// The fake's time in Unix nanoseconds.
    pub fn now(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX / 2);
        EPOCH_SECONDS * 1_000_000_000 + elapsed
    }

    /// Puts an image on the node.
    pub fn add_image(&self, name: &str) {
        self.state.lock().images.insert(name.to_owned());
    }

    /// Lets an image be pulled.
    pub fn offer_image(&self, name: &str) {
        self.state.lock().offered.insert(name.to_owned());
    }

    /// Ends a container's process with an exit code.
    pub fn exit(&self, id: &str, code: i32) {
        let now = self.now();
        self.state.lock().exit(id, code, now);
    }

    /// Ends the running container of this name, in whichever sandbox, and returns whether there was one.
    pub fn exit_named(&self, name: &str, code: i32) -> bool {
        let id = self.state.lock().running(name);
        if let Some(id) = &id {
            self.exit(id, code);
        }
        id.is_some()
    }

    /// Makes containers of this name ignore the request to end, so that they are killed after their grace.
    pub fn ignore_term(&self, name: &str) {
        self.state.lock().stubborn.insert(name.to_owned());
    }

    /// Makes the next call of this CRI name fail.
    pub fn fail_next(&self, call: &'static str, message: &str) {
        self.state.lock().failures.push((call, message.to_owned()));
    }

    /// Answers commands run in containers. Without it they succeed and say nothing.
    pub fn answer_exec(
        &self,
        answer: impl Fn(&str, &[String]) -> Result<cri::ExecSyncResponse> + Send + Sync + 'static,
    ) {
        self.state.lock().exec = Some(Arc::new(answer));
    }

    /// Lets streams be found below this address, such as `http://127.0.0.1:4321`. Without it nobody is there.
    pub fn streams_at(&self, base: &str) {
        self.state.lock().streams = Some(base.to_owned());
    }

    fn stream(&self, kind: &str) -> String {
        let state = self.state.lock();
        format!("{}/{kind}/fake", state.streams.as_deref().unwrap_or("http://127.0.0.1:1"))
    }

    /// Takes a sandbox down behind the node's back, as a crash of its first process does.
    pub fn kill_sandbox(&self, id: &str) {
        let now = self.now();
        self.state.lock().stop_sandbox(id, now);
    }

    /// The calls that changed something, in order: `StartContainer app`.
    pub fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// Configuration with which the newest container of this name was made.
    pub fn config_of(&self, name: &str) -> Option<cri::ContainerConfig> {
        self.state.lock().config_of(name)
    }

    fn enter(&self, call: &'static str, what: &str) -> Result<()> {
        let mut state = self.state.lock();
        state.calls.push(format!("{call} {what}"));
        state.take_failure(call)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn version(&self) -> Result<cri::VersionResponse> {
        Ok(cri::VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0".into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self) -> Result<cri::RuntimeStatus> {
        let ready = |kind: &str| cri::RuntimeCondition {
            r#type: kind.into(),
            status: true,
            reason: String::new(),
            message: String::new(),
        };
        Ok(cri::RuntimeStatus { conditions: vec![ready("RuntimeReady"), ready("NetworkReady")] })
    }

    async fn pull_image(&self, image: &str, _: Option<cri::AuthConfig>) -> Result<String> {
        self.enter("PullImage", image)?;
        let mut state = self.state.lock();
        if !state.offered.contains(image) {
            return Err(Error::NotFound { call: "PullImage", message: format!("{image} is not offered") });
        }
        state.images.insert(image.to_owned());
        Ok(state::digest(image))
    }

    async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        Ok(self.state.lock().images.get(image).map(|name| state::image(name)))
    }

    async fn images(&self) -> Result<Vec<cri::Image>> {
        Ok(self.state.lock().images.iter().map(|name| state::image(name)).collect())
    }

    async fn remove_image(&self, image: &str) -> Result<()> {
        self.enter("RemoveImage", image)?;
        self.state.lock().images.remove(image);
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<cri::ImageFsInfoResponse> {
        Ok(cri::ImageFsInfoResponse::default())
    }

    async fn run_sandbox(&self, config: cri::PodSandboxConfig, _: &str) -> Result<String> {
        let name = config.metadata.clone().unwrap_or_default().name;
        self.enter("RunPodSandbox", &name)?;
        let now = self.now();
        Ok(self.state.lock().run_sandbox(config, now))
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.enter("StopPodSandbox", id)?;
        self.kill_sandbox(id);
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.enter("RemovePodSandbox", id)?;
        self.state.lock().remove_sandbox(id);
        Ok(())
    }

    async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        self.state.lock().sandbox_status(id)
    }

    async fn sandboxes(&self, filter: Option<cri::PodSandboxFilter>) -> Result<Vec<cri::PodSandbox>> {
        Ok(self.state.lock().list_sandboxes(filter.as_ref()))
    }

    async fn sandbox_netns(&self, id: &str) -> Result<Option<PathBuf>> {
        self.state.lock().sandbox_status(id)?;
        Ok(None)
    }

    async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        _: cri::PodSandboxConfig,
    ) -> Result<String> {
        let name = config.metadata.clone().unwrap_or_default().name;
        self.enter("CreateContainer", &name)?;
        let now = self.now();
        self.state.lock().create_container(sandbox, config, now)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let name = self.state.lock().name_of(id)?;
        self.enter("StartContainer", &name)?;
        let now = self.now();
        self.state.lock().start_container(id, now)
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let Ok(name) = self.state.lock().name_of(id) else { return Ok(()) };
        self.enter("StopContainer", &format!("{name} {}s", grace.as_secs()))?;
        let stubborn = self.state.lock().stubborn.contains(&name);
        if stubborn {
            tokio::time::sleep(grace).await;
        }
        self.exit(id, if stubborn { 137 } else { 143 });
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        let Ok(name) = self.state.lock().name_of(id) else { return Ok(()) };
        self.enter("RemoveContainer", &name)?;
        self.state.lock().remove_container(id);
        Ok(())
    }

    async fn containers(&self, filter: Option<cri::ContainerFilter>) -> Result<Vec<cri::Container>> {
        Ok(self.state.lock().list_containers(filter.as_ref()))
    }

    async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        self.state.lock().container_status(id)
    }

    async fn update_container(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<()> {
        let name = self.state.lock().name_of(id)?;
        let cri::LinuxContainerResources { cpu_shares, cpu_quota, memory_limit_in_bytes, .. } = resources;
        let given = format!("{name} shares {cpu_shares} quota {cpu_quota} memory {memory_limit_in_bytes}");
        self.enter("UpdateContainerResources", &given)
    }

    async fn container_stats(
        &self,
        _: Option<cri::ContainerStatsFilter>,
    ) -> Result<Vec<cri::ContainerStats>> {
        Ok(Vec::new())
    }

    async fn reopen_log(&self, id: &str) -> Result<()> {
        let name = self.state.lock().name_of(id)?;
        self.enter("ReopenContainerLog", &name)
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, _: Duration) -> Result<cri::ExecSyncResponse> {
        let (name, exec) = {
            let state = self.state.lock();
            (state.name_of(id)?, state.exec.clone())
        };
        self.enter("ExecSync", &format!("{name} {}", command.join(" ")))?;
        exec.map_or_else(|| Ok(cri::ExecSyncResponse::default()), |answer| answer(&name, &command))
    }

    async fn exec_url(&self, id: &str, _: Vec<String>, _: Streams) -> Result<String> {
        self.state.lock().name_of(id)?;
        Ok(self.stream("exec"))
    }

    async fn attach_url(&self, id: &str, _: Streams) -> Result<String> {
        self.state.lock().name_of(id)?;
        Ok(self.stream("attach"))
    }

    async fn port_forward_url(&self, sandbox: &str, _: Vec<u16>) -> Result<String> {
        self.state.lock().sandbox_status(sandbox)?;
        Ok(self.stream("portforward"))
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.lock().listeners.push(sender);
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|event: Event| (event, receiver))
        });
        Ok(stream.boxed())
    }
}

impl State {
    fn tell(&mut self, id: &str, kind: EventKind) {
        let event = Event { id: id.to_owned(), kind };
        self.listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }
}
