//! When claims, volumes and attribute classes are protected and let go.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::plan::*;
use crate::pod::Pod;

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the object is of its kind")
}

#[test]
fn finalizer_comes_at_the_start_and_goes_at_the_end() {
    let now = "2027-01-01T00:00:00Z";
    let cases = [
        (json!({}), Step::Protect(vec![CLAIM.to_owned()])),
        (json!({ "finalizers": [CLAIM] }), Step::Nothing),
        (json!({ "finalizers": ["x"], "deletionTimestamp": now }), Step::Nothing),
        (
            json!({ "finalizers": ["x", CLAIM], "deletionTimestamp": now }),
            Step::Release(vec!["x".to_owned()]),
        ),
    ];
    for (meta, expected) in cases {
        assert_eq!(step(&of(meta.clone()), CLAIM), expected, "{meta}");
    }
}

#[test]
fn claim_is_used_by_pods_on_nodes() {
    let claim: PersistentVolumeClaim = of(json!({ "metadata": { "name": "c", "ownerReferences": [
        { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true },
    ] } }));
    let pod = |node: &str, volume: Value, deletion: Value| -> Pod {
        let mut pod = json!({
            "metadata": { "name": "p", "uid": "u" },
            "spec": { "nodeName": node, "containers": [], "volumes": [volume] },
        });
        for (key, value) in deletion.as_object().into_iter().flatten() {
            pod["metadata"][key] = value.clone();
        }
        of(pod)
    };
    let named = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } });
    assert!(uses(&pod("n1", named.clone(), Value::Null), &claim));
    assert!(!uses(&pod("", named.clone(), Value::Null), &claim));
    let other = json!({ "name": "v", "persistentVolumeClaim": { "claimName": "d" } });
    assert!(!uses(&pod("n1", other, Value::Null), &claim));
    let mut own: PersistentVolumeClaim = claim.clone();
    own.metadata.name = Some("p-v".to_owned());
    let ephemeral = json!({ "name": "v", "ephemeral": {} });
    assert!(uses(&pod("n1", ephemeral.clone(), Value::Null), &own));
    let gone = json!({ "deletionTimestamp": "2027-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0 });
    assert!(!uses(&pod("n1", ephemeral.clone(), gone.clone()), &own));
    assert!(uses(&pod("n1", named, gone), &claim), "a named claim until the pod is gone");
    assert_eq!(claims_of(&pod("n1", ephemeral, Value::Null)), ["p-v"]);
}
