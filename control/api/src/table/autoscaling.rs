//! Rows of horizontal pod autoscalers, in both versions.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age};
use crate::object::{at, items, name, number, text};

/// So many metrics are shown.
const SHOWN: usize = 2;
const UNKNOWN: &str = "<unknown>";

pub(super) fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let reference =
        format!("{}/{}", text(spec, &["scaleTargetRef", "kind"]), text(spec, &["scaleTargetRef", "name"]));
    let least =
        number(spec, &["minReplicas"]).map_or_else(|| "<unset>".to_owned(), |least| least.to_string());
    vec![
        name(object).into(),
        reference.into(),
        targets(object).into(),
        least.into(),
        number(spec, &["maxReplicas"]).unwrap_or(0).into(),
        number(object, &["status", "currentReplicas"]).unwrap_or(0).into(),
        age(object, now),
    ]
}

fn targets(object: &Value) -> String {
    if let Some(target) = at(object, &["spec", "targetCPUUtilizationPercentage"]) {
        let current = number(object, &["status", "currentCPUUtilizationPercentage"]);
        return format!("cpu: {}/{target}%", percent(current, UNKNOWN));
    }
    let metrics = items(object, &["spec", "metrics"]);
    let current = items(object, &["status", "currentMetrics"]);
    let all: Vec<String> = metrics.iter().zip(0..).map(|(one, at)| metric(one, current.get(at))).collect();
    match all.len() {
        0 => NONE.to_owned(),
        few if few <= SHOWN => all.join(", "),
        many => format!("{} + {} more...", all[..SHOWN].join(", "), many - SHOWN),
    }
}

fn percent(number: Option<i64>, otherwise: &str) -> String {
    number.map_or_else(|| otherwise.to_owned(), |number| format!("{number}%"))
}

/// A metric: what it is now, and what it is to be.
fn metric(metric: &Value, current: Option<&Value>) -> String {
    let source = match text(metric, &["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let target = |value: &str| text(metric, &[source, "target", value]);
    let current = current.and_then(|one| at(one, &[source, "current"]));
    let is = |value: &str| match current.map(|one| text(one, &[value])) {
        None | Some("") => UNKNOWN,
        Some(amount) => amount,
    };
    let average = (is("averageValue"), target("averageValue"));
    match source {
        "resource" | "containerResource" => {
            let label = text(metric, &[source, "name"]);
            if !average.1.is_empty() {
                return format!("{label}: {}/{}", average.0, average.1);
            }
            let used = current.and_then(|one| number(one, &["averageUtilization"]));
            let wanted = number(metric, &[source, "target", "averageUtilization"]);
            format!("{label}: {}/{}", percent(used, UNKNOWN), percent(wanted, "<auto>"))
        }
        "pods" => format!("{}/{}", average.0, average.1),
        _ if !average.1.is_empty() => format!("{}/{} (avg)", average.0, average.1),
        _ => format!("{}/{}", is("value"), target("value")),
    }
}
