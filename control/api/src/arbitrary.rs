//! Random objects for property tests: made of names that mean something, so that they get past the decoder often.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NAMES: [&str; 40] = [
    "metadata",
    "spec",
    "status",
    "name",
    "namespace",
    "labels",
    "finalizers",
    "template",
    "containers",
    "initContainers",
    "image",
    "ports",
    "containerPort",
    "port",
    "targetPort",
    "nodePort",
    "selector",
    "matchLabels",
    "replicas",
    "strategy",
    "type",
    "rollingUpdate",
    "maxSurge",
    "volumes",
    "emptyDir",
    "env",
    "valueFrom",
    "resources",
    "limits",
    "requests",
    "cpu",
    "data",
    "rules",
    "verbs",
    "subjects",
    "roleRef",
    "endpoints",
    "addresses",
    "addressType",
    "conditions",
];

/// An object of any shape.
pub(crate) fn object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!("")),
        Just(json!("a")),
        Just(json!("Always")),
        Just(json!("IPv4")),
        Just(json!("50%")),
        Just(json!("500m")),
        Just(json!(null)),
        Just(json!({})),
        Just(json!([])),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::vec((proptest::sample::select(&NAMES[..]), inner), 0..6)
                .prop_map(|members| members
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect())
                .prop_map(|members: Map<String, Value>| Value::Object(members)),
        ]
    })
    .prop_map(|value| if value.is_object() { value } else { json!({ "spec": value }) })
}
