//! Volumes, claims, storage.k8s.io, resource.k8s.io.

use serde_json::{Value, json};

use super::{check, check_status, check_update, meta};

fn cluster_wide() -> Value {
    json!({ "name": "a" })
}

#[test]
fn persistent_volumes_that_break_rules_are_refused() {
    let sound = json!({ "metadata": cluster_wide(), "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "hostPath": { "path": "/d" } } });
    let spec = |spec: Value| json!({ "spec": spec });
    check(
        "persistentvolumes",
        sound.clone(),
        &[
            (spec(json!({ "accessModes": [] })), &["spec.accessModes: Required value"]),
            (
                spec(json!({ "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"] })),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
            (
                spec(json!({ "nfs": { "server": "s", "path": "/p" } })),
                &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
            ),
            (spec(json!({ "hostPath": null })), &["spec: Required value: must specify a volume type"]),
            (
                spec(json!({ "hostPath": null, "local": { "path": "/d" } })),
                &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
            ),
            (
                spec(json!({ "capacity": { "storage": "0" } })),
                &["spec.capacity[storage]: Invalid value: \"0\": must be greater than zero"],
            ),
            (
                spec(json!({ "hostPath": null, "csi": { "driver": "d.io" } })),
                &["spec.csi.volumeHandle: Required value"],
            ),
        ],
    );
    check_update(
        "persistentvolumes",
        sound,
        &[
            (spec(json!({ "persistentVolumeReclaimPolicy": "Delete" })), &[]),
            (
                spec(json!({ "hostPath": { "path": "/e" } })),
                &[
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n",
                ],
            ),
        ],
    );
}

#[test]
fn claims_that_break_rules_are_refused() {
    let sound = json!({ "metadata": meta(), "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "2Gi" } } } });
    let spec = |spec: Value| json!({ "spec": spec });
    check(
        "persistentvolumeclaims",
        sound.clone(),
        &[
            (
                spec(json!({ "accessModes": [] })),
                &["spec.accessModes: Required value: at least 1 access mode is required"],
            ),
            (spec(json!({ "resources": null })), &["spec.resources[storage]: Required value"]),
            (
                spec(json!({ "dataSourceRef": { "kind": "Pod", "name": "p" } })),
                &[
                    "spec.dataSource: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                    "spec.dataSourceRef: Invalid value: \"Pod\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
                ],
            ),
        ],
    );
    let mut bound = sound;
    bound["spec"]["volumeName"] = json!("v");
    bound["spec"]["storageClassName"] = json!("s");
    bound["status"] = json!({ "phase": "Bound", "capacity": { "storage": "2Gi" } });
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims\n";
    check_update(
        "persistentvolumeclaims",
        bound,
        &[
            (spec(json!({ "resources": { "requests": { "storage": "3Gi" } } })), &[]),
            (
                spec(json!({ "resources": { "requests": { "storage": "1Gi" } } })),
                &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
            (spec(json!({ "storageClassName": "t" })), &[immutable]),
            (spec(json!({ "volumeName": "w" })), &[immutable]),
        ],
    );
}

#[test]
fn storage_kinds_that_break_rules_are_refused() {
    let class = json!({ "metadata": cluster_wide(), "provisioner": "x.io/p" });
    check(
        "storage.k8s.io/storageclasses",
        class.clone(),
        &[
            (json!({ "provisioner": "" }), &["provisioner: Required value"]),
            (
                json!({ "reclaimPolicy": "Recycle" }),
                &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
            ),
            (
                json!({ "allowedTopologies": [{ "matchLabelExpressions": [{ "key": "zone", "values": ["a", "a"] }] }] }),
                &["allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\""],
            ),
        ],
    );
    check_update(
        "storage.k8s.io/storageclasses",
        class,
        &[(
            json!({ "provisioner": "x.io/q" }),
            &["provisioner: Invalid value: \"x.io/q\": field is immutable"],
        )],
    );
    let driver = json!({ "metadata": cluster_wide(), "spec": {} });
    check(
        "storage.k8s.io/csidrivers",
        driver.clone(),
        &[
            (
                json!({ "spec": { "tokenRequests": [{ "audience": "a", "expirationSeconds": 5 }] } }),
                &[
                    "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                ],
            ),
            (
                json!({ "spec": { "volumeLifecycleModes": ["X"] } }),
                &[
                    "spec.volumeLifecycleModes: Unsupported value: \"X\": supported values: \"Persistent\", \"Ephemeral\"",
                ],
            ),
        ],
    );
    check_update(
        "storage.k8s.io/csidrivers",
        driver,
        &[(
            json!({ "spec": { "attachRequired": false } }),
            &["spec.attachedRequired: Invalid value: false: field is immutable"],
        )],
    );
    check(
        "storage.k8s.io/csinodes",
        json!({ "metadata": cluster_wide(), "spec": { "drivers": [{ "name": "d.io", "nodeID": "n" }] } }),
        &[(
            json!({ "spec": { "drivers": [{ "name": "d.io", "nodeID": "n" }, { "name": "d.io", "nodeID": "m" }] } }),
            &["spec.drivers[1].name: Duplicate value: \"d.io\""],
        )],
    );
    let attachment = json!({ "metadata": cluster_wide(), "spec": {
        "attacher": "d.io", "nodeName": "n", "source": { "persistentVolumeName": "p" } } });
    check(
        "storage.k8s.io/volumeattachments",
        attachment.clone(),
        &[(
            json!({ "spec": { "source": { "persistentVolumeName": null } } }),
            &[
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        )],
    );
    check_update(
        "storage.k8s.io/volumeattachments",
        attachment,
        &[(
            json!({ "spec": { "nodeName": "m" } }),
            &[
                "spec: Invalid value: {\"attacher\":\"d.io\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"p\"}}: field is \
         immutable",
            ],
        )],
    );
    let capacity = json!({ "metadata": meta(), "storageClassName": "s", "capacity": "1Gi" });
    check(
        "storage.k8s.io/csistoragecapacities",
        capacity,
        &[(
            json!({ "capacity": "-1" }),
            &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
        )],
    );
    let attributes = json!({ "metadata": cluster_wide(), "driverName": "d.io", "parameters": { "a": "b" } });
    check(
        "storage.k8s.io/volumeattributesclasses",
        attributes.clone(),
        &[(
            json!({ "parameters": null }),
            &["parameters: Required value: must contain at least one key/value pair"],
        )],
    );
    check_update(
        "storage.k8s.io/volumeattributesclasses",
        attributes,
        &[(
            json!({ "parameters": { "a": "c" } }),
            &["parameters: Forbidden: updates to parameters are forbidden."],
        )],
    );
}

#[test]
fn device_kinds_that_break_rules_are_refused() {
    let requests = |requests: Value| json!({ "spec": { "devices": { "requests": requests } } });
    let exact = json!({ "name": "r", "exactly": { "deviceClassName": "c" } });
    let claim = json!({ "metadata": meta(), "spec": { "devices": { "requests": [exact] } } });
    check(
        "resource.k8s.io/resourceclaims",
        claim.clone(),
        &[
            (
                requests(json!([{ "name": "r" }])),
                &[
                    "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
                ],
            ),
            (
                requests(
                    json!([{ "name": "r", "exactly": { "deviceClassName": "c", "allocationMode": "All", "count": 2 } }]),
                ),
                &[
                    "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
                ],
            ),
        ],
    );
    check_update(
        "resource.k8s.io/resourceclaims",
        claim.clone(),
        &[(
            requests(json!([])),
            &["spec: Invalid value: {\"devices\":{\"requests\":null}}: field is immutable"],
        )],
    );
    check_status(
        "resource.k8s.io/resourceclaims",
        claim,
        &[(
            json!({ "reservedFor": [{ "resource": "pods", "name": "p", "uid": "u" }] }),
            &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        )],
    );
    let slice = json!({ "metadata": cluster_wide(), "spec": { "driver": "d.io", "nodeName": "n",
        "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 }, "devices": [{ "name": "x" }] } });
    check(
        "resource.k8s.io/resourceslices",
        slice,
        &[
            (
                json!({ "spec": { "nodeName": null } }),
                &[
                    "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is \
                   required",
                ],
            ),
            (
                json!({ "spec": { "devices": [{ "name": "x" }, { "name": "x" }] } }),
                &["spec.devices[1]: Duplicate value: \"x\""],
            ),
        ],
    );
    check(
        "resource.k8s.io/deviceclasses",
        json!({ "metadata": cluster_wide(), "spec": {} }),
        &[(json!({ "spec": { "selectors": [{}] } }), &["spec.selectors[0].cel: Required value"])],
    );
}
