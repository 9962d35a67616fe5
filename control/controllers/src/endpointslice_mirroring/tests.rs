//! Plans of mirrored slices.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::plan::{has_no_selector, is_mirrored, plan};

fn endpoints(metadata: Value, subsets: Value) -> Endpoints {
    let mut object =
        json!({ "metadata": { "name": "db", "namespace": "default", "uid": "e" }, "subsets": subsets });
    for (key, value) in metadata.as_object().into_iter().flatten() {
        object["metadata"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn stored(slice: &EndpointSlice, name: &str) -> Arc<EndpointSlice> {
    let mut slice = slice.clone();
    slice.metadata.name = Some(name.to_owned());
    Arc::new(slice)
}

#[test]
fn plan_each_family_has_a_slice_with_what_the_endpoints_say() {
    let metadata = json!({ "labels": { "team": "x" }, "annotations": {
        "note": "kept", "kubectl.kubernetes.io/last-applied-configuration": "dropped" } });
    let subsets = json!([{
        "addresses": [{ "ip": "192.0.2.1", "hostname": "one" }, { "ip": "2001:db8::1" }],
        "notReadyAddresses": [{ "ip": "192.0.2.2", "nodeName": "n1" }],
        "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }],
    }]);
    let object = endpoints(metadata, subsets);
    let first = plan(&object, &[]);
    assert_eq!((first.create.len(), first.update.len(), first.delete.len()), (2, 0, 0));
    let slice = &first.create[0];
    assert_eq!(slice.address_type, "IPv4");
    let told: Vec<_> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready);
            (
                endpoint.addresses[0].as_str(),
                ready,
                endpoint.hostname.as_deref(),
                endpoint.node_name.as_deref(),
            )
        })
        .collect();
    let expected =
        [("192.0.2.1", Some(true), Some("one"), None), ("192.0.2.2", Some(false), None, Some("n1"))];
    assert_eq!(told, expected);
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(5432));
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!((labels["team"].as_str(), labels["kubernetes.io/service-name"].as_str()), ("x", "db"));
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    assert_eq!(slice.metadata.annotations.clone().unwrap().into_keys().collect::<Vec<_>>(), ["note"]);
    assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    assert_eq!(first.create[1].address_type, "IPv6");

    let there = [stored(slice, "db-a"), stored(&first.create[1], "db-b")];
    let again = plan(&object, &there);
    assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0), "{again:?}");
}

#[test]
fn plan_endpoints_that_change_or_go_change_the_slices() {
    let subsets = |ip: &str, port: u16| json!([{ "addresses": [{ "ip": ip }], "ports": [{ "port": port }] }]);
    let first = plan(&endpoints(json!({}), subsets("192.0.2.1", 80)), &[]);
    let there = [stored(&first.create[0], "db-a")];
    let moved = plan(&endpoints(json!({}), subsets("192.0.2.9", 80)), &there);
    assert_eq!((moved.create.len(), moved.update.len(), moved.delete.len()), (0, 1, 0));
    assert_eq!(moved.update[0].endpoints.as_ref().unwrap()[0].addresses, ["192.0.2.9"]);
    let port = plan(&endpoints(json!({}), subsets("192.0.2.1", 81)), &there);
    assert_eq!((port.create.len(), port.update.len(), port.delete.len()), (0, 1, 0));
    let gone = plan(&endpoints(json!({}), json!([])), &there);
    assert_eq!((gone.create.len(), gone.update.len(), gone.delete.len()), (0, 0, 1));
}

#[test]
fn is_mirrored_unless_it_says_otherwise() {
    assert!(is_mirrored(&endpoints(json!({}), json!([]))));
    let skip = json!({ "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } });
    assert!(!is_mirrored(&endpoints(skip, json!([]))));
    let lock = json!({ "annotations": { "control-plane.alpha.kubernetes.io/leader": "{}" } });
    assert!(!is_mirrored(&endpoints(lock, json!([]))));
}

#[test]
fn has_no_selector_of_services_that_others_look_after() {
    let service = |spec: Value| serde_json::from_value::<Service>(json!({ "spec": spec })).unwrap();
    assert!(has_no_selector(&service(json!({}))));
    assert!(has_no_selector(&service(json!({ "selector": {} }))));
    assert!(!has_no_selector(&service(json!({ "selector": { "a": "b" } }))));
}
