//! Who may do what, through the API: tables of identities and requests, and attempts to climb.

mod bootstrap_policy;
mod claims;
mod climbing;
mod matrix;
mod nodes;
mod policy_parameters;
mod random;
mod remarks;
mod side_doors;
mod tokens;
mod upstream_table;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use skep_server::in_process;
use skep_server::user::UserInfo;
use tower::ServiceExt;

use crate::harness::{Answer, Cluster};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A request, before it is known who makes it.
#[derive(Clone, Debug)]
struct Ask {
    method: Method,
    path: String,
    kind: &'static str,
    body: Value,
    headers: Vec<(String, String)>,
}

impl Ask {
    /// `METHOD PATH`; a patch is a merge patch.
    fn new(line: &str, body: Value) -> Self {
        let (method, path) = line.split_once(' ').unwrap();
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        Self { method: method.parse().unwrap(), path: path.to_owned(), kind, body, headers: Vec::new() }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        let body = match &self.body {
            Value::Null => Bytes::new(),
            body => {
                request = request.header("content-type", self.kind);
                body.to_string().into()
            }
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body)).unwrap()
    }
}

/// The answer to a request of this user.
async fn ask(cluster: &Cluster, user: &UserInfo, ask: &Ask) -> Answer {
    let response = in_process::service(&cluster.server, user.clone()).oneshot(ask.request()).await.unwrap();
    read(response).await
}

/// The answer to a request that has only the credentials in its headers.
async fn ask_from_outside(cluster: &Cluster, ask: &Ask) -> Answer {
    read(cluster.server.service().oneshot(ask.request()).await.unwrap()).await
}

async fn read(response: http::Response<skep_server::body::Body>) -> Answer {
    let (parts, body) = response.into_parts();
    // A watch does not end; that it began is enough.
    let is_stream = parts.status.is_success()
        && parts.headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let bytes = if is_stream { Bytes::new() } else { body.collect().await.unwrap().to_bytes() };
    Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
}

fn node(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

async fn create(cluster: &Cluster, path: &str, kind: &str, object: Value) -> Value {
    cluster.post(path, kind, object).await.expect(201)
}

async fn namespace(cluster: &Cluster, name: &str) {
    create(cluster, "/api/v1/namespaces", "Namespace", json!({"metadata": {"name": name}})).await;
    let account = json!({"metadata": {"name": "default"}});
    create(cluster, &format!("/api/v1/namespaces/{name}/serviceaccounts"), "ServiceAccount", account).await;
}

/// Binds a ClusterRole to a user, in a namespace or (empty) everywhere.
async fn bind(cluster: &Cluster, namespace: &str, user: &str, role: &str) {
    let (path, kind) = match namespace {
        "" => (format!("{RBAC}/clusterrolebindings"), "ClusterRoleBinding"),
        namespace => (format!("{RBAC}/namespaces/{namespace}/rolebindings"), "RoleBinding"),
    };
    let binding = json!({
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    create(cluster, &path, kind, binding).await;
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "echo"}]},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][field] = value.clone();
    }
    pod
}
