//! Subresources that write a few fields of their object and nothing else, in the form of the whole object.

use serde_json::{Value, json};

use super::{count_generation, keep_metadata};
use crate::object::{at, carry, items, set, text};
use crate::registry::Resource;

/// Such a subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// `pods/ephemeralcontainers`: containers added to a pod that runs, as `kubectl debug` does.
    EphemeralContainers,
    /// `pods/resize`: the processor time and memory of a pod that runs.
    Resize,
    /// `certificatesigningrequests/approval`: the conditions that approve or deny it.
    Approval,
}

impl Narrow {
    /// The subresource of that name, if it is one of these.
    pub fn of(subresource: &str) -> Option<Self> {
        match subresource {
            "ephemeralcontainers" => Some(Self::EphemeralContainers),
            "resize" => Some(Self::Resize),
            "approval" => Some(Self::Approval),
            _ => None,
        }
    }
}

/// The new object as it is about to replace the old one: the old one, with the fields that the subresource is for.
/// `now` is a time in the API's form.
pub fn prepare_narrow(narrow: Narrow, resource: &Resource, new: &mut Value, old: &Value, now: &str) {
    let mut object = old.clone();
    match narrow {
        Narrow::EphemeralContainers => {
            for name in ["resourceVersion", "uid", "managedFields", "name", "namespace"] {
                carry(&mut object["metadata"], &new["metadata"], name);
            }
            carry(&mut object["spec"], &new["spec"], "ephemeralContainers");
        }
        Narrow::Resize => {
            for name in ["resourceVersion", "uid", "managedFields", "name", "namespace"] {
                carry(&mut object["metadata"], &new["metadata"], name);
            }
            let spec = resized(&new["spec"], &old["spec"]);
            set(&mut object, "spec", spec);
        }
        Narrow::Approval => {
            set(&mut object, "metadata", new["metadata"].clone());
            approve(&mut object, new, old, now);
        }
    }
    *new = object;
    keep_metadata(new, old);
    count_generation(resource, new, old);
}

/// The old specification with the new resources. With other containers it is the new one, for the rules to refuse.
fn resized(new: &Value, old: &Value) -> Value {
    const LISTS: [&str; 2] = ["containers", "initContainers"];
    if LISTS.iter().any(|list| items(new, &[list]).len() != items(old, &[list]).len()) {
        let mut spec = new.clone();
        carry(&mut spec, old, "ephemeralContainers");
        return spec;
    }
    let mut spec = old.clone();
    carry(&mut spec, new, "resources");
    for list in LISTS {
        let (now, mut merged) = (items(new, &[list]), items(old, &[list]).to_vec());
        if now.is_empty() {
            continue;
        }
        if now.iter().zip(&merged).any(|(now, before)| now["name"] != before["name"]) {
            merged = now.to_vec();
        }
        for (container, now) in merged.iter_mut().zip(now) {
            for name in ["resources", "resizePolicy"] {
                carry(container, now, name);
            }
        }
        set(&mut spec, list, merged);
    }
    spec
}

/// Takes over the conditions and fills in their times.
fn approve(object: &mut Value, new: &Value, old: &Value, now: &str) {
    let mut conditions = items(new, &["status", "conditions"]).to_vec();
    let before = items(old, &["status", "conditions"]);
    for condition in &mut conditions {
        let known = before.iter().find(|one| one["type"] == condition["type"]);
        if at(condition, &["lastUpdateTime"]).is_none() {
            set(condition, "lastUpdateTime", now);
        }
        if at(condition, &["lastTransitionTime"]).is_none() {
            let same = known.filter(|known| text(known, &["status"]) == text(condition, &["status"]));
            let since = same.and_then(|known| at(known, &["lastTransitionTime"]).cloned());
            set(condition, "lastTransitionTime", since.unwrap_or_else(|| json!(now)));
        }
    }
    if !object["status"].is_object() {
        set(object, "status", json!({}));
    }
    set(&mut object["status"], "conditions", json!(conditions));
}
