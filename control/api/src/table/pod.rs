//! A pod's row: how many containers are ready, what the pod is up to, how often it started anew.

use jiff::Timestamp;
use serde_json::Value;

use super::age::since;
use super::cells::{age, joined, or_none};
use crate::object::{at, flag, items, name, number, text};

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match (summary.restarts, summary.last_restart) {
        (restarts @ 1.., Some(moment)) => format!("{restarts} ({} ago)", since(&moment, now)),
        (restarts, _) => restarts.to_string(),
    };
    let addresses = items(pod, &["status", "podIPs"]).iter().map(|one| text(one, &["ip"])).next();
    let address = addresses.filter(|one| !one.is_empty()).unwrap_or(text(pod, &["status", "podIP"]));
    vec![
        name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(address),
        or_none(text(pod, &["spec", "nodeName"])),
        or_none(text(pod, &["status", "nominatedNodeName"])),
        gates(pod),
    ]
}

fn gates(pod: &Value) -> Value {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return joined(std::iter::empty());
    }
    let holds = |kind: &str| {
        items(pod, &["status", "conditions"])
            .iter()
            .any(|one| text(one, &["type"]) == kind && text(one, &["status"]) == "True")
    };
    let met = gates.iter().filter(|gate| holds(text(gate, &["conditionType"]))).count();
    format!("{met}/{}", gates.len()).into()
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    /// When a container that started anew last ended, in RFC 3339.
    last_restart: Option<String>,
    reason: String,
}

/// How often a container started anew, and when it last ended.
fn add_restarts(status: &Value, total: &mut i64, last: &mut Option<String>) {
    *total += number(status, &["restartCount"]).unwrap_or(0);
    let ended = text(status, &["lastState", "terminated", "finishedAt"]);
    if !ended.is_empty() && last.as_deref().is_none_or(|last| last < ended) {
        *last = Some(ended.to_owned());
    }
}

fn summary(pod: &Value) -> Summary {
    let status = &pod["status"];
    let init_specs = items(pod, &["spec", "initContainers"]);
    let sidecar = |name: &str| {
        init_specs.iter().any(|one| text(one, &["name"]) == name && text(one, &["restartPolicy"]) == "Always")
    };
    let mut summary = Summary {
        ready: 0,
        total: items(pod, &["spec", "containers"]).len()
            + init_specs.iter().filter(|one| text(one, &["restartPolicy"]) == "Always").count(),
        restarts: 0,
        last_restart: None,
        reason: match (text(status, &["reason"]), text(status, &["phase"])) {
            ("", phase) => phase.to_owned(),
            (reason, _) => reason.to_owned(),
        },
    };
    if scheduling_gated(status) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    let mut initializing = false;
    for (index, one) in items(status, &["initContainerStatuses"]).iter().enumerate() {
        add_restarts(one, &mut summary.restarts, &mut summary.last_restart);
        let is_sidecar = sidecar(text(one, &["name"]));
        if is_sidecar {
            add_restarts(one, &mut sidecar_restarts, &mut sidecar_last);
        }
        if number(one, &["state", "terminated", "exitCode"]) == Some(0) {
            continue;
        }
        if is_sidecar && flag(one, &["started"]) {
            summary.ready += usize::from(flag(one, &["ready"]));
            continue;
        }
        summary.reason = init_reason(one, index, init_specs.len());
        initializing = true;
        break;
    }
    if !initializing || initialized(status) {
        summary.restarts = sidecar_restarts;
        summary.last_restart = sidecar_last;
        running(status, &mut summary);
    }
    if at(pod, &["metadata", "deletionTimestamp"]).is_some() {
        summary.reason = if text(status, &["reason"]) == "NodeLost" {
            "Unknown".to_owned()
        } else if matches!(text(status, &["phase"]), "Failed" | "Succeeded") {
            summary.reason
        } else {
            "Terminating".to_owned()
        };
    }
    summary
}

fn condition<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    items(status, &["conditions"]).iter().find(|one| text(one, &["type"]) == kind)
}

fn scheduling_gated(status: &Value) -> bool {
    condition(status, "PodScheduled").is_some_and(|one| text(one, &["reason"]) == "SchedulingGated")
}

fn initialized(status: &Value) -> bool {
    condition(status, "Initialized").is_some_and(|one| text(one, &["status"]) == "True")
}

/// The exit of a container, in words.
fn exit(terminated: &Value) -> String {
    match (text(terminated, &["reason"]), number(terminated, &["signal"]).unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", number(terminated, &["exitCode"]).unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn init_reason(one: &Value, index: usize, total: usize) -> String {
    if let Some(terminated) = at(one, &["state", "terminated"]) {
        return format!("Init:{}", exit(terminated));
    }
    match text(one, &["state", "waiting", "reason"]) {
        "" | "PodInitializing" => format!("Init:{index}/{total}"),
        reason => format!("Init:{reason}"),
    }
}

/// The state of the containers proper; the first one with something to say has the word.
fn running(status: &Value, summary: &mut Summary) {
    let mut any_running = false;
    for one in items(status, &["containerStatuses"]).iter().rev() {
        add_restarts(one, &mut summary.restarts, &mut summary.last_restart);
        let waiting = text(one, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = at(one, &["state", "terminated"]) {
            summary.reason = exit(terminated);
        } else if flag(one, &["ready"]) && at(one, &["state", "running"]).is_some() {
            any_running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && any_running {
        let ready = condition(status, "Ready").is_some_and(|one| text(one, &["status"]) == "True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}
