//! Wrong requests get Kubernetes' answers and change nothing. Tier `cluster`.

use skep_e2e::{Sandbox, cluster, echo_manifest};

#[test]
fn manifests_that_are_wrong_are_refused_by_name() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "wrong");
    let good = echo_manifest("web", 1);
    let cases = [
        (good.replace("replicas: 1", "replicaz: 1"), "unknown field \"spec.replicaz\""),
        (good.replace("replicas: 1", "replicas: many"), "replicas"),
        (good.replace("name: web\n", "name: Web_1\n"), "Invalid value"),
        (good.replace("matchLabels: {app: web}", "matchLabels: {app: other}"), "selector"),
        ("kind: [".to_owned(), "yaml"),
    ];
    for (manifest, expected) in cases {
        let said = sandbox.fails_with(&["apply", "--filename", "-"], &manifest);
        assert!(said.contains(expected), "{expected} in {said}");
    }
    assert_eq!(sandbox.run(&["get", "deployments,pods", "--output", "name"]), "");
}

#[test]
fn raw_bodies_that_are_wrong_get_a_status() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "raw");
    let path = format!("/api/v1/namespaces/{}/configmaps", sandbox.name);
    let create = ["create", "--raw", &path, "--filename", "-"];
    let huge = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(4 << 20)
    );
    let deep = "[".repeat(100_000);
    for body in ["{", "[]", "null", r#"{"kind":"ConfigMap"}"#, &huge, &deep] {
        let said = sandbox.fails_with(&create, body);
        assert!(said.contains("Error from server") || said.contains("is invalid: "), "{said}");
    }
    assert_eq!(
        sandbox.run(&["get", "configmaps", "--field-selector", "metadata.name=a", "--output", "name"]),
        ""
    );
    for path in ["/apis/none/v1/things", "/apis/apps/v9/deployments", "/api/v1/deploymints"] {
        assert!(cluster.kubectl().fails(&["get", "--raw", path]).unwrap().contains("NotFound"), "{path}");
    }
}

#[test]
fn changes_of_what_may_not_change_are_refused() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "immutable");
    sandbox.echo("web", 1);
    let patch = r#"{"spec":{"selector":{"matchLabels":{"app":"other"}}}}"#;
    let said = sandbox.fails(&["patch", "deployment", "web", "--type=merge", "--patch", patch]);
    assert!(said.contains("field is immutable"), "{said}");
    let stale = r#"{"metadata":{"resourceVersion":"1"},"spec":{"replicas":2}}"#;
    let said = sandbox.fails(&["patch", "deployment", "web", "--type=merge", "--patch", stale]);
    assert!(said.contains("the object has been modified"), "{said}");
    assert_eq!(sandbox.json(&["deployment", "web"])["spec"]["replicas"], 1);
}
