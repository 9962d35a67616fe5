//! Tables of objects and the rules that they break: a sound object of each kind, what is changed in it, what is said.

mod cluster;
mod compared;
mod network;
mod pods;
mod storage;
mod warned;
mod workloads;

use serde_json::{Value, json};

use super::{create, status_update, update, warnings};
use crate::registry::{Resource, registry};
use crate::{defaults, strategy};

fn find(path: &str) -> &'static Resource {
    let (group, plural) = path.rsplit_once('/').unwrap_or(("", path));
    let (group, version) = group.split_once('@').unwrap_or((group, "v1"));
    registry().find(group, version, plural).unwrap_or_else(|| panic!("{path} is not served"))
}

/// The object with a merge patch applied, as it comes to validation.
fn with(resource: &Resource, sound: &Value, patch: &Value) -> Value {
    let mut object = sound.clone();
    json_patch::merge(&mut object, patch);
    defaults::apply(resource, &mut object);
    object
}

/// Checks that the sound object is sound, and what each change of it breaks on creation.
#[track_caller]
fn check(path: &str, sound: Value, cases: &[(Value, &[&str])]) {
    let resource = find(path);
    for (patch, expected) in [(json!({}), [].as_slice())].iter().chain(cases) {
        let mut object = with(resource, &sound, patch);
        strategy::prepare_create(resource, &mut object);
        let found: Vec<String> = create(resource, &object).iter().map(ToString::to_string).collect();
        assert_eq!(found, *expected, "{path} with {patch}");
    }
}

/// Checks what each change of a sound object that is there breaks.
#[track_caller]
fn check_update(path: &str, sound: Value, cases: &[(Value, &[&str])]) {
    let resource = find(path);
    let mut old = with(resource, &sound, &json!({}));
    old["metadata"]["uid"] = json!("u");
    old["metadata"]["resourceVersion"] = json!("1");
    for (patch, expected) in cases {
        let mut new = with(resource, &old, patch);
        strategy::prepare_update(resource, &mut new, &old);
        let found: Vec<String> = update(resource, &new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(found, *expected, "{path} with {patch}");
    }
}

/// Checks what each change of a sound object's status breaks.
#[track_caller]
fn check_status(path: &str, sound: Value, cases: &[(Value, &[&str])]) {
    let resource = find(path);
    let mut old = with(resource, &sound, &json!({}));
    old["metadata"]["uid"] = json!("u");
    for (patch, expected) in cases {
        let mut new = with(resource, &old, &json!({ "status": patch }));
        strategy::prepare_status(resource, &mut new, &old, "2030-01-01T00:00:00Z");
        let found: Vec<String> =
            status_update(resource, &new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(found, *expected, "{path} with {patch}");
    }
}

/// Checks what each change of a sound object is warned about on creation.
#[track_caller]
fn check_warned(path: &str, sound: Value, cases: &[(Value, &[&str])]) {
    let resource = find(path);
    for (patch, expected) in cases {
        let object = with(resource, &sound, patch);
        assert_eq!(warnings(resource, &object, None), *expected, "{path} with {patch}");
    }
}

fn meta() -> Value {
    json!({ "name": "a", "namespace": "n" })
}

fn pod_template() -> Value {
    json!({ "metadata": { "labels": { "a": "b" } }, "spec": { "containers": [{ "name": "c", "image": "i" }] } })
}
