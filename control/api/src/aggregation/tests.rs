//! Aggregated servers, as data.

use serde_json::json;

use super::*;
use crate::discovery;
use crate::registry::registry;

fn remote() -> Remote {
    let resource = |name: &str| {
        json!({
            "name": name, "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"],
        })
    };
    Remote {
        group: "wardle.example.com".into(),
        version: "v1alpha1".into(),
        group_priority: 2000,
        version_priority: 200,
        available: true,
        resources: json!({ "resources": [resource("flunders"), resource("flunders/status")] }),
        openapi: json!({
            "paths": { "/apis/wardle.example.com/v1alpha1/flunders": {}, "/api/v1/pods": { "bad": true } },
            "definitions": { "com.example.Flunder": {}, "io.k8s.api.core.v1.Pod": { "bad": true } },
        }),
        hash: "H".into(),
    }
}

#[test]
fn documents_of_others_join_ours() {
    let kinds = registry();
    let list = join_list(discovery::api_group_list(kinds), &[remote()]);
    let group = list["groups"].as_array().unwrap().last().unwrap().clone();
    let version = json!({ "groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1" });
    assert_eq!(
        group,
        json!({ "name": "wardle.example.com", "versions": [version], "preferredVersion": version })
    );
    let group = join_group(None, "wardle.example.com", &[remote()]).unwrap();
    assert_eq!((&group["kind"], &group["preferredVersion"]), (&json!("APIGroup"), &version));
    assert!(join_group(None, "other.example.com", &[remote()]).is_none());
    let aggregated = join_groups(discovery::aggregated(kinds, false), &[remote()]);
    let last = aggregated["items"].as_array().unwrap().last().unwrap();
    let resource = &last["versions"][0]["resources"][0];
    assert_eq!(last["versions"][0]["freshness"], "Current");
    assert_eq!((&resource["resource"], &resource["scope"]), (&json!("flunders"), &json!("Namespaced")));
    assert_eq!(resource["responseKind"]["group"], "wardle.example.com");
    assert_eq!(resource["subresources"][0]["subresource"], "status");
}

#[test]
fn documents_of_others_do_not_replace_ours() {
    let ours = json!({ "paths": { "/api/v1/pods": {} }, "definitions": { "io.k8s.api.core.v1.Pod": {} } });
    let joined = join_v2(ours, &[remote()]);
    assert_eq!(
        joined["paths"],
        json!({ "/api/v1/pods": {}, "/apis/wardle.example.com/v1alpha1/flunders": {} })
    );
    assert_eq!(joined["definitions"], json!({ "io.k8s.api.core.v1.Pod": {}, "com.example.Flunder": {} }));
    let index = join_v3(json!({ "paths": {} }), &[remote()]);
    let url = "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=H";
    assert_eq!(index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"], url);
}

#[test]
fn every_group_version_that_is_served_has_an_object() {
    let objects = local(registry());
    let find = |name: &str| objects.iter().find(|one| crate::object::name(one) == name).unwrap();
    assert_eq!(find("v1.")["spec"]["groupPriorityMinimum"], 18000);
    assert_eq!(find("v2.autoscaling")["spec"]["versionPriority"], 30);
    assert!(objects.iter().all(|one| !is_obsolete(one, registry())));
    for one in &objects {
        let mut errors = Vec::new();
        check(one, &mut errors);
        assert_eq!(errors, []);
    }
    let mut gone = find("v1.apps").clone();
    gone["spec"]["group"] = json!("gone.example.com");
    gone["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"] = json!("true");
    assert!(is_obsolete(&gone, registry()));
}

#[test]
fn way_to_a_server_is_judged_step_by_step() {
    let object = json!({ "spec": { "service": { "namespace": "n", "name": "s", "port": 443 } } });
    let service =
        |port: u16| json!({ "spec": { "type": "ClusterIP", "ports": [{ "name": "p", "port": port }] } });
    let slice = |ready: bool| {
        json!({
            "metadata": { "labels": { "kubernetes.io/service-name": "s" } },
            "ports": [{ "name": "p" }], "endpoints": [{ "conditions": { "ready": ready } }],
        })
    };
    let reason = |service: Option<&Value>, slices: &[Value]| {
        judge(&object, service, slices.iter()).err().map(|condition| condition.reason)
    };
    assert_eq!(reason(None, &[]), Some("ServiceNotFound"));
    assert_eq!(reason(Some(&service(80)), &[]), Some("ServicePortError"));
    assert_eq!(reason(Some(&service(443)), &[]), Some("EndpointsNotFound"));
    assert_eq!(reason(Some(&service(443)), &[slice(false)]), Some("MissingEndpoints"));
    assert_eq!(reason(Some(&service(443)), &[slice(true)]), None);
    let first = with_condition(&object, &Condition::passed(), "t1");
    let second = with_condition(&first, &Condition::passed(), "t2");
    assert_eq!(second, first, "nothing changed");
    let third = with_condition(&second, &Condition::failed("gone"), "t3");
    assert_eq!(third["status"]["conditions"][0]["lastTransitionTime"], "t3");
}

#[test]
fn object_that_makes_no_sense_is_refused() {
    let mut errors = Vec::new();
    let spec = json!({
        "group": "g.example.com", "version": "v1", "groupPriorityMinimum": 20001, "insecureSkipTLSVerify": true,
        "caBundle": "eA==", "service": { "name": "s", "port": 0 },
    });
    check(&json!({ "metadata": { "name": "v2.g.example.com" }, "spec": spec }), &mut errors);
    let fields: Vec<&str> = errors.iter().map(|one| one.field.as_str()).collect();
    let expected = [
        "metadata.name",
        "spec.groupPriorityMinimum",
        "spec.versionPriority",
        "spec.service.namespace",
        "spec.service.port",
        "spec.caBundle",
        "spec.insecureSkipTLSVerify",
    ];
    assert_eq!(fields, expected);
}
