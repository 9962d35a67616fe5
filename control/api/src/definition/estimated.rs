//! Definitions whose rules cost something, and what upstream's server (1.36) says of each: `estimated.json` beside this file.

use serde_json::{Value, json};

use crate::registry::registry;
use crate::{defaults, strategy, validation};

#[test]
fn estimates_are_those_of_upstreams_server() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("estimated.json")).unwrap();
    let resource = registry().find("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    for case in &cases {
        let schema = json!({ "type": "object", "properties": { "spec": case["spec"] } });
        let mut object = json!({ "metadata": { "name": "widgets.example.com" }, "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }],
        } });
        defaults::apply(resource, &mut object);
        strategy::prepare_create(resource, &mut object);
        let mut found: Vec<[String; 2]> = validation::create(resource, &object)
            .iter()
            .map(|error| [error.field.clone(), error.body()])
            .collect();
        found.sort();
        let mut expected: Vec<[String; 2]> = serde_json::from_value(case["causes"].clone()).unwrap();
        expected.sort();
        assert_eq!(found, expected, "{}", case["spec"]);
    }
}
