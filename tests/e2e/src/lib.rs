//! What the end-to-end tests share: the tier guard, a namespace per test, and waiting.
//!
//! The tests themselves are in `tests/e2e/tests`, one file per concern. They need the cluster of `cargo xtask up`, those of
//! `available.rs` the one of `up --ha`, and those of `skep-node proxy` make what they need themselves ([`alone`]).

pub mod alone;

use std::time::{Duration, Instant};

use serde_json::Value;
use skep_harness::cluster::Cluster;
use skep_harness::kubectl::Kubectl;

/// The echo image that `cargo xtask up` imports on every node.
pub const ECHO_IMAGE: &str = "localhost/skep/echo:0.1";

/// The cluster to test; `None`, said aloud, where the tier `cluster` is not asked for.
pub fn cluster() -> Option<Cluster> {
    cluster_of("cluster")
}

/// The cluster to test where this tier is asked for; `None`, said aloud, elsewhere.
pub fn cluster_of(wanted: &str) -> Option<Cluster> {
    let asked =
        std::env::var("SKEP_TEST_TIERS").is_ok_and(|tiers| tiers.split(',').any(|tier| tier == wanted));
    if !asked {
        println!("skipped: needs tier {wanted}");
        return None;
    }
    Some(Cluster::new())
}

/// A Kubernetes namespace that goes with the test.
pub struct Sandbox {
    /// Its name.
    pub name: String,
    kubectl: Kubectl,
}

impl Sandbox {
    /// Makes the namespace. A test's name is used once.
    pub fn new(cluster: &Cluster, test: &str) -> Self {
        let kubectl = cluster.kubectl();
        let name = format!("e2e-{test}");
        let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
        kubectl.run_with(&["create", "--filename", "-"], &manifest).expect("the namespace can be made");
        Self { name, kubectl }
    }

    /// Runs kubectl in the namespace; it must succeed.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&self.with_namespace(arguments)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs kubectl with an input; it must succeed.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        self.kubectl
            .run_with(&self.with_namespace(arguments), input)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs kubectl with an input; it must fail. What it said.
    pub fn fails_with(&self, arguments: &[&str], input: &str) -> String {
        match self.kubectl.run_with(&self.with_namespace(arguments), input) {
            Ok(output) => panic!("kubectl {arguments:?} succeeded: {output}"),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Runs kubectl; it must fail. What it said.
    pub fn fails(&self, arguments: &[&str]) -> String {
        self.kubectl.fails(&self.with_namespace(arguments)).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// A command in the namespace that the test runs itself.
    pub fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.kubectl.command();
        command.args(self.with_namespace(arguments));
        command
    }

    /// One object, or a list, as JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "--output", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all)).expect("kubectl prints JSON")
    }

    /// Makes an empty ConfigMap.
    pub fn config_map(&self, name: &str) {
        let manifest = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
        self.run_with(&["create", "--filename", "-"], &manifest);
    }

    /// A Deployment of echo servers, complete.
    pub fn echo(&self, name: &str, replicas: u32) {
        self.run_with(&["apply", "--filename", "-"], &echo_manifest(name, replicas));
        self.run(&["rollout", "status", &format!("deployment/{name}"), "--timeout=90s"]);
    }

    /// Names of the pods with the label `app=NAME` that are not being deleted.
    pub fn pods(&self, app: &str) -> Vec<String> {
        let list = self.json(&["pods", "--selector", &format!("app={app}")]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let live = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        live.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    fn with_namespace<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--namespace", &self.name];
        all.extend(arguments);
        all
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for kinds in ["pods,services,endpointslices", "events"] {
                let list = self.kubectl.run(&["--namespace", &self.name, "get", kinds, "--output", "wide"]);
                println!("{}", list.unwrap_or_else(|error| format!("{error:#}")));
            }
        }
        let deletion = self.kubectl.run(&["delete", "namespace", &self.name, "--timeout=60s"]);
        if let (Err(error), false) = (deletion, std::thread::panicking()) {
            panic!("the namespace {} does not go away: {error:#}", self.name);
        }
    }
}

/// A Deployment of echo servers.
pub fn echo_manifest(name: &str, replicas: u32) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels: {{app: {name}}}
spec:
  replicas: {replicas}
  selector:
    matchLabels: {{app: {name}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: echo
        image: {ECHO_IMAGE}
        imagePullPolicy: IfNotPresent
        ports:
        - name: http
          containerPort: 8080
        readinessProbe:
          httpGet: {{path: /healthz, port: http}}
          periodSeconds: 1
"#
    )
}

/// A pod that runs a shell command.
pub fn shell_manifest(name: &str, restart_policy: &str, script: &str) -> String {
    let script = serde_json::to_string(script).expect("text is JSON");
    format!(
        r#"apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  restartPolicy: {restart_policy}
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {ECHO_IMAGE}
    imagePullPolicy: IfNotPresent
    command: ["/bin/sh", "-c", {script}]
"#
    )
}

/// Looks every 100 ms until `condition` gives something, for at most `seconds`.
pub fn eventually<T>(seconds: u64, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
