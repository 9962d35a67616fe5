//! Tables of pod statuses.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::observe::{Instance, Sandbox, State};
use crate::testing::{exited, observed, run, running};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn pod(spec: Value, status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "uid": "u", "generation": 2},
        "spec": spec, "status": status}))
    .expect("a pod")
}

struct Case {
    pod: Pod,
    runs: Vec<Instance>,
    unready: bool,
    waiting: BTreeMap<String, Hold>,
    over: bool,
}

impl Case {
    fn new(spec: Value, runs: Vec<Instance>) -> Self {
        Self { pod: pod(spec, json!({})), runs, unready: false, waiting: BTreeMap::new(), over: false }
    }

    fn status(&self) -> PodStatus {
        let observed = observed(self.runs.clone());
        let health =
            |run: &Instance| (run.id.clone(), Health { started: true, ready: !self.unready, failed: None });
        let health: HashMap<String, Health> = self.runs.iter().map(health).collect();
        compute(&Inputs {
            pod: &self.pod,
            ephemeral: &[],
            observed: &observed,
            health: &health,
            waiting: &self.waiting,
            host_ips: &["172.30.0.11".to_owned()],
            pod_ips: &["10.244.0.5".to_owned()],
            runtime: "containerd",
            over: self.over,
            verdict: None,
            resize: &Resize::of(&self.pod),
            now: at(100),
        })
    }
}

fn condition(status: &PodStatus, kind: &str) -> String {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == kind);
    let condition = condition.expect("the condition");
    format!("{} {}", condition.status, condition.reason.as_deref().unwrap_or("-"))
}

fn check(case: &Case, phase: &str, ready: &str) {
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some(phase));
    assert_eq!(condition(&status, "Ready"), ready);
}

#[test]
fn pod_is_pending_until_every_container_ran() {
    let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    check(&Case::new(two.clone(), vec![]), "Pending", "False ContainersNotReady");
    check(&Case::new(two.clone(), vec![running("a", 0)]), "Pending", "False ContainersNotReady");
    check(&Case::new(two, vec![running("a", 0), running("b", 0)]), "Running", "True -");
}

#[test]
fn unready_container_makes_the_pod_unready() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), vec![running("a", 0)]);
    case.unready = true;
    check(&case, "Running", "False ContainersNotReady");
    let status = case.status();
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready").expect("Ready");
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    assert_eq!(ready.observed_generation, Some(2));
}

#[test]
fn ended_pod_is_succeeded_or_failed_by_its_exit_codes() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]});
    let mut case = Case::new(spec.clone(), vec![exited("a", 0, 0), exited("b", 0, 0)]);
    case.over = true;
    check(&case, "Succeeded", "False PodCompleted");
    let mut case = Case::new(spec, vec![exited("a", 0, 0), exited("b", 0, 3)]);
    case.over = true;
    check(&case, "Failed", "False PodFailed");
}

#[test]
fn crash_loop_shows_wait_and_the_last_run() {
    let mut case =
        Case::new(json!({"containers": [{"name": "a"}]}), vec![exited("a", 2, 7), exited("a", 1, 6)]);
    let hold = Hold { reason: "CrashLoopBackOff".into(), message: "back-off".into(), until: at(200) };
    case.waiting.insert("a".into(), hold);
    let status = case.status();
    let container = &status.container_statuses.as_ref().expect("statuses")[0];
    let state = container.state.as_ref().and_then(|state| state.waiting.as_ref()).expect("waiting");
    assert_eq!(state.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()).expect("terminated");
    assert_eq!((last.exit_code, container.restart_count, container.ready), (7, 2, false));
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn waiting_init_container_leaves_the_pod_uninitialized() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let case = Case::new(spec.clone(), vec![running("i", 0)]);
    let status = case.status();
    assert_eq!(condition(&status, "Initialized"), "False ContainersNotInitialized");
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let app = &status.container_statuses.as_ref().expect("statuses")[0];
    let waiting = app.state.as_ref().and_then(|state| state.waiting.as_ref()).expect("waiting");
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    let done = Case::new(spec, vec![running("a", 0), exited("i", 0, 0)]).status();
    assert_eq!(condition(&done, "Initialized"), "True -");
}

#[test]
fn transition_time_is_kept_while_the_status_stays() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), vec![running("a", 0)]);
    let old = json!({"conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "1970-01-01T00:00:07Z"},
        {"type": "ContainersReady", "status": "False", "lastTransitionTime": "1970-01-01T00:00:07Z"},
        {"type": "example.org/own", "status": "True"}]});
    case.pod = pod(json!({"containers": [{"name": "a"}]}), old);
    let status = case.status();
    let time = |kind: &str| {
        let condition = status.conditions.iter().flatten().find(|c| c.type_ == kind).expect("the condition");
        condition.last_transition_time.as_ref().map(|time| time.0.as_second())
    };
    assert_eq!((time("Ready"), time("ContainersReady")), (Some(7), Some(100)));
    assert_eq!(condition(&status, "example.org/own"), "True -");
}

#[test]
fn readiness_gate_holds_the_pod_back_until_it_is_true() {
    let spec =
        json!({"readinessGates": [{"conditionType": "example.org/gate"}], "containers": [{"name": "a"}]});
    let mut case = Case::new(spec.clone(), vec![running("a", 0)]);
    check(&case, "Running", "False ReadinessGatesNotReady");
    case.pod = pod(spec, json!({"conditions": [{"type": "example.org/gate", "status": "True"}]}));
    check(&case, "Running", "True -");
}

#[test]
fn container_lost_by_the_runtime_is_shown_as_such() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}]}), vec![]);
    let old = json!({"containerStatuses": [{"name": "a", "image": "", "imageID": "", "ready": true,
        "restartCount": 3, "state": {"running": {}}}]});
    case.pod = pod(json!({"containers": [{"name": "a"}]}), old);
    let status = case.status();
    let container = &status.container_statuses.as_ref().expect("statuses")[0];
    let ended = container.state.as_ref().and_then(|state| state.terminated.as_ref()).expect("terminated");
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(container.restart_count, 3);
}

#[test]
fn patch_names_addresses_that_are_gone() {
    let old = PodStatus { pod_ips: Some(vec![PodIP { ip: "10.244.0.4".into() }]), ..Default::default() };
    let new = PodStatus { pod_ips: Some(vec![PodIP { ip: "10.244.0.5".into() }]), ..Default::default() };
    let patch = patch(&pod(json!({"containers": []}), json!({})), &old, &new);
    let expected = json!([{"ip": "10.244.0.5"}, {"$patch": "delete", "ip": "10.244.0.4"}]);
    assert_eq!(patch["status"]["podIPs"], expected);
    assert_eq!(patch["metadata"]["uid"], "u");
}

#[test]
fn patch_takes_back_reasons_that_no_longer_hold() {
    let condition = |reason: Option<&str>| k8s_openapi::api::core::v1::PodCondition {
        type_: "Ready".into(),
        reason: reason.map(str::to_owned),
        ..Default::default()
    };
    let status = |reason| PodStatus { conditions: Some(vec![condition(reason)]), ..Default::default() };
    let pod = pod(json!({"containers": []}), json!({}));
    let patch = |old, new| super::patch(&pod, &status(old), &status(new))["status"]["conditions"][0].clone();
    assert_eq!(patch(Some("No"), None), json!({"type": "Ready", "status": "", "reason": null}));
    assert_eq!(patch(None, None), json!({"type": "Ready", "status": ""}));
    assert_eq!(patch(Some("No"), Some("New"))["reason"], "New");
}

#[test]
fn sandbox_without_address_is_not_ready_for_containers() {
    let mut observed = observed(vec![run("a", 0, State::Created)]);
    observed.sandboxes = vec![Sandbox { id: "s".into(), attempt: 0, ready: true, ips: vec![] }];
    let pod = pod(json!({"containers": [{"name": "a"}]}), json!({}));
    let status = compute(&Inputs {
        pod: &pod,
        ephemeral: &[],
        observed: &observed,
        health: &HashMap::new(),
        waiting: &BTreeMap::new(),
        host_ips: &[],
        pod_ips: &[],
        runtime: "containerd",
        over: false,
        verdict: None,
        resize: &Resize::of(&pod),
        now: at(0),
    });
    assert_eq!(condition(&status, "PodReadyToStartContainers"), "False -");
    assert_eq!(condition(&status, "PodScheduled"), "True -");
}

#[test]
fn patch_takes_back_conditions_of_a_resize_that_is_over() {
    let status = |kinds: &[&str]| -> PodStatus {
        let conditions: Vec<Value> =
            kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
        serde_json::from_value(json!({"conditions": conditions})).expect("a status")
    };
    let pod = pod(json!({"containers": []}), json!({}));
    let patch =
        patch(&pod, &status(&["PodResizePending", "example.org/own"]), &status(&["PodResizeInProgress"]));
    let expected = json!([{"type": "PodResizeInProgress", "status": "True"},
        {"$patch": "delete", "type": "PodResizePending"}]);
    assert_eq!(patch["status"]["conditions"], expected);
}

#[test]
fn status_shows_where_the_volumes_are() {
    let mounts = json!([
        {"name": "data", "mountPath": "/data"},
        {"name": "token", "mountPath": "/token", "readOnly": true},
    ]);
    let spec = json!({"containers": [{"name": "a", "volumeMounts": mounts}]});
    let status = Case::new(spec, vec![running("a", 0)]).status();
    let shown = serde_json::to_value(&status.container_statuses.expect("a container")[0].volume_mounts);
    assert_eq!(
        shown.expect("statuses are JSON"),
        json!([
            {"name": "data", "mountPath": "/data"},
            {"name": "token", "mountPath": "/token", "readOnly": true, "recursiveReadOnly": "Disabled"},
        ])
    );
}
