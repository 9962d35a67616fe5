//! The pod's status: a pure function from spec, observed state and the status before.
//!
//! Owns phase, conditions and container statuses as Kubernetes' pod lifecycle defines them. Conditions of other
//! owners (`PodScheduled` by the scheduler, readiness gates) are left alone; writing is the worker's business.

mod conditions;
mod containers;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::observe::Observed;
use crate::plan::{Health, Hold};
use crate::resize::{self, Resize};
use crate::spec::resources::qos_class;
use crate::spec::{self, Member, Role};

/// Why a pod came to its end although its containers did not all end by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One word, such as `DeadlineExceeded`.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// Everything the status is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The pod as the API has it, its status being the one before.
    pub pod: &'a Pod,
    /// Its ephemeral containers in the form of ordinary ones.
    pub ephemeral: &'a [Container],
    /// What the runtime has.
    pub observed: &'a Observed,
    /// What probes say, by container id.
    pub health: &'a HashMap<String, Health>,
    /// Containers that wait, and why.
    pub waiting: &'a BTreeMap<String, Hold>,
    /// Addresses of the node.
    pub host_ips: &'a [String],
    /// Addresses of the pod, which outlive its sandbox in the status.
    pub pod_ips: &'a [String],
    /// Prefix of container ids, such as `containerd`.
    pub runtime: &'a str,
    /// The pod is at its end and nothing of it runs.
    pub over: bool,
    /// The node ended the pod.
    pub verdict: Option<&'a Verdict>,
    /// What the containers were promised and given.
    pub resize: &'a Resize,
    /// Now.
    pub now: Timestamp,
}

/// The status to report.
pub fn compute(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let before = pod.status.clone().unwrap_or_default();
    let initialized = containers::initialized(inputs);
    let list = |wanted: &[Role]| -> Vec<ContainerStatus> {
        let members = spec::members(pod).into_iter().filter(|member| wanted.contains(&member.role));
        members.map(|member| containers::status(inputs, member, initialized)).collect()
    };
    let init = list(&[Role::Init, Role::Sidecar]);
    let app = list(&[Role::App]);
    let ephemeral: Vec<ContainerStatus> = inputs
        .ephemeral
        .iter()
        .map(|container| Member { container, role: Role::Ephemeral })
        .map(|member| containers::status(inputs, member, true))
        .collect();
    let phase = phase(inputs, &init, &app);
    let verdict = inputs.verdict.filter(|_| phase == "Failed");
    let addresses = |list: &[String]| list.first().cloned();
    let mut status = PodStatus {
        phase: Some(phase.to_owned()),
        host_ip: addresses(inputs.host_ips),
        host_ips: Some(inputs.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: addresses(inputs.pod_ips),
        pod_ips: (!inputs.pod_ips.is_empty())
            .then(|| inputs.pod_ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        qos_class: Some(qos_class(pod).name().to_owned()),
        start_time: before.start_time.clone().or(Some(Time(whole_second(inputs.now)))),
        init_container_statuses: (!init.is_empty()).then(|| init.clone()),
        container_statuses: Some(app.clone()),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        observed_generation: pod.metadata.generation,
        reason: verdict.map(|verdict| verdict.reason.clone()).or(before.reason.clone()),
        message: verdict.map(|verdict| verdict.message.clone()).or(before.message.clone()),
        // What others write stays.
        ..before.clone()
    };
    status.conditions = Some(conditions::all(inputs, &before, phase, &init, &app));
    status
}

/// The API keeps whole seconds.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn phase(inputs: &Inputs<'_>, init: &[ContainerStatus], app: &[ContainerStatus]) -> &'static str {
    let code = |status: &ContainerStatus| {
        status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| ended.exit_code)
    };
    let before = inputs.pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match before {
        // A pod never comes back from its end.
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if inputs.over {
        let members = spec::members(inputs.pod);
        let plain_init = |status: &&ContainerStatus| {
            members.iter().any(|member| member.role == Role::Init && member.name() == status.name)
        };
        let ended_well = |status: &ContainerStatus| code(status) == Some(0);
        let well = app.iter().all(ended_well) && init.iter().filter(plain_init).all(ended_well);
        return if well && inputs.verdict.is_none() { "Succeeded" } else { "Failed" };
    }
    let began = |status: &ContainerStatus| {
        let ran = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
            state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        };
        ran(&status.state) || ran(&status.last_state)
    };
    if !app.is_empty() && app.iter().all(began) { "Running" } else { "Pending" }
}

/// Whether two statuses say the same.
pub fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let in_order = |status: &PodStatus| {
        let mut status = status.clone();
        // Conditions are a map by type; the API keeps them in the order in which they came.
        status.conditions.iter_mut().for_each(|list| list.sort_by(|a, b| a.type_.cmp(&b.type_)));
        serde_json::to_value(status).ok()
    };
    in_order(a) == in_order(b)
}

/// The strategic merge patch that makes the API's status say `new`, where it said `old`.
pub fn patch(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Value {
    let mut status = serde_json::to_value(new).unwrap_or_else(|_| json!({}));
    // Conditions merge by type and keep what a patch does not name.
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let had = old.conditions.iter().flatten().find(|had| condition["type"] == had.type_.as_str());
        let had = had.map(|had| [("reason", had.reason.is_some()), ("message", had.message.is_some())]);
        for (field, _) in had.into_iter().flatten().filter(|(_, had)| *had) {
            if condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
    }
    // One that holds no more must be named.
    for kind in [resize::PENDING, resize::IN_PROGRESS] {
        let has = |status: &PodStatus| status.conditions.iter().flatten().any(|c| c.type_ == kind);
        if has(old)
            && !has(new)
            && let Some(list) = status["conditions"].as_array_mut()
        {
            list.push(json!({"$patch": "delete", "type": kind}));
        }
    }
    // Addresses merge by value: those that are gone must be named.
    let listed = |status: &PodStatus| -> Vec<String> {
        status.pod_ips.iter().flatten().map(|entry| entry.ip.clone()).collect()
    };
    let kept = listed(new);
    for gone in listed(old).into_iter().filter(|ip| !kept.contains(ip)) {
        let deletion = json!({"$patch": "delete", "ip": gone});
        match status["podIPs"].as_array_mut() {
            Some(list) => list.push(deletion),
            None => status["podIPs"] = json!([deletion]),
        }
    }
    json!({"metadata": {"uid": spec::uid(pod)}, "status": status})
}

#[cfg(test)]
mod tests;
