//! Objects and the rules that they break.

use super::*;
use crate::registry::registry;
use crate::{defaults, strategy};
use serde_json::json;

fn find(group: &str, plural: &str) -> &'static Resource {
    registry().find(group, "v1", plural).unwrap()
}

fn broken(resource: &Resource, mut object: Value) -> Vec<String> {
    defaults::apply(resource, &mut object);
    create(resource, &object).iter().map(ToString::to_string).collect()
}

fn changed(resource: &Resource, old: &Value, edit: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut old = old.clone();
    defaults::apply(resource, &mut old);
    let mut new = old.clone();
    edit(&mut new);
    defaults::apply(resource, &mut new);
    strategy::prepare_update(resource, &mut new, &old);
    update(resource, &new, &old).iter().map(ToString::to_string).collect()
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]}
    })
}

fn deployment() -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        }
    })
}

fn service() -> Value {
    json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}})
}

#[test]
fn plain_objects_break_no_rule() {
    assert_eq!(broken(find("", "pods"), pod()), [""; 0]);
    assert_eq!(broken(find("apps", "deployments"), deployment()), [""; 0]);
    assert_eq!(broken(find("apps", "replicasets"), deployment()), [""; 0]);
    assert_eq!(broken(find("apps", "daemonsets"), deployment()), [""; 0]);
    assert_eq!(broken(find("", "services"), service()), [""; 0]);
    let plain = json!({"metadata": {"name": "a", "namespace": "n"}});
    for plural in ["configmaps", "secrets", "serviceaccounts", "endpoints"] {
        assert_eq!(broken(find("", plural), plain.clone()), [""; 0]);
    }
    assert_eq!(broken(find("", "namespaces"), json!({"metadata": {"name": "a"}})), [""; 0]);
    assert_eq!(
        broken(
            find("coordination.k8s.io", "leases"),
            json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {}})
        ),
        [""; 0]
    );
}

#[test]
fn metadata_that_breaks_rules_is_named() {
    let configs = find("", "configmaps");
    let cases = [
        (json!({"namespace": "n"}), "metadata.name: Required value: name or generateName is required"),
        (json!({"name": "a"}), "metadata.namespace: Required value"),
    ];
    for (metadata, expected) in cases {
        assert_eq!(broken(configs, json!({"metadata": metadata})), [expected]);
    }
    let bad = json!({"metadata": {"name": "A_b", "namespace": "n", "labels": {"x y": "1"}, "finalizers": ["plain"]}});
    let errors = broken(configs, bad);
    assert!(
        errors[0].starts_with("metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain"),
        "{errors:?}"
    );
    assert!(
        errors[1].starts_with("metadata.labels: Invalid value: \"x y\": name part must consist of"),
        "{errors:?}"
    );
    assert!(
        errors[2].contains("name is neither a standard finalizer name nor is it fully qualified"),
        "{errors:?}"
    );
    let namespaced = json!({"metadata": {"name": "a", "namespace": "n"}});
    assert_eq!(
        broken(find("", "nodes"), namespaced),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn deployment_without_content_misses_what_upstream_misses() {
    let errors =
        broken(find("apps", "deployments"), json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {}}));
    assert_eq!(
        errors,
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value"
        ]
    );
    let mut mismatch = deployment();
    mismatch["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    assert_eq!(
        broken(find("apps", "deployments"), mismatch),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`"
        ]
    );
    let mut negative = deployment();
    negative["spec"]["replicas"] = (-1).into();
    negative["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    assert_eq!(
        broken(find("apps", "deployments"), negative),
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ]
    );
}

#[test]
fn pods_that_break_rules_are_refused_field_by_field() {
    let container = |more: Value| {
        let mut pod = pod();
        for (key, value) in more.as_object().unwrap() {
            pod["spec"]["containers"][0][key] = value.clone();
        }
        broken(find("", "pods"), pod)
    };
    for (more, expected) in [
        (json!({"image": ""}), "spec.containers[0].image: Required value"),
        (json!({"name": ""}), "spec.containers[0].name: Required value"),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}}),
            "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
        ),
    ] {
        assert_eq!(container(more), [expected]);
    }
    let mut twice = pod();
    twice["spec"]["containers"] = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]);
    assert_eq!(broken(find("", "pods"), twice), ["spec.containers[1].name: Duplicate value: \"c\""]);
}

#[test]
fn pod_update_passes_only_what_may_change() {
    let pods = find("", "pods");
    assert_eq!(changed(pods, &pod(), |new| new["spec"]["containers"][0]["image"] = "i:2".into()), [""; 0]);
    assert_eq!(changed(pods, &pod(), |new| new["metadata"]["labels"] = json!({"a": "b"})), [""; 0]);
    assert_eq!(
        changed(pods, &pod(), |new| new["spec"]["tolerations"] = json!([{"operator": "Exists"}])),
        [""; 0]
    );
    let errors = changed(pods, &pod(), |new| new["spec"]["nodeName"] = "x".into());
    assert!(errors[0].starts_with(
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
    ));
    let errors = changed(pods, &pod(), |new| {
        new["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "d", "image": "i"}))
    });
    assert_eq!(errors, ["spec.containers: Forbidden: pod updates may not add or remove containers"]);
}

#[test]
fn fields_that_are_immutable_cannot_change() {
    let errors = changed(find("apps", "deployments"), &deployment(), |new| {
        new["spec"]["selector"] = json!({"matchLabels": {"app": "b"}});
        new["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    });
    assert_eq!(
        errors,
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"]
    );
    let sealed = json!({"metadata": {"name": "a", "namespace": "n"}, "immutable": true, "data": {"a": "1"}});
    let errors = changed(find("", "configmaps"), &sealed, |new| new["data"]["a"] = "2".into());
    assert_eq!(errors, ["data: Forbidden: field is immutable when `immutable` is set"]);
    let mut with_address = service();
    with_address["spec"]["clusterIP"] = "10.0.0.1".into();
    with_address["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    let errors = changed(find("", "services"), &with_address, |new| {
        new["spec"]["clusterIP"] = "10.0.0.2".into();
        new["spec"]["clusterIPs"] = json!(["10.0.0.2"]);
    });
    assert_eq!(errors, ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]);
    let errors = changed(find("", "pods"), &pod(), |new| new["metadata"]["name"] = "b".into());
    assert_eq!(errors, ["metadata.name: Invalid value: \"b\": field is immutable"]);
}

#[test]
fn services_that_break_rules_are_refused() {
    let with = |edit: &dyn Fn(&mut Value)| {
        let mut object = service();
        edit(&mut object["spec"]);
        broken(find("", "services"), object)
    };
    assert_eq!(with(&|spec| spec["ports"] = json!([])), ["spec.ports: Required value"]);
    assert_eq!(
        with(&|spec| spec["ports"] = json!([{"port": 1}, {"port": 2}])),
        ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]
    );
    assert_eq!(
        with(&|spec| spec["type"] = "X".into())[0],
        "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\""
    );
    assert_eq!(
        with(&|spec| spec["ports"][0]["nodePort"] = 30000.into()),
        ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"]
    );
    assert_eq!(
        with(&|spec| spec["externalIPs"] = json!(["127.0.0.1"])),
        [
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)"
        ]
    );
}

#[test]
fn object_on_its_way_out_takes_no_new_finalizers_but_loses_old_ones() {
    let mut old = json!({"metadata": {"name": "a", "namespace": "n", "finalizers": ["x/y"]}});
    let configs = find("", "configmaps");
    old["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    assert_eq!(changed(configs, &old, |new| new["metadata"]["finalizers"] = json!([])), [""; 0]);
    let errors = changed(configs, &old, |new| new["metadata"]["finalizers"] = json!(["x/y", "x/z"]));
    assert_eq!(
        errors,
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
          finalizers [\"x/z\"]"
        ]
    );
}

proptest::proptest! {
    #[test]
    fn validation_of_decoded_objects_never_panics(body in crate::arbitrary::object()) {
        for resource in registry().resources() {
            let mut value = body.clone();
            if crate::decode::check(resource, &mut value, crate::decode::FieldValidation::Ignore).is_ok() {
                defaults::apply(resource, &mut value);
                strategy::prepare_create(resource, &mut value);
                let with_paths = {
                    let mut errors = meta::create(resource, &value);
                    if resource.custom.is_none() {
                        content(resource, &value, None, &mut errors);
                    }
                    errors
                };
                proptest::prop_assert_eq!(create(resource, &value), with_paths);
                let _ = update(resource, &value, &value);
                let _ = warnings(resource, &value, None);
            }
        }
    }
}
