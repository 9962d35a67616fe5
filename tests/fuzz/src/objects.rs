//! Objects that targets work on, and the way of one to the store, without one.

use serde_json::{Value, json};
use skep_api::decode::{self, FieldValidation};
use skep_api::registry::{Resource, registry};
use skep_api::{defaults, strategy, validation};

/// The resource with the most in it.
pub(crate) fn pods() -> &'static Resource {
    registry().find("", "v1", "pods").expect("pods are built in")
}

/// A pod that has most of what patches and applies treat apart: lists with one key and with two, sets, maps, amounts.
pub(crate) fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1", "labels": { "a": "b" }, "finalizers": ["a/b"],
            "managedFields": [{
                "manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:labels": { "f:a": {} } }, "f:spec": { "f:containers": {
                    "k:{\"name\":\"c\"}": { ".": {}, "f:name": {}, "f:image": {} } } } }
            }]
        },
        "spec": {
            "containers": [
                { "name": "c", "image": "i:1", "ports": [{ "containerPort": 80, "name": "http", "protocol": "TCP" }],
                    "resources": { "limits": { "cpu": "1500m" } } },
                { "name": "d", "image": "i:2" }
            ],
            "tolerations": [{ "key": "k", "operator": "Exists" }],
            "volumes": [{ "name": "v", "emptyDir": {} }]
        }
    })
}

/// All that happens to an object before it is written.
pub(crate) fn through(resource: &Resource, mut object: Value) {
    if decode::check(resource, &mut object, FieldValidation::Warn).is_err() {
        return;
    }
    decode::omit_zeros(resource, &mut object);
    defaults::apply(resource, &mut object);
    strategy::prepare_create(resource, &mut object);
    let _ = validation::create(resource, &object);
    let _ = validation::warnings(resource, &object, None);
    let text = object.to_string();
    let again: Value = serde_json::from_str(&text).expect("what was read can be written and read again");
    assert_eq!(again, object);
}
