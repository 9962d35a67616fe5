//! What is promised, given and shown, from pods as the API has them.

use serde_json::{Value, json};

use super::*;
use crate::testing::{observed, running};

fn pod(containers: Value, statuses: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "uid": "u", "generation": 3},
        "spec": {"containers": containers}, "status": {"containerStatuses": statuses}}))
    .expect("a pod")
}

fn both(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

fn requirements(value: Value) -> ResourceRequirements {
    serde_json::from_value(value).expect("requirements")
}

/// A pod with the container `a`, which runs with `actual` and is promised `allocated`.
fn resizing(actual: Value, allocated: Value, policy: Value) -> (Resize, Pod, Observed) {
    let pod = pod(json!([{"name": "a", "resources": allocated, "resizePolicy": policy}]), json!([]));
    let mut resize = Resize::of(&pod);
    resize.actual.insert("a-0".into(), requirements(actual));
    (resize, pod, observed(vec![running("a", 0)]))
}

#[test]
fn of_a_pod_that_an_earlier_agent_took_care_of_is_what_its_status_says() {
    let status = json!([{"name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "containerID": "fake://a-0",
        "allocatedResources": {"cpu": "1", "memory": "1Gi"}, "resources": both("1", "1Gi")}]);
    let pod = pod(json!([{"name": "a", "resources": both("2", "1Gi")}, {"name": "b"}]), status);
    let mut resize = Resize::of(&pod);
    assert_eq!(resize.allocated["a"], requirements(both("1", "1Gi")));
    assert!(differ(&desired(&pod), &resize.allocated));
    let effective = resize.effective(&pod);
    assert_eq!(Needs::of_pod(&effective).cpu_request, Some(1000));
    resize.adopt(&pod, &observed(vec![running("a", 0), running("b", 0)]));
    assert_eq!(resize.actual["a-0"], requirements(both("1", "1Gi")));
    assert_eq!(resize.actual["b-0"], ResourceRequirements::default());
    // A later run was made by this agent.
    resize.allocated = desired(&pod);
    resize.adopt(&pod, &observed(vec![running("a", 1)]));
    assert_eq!(resize.actual["a-1"], requirements(both("2", "1Gi")));
    assert!(!resize.actual.contains_key("a-0"), "it runs no more");
}

#[test]
fn changes_restart_only_for_the_resource_whose_policy_says_so() {
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"},
        {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let check = |actual: Value, allocated: Value, expected: Option<(bool, Option<i64>)>| {
        let (resize, pod, observed) = resizing(actual, allocated, policy.clone());
        let found = resize.changes(&pod, &observed);
        assert_eq!(found.first().map(|change| (change.restart, change.shrinks_to)), expected);
    };
    check(both("1", "1Gi"), both("1000m", "1024Mi"), None);
    check(both("1", "1Gi"), both("2", "1Gi"), Some((false, None)));
    check(both("1", "1Gi"), both("1", "512Mi"), Some((true, Some(512 << 20))));
    check(json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "500m"}}), Some((false, None)));
}

#[test]
fn changes_that_shrink_come_first_and_the_whole_is_wide_enough_meanwhile() {
    let pod = pod(
        json!([{"name": "a", "resources": both("2", "1Gi")}, {"name": "b", "resources": both("1", "1Gi")}]),
        json!([]),
    );
    let mut resize = Resize::of(&pod);
    resize.actual.insert("a-0".into(), requirements(both("1", "1Gi")));
    resize.actual.insert("b-0".into(), requirements(both("2", "1Gi")));
    let observed = observed(vec![running("a", 0), running("b", 0)]);
    let order: Vec<String> = resize.changes(&pod, &observed).into_iter().map(|change| change.name).collect();
    assert_eq!(order, ["b", "a"]);
    assert_eq!(Needs::of_pod(&resize.widest(&pod, &observed)).cpu_limit, Some(4000));
    assert_eq!(Needs::of_pod(&pod).cpu_limit, Some(3000));
}

#[test]
fn conditions_say_what_waits_and_what_is_under_way() {
    let (mut resize, pod, observed) = resizing(both("1", "1Gi"), both("2", "1Gi"), json!([]));
    let shown = |resize: &Resize| {
        let list = resize.conditions(&pod, &observed).into_iter();
        list.map(|c| {
            (c.type_, c.reason.unwrap_or_default(), c.message.unwrap_or_default(), c.observed_generation)
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(shown(&resize), [(IN_PROGRESS.into(), String::new(), String::new(), Some(3))]);
    resize.failed = Some("it is in use".into());
    resize.pending = Some("no room".into());
    assert_eq!(
        shown(&resize),
        [
            (PENDING.into(), "Deferred".into(), "no room".into(), Some(3)),
            (IN_PROGRESS.into(), "Error".into(), "it is in use".into(), Some(3))
        ]
    );
    resize.actual.insert("a-0".into(), requirements(both("2", "1Gi")));
    resize.pending = None;
    assert_eq!(shown(&resize), []);
}
