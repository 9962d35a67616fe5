//! Rules of a pod's specification, alone or in a template.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::FieldError;
use super::{meta, names, probe, volume};
use crate::object::{at, flag, items, members, number, text};
use crate::quantity::Quantity;

/// The specification at a path.
pub(super) fn spec(path: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    let volumes = volume::check(&format!("{path}.volumes"), items(spec, &["volumes"]), errors);
    let containers = items(spec, &["containers"]);
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let host_network = flag(spec, &["hostNetwork"]);
    let mut seen = BTreeSet::new();
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let mut ports = BTreeSet::new();
        for (index, one) in items(spec, &[list]).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            let name = text(one, &["name"]);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            let restartable = text(one, &["restartPolicy"]) == "Always";
            container(&path, one, &volumes, host_network, &mut ports, errors);
            if list == "initContainers" && !restartable {
                for probe in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
                    if at(one, &[probe]).is_some() {
                        let path = format!("{path}.{probe}");
                        errors.push(FieldError::forbidden(
                            path,
                            "may not be set for init containers without restartPolicy=Always",
                        ));
                    }
                }
            }
        }
    }
    scheduling(path, spec, errors);
    identity(path, spec, errors);
}

fn identity(path: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    type Check = fn(&str) -> names::Verdict;
    let checks: [(&str, Check); 5] = [
        ("nodeName", names::dns_subdomain),
        ("serviceAccountName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("runtimeClassName", names::dns_subdomain),
    ];
    for (name, rule) in checks {
        let value = text(spec, &[name]);
        if let (false, Err(why)) = (value.is_empty(), rule(value)) {
            errors.push(FieldError::invalid(format!("{path}.{name}"), value, why));
        }
    }
    if let Some(deadline) =
        number(spec, &["activeDeadlineSeconds"]).filter(|value| !(1..=i64::from(i32::MAX)).contains(value))
    {
        let path = format!("{path}.activeDeadlineSeconds");
        errors.push(FieldError::invalid(path, deadline, "must be between 1 and 2147483647, inclusive"));
    }
    if let Some(grace) = number(spec, &["terminationGracePeriodSeconds"]).filter(|value| *value < 0) {
        let path = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(path, grace, "must be greater than or equal to 0"));
    }
    if text(spec, &["dnsPolicy"]) == "None" && items(spec, &["dnsConfig", "nameservers"]).is_empty() {
        let path = format!("{path}.dnsConfig.nameservers");
        errors.push(FieldError::required(
            path,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        ));
    }
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(id) = number(spec, &["securityContext", name]).filter(|id| *id < 0) {
            let path = format!("{path}.securityContext.{name}");
            errors.push(FieldError::invalid(path, id, "must be between 0 and 2147483647, inclusive"));
        }
    }
}

fn scheduling(path: &str, spec: &Value, errors: &mut Vec<FieldError>) {
    meta::labels(&format!("{path}.nodeSelector"), spec.get("nodeSelector"), errors);
    for (index, toleration) in items(spec, &["tolerations"]).iter().enumerate() {
        let path = format!("{path}.tolerations[{index}]");
        let (key, operator) = (text(toleration, &["key"]), text(toleration, &["operator"]));
        if let (false, Err(why)) = (key.is_empty(), names::label_key(key)) {
            errors.push(FieldError::invalid(format!("{path}.key"), key, why));
        }
        if key.is_empty() && operator != "Exists" {
            errors.push(FieldError::invalid(
                format!("{path}.operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if operator == "Exists" && !text(toleration, &["value"]).is_empty() {
            let path = format!("{path}.operator");
            errors.push(FieldError::invalid(
                path,
                operator,
                "value must be empty when `operator` is 'Exists'",
            ));
        }
        let effect = text(toleration, &["effect"]);
        if at(toleration, &["tolerationSeconds"]).is_some() && effect != "NoExecute" {
            let path = format!("{path}.effect");
            errors.push(FieldError::invalid(
                path,
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
    }
    for (index, constraint) in items(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        if number(constraint, &["maxSkew"]).unwrap_or(0) <= 0 {
            let path = format!("{path}.topologySpreadConstraints[{index}].maxSkew");
            errors.push(FieldError::invalid(
                path,
                number(constraint, &["maxSkew"]).unwrap_or(0),
                "must be greater than zero",
            ));
        }
    }
}

fn container<'a>(
    path: &str,
    one: &'a Value,
    volumes: &BTreeSet<&str>,
    host_network: bool,
    ports: &mut BTreeSet<(i64, &'a str, &'a str)>,
    errors: &mut Vec<FieldError>,
) {
    let name = text(one, &["name"]);
    if let (false, Err(why)) = (name.is_empty(), names::dns_label(name)) {
        errors.push(FieldError::invalid(format!("{path}.name"), name, why));
    }
    let image = text(one, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(format!("{path}.image"), ""));
    } else if image.trim() != image {
        let path = format!("{path}.image");
        errors.push(FieldError::invalid(path, image, "must not have leading or trailing whitespace"));
    }
    container_ports(path, items(one, &["ports"]), host_network, ports, errors);
    for (index, variable) in items(one, &["env"]).iter().enumerate() {
        environment(&format!("{path}.env[{index}]"), variable, errors);
    }
    volume::mounts(&format!("{path}.volumeMounts"), items(one, &["volumeMounts"]), volumes, errors);
    resources(&format!("{path}.resources"), &one["resources"], errors);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(one) = at(one, &[name]) {
            probe::check(&format!("{path}.{name}"), one, name != "readinessProbe", errors);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(one) = at(one, &["lifecycle", hook]) {
            probe::handler(
                &format!("{path}.lifecycle.{hook}"),
                one,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                errors,
            );
        }
    }
}

fn container_ports<'a>(
    path: &str,
    list: &'a [Value],
    host_network: bool,
    taken: &mut BTreeSet<(i64, &'a str, &'a str)>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let path = format!("{path}.ports[{index}]");
        let name = text(port, &["name"]);
        if !name.is_empty() {
            match names::port_name(name) {
                Err(why) => errors.push(FieldError::invalid(format!("{path}.name"), name, why)),
                Ok(()) if !seen.insert(name) => {
                    errors.push(FieldError::duplicate(format!("{path}.name"), name))
                }
                Ok(()) => {}
            }
        }
        let inside = number(port, &["containerPort"]).unwrap_or(0);
        if inside == 0 {
            errors.push(FieldError::required(format!("{path}.containerPort"), ""));
        } else if let Err(why) = names::port_number(inside) {
            errors.push(FieldError::invalid(format!("{path}.containerPort"), inside, why));
        }
        let Some(outside) = number(port, &["hostPort"]).filter(|number| *number != 0) else { continue };
        if let Err(why) = names::port_number(outside) {
            errors.push(FieldError::invalid(format!("{path}.hostPort"), outside, why));
        } else if host_network && outside != inside {
            let why = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::invalid(format!("{path}.containerPort"), inside, why));
        }
        let key = (outside, text(port, &["protocol"]), text(port, &["hostIP"]));
        if !taken.insert(key) {
            errors.push(FieldError::duplicate(format!("{path}.hostPort"), format!("{}//{outside}", key.1)));
        }
    }
}

fn environment(path: &str, variable: &Value, errors: &mut Vec<FieldError>) {
    let name = text(variable, &["name"]);
    if let (false, Err(why)) = (name.is_empty(), names::environment_name(name)) {
        errors.push(FieldError::invalid(format!("{path}.name"), name, why));
    }
    let Some(from) = at(variable, &["valueFrom"]) else { return };
    let sources = members(from, &[]).count();
    let path = format!("{path}.valueFrom");
    if !text(variable, &["value"]).is_empty() {
        errors.push(FieldError::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources == 0 {
        let detail = "must specify one of: `configMapKeyRef`, `fieldRef`, `fileKeyRef`, `resourceFieldRef` or `secretKeyRef`";
        errors.push(FieldError::invalid(path, "", detail));
    } else if sources > 1 {
        errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn resources(path: &str, resources: &Value, errors: &mut Vec<FieldError>) {
    let amount = |list: &str, name: &str| -> Option<Quantity> {
        Quantity::parse(resources.get(list)?.get(name)?.as_str()?).ok()
    };
    for list in ["limits", "requests"] {
        for (name, value) in members(resources, &[list]) {
            let path = format!("{path}.{list}[{name}]");
            if let Err(why) = names::label_key(name) {
                errors.push(FieldError::invalid(path.clone(), name.as_str(), why));
            } else if !name.contains('/') && !is_standard_resource(name) {
                let detail = "must be a standard resource type or fully qualified";
                errors.push(FieldError::invalid(path.clone(), name.as_str(), detail));
            }
            if amount(list, name).is_some_and(|one| one.is_negative()) {
                errors.push(FieldError::invalid(path, value.clone(), "must be greater than or equal to 0"));
            }
        }
    }
    for (name, value) in members(resources, &["requests"]) {
        if let (Some(request), Some(limit)) = (amount("requests", name), amount("limits", name))
            && request > limit
        {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.push(FieldError::invalid(format!("{path}.requests"), value.clone(), detail));
        }
    }
}

fn is_standard_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage") || name.starts_with("hugepages-")
}
