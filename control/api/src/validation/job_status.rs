//! What a job's status may become (`pkg/apis/batch/validation`, `pkg/registry/batch/job`).
//!
//! Controllers other than upstream's write it, too. Most rules hold only where a status changes what they are about, so that
//! one from before them can still be brought on.

use std::collections::BTreeSet;

use serde_json::Value;

use super::batch::{indexes, interval};
use super::place::{Errors, IMMUTABLE, Place};
use crate::object::{flag, text};

/// A job's status, and what its conditions say.
struct Status<'a> {
    of: Place<'a>,
    complete: bool,
    failed: bool,
    failure_target: bool,
    success_criteria: bool,
}

impl<'a> Status<'a> {
    fn of(job: &'a Value) -> Self {
        let of = Place::of(job, "status");
        let has = |kind: &str| says(&of, kind, "True");
        Self {
            complete: has("Complete"),
            failed: has("Failed"),
            failure_target: has("FailureTarget"),
            success_criteria: has("SuccessCriteriaMet"),
            of,
        }
    }

    fn is_finished(&self) -> bool {
        self.complete || self.failed
    }

    fn count(&self, name: &'a str) -> i64 {
        self.of.get(name).number().unwrap_or(0)
    }
}

fn says(status: &Place<'_>, kind: &str, what: &str) -> bool {
    status.each("conditions").any(|one| text(one.value, &["type"]) == kind && one.value["status"] == what)
}

pub(super) fn check(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Status::of(new), Status::of(old));
    now.of.not_negative_at(&["active", "succeeded", "failed", "ready", "terminating"], errors);
    uncounted(&now.of.get("uncountedTerminatedPods"), errors);
    ends(&now, &before, errors);
    finished(new, &now, &before, errors);
    index_lists(new, &now, &before, errors);
    pods(&now, &before, errors);
    success(new, &now, errors);
    kept(new, &now, &before, errors);
}

fn uncounted(pods: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for pod in pods.each("succeeded").chain(pods.each("failed")) {
        if pod.text().is_empty() {
            pod.invalid("must not be empty", errors);
        } else if !seen.insert(pod.text()) {
            pod.duplicate(errors);
        }
    }
}

/// Which conditions go together, and when a job is over.
fn ends(now: &Status<'_>, before: &Status<'_>, errors: &mut Errors) {
    let (conditions, end, start) =
        (now.of.get("conditions"), now.of.get("completionTime"), now.of.get("startTime"));
    let completes = now.complete != before.complete;
    let fails = now.failed != before.failed;
    let starts = start.value != before.of.get("startTime").value;
    let ends = end.value != before.of.get("completionTime").value;
    if (completes || fails) && now.complete && now.failed {
        conditions.wrong("cannot set Complete=True and Failed=true conditions", errors);
    }
    if (completes || now.failure_target != before.failure_target) && now.complete && now.failure_target {
        conditions.wrong("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    if (completes || ends) && end.is_set() && !now.complete {
        end.invalid("cannot set completionTime when there is no Complete=True condition", errors);
    }
    if (completes || ends) && !end.is_set() && now.complete {
        end.required("completionTime is required for Complete jobs", errors);
    }
    if (starts || ends) && start.is_set() && end.is_set() && end.text() < start.text() {
        end.invalid("must be equal to or after `startTime`", errors);
    }
    let failed_indexes = now.of.get("failedIndexes").value != before.of.get("failedIndexes").value;
    if (fails || failed_indexes) && now.failed && !now.failure_target {
        let why = "cannot set Failed=True condition without the FailureTarget=true condition";
        conditions.wrong(why, errors);
    }
    let criteria = now.success_criteria != before.success_criteria;
    if (completes || criteria) && now.complete && !now.success_criteria {
        let why = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        conditions.wrong(why, errors);
    }
}

/// What a job that is over has and has not.
fn finished(job: &Value, now: &Status<'_>, before: &Status<'_>, errors: &mut Errors) {
    if !now.is_finished() {
        return;
    }
    let finishes = !before.is_finished();
    let changed = |name: &str| now.of.value.get(name) != before.of.value.get(name);
    if (finishes || now.count("active") != before.count("active")) && now.count("active") > 0 {
        now.of.get("active").invalid("active>0 is invalid for finished job", errors);
    }
    let never_ran = flag(job, &["spec", "suspend"]) && job["spec"]["completions"] == 0;
    let start = now.of.get("startTime");
    if (finishes || changed("startTime")) && !never_ran && !start.is_set() {
        start.required("startTime is required for finished job", errors);
    }
    let pods = now.of.get("uncountedTerminatedPods");
    if (finishes || changed("uncountedTerminatedPods"))
        && pods.get("failed").count() + pods.get("succeeded").count() > 0
    {
        pods.invalid_struct("batch/v1.UncountedTerminatedPods", "must be empty for finished job", errors);
    }
}

/// The indexes that are said to be over.
fn index_lists(job: &Value, now: &Status<'_>, before: &Status<'_>, errors: &mut Errors) {
    let (done, failed) = (now.of.get("completedIndexes"), now.of.get("failedIndexes"));
    let done_changed = done.text() != before.of.get("completedIndexes").text();
    let failed_changed = failed.value != before.of.get("failedIndexes").value;
    let completions = job["spec"]["completions"].as_i64();
    let per_index = !job["spec"]["backoffLimitPerIndex"].is_null();
    let judge = |list: &Place<'_>, name: &str, errors: &mut Errors| {
        if let Some(Err(why)) = completions.map(|completions| indexes(list.text(), completions)) {
            list.invalid(format!("error parsing {name}: {why}"), errors);
        }
    };
    if done_changed {
        let before = errors.len();
        judge(&done, "completedIndexes", errors);
        // The text is no pointer: it is empty where there is none.
        errors[before..].iter_mut().for_each(|error| error.value = Some(done.text().into()));
    }
    if failed_changed && per_index && failed.is_set() {
        judge(&failed, "failedIndexes", errors);
    }
    if done_changed && done.is_full() && text(job, &["spec", "completionMode"]) != "Indexed" {
        done.invalid("cannot set non-empty completedIndexes when non-indexed completion mode", errors);
    }
    if failed_changed && !per_index && failed.is_set() {
        failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null", errors);
    }
    if let Some(completions) = completions.filter(|_| failed.is_set() && (done_changed || failed_changed))
        && let Some(index) = overlap(done.text(), failed.text(), completions)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        failed.invalid(why, errors);
    }
}

/// The first index in both texts; intervals that cannot be read are passed over.
fn overlap(done: &str, failed: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (done, failed) = (read(done), read(failed));
    let (mut done, mut failed) = (done.iter().peekable(), failed.iter().peekable());
    while let (Some((a, b)), Some((c, d))) = (done.peek(), failed.peek()) {
        if a <= d && c <= b {
            return Some(*a.max(c));
        }
        if a <= c {
            done.next();
        } else {
            failed.next();
        }
    }
    None
}

fn pods(now: &Status<'_>, before: &Status<'_>, errors: &mut Errors) {
    let (terminating, ready) = (now.of.get("terminating"), now.of.get("ready"));
    let finishes = now.is_finished() != before.is_finished();
    if (finishes || terminating.value != before.of.get("terminating").value)
        && now.is_finished()
        && now.count("terminating") > 0
    {
        terminating.invalid("terminating>0 is invalid for finished job", errors);
    }
    let changed =
        ready.value != before.of.get("ready").value || now.count("active") != before.count("active");
    if changed && now.count("ready") > now.count("active") && ready.is_set() {
        ready.invalid("cannot set more ready pods than active", errors);
    }
}

fn success(job: &Value, now: &Status<'_>, errors: &mut Errors) {
    let conditions = now.of.get("conditions");
    if now.success_criteria && now.failed {
        conditions.wrong("cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if now.success_criteria && now.failure_target {
        conditions.wrong("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", errors);
    }
    if !job["spec"]["successPolicy"].is_null() && !now.success_criteria && now.complete {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions.wrong(why, errors);
    }
}

/// What was said once and is not taken back.
fn kept(job: &Value, now: &Status<'_>, before: &Status<'_>, errors: &mut Errors) {
    let conditions = now.of.get("conditions");
    for (kind, was, is) in [
        ("Failed", before.failed, now.failed),
        ("Complete", before.complete, now.complete),
        ("FailureTarget", before.failure_target, now.failure_target),
    ] {
        if was && !is {
            conditions.wrong(&format!("cannot disable the terminal {kind}=True condition"), errors);
        }
    }
    let spec = &job["spec"];
    // A job that runs all at once may be made smaller.
    let elastic = spec["completionMode"] == "Indexed" && spec["completions"] == spec["parallelism"];
    for (name, kept) in [("failed", true), ("succeeded", !elastic)] {
        if kept && now.count(name) < before.count(name) {
            let why = format!("cannot decrease the {name} counter");
            let error = super::FieldError::invalid(now.of.child(name), now.count(name), why);
            errors.push(error);
        }
    }
    let (end, ended) = (now.of.get("completionTime"), before.of.get("completionTime"));
    if end.is_set() && ended.is_set() && end.value != ended.value {
        end.invalid(IMMUTABLE, errors);
    }
    let (start, started) = (now.of.get("startTime"), before.of.get("startTime"));
    let resumes = says(&before.of, "Suspended", "True") && says(&now.of, "Suspended", "False");
    if started.is_set() && start.value != started.value && !resumes && !flag(job, &["spec", "suspend"]) {
        start.invalid("field is immutable for unsuspended job once set", errors);
    }
    if before.success_criteria && !now.success_criteria {
        conditions.wrong("cannot disable the SuccessCriteriaMet=True condition", errors);
    }
    if before.complete && !before.success_criteria && now.success_criteria {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        conditions.wrong(why, errors);
    }
}
