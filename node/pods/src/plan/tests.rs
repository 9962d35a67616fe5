//! Tables of what a pod needs next.

use serde_json::{Value, json};

use super::*;
use crate::testing::{exited, observed, run, running};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec}),
    )
    .expect("a pod")
}

/// Everything a plan may look at, with the usual values.
struct Case {
    pod: Pod,
    observed: Observed,
    health: HashMap<String, Health>,
    holds: HashMap<String, Hold>,
    backoff: Backoff,
    now: i64,
}

impl Case {
    fn new(spec: Value, runs: Vec<Instance>) -> Self {
        let healthy = |run: &Instance| (run.id.clone(), Health { started: true, ready: true, failed: None });
        Self {
            pod: pod(spec),
            health: runs.iter().map(healthy).collect(),
            observed: observed(runs),
            holds: HashMap::new(),
            backoff: Backoff::default(),
            now: 0,
        }
    }

    fn plan(&self) -> Plan {
        plan(&Inputs {
            pod: &self.pod,
            ephemeral: &[],
            observed: &self.observed,
            health: &self.health,
            holds: &self.holds,
            backoff: &self.backoff,
            now: at(self.now),
        })
    }

    /// The steps as short text; `finished` if the pod is at its end.
    fn steps(&self) -> Vec<String> {
        let plan = self.plan();
        if plan.finished {
            return vec!["finished".into()];
        }
        let text = |step: &Step| match &step.action {
            Action::Kill { name, .. } => format!("kill {name}"),
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::RemoveSandbox { id } => format!("remove {id}"),
            Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
            Action::Start { name, attempt, .. } => format!("start {name} {attempt}"),
            Action::Remove { id, .. } => format!("remove {id}"),
        };
        plan.steps.iter().map(text).collect()
    }
}

fn check(spec: Value, runs: Vec<Instance>, expected: &[&str]) {
    assert_eq!(Case::new(spec, runs).steps(), expected);
}

fn one() -> Value {
    json!({"containers": [{"name": "a"}]})
}

#[test]
fn new_pod_gets_a_sandbox_first() {
    let mut case = Case::new(one(), vec![]);
    case.observed = Observed::default();
    assert_eq!(case.steps(), ["sandbox 0"]);
}

#[test]
fn containers_start_together_once_the_sandbox_is_there() {
    check(json!({"containers": [{"name": "a"}, {"name": "b"}]}), vec![], &["start a 0", "start b 0"]);
    check(one(), vec![running("a", 0)], &[]);
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    check(spec.clone(), vec![], &["start i 0"]);
    check(spec.clone(), vec![running("i", 0)], &[]);
    check(spec.clone(), vec![exited("i", 0, 0)], &["start j 0"]);
    check(spec.clone(), vec![exited("j", 0, 0), exited("i", 0, 0)], &["start a 0"]);
    check(spec, vec![running("a", 0)], &[]);
}

#[test]
fn failed_init_container_ends_a_pod_that_never_restarts() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    check(spec("Never"), vec![exited("i", 0, 1)], &["finished"]);
    check(spec("OnFailure"), vec![exited("i", 0, 1)], &["start i 1"]);
    check(spec("Always"), vec![exited("i", 0, 1)], &["start i 1"]);
}

#[test]
fn sidecar_lets_the_next_start_once_it_is_started_itself() {
    let spec = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}]});
    let mut case = Case::new(spec.clone(), vec![running("s", 0)]);
    assert_eq!(case.steps(), ["start i 0"]);
    case.health.insert("s-0".into(), Health::default());
    assert!(case.steps().is_empty());
    check(spec, vec![exited("s", 0, 0), running("a", 0), exited("i", 0, 0)], &["start s 1"]);
}

#[test]
fn ended_container_restarts_as_its_policy_says() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
    for (policy, code, expected) in [
        ("Always", 0, "start a 1"),
        ("Always", 1, "start a 1"),
        ("OnFailure", 1, "start a 1"),
        ("OnFailure", 0, "finished"),
        ("Never", 1, "finished"),
    ] {
        check(spec(policy), vec![exited("a", 0, code)], &[expected]);
    }
}

#[test]
fn crash_loop_waits_for_its_backoff() {
    let mut case = Case::new(one(), vec![exited("a", 1, 1)]);
    case.backoff.advance("a", at(0), at(0));
    case.now = 9;
    let plan = case.plan();
    assert!(plan.steps.is_empty());
    assert_eq!(plan.wake_at, Some(at(10)));
    assert_eq!(plan.waiting["a"].message, "back-off 10s restarting failed container=a pod=web_shop(u)");
    case.now = 10;
    assert_eq!(case.steps(), ["start a 2"]);
}

#[test]
fn failure_to_start_holds_only_that_container() {
    let mut case = Case::new(json!({"containers": [{"name": "a"}, {"name": "b"}]}), vec![]);
    let hold = Hold { reason: "ErrImagePull".into(), message: "no".into(), until: at(5) };
    case.holds.insert("a".into(), hold.clone());
    assert_eq!(case.steps(), ["start b 0"]);
    assert_eq!(case.plan().waiting["a"], hold);
    case.now = 5;
    assert_eq!(case.steps(), ["start a 0", "start b 0"]);
}

#[test]
fn failed_probe_and_changed_image_kill_the_container() {
    let mut case = Case::new(one(), vec![running("a", 0)]);
    case.health.insert("a-0".into(), Health { failed: Some("liveness".into()), ..Default::default() });
    assert_eq!(case.steps(), ["kill a"]);
    let mut case = Case::new(one(), vec![running("a", 0)]);
    case.observed.instances[0].hash = Some(1);
    assert_eq!(case.steps(), ["kill a"]);
    let mut case = Case::new(one(), vec![exited("a", 0, 0)]);
    case.observed.instances[0].hash = Some(1);
    assert_eq!(case.steps(), ["start a 1"]);
}

#[test]
fn lost_sandbox_is_renewed_and_containers_keep_counting() {
    let mut case = Case::new(one(), vec![exited("a", 3, 137)]);
    case.observed.sandboxes[0].ready = false;
    assert_eq!(case.steps(), ["stop s", "sandbox 1"]);
    let mut renewed = case.observed.sandboxes[0].clone();
    (renewed.id, renewed.attempt, renewed.ready) = ("t".into(), 1, true);
    case.observed.sandboxes.insert(0, renewed);
    assert_eq!(case.steps(), ["start a 4"]);
}

#[test]
fn lost_sandbox_of_a_pod_that_never_restarts_ends_it() {
    let mut case =
        Case::new(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}), vec![running("a", 0)]);
    case.observed.sandboxes[0].ready = false;
    assert_eq!(case.steps(), ["finished"]);
}

#[test]
fn container_made_and_not_started_is_made_again() {
    check(one(), vec![run("a", 2, State::Created)], &["remove a-2", "start a 3"]);
}

#[test]
fn only_the_last_ended_run_is_kept() {
    let runs = vec![running("a", 3), exited("a", 2, 1), exited("a", 1, 1), exited("a", 0, 1)];
    check(one(), runs, &["remove a-1", "remove a-0"]);
}

#[test]
fn restart_count_of_the_api_is_kept_when_the_runtime_forgot() {
    let mut case = Case::new(one(), vec![]);
    case.pod.status = serde_json::from_value(json!({"containerStatuses": [{"name": "a", "image": "",
        "imageID": "", "ready": false, "restartCount": 4, "state": {"running": {}}}]}))
    .expect("a status");
    assert_eq!(case.steps(), ["start a 5"]);
}
