//! Pods and their templates.

use serde_json::{Value, json};

use super::{check, check_update, meta, pod_template};

fn pod() -> Value {
    json!({ "metadata": meta(), "spec": { "containers": [{ "name": "c", "image": "i" }] } })
}

/// The container with more members.
fn container(more: Value) -> Value {
    let mut one = json!({ "name": "c", "image": "i" });
    json_patch::merge(&mut one, &more);
    json!({ "spec": { "containers": [one] } })
}

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

#[test]
fn containers_that_break_rules_are_refused() {
    let relative = "spec.containers[0].volumeMounts.subPath: Invalid value: \"/a\": must be a relative path";
    let mount = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v", "subPath": "/a" }] });
    let mut mounted = container(mount);
    mounted["spec"]["volumes"] = json!([{ "name": "v", "emptyDir": {} }]);
    check(
        "pods",
        pod(),
        &[
            (mounted, &[relative]),
            (
                container(json!({ "env": [{ "name": "A", "valueFrom": {} }] })),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                   `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                ],
            ),
            (
                container(
                    json!({ "env": [{ "name": "A", "valueFrom": { "fieldRef": { "fieldPath": "spec.x" } } }] }),
                ),
                &[
                    "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting \
                   fieldPath: field label not supported: spec.x",
                ],
            ),
            (
                container(json!({ "envFrom": [{}] })),
                &[
                    "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
                ],
            ),
            (
                container(
                    json!({ "resources": { "limits": { "hugepages-2Mi": "3Mi", "cpu": "1" }, "requests": { "hugepages-2Mi": "3Mi" } } }),
                ),
                &[
                    "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer \
                     multiple of hugepages-2Mi",
                    "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer \
                     multiple of hugepages-2Mi",
                ],
            ),
            (
                container(json!({ "resources": { "limits": { "pods": "1" } } })),
                &[
                    "spec.containers[0].resources.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
                    "spec.containers[0].resources.requests[pods]: Invalid value: \"pods\": must be a standard resource for \
                     containers",
                ],
            ),
            (
                container(
                    json!({ "securityContext": { "privileged": true, "allowPrivilegeEscalation": false } }),
                ),
                &[
                    "spec.containers[0].securityContext: Invalid value: {\"Capabilities\":null,\"Privileged\":true,\
                   \"SELinuxOptions\":null,\"WindowsOptions\":null,\"RunAsUser\":null,\"RunAsGroup\":null,\"RunAsNonRoot\":null,\
                   \"ReadOnlyRootFilesystem\":null,\"AllowPrivilegeEscalation\":false,\"ProcMount\":null,\"SeccompProfile\":null,\
                   \"AppArmorProfile\":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
                ],
            ),
            (
                container(json!({ "securityContext": { "runAsUser": -1 } })),
                &[
                    "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                container(
                    json!({ "readinessProbe": { "tcpSocket": { "port": 1 }, "terminationGracePeriodSeconds": 5 } }),
                ),
                &[
                    "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for \
                   readinessProbes",
                ],
            ),
            (
                container(
                    json!({ "resizePolicy": [{ "resourceName": "disk", "restartPolicy": "NotRequired" }] }),
                ),
                &[
                    "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
                ],
            ),
            (
                container(json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 99 } } } })),
                &[
                    "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 99: must be non-negative and less than \
                   terminationGracePeriodSeconds (30)",
                ],
            ),
            (
                spec(json!({ "initContainers": [{ "name": "i", "image": "i", "lifecycle": {} }] })),
                &["spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without \
                   restartPolicy=Always"],
            ),
        ],
    );
}

#[test]
fn pods_that_break_rules_are_refused() {
    let spread = json!({ "maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" });
    let term = json!({ "topologyKey": "", "labelSelector": {} });
    check(
        "pods",
        pod(),
        &[
            (
                spec(json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/a/../b" } }] })),
                &["spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"],
            ),
            (
                spec(
                    json!({ "volumes": [{ "name": "v", "secret": { "secretName": "s", "defaultMode": 512 } }] }),
                ),
                &[
                    "spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both \
                   inclusive",
                ],
            ),
            (
                spec(json!({ "topologySpreadConstraints": [spread] })),
                &["spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero"],
            ),
            (
                spec(
                    json!({ "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } }),
                ),
                &[
                    "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: \
                     can not be empty",
                    "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \
                     \"\": name part must be non-empty",
                    "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: \
                     \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
            (
                spec(
                    json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 0, "preference": {} }] } } }),
                ),
                &[
                    "spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must \
                   be in the range 1-100",
                ],
            ),
            (
                spec(json!({ "tolerations": [{ "key": "k", "operator": "Exists", "value": "v" }] })),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
                ],
            ),
            (
                spec(json!({ "dnsPolicy": "None" })),
                &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (
                spec(json!({ "hostAliases": [{ "ip": "x" }] })),
                &[
                    "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                spec(json!({ "schedulingGates": [{ "name": "a.b/c" }, { "name": "a.b/c" }] })),
                &["spec.schedulingGates[1]: Duplicate value: \"a.b/c\""],
            ),
            (
                spec(json!({ "resourceClaims": [{ "name": "r" }] })),
                &["spec.resourceClaims[0]: Invalid value: {\"Name\":\"r\",\"ResourceClaimName\":null,\
                   \"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, \
                   `resourceClaimTemplateName`"],
            ),
            (
                spec(json!({ "os": { "name": "windows" }, "securityContext": { "runAsUser": 5 } })),
                &["spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod"],
            ),
            (
                spec(json!({ "securityContext": { "sysctls": [{ "name": "Net", "value": "1" }] } })),
                &[
                    "spec.securityContext.sysctls[0].name: Invalid value: \"Net\": must have at most 253 characters and match \
                   regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                ],
            ),
        ],
    );
    check_update(
        "pods",
        pod(),
        &[(
            spec(json!({ "schedulingGates": [{ "name": "g" }] })),
            &[
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
            ],
        )],
    );
}

#[test]
fn pod_templates_that_break_rules_are_refused() {
    check(
        "podtemplates",
        json!({ "metadata": meta(), "template": pod_template() }),
        &[(
            json!({ "template": { "spec": { "ephemeralContainers": [{ "name": "e", "image": "i" }] } } }),
            &[
                "template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template",
            ],
        )],
    );
}
