//! Objects and what they become.

use super::*;
use crate::registry::registry;
use serde_json::json;

fn defaulted(group: &str, plural: &str, mut object: Value) -> Value {
    let resource = registry().find(group, "v1", plural).unwrap();
    apply(resource, &mut object);
    let again = {
        let mut again = object.clone();
        apply(resource, &mut again);
        again
    };
    assert_eq!(again, object, "defaults settle at once");
    object
}

#[test]
fn pod_gets_the_defaults_of_upstream() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {
            "serviceAccount": "old",
            "containers": [{
                "name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80}},
                "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
            }],
            "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "hostPath": {"path": "/x"}},
                {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]
        }}),
    );
    insta::assert_json_snapshot!(pod);
}

#[test]
fn deployment_and_its_template_get_the_defaults_of_upstream() {
    let deployment = defaulted(
        "apps",
        "deployments",
        json!({"spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
        }}),
    );
    insta::assert_json_snapshot!(deployment);
}

#[test]
fn images_are_pulled_by_their_tag() {
    for (image, policy) in [
        ("i", "Always"),
        ("i:latest", "Always"),
        ("i:1", "IfNotPresent"),
        ("host:5000/i", "Always"),
        ("host:5000/i:1", "IfNotPresent"),
        ("i@sha256:00", "IfNotPresent"),
    ] {
        let pod = defaulted("", "pods", json!({"spec": {"containers": [{"name": "c", "image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn services_of_each_type_get_their_policies() {
    let service = |spec: Value| defaulted("", "services", json!({"spec": spec}))["spec"].clone();
    assert_eq!(
        service(json!({"ports": [{"port": 80}]})),
        json!({
            "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "targetPort": 80, "protocol": "TCP"}]
        })
    );
    assert_eq!(service(json!({"type": "NodePort"}))["externalTrafficPolicy"], "Cluster");
    assert_eq!(service(json!({"type": "LoadBalancer"}))["allocateLoadBalancerNodePorts"], true);
    let sticky = service(json!({"sessionAffinity": "ClientIP"}));
    assert_eq!(sticky["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"], 10800);
    assert!(service(json!({"type": "ExternalName"})).get("internalTrafficPolicy").is_none());
}

#[test]
fn secret_text_becomes_data() {
    let secret = defaulted("", "secrets", json!({"data": {"a": "eA=="}, "stringData": {"a": "y", "b": "é"}}));
    assert_eq!(secret, json!({"metadata": {}, "type": "Opaque", "data": {"a": "eQ==", "b": "w6k="}}));
}

#[test]
fn namespace_carries_its_name_as_label() {
    let namespace = defaulted("", "namespaces", json!({"metadata": {"name": "x"}}));
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
}

#[test]
fn bindings_policies_and_slices_get_their_defaults() {
    let binding = defaulted(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(binding["subjects"][1].get("apiGroup").is_none());
    let policy = defaulted(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let slice = defaulted(
        "discovery.k8s.io",
        "endpointslices",
        json!({"ports": [{"port": 80}], "endpoints": [{"addresses": ["1.2.3.4"]}]}),
    );
    assert_eq!(slice["ports"][0], json!({"port": 80, "name": "", "protocol": "TCP"}));
}

#[test]
fn jobs_without_numbers_run_once() {
    let job = defaulted("batch", "jobs", json!({"spec": {"template": {"spec": {}}}}));
    assert_eq!(
        (&job["spec"]["completions"], &job["spec"]["parallelism"], &job["spec"]["backoffLimit"]),
        (&json!(1), &json!(1), &json!(6))
    );
    let queue = defaulted("batch", "jobs", json!({"spec": {"parallelism": 3}}));
    assert!(queue["spec"].get("completions").is_none());
}

proptest::proptest! {
    #[test]
    fn defaults_of_decoded_objects_settle_and_never_panic(object in crate::arbitrary::object()) {
        for resource in registry().resources() {
            let mut value = object.clone();
            if crate::decode::check(resource, &mut value, crate::decode::FieldValidation::Ignore).is_ok() {
                apply(resource, &mut value);
                let once = value.clone();
                apply(resource, &mut value);
                proptest::prop_assert_eq!(value, once, "{}", resource.plural);
            }
        }
    }
}

#[test]
fn metadata_and_status_get_the_same_without_the_rest() {
    let template = json!({
        "metadata": { "labels": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }], "restartPolicy": "Never" },
    });
    for resource in registry().resources().filter(|one| one.has_status()) {
        let mut object = json!({
            "metadata": { "name": "n" },
            "spec": {
                "template": template, "containers": [{ "name": "c", "image": "i" }], "selector": { "a": "b" },
                "capacity": { "storage": "1Gi" }, "ports": [{ "port": 80 }], "type": "LoadBalancer",
            },
            "status": { "capacity": { "cpu": "1" }, "loadBalancer": { "ingress": [{ "ip": "10.0.0.1" }] } },
        });
        crate::decode::check(resource, &mut object, crate::decode::FieldValidation::Ignore).ok();
        let whole = {
            let mut whole = object.clone();
            apply(resource, &mut whole);
            whole
        };
        let mut parts = object;
        crate::object::remove(&mut parts, "spec");
        apply(resource, &mut parts);
        let same = ["metadata", "status"].iter().all(|name| whole[name] == parts[name]);
        let plural = &resource.plural;
        assert!(same || !are_of_parts(resource), "{plural}: {whole} {parts}");
    }
}
