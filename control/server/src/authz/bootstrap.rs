//! The objects that a fresh API server creates: upstream's roles, bindings, priority classes, flow schemas and priority
//! levels, and one binding of Skep's own.
//!
//! The data was read from a running upstream server. Does not own putting them into the store.

use serde_json::{Value, json};

const UPSTREAM: &str = include_str!("../../data/bootstrap-objects.json");

/// One object to create where it is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct BootstrapObject {
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    /// Namespace, empty for cluster scope.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The whole object, without what the server sets.
    pub object: Value,
}

/// All bootstrap objects, roles before the bindings that refer to them.
pub fn bootstrap_objects() -> Vec<BootstrapObject> {
    const RBAC: &str = super::rbac::GROUP;
    const FLOW: &str = "flowcontrol.apiserver.k8s.io";
    let kinds = [
        ("ClusterRole", RBAC, "clusterroles"),
        ("Role", RBAC, "roles"),
        ("ClusterRoleBinding", RBAC, "clusterrolebindings"),
        ("RoleBinding", RBAC, "rolebindings"),
        ("PriorityClass", "scheduling.k8s.io", "priorityclasses"),
        ("PriorityLevelConfiguration", FLOW, "prioritylevelconfigurations"),
        ("FlowSchema", FLOW, "flowschemas"),
    ];
    let mut data: Value = serde_json::from_str(UPSTREAM).expect("the data in the tree is JSON");
    data["ClusterRoleBinding"]
        .as_array_mut()
        .expect("the data has cluster role bindings")
        .push(node_services());
    let mut objects = Vec::new();
    for (kind, group, resource) in kinds {
        for item in data[kind].as_array().into_iter().flatten() {
            let mut object = item.clone();
            object["kind"] = json!(kind);
            object["apiVersion"] = json!(format!("{group}/v1"));
            let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            objects.push(BootstrapObject { group, version: "v1", resource, namespace, name, object });
        }
    }
    objects
}

/// Skep's node agent is also the service proxy, under the node's identity.
fn node_services() -> Value {
    json!({
        "metadata": {
            "name": "skep:node-proxier",
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "subjects": [{"kind": "Group", "apiGroup": super::rbac::GROUP, "name": crate::pki::NODES}],
        "roleRef": {"apiGroup": super::rbac::GROUP, "kind": "ClusterRole", "name": "system:node-proxier"},
    })
}
