//! Plans of Deployments as tables: sizes of ReplicaSets before and after one step.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::{Value, json};

use super::plan::{Action, Observed, Plan, after_collision, plan};

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn deployment(replicas: i32, spec: Value) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 2,
            "annotations": {"deployment.kubernetes.io/revision": "2"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template("v2"),
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A ReplicaSet of the image's template: its size, how many of it are available, and the sizes noted.
fn set(image: &str, size: i32, available: i32, noted: (i32, i32)) -> Arc<ReplicaSet> {
    let revision = image.trim_start_matches('v');
    let object = json!({
        "metadata": {"name": image, "namespace": "default", "uid": image, "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:0{revision}:00Z"),
            "annotations": {"deployment.kubernetes.io/revision": revision,
                "deployment.kubernetes.io/desired-replicas": noted.0.to_string(),
                "deployment.kubernetes.io/max-replicas": noted.1.to_string()}},
        "spec": {"replicas": size, "selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
        "status": {"replicas": size, "availableReplicas": available, "readyReplicas": available,
            "observedGeneration": 1},
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

fn run(deployment: &Deployment, sets: &[Arc<ReplicaSet>]) -> Plan {
    plan(Observed { deployment, replica_sets: sets.to_vec(), pods: HashMap::new() }, now())
}

/// The sizes after the step, by image; actions in their order.
fn sizes(plan: &Plan) -> Vec<(String, i32)> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Create(set) | Action::Update { set, .. } => {
                let spec = set.spec.as_ref()?;
                let pod = spec.template.as_ref()?.spec.as_ref()?;
                Some((pod.containers[0].image.clone()?, spec.replicas?))
            }
            Action::Delete { name, .. } => Some((format!("delete {name}"), 0)),
        })
        .collect()
}

fn check(deployment: &Deployment, sets: &[Arc<ReplicaSet>], expected: &[(&str, i32)]) {
    let planned = run(deployment, sets);
    let planned = sizes(&planned);
    let planned: Vec<(&str, i32)> = planned.iter().map(|(image, size)| (image.as_str(), *size)).collect();
    assert_eq!(planned, expected);
}

#[test]
fn plan_first_rollout_creates_the_set_at_full_size() {
    check(&deployment(3, json!({})), &[], &[("v2", 3)]);
}

#[test]
fn plan_new_template_starts_with_the_surge_and_takes_what_may_be_unavailable() {
    // 10 desired, 11 at most, 9 available at least.
    check(&deployment(10, json!({})), &[set("v1", 10, 10, (10, 11))], &[("v2", 1), ("v1", 9)]);
}

#[test]
fn plan_rolling_goes_on_as_new_pods_become_available() {
    let d = deployment(10, json!({}));
    check(&d, &[set("v1", 9, 9, (10, 11)), set("v2", 1, 0, (10, 11))], &[("v2", 2)]);
    check(&d, &[set("v1", 9, 9, (10, 11)), set("v2", 2, 0, (10, 11))], &[]);
    check(&d, &[set("v1", 9, 9, (10, 11)), set("v2", 2, 2, (10, 11))], &[("v1", 7)]);
}

#[test]
fn plan_unhealthy_old_pods_go_first() {
    // 4 of the old pods never became available: they are no loss.
    let sets = [set("v1", 10, 6, (10, 11)), set("v2", 1, 1, (10, 11))];
    check(&deployment(10, json!({})), &sets, &[("v1", 8)]);
}

#[test]
fn plan_both_limits_zero_percent_still_makes_progress() {
    let spec = json!({"strategy": {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "10%"}}});
    check(&deployment(1, spec), &[set("v1", 1, 1, (1, 1))], &[("v2", 0), ("v1", 0)]);
}

#[test]
fn plan_scaling_in_the_middle_of_a_rollout_is_proportional() {
    // 10 -> 20 with surge 1: 21 at most; 10 more go to the sets in proportion, the rest to the larger.
    let sets = [set("v1", 8, 8, (10, 11)), set("v2", 3, 3, (10, 11))];
    check(&deployment(20, json!({})), &sets, &[("v1", 15), ("v2", 6)]);
    check(&deployment(5, json!({})), &sets, &[("v1", 4), ("v2", 2)]);
    check(&deployment(0, json!({})), &sets, &[("v1", 0), ("v2", 0)]);
}

#[test]
fn plan_paused_deployment_scales_but_does_not_roll() {
    let paused = json!({"paused": true});
    check(&deployment(5, paused.clone()), &[set("v1", 3, 3, (3, 4))], &[("v1", 5)]);
    check(&deployment(3, paused), &[set("v1", 3, 3, (3, 4))], &[]);
}

#[test]
fn plan_old_sets_beyond_the_history_limit_are_deleted_when_complete() {
    let mut d = deployment(1, json!({"revisionHistoryLimit": 1}));
    d.metadata.annotations.as_mut().unwrap().insert("deployment.kubernetes.io/revision".into(), "2".into());
    let status =
        json!({"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 2});
    d.status = Some(serde_json::from_value(status).unwrap());
    let sets = [set("v0", 0, 0, (1, 2)), set("v1", 0, 0, (1, 2)), set("v2", 1, 1, (1, 2))];
    check(&d, &sets, &[("delete v0", 0)]);
    check(&deployment(1, json!({"revisionHistoryLimit": 1})), &sets, &[]);
}

#[test]
fn plan_recreate_waits_for_the_old_pods() {
    let spec = json!({"strategy": {"type": "Recreate"}});
    check(&deployment(2, spec.clone()), &[set("v1", 2, 2, (2, 2))], &[("v1", 0)]);
    let old = set("v1", 0, 0, (2, 2));
    let d = deployment(2, spec);
    check(&d, std::slice::from_ref(&old), &[("v2", 2)]);
    let pod =
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}})).unwrap();
    let pods = HashMap::from([("v1".to_owned(), vec![Arc::new(pod)])]);
    let waiting = plan(Observed { deployment: &d, replica_sets: vec![old], pods }, now());
    assert_eq!(sizes(&waiting), []);
}

#[test]
fn plan_old_template_that_comes_back_gets_the_next_revision() {
    let planned = run(
        &deployment(1, json!({"template": template("v1")})),
        &[set("v1", 0, 0, (1, 2)), set("v2", 1, 1, (1, 2))],
    );
    assert_eq!(planned.revision, Some(3));
    let Some(Action::Update { set, .. }) = planned.actions.first() else { panic!("{planned:?}") };
    let annotations = set.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn plan_deadline_that_passed_is_reported_once_and_not_waited_for_again() {
    let mut d = deployment(1, json!({"progressDeadlineSeconds": 60}));
    let condition = |reason: &str, status: &str| {
        json!({"conditions": [{"type": "Progressing", "status": status, "reason": reason,
            "lastUpdateTime": "2026-01-01T00:05:00Z", "lastTransitionTime": "2026-01-01T00:05:00Z"}]})
    };
    d.status = Some(serde_json::from_value(condition("ReplicaSetUpdated", "True")).unwrap());
    let late = run(&d, &[set("v2", 1, 0, (1, 2))]);
    let conditions = late.status.unwrap().conditions.unwrap();
    let progressing = conditions.iter().find(|c| c.type_ == "Progressing").unwrap();
    // The set's pod is new to the status, which counts as progress and starts the deadline anew.
    assert_eq!(progressing.reason.as_deref(), Some("ReplicaSetUpdated"));
    assert_eq!(late.requeue, Some(std::time::Duration::from_secs(61)));
    let mut known = condition("ReplicaSetUpdated", "True");
    known["replicas"] = json!(1);
    known["updatedReplicas"] = json!(1);
    d.status = Some(serde_json::from_value(known).unwrap());
    let stuck = run(&d, &[set("v2", 1, 0, (1, 2))]);
    let conditions = stuck.status.unwrap().conditions.unwrap();
    let progressing = conditions.iter().find(|c| c.type_ == "Progressing").unwrap();
    assert_eq!(
        (progressing.reason.as_deref(), progressing.status.as_str()),
        (Some("ProgressDeadlineExceeded"), "False")
    );
    assert_eq!(stuck.requeue, None);
}

#[test]
fn plan_settled_deployment_is_left_alone() {
    let mut d = deployment(1, json!({}));
    let sets = [set("v2", 1, 1, (1, 2))];
    let first = run(&d, &sets);
    d.status = first.status.clone();
    assert!(first.status.is_some());
    assert_eq!(run(&d, &sets), Plan::default());
}

#[test]
fn plan_empty_selector_does_nothing_but_say_so() {
    let planned = run(&deployment(1, json!({"selector": {}})), &[]);
    assert!(planned.selects_everything && planned.actions.is_empty());
    assert_eq!(planned.status.unwrap().observed_generation, Some(2));
}

#[test]
fn plan_collision_changes_the_name_of_the_next_try() {
    let name = |d: &Deployment| match run(d, &[]).actions.first() {
        Some(Action::Create(set)) => set.metadata.name.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let mut d = deployment(1, json!({}));
    let first = name(&d);
    assert_eq!(first, name(&d), "the name depends on the template alone");
    d.status = Some(after_collision(&d));
    assert_ne!(first, name(&d));
}
