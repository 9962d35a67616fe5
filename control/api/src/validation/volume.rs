//! Rules of volumes and of where containers mount them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::FieldError;
use super::names;
use crate::object::text;

/// The volumes of a pod; gives their names.
pub(super) fn check<'a>(path: &str, volumes: &'a [Value], errors: &mut Vec<FieldError>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = text(volume, &["name"]);
        if !name.is_empty() {
            match names::dns_label(name) {
                Err(why) => errors.push(FieldError::invalid(format!("{path}.name"), name, why)),
                Ok(()) if !seen.insert(name) => {
                    errors.push(FieldError::duplicate(format!("{path}.name"), name))
                }
                Ok(()) => {}
            }
        }
        let sources: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| *key != "name" && !value.is_null())
            .map(|(key, _)| key.as_str())
            .collect();
        match sources.as_slice() {
            [] => errors.push(FieldError::required(path.clone(), "must specify a volume type")),
            [_] => {}
            [_, more @ ..] => {
                for other in more {
                    let path = format!("{path}.{other}");
                    errors.push(FieldError::forbidden(path, "may not specify more than 1 volume type"));
                }
            }
        }
        if sources.contains(&"hostPath")
            && text(volume, &["hostPath", "path"]).split('/').any(|part| part == "..")
        {
            let value = text(volume, &["hostPath", "path"]);
            errors.push(FieldError::invalid(format!("{path}.hostPath.path"), value, "must not contain '..'"));
        }
    }
    seen
}

/// The mounts of a container.
pub(super) fn mounts(path: &str, mounts: &[Value], volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let name = text(mount, &["name"]);
        if !name.is_empty() && !volumes.contains(name) {
            let mut error = FieldError::invalid(format!("{path}.name"), name, "");
            error.rule = super::Rule::NotFound;
            errors.push(error);
        }
        let place = text(mount, &["mountPath"]);
        if !place.is_empty() && !seen.insert(place) {
            errors.push(FieldError::invalid(format!("{path}.mountPath"), place, "must be unique"));
        }
        let inner = text(mount, &["subPath"]);
        if inner.starts_with('/') {
            errors.push(FieldError::invalid(format!("{path}.subPath"), inner, "must be a relative path"));
        } else if inner.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(format!("{path}.subPath"), inner, "must not contain '..'"));
        }
    }
}
