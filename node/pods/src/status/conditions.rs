//! The conditions that the node owns.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Inputs, containers, whole_second};
use crate::resize;
use crate::spec::{self, Role};

/// All conditions: ours computed, others' as they are.
pub(super) fn all(
    inputs: &Inputs<'_>,
    before: &PodStatus,
    phase: &str,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
) -> Vec<PodCondition> {
    let ended = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let sandbox = inputs
        .observed
        .sandbox()
        .is_some_and(|sandbox| spec::host_network(inputs.pod) || !sandbox.ips.is_empty());
    let containers_ready = containers_ready(inputs, init, app, ended);
    let own = [
        Verdict::of("PodReadyToStartContainers", sandbox, None, None),
        initialized(inputs, phase, init),
        ready(inputs, before, &containers_ready),
        containers_ready,
        Verdict::of("PodScheduled", true, None, None),
    ];
    let mut list: Vec<PodCondition> =
        own.into_iter().map(|verdict| verdict.condition(inputs, before)).collect();
    if ended.is_none() {
        list.extend(inputs.resize.conditions(inputs.pod, inputs.observed).into_iter().map(|condition| {
            let old = before.conditions.iter().flatten().find(|old| old.type_ == condition.type_);
            let since = old.and_then(|old| old.last_transition_time.clone());
            let since = since.or_else(|| Some(Time(whole_second(inputs.now))));
            PodCondition { last_transition_time: since, ..condition }
        }));
    }
    let mut known: Vec<String> = list.iter().map(|condition| condition.type_.clone()).collect();
    known.extend([resize::PENDING, resize::IN_PROGRESS].map(str::to_owned));
    list.extend(before.conditions.iter().flatten().filter(|c| !known.contains(&c.type_)).cloned());
    list
}

struct Verdict {
    kind: &'static str,
    holds: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Verdict {
    fn of(kind: &'static str, holds: bool, reason: Option<&str>, message: Option<String>) -> Self {
        Self { kind, holds, reason: reason.map(str::to_owned), message }
    }

    fn condition(self, inputs: &Inputs<'_>, before: &PodStatus) -> PodCondition {
        let status = if self.holds { "True" } else { "False" }.to_owned();
        let old = before.conditions.iter().flatten().find(|condition| condition.type_ == self.kind);
        let unchanged = old.filter(|old| old.status == status);
        PodCondition {
            last_transition_time: unchanged
                .and_then(|old| old.last_transition_time.clone())
                .or_else(|| Some(Time(whole_second(inputs.now)))),
            last_probe_time: None,
            message: self.message,
            observed_generation: inputs.pod.metadata.generation,
            reason: self.reason,
            status,
            type_: self.kind.to_owned(),
        }
    }
}

fn initialized(inputs: &Inputs<'_>, phase: &str, init: &[ContainerStatus]) -> Verdict {
    if phase == "Succeeded" {
        return Verdict::of("Initialized", true, Some("PodCompleted"), None);
    }
    if init.is_empty() || containers::initialized(inputs) {
        return Verdict::of("Initialized", true, None, None);
    }
    let waiting = init.iter().filter(|status| !status.ready).map(|status| status.name.as_str());
    let message = format!("containers with incomplete status: {}", names(waiting));
    Verdict::of("Initialized", false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(
    inputs: &Inputs<'_>,
    init: &[ContainerStatus],
    app: &[ContainerStatus],
    ended: Option<&'static str>,
) -> Verdict {
    if let Some(reason) = ended {
        return Verdict::of("ContainersReady", false, Some(reason), None);
    }
    let members = spec::members(inputs.pod);
    let is_sidecar = |status: &&ContainerStatus| {
        members.iter().any(|member| member.role == Role::Sidecar && member.name() == status.name)
    };
    let counted = init.iter().filter(is_sidecar).chain(app);
    let unready: Vec<&str> = counted.filter(|s| !s.ready).map(|s| s.name.as_str()).collect();
    if unready.is_empty() {
        return Verdict::of("ContainersReady", true, None, None);
    }
    let message = format!("containers with unready status: {}", names(unready.into_iter()));
    Verdict::of("ContainersReady", false, Some("ContainersNotReady"), Some(message))
}

fn ready(inputs: &Inputs<'_>, before: &PodStatus, containers: &Verdict) -> Verdict {
    if !containers.holds {
        return Verdict {
            kind: "Ready",
            holds: false,
            reason: containers.reason.clone(),
            message: containers.message.clone(),
        };
    }
    let gates = inputs.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let open = |kind: &str| before.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    let closed: Vec<&str> =
        gates.map(|gate| gate.condition_type.as_str()).filter(|kind| !open(kind)).collect();
    if closed.is_empty() {
        return Verdict::of("Ready", true, None, None);
    }
    let message = format!("the status of pod readiness gates is not \"True\": {}", names(closed.into_iter()));
    Verdict::of("Ready", false, Some("ReadinessGatesNotReady"), Some(message))
}

/// Names as lists are written in messages: `[a b]`.
fn names<'a>(list: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", list.collect::<Vec<_>>().join(" "))
}
