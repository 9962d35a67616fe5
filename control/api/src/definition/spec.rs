//! Rules for `spec`: group, names, scope, versions and what belongs to each version.

use serde_json::Value;

use super::{conversion, field_path, schema};
use crate::custom::JsonPath;
use crate::object::{at, flag, items, text};
use crate::validation::{FieldError, names};

pub(super) fn check(spec: &Value, errors: &mut Vec<FieldError>) {
    group(text(spec, &["group"]), errors);
    match text(spec, &["scope"]) {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => errors.push(FieldError::not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    if flag(spec, &["preserveUnknownFields"]) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", true, why));
    }
    kind_names(&spec["names"], errors);
    conversion::check(spec, errors);
    versions(items(spec, &["versions"]), errors);
}

fn group(group: &str, errors: &mut Vec<FieldError>) {
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if let Err(why) = names::dns_subdomain(group) {
        errors.push(FieldError::invalid("spec.group", group, why));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
    }
}

fn kind_names(all: &Value, errors: &mut Vec<FieldError>) {
    let mixed = |why: String| format!("may have mixed case, but should otherwise match: {why}");
    for member in ["plural", "singular", "kind", "listKind"] {
        let (path, name) = (format!("spec.names.{member}"), text(all, &[member]));
        let is_kind = matches!(member, "kind" | "listKind");
        let checked = if is_kind { name.to_lowercase() } else { name.to_owned() };
        match (name, names::dns_1035_label(&checked)) {
            ("", _) => errors.push(FieldError::required(path, "")),
            (_, Ok(())) => {}
            (name, Err(why)) if is_kind => errors.push(FieldError::invalid(path, name, mixed(why))),
            (name, Err(why)) => errors.push(FieldError::invalid(path, name, why)),
        }
    }
    for member in ["shortNames", "categories"] {
        for (index, name) in items(all, &[member]).iter().enumerate() {
            if let Err(why) = names::dns_1035_label(name.as_str().unwrap_or_default()) {
                errors.push(FieldError::invalid(format!("spec.names.{member}[{index}]"), name.clone(), why));
            }
        }
    }
    let (kind, list) = (text(all, &["kind"]), text(all, &["listKind"]));
    if !kind.is_empty() && kind == list {
        errors.push(FieldError::invalid(
            "spec.names.listKind",
            list,
            "kind and listKind may not be the same",
        ));
    }
}

fn versions(all: &[Value], errors: &mut Vec<FieldError>) {
    if all.iter().filter(|version| flag(version, &["storage"])).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid("spec.versions", short(all), why));
    }
    let repeated = |at: usize| all[..at].iter().any(|other| other["name"] == all[at]["name"]);
    if (0..all.len()).any(repeated) {
        errors.push(FieldError::invalid("spec.versions", short(all), "must contain unique version names"));
    }
    for (index, version) in all.iter().enumerate() {
        if at(version, &["schema", "openAPIV3Schema"]).is_none() {
            let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
            errors.push(FieldError::required(path, ""));
        }
    }
    for (index, version) in all.iter().enumerate() {
        let path = format!("spec.versions[{index}]");
        let name = text(version, &["name"]);
        if let Err(why) = names::dns_1035_label(name) {
            // The first one is the version of the definition, too.
            let also = (index == 0 && !name.is_empty()).then_some("spec.version");
            let paths = [Some(format!("{path}.name")), also.map(str::to_owned)];
            errors.extend(paths.into_iter().flatten().map(|path| FieldError::invalid(path, name, &*why)));
        }
        deprecation(&path, version, errors);
        let shared = |member: &str| all.iter().all(|other| other.get(member) == all[0].get(member));
        let place = |member: &str| match (shared(member), index) {
            // What all versions have in common upstream checks once, as a part of the definition itself.
            (true, 0) => Some("spec"),
            (true, _) => None,
            (false, _) => Some(path.as_str()),
        };
        place("schema").into_iter().for_each(|path| schema::check(path, version, errors));
        place("additionalPrinterColumns").into_iter().for_each(|path| columns(path, version, errors));
        place("subresources").into_iter().for_each(|path| scale(path, version, errors));
        place("selectableFields").into_iter().for_each(|path| selectable(path, version, errors));
    }
}

/// What those are told who use a version on its way out.
fn deprecation(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    const LONGEST: usize = 256;
    let Some(warning) = at(version, &["deprecationWarning"]).and_then(Value::as_str) else { return };
    let mut wrong = Vec::new();
    if flag(version, &["deprecated"]) {
        if warning.len() > LONGEST {
            wrong.push(format!("must be <= {LONGEST} characters long"));
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((index, _)) = warning.char_indices().find(|(_, char)| char.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {index}"
            ));
        }
    } else {
        wrong.push("can only be set for deprecated versions".to_owned());
    }
    let path = format!("{path}.deprecationWarning");
    errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&*path, warning, why)));
}

/// The names of versions stand for them in messages: their schemas would fill pages.
fn short(versions: &[Value]) -> Value {
    versions.iter().map(|version| version["name"].clone()).collect()
}

fn columns(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in items(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if text(column, &["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        let one_of = |choices: &[&str]| format!("must be one of {}", choices.join(","));
        match text(column, &["type"]) {
            "" => errors.push(FieldError::required(format!("{path}.type"), one_of(&TYPES))),
            kind if TYPES.contains(&kind) => {}
            kind => errors.push(FieldError::invalid(format!("{path}.type"), kind, one_of(&TYPES))),
        }
        let format = text(column, &["format"]);
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.push(FieldError::invalid(format!("{path}.format"), format, one_of(&FORMATS)));
        }
        let written = text(column, &["jsonPath"]);
        let path = format!("{path}.JSONPath");
        match (written, JsonPath::parse(written)) {
            ("", _) => errors.push(FieldError::required(path, "")),
            _ if !written.starts_with('.') => errors.push(FieldError::invalid(path, written, SIMPLE)),
            (_, Err(why)) => errors.push(FieldError::invalid(path, written, why)),
            (_, Ok(_)) => {}
        }
    }
}

/// What a path must be.
const SIMPLE: &str = "must be a simple json path starting with .";

fn scale(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    let Some(scale) = at(version, &["subresources", "scale"]) else { return };
    let either = "should be a json path under either .spec or .status";
    let rules = [
        ("specReplicasPath", true, &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", true, &[".status."][..], "should be a json path under .status"),
        ("labelSelectorPath", false, &[".spec.", ".status."][..], either),
    ];
    for (member, required, starts, why) in rules {
        let (path, written) = (format!("{path}.subresources.scale.{member}"), text(scale, &[member]));
        if written.is_empty() {
            if required {
                errors.push(FieldError::required(path, ""));
            }
        } else if !written.starts_with('.') {
            errors.push(FieldError::invalid(path, written, SIMPLE));
        } else if !starts.iter().any(|start| written.starts_with(start)) {
            errors.push(FieldError::invalid(path, written, why));
        }
    }
}

fn selectable(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    const MOST: usize = 8;
    let (fields, root) = (items(version, &["selectableFields"]), &version["schema"]["openAPIV3Schema"]);
    let mut known = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (path, written) =
            (format!("{path}.selectableFields[{index}].jsonPath"), text(field, &["jsonPath"]));
        let mut refuse = |why: &str| errors.push(FieldError::invalid(&*path, written, why));
        let (names, leaf) = match (written, field_path::find(written, root, false)) {
            ("", _) => {
                errors.push(FieldError::required(path, ""));
                continue;
            }
            (_, Ok(found)) => found,
            (_, Err(why)) => {
                refuse(&format!("is an invalid path: {why}"));
                continue;
            }
        };
        if names.first().is_some_and(|name| name == "metadata") {
            refuse("must not point to fields in metadata");
        }
        if !matches!(text(leaf, &["type"]), "string" | "boolean" | "integer") {
            refuse(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if known.contains(&names) {
            errors.push(FieldError::duplicate(path, written));
        } else {
            known.push(names);
        }
    }
    if known.len() > MOST {
        errors.push(FieldError::too_many(format!("{path}.selectableFields"), known.len(), MOST));
    }
}
