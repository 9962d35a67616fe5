//! A container for the runtime: command, labels, annotations, log path; and reading them back.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::cri;

use super::env::{Environment, expand};
use super::{Member, grace_seconds, resources, sandbox};

/// Annotation with the hash of the parts of the spec that force a new container when they change.
pub const HASH: &str = "io.kubernetes.container.hash";
/// Annotation with the number of times the container was restarted. Survives the agent.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation with the path of the termination message inside the container.
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation with the termination message's policy.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation with the pod's grace period in seconds, for pods that are gone from the API.
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Default path of the termination message.
pub const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";

/// What a container needs besides its spec.
#[derive(Debug)]
pub struct ContainerContext<'a> {
    /// Reference of its image on the node.
    pub image_ref: &'a str,
    /// Its variables.
    pub environment: &'a Environment,
    /// Its mounts.
    pub mounts: Vec<cri::Mount>,
    /// Its security context.
    pub security: cri::LinuxContainerSecurityContext,
    /// Memory of the node in bytes.
    pub node_memory: i64,
}

/// FNV-1a over the container's name and image, which is what a running pod's spec may change.
pub fn hash(member: Member<'_>) -> u32 {
    let container = member.container;
    let image = container.image.as_deref().unwrap_or_default();
    let text = serde_json::json!({"image": image, "name": container.name}).to_string();
    text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Path of the log below the pod's log folder.
pub fn log_path(name: &str, attempt: u32) -> String {
    format!("{name}/{attempt}.log")
}

/// The container's configuration. `attempt` is also its restart count.
pub fn config(
    pod: &Pod,
    member: Member<'_>,
    context: ContainerContext<'_>,
    attempt: u32,
) -> cri::ContainerConfig {
    let container = member.container;
    let expanded = |list: &Option<Vec<String>>| {
        let lookup = |name: &str| context.environment.get(name);
        list.iter().flatten().map(|text| expand(text, lookup)).collect()
    };
    let mut labels = sandbox::identity(pod);
    labels.insert(sandbox::CONTAINER_NAME.to_owned(), container.name.clone());
    let environment = context.environment.iter();
    cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(cri::ImageSpec {
            image: context.image_ref.to_owned(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..cri::ImageSpec::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: environment
            .map(|(key, value)| cri::KeyValue { key: key.clone(), value: value.clone() })
            .collect(),
        mounts: context.mounts,
        labels,
        annotations: annotations(pod, member, attempt),
        log_path: log_path(&container.name, attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources::for_container(pod, container, context.node_memory)),
            security_context: Some(context.security),
        }),
        ..cri::ContainerConfig::default()
    }
}

fn annotations(pod: &Pod, member: Member<'_>, attempt: u32) -> HashMap<String, String> {
    let path = member.container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_PATH);
    let policy = member.container.termination_message_policy.as_deref().unwrap_or("File");
    HashMap::from([
        (HASH.to_owned(), format!("{:x}", hash(member))),
        (RESTART_COUNT.to_owned(), attempt.to_string()),
        (TERMINATION_PATH.to_owned(), path.to_owned()),
        (TERMINATION_POLICY.to_owned(), policy.to_owned()),
        (GRACE.to_owned(), grace_seconds(pod).to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::members;
    use serde_json::json;

    #[test]
    fn config_expands_command_and_carries_identity() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
            "spec": {"containers": [{"name": "app", "image": "app:1", "command": ["run", "$(NAME)"],
                "args": ["$(NONE)", "$$(NAME)"], "env": [{"name": "NAME", "value": "x"}]}]}}))
        .expect("a pod");
        let member = members(&pod)[0];
        let environment = super::super::env::environment(
            &pod,
            member.container,
            &Default::default(),
            &Default::default(),
            &[],
        )
        .expect("an environment");
        let context = ContainerContext {
            image_ref: "sha256:1",
            environment: &environment,
            mounts: Vec::new(),
            security: Default::default(),
            node_memory: 1,
        };
        let config = config(&pod, member, context, 3);
        assert_eq!(
            (config.command, config.args),
            (vec!["run".to_owned(), "x".to_owned()], vec!["$(NONE)".to_owned(), "$(NAME)".to_owned()])
        );
        assert_eq!(config.log_path, "app/3.log");
        assert_eq!(config.labels[sandbox::POD_UID], "u1");
        assert_eq!(config.labels[sandbox::CONTAINER_NAME], "app");
        assert_eq!(config.annotations[RESTART_COUNT], "3");
        assert_eq!(config.annotations[HASH], format!("{:x}", hash(member)));
    }
}
