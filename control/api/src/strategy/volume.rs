//! Volumes and claims to them: since when a volume is in its phase, and where a claim's data come from, in both of the
//! fields that say so.

use serde_json::Value;

use crate::object::{at, carry, remove, set, text};

/// The older field knows no namespaces; without one, both say the same.
pub(super) fn one_source(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    match (at(spec, &["dataSource"]).cloned(), at(spec, &["dataSourceRef"]).cloned()) {
        (Some(source), None) => set(spec, "dataSourceRef", source),
        (None, Some(source)) if text(&source, &["namespace"]).is_empty() => set(spec, "dataSource", source),
        _ => {}
    }
}

/// In the older field there are claims and snapshots; everything else is dropped from a claim that had no source before.
pub(super) fn known_source(claim: &mut Value, old: Option<&Value>) {
    let source = |claim: &Value, name: &str| at(claim, &["spec", name]).cloned();
    if old.is_some_and(|old| source(old, "dataSource").is_some()) || source(claim, "dataSourceRef").is_some()
    {
        return;
    }
    let Some(found) = source(claim, "dataSource") else { return };
    let kinds = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    if !kinds.contains(&(text(&found, &["apiGroup"]), text(&found, &["kind"]))) {
        remove(&mut claim["spec"], "dataSource");
    }
}

/// The time of the last change of phase, unless the client says it.
pub(super) fn time_phase(new: &mut Value, old: &Value, now: &str) {
    const TIME: &str = "lastPhaseTransitionTime";
    let phase = |object: &Value| text(object, &["status", "phase"]).to_owned();
    let (said, before) = (at(new, &["status", TIME]).cloned(), at(old, &["status", TIME]).cloned());
    if phase(new) == phase(old) {
        if said.is_none() {
            carry(&mut new["status"], &old["status"], TIME);
        }
    } else if said.is_none() || said == before {
        set(&mut new["status"], TIME, now);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn source_of_a_claim_is_in_both_fields_unless_it_has_a_namespace() {
        let both = |spec: Value| {
            let mut claim = json!({ "spec": spec });
            one_source(&mut claim);
            (claim["spec"]["dataSource"].clone(), claim["spec"]["dataSourceRef"].clone())
        };
        let source = json!({ "kind": "PersistentVolumeClaim", "name": "a" });
        assert_eq!(both(json!({ "dataSource": source })), (source.clone(), source.clone()));
        assert_eq!(both(json!({ "dataSourceRef": source })), (source.clone(), source.clone()));
        let elsewhere = json!({ "kind": "PersistentVolumeClaim", "name": "a", "namespace": "b" });
        assert_eq!(both(json!({ "dataSourceRef": elsewhere })), (Value::Null, elsewhere));
    }

    #[test]
    fn source_that_is_no_claim_and_no_snapshot_is_dropped_from_the_older_field() {
        let after = |mut claim: Value, old: Option<&Value>| {
            known_source(&mut claim, old);
            claim["spec"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        let (pod, other) = (json!({ "kind": "Pod", "name": "a" }), json!({ "kind": "Job", "name": "a" }));
        assert_eq!(after(json!({ "spec": { "dataSource": pod } }), None), [""; 0]);
        let old = json!({ "spec": { "dataSource": pod } });
        assert_eq!(after(json!({ "spec": { "dataSource": other } }), Some(&old)), ["dataSource"]);
        let both = json!({ "spec": { "dataSource": pod, "dataSourceRef": pod } });
        assert_eq!(after(both, None), ["dataSource", "dataSourceRef"]);
        let snapshot =
            json!({ "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "a" });
        assert_eq!(after(json!({ "spec": { "dataSource": snapshot } }), None), ["dataSource"]);
    }

    #[test]
    fn time_of_a_phase_changes_with_it() {
        let old = json!({ "status": { "phase": "Pending", "lastPhaseTransitionTime": "then" } });
        let after = |status: Value| {
            let mut new = json!({ "status": status });
            time_phase(&mut new, &old, "now");
            new["status"]["lastPhaseTransitionTime"].clone()
        };
        assert_eq!(after(json!({ "phase": "Pending" })), "then");
        assert_eq!(after(json!({ "phase": "Bound" })), "now");
        assert_eq!(after(json!({ "phase": "Bound", "lastPhaseTransitionTime": "then" })), "now");
        assert_eq!(after(json!({ "phase": "Bound", "lastPhaseTransitionTime": "said" })), "said");
    }
}
