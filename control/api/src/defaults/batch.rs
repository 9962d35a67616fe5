//! Defaults of the batch group.

use serde_json::Value;

use super::core::template;
use super::{child, default, default_unset, each};
use crate::object::{at, set};
use crate::registry::Resource;

pub(super) fn apply(resource: &Resource, object: &mut Value) {
    match resource.plural.as_str() {
        "jobs" => {
            job(child(object, "spec"));
            let labels = at(object, &["spec", "template", "metadata", "labels"]).cloned();
            let metadata = child(object, "metadata");
            if let (Some(labels), None) = (labels, at(metadata, &["labels"])) {
                set(metadata, "labels", labels);
            }
        }
        "cronjobs" => cron_job(child(object, "spec")),
        _ => {}
    }
}

fn job(spec: &mut Value) {
    // Without either number a job runs once; with only a parallelism it is a work queue.
    if at(spec, &["completions"]).is_none() && at(spec, &["parallelism"]).is_none() {
        set(spec, "completions", 1);
        set(spec, "parallelism", 1);
    }
    default(spec, "parallelism", 1);
    let indexed = at(spec, &["backoffLimitPerIndex"]).is_some();
    default(spec, "backoffLimit", if indexed { i64::from(i32::MAX) } else { 6 });
    default_unset(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let replacement =
        if at(spec, &["podFailurePolicy"]).is_some() { "Failed" } else { "TerminatingOrFailed" };
    default_unset(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in each(policy, "rules") {
            for pattern in each(rule, "onPodConditions") {
                default(pattern, "status", "True");
            }
        }
    }
    template(spec);
}

fn cron_job(spec: &mut Value) {
    default(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    // The job's own defaults are applied when the job is made, but its pods' are visible here.
    if let Some(job) = spec.get_mut("jobTemplate").and_then(|one| one.get_mut("spec")) {
        template(job);
    }
}
