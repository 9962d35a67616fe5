//! What objects take of a quota, and when a quota is exceeded, by upstream's tables and words.

use serde_json::{Value, json};

use super::*;
use crate::resources::{read, write};

const NOW: &str = "2027-01-15T08:00:00Z";

fn pod(requests: Value, limits: Value) -> Value {
    json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": requests, "limits": limits } }] } })
}

fn quota(hard: Value, used: Value) -> Quota {
    Quota { name: "q".into(), selectors: Vec::new(), hard: read(&hard), used: read(&used) }
}

fn judge(kind: (&str, &str), old: Option<&Value>, new: &Value, quotas: &[Quota]) -> Result<Value, String> {
    let evaluator = Evaluator::of(kind.0, kind.1);
    let request = Request { evaluator: &evaluator, kind, is_status: false, old, new, now: NOW };
    let after = check(&request, quotas, &[])?;
    Ok(after.iter().map(|used| used.as_ref().map_or(Value::Null, write)).collect())
}

#[test]
fn write_beyond_a_quota_is_refused_in_upstreams_words() {
    let full = quota(json!({ "cpu": "3", "pods": "5" }), json!({ "cpu": "2500m", "pods": "5" }));
    let refused = judge(("", "pods"), None, &pod(json!({ "cpu": "1" }), json!({})), &[full]).unwrap_err();
    assert_eq!(
        refused,
        "exceeded quota: q, requested: cpu=1,pods=1, used: cpu=2500m,pods=5, limited: cpu=3,pods=5"
    );
    let unknown = quota(json!({ "pods": "5" }), json!({}));
    let refused = judge(("", "pods"), None, &pod(json!({}), json!({})), &[unknown]).unwrap_err();
    assert_eq!(refused, "status unknown for quota: q, resources: pods");
    let negative = pod(json!({ "cpu": "-1" }), json!({}));
    let refused = judge(("", "pods"), None, &negative, &[]).unwrap_err();
    assert_eq!(refused, "quota usage is negative for resource(s): cpu,requests.cpu");
}

#[test]
fn containers_state_what_a_quota_of_compute_resources_limits() {
    let hard = json!({ "requests.cpu": "1", "limits.memory": "1Gi", "ephemeral-storage": "1Gi" });
    let one =
        quota(hard.clone(), json!({ "requests.cpu": "0", "limits.memory": "0", "ephemeral-storage": "0" }));
    let bare = pod(json!({}), json!({}));
    let refused = judge(("", "pods"), None, &bare, std::slice::from_ref(&one)).unwrap_err();
    assert_eq!(refused, "failed quota: q: must specify limits.memory for: c; requests.cpu for: c");
    let stated = pod(json!({ "cpu": "100m" }), json!({ "memory": "1Mi" }));
    let after = judge(("", "pods"), None, &stated, &[one]).unwrap();
    assert_eq!(after[0]["requests.cpu"], "100m");
    assert_eq!(after[0]["ephemeral-storage"], "0");
}

#[test]
fn objects_are_measured_as_upstream_measures_them() {
    let service = |spec: Value| json!({ "spec": spec });
    let two = json!([{ "port": 1 }, { "port": 2, "nodePort": 30000 }]);
    let claim = |class: Value| json!({ "spec": { "storageClassName": class, "resources": { "requests": { "storage": "1500m" } } } });
    let extended = pod(json!({ "example.com/x": "2", "hugepages-2Mi": "4Mi" }), json!({}));
    let cases = [
        (
            ("", "services"),
            service(json!({ "type": "ClusterIP", "ports": two })),
            json!({
                "count/services": "1", "services": "1", "services.nodeports": "0", "services.loadbalancers": "0",
            }),
        ),
        (
            ("", "services"),
            service(json!({ "type": "LoadBalancer", "ports": two })),
            json!({
                "count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1",
            }),
        ),
        (
            ("", "services"),
            service(json!({ "type": "LoadBalancer", "ports": two, "allocateLoadBalancerNodePorts": false })),
            json!({
                "count/services": "1", "services": "1", "services.nodeports": "1", "services.loadbalancers": "1",
            }),
        ),
        (
            ("", "persistentvolumeclaims"),
            claim(json!("gold")),
            json!({
                "count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "2",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
                "gold.storageclass.storage.k8s.io/requests.storage": "2",
            }),
        ),
        (
            ("", "pods"),
            extended,
            json!({
                "count/pods": "1", "pods": "1", "requests.example.com/x": "2", "hugepages-2Mi": "4Mi",
                "requests.hugepages-2Mi": "4Mi",
            }),
        ),
        (("", "secrets"), json!({}), json!({ "count/secrets": "1", "secrets": "1" })),
        (("apps", "deployments"), json!({}), json!({ "count/deployments.apps": "1" })),
    ];
    for ((group, plural), object, expected) in cases {
        assert_eq!(write(&Evaluator::of(group, plural).usage(&object, NOW)), expected, "{plural} {object}");
    }
}

#[test]
fn pod_that_is_over_counts_as_an_object_only() {
    let mut one = pod(json!({ "cpu": "1" }), json!({}));
    let counted = |pod: &Value| write(&Evaluator::Pods.usage(pod, NOW));
    one["status"]["phase"] = json!("Succeeded");
    assert_eq!(counted(&one), json!({ "count/pods": "1" }));
    one["status"]["phase"] = json!("Running");
    one["metadata"] =
        json!({ "deletionTimestamp": "2027-01-15T07:59:50Z", "deletionGracePeriodSeconds": 30 });
    assert_eq!(counted(&one)["pods"], "1");
    one["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:59:20Z");
    assert_eq!(counted(&one), json!({ "count/pods": "1" }));
}

#[test]
fn scopes_say_which_pods_a_quota_is_about() {
    let deadline = json!({ "spec": { "activeDeadlineSeconds": 5, "containers": [] } });
    let high = json!({ "spec": { "priorityClassName": "high", "containers": [] } });
    let plain = pod(json!({ "cpu": "1" }), json!({}));
    let across = json!({ "spec": { "affinity": { "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{ "namespaces": ["x"] }],
    } } } });
    let selector = |scope: &str, operator: &str, values: Value| json!({ "scopeName": scope, "operator": operator, "values": values });
    let cases = [
        (selector("Terminating", "Exists", json!([])), &deadline, &plain),
        (selector("NotTerminating", "Exists", json!([])), &plain, &deadline),
        (selector("BestEffort", "Exists", json!([])), &high, &plain),
        (selector("NotBestEffort", "Exists", json!([])), &plain, &high),
        (selector("PriorityClass", "Exists", json!([])), &high, &plain),
        (selector("PriorityClass", "In", json!(["high"])), &high, &plain),
        (selector("PriorityClass", "NotIn", json!(["high"])), &plain, &high),
        (selector("PriorityClass", "DoesNotExist", json!([])), &plain, &high),
        (selector("CrossNamespacePodAffinity", "Exists", json!([])), &across, &plain),
    ];
    for (requirement, inside, outside) in cases {
        let selector = Selector::read(&requirement);
        assert!(Evaluator::Pods.in_scope(&selector, inside), "{requirement}");
        assert!(!Evaluator::Pods.in_scope(&selector, outside), "{requirement}");
    }
}

#[test]
fn update_is_charged_for_what_it_adds() {
    let kind = ("", "services");
    let service = |kind: &str| json!({ "spec": { "type": kind, "ports": [{ "port": 1 }] } });
    let one = quota(
        json!({ "services": "1", "services.nodeports": "1" }),
        json!({ "services": "1", "services.nodeports": "0" }),
    );
    let (cluster, node) = (service("ClusterIP"), service("NodePort"));
    let after = judge(kind, Some(&cluster), &node, std::slice::from_ref(&one)).unwrap();
    assert_eq!(after[0], json!({ "services": "1", "services.nodeports": "1" }));
    let same = judge(kind, Some(&node), &node, std::slice::from_ref(&one)).unwrap();
    assert_eq!(same, json!([null]));
    let less = judge(kind, Some(&node), &cluster, &[one]).unwrap();
    assert_eq!(less, json!([null]), "what becomes free, the controller counts");
    let mut scoped = quota(json!({ "pods": "1" }), json!({ "pods": "0" }));
    scoped.selectors = Selector::of_spec(&json!({ "scopes": ["Terminating"] }));
    let before = pod(json!({}), json!({}));
    let mut moved = before.clone();
    moved["spec"]["activeDeadlineSeconds"] = json!(5);
    let after = judge(("", "pods"), Some(&before), &moved, &[scoped]).unwrap();
    assert_eq!(after[0], json!({ "pods": "1" }), "what moves into the scope counts in full");
}

#[test]
fn limited_resources_need_a_quota_that_covers_them() {
    let limited = [Limited::read(&json!({
        "apiGroup": "", "resource": "pods", "matchContains": ["requests.cpu"],
        "matchScopes": [{ "scopeName": "PriorityClass", "operator": "In", "values": ["cluster"] }],
    }))];
    let evaluator = Evaluator::Pods;
    let judge = |new: &Value, quotas: &[Quota]| {
        let request =
            Request { evaluator: &evaluator, kind: ("", "pods"), is_status: false, old: None, new, now: NOW };
        check(&request, quotas, &limited)
    };
    let one = pod(json!({ "cpu": "1" }), json!({}));
    assert_eq!(judge(&one, &[]).unwrap_err(), "insufficient quota to consume: requests.cpu");
    let covered = quota(json!({ "requests.cpu": "2" }), json!({ "requests.cpu": "0" }));
    assert!(judge(&one, std::slice::from_ref(&covered)).is_ok());
    let mut cluster = pod(json!({ "cpu": "1" }), json!({}));
    cluster["spec"]["priorityClassName"] = json!("cluster");
    assert_eq!(
        judge(&cluster, std::slice::from_ref(&covered)).unwrap_err(),
        "insufficient quota to match these scopes: [{PriorityClass In [cluster]}]"
    );
    let mut of_class = covered;
    of_class.selectors = Selector::of_spec(&json!({ "scopeSelector": { "matchExpressions": [
        { "scopeName": "PriorityClass", "operator": "In", "values": ["cluster"] },
    ] } }));
    assert!(judge(&cluster, &[of_class]).is_ok());
}

#[test]
fn names_of_a_quota_lead_to_the_kinds_that_it_counts() {
    let kinds = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        kinds_of(&names)
    };
    let of = |group: &str, plural: &str| (group.to_owned(), plural.to_owned());
    assert_eq!(kinds(&["cpu", "pods", "count/pods"]), [of("", "pods")]);
    assert_eq!(
        kinds(&["count/deployments.apps", "secrets", "gold.storageclass.storage.k8s.io/requests.storage"]),
        [of("apps", "deployments"), of("", "secrets"), of("", "persistentvolumeclaims")]
    );
    assert_eq!(kinds(&["requests.example.com/x", "nothing"]), [of("", "pods")]);
}

#[test]
fn objects_of_a_namespace_are_counted_together() {
    let hard: Vec<String> =
        ["cpu", "pods", "count/x.example.com", "services"].iter().map(|name| (*name).to_owned()).collect();
    let pods = [pod(json!({ "cpu": "100m" }), json!({})), pod(json!({ "cpu": "200m" }), json!({}))];
    let list = |group: &str, plural: &str| match (group, plural) {
        ("", "pods") => Some(pods.iter().cloned().map(Arc::new).collect()),
        ("", "services") => Some(Vec::new()),
        _ => None,
    };
    let used = measure(&hard, &[], list, NOW);
    assert_eq!(write(&used), json!({ "cpu": "300m", "pods": "2", "services": "0" }));
    let none = Selector::of_spec(&json!({ "scopes": ["Terminating"] }));
    let used = measure(&hard, &none, list, NOW);
    assert_eq!(write(&used), json!({ "cpu": "0", "pods": "0", "services": "0" }));
}
