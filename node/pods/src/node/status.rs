//! The node's status: a pure function of its configuration, its capacity and a few facts read now.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::capacity::{self, Capacity};
use crate::worker::Context;
use crate::{KUBELET_VERSION, PodsConfig, describe};

/// Most images that the status names, the largest ones.
const IMAGES: usize = 50;

/// What changes while the node runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    runtime: String,
    /// Why the node is not ready.
    not_ready: Option<String>,
    memory_low: bool,
    disk_low: bool,
    images: Vec<(Vec<String>, i64)>,
}

impl Facts {
    /// Whether nothing keeps the node from running pods.
    pub(super) fn is_ready(&self) -> bool {
        self.not_ready.is_none()
    }
}

/// Asks the runtime and the system.
pub(super) async fn observe(context: &Context) -> Facts {
    let version = context.runtime.version().await;
    let not_ready = match context.runtime.status().await {
        Ok(status) => ["RuntimeReady", "NetworkReady"].into_iter().find_map(|kind| {
            match status.conditions.iter().find(|condition| condition.r#type == kind) {
                Some(condition) if condition.status => None,
                Some(condition) => Some(format!(
                    "container runtime: {kind}=false reason:{} message:{}",
                    condition.reason, condition.message
                )),
                None => Some(format!("container runtime: {kind} is unknown")),
            }
        }),
        Err(error) => Some(describe(&error)),
    };
    let mut images: Vec<(Vec<String>, i64)> = context
        .runtime
        .images()
        .await
        .unwrap_or_default()
        .into_iter()
        .map(|image| {
            let names = image.repo_digests.into_iter().chain(image.repo_tags).collect();
            (names, i64::try_from(image.size).unwrap_or(i64::MAX))
        })
        .collect();
    images.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    images.truncate(IMAGES);
    let thresholds = &context.config.thresholds;
    let memory = capacity::memory_usage();
    let disk = capacity::disk_usage(&context.config.state_dir);
    Facts {
        runtime: version
            .map(|version| format!("{}://{}", version.runtime_name, version.runtime_version))
            .unwrap_or_default(),
        not_ready,
        memory_low: memory.is_some_and(|(total, free)| thresholds.memory.is_short(free, total)),
        disk_low: disk.is_some_and(|(total, free)| thresholds.disk.is_short(free, total)),
        images,
    }
}

/// The name of the processor architecture in Kubernetes' terms.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What is known before the runtime was asked.
pub(super) fn initial(config: &PodsConfig, capacity: &Capacity, now: Timestamp) -> NodeStatus {
    let facts = Facts { not_ready: Some("the node is starting".into()), ..Facts::default() };
    compute(config, capacity, &facts, &NodeStatus::default(), now)
}

/// The status to report. `before` keeps the times of conditions that did not change.
pub(super) fn compute(
    config: &PodsConfig,
    capacity: &Capacity,
    facts: &Facts,
    before: &NodeStatus,
    now: Timestamp,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> = config
        .node_ips
        .iter()
        .map(|ip| NodeAddress { type_: "InternalIP".into(), address: ip.to_string() })
        .collect();
    addresses.push(NodeAddress { type_: "Hostname".into(), address: config.node_name.clone() });
    let amounts = BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu(capacity.cpu_milli))),
        ("memory".to_owned(), Quantity(format!("{}Ki", capacity.memory / 1024))),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", capacity.disk / 1024))),
        ("pods".to_owned(), Quantity(capacity.pods.to_string())),
    ]);
    let images = facts
        .images
        .iter()
        .map(|(names, size)| ContainerImage { names: Some(names.clone()), size_bytes: Some(*size) });
    NodeStatus {
        addresses: Some(addresses),
        allocatable: Some(amounts.clone()),
        capacity: Some(amounts),
        conditions: Some(conditions(facts, before, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.endpoint_port) }),
        }),
        // Streams to this node may be WebSockets.
        declared_features: Some(vec!["ExtendWebSocketsToKubelet".into()]),
        images: Some(images.collect()),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: capacity.boot_id.clone(),
            container_runtime_version: facts.runtime.clone(),
            kernel_version: capacity.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: KUBELET_VERSION.into(),
            machine_id: capacity.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: capacity.os_image.clone(),
            swap: None,
            system_uuid: capacity.system_uuid.clone(),
        }),
        ..NodeStatus::default()
    }
}

fn cpu(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

fn conditions(facts: &Facts, before: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let ready = match &facts.not_ready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(message) => ("Ready", false, "KubeletNotReady", message.clone()),
    };
    let pressure = |kind, low: bool, reasons: (&'static str, &'static str), messages: (&str, &str)| {
        let (reason, message) = if low { (reasons.1, messages.1) } else { (reasons.0, messages.0) };
        (kind, low, reason, message.to_owned())
    };
    let all = [
        pressure(
            "MemoryPressure",
            facts.memory_low,
            ("KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"),
            ("kubelet has sufficient memory available", "kubelet has insufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            facts.disk_low,
            ("KubeletHasNoDiskPressure", "KubeletHasDiskPressure"),
            ("kubelet has no disk pressure", "kubelet has disk pressure"),
        ),
        pressure(
            "PIDPressure",
            false,
            ("KubeletHasSufficientPID", "KubeletHasInsufficientPID"),
            ("kubelet has sufficient PID available", "kubelet has insufficient PID available"),
        ),
        ready,
    ];
    let condition = |(kind, holds, reason, message): (&str, bool, &str, String)| {
        let status = if holds { "True" } else { "False" }.to_owned();
        let old = before.conditions.iter().flatten().find(|old| old.type_ == kind && old.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
            message: Some(message),
            reason: Some(reason.to_owned()),
            status,
        }
    };
    let mut list: Vec<NodeCondition> = all.into_iter().map(condition).collect();
    let known: Vec<String> = list.iter().map(|condition| condition.type_.clone()).collect();
    // Others' conditions stay.
    list.extend(before.conditions.iter().flatten().filter(|c| !known.contains(&c.type_)).cloned());
    list
}

/// Whether the status says that the node is ready.
pub(super) fn is_ready(status: &NodeStatus) -> bool {
    let mut all = status.conditions.iter().flatten();
    all.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn config() -> PodsConfig {
        PodsConfig::new("n1", vec!["172.30.0.11".parse().expect("an address")])
    }

    #[test]
    fn transition_time_moves_only_when_the_status_does() {
        let capacity = Capacity::default();
        let ready = compute(&config(), &capacity, &Facts::default(), &NodeStatus::default(), at(1));
        let still = compute(&config(), &capacity, &Facts::default(), &ready, at(2));
        let broken = Facts { not_ready: Some("no network".into()), ..Facts::default() };
        let lost = compute(&config(), &capacity, &broken, &still, at(3));
        let times = |status: &NodeStatus| {
            let mut all = status.conditions.iter().flatten();
            let condition = all.rfind(|c| c.type_ == "Ready").expect("Ready");
            let second = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second());
            (second(&condition.last_transition_time), second(&condition.last_heartbeat_time))
        };
        assert_eq!(times(&still), (Some(1), Some(2)));
        assert_eq!(times(&lost), (Some(3), Some(3)));
        assert!(is_ready(&still) && !is_ready(&lost));
    }

    #[test]
    fn status_names_capacity_and_endpoint() {
        let capacity = Capacity { cpu_milli: 2500, memory: 4 << 30, pods: 110, ..Capacity::default() };
        let status = initial(&config(), &capacity, at(0));
        let amounts = status.capacity.expect("capacity");
        assert_eq!(amounts["cpu"].0, "2500m");
        assert_eq!(amounts["memory"].0, "4194304Ki");
        assert_eq!(amounts["pods"].0, "110");
        let endpoint = status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint);
        assert_eq!(endpoint.map(|endpoint| endpoint.port), Some(10250));
        assert!(
            status.declared_features.expect("features").contains(&"ExtendWebSocketsToKubelet".to_owned())
        );
    }
}
