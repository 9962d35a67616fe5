//! Rows of the smaller groups.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age, joined, or_none, selector};
use super::service::slice;
use super::{admission, autoscaling};
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
        ("networking.k8s.io", "ipaddresses") => {
            let reference = at(spec, &["parentRef"]);
            vec![name(object).into(), reference.map_or_else(|| NONE.to_owned(), parent).into()]
        }
        ("networking.k8s.io", "servicecidrs") => {
            let ranges: Vec<_> = items(spec, &["cidrs"]).iter().filter_map(Value::as_str).collect();
            named(vec![ranges.join(",").into()])
        }
        ("autoscaling", _) => autoscaling::autoscaler(object, now),
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
        ("storage.k8s.io", "csidrivers") => csi_driver(object, now),
        ("resource.k8s.io", "resourceclaims") => named(vec![claim_state(object).into()]),
        ("resource.k8s.io", "resourceslices") => named(vec![
            text(spec, &["nodeName"]).into(),
            text(spec, &["driver"]).into(),
            text(spec, &["pool", "name"]).into(),
        ]),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => admission::flow_schema(object, now),
        ("flowcontrol.apiserver.k8s.io", _) => admission::priority_level(object, now),
        ("apiregistration.k8s.io", _) => admission::api_service(object, now),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
            admission::policy(object, "validations", now)
        }
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => {
            admission::policy(object, "mutations", now)
        }
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => admission::policy_binding(object, now),
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

fn csi_driver(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    let tokens = items(spec, &["tokenRequests"]);
    let audiences = tokens.iter().map(|one| text(one, &["audience"])).collect::<Vec<_>>().join(",");
    vec![
        name(object).into(),
        at(spec, &["attachRequired"]).cloned().unwrap_or_else(|| true.into()),
        flag(spec, &["podInfoOnMount"]).into(),
        flag(spec, &["storageCapacity"]).into(),
        if tokens.is_empty() { "<unset>".into() } else { audiences.into() },
        flag(spec, &["requiresRepublish"]).into(),
        joined(items(spec, &["volumeLifecycleModes"]).iter().filter_map(Value::as_str)),
        age(object, now),
    ]
}

/// `services/NAMESPACE/NAME`.
fn parent(reference: &Value) -> String {
    let (group, resource) = (text(reference, &["group"]), text(reference, &["resource"]));
    let dot = if group.is_empty() { "" } else { "." };
    let namespace = text(reference, &["namespace"]);
    let slash = if namespace.is_empty() { "" } else { "/" };
    format!(
        "{}{slash}{namespace}/{}",
        format!("{resource}{dot}{group}").to_lowercase(),
        text(reference, &["name"])
    )
}

/// What became of a claim to devices.
fn claim_state(claim: &Value) -> String {
    let (deleted, allocated) = (
        at(claim, &["metadata", "deletionTimestamp"]).is_some(),
        at(claim, &["status", "allocation"]).is_some(),
    );
    let reserved = !items(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        (deleted, "deleted"),
        (!allocated && !deleted, "pending"),
        (allocated, "allocated"),
        (allocated && reserved, "reserved"),
    ];
    states.iter().filter(|(holds, _)| *holds).map(|(_, state)| *state).collect::<Vec<_>>().join(",")
}
