//! apps, batch, autoscaling, policy.

use serde_json::{Value, json};

use super::{check, check_status, check_update, meta, pod_template};

fn workload(more: Value) -> Value {
    let mut object = json!({
        "metadata": meta(),
        "spec": { "selector": { "matchLabels": { "a": "b" } }, "template": pod_template() },
    });
    json_patch::merge(&mut object, &json!({ "spec": more }));
    object
}

fn job() -> Value {
    let mut template = pod_template();
    template["spec"]["restartPolicy"] = json!("Never");
    template["metadata"] = json!({});
    json!({ "metadata": { "name": "a", "namespace": "n", "uid": "u" }, "spec": { "template": template } })
}

#[test]
fn deployments_that_break_rules_are_refused() {
    let rolling = |unavailable: Value, surge: Value| json!({ "spec": { "strategy": { "rollingUpdate": { "maxUnavailable": unavailable, "maxSurge": surge } } } });
    let percent = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
                   used for validation is '[0-9]+%')";
    check(
        "apps/deployments",
        workload(json!({})),
        &[
            (
                rolling(json!(0), json!("0%")),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                rolling(json!("x"), json!(1)),
                &[&format!("spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"x\": {percent}")],
            ),
            (
                rolling(json!("101%"), json!(1)),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": {} } } }),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                json!({ "spec": { "progressDeadlineSeconds": 5, "minReadySeconds": 5 } }),
                &["spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds"],
            ),
            (
                json!({ "spec": { "template": { "spec": { "activeDeadlineSeconds": 5 } } } }),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
                ],
            ),
            (
                json!({ "spec": { "selector": { "matchLabels": null } } }),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
        ],
    );
    check_status(
        "apps/deployments",
        workload(json!({})),
        &[
            (json!({ "replicas": 2, "readyReplicas": 2, "availableReplicas": 1 }), &[]),
            (
                json!({ "replicas": 1, "readyReplicas": 2 }),
                &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
            ),
            (
                json!({ "readyReplicas": -1 }),
                &[
                    "status.readyReplicas: Invalid value: -1: must be greater than or equal to 0",
                    "status.availableReplicas: Invalid value: 0: cannot be greater than readyReplicas",
                ],
            ),
        ],
    );
}

#[test]
fn sets_that_break_rules_are_refused() {
    check(
        "apps/daemonsets",
        workload(json!({})),
        &[
            (
                json!({ "spec": { "updateStrategy": { "rollingUpdate": { "maxUnavailable": 1, "maxSurge": 1 } } } }),
                &[
                    "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
                ],
            ),
            (
                json!({ "spec": { "updateStrategy": { "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 0 } } } }),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
                ],
            ),
        ],
    );
    let claim = json!([{ "metadata": { "name": "data" }, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } } }]);
    let mount =
        json!([{ "name": "c", "image": "i", "volumeMounts": [{ "name": "data", "mountPath": "/d" }] }]);
    let set = workload(json!({
        "serviceName": "s", "volumeClaimTemplates": claim, "template": { "spec": { "containers": mount } },
    }));
    check(
        "apps/statefulsets",
        set.clone(),
        &[
            (
                json!({ "metadata": { "name": "a.b" } }),
                &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                json!({ "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": { "partition": 1 } } } }),
                &[
                    "spec.updateStrategy.rollingUpdate: Invalid value: {\"Partition\":1,\"MaxUnavailable\":null}: only allowed for updateStrategy \
                   'RollingUpdate'",
                ],
            ),
            (
                json!({ "spec": { "ordinals": { "start": -1 } } }),
                &["spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({ "spec": { "volumeClaimTemplates": null } }),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
        ],
    );
    check_update(
        "apps/statefulsets",
        set,
        &[
            (json!({ "spec": { "replicas": 3, "minReadySeconds": 1 } }), &[]),
            (
                json!({ "spec": { "serviceName": "t" } }),
                &[
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' \
                   are forbidden",
                ],
            ),
        ],
    );
    let revision = json!({ "metadata": meta(), "revision": 1, "data": { "a": 1 } });
    check(
        "apps/controllerrevisions",
        revision.clone(),
        &[
            (json!({ "data": null }), &["data: Required value: data is mandatory"]),
            (json!({ "data": [1] }), &["data: Required value: data must be a valid JSON object"]),
            (json!({ "revision": -1 }), &["revision: Invalid value: -1: must be greater than or equal to 0"]),
        ],
    );
    check_update(
        "apps/controllerrevisions",
        revision,
        &[(json!({ "data": { "a": 2 } }), &["data: Invalid value: {\"a\":2}: field is immutable"])],
    );
}

#[test]
fn replication_controllers_that_break_rules_are_refused() {
    let sound =
        json!({ "metadata": meta(), "spec": { "selector": { "a": "b" }, "template": pod_template() } });
    check(
        "replicationcontrollers",
        sound,
        &[
            (
                json!({ "spec": { "replicas": -1 } }),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({ "spec": { "selector": { "a": "c" } } }),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
                ],
            ),
        ],
    );
}

#[test]
fn jobs_that_break_rules_are_refused() {
    let rule = |rule: Value| json!({ "spec": { "podFailurePolicy": { "rules": [rule] } } });
    check(
        "batch/jobs",
        job(),
        &[
            (
                json!({ "spec": { "template": { "spec": { "restartPolicy": "Always" } } } }),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (
                json!({ "spec": { "backoffLimit": -1 } }),
                &["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                json!({ "spec": { "completionMode": "Indexed", "parallelism": 2 } }),
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                json!({ "spec": { "backoffLimitPerIndex": 1 } }),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
            (
                json!({ "spec": { "managedBy": "me" } }),
                &[
                    "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            (
                json!({ "spec": { "selector": { "matchLabels": { "x": "y" } } } }),
                &[
                    "spec.selector: Invalid value: {\"matchLabels\":{\"x\":\"y\"}}: `selector` not auto-generated",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u\",\
                     \"batch.kubernetes.io/job-name\":\"a\",\"controller-uid\":\"u\",\"job-name\":\"a\"}: `selector` does not \
                     match template `labels`",
                ],
            ),
            (
                rule(
                    json!({ "action": "FailJob", "onExitCodes": { "operator": "In", "values": [0, 2, 1] } }),
                ),
                &[
                    "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator",
                    "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [0,2,1]: must be ordered",
                ],
            ),
            (
                rule(json!({ "action": "FailJob" })),
                &[
                    "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
                ],
            ),
            (
                json!({ "spec": { "completionMode": "Indexed", "completions": 3,
                    "successPolicy": { "rules": [{ "succeededIndexes": "0-5" }] } } }),
                &[
                    "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-5\": error parsing succeededIndexes: too \
                   large index: \"5\"",
                ],
            ),
        ],
    );
    check_status(
        "batch/jobs",
        job(),
        &[(
            json!({ "active": -1 }),
            &["status.active: Invalid value: -1: must be greater than or equal to 0"],
        )],
    );
}

#[test]
fn cron_jobs_that_break_rules_are_refused() {
    let sound = json!({ "metadata": meta(), "spec": { "schedule": "*/5 * * * *", "jobTemplate": { "spec": job()["spec"] } } });
    check(
        "batch/cronjobs",
        sound,
        &[
            (
                json!({ "spec": { "schedule": "61 * * * *" } }),
                &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
            ),
            (
                json!({ "spec": { "schedule": "TZ=UTC 0 * * * *" } }),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone \
                   field instead",
                ],
            ),
            (
                json!({ "spec": { "timeZone": "Local" } }),
                &[
                    "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone as defined in \
                   https://www.iana.org/time-zones",
                ],
            ),
            (
                json!({ "spec": { "timeZone": "No/Where" } }),
                &["spec.timeZone: Invalid value: \"No/Where\": unknown time zone No/Where"],
            ),
            (
                json!({ "metadata": { "name": "a".repeat(53) } }),
                &[&format!(
                    "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
                    "a".repeat(53)
                )],
            ),
            (
                json!({ "spec": { "jobTemplate": { "spec": { "manualSelector": true } } } }),
                &[
                    "spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: \"nil\", \"false\"",
                ],
            ),
            (json!({ "spec": { "timeZone": "Europe/Berlin" } }), &[]),
        ],
    );
}

#[test]
fn autoscalers_that_break_rules_are_refused() {
    let sound = json!({ "metadata": meta(), "spec": {
        "maxReplicas": 3, "scaleTargetRef": { "kind": "Deployment", "name": "d", "apiVersion": "apps/v1" } } });
    let metric = |metric: Value| json!({ "spec": { "metrics": [metric] } });
    check(
        "autoscaling@v2/horizontalpodautoscalers",
        sound.clone(),
        &[
            (
                json!({ "spec": { "maxReplicas": 0 } }),
                &[
                    "spec.maxReplicas: Required value: must be set and greater than 0",
                    "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
                ],
            ),
            (
                json!({ "spec": { "minReplicas": 0 } }),
                &[
                    "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                    "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero \
                     replicas",
                ],
            ),
            (
                metric(
                    json!({ "type": "Resource", "resource": { "name": "cpu", "target": { "type": "Utilization" } } }),
                ),
                &[
                    "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a \
                   target utilization",
                ],
            ),
            (
                metric(
                    json!({ "type": "Pods", "external": { "metric": { "name": "m" }, "target": { "type": "Value", "value": "1" } } }),
                ),
                &[
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                ],
            ),
            (
                json!({ "spec": { "behavior": { "scaleUp": { "stabilizationWindowSeconds": 9999,
                    "policies": [{ "type": "Pods", "value": 0, "periodSeconds": 15 }] } } } }),
                &[
                    "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 9999: must be less than or equal to 3600",
                    "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
                ],
            ),
        ],
    );
    check("autoscaling/horizontalpodautoscalers", sound, &[]);
}

#[test]
fn disruption_budgets_that_break_rules_are_refused() {
    check(
        "policy/poddisruptionbudgets",
        json!({ "metadata": meta(), "spec": { "minAvailable": 1 } }),
        &[
            (
                json!({ "spec": { "maxUnavailable": 1 } }),
                &[
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be \
                   both set",
                ],
            ),
            (
                json!({ "spec": { "minAvailable": "150%" } }),
                &["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"],
            ),
            (
                json!({ "spec": { "unhealthyPodEvictionPolicy": "x" } }),
                &[
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"x\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ],
    );
}
