//! What is warned about.

use serde_json::json;

use super::{check_warned, find, meta, pod_template, warnings};

#[test]
fn pods_are_warned_about() {
    let containers = |container: serde_json::Value| json!({ "spec": { "containers": [container] } });
    check_warned(
        "pods",
        json!({ "metadata": meta(), "spec": { "containers": [{ "name": "c", "image": "i" }] } }),
        &[
            (json!({}), &[]),
            (
                json!({ "spec": { "nodeSelector": { "beta.kubernetes.io/os": "linux" } } }),
                &[
                    "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                ],
            ),
            (
                json!({ "spec": { "volumes": [{ "name": "v", "gitRepo": { "repository": "r" } }] } }),
                &["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
            ),
            (
                json!({ "spec": { "imagePullSecrets": [{ "name": "s" }, { "name": "s" }, {}] } }),
                &[
                    "spec.imagePullSecrets[1].name: duplicate name \"s\"",
                    "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                ],
            ),
            (
                containers(
                    json!({ "name": "c", "image": "i", "resources": { "limits": { "memory": "1500m" } } }),
                ),
                &[
                    "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be \
                     an integer",
                    "spec.containers[0].resources.requests[memory]: fractional byte value \"1500m\" is invalid, must \
                     be an integer",
                ],
            ),
            (
                containers(json!({
                    "name": "c", "image": "i",
                    "env": [{ "name": "A", "value": "1" }, { "name": "A", "value": "2" }, { "name": "A", "value": "x$(A)" }],
                })),
                &[
                    "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                ],
            ),
            (
                containers(json!({
                    "name": "c", "image": "i",
                    "ports": [
                        { "containerPort": 80, "name": "a" },
                        { "containerPort": 80 },
                        { "containerPort": 80, "hostPort": 8080 },
                        { "containerPort": 81, "name": "a" },
                    ],
                })),
                &[
                    "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                    "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[0]",
                    "spec.containers[0].ports[2]: overlapping port definition with spec.containers[0].ports[1]",
                    "spec.containers[0].ports[3]: duplicate port name \"a\" with spec.containers[0].ports[0], services \
                     and probes that select ports by name will use spec.containers[0].ports[0]",
                ],
            ),
            (
                json!({ "spec": { "volumes": [{ "name": "v", "configMap": { "name": "m", "items": [
                    { "key": "a", "path": "x" }, { "key": "b", "path": "x/y" },
                ] } }] } }),
                &["volume \"v\" (ConfigMap \"m\"): overlapping paths: \"x/y\" with \"x\""],
            ),
            // Read as 1, before anybody could warn.
            (json!({ "spec": { "terminationGracePeriodSeconds": -1 } }), &[]),
        ],
    );
}

#[test]
fn services_are_warned_about() {
    check_warned(
        "services",
        json!({ "metadata": meta(), "spec": { "ports": [{ "port": 1 }] } }),
        &[
            (json!({}), &[]),
            (
                json!({ "spec": { "externalIPs": ["2001:0db8::1"] } }),
                &[
                    "spec.externalIPs[0]: IPv6 address \"2001:0db8::1\" should be in RFC 5952 canonical format \
                     (\"2001:db8::1\")",
                    "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                ],
            ),
            (
                json!({ "spec": { "clusterIP": "None", "sessionAffinity": "ClientIP" } }),
                &["spec.SessionAffinity is ignored for headless services"],
            ),
            (
                json!({ "spec": { "loadBalancerSourceRanges": ["10.1.2.3/8"] } }),
                &[
                    "spec.loadBalancerSourceRanges[0]: CIDR value \"10.1.2.3/8\" is ambiguous in this context (should \
                     be \"10.0.0.0/8\" or \"10.1.2.3/32\"?)",
                ],
            ),
            (
                json!({ "spec": { "externalName": "a.b" } }),
                &["spec.externalName is ignored when spec.type is not \"ExternalName\""],
            ),
        ],
    );
}

#[test]
fn others_are_warned_about() {
    check_warned(
        "batch/jobs",
        json!({ "metadata": meta(), "spec": { "template": pod_template() } }),
        &[(
            json!({ "metadata": { "name": "a.b" } }),
            &[
                "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS \
               label is recommended: [must not contain dots]",
            ],
        )],
    );
    check_warned(
        "networking.k8s.io/ingresses",
        json!({ "metadata": meta(), "spec": {} }),
        &[(
            json!({ "metadata": { "annotations": { "kubernetes.io/ingress.class": "a" } } }),
            &[
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
            ],
        )],
    );
    check_warned(
        "persistentvolumes",
        json!({ "metadata": { "name": "a" }, "spec": {} }),
        &[(
            json!({ "spec": { "persistentVolumeReclaimPolicy": "Recycle" } }),
            &[
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
               approach is to use dynamic provisioning.",
            ],
        )],
    );
    check_warned(
        "apps/statefulsets",
        json!({ "metadata": meta(), "spec": { "template": pod_template() } }),
        &[(
            json!({ "spec": { "revisionHistoryLimit": -1 } }),
            &[
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is \
               recommended",
            ],
        )],
    );
}

#[test]
fn templates_are_warned_about_again_when_they_change() {
    let resource = find("apps/deployments");
    let at = |generation: u64| {
        json!({
            "metadata": { "name": "a", "namespace": "n", "generation": generation },
            "spec": { "template": { "spec": { "nodeSelector": { "beta.kubernetes.io/os": "linux" } } } },
        })
    };
    assert_eq!(warnings(resource, &at(1), Some(&at(1))), Vec::<String>::new());
    assert_eq!(
        warnings(resource, &at(2), Some(&at(1))),
        [
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" \
          instead"
        ]
    );
}
