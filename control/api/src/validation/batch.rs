//! Rules of the batch group.

use std::collections::BTreeSet;

use serde_json::Value;

use super::apps::template_content;
use super::field::FieldError;
use super::place::{Errors, Place};
use super::{cron, names, selector};
use crate::object::{at, text};
use crate::registry::Resource;
use crate::select::LabelSelector;

/// An indexed job runs at most so many pods at once, and has at most so many failed indexes.
const INDEXES: i64 = 100_000;
/// With more than [`INDEXES`] completions and a limit for each index, so many.
const FEWER: i64 = 10_000;
/// The indexes that a success needs are so many bytes of text at most.
const INDEX_BYTES: usize = 64 << 10;
const RULES: usize = 20;
const EXIT_CODES: usize = 255;
const MANAGED_BY: usize = 63;
/// A CronJob's name leaves room for what its jobs' names end with.
const CRON_NAME: usize = 52;

pub(super) fn check(resource: &Resource, object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "jobs" => {
            let had = |label: &str| {
                let labels =
                    |old: &Value| at(old, &["spec", "template", "metadata", "labels", label]).is_some();
                old.is_none_or(labels)
            };
            let prefixed = had("batch.kubernetes.io/job-name") && had("batch.kubernetes.io/controller-uid");
            generated_selector(object, prefixed, errors);
            job(&spec, errors);
            job_selector(&spec, errors);
            pod_names(object, &spec, errors);
        }
        "cronjobs" => {
            cron::check(&spec, old.map(|old| &old["spec"]), errors);
            let name = text(object, &["metadata", "name"]);
            if old.is_none() && name.len() > CRON_NAME {
                errors.push(FieldError::invalid("metadata.name", name, "must be no more than 52 characters"));
            }
            let template = spec.get("jobTemplate").get("spec");
            job(&template, errors);
            let chosen = template.get("selector");
            if chosen.is_set() {
                chosen.invalid("`selector` will be auto-generated", errors);
            }
            let manual = template.get("manualSelector");
            if manual.flag() {
                errors.push(FieldError::not_supported(manual.path, true, &["nil", "false"]));
            }
        }
        _ => {}
    }
}

/// The selector that nobody chose is the one that the server makes. Jobs from before had no `prefixed` labels.
fn generated_selector(object: &Value, prefixed: bool, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let chosen = spec.get("selector");
    if spec.get("manualSelector").flag() || !chosen.is_set() {
        return;
    }
    let (name, uid) = (text(object, &["metadata", "name"]), text(object, &["metadata", "uid"]));
    if uid.is_empty() {
        errors.push(FieldError::required("metadata.uid", ""));
    }
    let labels = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let labels = if prefixed { &labels[..] } else { &labels[..2] };
    let found = at(spec.value, &["template", "metadata", "labels"]);
    for (key, expected) in labels {
        let path = "spec.template.metadata.labels";
        match found.and_then(|found| found.get(*key)).and_then(Value::as_str) {
            Some(value) if value == *expected => {}
            Some(_) => {
                let why = format!("must be '{expected}'");
                let all = found.cloned().unwrap_or_default();
                errors.push(FieldError::invalid(format!("{path}[{key}]"), all, why));
            }
            None => {
                let why = format!("must be '{expected}'");
                errors.push(FieldError::required(format!("{path}[{key}]"), why));
            }
        }
    }
    let expected: serde_json::Map<String, Value> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    let matches = LabelSelector::from_object(chosen.value)
        .is_some_and(|selector| selector.matches_labels(Some(&Value::Object(expected))));
    if !matches {
        chosen.invalid("`selector` not auto-generated", errors);
    }
}

fn job_selector(spec: &Place<'_>, errors: &mut Errors) {
    let chosen = spec.get("selector");
    if !chosen.is_set() {
        return chosen.required("", errors);
    }
    selector::selector(&chosen.path, chosen.value, errors);
    let labels = at(spec.value, &["template", "metadata", "labels"]);
    let matches = LabelSelector::from_object(chosen.value).is_none_or(|one| one.matches_labels(labels));
    if !matches {
        let value = labels.cloned().unwrap_or(Value::Null);
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid("spec.template.metadata.labels", value, why));
    }
}

/// The pods of an indexed job are named after it.
fn pod_names(object: &Value, spec: &Place<'_>, errors: &mut Errors) {
    let completions = spec.get("completions").number().filter(|number| *number > 0);
    if let ("Indexed", Some(completions)) = (spec.get("completionMode").text(), completions) {
        let name = text(object, &["metadata", "name"]);
        let last = format!("{name}-{}", completions - 1);
        if names::dns_label(&last).is_err() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
    }
}

/// The specification of a job, alone or in a template.
fn job(spec: &Place<'_>, errors: &mut Errors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    spec.not_negative_at(&numbers, errors);
    let (per_index, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if failed.is_set() && !per_index.is_set() {
        per_index.required("when maxFailedIndexes is specified", errors);
    }
    let manager = spec.get("managedBy");
    if manager.is_set() {
        names::domain_path(&manager, errors);
        if manager.text().len() > MANAGED_BY {
            manager.too_long(MANAGED_BY, errors);
        }
    }
    let mode = spec.get("completionMode");
    if mode.is_set() && !matches!(mode.text(), "NonIndexed" | "Indexed") {
        mode.one_of(&["NonIndexed", "Indexed"], errors);
    } else if mode.text() == "Indexed" {
        indexed(spec, errors);
    } else {
        for place in [&per_index, &failed].into_iter().filter(|place| place.is_set()) {
            place.invalid("requires indexed completion mode", errors);
        }
    }
    failure_policy(spec, errors);
    success_policy(spec, errors);
    let replacement = spec.get("podReplacementPolicy");
    if replacement.is_set() {
        let choices: &[&str] = match spec.get("podFailurePolicy").is_set() {
            true => &["Failed"],
            false => &["Failed", "TerminatingOrFailed"],
        };
        replacement.one_of(choices, errors);
    }
    let template = spec.get("template");
    template_content(&template.path, template.value, errors);
    restart(spec, &template.get("spec").get("restartPolicy"), errors);
}

fn restart(spec: &Place<'_>, policy: &Place<'_>, errors: &mut Errors) {
    match policy.text() {
        "" | "Always" => policy.required("valid values: \"OnFailure\", \"Never\"", errors),
        "OnFailure" if spec.get("podFailurePolicy").is_set() => {
            policy.invalid("only \"Never\" is supported when podFailurePolicy is specified", errors);
        }
        _ => {
            policy.one_of(&["OnFailure", "Never"], errors);
        }
    }
}

fn indexed(spec: &Place<'_>, errors: &mut Errors) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let (per_index, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if !completions.is_set() {
        completions.required("when completion mode is Indexed", errors);
    }
    let above = |place: &Place<'_>, limit: i64| place.number().is_some_and(|number| number > limit);
    if above(&parallelism, INDEXES) {
        let why = format!("must be less than or equal to {INDEXES} when completion mode is Indexed");
        parallelism.invalid(why, errors);
    }
    if completions.number().is_some_and(|completions| above(&failed, completions)) {
        failed.invalid("must be less than or equal to completions", errors);
    }
    if above(&failed, INDEXES) {
        failed.invalid(format!("must be less than or equal to {INDEXES}"), errors);
    }
    if above(&completions, INDEXES) && per_index.is_set() {
        if !failed.is_set() {
            failed.required(&format!("must be specified when completions is above {INDEXES}"), errors);
        }
        for place in [&parallelism, &failed].into_iter().filter(|place| above(place, FEWER)) {
            let why = format!(
                "must be less than or equal to {FEWER} when completions are above {INDEXES} and used with backoff limit \
                 per index"
            );
            place.invalid(why, errors);
        }
    }
}

fn failure_policy(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.get("podFailurePolicy");
    if !policy.is_set() {
        return;
    }
    let pod = spec.get("template").get("spec");
    let containers: BTreeSet<&str> = pod
        .each("containers")
        .chain(pod.each("initContainers"))
        .map(|one| text(one.value, &["name"]))
        .collect();
    policy.get("rules").at_most(RULES, errors);
    for rule in policy.each("rules") {
        let action = rule.get("action");
        match action.text() {
            "" => action.required("valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]", errors),
            "FailIndex" if !spec.get("backoffLimitPerIndex").is_set() => {
                action.invalid("requires the backoffLimitPerIndex to be set", errors);
            }
            _ => {
                action.one_of(&["Count", "FailIndex", "FailJob", "Ignore"], errors);
            }
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.get("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        conditions.at_most(RULES, errors);
        for pattern in conditions.items() {
            pattern.get("type").judge_key(errors);
            let status = pattern.get("status");
            if status.text().is_empty() {
                status.required("valid values: [\"False\" \"True\" \"Unknown\"]", errors);
            } else {
                status.one_of(&["False", "True", "Unknown"], errors);
            }
        }
        match (codes.is_set(), conditions.is_full()) {
            (true, true) => {
                rule.wrong("specifying both OnExitCodes and OnPodConditions is not supported", errors);
            }
            (false, false) => {
                rule.wrong("specifying one of OnExitCodes and OnPodConditions is required", errors);
            }
            _ => {}
        }
    }
}

fn exit_codes(codes: &Place<'_>, containers: &BTreeSet<&str>, errors: &mut Errors) {
    let operator = codes.get("operator");
    if operator.text().is_empty() {
        operator.required("valid values: [\"In\" \"NotIn\"]", errors);
    } else {
        operator.one_of(&["In", "NotIn"], errors);
    }
    let container = codes.get("containerName");
    if container.is_set() && !containers.contains(container.text()) {
        let why = "must be one of the container or initContainer names in the pod template";
        container.invalid(why, errors);
    }
    let values = codes.get("values");
    if values.count() == 0 {
        values.invalid("at least one value is required", errors);
    } else {
        values.at_most(EXIT_CODES, errors);
    }
    let mut seen = BTreeSet::new();
    let (mut last, mut ordered) = (i64::MIN, true);
    for place in values.items() {
        let value = place.number().unwrap_or(0);
        if operator.text() == "In" && value == 0 {
            place.invalid("must not be 0 for the In operator", errors);
        }
        if !seen.insert(value) {
            place.duplicate(errors);
        }
        ordered &= last <= value;
        last = value;
    }
    if !ordered {
        values.invalid("must be ordered", errors);
    }
}

fn success_policy(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.get("successPolicy");
    if !policy.is_set() {
        return;
    }
    if spec.get("completionMode").text() != "Indexed" {
        return policy.invalid_struct("batch/v1.SuccessPolicy", "requires indexed completion mode", errors);
    }
    let rules = policy.get("rules");
    if rules.count() == 0 {
        rules.required("at least one rules must be specified when the successPolicy is specified", errors);
    }
    rules.at_most(RULES, errors);
    let completions = spec.get("completions").number().unwrap_or(0);
    for rule in rules.items() {
        let (count, list) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if !count.is_set() && !list.is_set() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified", errors);
        }
        let mut total = 0;
        if list.is_set() {
            if list.text().len() > INDEX_BYTES {
                list.too_long(INDEX_BYTES, errors);
            }
            match indexes(list.text(), completions) {
                Ok(found) => total = found,
                Err(why) => list.invalid(format!("error parsing succeededIndexes: {why}"), errors),
            }
        }
        let Some(wanted) = count.number() else { continue };
        count.not_negative(errors);
        if wanted > completions {
            let why =
                format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(why, errors);
        }
        if list.is_set() && wanted > total {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            count.invalid(why, errors);
        }
    }
}

/// How many indexes a text such as `1,3-5` names.
pub(super) fn indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (low, high) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= low) {
            return Err(format!("non-increasing order, previous: {last}, current: {low}"));
        }
        total += high - low + 1;
        last = Some(high);
    }
    Ok(total)
}

/// The ends of `3-5` or `1`.
pub(super) fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |part: &str| {
        let value = part
            .parse::<i64>()
            .map_err(|_| format!("cannot convert string to integer for index: {part:?}"))?;
        if value >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        Ok(value)
    };
    match part.split_once('-') {
        None => number(part).map(|index| (index, index)),
        Some((_, high)) if high.contains('-') => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
        Some((low, high)) => {
            let (low, high) = (number(low)?, number(high)?);
            if low >= high {
                return Err(format!("non-increasing order, previous: {low}, current: {high}"));
            }
            Ok((low, high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_or_refused() {
        assert_eq!(indexes("1,3-5", 10), Ok(4));
        assert_eq!(indexes("", 10), Ok(0));
        for bad in ["x", "3-1", "1,1", "9-10", "1-2-3", "-1"] {
            assert!(indexes(bad, 10).is_err(), "{bad}");
        }
    }
}
