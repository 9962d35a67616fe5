//! Rules for `spec`: group, names, scope, versions and what belongs to each version.

use serde_json::Value;

use super::{conversion, schema};
use crate::custom::{JsonPath, names_of};
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
    for (member, required) in [("plural", true), ("singular", false), ("kind", true), ("listKind", false)] {
        let (path, name) = (format!("spec.names.{member}"), text(all, &[member]));
        let is_kind = matches!(member, "kind" | "listKind");
        let checked = if is_kind { name.to_lowercase() } else { name.to_owned() };
        match (name, names::dns_1035_label(&checked)) {
            ("", _) if required => errors.push(FieldError::required(path, "")),
            ("", _) | (_, Ok(())) => {}
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
        let path = format!("spec.versions[{index}]");
        let name = text(version, &["name"]);
        if let (false, Err(why)) = (name.is_empty(), names::dns_1035_label(name)) {
            errors.push(FieldError::invalid(format!("{path}.name"), name, why));
        }
        let warning = text(version, &["deprecationWarning"]);
        if !warning.is_empty() && !flag(version, &["deprecated"]) {
            let why = "can only be set for deprecated versions";
            errors.push(FieldError::invalid(format!("{path}.deprecationWarning"), warning, why));
        }
        let shared = |member: &str| all.iter().all(|other| other.get(member) == all[0].get(member));
        let place = |member: &str| match (shared(member), index) {
            // What all versions have in common upstream checks once, as a part of the definition itself.
            (true, 0) => Some("spec"),
            (true, _) => None,
            (false, _) => Some(path.as_str()),
        };
        schema::check(&path, place("schema"), version, errors);
        place("additionalPrinterColumns").into_iter().for_each(|path| columns(path, version, errors));
        place("subresources").into_iter().for_each(|path| scale(path, version, errors));
        place("selectableFields").into_iter().for_each(|path| selectable(path, version, errors));
    }
}

/// The names of versions stand for them in messages: their schemas would fill pages.
fn short(versions: &[Value]) -> Value {
    versions.iter().map(|version| version["name"].clone()).collect()
}

fn columns(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 10] =
        ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password", "string"];
    for (index, column) in items(version, &["additionalPrinterColumns"]).iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{index}]");
        if text(column, &["name"]).is_empty() {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        }
        match text(column, &["type"]) {
            "" => errors.push(FieldError::required(format!("{path}.type"), "")),
            kind if TYPES.contains(&kind) => {}
            kind => errors.push(FieldError::not_supported(format!("{path}.type"), kind, &TYPES)),
        }
        let format = text(column, &["format"]);
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.push(FieldError::not_supported(format!("{path}.format"), format, &FORMATS));
        }
        let written = text(column, &["jsonPath"]);
        let path = format!("{path}.jsonPath");
        match (written, JsonPath::parse(written)) {
            ("", _) => errors.push(FieldError::required(path, "")),
            (_, Err(why)) => errors.push(FieldError::invalid(path, written, why)),
            (_, Ok(_)) if !written.starts_with('.') => {
                errors.push(FieldError::invalid(path, written, "must be a simple json path starting with ."));
            }
            _ => {}
        }
    }
}

fn scale(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    let Some(scale) = at(version, &["subresources", "scale"]) else { return };
    let rules = [
        ("specReplicasPath", true, &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", true, &[".status."][..], "should be a json path under .status"),
        (
            "labelSelectorPath",
            false,
            &[".spec.", ".status."][..],
            "should be a json path under either .status or .spec",
        ),
    ];
    for (member, required, starts, why) in rules {
        let (path, written) = (format!("{path}.subresources.scale.{member}"), text(scale, &[member]));
        if written.is_empty() {
            if required {
                errors.push(FieldError::required(path, ""));
            }
        } else if !starts.iter().any(|start| written.starts_with(start)) {
            errors.push(FieldError::invalid(path, written, why));
        } else if !is_simple(written) {
            errors.push(FieldError::invalid(path, written, "should be a json path without array notation"));
        }
    }
}

/// Names with dots before them, and nothing else.
fn is_simple(path: &str) -> bool {
    path.starts_with('.') && !path.contains(['[', ']', '*', '\\', '{', '"', '\'']) && !path.contains("..")
}

fn selectable(path: &str, version: &Value, errors: &mut Vec<FieldError>) {
    const MOST: usize = 8;
    let fields = items(version, &["selectableFields"]);
    if fields.len() > MOST {
        errors.push(FieldError::too_many(format!("{path}.selectableFields"), fields.len(), MOST));
    }
    for (index, field) in fields.iter().enumerate() {
        let (path, written) =
            (format!("{path}.selectableFields[{index}].jsonPath"), text(field, &["jsonPath"]));
        if written.is_empty() {
            errors.push(FieldError::required(path, ""));
            continue;
        }
        if !is_simple(written) {
            let why = "is an invalid path: must be a simple json path starting with .";
            errors.push(FieldError::invalid(path, written, why));
            continue;
        }
        if fields[..index].iter().any(|other| other["jsonPath"] == field["jsonPath"]) {
            errors.push(FieldError::duplicate(path, written));
            continue;
        }
        let names = names_of(written);
        if names.first().is_some_and(|name| name == "metadata") {
            errors.push(FieldError::invalid(path, written, "must not point to fields in metadata"));
            continue;
        }
        let root = &version["schema"]["openAPIV3Schema"];
        let leaf = names.iter().try_fold(root, |schema, name| schema["properties"].get(name));
        match leaf.map(|leaf| text(leaf, &["type"])) {
            Some("string" | "boolean" | "integer") => {}
            Some(_) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                errors.push(FieldError::invalid(path, written, why));
            }
            None => {
                let why = "is an invalid path: does not refer to a valid field";
                errors.push(FieldError::invalid(path, written, why));
            }
        }
    }
}
