//! Rules of autoscaling, in both versions.

use serde_json::Value;

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
    if least.number().is_some_and(|least| least < 1) {
        least.invalid("must be greater than or equal to 1", errors);
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
    spec.each("metrics").for_each(|one| metric(&one, errors));
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
    if version.text().matches('/').count() > 1 {
        version.invalid(format!("unexpected GroupVersion string: {}", version.text()), errors);
    } else if !may_be_core && version.text().split_once('/').is_none_or(|(group, _)| group.is_empty()) {
        version.invalid("apiVersion must specify API group", errors);
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

fn metric(metric: &Place<'_>, errors: &mut Errors) {
    let kind = metric.get("type");
    let kinds = SOURCES.map(|(kind, _)| kind);
    if kind.text().is_empty() {
        return kind.required("must specify a metric source type", errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, member)| *member);
    let Some(expected) = expected else {
        kind.one_of(&kinds, errors);
        return;
    };
    let source = metric.get(expected);
    if source.is_set() {
        source_of(expected, &source, errors);
    } else {
        source.required("must populate information for the given metric source", errors);
    }
    for (_, member) in SOURCES.iter().filter(|(_, member)| *member != expected) {
        let other = metric.get(member);
        if other.is_set() {
            other.forbidden("must populate the given metric source only", errors);
        }
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
    match kind.text() {
        "" => kind.required("must specify a metric target type", errors),
        "Utilization" | "Value" | "AverageValue" => {}
        _ => kind.invalid("must be either Utilization, Value, or AverageValue", errors),
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
