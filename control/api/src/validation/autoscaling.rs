//! Rules of autoscaling, in both versions.

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{names, resources};
use crate::object::text;

const PERIOD: i64 = 1800;
const WINDOW: i64 = 3600;
/// The sources of metrics: the type, and the member that describes it.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

pub(super) fn check(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    // Who scales to nothing already may go on to.
    let floor = i64::from(old.is_none_or(|old| old["spec"]["minReplicas"] != 0));
    if least.number().is_some_and(|least| least < floor) {
        least.invalid(format!("must be greater than or equal to {floor}"), errors);
    }
    match most.number().unwrap_or(0) {
        0 => most.required("must be set and greater than 0", errors),
        ..0 => most.invalid("must be greater than or equal to 1", errors),
        _ => {}
    }
    if least.number().is_some_and(|least| most.number().unwrap_or(0) < least) {
        most.invalid("must be greater than or equal to `minReplicas`", errors);
    }
    let target = spec.get("scaleTargetRef");
    reference(&target, errors);
    let kept = old.map(|old| &old["spec"]["scaleTargetRef"]);
    let is = |name: &str| kept.is_some_and(|kept| text(kept, &[name]) == target.get(name).text());
    if !(is("apiVersion") && is("kind")) {
        // The one kind of the core group that can be scaled needs no group.
        version(&target, target.get("kind").text() == "ReplicationController", errors);
    }
    // The older version has one metric, which upstream judges as it is stored.
    let percent = spec.get("targetCPUUtilizationPercentage");
    if let Some(number) = percent.number().filter(|number| *number < 1) {
        let path = "spec.metrics[0].resource.target.averageUtilization";
        errors.push(FieldError::invalid(path, number, "must be greater than 0"));
    }
    let metrics = spec.get("metrics");
    metrics.items().for_each(|one| metric(&one, errors));
    let outside = metrics.items().any(|one| matches!(one.get("type").text(), "Object" | "External"));
    if least.number() == Some(0) && !outside {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        metrics.forbidden(why, errors);
    }
    for name in ["scaleUp", "scaleDown"] {
        let rules = spec.get("behavior").get(name);
        if rules.is_set() {
            scaling_rules(&rules, errors);
        }
    }
}

fn reference(reference: &Place<'_>, errors: &mut Errors) {
    reference.get("kind").must(names::path_segment, errors);
    reference.get("name").must(names::path_segment, errors);
}

fn version(reference: &Place<'_>, may_be_core: bool, errors: &mut Errors) {
    let version = reference.get("apiVersion");
    let text = version.text();
    if text.matches('/').count() > 1 {
        version.invalid(format!("unexpected GroupVersion string: {text}"), errors);
    } else if !may_be_core && text.split_once('/').is_none_or(|(group, _)| group.is_empty()) {
        errors.push(FieldError::invalid(&version.path, text, "apiVersion must specify API group"));
    }
}

fn scaling_rules(rules: &Place<'_>, errors: &mut Errors) {
    let window = rules.get("stabilizationWindowSeconds");
    match window.number() {
        Some(..0) => window.invalid("must be greater than or equal to zero", errors),
        Some(seconds) if seconds > WINDOW => {
            window.invalid(format!("must be less than or equal to {WINDOW}"), errors);
        }
        _ => {}
    }
    rules.get("selectPolicy").maybe_one_of(&["Disabled", "Max", "Min"], errors);
    let policies = rules.get("policies");
    if policies.count() == 0 {
        policies.required("must specify at least one Policy", errors);
    }
    for policy in policies.items() {
        policy.get("type").one_of(&["Percent", "Pods"], errors);
        for name in ["value", "periodSeconds"] {
            let place = policy.get(name);
            if place.number().unwrap_or(0) <= 0 {
                place.invalid("must be greater than zero", errors);
            }
        }
        let period = policy.get("periodSeconds");
        if period.number().is_some_and(|seconds| seconds > PERIOD) {
            period.invalid(format!("must be less than or equal to {PERIOD}"), errors);
        }
    }
    rules.get("tolerance").amount_not_negative(errors);
}

/// Of several sources the first is judged, in this order.
const JUDGED: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

fn metric(metric: &Place<'_>, errors: &mut Errors) {
    let kind = metric.get("type");
    if kind.text().is_empty() {
        kind.required("must specify a metric source type", errors);
    }
    kind.one_of(&SOURCES.map(|(kind, _)| kind), errors);
    let given: Vec<&str> = JUDGED.into_iter().filter(|name| metric.get(name).is_set()).collect();
    if let Some(first) = given.first() {
        source_of(first, &metric.get(first), errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, member)| *member);
    if let Some(expected) = expected.filter(|expected| !given.contains(expected)) {
        metric.get(expected).required("must populate information for the given metric source", errors);
    }
    if given.len() == 1 {
        return;
    }
    for other in given.into_iter().filter(|name| Some(*name) != expected) {
        metric.get(other).forbidden("must populate the given metric source only", errors);
    }
}

fn source_of(kind: &str, source: &Place<'_>, errors: &mut Errors) {
    let target = source.get("target");
    match kind {
        "object" => {
            reference(&source.get("describedObject"), errors);
            version(&source.get("describedObject"), true, errors);
            identifier(&source.get("metric"), errors);
        }
        "external" | "pods" => identifier(&source.get("metric"), errors),
        _ => {
            let name = source.get("name");
            if name.text().is_empty() {
                name.required("must specify a resource name", errors);
            } else if kind == "containerResource" {
                resources::container_name(&name.path, name.text(), errors);
            }
            let container = source.get("container");
            match (kind, container.text()) {
                ("containerResource", "") => container.required("must specify a container", errors),
                ("containerResource", _) => {
                    container.judge(names::dns_label, errors);
                }
                _ => {}
            }
        }
    }
    metric_target(&target, errors);
    let has = |name: &str| target.get(name).is_set();
    let average = target.get("averageValue");
    match kind {
        "object" if !has("value") && !has("averageValue") => {
            average.required("must set either a target value or averageValue", errors);
        }
        "external" if !has("value") && !has("averageValue") => {
            average.required("must set either a target value for metric or a per-pod target", errors);
        }
        "external" if has("value") && has("averageValue") => {
            let why = "may not set both a target value for metric and a per-pod target";
            target.get("value").forbidden(why, errors);
        }
        "pods" if !has("averageValue") => {
            average.required("must specify a positive target averageValue", errors);
        }
        "resource" | "containerResource" => match (has("averageUtilization"), has("averageValue")) {
            (false, false) => {
                let why = "must set either a target raw value or a target utilization";
                target.get("averageUtilization").required(why, errors);
            }
            (true, true) => {
                average.forbidden("may not set both a target raw value and a target utilization", errors);
            }
            _ => {}
        },
        _ => {}
    }
}

fn identifier(metric: &Place<'_>, errors: &mut Errors) {
    let name = metric.get("name");
    if name.text().is_empty() {
        name.required("must specify a metric name", errors);
    } else {
        name.judge(names::path_segment, errors);
    }
}

fn metric_target(target: &Place<'_>, errors: &mut Errors) {
    let kind = target.get("type");
    if kind.text().is_empty() {
        kind.required("must specify a metric target type", errors);
    }
    if !matches!(kind.text(), "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&kind.path, kind.text(), why));
    }
    for name in ["value", "averageValue"] {
        let amount = target.get(name);
        if amount.quantity().is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            amount.invalid("must be positive", errors);
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.number().is_some_and(|percent| percent < 1) {
        utilization.invalid("must be greater than 0", errors);
    }
}
