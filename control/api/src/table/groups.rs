//! Rows of the smaller groups.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age, joined, or_none, selector};
use super::service::slice;
use crate::object::{at, flag, items, name, number, text};
use crate::registry::Resource;

pub(super) fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let spec = &object["spec"];
    let named = |middle: Vec<Value>| [vec![name(object).into()], middle, vec![age(object, now)]].concat();
    let cells = match (resource.group.as_str(), resource.plural.as_str()) {
        ("discovery.k8s.io", "endpointslices") => slice(object, now),
        ("events.k8s.io", "events") => super::core::event(object, now),
        ("coordination.k8s.io", "leases") => named(vec![text(spec, &["holderIdentity"]).into()]),
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            vec![name(object).into(), text(object, &["metadata", "creationTimestamp"]).into()]
        }
        ("rbac.authorization.k8s.io", _) => binding(object, now),
        ("networking.k8s.io", "networkpolicies") => named(vec![selector(at(spec, &["podSelector"]))]),
        ("networking.k8s.io", "ingresses") => ingress(object, now),
        ("networking.k8s.io", "ingressclasses") => {
            let parameters = match text(spec, &["parameters", "name"]) {
                "" => NONE.to_owned(),
                name => {
                    let (group, kind) =
                        (text(spec, &["parameters", "apiGroup"]), text(spec, &["parameters", "kind"]));
                    let dot = if group.is_empty() { "" } else { "." };
                    format!("{kind}{dot}{group}/{name}")
                }
            };
            named(vec![text(spec, &["controller"]).into(), parameters.into()])
        }
        ("policy", "poddisruptionbudgets") => {
            let amount = |field: &str| match spec.get(field) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Number(number)) => number.to_string(),
                _ => "N/A".to_owned(),
            };
            let allowed = number(object, &["status", "disruptionsAllowed"]).unwrap_or(0);
            named(vec![amount("minAvailable").into(), amount("maxUnavailable").into(), allowed.into()])
        }
        ("autoscaling", _) => autoscaler(object, now),
        ("scheduling.k8s.io", "priorityclasses") => vec![
            name(object).into(),
            at(object, &["value"]).cloned().unwrap_or_else(|| 0.into()),
            flag(object, &["globalDefault"]).into(),
            age(object, now),
            text(object, &["preemptionPolicy"]).into(),
        ],
        ("storage.k8s.io", "storageclasses") => storage_class(object, now),
        ("storage.k8s.io", "csinodes") => named(vec![items(spec, &["drivers"]).len().into()]),
        ("storage.k8s.io", "volumeattachments") => named(vec![
            text(spec, &["attacher"]).into(),
            text(spec, &["source", "persistentVolumeName"]).into(),
            text(spec, &["nodeName"]).into(),
            flag(object, &["status", "attached"]).into(),
        ]),
        ("node.k8s.io", "runtimeclasses") => named(vec![text(object, &["handler"]).into()]),
        ("certificates.k8s.io", _) => signing_request(object, now),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow_schema(object, now),
        _ => return None,
    };
    Some(cells)
}

fn binding(object: &Value, now: Timestamp) -> Vec<Value> {
    let of = |kind: &str| -> Value {
        let names: Vec<String> = items(object, &["subjects"])
            .iter()
            .filter(|one| text(one, &["kind"]) == kind)
            .map(|one| match (kind, text(one, &["namespace"])) {
                ("ServiceAccount", namespace) => format!("{namespace}/{}", text(one, &["name"])),
                _ => text(one, &["name"]).to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    let role = format!("{}/{}", text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
    vec![name(object).into(), role.into(), age(object, now), of("User"), of("Group"), of("ServiceAccount")]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let hosts: Vec<&str> = items(spec, &["rules"])
        .iter()
        .map(|rule| text(rule, &["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    let hosts = match hosts.as_slice() {
        [] => "*".to_owned(),
        few if few.len() <= 3 => few.join(","),
        many => format!("{} + {} more...", many[..3].join(","), many.len() - 3),
    };
    let addresses: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|one| match text(one, &["ip"]) {
            "" => text(one, &["hostname"]),
            ip => ip,
        })
        .collect();
    let ports = if items(spec, &["tls"]).is_empty() { "80" } else { "80, 443" };
    vec![
        name(object).into(),
        or_none(text(spec, &["ingressClassName"])),
        hosts.into(),
        addresses.join(",").into(),
        ports.into(),
        age(object, now),
    ]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let text_of = |value: Option<&Value>| value.map_or_else(|| "<unknown>".to_owned(), ToString::to_string);
    let reference =
        format!("{}/{}", text(spec, &["scaleTargetRef", "kind"]), text(spec, &["scaleTargetRef", "name"]));
    let metrics: Vec<String> = match at(spec, &["targetCPUUtilizationPercentage"]) {
        Some(target) => {
            let now = text_of(at(object, &["status", "currentCPUUtilizationPercentage"]));
            vec![format!("cpu: {now}%/{target}%").replace("<unknown>%", "<unknown>")]
        }
        None => items(spec, &["metrics"])
            .iter()
            .enumerate()
            .filter(|(_, metric)| text(metric, &["type"]) == "Resource")
            .map(|(index, metric)| {
                let current = items(object, &["status", "currentMetrics"]).get(index);
                let current = current.and_then(|one| at(one, &["resource", "current", "averageUtilization"]));
                let target = text_of(at(metric, &["resource", "target", "averageUtilization"]));
                let label = text(metric, &["resource", "name"]);
                format!("{label}: {}%/{target}%", text_of(current)).replace("<unknown>%", "<unknown>")
            })
            .collect(),
    };
    let least =
        number(spec, &["minReplicas"]).map_or_else(|| "<unset>".to_owned(), |least| least.to_string());
    vec![
        name(object).into(),
        reference.into(),
        joined(metrics.iter().map(String::as_str)),
        least.into(),
        number(spec, &["maxReplicas"]).unwrap_or(0).into(),
        number(object, &["status", "currentReplicas"]).unwrap_or(0).into(),
        age(object, now),
    ]
}

fn storage_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let standard = "storageclass.kubernetes.io/is-default-class";
    let default = text(object, &["metadata", "annotations", standard]) == "true";
    let title = if default { format!("{} (default)", name(object)) } else { name(object).to_owned() };
    vec![
        title.into(),
        text(object, &["provisioner"]).into(),
        text(object, &["reclaimPolicy"]).into(),
        text(object, &["volumeBindingMode"]).into(),
        flag(object, &["allowVolumeExpansion"]).into(),
        age(object, now),
    ]
}

fn signing_request(object: &Value, now: Timestamp) -> Vec<Value> {
    let conditions = items(object, &["status", "conditions"]);
    let mut state: Vec<&str> = conditions.iter().map(|one| text(one, &["type"])).collect();
    if state.is_empty() {
        state.push("Pending");
    }
    if !text(object, &["status", "certificate"]).is_empty() {
        state.push("Issued");
    }
    let wanted = number(object, &["spec", "expirationSeconds"]);
    vec![
        name(object).into(),
        age(object, now),
        or_none(text(object, &["spec", "signerName"])),
        text(object, &["spec", "username"]).into(),
        wanted.map_or_else(|| NONE.into(), |seconds| super::human_duration(seconds).into()),
        state.join(",").into(),
    ]
}

fn flow_schema(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let missing =
        items(object, &["status", "conditions"]).iter().find(|one| text(one, &["type"]) == "Dangling");
    vec![
        name(object).into(),
        text(spec, &["priorityLevelConfiguration", "name"]).into(),
        at(spec, &["matchingPrecedence"]).cloned().unwrap_or(Value::Null),
        or_none(text(spec, &["distinguisherMethod", "type"])),
        age(object, now),
        missing.map_or("?", |one| text(one, &["status"])).into(),
    ]
}
