//! The group `admissionregistration.k8s.io`: webhooks and policies that have a say in writes. What their objects may say,
//! what is filled in, and which requests they are about ([`Rules`]). Pure; the server calls webhooks and evaluates
//! policies ([`crate::policy`]).

mod matching;
mod policies;
mod webhooks;

use serde_json::{Value, json};

use crate::object::{at, set};
use crate::registry::Resource;
use crate::validation::FieldError;

pub use matching::{Interest, Rules};

/// The name of the group.
pub const GROUP: &str = "admissionregistration.k8s.io";

/// Whether writes to a resource are never shown to webhooks and policies: else one that refuses everything could not be
/// removed.
pub fn is_exempt(resource: &Resource) -> bool {
    resource.custom.is_none() && resource.group == GROUP
}

/// Fills in what an object of the group may leave out.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    match resource.plural.as_str() {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            let mutating = resource.plural.starts_with("mutating");
            for hook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
                webhook(hook, mutating);
            }
        }
        _ => {
            let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
            if !resource.plural.ends_with("bindings") {
                fill(spec, "failurePolicy", json!("Fail"));
            }
            for member in ["matchConstraints", "matchResources"] {
                if let Some(resources) = spec.get_mut(member).filter(|one| one.is_object()) {
                    match_resources(resources);
                }
            }
        }
    }
}

fn webhook(hook: &mut Value, mutating: bool) {
    fill(hook, "failurePolicy", json!("Fail"));
    fill(hook, "timeoutSeconds", json!(10));
    if mutating {
        fill(hook, "reinvocationPolicy", json!("Never"));
    }
    selectors(hook);
    scopes(hook, "rules");
    if let Some(service) = hook.pointer_mut("/clientConfig/service").filter(|one| one.is_object()) {
        fill(service, "port", json!(443));
    }
}

fn match_resources(resources: &mut Value) {
    selectors(resources);
    scopes(resources, "resourceRules");
    scopes(resources, "excludeResourceRules");
}

fn selectors(one: &mut Value) {
    fill(one, "matchPolicy", json!("Equivalent"));
    fill(one, "namespaceSelector", json!({}));
    fill(one, "objectSelector", json!({}));
}

fn scopes(one: &mut Value, list: &str) {
    for rule in one.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        fill(rule, "scope", json!("*"));
    }
}

fn fill(object: &mut Value, member: &str, value: Value) {
    if at(object, &[member]).is_none() {
        set(object, member, value);
    }
}

/// The rules that an object of the group breaks. Expressions that `old` had already are taken as they are.
pub(crate) fn check(resource: &Resource, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    match resource.plural.as_str() {
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            webhooks::check(resource.plural.starts_with("mutating"), object, old, errors);
        }
        "validatingadmissionpolicies" => policies::validating(object, old, errors),
        "mutatingadmissionpolicies" => policies::mutating(object, old, errors),
        "validatingadmissionpolicybindings" => policies::binding(true, object, errors),
        "mutatingadmissionpolicybindings" => policies::binding(false, object, errors),
        _ => {}
    }
}
