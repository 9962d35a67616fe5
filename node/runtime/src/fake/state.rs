//! What the fake keeps: sandboxes, containers, images, and what it was told to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_cri::v1 as cri;
use tokio::sync::mpsc;

use super::ExecAnswer;
use crate::{Error, Event, EventKind, Result};

#[derive(Default)]
pub(super) struct State {
    pub(super) images: BTreeSet<String>,
    pub(super) offered: BTreeSet<String>,
    pub(super) stubborn: BTreeSet<String>,
    pub(super) failures: Vec<(&'static str, String)>,
    pub(super) exec: Option<Arc<ExecAnswer>>,
    pub(super) calls: Vec<String>,
    pub(super) streams: Option<String>,
    pub(super) listeners: Vec<mpsc::UnboundedSender<Event>>,
    sandboxes: BTreeMap<String, Sandbox>,
    containers: BTreeMap<String, Container>,
    made: u32,
}

struct Sandbox {
    config: cri::PodSandboxConfig,
    ready: bool,
    created: i64,
    address: String,
}

struct Container {
    sandbox: String,
    config: cri::ContainerConfig,
    status: cri::ContainerStatus,
}

impl State {
    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}-{:04}", self.made)
    }

    pub(super) fn take_failure(&mut self, call: &'static str) -> Result<()> {
        match self.failures.iter().position(|(failing, _)| *failing == call) {
            Some(index) => {
                let message = self.failures.remove(index).1;
                Err(Error::Call { call, code: tonic::Code::Unknown, message })
            }
            None => Ok(()),
        }
    }

    pub(super) fn run_sandbox(&mut self, config: cri::PodSandboxConfig, now: i64) -> String {
        let id = self.next("sandbox");
        let address = format!("10.244.0.{}", 1 + self.made % 250);
        self.sandboxes.insert(id.clone(), Sandbox { config, ready: true, created: now, address });
        self.tell(&id, EventKind::Started);
        id
    }

    pub(super) fn stop_sandbox(&mut self, id: &str, now: i64) {
        let Some(sandbox) = self.sandboxes.get_mut(id) else { return };
        let was_ready = std::mem::replace(&mut sandbox.ready, false);
        let inside: Vec<String> =
            self.containers.iter().filter(|(_, c)| c.sandbox == id).map(|(id, _)| id.clone()).collect();
        for container in inside {
            self.exit(&container, 137, now);
        }
        if was_ready {
            self.tell(id, EventKind::Exited);
        }
    }

    pub(super) fn remove_sandbox(&mut self, id: &str) {
        if self.sandboxes.remove(id).is_some() {
            self.containers.retain(|_, container| container.sandbox != id);
            self.tell(id, EventKind::Removed);
        }
    }

    pub(super) fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let sandbox = self.sandboxes.get(id).ok_or_else(|| not_found("PodSandboxStatus", id))?;
        let ip = if sandbox.ready { sandbox.address.clone() } else { String::new() };
        Ok(cri::PodSandboxStatus {
            id: id.to_owned(),
            metadata: sandbox.config.metadata.clone(),
            state: i32::from(!sandbox.ready),
            created_at: sandbox.created,
            network: Some(cri::PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            ..Default::default()
        })
    }

    pub(super) fn list_sandboxes(&self, filter: Option<&cri::PodSandboxFilter>) -> Vec<cri::PodSandbox> {
        let all = self.sandboxes.iter().map(|(id, sandbox)| cri::PodSandbox {
            id: id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: i32::from(!sandbox.ready),
            created_at: sandbox.created,
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
            runtime_handler: String::new(),
        });
        let wanted = |item: &cri::PodSandbox| {
            filter.is_none_or(|filter| {
                (filter.id.is_empty() || filter.id == item.id)
                    && filter.state.is_none_or(|state| state.state == item.state)
                    && selects(&filter.label_selector, &item.labels)
            })
        };
        all.filter(wanted).collect()
    }

    pub(super) fn create_container(
        &mut self,
        sandbox: &str,
        config: cri::ContainerConfig,
        now: i64,
    ) -> Result<String> {
        if !self.sandboxes.get(sandbox).is_some_and(|sandbox| sandbox.ready) {
            return Err(not_found("CreateContainer", sandbox));
        }
        let image = config.image.clone().unwrap_or_default();
        if !self.images.contains(&image.image) && !self.images.iter().any(|name| digest(name) == image.image)
        {
            return Err(not_found("CreateContainer", &image.image));
        }
        let taken =
            self.containers.values().any(|c| c.sandbox == sandbox && c.config.metadata == config.metadata);
        if taken {
            let message = "name is reserved".to_owned();
            return Err(Error::Call { call: "CreateContainer", code: tonic::Code::AlreadyExists, message });
        }
        let id = self.next("container");
        let status = cri::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: cri::ContainerState::ContainerCreated as i32,
            created_at: now,
            image_ref: digest(&image.image),
            image: Some(image),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: config.log_path.clone(),
            ..Default::default()
        };
        self.containers.insert(id.clone(), Container { sandbox: sandbox.to_owned(), config, status });
        Ok(id)
    }

    pub(super) fn start_container(&mut self, id: &str, now: i64) -> Result<()> {
        let container = self.containers.get_mut(id).ok_or_else(|| not_found("StartContainer", id))?;
        if container.status.state != cri::ContainerState::ContainerCreated as i32 {
            let message = "the container is not in the created state".to_owned();
            return Err(Error::Call {
                call: "StartContainer",
                code: tonic::Code::FailedPrecondition,
                message,
            });
        }
        container.status.state = cri::ContainerState::ContainerRunning as i32;
        container.status.started_at = now;
        self.tell(id, EventKind::Started);
        Ok(())
    }

    pub(super) fn exit(&mut self, id: &str, code: i32, now: i64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let status = &mut container.status;
        if status.state == cri::ContainerState::ContainerExited as i32 {
            return;
        }
        status.state = cri::ContainerState::ContainerExited as i32;
        status.finished_at = now;
        status.exit_code = code;
        status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        self.tell(id, EventKind::Exited);
    }

    pub(super) fn remove_container(&mut self, id: &str) {
        if self.containers.remove(id).is_some() {
            self.tell(id, EventKind::Removed);
        }
    }

    pub(super) fn list_containers(&self, filter: Option<&cri::ContainerFilter>) -> Vec<cri::Container> {
        let all = self.containers.values().map(|container| cri::Container {
            id: container.status.id.clone(),
            pod_sandbox_id: container.sandbox.clone(),
            metadata: container.status.metadata.clone(),
            image: container.status.image.clone(),
            image_ref: container.status.image_ref.clone(),
            state: container.status.state,
            created_at: container.status.created_at,
            labels: container.status.labels.clone(),
            annotations: container.status.annotations.clone(),
            image_id: String::new(),
        });
        let wanted = |item: &cri::Container| {
            filter.is_none_or(|filter| {
                (filter.id.is_empty() || filter.id == item.id)
                    && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == item.pod_sandbox_id)
                    && filter.state.is_none_or(|state| state.state == item.state)
                    && selects(&filter.label_selector, &item.labels)
            })
        };
        all.filter(wanted).collect()
    }

    pub(super) fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let container = self.containers.get(id).ok_or_else(|| not_found("ContainerStatus", id))?;
        Ok(container.status.clone())
    }

    pub(super) fn name_of(&self, id: &str) -> Result<String> {
        let container = self.containers.get(id).ok_or_else(|| not_found("container", id))?;
        Ok(container.config.metadata.clone().unwrap_or_default().name)
    }

    pub(super) fn running(&self, name: &str) -> Option<String> {
        let running = cri::ContainerState::ContainerRunning as i32;
        let named = |c: &&Container| c.config.metadata.as_ref().is_some_and(|m| m.name == name);
        self.containers
            .values()
            .filter(named)
            .find(|c| c.status.state == running)
            .map(|c| c.status.id.clone())
    }

    pub(super) fn config_of(&self, name: &str) -> Option<cri::ContainerConfig> {
        let named = |c: &&Container| c.config.metadata.as_ref().is_some_and(|m| m.name == name);
        self.containers.values().rfind(named).map(|c| c.config.clone())
    }
}

pub(super) fn digest(name: &str) -> String {
    format!("sha256:{name}")
}

pub(super) fn image(name: &str) -> cri::Image {
    cri::Image {
        id: digest(name),
        repo_tags: vec![name.to_owned()],
        repo_digests: vec![format!("{name}@{}", digest(name))],
        size: 1024,
        ..Default::default()
    }
}

fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn not_found(call: &'static str, id: &str) -> Error {
    Error::NotFound { call, message: format!("{id} does not exist") }
}
