//! Requests and limits as cgroup values, the pod's quality of service class, and the out-of-memory score.
//!
//! The arithmetic follows upstream's kubelet, so that a pod gets the same share of a node under either.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use skep_runtime::cri::LinuxContainerResources;

use super::quantity;

/// Length of a scheduling period in microseconds, over which a quota counts.
pub const CPU_PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA: i64 = 1000;

/// Quality of service class (Kubernetes documentation, "Pod Quality of Service Classes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Requests equal limits for CPU and memory of every container.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None at all.
    BestEffort,
}

impl QosClass {
    /// The name in `status.qosClass`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

type Amounts = Option<BTreeMap<String, Quantity>>;

fn amount(amounts: &Amounts, resource: &str, read: fn(&Quantity) -> Option<i64>) -> Option<i64> {
    amounts.as_ref()?.get(resource).and_then(read).filter(|value| *value > 0)
}

/// CPU and memory that a container or pod asks for and may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Requested CPU in thousandths of a processor.
    pub cpu_request: Option<i64>,
    /// Most CPU in thousandths of a processor.
    pub cpu_limit: Option<i64>,
    /// Requested memory in bytes.
    pub memory_request: Option<i64>,
    /// Most memory in bytes.
    pub memory_limit: Option<i64>,
}

impl Needs {
    /// What the requirements say; a limit stands for a request that is missing.
    pub fn of(requirements: Option<&ResourceRequirements>) -> Self {
        let Some(requirements) = requirements else { return Self::default() };
        let cpu_limit = amount(&requirements.limits, "cpu", quantity::milli);
        let memory_limit = amount(&requirements.limits, "memory", quantity::units);
        Self {
            cpu_request: amount(&requirements.requests, "cpu", quantity::milli).or(cpu_limit),
            cpu_limit,
            memory_request: amount(&requirements.requests, "memory", quantity::units).or(memory_limit),
            memory_limit,
        }
    }

    /// What the whole pod needs: the containers that run together, or the largest init container.
    pub fn of_pod(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let mut together = Self::sum(spec.containers.iter());
        let mut sidecars = Self { cpu_limit: Some(0), memory_limit: Some(0), ..Self::default() };
        let mut largest = Self::default();
        for container in spec.init_containers.iter().flatten() {
            let own = Self::of(container.resources.as_ref());
            if container.restart_policy.as_deref() == Some("Always") {
                sidecars = sidecars.plus(own);
                together = together.plus(own);
            } else {
                largest = largest.max(sidecars.plus(own));
            }
        }
        together.max(largest)
    }

    fn sum<'a>(containers: impl Iterator<Item = &'a Container>) -> Self {
        let none = Self { cpu_limit: Some(0), memory_limit: Some(0), ..Self::default() };
        containers.fold(none, |sum, container| sum.plus(Self::of(container.resources.as_ref())))
    }

    /// A limit holds for the whole only where every part has one.
    fn plus(self, other: Self) -> Self {
        let add = |a: Option<i64>, b: Option<i64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            cpu_request: add(self.cpu_request, other.cpu_request),
            cpu_limit: self.cpu_limit.zip(other.cpu_limit).map(|(a, b)| a.saturating_add(b)),
            memory_request: add(self.memory_request, other.memory_request),
            memory_limit: self.memory_limit.zip(other.memory_limit).map(|(a, b)| a.saturating_add(b)),
        }
    }

    fn max(self, other: Self) -> Self {
        let limit = |a: Option<i64>, b: Option<i64>| a.map(|a| a.max(b.unwrap_or(0)));
        Self {
            cpu_request: self.cpu_request.max(other.cpu_request),
            cpu_limit: limit(self.cpu_limit, other.cpu_limit),
            memory_request: self.memory_request.max(other.memory_request),
            memory_limit: limit(self.memory_limit, other.memory_limit),
        }
    }

    /// Relative weight of the request for cgroup v1 `cpu.shares`.
    pub fn shares(&self) -> i64 {
        let milli = self.cpu_request.unwrap_or(0);
        (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES)
    }

    /// Microseconds of processor time per [`CPU_PERIOD`], if CPU is limited.
    pub fn quota(&self) -> Option<i64> {
        let limit = self.cpu_limit.filter(|limit| *limit > 0)?;
        Some((limit.saturating_mul(CPU_PERIOD) / 1000).max(MIN_QUOTA))
    }
}

/// The pod's class.
pub fn qos_class(pod: &Pod) -> QosClass {
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let needs: Vec<Needs> = all.map(|container| Needs::of(container.resources.as_ref())).collect();
    let fixed = |need: &Needs| {
        need.cpu_limit.is_some()
            && need.memory_limit.is_some()
            && need.cpu_request == need.cpu_limit
            && need.memory_request == need.memory_limit
    };
    if needs.iter().all(|need| *need == Needs::default()) {
        QosClass::BestEffort
    } else if needs.iter().all(fixed) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

/// How early the kernel kills the container when the node runs out of memory, from -997 (last) to 1000.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    match qos_class(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = Needs::of(container.resources.as_ref()).memory_request.unwrap_or(0);
            let share = 1000_i64.saturating_mul(request) / node_memory.max(1);
            // Above the guaranteed ones, below those that ask for nothing.
            (1000 - share).clamp(3, 999)
        }
    }
}

/// The container's resources for the runtime.
pub fn for_container(pod: &Pod, container: &Container, node_memory: i64) -> LinuxContainerResources {
    let needs = Needs::of(container.resources.as_ref());
    LinuxContainerResources {
        cpu_period: if needs.quota().is_some() { CPU_PERIOD } else { 0 },
        cpu_quota: needs.quota().unwrap_or(0),
        cpu_shares: needs.shares(),
        memory_limit_in_bytes: needs.memory_limit.unwrap_or(0),
        oom_score_adj: oom_score_adj(pod, container, node_memory),
        ..LinuxContainerResources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": {"containers": containers}})).expect("a pod")
    }

    #[test]
    fn qos_class_follows_requests_and_limits() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let part = json!({"requests": {"cpu": "1"}});
        let check = |containers, class| assert_eq!(qos_class(&pod(containers)), class);
        check(json!([{"name": "a"}]), QosClass::BestEffort);
        check(json!([{"name": "a", "resources": full}]), QosClass::Guaranteed);
        check(json!([{"name": "a", "resources": full}, {"name": "b"}]), QosClass::Burstable);
        check(json!([{"name": "a", "resources": part}]), QosClass::Burstable);
    }

    #[test]
    fn container_resources_are_cgroup_values() {
        let resources = json!({"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m"}});
        let pod = pod(json!([{"name": "a", "resources": resources}]));
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let resources = for_container(&pod, container, 10 << 30);
        assert_eq!(
            (
                resources.cpu_shares,
                resources.cpu_quota,
                resources.cpu_period,
                resources.memory_limit_in_bytes
            ),
            (256, 50_000, 100_000, 0)
        );
        assert_eq!(resources.oom_score_adj, 900);
    }

    #[test]
    fn pod_limit_holds_only_where_every_container_has_one() {
        let limited = json!({"limits": {"cpu": "1", "memory": "1Mi"}});
        let both = Needs::of_pod(&pod(json!([
            {"name": "a", "resources": limited}, {"name": "b", "resources": limited}
        ])));
        assert_eq!((both.cpu_limit, both.memory_limit), (Some(2000), Some(2 << 20)));
        let one = Needs::of_pod(&pod(json!([{"name": "a", "resources": limited}, {"name": "b"}])));
        assert_eq!((one.cpu_limit, one.memory_limit, one.cpu_request), (None, None, Some(1000)));
    }

    #[test]
    fn shares_and_quota_have_a_floor() {
        let tiny = Needs { cpu_limit: Some(1), ..Needs::default() };
        assert_eq!((tiny.shares(), tiny.quota()), (2, Some(1000)));
    }
}
