//! kubectl's reading commands. Tier `cluster`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use skep_e2e::{Sandbox, cluster, eventually, shell_manifest};

#[test]
fn get_prints_tables_wide_yaml_and_json() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "get");
    sandbox.echo("web", 2);
    let table = sandbox.run(&["get", "deployments"]);
    assert!(
        table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    2/2     2            2"),
        "{table}"
    );
    let wide = sandbox.run(&["get", "pods", "--output", "wide"]);
    for word in ["NOMINATED NODE", "READINESS GATES", "1/1", "Running", "10.244.", "skep-n1", "skep-n2"] {
        assert!(wide.contains(word), "{word} in {wide}");
    }
    let yaml = sandbox.run(&["get", "deployment", "web", "--output", "yaml"]);
    assert!(yaml.contains("kind: Deployment") && yaml.contains("readyReplicas: 2"), "{yaml}");
    assert_eq!(sandbox.json(&["deployment", "web"])["status"]["availableReplicas"], 2);
    let nodes = cluster.kubectl().run(&["get", "nodes"]).unwrap();
    assert_eq!(nodes.matches(" Ready ").count(), 2, "{nodes}");
    let columns =
        sandbox.run(&["get", "pods", "--output", "custom-columns=N:.metadata.name,P:.status.phase"]);
    assert_eq!(columns.matches("Running").count(), 2, "{columns}");
}

#[test]
fn get_watch_shows_what_happens() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "watch");
    let mut watch = sandbox
        .command(&[
            "get",
            "configmaps",
            "--watch",
            "--output",
            "name",
            "--field-selector",
            "metadata.name=seen",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    sandbox.config_map("other");
    sandbox.config_map("seen");
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/seen");
    sandbox.run(&["label", "configmap", "seen", "changed=yes"]);
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/seen");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn describe_tells_state_and_events() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "describe");
    sandbox.run_with(&["apply", "--filename", "-"], &shell_manifest("idle", "Always", "sleep 600"));
    sandbox.run(&["wait", "--for=condition=Ready", "pod/idle", "--timeout=60s"]);
    let events = || sandbox.run(&["describe", "pod", "idle"]);
    let text = eventually(10, "events of the pod", || Some(events()).filter(|text| text.contains("Started")));
    for word in ["Name:             idle", "Status:           Running", "Scheduled", "Created", "QoS Class:"]
    {
        assert!(text.contains(word), "{word} in {text}");
    }
    let node = cluster.kubectl().run(&["describe", "node", "skep-n1"]).unwrap();
    for word in ["InternalIP:", "containerd://", "Allocated resources:", "PodCIDR:"] {
        assert!(node.contains(word), "{word} in {node}");
    }
}

#[test]
fn explain_api_resources_and_cluster_info_know_the_api() {
    let Some(cluster) = cluster() else { return };
    let kubectl = cluster.kubectl();
    let text = kubectl.run(&["explain", "deployment.spec.strategy.rollingUpdate"]).unwrap();
    assert!(text.contains("maxSurge") && text.contains("<IntOrString>"), "{text}");
    let text = kubectl.run(&["explain", "pods", "--recursive"]).unwrap();
    assert!(text.contains("terminationGracePeriodSeconds"), "{text}");
    let resources = kubectl.run(&["api-resources"]).unwrap();
    for line in ["deploy ", "endpointslices", "leases", "svc "] {
        assert!(resources.contains(line), "{line} in {resources}");
    }
    assert!(kubectl.run(&["api-versions"]).unwrap().contains("apps/v1\n"));
    assert!(kubectl.run(&["cluster-info"]).unwrap().contains("https://172.30.0.1:6443"));
    assert!(kubectl.run(&["version"]).unwrap().contains("Server Version: v1.36"));
}
