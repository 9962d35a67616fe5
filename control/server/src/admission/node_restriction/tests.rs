//! What a node may write, and the words it is refused with.

use serde_json::{Value, json};
use skep_api::registry::registry;

use super::objects::SIGNERS;
use super::*;
use crate::admission::certificates::tests::request;
use crate::storage::{Ownership, Scope};
use crate::testing::Objects;
use crate::user::UserInfo;

fn objects() -> Objects {
    let objects = Objects::default();
    objects.put("", "nodes", json!({ "metadata": { "name": "n1", "uid": "node-1" } }));
    for (name, node) in [("mine", "n1"), ("other", "n2")] {
        objects.put(
            "",
            "pods",
            json!({
                "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
                "spec": { "nodeName": node, "serviceAccountName": "a", "volumes": [
                    { "projected": { "sources": [{ "serviceAccountToken": { "audience": "vault" } }] } },
                ] },
            }),
        );
    }
    objects
}

/// What is written where: the path is GROUP/PLURAL[/SUBRESOURCE].
struct Case<'a> {
    path: &'a str,
    operation: Operation,
    name: &'a str,
    old: Option<Value>,
    new: Option<Value>,
}

impl Case<'_> {
    fn with<T>(&self, look: impl FnOnce(&Write<'_>) -> T) -> T {
        let objects = objects();
        let mut parts = self.path.split('/');
        let (group, plural) = (parts.next().unwrap(), parts.next().unwrap());
        let resource = registry().resources().find(|one| one.group == group && one.plural == plural).unwrap();
        let user = UserInfo::new("system:node:n1", &["system:nodes"]);
        let namespace = if plural == "leases" { "kube-node-lease" } else { "default" };
        let scope = Scope {
            resource,
            kinds: registry(),
            namespace: if resource.namespaced { namespace } else { "" },
            subresource: parts.next().unwrap_or_default(),
            user: &user,
            dry_run: false,
            ownership: Ownership::Decided,
            asked: None,
            admitted: false,
        };
        let attributes = Attributes::new(self.operation, &scope, self.name, self.old.as_ref(), Value::Null);
        look(&Write { node: "n1", attributes: &attributes, new: self.new.as_ref(), reader: &objects })
    }
}

#[track_caller]
fn check(path: &str, name: &str, old: Option<Value>, new: Option<Value>, expected: &str) {
    let operation = match (&old, &new) {
        (_, None) => Operation::Delete,
        (None, _) => Operation::Create,
        _ => Operation::Update,
    };
    let case = Case { path, operation, name, old, new };
    let found = case.with(|write| match write.judge() {
        Ok(()) => String::new(),
        Err(Refusal::Forbidden(why)) => why,
        Err(Refusal::Missing(plural, name)) => format!("{plural} {name} missing"),
    });
    assert_eq!(found, expected, "{path} {name}");
}

fn mirror() -> Value {
    json!({
        "metadata": {
            "name": "m",
            "annotations": { MIRROR: "x" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-1", "controller": true }],
        },
        "spec": { "nodeName": "n1", "containers": [] },
    })
}

fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    *object.pointer_mut(pointer).unwrap() = value;
    object
}

#[test]
fn node_creates_only_mirror_pods_of_its_own() {
    let pod = |object: Value, expected: &str| check("/pods", "m", None, Some(object), expected);
    pod(mirror(), "");
    pod(
        changed(mirror(), "/metadata/annotations", json!({})),
        "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
    );
    pod(
        changed(mirror(), "/spec/nodeName", json!("n2")),
        "node \"n1\" can only create pods with spec.nodeName set to itself",
    );
    pod(
        changed(mirror(), "/metadata/ownerReferences", json!([])),
        "node \"n1\" can only create pods with an owner reference set to itself",
    );
    pod(
        changed(mirror(), "/metadata/ownerReferences/0/uid", json!("x")),
        "node n1 UID mismatch: expected x got node-1",
    );
    pod(
        changed(mirror(), "/metadata/ownerReferences/0/controller", json!(false)),
        "node \"n1\" can only create pods with a controller owner reference set to itself",
    );
    for (spec, kind) in [
        (json!({ "nodeName": "n1", "serviceAccountName": "a" }), "serviceaccounts"),
        (json!({ "nodeName": "n1", "volumes": [{ "secret": { "secretName": "s" } }] }), "secrets"),
        (
            json!({ "nodeName": "n1", "containers": [{ "envFrom": [{ "configMapRef": { "name": "c" } }] }] }),
            "configmaps",
        ),
        (
            json!({ "nodeName": "n1", "volumes": [{ "persistentVolumeClaim": { "claimName": "c" } }] }),
            "persistentvolumeclaims",
        ),
        (json!({ "nodeName": "n1", "resourceClaims": [{ "name": "r" }] }), "resourceclaims"),
    ] {
        let why = format!("node \"n1\" can not create pods that reference {kind}");
        pod(changed(mirror(), "/spec", spec), &why);
    }
}

#[test]
fn node_writes_the_status_of_its_own_pods_and_nothing_else_of_pods() {
    let pod =
        |node: &str, labels: Value| json!({ "metadata": { "labels": labels }, "spec": { "nodeName": node } });
    let (mine, other) = (pod("n1", json!({ "a": "b" })), pod("n2", json!({})));
    let status = |old: &Value, new: &Value, expected: &str| {
        check("/pods/status", "p", Some(old.clone()), Some(new.clone()), expected);
    };
    status(&mine, &mine, "");
    status(
        &other,
        &other,
        "node \"n1\" can only update pod status for pods with spec.nodeName set to itself",
    );
    status(&mine, &pod("n1", json!({})), "node \"n1\" cannot update labels through pod status");
    check(
        "/pods",
        "p",
        Some(other),
        None,
        "node \"n1\" can only delete pods with spec.nodeName set to itself",
    );
    check("/pods", "p", Some(mine.clone()), None, "");
    check(
        "/pods",
        "p",
        Some(mine.clone()),
        Some(mine.clone()),
        "unexpected operation \"UPDATE\", node \"n1\" can only create and delete mirror pods",
    );
    check("/pods/eviction", "mine", None, Some(json!({})), "");
    check(
        "/pods/eviction",
        "other",
        None,
        Some(json!({})),
        "node n1 can only evict pods with spec.nodeName set to itself",
    );
    check("/pods/eviction", "none", None, Some(json!({})), "pods none missing");
    check(
        "/pods/binding",
        "mine",
        None,
        Some(json!({})),
        "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
    );
}

#[test]
fn node_changes_itself_within_limits() {
    let node = |labels: Value, taints: Value| json!({ "metadata": { "labels": labels }, "spec": { "taints": taints } });
    let plain = node(json!({}), json!([]));
    let taint = json!([{ "key": "a", "effect": "NoSchedule" }]);
    check("/nodes", "n1", None, Some(plain.clone()), "");
    check("/nodes", "n2", None, Some(plain.clone()), "node \"n1\" is not allowed to modify node \"n2\"");
    check("/nodes", "n1", None, Some(node(json!({}), taint.clone())), "");
    let role = node(json!({ "node-role.kubernetes.io/x": "", "k8s.io/y": "" }), json!([]));
    check(
        "/nodes",
        "n1",
        None,
        Some(role.clone()),
        "node \"n1\" is not allowed to set the following labels: k8s.io/y, node-role.kubernetes.io/x",
    );
    check(
        "/nodes/status",
        "n1",
        Some(plain.clone()),
        Some(role),
        "is not allowed to modify labels: k8s.io/y, node-role.kubernetes.io/x",
    );
    check(
        "/nodes",
        "n1",
        Some(plain.clone()),
        Some(node(json!({}), taint)),
        "node \"n1\" is not allowed to modify taints",
    );
    let mut owned = plain.clone();
    owned["metadata"]["ownerReferences"] = json!([{ "name": "x" }]);
    check("/nodes", "n1", Some(plain), Some(owned), "node \"n1\" is not allowed to modify ownerReferences");
}

#[test]
fn node_gets_tokens_of_pods_that_it_runs() {
    let request = |name: &str, uid: &str| json!({ "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid } } });
    let token = |new: Value, expected: &str| check("/serviceaccounts/token", "a", None, Some(new), expected);
    token(request("mine", "uid-mine"), "");
    token(json!({ "spec": {} }), "node requested token not bound to a pod");
    token(request("mine", ""), "node requested token with a pod binding without a uid");
    token(request("other", "uid-other"), "node requested token bound to a pod scheduled on a different node");
    token(request("none", "x"), "pods none missing");
    let mut two = request("mine", "uid-mine");
    two["spec"]["audiences"] = json!(["a", "b"]);
    token(two, "node may only request 0 or 1 audiences");
    let audience = |audiences: Value| {
        let mut new = request("mine", "uid-mine");
        new["spec"]["audiences"] = audiences;
        let case = Case {
            path: "/serviceaccounts/token",
            operation: Operation::Create,
            name: "a",
            old: None,
            new: Some(new),
        };
        case.with(|write| write.audience())
    };
    assert_eq!(audience(json!(["vault"])), None);
    assert_eq!(audience(json!(["elsewhere"])).as_deref(), Some("elsewhere"));
    assert_eq!(audience(json!([])).as_deref(), Some(""));
}

#[test]
fn node_writes_what_bears_its_name() {
    let object = |name: &str| json!({ "metadata": { "name": name } });
    let (lease, csi) = ("coordination.k8s.io/leases", "storage.k8s.io/csinodes");
    check(lease, "n1", None, Some(object("n1")), "");
    check(
        lease,
        "n2",
        None,
        Some(object("n2")),
        "can only access node lease with the same name as the requesting node",
    );
    check(csi, "n1", None, Some(object("n1")), "");
    check(
        csi,
        "n2",
        Some(object("n2")),
        None,
        "can only access CSINode with the same name as the requesting node",
    );
    let slice = |node: &str| json!({ "spec": { "nodeName": node } });
    check("resource.k8s.io/resourceslices", "s", None, Some(slice("n1")), "");
    check(
        "resource.k8s.io/resourceslices",
        "s",
        Some(slice("n2")),
        None,
        "can only delete ResourceSlice with the same NodeName as the requesting node",
    );
    let csr = |subject: &str| request(subject, "system:nodes", SIGNERS[1]);
    let requests = "certificates.k8s.io/certificatesigningrequests";
    check(requests, "c", None, Some(csr("system:node:n1")), "");
    check(
        requests,
        "c",
        None,
        Some(csr("system:node:n2")),
        "can only create a node CSR with CN=system:node:n1",
    );
}

#[test]
fn node_tells_the_size_of_a_volume_and_nothing_else_of_its_claim() {
    let claim = |capacity: &str, class: &str| {
        json!({
            "metadata": { "resourceVersion": capacity },
            "spec": { "storageClassName": class },
            "status": { "capacity": { "storage": capacity } },
        })
    };
    let part = "/persistentvolumeclaims/status";
    check(part, "c", Some(claim("1", "a")), Some(claim("2", "a")), "");
    check(
        part,
        "c",
        Some(claim("1", "a")),
        Some(claim("1", "b")),
        "node \"n1\" is not allowed to update fields other than status.quantity and status.conditions",
    );
    check("/persistentvolumeclaims", "c", None, Some(json!({})), "may only update PVC status");
}
