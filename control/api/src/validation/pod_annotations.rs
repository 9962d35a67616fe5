//! Rules of the annotations of pods that fields have taken the place of since, and of the few that count.

use serde_json::Value;

use super::FieldError;
use super::place::{Errors, Place};
use super::pod_security::all_containers;
use super::volume_source::descending;
use crate::object::{at, members};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCAL: &str = "localhost/";
const RUNTIME: [&str; 2] = ["runtime/default", "docker/default"];

fn keyed(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// The annotations themselves.
pub(super) fn check(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let all = || members(object, &["metadata", "annotations"]).map(|(key, value)| (key.as_str(), value));
    let one = |wanted: &str| all().find(|(key, _)| *key == wanted).map(|(_, value)| text(value));
    if let Some(mirror) = one(MIRROR).filter(|_| !spec.get("nodeName").is_full()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(keyed(MIRROR), mirror, why));
    }
    if let Some(cost) = one(DELETION_COST).filter(|cost| !is_cost(cost)) {
        errors.push(FieldError::invalid(keyed(DELETION_COST), cost, "must be a 32bit integer"));
    }
    let seccomp = all().filter(|(key, _)| *key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER));
    for (key, profile) in seccomp {
        let path = format!("metadata.annotations.{key}");
        let profile = text(profile);
        if let Some(local) = profile.strip_prefix(LOCAL) {
            descending(&Place::new(path, &local.into()), errors);
        } else if !RUNTIME.contains(&profile) && profile != "unconfined" {
            errors.push(FieldError::invalid(path, profile, "must be a valid seccomp profile"));
        }
    }
    for (key, profile) in all().filter(|(key, _)| key.starts_with(APP_ARMOR)) {
        let (name, profile) = (&key[APP_ARMOR.len()..], text(profile));
        if !all_containers(&spec).any(|one| one.get("name").text() == name) {
            errors.push(FieldError::invalid(keyed(key), name, "container not found"));
        }
        let is_one = matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with(LOCAL);
        if !is_one {
            let why = format!("invalid AppArmor profile name: {profile:?}");
            errors.push(FieldError::invalid(keyed(key), profile, why));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A number without a plus sign and without zeros before it.
fn is_cost(cost: &str) -> bool {
    let first = cost.bytes().next();
    let fine =
        cost == "0" || first == Some(b'-') || first.is_some_and(|digit| (b'1'..=b'9').contains(&digit));
    fine && cost.parse::<i32>().is_ok()
}

/// Where a field and its annotation are both there, they say the same.
pub(super) fn match_fields(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let annotation = |key: String| at(object, &["metadata", "annotations", &key]).and_then(Value::as_str);
    let own = spec.get("securityContext");
    same("seccomp", &own.get("seccompProfile"), annotation(SECCOMP_POD.to_owned()), &own, errors);
    let named = |prefix: &str, one: &Place<'_>| annotation(format!("{prefix}{}", one.get("name").text()));
    for one in all_containers(&spec) {
        let context = one.get("securityContext");
        let profile = context.get("seccompProfile");
        same("seccomp", &profile, named(SECCOMP_CONTAINER, &one), &context, errors);
    }
    if spec.get("os").get("name").text() == "windows" {
        return;
    }
    for one in all_containers(&spec) {
        let context = one.get("securityContext");
        let profile = context.get("appArmorProfile");
        let profile = if profile.is_set() { profile } else { own.get("appArmorProfile") };
        same("apparmor", &profile, named(APP_ARMOR, &one), &context, errors);
    }
}

/// `context` is where the profile is said to be that the annotation differs from.
fn same(what: &str, profile: &Place<'_>, annotation: Option<&str>, context: &Place<'_>, errors: &mut Errors) {
    let Some(annotation) = annotation.filter(|_| profile.is_set()) else { return };
    let local = profile.get("localhostProfile").text();
    let runtime = if what == "seccomp" { &RUNTIME[..] } else { &RUNTIME[..1] };
    let (kind_is_same, local_is_same) = match profile.get("type").text() {
        "Unconfined" => (annotation == "unconfined", true),
        "RuntimeDefault" => (runtime.contains(&annotation), true),
        "Localhost" => match annotation.strip_prefix(LOCAL) {
            Some(named) => (true, named == local),
            None => (false, true),
        },
        _ => return,
    };
    let name = if what == "seccomp" { "seccompProfile" } else { "appArmorProfile" };
    let place = context.get(name);
    if !kind_is_same {
        place.get("type").forbidden(format!("{what} type in annotation and field must match"), errors);
    } else if !local_is_same {
        let why = format!("{what} profile in annotation and field must match");
        place.get("localhostProfile").forbidden(why, errors);
    }
}
