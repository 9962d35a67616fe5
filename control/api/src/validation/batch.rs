//! Rules of the batch group.

use serde_json::Value;

use super::apps::{not_negative, template, template_at};
use super::field::FieldError;
use super::selector;
use crate::object::{at, flag, text};
use crate::registry::Resource;

const POLICIES: [&str; 2] = ["OnFailure", "Never"];

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    match resource.plural.as_str() {
        "jobs" => {
            numbers("spec", spec, errors);
            if at(spec, &["selector"]).is_some() || flag(spec, &["manualSelector"]) {
                selector::of_workload("job", spec, errors);
            }
            template(spec, &POLICIES, errors);
        }
        "cronjobs" => {
            let schedule = text(spec, &["schedule"]);
            if !schedule.is_empty() && !is_schedule(schedule) {
                let count = schedule.split_whitespace().count();
                let why = format!("expected exactly 5 fields, found {count}: [{schedule}]");
                errors.push(FieldError::invalid("spec.schedule", schedule, why));
            }
            let limits = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
            not_negative("spec", spec, &limits, errors);
            let job = &spec["jobTemplate"]["spec"];
            numbers("spec.jobTemplate.spec", job, errors);
            template_at("spec.jobTemplate.spec.template", &job["template"], &POLICIES, errors);
        }
        _ => {}
    }
}

fn numbers(path: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    let names =
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"];
    not_negative(path, spec, &names, errors);
    let indexed = text(spec, &["completionMode"]) == "Indexed";
    if indexed && at(spec, &["completions"]).is_none() {
        errors.push(FieldError::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
}

/// Whether this could be a schedule: five fields of the allowed characters, or one of the names.
fn is_schedule(text: &str) -> bool {
    let names = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
    if names.contains(&text) {
        return true;
    }
    if let Some(period) = text.strip_prefix("@every ") {
        return period.starts_with(|c: char| c.is_ascii_digit());
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | ',' | '-' | '?');
    fields.len() == 5 && fields.iter().all(|field| field.chars().all(allowed))
}
