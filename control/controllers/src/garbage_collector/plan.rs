//! What to do with one object, given what is known of its owners. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PropagationPolicy;
use kube::core::ObjectMeta;
use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN};

/// What is known of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It exists.
    Solid,
    /// The API says that it does not exist.
    Absent,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// Its kind is not served: nobody can say.
    Unknown,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It stays, but names owners that are gone or go: drop these references.
    Drop(Vec<String>),
    /// It goes.
    Delete(PropagationPolicy),
}

/// Decides about an object that is not being deleted. `has_dependents`: others name it as owner.
pub fn judge(meta: &ObjectMeta, owners: &[(OwnerReference, Standing)], has_dependents: bool) -> Verdict {
    let uids = |standing: &[Standing]| -> Vec<String> {
        owners.iter().filter(|(_, s)| standing.contains(s)).map(|(owner, _)| owner.uid.clone()).collect()
    };
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if owners.iter().any(|(_, standing)| matches!(standing, Standing::Solid | Standing::Unknown)) {
        let gone = uids(&[Standing::Absent, Standing::Waiting]);
        return if gone.is_empty() { Verdict::Keep } else { Verdict::Drop(gone) };
    }
    if !uids(&[Standing::Waiting]).is_empty() && has_dependents {
        return Verdict::Delete(PropagationPolicy::Foreground);
    }
    let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
    Verdict::Delete(if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    })
}

/// A merge patch that drops references to these owners, guarded by the version it was planned from.
pub fn drop_owners(meta: &ObjectMeta, uids: &[String]) -> Value {
    let kept: Vec<&OwnerReference> =
        meta.owner_references.iter().flatten().filter(|owner| !uids.contains(&owner.uid)).collect();
    guarded(meta, "ownerReferences", if kept.is_empty() { Value::Null } else { json!(kept) })
}

/// A merge patch after which no reference blocks its owner's deletion.
pub fn unblock_owners(meta: &ObjectMeta) -> Value {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
    guarded(meta, "ownerReferences", json!(owners))
}

/// A merge patch that drops a finalizer.
pub fn drop_finalizer(meta: &ObjectMeta, name: &str) -> Value {
    let kept: Vec<&String> =
        meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != name).collect();
    guarded(meta, "finalizers", if kept.is_empty() { Value::Null } else { json!(kept) })
}

fn guarded(meta: &ObjectMeta, field: &str, value: Value) -> Value {
    json!({ "metadata": { "uid": meta.uid, "resourceVersion": meta.resource_version, field: value } })
}
