//! What a pod's spec means to the runtime: pure functions from `Pod` to CRI messages.
//!
//! Owns names, labels, environment, resources, security and DNS. Owns no I/O: values that must be fetched
//! (ConfigMaps, Secrets, addresses) are passed in.

pub mod container;
pub mod dns;
pub mod env;
pub mod fields;
pub mod hosts;
pub mod quantity;
pub mod resources;
pub mod sandbox;
pub mod security;
pub mod service_env;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// If its exit code was not zero.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with `code` is to run again.
    pub fn wants_restart(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// Part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    /// One of `spec.containers`.
    App,
    /// Added to a running pod; runs once.
    Ephemeral,
}

/// A container of a pod with the part it plays.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its spec. Of ephemeral containers, the fields they share with the others.
    pub container: &'a Container,
    /// Its part.
    pub role: Role,
}

impl Member<'_> {
    /// Name, unique in the pod.
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// Path of the container in its pod, as events name it.
    pub fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::App => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.name())
    }
}

/// A pod's containers in the order in which they start, ephemeral ones last.
pub fn members(pod: &Pod) -> Vec<Member<'_>> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        Member { container, role: if sidecar { Role::Sidecar } else { Role::Init } }
    });
    let app = spec.containers.iter().map(|container| Member { container, role: Role::App });
    init.chain(app).collect()
}

/// An ephemeral container as an ordinary one. Probes, ports and resources do not exist for them.
pub fn from_ephemeral(ephemeral: &EphemeralContainer) -> Container {
    Container {
        args: ephemeral.args.clone(),
        command: ephemeral.command.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        name: ephemeral.name.clone(),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        tty: ephemeral.tty,
        volume_mounts: ephemeral.volume_mounts.clone(),
        working_dir: ephemeral.working_dir.clone(),
        ..Container::default()
    }
}

/// The policy for the container: its own, or the pod's.
pub fn restart_policy(pod: &Pod, member: Member<'_>) -> RestartPolicy {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    match member.role {
        Role::Sidecar => RestartPolicy::Always,
        Role::Ephemeral => RestartPolicy::Never,
        // An init container of a pod that always restarts runs again until it succeeds once.
        Role::Init => match RestartPolicy::parse(member.container.restart_policy.as_deref().or(of_pod)) {
            RestartPolicy::Never => RestartPolicy::Never,
            _ => RestartPolicy::OnFailure,
        },
        Role::App => RestartPolicy::parse(member.container.restart_policy.as_deref().or(of_pod)),
    }
}

/// Namespace of the pod.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

/// Name of the pod.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Uid of the pod.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether the pod uses the node's network.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).is_some_and(|spec| spec.host_network == Some(true))
}

/// The spec, which every pod from the API has.
pub fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// Seconds between the request to end and the kill: what deletion asked for, or the pod's own.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let own = spec(pod).and_then(|spec| spec.termination_grace_period_seconds);
    let asked = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    // The runtime is always given a moment, as upstream's kubelet does.
    asked.or(own).unwrap_or(30).max(1)
}

/// Whether the API's status says that the pod has come to its end.
pub fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}
