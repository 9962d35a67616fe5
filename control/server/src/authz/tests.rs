//! Tables of identity x request -> answer, with the bootstrap roles in force.

use std::sync::Arc;

use futures::executor::block_on;
use serde_json::{Value, json};

use super::Authz;
use super::bootstrap::bootstrap_objects;
use crate::gate::{Authorizer, Decision};
use crate::request::RequestInfo;
use crate::testing::Objects;
use crate::user::UserInfo;
use skep_api::status::Status;

const RBAC: &str = "rbac.authorization.k8s.io";

fn cluster() -> (Arc<Objects>, Authz) {
    let objects = Arc::new(Objects::default());
    for entry in bootstrap_objects() {
        objects.put(entry.group, entry.resource, entry.object);
    }
    let authz = Authz::new(Arc::clone(&objects) as _);
    (objects, authz)
}

/// `VERB GROUP/RESOURCE[/SUB] [NAMESPACE] [NAME]`, a dash for empty; or `VERB /path`.
fn request(line: &str) -> RequestInfo {
    let mut words = line.split_whitespace().map(|word| if word == "-" { "" } else { word });
    let verb = words.next().unwrap().to_owned();
    let what = words.next().unwrap();
    if what.starts_with('/') {
        return RequestInfo { verb, path: what.to_owned(), ..RequestInfo::default() };
    }
    let mut parts = what.split('/');
    let group = parts.next().unwrap();
    RequestInfo {
        is_resource: true,
        verb,
        group: if group == "core" { String::new() } else { group.to_owned() },
        version: "v1".into(),
        resource: parts.next().unwrap().into(),
        subresource: parts.next().unwrap_or_default().into(),
        namespace: words.next().unwrap_or_default().into(),
        name: words.next().unwrap_or_default().into(),
        ..RequestInfo::default()
    }
}

#[track_caller]
fn check(authz: &Authz, user: &UserInfo, line: &str, allowed: bool) {
    let decision = decide(authz, user, line);
    assert_eq!(decision.is_allowed(), allowed, "{}: {line}: {decision:?}", user.name);
}

fn decide(authz: &Authz, user: &UserInfo, line: &str) -> Decision {
    block_on(authz.authorize(user, &request(line)))
}

fn escalate(
    authz: &Authz,
    user: &UserInfo,
    request: &RequestInfo,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    block_on(authz.check_escalation(user, request, object, old))
}

fn bind(objects: &Objects, namespace: &str, name: &str, subject: Value, role: (&str, &str)) {
    let resource = if namespace.is_empty() { "clusterrolebindings" } else { "rolebindings" };
    objects.put(
        RBAC,
        resource,
        json!({"metadata": {"name": name, "namespace": namespace}, "subjects": [subject],
               "roleRef": {"kind": role.0, "name": role.1}}),
    );
}

#[test]
fn bootstrap_identities_get_what_upstream_gives() {
    let (_, authz) = cluster();
    let master = UserInfo::new("admin", &["system:masters"]);
    let scheduler = UserInfo::new("system:kube-scheduler", &[]);
    let deployments = UserInfo::service_account("kube-system", "deployment-controller");
    let someone = UserInfo::new("someone", &[]);
    let anonymous = UserInfo::anonymous();
    let table = [
        (&master, "delete core/nodes - n1", true),
        (&master, "post /anything", true),
        (&scheduler, "create core/pods/binding default web", true),
        (&scheduler, "list core/pods", true),
        (&scheduler, "get core/secrets default s", false),
        (&scheduler, "delete core/nodes - n1", false),
        (&deployments, "update apps/deployments/status default web", true),
        (&deployments, "create apps/replicasets default", true),
        (&deployments, "delete core/services default web", false),
        (&someone, "create authorization.k8s.io/selfsubjectaccessreviews", true),
        (&someone, "create authorization.k8s.io/subjectaccessreviews", false),
        (&someone, "get core/pods default web", false),
        (&someone, "get /apis/apps/v1", true),
        (&someone, "get /metrics", false),
        (&someone, "get /version", true),
        (&anonymous, "get /version", true),
        (&anonymous, "get /livez", true),
        (&anonymous, "get /apis", false),
        (&anonymous, "list core/pods", false),
    ];
    for (user, line, allowed) in table {
        check(&authz, user, line, allowed);
    }
}

#[test]
fn namespaced_binding_counts_in_its_namespace_only() {
    let (objects, authz) = cluster();
    let user = UserInfo::new("jane", &["team"]);
    let group = json!({"kind": "Group", "name": "team"});
    bind(&objects, "shop", "team-edits", group, ("ClusterRole", "edit"));
    check(&authz, &user, "create core/pods shop", true);
    check(&authz, &user, "create core/pods/exec shop web", true);
    check(&authz, &user, "create core/pods other", false);
    check(&authz, &user, "list core/pods", false);
    check(&authz, &user, "create rbac.authorization.k8s.io/rolebindings shop", false);
    objects.remove(RBAC, "rolebindings", "shop", "team-edits");
    check(&authz, &user, "create core/pods shop", false);
}

#[test]
fn rule_names_subresources_and_wildcards_match_as_upstream() {
    let (objects, authz) = cluster();
    let rules = json!([
        {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["settings"]},
        {"verbs": ["patch"], "apiGroups": ["*"], "resources": ["*/scale"]},
        {"verbs": ["*"], "apiGroups": ["batch"], "resources": ["*"]},
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]},
    ]);
    objects.put(RBAC, "roles", json!({"metadata": {"name": "odd", "namespace": "shop"}, "rules": rules}));
    let subject = json!({"kind": "ServiceAccount", "name": "bot"});
    bind(&objects, "shop", "odd", subject, ("Role", "odd"));
    let user = UserInfo::service_account("shop", "bot");
    let table = [
        ("get core/configmaps shop settings", true),
        ("get core/configmaps shop other", false),
        ("list core/configmaps shop", false),
        ("patch apps/deployments/scale shop web", true),
        ("patch apps/deployments shop web", false),
        ("delete batch/jobs shop x", true),
        ("update batch/jobs/status shop x", true),
        ("get core/pods/log shop web", true),
        ("get core/pods shop web", false),
        ("get core/pods/log other web", false),
    ];
    for (line, allowed) in table {
        check(&authz, &user, line, allowed);
    }
}

#[test]
fn binding_to_role_of_other_namespace_grants_nothing() {
    let (objects, authz) = cluster();
    let rules = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    objects.put(RBAC, "roles", json!({"metadata": {"name": "all", "namespace": "other"}, "rules": rules}));
    bind(&objects, "shop", "all", json!({"kind": "User", "name": "jane"}), ("Role", "all"));
    check(&authz, &UserInfo::new("jane", &[]), "get core/pods shop web", false);
}

#[test]
fn changed_role_and_binding_count_at_once() {
    let (objects, authz) = cluster();
    let user = UserInfo::new("jane", &[]);
    let role = |verbs: Value| json!({"metadata": {"name": "r"}, "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]});
    objects.put(RBAC, "clusterroles", role(json!(["get"])));
    bind(&objects, "", "b", json!({"kind": "User", "name": "jane"}), ("ClusterRole", "r"));
    check(&authz, &user, "get core/pods shop web", true);
    objects.put(RBAC, "clusterroles", role(json!(["list"])));
    check(&authz, &user, "get core/pods shop web", false);
    check(&authz, &user, "list core/pods", true);
    bind(&objects, "", "b", json!({"kind": "User", "name": "joe"}), ("ClusterRole", "r"));
    check(&authz, &user, "list core/pods", false);
}

#[test]
fn escalation_is_refused_and_equal_rights_may_be_given() {
    let (objects, authz) = cluster();
    bind(&objects, "shop", "admin", json!({"kind": "User", "name": "jane"}), ("ClusterRole", "admin"));
    let jane = UserInfo::new("jane", &[]);
    let create = request("create rbac.authorization.k8s.io/rolebindings shop");
    let binding =
        |role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}});
    assert!(escalate(&authz, &jane, &create, &binding("edit"), None).is_ok());
    assert_eq!(escalate(&authz, &jane, &create, &binding("cluster-admin"), None).unwrap_err().code, 403);
    let create = request("create rbac.authorization.k8s.io/roles shop");
    let role = |rule: Value| json!({"metadata": {"name": "r"}, "rules": [rule]});
    let pods = role(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"]}));
    assert!(escalate(&authz, &jane, &create, &pods, None).is_ok());
    for wider in [
        json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}),
        json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}),
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}),
        json!({"verbs": ["update"], "apiGroups": [""], "resources": ["nodes"]}),
        json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}),
    ] {
        let denied = escalate(&authz, &jane, &create, &role(wider.clone()), None);
        assert_eq!(denied.unwrap_err().code, 403, "{wider}");
    }
    let refused = escalate(
        &authz,
        &jane,
        &create,
        &role(json!({"verbs": ["get", "list"], "apiGroups": ["apps"], "resources": ["x", "y/z"]})),
        None,
    );
    assert_eq!(
        refused.unwrap_err().message,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"apps\"], Resources:[\"x\"], Verbs:[\"get\" \"list\"]}\n\
         {APIGroups:[\"apps\"], Resources:[\"y/z\"], Verbs:[\"get\" \"list\"]}"
    );
    let master = UserInfo::new("root", &["system:masters"]);
    let everything = role(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
    assert!(escalate(&authz, &master, &create, &everything, None).is_ok());
}

#[test]
fn role_that_is_not_held_cannot_be_touched_even_where_its_rules_stay() {
    let (objects, authz) = cluster();
    let rules = json!([{"verbs": ["update"], "apiGroups": [RBAC], "resources": ["clusterroles"]}]);
    objects.put(RBAC, "clusterroles", json!({"metadata": {"name": "editor"}, "rules": rules}));
    bind(&objects, "", "editor", json!({"kind": "User", "name": "jane"}), ("ClusterRole", "editor"));
    let jane = UserInfo::new("jane", &[]);
    let update = request("update rbac.authorization.k8s.io/clusterroles - big");
    let old = json!({"metadata": {"name": "big"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    let mut labelled = old.clone();
    // Who could label it could let every reader have it.
    labelled["metadata"]["labels"] = json!({"rbac.authorization.k8s.io/aggregate-to-view": "true"});
    assert_eq!(escalate(&authz, &jane, &update, &labelled, Some(&old)).unwrap_err().code, 403);
    let mut collected = old.clone();
    collected["metadata"]["finalizers"] = json!([]);
    assert!(escalate(&authz, &jane, &update, &collected, Some(&old)).is_ok());
    let gathering = json!({"metadata": {"name": "big"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let refused = escalate(&authz, &jane, &update, &gathering, None).unwrap_err();
    assert!(refused.message.ends_with("must have cluster-admin privileges to use the aggregationRule"));
}

#[test]
fn verbs_escalate_and_bind_stand_above_holding() {
    let (objects, authz) = cluster();
    let rules = json!([{"verbs": ["escalate"], "apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["named"]},
                       {"verbs": ["bind"], "apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": ["view"]}]);
    objects.put(RBAC, "clusterroles", json!({"metadata": {"name": "special"}, "rules": rules}));
    bind(&objects, "", "special", json!({"kind": "User", "name": "jane"}), ("ClusterRole", "special"));
    let jane = UserInfo::new("jane", &[]);
    let role = json!({"metadata": {"name": "named"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    let update = request("update rbac.authorization.k8s.io/clusterroles - named");
    assert!(escalate(&authz, &jane, &update, &role, None).is_ok());
    // A create has no name in its path.
    let create = request("create rbac.authorization.k8s.io/clusterroles");
    assert_eq!(escalate(&authz, &jane, &create, &role, None).unwrap_err().code, 403);
    let binding =
        |role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}});
    let create = request("create rbac.authorization.k8s.io/clusterrolebindings");
    assert!(escalate(&authz, &jane, &create, &binding("view"), None).is_ok());
    assert_eq!(escalate(&authz, &jane, &create, &binding("edit"), None).unwrap_err().code, 403);
    let missing = escalate(&authz, &jane, &create, &binding("nowhere"), None).unwrap_err();
    assert_eq!((missing.code, missing.reason), (404, "NotFound"));
}

#[test]
fn decision_tells_what_led_to_it() {
    let (objects, authz) = cluster();
    let scheduler = UserInfo::new("system:kube-scheduler", &[]);
    assert_eq!(
        decide(&authz, &scheduler, "list core/pods").reason,
        "RBAC: allowed by ClusterRoleBinding \"system:kube-scheduler\" of ClusterRole \"system:kube-scheduler\" to User \
         \"system:kube-scheduler\""
    );
    bind(&objects, "shop", "b", json!({"kind": "ServiceAccount", "name": "bot"}), ("ClusterRole", "view"));
    let bot = UserInfo::service_account("shop", "bot");
    assert_eq!(
        decide(&authz, &bot, "list core/pods shop").reason,
        "RBAC: allowed by RoleBinding \"b/shop\" of ClusterRole \"view\" to ServiceAccount \"bot/shop\""
    );
    bind(&objects, "", "dangling", json!({"kind": "User", "name": "jane"}), ("ClusterRole", "nowhere"));
    let refused = decide(&authz, &UserInfo::new("jane", &[]), "list core/pods");
    assert_eq!(refused.reason, "RBAC: clusterrole.rbac.authorization.k8s.io \"nowhere\" not found");
}

fn node_user(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

fn cluster_with_pods() -> (Arc<Objects>, Authz) {
    let (objects, authz) = cluster();
    let container = json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "a"}}}],
                           "envFrom": [{"secretRef": {"name": "env-secret"}}]});
    let volumes = json!([{"name": "v", "secret": {"secretName": "tls"}},
                         {"name": "p", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
                         {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]);
    let claims =
        json!([{"name": "a", "resourceClaimName": "gpu"}, {"name": "b", "resourceClaimTemplateName": "t"}]);
    let made = json!([{"name": "b", "resourceClaimName": "made-for-web"}]);
    let volume = |name: &str, claim: &str, mount: &str| {
        let secret = |name: &str| json!({"name": name, "namespace": "shop"});
        json!({"metadata": {"name": name}, "spec": {"claimRef": {"namespace": "shop", "name": claim},
               "csi": {"nodePublishSecretRef": secret(mount), "nodeStageSecretRef": secret("stage"),
                       "controllerPublishSecretRef": secret("controller")}}})
    };
    objects.put("", "persistentvolumes", volume("vol", "data", "mount"));
    objects.put("", "persistentvolumes", volume("db-vol", "db-data", "db-mount"));
    for node in ["n1", "n2"] {
        let attachment = json!({"metadata": {"name": format!("at-{node}")}, "spec": {"nodeName": node}});
        objects.put("storage.k8s.io", "volumeattachments", attachment);
        let slice = json!({"metadata": {"name": format!("slice-{node}")}, "spec": {"nodeName": node}});
        objects.put("resource.k8s.io", "resourceslices", slice);
    }
    objects.put(
        "",
        "pods",
        json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"nodeName": "n1", "serviceAccountName": "web", "containers": [container], "volumes": volumes,
                 "imagePullSecrets": [{"name": "pull"}], "resourceClaims": claims},
        "status": {"resourceClaimStatuses": made}}),
    );
    objects.put(
        "",
        "pods",
        json!({"metadata": {"name": "db", "namespace": "shop"},
        "spec": {"nodeName": "n2", "serviceAccountName": "db", "volumes": [{"secret": {"secretName": "db"}},
            {"persistentVolumeClaim": {"claimName": "db-data"}}]}}),
    );
    (objects, authz)
}

#[test]
fn node_reaches_its_own_and_nothing_else() {
    let (_, authz) = cluster_with_pods();
    let n1 = node_user("n1");
    let table = [
        ("get core/secrets shop tls", true),
        ("get core/secrets shop env-secret", true),
        ("get core/secrets shop pull", true),
        ("watch core/secrets shop tls", true),
        ("get core/secrets shop db", false),
        ("list core/secrets shop", false),
        ("list core/secrets", false),
        ("update core/secrets shop tls", false),
        ("get core/configmaps shop env", true),
        ("get core/configmaps shop kube-root-ca.crt", true),
        ("get core/configmaps shop tls", false),
        ("create core/serviceaccounts/token shop web", true),
        ("create core/serviceaccounts/token shop db", false),
        ("get core/serviceaccounts shop web", true),
        ("get core/serviceaccounts shop db", false),
        ("list core/serviceaccounts shop", false),
        // By the role of the service proxy, which every node is.
        ("get core/nodes - n2", true),
        // Whose Node or pod it is, admission looks at (NodeRestriction).
        ("update core/nodes - n2", true),
        ("patch core/nodes/status - n1", true),
        ("delete core/nodes - n1", false),
        ("get core/nodes/proxy - n2", false),
        ("get core/pods shop web", true),
        ("get core/pods shop db", false),
        ("list core/pods", false),
        ("list core/pods shop", false),
        ("watch core/pods shop web", true),
        ("watch core/pods shop db", false),
        ("patch core/pods/status shop web", true),
        ("create core/pods/exec shop web", false),
        ("create core/pods/binding shop web", false),
        ("update core/pods shop web", false),
        ("get core/persistentvolumeclaims shop data", true),
        ("get core/persistentvolumeclaims shop db-data", false),
        ("list core/persistentvolumeclaims shop", false),
        ("patch core/persistentvolumeclaims/status shop data", true),
        ("patch core/persistentvolumeclaims shop data", false),
        ("get core/persistentvolumes - vol", true),
        ("get core/persistentvolumes - db-vol", false),
        ("get core/secrets shop mount", true),
        ("get core/secrets shop stage", true),
        ("get core/secrets shop controller", false),
        ("get core/secrets shop db-mount", false),
        ("get storage.k8s.io/volumeattachments - at-n1", true),
        ("get storage.k8s.io/volumeattachments - at-n2", false),
        ("get resource.k8s.io/resourceclaims shop gpu", true),
        ("get resource.k8s.io/resourceclaims shop made-for-web", true),
        ("get resource.k8s.io/resourceclaims shop other", false),
        ("get resource.k8s.io/resourceslices - slice-n1", true),
        ("delete resource.k8s.io/resourceslices - slice-n2", false),
        ("list resource.k8s.io/resourceslices", false),
        ("create resource.k8s.io/resourceslices", true),
        ("update storage.k8s.io/csinodes - n1", true),
        ("update storage.k8s.io/csinodes - n2", false),
        ("list storage.k8s.io/csinodes", false),
        ("list node.k8s.io/runtimeclasses", true),
        ("create certificates.k8s.io/certificatesigningrequests", true),
        ("create certificates.k8s.io/certificatesigningrequests/approval", false),
        ("update coordination.k8s.io/leases kube-node-lease n1", true),
        ("update coordination.k8s.io/leases kube-node-lease n2", false),
        ("update coordination.k8s.io/leases kube-system n1", false),
        ("list coordination.k8s.io/leases kube-node-lease", false),
        ("list core/services", true),
        ("list discovery.k8s.io/endpointslices", true),
        ("create core/services shop", false),
        ("create core/events shop", true),
        ("create rbac.authorization.k8s.io/clusterrolebindings", false),
        ("deletecollection core/pods shop", false),
    ];
    for (line, allowed) in table {
        check(&authz, &n1, line, allowed);
    }
    let refused = decide(&authz, &n1, "get core/secrets shop db");
    assert_eq!(refused.reason, "no relationship found between node 'n1' and this object");
}

#[test]
fn node_lists_with_a_selector_for_itself_pass() {
    let (_, authz) = cluster_with_pods();
    let n1 = node_user("n1");
    for (selector, allowed) in [
        ("spec.nodeName=n1", true),
        ("spec.nodeName==n1,status.phase=Running", true),
        ("spec.nodeName=n2", false),
        ("spec.nodeName!=n1", false),
        ("metadata.name=n1", false),
        ("spec.nodeName=n1,x", false),
    ] {
        for line in ["list core/pods", "watch core/pods shop", "list resource.k8s.io/resourceslices"] {
            let field_selector = super::selectors::of_fields(selector);
            let ask = RequestInfo { field_selector, ..request(line) };
            let decision = block_on(authz.authorize(&n1, &ask));
            assert_eq!(decision.is_allowed(), allowed, "{line} {selector}: {decision:?}");
        }
    }
}

#[test]
fn node_loses_what_no_pod_of_its_needs_any_more() {
    let (objects, authz) = cluster_with_pods();
    let n1 = node_user("n1");
    check(&authz, &n1, "get core/secrets shop tls", true);
    check(&authz, &n1, "get core/secrets shop mount", true);
    let mut pod = json!({"metadata": {"name": "second", "namespace": "shop"},
                         "spec": {"nodeName": "n1", "volumes": [{"secret": {"secretName": "tls"}}]}});
    objects.put("", "pods", pod.clone());
    objects.remove("", "pods", "shop", "web");
    check(&authz, &n1, "get core/secrets shop tls", true);
    check(&authz, &n1, "get core/secrets shop mount", false);
    check(&authz, &n1, "get core/persistentvolumes - vol", false);
    pod["spec"]["nodeName"] = json!("n2");
    objects.put("", "pods", pod);
    check(&authz, &n1, "get core/secrets shop tls", false);
    check(&authz, &node_user("n2"), "get core/secrets shop tls", true);
    objects.put("", "persistentvolumes", json!({"metadata": {"name": "db-vol"}, "spec": {}}));
    check(&authz, &node_user("n2"), "get core/secrets shop db-mount", false);
}

#[test]
fn mirror_pod_leads_its_node_to_nothing() {
    let (objects, authz) = cluster();
    objects.put(
        "",
        "pods",
        json!({"metadata": {"name": "m", "namespace": "shop",
        "annotations": {"kubernetes.io/config.mirror": "x"}},
        "spec": {"nodeName": "n1", "volumes": [{"secret": {"secretName": "s"}}]}}),
    );
    check(&authz, &node_user("n1"), "get core/secrets shop s", false);
    check(&authz, &node_user("n1"), "get core/pods shop m", true);
}

#[test]
fn node_name_without_the_group_is_no_node() {
    let (_, authz) = cluster_with_pods();
    let user = UserInfo::new("system:node:n1", &[]);
    check(&authz, &user, "get core/secrets shop tls", false);
    check(&authz, &user, "patch core/nodes/status - n1", false);
}

#[test]
fn bootstrap_objects_refer_to_roles_that_exist() {
    let all = bootstrap_objects();
    assert!(all.len() > 150);
    for binding in all.iter().filter(|entry| entry.resource.ends_with("bindings")) {
        let role = &binding.object["roleRef"];
        let resource = if role["kind"] == "ClusterRole" { "clusterroles" } else { "roles" };
        let found = all.iter().any(|entry| entry.resource == resource && role["name"] == entry.name);
        assert!(found, "{} -> {role}", binding.name);
        assert_eq!(binding.object["apiVersion"], "rbac.authorization.k8s.io/v1");
    }
}
