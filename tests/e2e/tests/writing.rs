//! kubectl's writing commands, and what the controllers make of them. Tier `cluster`.

use skep_e2e::{Sandbox, cluster, echo_manifest, eventually};

#[test]
fn apply_create_patch_label_and_annotate_change_what_they_say() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "write");
    let manifest = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{keep: a, change: {value}}}\n"
        )
    };
    let apply = ["apply", "--filename", "-"];
    assert_eq!(sandbox.run_with(&apply, &manifest("one")), "configmap/c created\n");
    assert_eq!(sandbox.run_with(&apply, &manifest("one")), "configmap/c unchanged\n");
    assert_eq!(sandbox.run_with(&apply, &manifest("two")), "configmap/c configured\n");
    assert_eq!(sandbox.json(&["configmap", "c"])["data"]["change"], "two");
    // What a manifest no longer says goes away.
    sandbox.run_with(&apply, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {change: two}\n");
    assert!(sandbox.json(&["configmap", "c"])["data"]["keep"].is_null());

    sandbox.run(&["patch", "configmap", "c", "--type=merge", "--patch", r#"{"data":{"merged":"yes"}}"#]);
    sandbox.run(&[
        "patch",
        "configmap",
        "c",
        "--type=json",
        "--patch",
        r#"[{"op":"replace","path":"/data/change","value":"three"}]"#,
    ]);
    sandbox.run(&["label", "configmap", "c", "tier=test"]);
    sandbox.run(&["annotate", "configmap", "c", "note=a b"]);
    let object = sandbox.json(&["configmap", "c"]);
    assert_eq!(object["data"]["merged"], "yes");
    assert_eq!(object["data"]["change"], "three");
    assert_eq!(object["metadata"]["labels"]["tier"], "test");
    assert_eq!(object["metadata"]["annotations"]["note"], "a b");
    assert_eq!(
        sandbox.run(&["get", "configmaps", "--selector", "tier=test", "--output", "name"]),
        "configmap/c\n"
    );
    assert!(sandbox.fails_with(&["create", "--filename", "-"], &manifest("one")).contains("AlreadyExists"));
    sandbox.run(&["delete", "configmap", "c"]);
    assert!(sandbox.fails(&["get", "configmap", "c"]).contains("NotFound"));
}

/// The commands that write without a manifest; several of them send protobuf.
#[test]
fn create_commands_make_what_they_name() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "create");
    let image = format!("--image={}", skep_e2e::ECHO_IMAGE);
    sandbox.run(&["create", "deployment", "web", &image, "--replicas=2"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    sandbox.run(&["create", "configmap", "c", "--from-literal=a=b"]);
    sandbox.run(&["create", "secret", "generic", "s", "--from-literal=a=b"]);
    sandbox.run(&["create", "service", "clusterip", "web", "--tcp=80:8080"]);
    sandbox.run(&["create", "serviceaccount", "reader"]);
    sandbox.run(&["create", "role", "reads", "--verb=get", "--resource=pods"]);
    let account = format!("--serviceaccount={}:reader", sandbox.name);
    sandbox.run(&["create", "rolebinding", "reads", "--role=reads", &account]);
    assert_eq!(sandbox.json(&["configmap", "c"])["data"]["a"], "b");
    assert_eq!(sandbox.json(&["secret", "s"])["data"]["a"], "Yg==");
    assert_eq!(sandbox.json(&["service", "web"])["spec"]["ports"][0]["targetPort"], 8080);
    let user = format!("--as=system:serviceaccount:{}:reader", sandbox.name);
    assert_eq!(sandbox.run(&["auth", "can-i", "get", "pods", &user]), "yes\n");
    assert!(!sandbox.command(&["auth", "can-i", "delete", "pods", &user]).status().unwrap().success());
    assert_eq!(sandbox.run(&["create", "token", "reader"]).split('.').count(), 3);
    assert!(sandbox.fails(&["create", "configmap", "c"]).contains("already exists"));
    assert!(
        sandbox
            .fails(&["create", "deployment", "Web", &image])
            .contains("is invalid: metadata.name: Invalid value")
    );
}

#[test]
fn rollout_moves_forward_and_back() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "rollout");
    sandbox.echo("web", 2);
    sandbox.run(&["scale", "deployment/web", "--replicas=3"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(sandbox.pods("web").len(), 3);
    sandbox.run(&["set", "env", "deployment/web", "COLOUR=blue"]);
    let status = sandbox.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert!(status.contains("successfully rolled out"), "{status}");
    let history = sandbox.run(&["rollout", "history", "deployment/web"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    sandbox.run(&["rollout", "undo", "deployment/web"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let object = sandbox.json(&["deployment", "web"]);
    assert!(object["spec"]["template"]["spec"]["containers"][0]["env"].is_null());
    assert_eq!(object["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    let sets = sandbox.json(&["replicasets"]);
    assert_eq!(sets["items"].as_array().unwrap().len(), 2, "an undo uses the old ReplicaSet again");
}

#[test]
fn rollout_of_an_image_that_is_nowhere_leaves_the_old_pods() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "stuck");
    sandbox.echo("web", 2);
    sandbox.run(&["set", "image", "deployment/web", "echo=localhost/skep/nowhere:1"]);
    eventually(60, "the pull that fails shows", || {
        let pods = sandbox.run(&["get", "pods"]);
        (pods.contains("ErrImagePull") || pods.contains("ImagePullBackOff")).then_some(())
    });
    assert_eq!(sandbox.json(&["deployment", "web"])["status"]["availableReplicas"], 2);
}

#[test]
fn delete_propagates_as_asked() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "delete");
    for mode in ["background", "foreground"] {
        sandbox.echo(mode, 1);
        sandbox.run(&["delete", "deployment", mode, &format!("--cascade={mode}"), "--timeout=60s"]);
        eventually(60, "the pods go with the deployment", || sandbox.pods(mode).is_empty().then_some(()));
        let selector = format!("app={mode}");
        eventually(30, "the replica sets go with the deployment", || {
            let left = sandbox.run(&["get", "replicasets", "--selector", &selector, "--output", "name"]);
            left.is_empty().then_some(())
        });
    }
    sandbox.echo("orphan", 1);
    let pods = sandbox.pods("orphan");
    sandbox.run(&["delete", "deployment", "orphan", "--cascade=orphan"]);
    let set = sandbox.json(&["replicasets", "--selector", "app=orphan"])["items"][0].clone();
    eventually(20, "the replica set has no owner any more", || {
        let set = sandbox.json(&["replicasets", "--selector", "app=orphan"])["items"][0].clone();
        set["metadata"]["ownerReferences"].is_null().then_some(())
    });
    assert!(set["metadata"]["deletionTimestamp"].is_null());
    assert_eq!(sandbox.pods("orphan"), pods);
}

#[test]
fn delete_of_a_pod_is_made_good() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "heal");
    sandbox.run_with(&["apply", "--filename", "-"], &echo_manifest("web", 2));
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let before = sandbox.pods("web");
    sandbox.run(&["delete", "pod", &before[0], "--timeout=60s"]);
    sandbox.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let after = sandbox.pods("web");
    assert_eq!(after.len(), 2);
    assert!(!after.contains(&before[0]) && after.contains(&before[1]), "{before:?} {after:?}");
}
