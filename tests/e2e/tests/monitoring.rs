//! A real Prometheus scrapes the nodes and the API server, and answers what the dashboard and the alert rules ask. Tier
//! `cluster`; the program is Debian's, which is built without Kubernetes discovery: the nodes are listed by name.
#![allow(clippy::unwrap_used)] // a test

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use skep_e2e::{Sandbox, cluster, eventually};
use skep_harness::cluster::{Cluster, http_get, in_network};
use skep_harness::layout::{API_PORT, CLIENT, CONTROL_HOST, ipv4};

/// Where it answers, on the loopback of the client's namespace.
const ADDRESS: &str = "127.0.0.1:9190";

/// What scrapes may read.
const ACCOUNT: &str = r#"apiVersion: v1
kind: ServiceAccount
metadata: {name: prometheus}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: e2e-prometheus}
rules:
- {apiGroups: [""], resources: [nodes/proxy], verbs: [get]}
- {nonResourceURLs: [/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: e2e-prometheus}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-prometheus}
subjects:
- {kind: ServiceAccount, name: prometheus, namespace: e2e-monitoring}
"#;

const SERVICE: &str = r#"apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30093}]
"#;

/// The nodes are asked through the API server, with a service account's token.
fn configuration(cluster: &Cluster, folder: &Path) -> String {
    let api = format!("{}:{API_PORT}", ipv4(CONTROL_HOST));
    let nodes: Vec<&str> = cluster.layout.nodes.iter().map(|node| node.name.as_str()).collect();
    let access = format!(
        "scheme: https, tls_config: {{ca_file: {}}}, authorization: {{credentials_file: {}}}",
        folder.join("ca.crt").display(),
        folder.join("token").display(),
    );
    format!(
        r#"global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{alerts}]
scrape_configs:
- {{job_name: api, {access}, static_configs: [{{targets: ["{api}"]}}]}}
- {{job_name: nodes, {access}, static_configs: [{{targets: [{nodes}]}}], relabel_configs: [
    {{source_labels: [__address__], target_label: instance}},
    {{source_labels: [__address__], target_label: __metrics_path__, replacement: "/api/v1/nodes/$1/proxy/metrics"}},
    {{target_label: __address__, replacement: "{api}"}}]}}
"#,
        alerts = monitoring("alerts.yaml").display(),
        nodes = nodes.join(", "),
    )
}

/// A file that the project gives to those who run Prometheus and Grafana.
fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../node/monitoring").join(file).canonicalize().unwrap()
}

/// A Prometheus, ended with the test.
struct Prometheus {
    child: Child,
    folder: PathBuf,
}

impl Prometheus {
    fn start(cluster: &Cluster, sandbox: &Sandbox) -> Self {
        let folder = std::env::temp_dir().join(format!("skep-e2e-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let token = sandbox.run(&["create", "token", "prometheus", "--duration=1h"]);
        std::fs::write(folder.join("token"), token.trim()).unwrap();
        std::fs::copy(cluster.layout.nodes[0].state.join("credentials/ca.crt"), folder.join("ca.crt"))
            .unwrap();
        std::fs::write(folder.join("prometheus.yml"), configuration(cluster, &folder)).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = in_network(CLIENT, || {
            Ok(Command::new("prometheus")
                .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address={ADDRESS}"))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()?)
        });
        Self { child: child.expect("Debian's prometheus is installed"), folder }
    }

    /// What it answers at a path of its API.
    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let address: SocketAddr = ADDRESS.parse()?;
        let body = in_network(CLIENT, || http_get(address, path, Duration::from_secs(5)))?;
        let answer: Value = serde_json::from_str(&body)?;
        anyhow::ensure!(answer["status"] == "success", "{path}: {answer}");
        Ok(answer["data"].clone())
    }

    /// The results of an expression: labels and value.
    fn query(&self, expression: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.get(&format!("/api/v1/query?query={encoded}"))?;
        let results = data["result"].as_array().cloned().unwrap_or_default();
        let value = |result: &Value| result["value"][1].as_str().and_then(|text| text.parse().ok());
        Ok(results
            .iter()
            .map(|result| (result["metric"].clone(), value(result).unwrap_or(f64::NAN)))
            .collect())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn prometheus_scrapes_nodes_and_server_and_answers_the_dashboard() {
    let Some(cluster) = cluster() else { return };
    let sandbox = Sandbox::new(&cluster, "monitoring");
    sandbox.run_with(&["apply", "--filename", "-"], ACCOUNT);
    sandbox.echo("web", 2);
    sandbox.run_with(&["apply", "--filename", "-"], SERVICE);
    let prometheus = Prometheus::start(&cluster, &sandbox);

    let nodes = cluster.layout.nodes.len();
    eventually(60, "every node and the API server are up", || {
        let up = prometheus.query("up == 1").ok()?;
        let of = |job: &str| up.iter().filter(|(labels, _)| labels["job"] == job).count();
        (of("nodes") == nodes && of("api") == 1).then_some(())
    });

    // The service's counters are what its clients did.
    let address: SocketAddr = format!("{}:30093", cluster.layout.nodes[0].ipv4()).parse().unwrap();
    let connections = r#"sum(skep_service_connections_total{namespace="e2e-monitoring",service="web"})"#;
    let count = || prometheus.query(connections).ok().and_then(|results| Some(results.first()?.1));
    let before = eventually(30, "the service is counted", count);
    for _ in 0..10 {
        in_network(CLIENT, || http_get(address, "/", Duration::from_secs(2))).unwrap();
    }
    let grown = eventually(20, "ten connections are counted", || count().filter(|now| *now >= before + 10.0));
    assert_eq!(grown, before + 10.0);

    // Whatever the dashboard asks is understood, and every metric in it is there.
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(monitoring("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let expressions: Vec<String> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .map(|text| text.replace("$__rate_interval", "1m").replace("$instance", ".*"))
        .collect();
    let known = prometheus.get("/api/v1/label/__name__/values").unwrap();
    let known: Vec<&str> = known.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for expression in &expressions {
        prometheus.query(expression).unwrap_or_else(|error| panic!("{expression}: {error:#}"));
        for word in expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let ours = word.starts_with("skep_") || word.starts_with("kubeproxy_");
            assert!(!ours || known.contains(&word), "{expression}: nothing is called {word}");
        }
    }

    // The alert rules are evaluated without error; in a quiet cluster none of them that is critical fires.
    let rules = eventually(20, "every rule was evaluated", || {
        let data = prometheus.get("/api/v1/rules").ok()?;
        let groups = data["groups"].as_array()?.clone();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")).then_some(rules)
    });
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        let firing = rule["state"] == "firing" && rule["labels"]["severity"] == "critical";
        assert!(!firing, "{rule}");
    }
    drop(prometheus);
    sandbox.run(&["delete", "clusterrolebinding,clusterrole", "e2e-prometheus"]);
}
