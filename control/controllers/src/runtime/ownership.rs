//! Owner references: who controls an object, and whether a controller keeps, adopts or releases it.
//!
//! The rules are those of the API's controller references: an object has at most one controller, a
//! controller manages what it controls *and* its selector matches.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::Resource;
use kube::core::{ObjectMeta, Selector, SelectorExt};
use serde_json::{Value, json};

/// Whether a selector matches labels. A selector that does not parse matches nothing: the API refuses such.
pub fn matches(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels.unwrap_or(&NONE)))
}

/// Whether a selector is empty, that is: matches everything.
pub fn selects_all(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// The reference to the controller of an object, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// A controlling reference to `owner`, which blocks its foreground deletion.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What a controller does about an object that it may or may not own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is ours and matches.
    Keep,
    /// Nobody's, and it matches: make it ours.
    Adopt,
    /// Ours, but it matches no longer: let go.
    Release,
    /// Not our business.
    Ignore,
}

/// Decides about one object.
///
/// `owner` is the controller's own object, `matches` whether its selector matches the object's labels.
pub fn claim(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let owner_leaves = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_leaves => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_leaves || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// A merge patch that adds the reference; fails with a conflict if the object changed since it was read.
pub fn adopt_patch(object: &ObjectMeta, reference: &OwnerReference) -> Value {
    let mut owners: Vec<OwnerReference> = object.owner_references.clone().unwrap_or_default();
    owners.retain(|owner| owner.uid != reference.uid);
    owners.push(reference.clone());
    owners_patch(object, &owners)
}

/// A merge patch that drops the reference to the owner with this uid, guarded like [`adopt_patch`].
pub fn release_patch(object: &ObjectMeta, uid: &str) -> Value {
    let owners: Vec<OwnerReference> =
        object.owner_references.iter().flatten().filter(|owner| owner.uid != uid).cloned().collect();
    owners_patch(object, &owners)
}

fn owners_patch(object: &ObjectMeta, owners: &[OwnerReference]) -> Value {
    json!({ "metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "ownerReferences": if owners.is_empty() { Value::Null } else { json!(owners) },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, controller: Option<&str>, deleting: bool) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            owner_references: controller.map(|uid| {
                vec![OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() }]
            }),
            deletion_timestamp: deleting
                .then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn claim_follows_the_controller_reference_rules() {
        let (live, leaving) = (meta("me", None, false), meta("me", None, true));
        let check = |owner: &ObjectMeta, controller, deleting, matches, expected: Claim| {
            let object = meta("object", controller, deleting);
            assert_eq!(claim(owner, &object, matches), expected, "{controller:?} {deleting} {matches}");
        };
        check(&live, Some("me"), false, true, Claim::Keep);
        check(&live, Some("me"), false, false, Claim::Release);
        check(&live, Some("other"), false, true, Claim::Ignore);
        check(&live, None, false, true, Claim::Adopt);
        check(&live, None, false, false, Claim::Ignore);
        check(&live, None, true, true, Claim::Ignore);
        check(&leaving, None, false, true, Claim::Ignore);
        check(&leaving, Some("me"), false, false, Claim::Ignore);
        check(&leaving, Some("me"), false, true, Claim::Keep);
    }

    #[test]
    fn release_patch_of_the_only_owner_removes_the_list() {
        let object = meta("object", Some("me"), false);
        assert_eq!(release_patch(&object, "me")["metadata"]["ownerReferences"], Value::Null);
    }
}
