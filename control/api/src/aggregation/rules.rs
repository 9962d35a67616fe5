//! What an `APIService` may say (`kube-aggregator/pkg/apis/apiregistration/validation`).

use serde_json::Value;

use crate::object::{at, flag, name, number, text};
use crate::validation::{FieldError, names, webhooks};

pub(crate) fn check(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let (group, version) = super::group_version(object);
    let wanted = super::name_of(group, version);
    if name(object) != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid("metadata.name", name(object), why));
    }
    if group.is_empty() {
        if version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required("spec.group", why));
        }
    } else if let Err(why) = names::dns_subdomain(group) {
        errors.push(FieldError::invalid("spec.group", group, why));
    }
    if let Err(why) = names::dns_1035_label(version) {
        errors.push(FieldError::invalid("spec.version", version, why));
    }
    for (member, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let given = number(spec, &[member]).unwrap_or_default();
        if !(1..=most).contains(&given) {
            let why = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(format!("spec.{member}"), given, why));
        }
    }
    let (bundle, insecure) = (text(spec, &["caBundle"]), flag(spec, &["insecureSkipTLSVerify"]));
    let Some(service) = at(spec, &["service"]) else {
        if !bundle.is_empty() {
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid("spec.caBundle", format!("{} bytes", bundle.len()), why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid("spec.insecureSkipTLSVerify", true, why));
        }
        return;
    };
    for member in ["namespace", "name"] {
        if text(service, &[member]).is_empty() {
            errors.push(FieldError::required(format!("spec.service.{member}"), ""));
        }
    }
    let port = number(service, &["port"]).unwrap_or(443);
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid("spec.service.port", port, why));
    }
    webhooks::bundle("spec.caBundle", bundle, errors);
    if insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        errors.push(FieldError::invalid("spec.insecureSkipTLSVerify", true, why));
    }
}
