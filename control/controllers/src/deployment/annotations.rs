//! The annotations that carry revisions and desired sizes between a Deployment and its ReplicaSets.
//!
//! kubectl reads and writes some of these (`rollout history`, `rollout undo`), so names and meaning are
//! upstream's.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

/// The revision of a Deployment, and of each of its ReplicaSets.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a ReplicaSet that was rolled back to, separated by commas.
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The Deployment's `spec.replicas` when the ReplicaSet was last scaled.
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods the Deployment might have had then: desired plus surge.
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";

const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The history of a ReplicaSet is cut to this many characters, oldest first.
const LONGEST_HISTORY: usize = 2000;

/// Not copied from a Deployment to its ReplicaSets.
const OWN: [&str; 6] =
    [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO];

/// The revision in annotations; 0 when there is none.
pub fn revision(annotations: Option<&BTreeMap<String, String>>) -> i64 {
    annotations.and_then(|all| all.get(REVISION)).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The largest revision among ReplicaSets.
pub fn max_revision<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().map(|set| revision(set.metadata.annotations.as_ref())).max().unwrap_or(0)
}

/// A number in the annotations of a ReplicaSet.
pub fn number(set: &ReplicaSet, name: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// Writes the sizes down; whether that changed anything.
pub fn set_sizes(set: &mut ReplicaSet, desired: i32, max: i32) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in [(DESIRED_REPLICAS, desired), (MAX_REPLICAS, max)] {
        let value = value.to_string();
        if annotations.get(name) != Some(&value) {
            annotations.insert(name.to_owned(), value);
            changed = true;
        }
    }
    changed
}

/// Copies the Deployment's annotations to its newest ReplicaSet and moves that to the revision given;
/// whether anything changed. The revision never goes back.
pub fn copy_to(set: &mut ReplicaSet, deployment: &Deployment, new_revision: i64, existed: bool) -> bool {
    let annotations = set.metadata.annotations.get_or_insert_default();
    let mut changed = false;
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&name.as_str()) && annotations.get(name) != Some(value) {
            annotations.insert(name.clone(), value.clone());
            changed = true;
        }
    }
    let old = annotations.get(REVISION).cloned();
    if old.as_deref().and_then(|value| value.parse().ok()).unwrap_or(0) < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        changed = true;
        if let Some(old) = old.filter(|old| existed && !old.is_empty()) {
            let history = annotations.get(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
            let history = extend_history(history, &old);
            annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    changed
}

fn extend_history(history: &str, revision: &str) -> String {
    let mut parts: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    if parts.last() != Some(&revision) {
        parts.push(revision);
    }
    while parts.len() > 1 && parts.iter().map(|part| part.len() + 1).sum::<usize>() > LONGEST_HISTORY {
        parts.remove(0);
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_grows_at_the_end_and_is_cut_at_the_front() {
        assert_eq!(extend_history("", "1"), "1");
        assert_eq!(extend_history("1,3", "5"), "1,3,5");
        assert_eq!(extend_history("1,3", "3"), "1,3");
        let long = (1000..1600).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let cut = extend_history(&long, "9999");
        assert!(cut.len() <= LONGEST_HISTORY && cut.ends_with("1599,9999"));
    }
}
