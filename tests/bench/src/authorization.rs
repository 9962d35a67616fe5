//! Decisions of the gate: roles with 10,000 bindings, against going through all of them as upstream's authorizer does, and
//! the secrets of a node with 10,000 pods in the cluster.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skep_server::authz::Authz;
use skep_server::gate::{Authorizer, ObjectReader};
use skep_server::request::RequestInfo;
use skep_server::user::UserInfo;

use crate::{Context, Figure};

const BINDINGS: usize = 10_000;
const PODS: usize = 10_000;
const NODES: usize = 100;
const RBAC: &str = "rbac.authorization.k8s.io";
/// How long each way is measured, after a tenth of that to warm up.
const MEASURE: Duration = Duration::from_millis(500);

/// Objects that do not change.
#[derive(Default)]
struct Objects(HashMap<(String, String), Vec<Arc<Value>>>);

impl Objects {
    fn put(&mut self, group: &str, resource: &str, object: Value) {
        self.0.entry((group.to_owned(), resource.to_owned())).or_default().push(Arc::new(object));
    }
}

impl ObjectReader for Objects {
    fn generation(&self, _: &str, _: &str) -> u64 {
        1
    }

    fn get(&self, _: &str, _: &str, _: &str, _: &str) -> Option<Arc<Value>> {
        None
    }

    fn list(&self, group: &str, resource: &str, _: &str) -> Vec<Arc<Value>> {
        self.0.get(&(group.to_owned(), resource.to_owned())).cloned().unwrap_or_default()
    }
}

/// Runs the benchmarks of authorization.
///
/// # Errors
/// A decision is not the one that it must be.
pub fn run(_: &Context) -> anyhow::Result<Vec<Figure>> {
    let objects = objects();
    let bindings = objects.list(RBAC, "clusterrolebindings", "");
    let authz = Authz::new(Arc::new(objects));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let decide = |user: &UserInfo, request: &RequestInfo| {
        runtime.block_on(authz.authorize(black_box(user), black_box(request))).is_allowed()
    };
    let user = UserInfo::new(format!("user-{}", BINDINGS - 1), &["team", "other-team"]);
    let (may, may_not) = (request("list", "pods", "shop", ""), request("delete", "nodes", "", "n1"));
    anyhow::ensure!(decide(&user, &may) && !decide(&user, &may_not), "roles are not followed");
    let node = UserInfo::new("system:node:n7", &["system:nodes"]);
    let own = request("get", "secrets", "ns-7", "secret-7");
    let foreign = request("get", "secrets", "ns-8", "secret-8");
    anyhow::ensure!(decide(&node, &own) && !decide(&node, &foreign), "the graph is not followed");
    // All of them: what everybody may comes first, and does not answer this question.
    let scan = measure(|| black_box(bindings.iter().filter(|binding| applies(binding, &user)).count()) > 0);
    let against_scan = |name: &str, value: f64| Figure {
        name: format!("authorization/{BINDINGS}-bindings/{name}"),
        value,
        unit: "ns",
        baseline: Some(("going through all bindings".into(), scan)),
    };
    let plain = |name: &str, value: f64| Figure {
        name: format!("authorization/{PODS}-pods/{name}"),
        value,
        unit: "ns",
        baseline: None,
    };
    Ok(vec![
        against_scan("allowed", measure(|| decide(&user, &may))),
        against_scan("refused", measure(|| decide(&user, &may_not))),
        plain("node-own-secret", measure(|| decide(&node, &own))),
        plain("node-foreign-secret", measure(|| decide(&node, &foreign))),
    ])
}

/// Nanoseconds of one call.
fn measure(mut call: impl FnMut() -> bool) -> f64 {
    let mut round = |length: Duration| {
        let (began, mut calls) = (Instant::now(), 0_u32);
        while began.elapsed() < length {
            (0..16).for_each(|_| {
                black_box(call());
            });
            calls += 16;
        }
        began.elapsed().as_nanos() as f64 / f64::from(calls)
    };
    round(MEASURE / 10);
    round(MEASURE)
}

fn request(verb: &str, resource: &str, namespace: &str, name: &str) -> RequestInfo {
    RequestInfo {
        is_resource: true,
        verb: verb.into(),
        version: "v1".into(),
        resource: resource.into(),
        namespace: namespace.into(),
        name: name.into(),
        ..RequestInfo::default()
    }
}

/// What a linear authorizer does with each binding before it looks at any rule.
fn applies(binding: &Value, user: &UserInfo) -> bool {
    binding["subjects"].as_array().into_iter().flatten().any(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["kind"].as_str() {
            Some("User") => name == user.name,
            Some("Group") => user.groups.iter().any(|group| group == name),
            _ => false,
        }
    })
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    for entry in skep_server::authz::bootstrap::bootstrap_objects() {
        objects.put(entry.group, entry.resource, entry.object);
    }
    for at in 0..BINDINGS {
        objects.put(
            RBAC,
            "clusterrolebindings",
            json!({"metadata": {"name": format!("binding-{at}")}, "roleRef": {"kind": "ClusterRole", "name": "view"},
                   "subjects": [{"kind": "User", "name": format!("user-{at}")}]}),
        );
    }
    for at in 0..PODS {
        let volumes = json!([{"name": "v", "secret": {"secretName": format!("secret-{at}")}}]);
        objects.put(
            "",
            "pods",
            json!({"metadata": {"name": format!("pod-{at}"), "namespace": format!("ns-{at}")},
                   "spec": {"nodeName": format!("n{}", at % NODES), "serviceAccountName": "default", "volumes": volumes}}),
        );
    }
    objects
}
