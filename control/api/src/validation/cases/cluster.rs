//! What is left of the core group, and the groups that run a cluster.

use serde_json::{Value, json};

use super::{check, check_status, check_update, meta};

fn cluster_wide() -> Value {
    json!({ "name": "a" })
}

#[test]
fn configuration_that_breaks_rules_is_refused() {
    let data = |key: &str| json!({ "data": { key: "x" } });
    check(
        "configmaps",
        json!({ "metadata": meta() }),
        &[
            (data(".."), &["data[..]: Invalid value: \"..\": must not be '..'"]),
            (data("..a"), &["data[..a]: Invalid value: \"..a\": must not start with '..'"]),
            (
                json!({ "data": { "k": "x" }, "binaryData": { "k": "eA==" } }),
                &["data[k]: Invalid value: \"k\": duplicate of key present in binaryData"],
            ),
        ],
    );
    let typed = |kind: &str, data: Value| json!({ "type": kind, "data": data });
    check(
        "secrets",
        json!({ "metadata": meta() }),
        &[
            (typed("kubernetes.io/tls", json!({ "tls.crt": "eA==" })), &["data[tls.key]: Required value"]),
            (
                typed("kubernetes.io/basic-auth", json!({})),
                &["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                typed("kubernetes.io/dockerconfigjson", json!({ ".dockerconfigjson": "eA==" })),
                &[
                    "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character in JSON",
                ],
            ),
            (typed("kubernetes.io/ssh-auth", json!({})), &["data[ssh-privatekey]: Required value"]),
        ],
    );
    check_update(
        "secrets",
        json!({ "metadata": meta(), "type": "Opaque" }),
        &[(json!({ "type": "x" }), &["type: Invalid value: \"x\": field is immutable"])],
    );
}

#[test]
fn nodes_and_namespaces_that_break_rules_are_refused() {
    let taints = |taints: Value| json!({ "spec": { "taints": taints } });
    let node = json!({ "metadata": cluster_wide(), "spec": { "podCIDRs": ["10.0.0.0/24"], "podCIDR": "10.0.0.0/24" } });
    check(
        "nodes",
        node.clone(),
        &[
            (
                taints(json!([{ "key": "k", "effect": "X" }])),
                &["metadata.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \
                     \"PreferNoSchedule\", \"NoExecute\""],
            ),
            (
                taints(json!([{ "key": "k", "effect": "NoExecute" }, { "key": "k", "effect": "NoExecute" }])),
                &[
                    "metadata.taints[1]: Duplicate value: {\"Key\":\"k\",\"Value\":\"\",\"Effect\":\"NoExecute\",\
                   \"TimeAdded\":null}: taints must be unique by key \
                   and effect pair",
                ],
            ),
        ],
    );
    check_update(
        "nodes",
        node,
        &[(
            json!({ "spec": { "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"] } }),
            &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
        )],
    );
    check_status(
        "namespaces",
        json!({ "metadata": cluster_wide(), "status": { "phase": "Active" } }),
        &[(
            json!({ "phase": "Terminating" }),
            &[
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
            ],
        )],
    );
}

#[test]
fn limits_and_quotas_that_break_rules_are_refused() {
    let limit = |limit: Value| json!({ "spec": { "limits": [limit] } });
    check(
        "limitranges",
        json!({ "metadata": meta(), "spec": { "limits": [] } }),
        &[
            (
                limit(json!({ "type": "Pod", "default": { "cpu": "1" } })),
                &["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
            ),
            (
                limit(json!({ "type": "Container", "min": { "disk": "1" } })),
                &[
                    "spec.limits[0].min[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                    "spec.limits[0].min[disk]: Invalid value: \"disk\": must be a standard resource for containers",
                    "spec.limits[0].defaultRequest[disk]: Invalid value: \"disk\": must be a standard resource type or \
                     fully qualified",
                    "spec.limits[0].defaultRequest[disk]: Invalid value: \"disk\": must be a standard resource for \
                     containers",
                ],
            ),
            (
                limit(json!({ "type": "PersistentVolumeClaim" })),
                &[
                    "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was \
                   provided",
                ],
            ),
        ],
    );
    let hard = |hard: Value| json!({ "spec": { "hard": hard } });
    let quota = json!({ "metadata": meta(), "spec": { "hard": { "pods": "1" } } });
    check(
        "resourcequotas",
        quota.clone(),
        &[
            (
                hard(json!({ "disk": "1" })),
                &[
                    "spec.hard[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                ],
            ),
            (
                hard(json!({ "pods": "1500m" })),
                &["spec.hard[pods]: Invalid value: \"1500m\": must be an integer"],
            ),
            (
                json!({ "spec": { "scopes": ["BestEffort", "NotBestEffort"] } }),
                &["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
            ),
            (hard(json!({ "count/deployments.apps": "2", "requests.nvidia.com/gpu": "1" })), &[]),
        ],
    );
    check_update(
        "resourcequotas",
        quota,
        &[(
            json!({ "spec": { "scopes": ["BestEffort"] } }),
            &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
        )],
    );
}

#[test]
fn rights_that_break_rules_are_refused() {
    let rule = |rule: Value| json!({ "rules": [rule] });
    check(
        "rbac.authorization.k8s.io/roles",
        json!({ "metadata": meta(), "rules": [] }),
        &[
            (
                rule(json!({ "verbs": ["get"], "nonResourceURLs": ["/x"] })),
                &[
                    "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                ],
            ),
            (
                rule(json!({ "verbs": [], "resources": ["pods"] })),
                &[
                    "rules[0].verbs: Required value: verbs must contain at least one value",
                    "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                ],
            ),
        ],
    );
    check(
        "rbac.authorization.k8s.io/clusterroles",
        json!({ "metadata": cluster_wide() }),
        &[(
            json!({ "aggregationRule": {} }),
            &[
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
               aggregationRule is non-nil",
            ],
        )],
    );
    let group = "rbac.authorization.k8s.io";
    let binding = json!({ "metadata": cluster_wide(), "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "r" } });
    check(
        "rbac.authorization.k8s.io/clusterrolebindings",
        binding.clone(),
        &[
            (
                json!({ "roleRef": { "kind": "Role" } }),
                &["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""],
            ),
            (
                json!({ "subjects": [{ "kind": "ServiceAccount", "name": "s" }] }),
                &["subjects[0].namespace: Required value"],
            ),
            (
                json!({ "subjects": [{ "kind": "X", "name": "s" }] }),
                &[
                    "subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
                ],
            ),
        ],
    );
    check_update(
        "rbac.authorization.k8s.io/clusterrolebindings",
        binding,
        &[(
            json!({ "roleRef": { "name": "s" } }),
            &["roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\
            \"kind\":\"ClusterRole\",\"name\":\"s\"}: cannot change roleRef"],
        )],
    );
}

#[test]
fn small_kinds_that_break_rules_are_refused() {
    check(
        "coordination.k8s.io/leases",
        json!({ "metadata": meta(), "spec": {} }),
        &[
            (
                json!({ "spec": { "leaseDurationSeconds": 0 } }),
                &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
            ),
            (
                json!({ "spec": { "preferredHolder": "x" } }),
                &["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
            ),
        ],
    );
    let class = json!({ "metadata": cluster_wide(), "value": 5 });
    check(
        "scheduling.k8s.io/priorityclasses",
        class.clone(),
        &[
            (
                json!({ "value": 1_000_000_001 }),
                &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            (
                json!({ "metadata": { "name": "system-mine" } }),
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                   error: system-mine is not a known system priority class",
                ],
            ),
        ],
    );
    check_update(
        "scheduling.k8s.io/priorityclasses",
        class,
        &[(json!({ "value": 6 }), &["value: Forbidden: may not be changed in an update."])],
    );
    let runtime = json!({ "metadata": cluster_wide(), "handler": "runc" });
    check(
        "node.k8s.io/runtimeclasses",
        runtime.clone(),
        &[(
            json!({ "overhead": { "podFixed": { "disk": "1" } } }),
            &[
                "overhead.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified",
                "overhead.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
            ],
        )],
    );
    check_update(
        "node.k8s.io/runtimeclasses",
        runtime,
        &[(json!({ "handler": "x" }), &["handler: Invalid value: \"x\": field is immutable"])],
    );
    let event = json!({ "metadata": meta(), "regarding": { "namespace": "n" }, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c", "reportingInstance": "i", "action": "a", "reason": "r", "type": "Normal" });
    check(
        "events.k8s.io/events",
        event.clone(),
        &[
            (json!({ "eventTime": null }), &["eventTime: Required value"]),
            (json!({ "action": null }), &["action: Required value"]),
            (json!({ "type": "X" }), &["type: Invalid value: \"\": has invalid value: X"]),
            (json!({ "deprecatedCount": 2 }), &["count: Invalid value: \"\": needs to be unset"]),
        ],
    );
    check_update(
        "events.k8s.io/events",
        event,
        &[(json!({ "reason": "s" }), &["reason: Invalid value: \"s\": field is immutable"])],
    );
    check(
        "events",
        json!({ "metadata": meta(), "involvedObject": { "namespace": "n" } }),
        &[(
            json!({ "involvedObject": { "namespace": "m" } }),
            &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
        )],
    );
}

#[test]
fn flow_control_that_breaks_rules_is_refused() {
    let schema = json!({ "metadata": cluster_wide(), "spec": {
        "matchingPrecedence": 5, "priorityLevelConfiguration": { "name": "l" } } });
    let rule = json!({ "subjects": [{ "kind": "User", "user": { "name": "u" } }] });
    check(
        "flowcontrol.apiserver.k8s.io/flowschemas",
        schema,
        &[
            (
                json!({ "spec": { "matchingPrecedence": 1 } }),
                &[
                    "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                ],
            ),
            (
                json!({ "spec": { "rules": [rule] } }),
                &[
                    "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
                ],
            ),
        ],
    );
    let level = json!({ "metadata": cluster_wide(), "spec": { "type": "Limited", "limited": {
        "limitResponse": { "type": "Queue", "queuing": { "queues": 8, "handSize": 4, "queueLengthLimit": 5 } } } } });
    let queuing =
        |queuing: Value| json!({ "spec": { "limited": { "limitResponse": { "queuing": queuing } } } });
    check(
        "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations",
        level,
        &[
            (
                queuing(json!({ "handSize": 9 })),
                &[
                    "spec.limited.limitResponse.queuing.handSize: Invalid value: 9: should not be greater than queues (8)",
                ],
            ),
            (
                json!({ "spec": { "limited": { "lendablePercent": 101 } } }),
                &["spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"],
            ),
            (
                json!({ "spec": { "exempt": {} } }),
                &["spec.exempt: Forbidden: must be nil if the type is Limited"],
            ),
        ],
    );
}

#[test]
fn signing_requests_that_break_rules_are_refused() {
    use base64::Engine as _;
    let pem = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
    let pem = base64::engine::general_purpose::STANDARD.encode(pem);
    let sound = json!({ "metadata": { "name": "Any:Name" }, "spec": {
        "request": pem, "signerName": "example.com/s", "usages": ["client auth"] } });
    check(
        "certificates.k8s.io/certificatesigningrequests",
        sound,
        &[
            (
                json!({ "spec": { "request": "eA==" } }),
                &["spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST"],
            ),
            (json!({ "spec": { "usages": [] } }), &["spec.usages: Required value"]),
            (
                json!({ "spec": { "expirationSeconds": 5 } }),
                &[
                    "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
                ],
            ),
            (
                json!({ "spec": { "signerName": "kubernetes.io/legacy-unknown" } }),
                &[
                    "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via \
                   this API version",
                ],
            ),
        ],
    );
}
