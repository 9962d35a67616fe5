//! Statuses of single containers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Inputs, whole_second};
use crate::observe::{Instance, State};
use crate::spec::{self, Member, Role};

/// Whether all init containers have done their part in the newest sandbox.
pub(super) fn initialized(inputs: &Inputs<'_>) -> bool {
    let Some(sandbox) = inputs.observed.sandboxes.first() else {
        return spec::members(inputs.pod).iter().all(|member| member.role == Role::App);
    };
    let members = spec::members(inputs.pod);
    let app = |member: &&Member<'_>| member.role == Role::App;
    if members.iter().filter(app).any(|m| inputs.observed.newest_in(&sandbox.id, m.name()).is_some()) {
        return true;
    }
    members.iter().filter(|member| !app(member)).all(|member| {
        let run = inputs.observed.newest_in(&sandbox.id, member.name());
        match (member.role, run.map(|run| &run.state)) {
            (Role::Init, Some(State::Exited { code: 0, .. })) => true,
            (Role::Sidecar, Some(State::Running { .. })) => {
                run.and_then(|run| inputs.health.get(&run.id)).is_some_and(|health| health.started)
            }
            _ => false,
        }
    })
}

/// The status of one container.
pub(super) fn status(inputs: &Inputs<'_>, member: Member<'_>, initialized: bool) -> ContainerStatus {
    let mut runs = inputs.observed.runs(member.name());
    let newest = runs.next();
    let before = reported(inputs, member.name());
    let held = inputs.waiting.get(member.name()).filter(|_| !newest.is_some_and(Instance::is_running));
    let (state, last) = match (newest, held) {
        (run, Some(hold)) => {
            let last = run.filter(|run| run.is_exited());
            (waiting(&hold.reason, Some(&hold.message)), last.map(|run| state(inputs, run)))
        }
        (None, None) => (first_state(inputs, before, initialized), None),
        (Some(run), None) => (state(inputs, run), None),
    };
    let last = last
        .or_else(|| runs.find(|run| run.is_exited()).map(|run| self::state(inputs, run)))
        .or_else(|| before.and_then(|status| status.last_state.clone()));
    let health = newest.filter(|run| run.is_running()).and_then(|run| inputs.health.get(&run.id));
    let is_ready = match member.role {
        Role::Init => state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0),
        Role::Ephemeral => false,
        Role::Sidecar | Role::App => health.is_some_and(|health| health.started && health.ready),
    };
    let started = match member.role {
        Role::Ephemeral => None,
        Role::Init => Some(state.running.is_some()),
        Role::Sidecar | Role::App => Some(health.is_some_and(|health| health.started)),
    };
    let known = before.map_or(0, |status| status.restart_count);
    ContainerStatus {
        name: member.name().to_owned(),
        image: newest
            .map(|run| run.image.clone())
            .filter(|image| !image.is_empty() && !image.starts_with("sha256:"))
            .or_else(|| member.container.image.clone())
            .unwrap_or_default(),
        image_id: newest.map(|run| run.image_ref.clone()).unwrap_or_default(),
        container_id: newest.map(|run| format!("{}://{}", inputs.runtime, run.id)),
        ready: is_ready,
        started,
        restart_count: newest.map_or(known, |run| i32::try_from(run.attempt).unwrap_or(i32::MAX)),
        state: Some(state),
        last_state: Some(last.unwrap_or_default()),
        resources: inputs.resize.shown(member.container, inputs.observed),
        allocated_resources: allocated(member),
        volume_mounts: mounts(member),
        ..ContainerStatus::default()
    }
}

/// What the container was promised. An ephemeral one is promised nothing.
fn allocated(member: Member<'_>) -> Option<BTreeMap<String, Quantity>> {
    let resources = member.container.resources.as_ref().filter(|_| member.role != Role::Ephemeral);
    resources.and_then(|resources| resources.requests.clone())
}

/// Where the container has which volume. Read-only ones are so themselves, not what is mounted below them.
fn mounts(member: Member<'_>) -> Option<Vec<VolumeMountStatus>> {
    let mounts = member.container.volume_mounts.as_ref()?.iter();
    let status = |mount: &VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|is| *is),
        recursive_read_only: mount.read_only.filter(|is| *is).map(|_| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    };
    Some(mounts.map(status).collect())
}

fn reported<'a>(inputs: &'a Inputs<'_>, name: &str) -> Option<&'a ContainerStatus> {
    let status = inputs.pod.status.as_ref()?;
    let lists =
        [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

/// The state of a container that the runtime has no run of.
fn first_state(inputs: &Inputs<'_>, before: Option<&ContainerStatus>, initialized: bool) -> ContainerState {
    let old = before.and_then(|status| status.state.clone()).unwrap_or_default();
    if old.terminated.is_some() {
        return old;
    }
    let lost = old.running.is_some() || (inputs.over && before.is_some_and(|b| b.container_id.is_some()));
    if lost {
        let ended = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located in the runtime".into()),
            started_at: old.running.and_then(|running| running.started_at),
            ..ContainerStateTerminated::default()
        };
        return ContainerState { terminated: Some(ended), ..ContainerState::default() };
    }
    let reason = if initialized || !has_init(inputs) { "ContainerCreating" } else { "PodInitializing" };
    waiting(reason, None)
}

fn has_init(inputs: &Inputs<'_>) -> bool {
    spec::members(inputs.pod).iter().any(|member| member.role != Role::App)
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerState {
    let waiting =
        ContainerStateWaiting { reason: Some(reason.to_owned()), message: message.map(str::to_owned) };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn state(inputs: &Inputs<'_>, run: &Instance) -> ContainerState {
    let time = |at: jiff::Timestamp| Some(Time(whole_second(at)));
    match &run.state {
        State::Created => waiting("ContainerCreating", None),
        State::Running { started_at } => ContainerState {
            running: Some(ContainerStateRunning { started_at: time(*started_at) }),
            ..ContainerState::default()
        },
        State::Exited { started_at, finished_at, code, reason, message } => ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(format!("{}://{}", inputs.runtime, run.id)),
                exit_code: *code,
                finished_at: time(*finished_at),
                message: (!message.is_empty()).then(|| message.clone()),
                reason: Some(reason.clone()),
                signal: None,
                started_at: time(*started_at),
            }),
            ..ContainerState::default()
        },
        State::Unknown => ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(format!("{}://{}", inputs.runtime, run.id)),
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    }
}
