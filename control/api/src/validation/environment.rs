//! Rules of environment variables, and of the fields and resources that they and files may show.

use super::field::FieldError;
use super::names;
use super::place::{Errors, Place};
use super::volume_source::no_backsteps;

/// Fields of a pod that a variable may show.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of a pod that a file may show.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const UNITS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// The variables of a container.
pub(super) fn check(container: &Place<'_>, errors: &mut Errors) {
    for variable in container.each("env") {
        variable.get("name").judge_full(names::environment_name, errors);
        let from = variable.get("valueFrom");
        if from.is_set() {
            value_from(&variable, &from, errors);
        }
    }
    let list = container.get("envFrom");
    for source in list.items() {
        source.get("prefix").judge_full(names::environment_name, errors);
        let kinds = ["configMapRef", "secretRef"].map(|name| source.get(name));
        for kind in kinds.iter().filter(|kind| kind.is_set()) {
            kind.get("name").must(names::dns_subdomain, errors);
        }
        let why = match kinds.iter().filter(|kind| kind.is_set()).count() {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&list.path, "", why));
    }
}

fn value_from(variable: &Place<'_>, from: &Place<'_>, errors: &mut Errors) {
    let mut sources = 0;
    for (kind, _) in from.entries().filter(|(_, one)| one.is_set()) {
        sources += 1;
        let source = from.get(kind);
        match kind {
            "fieldRef" => field_ref(&source, false, errors),
            "resourceFieldRef" => resource_ref(&source, false, errors),
            "configMapKeyRef" | "secretKeyRef" => {
                source.get("name").judge(names::dns_subdomain, errors);
                source.get("key").must(names::config_key, errors);
            }
            "fileKeyRef" => {
                source.get("key").must(names::environment_name, errors);
                source.get("volumeName").must(names::dns_label, errors);
                let path = source.get("path");
                if path.text().is_empty() {
                    path.required("", errors);
                }
                no_backsteps(&path, errors);
            }
            _ => {}
        }
    }
    let why = if sources == 0 {
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
    } else if variable.get("value").is_full() {
        "may not be specified when `value` is not empty"
    } else if sources > 1 {
        "may not have more than one field specified at a time"
    } else {
        return;
    };
    errors.push(FieldError::invalid(&from.path, "", why));
}

/// A field of the pod.
pub(super) fn field_ref(reference: &Place<'_>, in_file: bool, errors: &mut Errors) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if version.text().is_empty() {
        return version.required("", errors);
    }
    if path.text().is_empty() {
        return path.required("", errors);
    }
    if version.text() != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {}", version.text());
        return path.invalid(why, errors);
    }
    if let Some((base, rest)) = path.text().split_once("['")
        && let Some(key) = rest.strip_suffix("']")
    {
        let verdict = match base {
            "metadata.annotations" => names::label_key(&key.to_lowercase()).map_err(|why| (key, why)),
            "metadata.labels" => names::label_key(key).map_err(|why| (key, why)),
            _ => Err((base, "does not support subscript".to_owned())),
        };
        if let Err((value, why)) = verdict {
            errors.push(FieldError::invalid(&reference.path, value, why));
        }
        return;
    }
    let known = FIELDS.contains(&path.text())
        || FILE_FIELDS.contains(&path.text())
        || matches!(path.text(), "spec.restartPolicy" | "spec.schedulerName" | "status.phase" | "spec.host");
    if !known {
        let why = format!("error converting fieldPath: field label not supported: {}", path.text());
        return path.invalid(why, errors);
    }
    path.one_of(if in_file { &FILE_FIELDS } else { &FIELDS }, errors);
}

/// A resource of a container.
pub(super) fn resource_ref(reference: &Place<'_>, in_file: bool, errors: &mut Errors) {
    let (container, resource) = (reference.get("containerName"), reference.get("resource"));
    let name = resource.text();
    let huge = name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-");
    if in_file && container.text().is_empty() {
        container.required("", errors);
    } else if name.is_empty() {
        resource.required("", errors);
    } else if !huge {
        resource.one_of(&RESOURCES, errors);
    }
    let divisor = reference.get("divisor");
    let Some(amount) = divisor.quantity().filter(|amount| !amount.is_zero()) else { return };
    let refuse = |why: String, errors: &mut Errors| {
        errors.push(FieldError::invalid(&divisor.path, name, why));
    };
    let what = match name.split_once('.').map_or("", |(_, what)| what) {
        "cpu" => {
            if !["1m", "1"].contains(&amount.to_string().as_str()) {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                refuse(why.to_owned(), errors);
            }
            return;
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    let same = |unit: &&str| crate::quantity::Quantity::parse(unit).is_ok_and(|unit| unit == amount);
    if !UNITS.iter().any(same) {
        let units = UNITS.join(", ");
        refuse(format!("only divisor's values {units} are supported with the {what} resource"), errors);
    }
}
