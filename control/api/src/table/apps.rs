//! Rows of the apps and batch groups.

use jiff::Timestamp;
use serde_json::Value;

use super::age::{human_duration, since};
use super::cells::{NONE, age, containers, count, images, labels, selector};
use crate::object::{at, flag, items, name, number, text};
use crate::registry::Resource;

pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let pods = &object["spec"]["template"]["spec"];
    let selected = selector(at(object, &["spec", "selector"]));
    let numbers = |path: &[&str]| number(object, path).unwrap_or(0);
    let cells = match resource.plural.as_str() {
        "deployments" => vec![
            name(object).into(),
            format!("{}/{}", numbers(&["status", "readyReplicas"]), numbers(&["spec", "replicas"])).into(),
            numbers(&["status", "updatedReplicas"]).into(),
            numbers(&["status", "availableReplicas"]).into(),
            age(object, now),
            containers(pods),
            images(pods),
            selected,
        ],
        "replicasets" => vec![
            name(object).into(),
            count(object, &["spec", "replicas"]),
            count(object, &["status", "replicas"]),
            count(object, &["status", "readyReplicas"]),
            age(object, now),
            containers(pods),
            images(pods),
            selected,
        ],
        "daemonsets" => vec![
            name(object).into(),
            count(object, &["status", "desiredNumberScheduled"]),
            count(object, &["status", "currentNumberScheduled"]),
            count(object, &["status", "numberReady"]),
            count(object, &["status", "updatedNumberScheduled"]),
            count(object, &["status", "numberAvailable"]),
            labels(at(pods, &["nodeSelector"])),
            age(object, now),
            containers(pods),
            images(pods),
            selected,
        ],
        "statefulsets" => vec![
            name(object).into(),
            format!("{}/{}", numbers(&["status", "readyReplicas"]), numbers(&["spec", "replicas"])).into(),
            age(object, now),
            containers(pods),
            images(pods),
        ],
        "controllerrevisions" => controller_revision(object, now),
        "jobs" => job(object, now),
        "cronjobs" => cron_job(object, now),
        _ => return None,
    };
    Some(cells)
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = items(object, &["metadata", "ownerReferences"]).iter().find(|one| flag(one, &["controller"]));
    let owner = owner.map_or_else(
        || NONE.to_owned(),
        |one| {
            let group = text(one, &["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", text(one, &["kind"]).to_lowercase(), text(one, &["name"]))
        },
    );
    vec![name(object).into(), owner.into(), count(object, &["revision"]), age(object, now)]
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let done = number(object, &["status", "succeeded"]).unwrap_or(0);
    let completions = match (number(spec, &["completions"]), number(spec, &["parallelism"]).unwrap_or(0)) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let moment = |path: &[&str]| text(object, path).parse::<Timestamp>().ok();
    let duration = moment(&["status", "startTime"]).map(|start| {
        let end = moment(&["status", "completionTime"]).unwrap_or(now);
        human_duration(end.as_second() - start.as_second())
    });
    let holds = |kind: &str| {
        items(object, &["status", "conditions"])
            .iter()
            .any(|one| text(one, &["type"]) == kind && text(one, &["status"]) == "True")
    };
    let status = if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if at(object, &["metadata", "deletionTimestamp"]).is_some() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    vec![
        name(object).into(),
        status.into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        age(object, now),
        containers(&spec["template"]["spec"]),
        images(&spec["template"]["spec"]),
        selector(at(spec, &["selector"])),
    ]
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let job = &spec["jobTemplate"]["spec"];
    let last = text(object, &["status", "lastScheduleTime"]);
    let zone = text(spec, &["timeZone"]);
    vec![
        name(object).into(),
        text(spec, &["schedule"]).into(),
        if zone.is_empty() { NONE.into() } else { zone.into() },
        if flag(spec, &["suspend"]) { "True" } else { "False" }.into(),
        items(object, &["status", "active"]).len().into(),
        if last.is_empty() { NONE.into() } else { since(last, now).into() },
        age(object, now),
        containers(&job["template"]["spec"]),
        images(&job["template"]["spec"]),
        selector(at(job, &["selector"])),
    ]
}
