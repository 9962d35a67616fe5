//! What a node may not do in another's name, or beyond what its pods need.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use super::climbing::{SHOP, populated, refused};
use super::{Ask, ask, create, node, pod};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const CSI_NODES: &str = "/apis/storage.k8s.io/v1/csinodes";
const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";

/// A request for a node's certificate under these names, in this order.
fn signing(name: &str, common_names: [&str; 2]) -> Value {
    let mut params = CertificateParams::default();
    // The same attribute twice, as far as whoever reads it is concerned.
    let kinds = [DnType::CommonName, DnType::CustomDnType(vec![2, 5, 4, 3])];
    for (kind, name) in kinds.into_iter().zip(common_names).filter(|(_, name)| !name.is_empty()) {
        params.distinguished_name.push(kind, name);
    }
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let spec = json!({"request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                      "usages": ["digital signature", "client auth"]});
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
           "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn certificate_of_another_node() {
    let cluster = populated().await;
    let (own, other) = ("system:node:n1", "system:node:n2");
    let post = |names| Ask::new(&format!("POST {REQUESTS}"), signing("mine", names));
    let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "x"}]}});
    let attempts = vec![
        post([other, ""]),
        post([own, other]),
        post(["", ""]),
        post([own, "system:admin"]),
        post(["", "system:node:"]),
    ];
    refused(&cluster, &node("n1"), attempts).await;
    for (name, names) in [("a", [own, ""]), ("b", [other, own])] {
        let ask_for = Ask::new(&format!("POST {REQUESTS}"), signing(name, names));
        ask(&cluster, &node("n1"), &ask_for).await.expect(201);
    }
    let attempts = vec![
        Ask::new(&format!("PATCH {REQUESTS}/a/approval"), approved),
        Ask::new(&format!("PATCH {REQUESTS}/a/status"), json!({"status": {"certificate": "eA=="}})),
        Ask::new(&format!("DELETE {REQUESTS}"), Value::Null),
    ];
    refused(&cluster, &node("n1"), attempts).await;
}

#[tokio::test]
async fn drivers_and_devices_of_another_node() {
    let cluster = populated().await;
    let csi = |name: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": name},
                                  "spec": {"drivers": [{"name": "d.example.com", "nodeID": "x"}]}})
    };
    let slice = |name: &str, place: Value| {
        let mut spec = json!({"driver": "d.example.com", "devices": [{"name": "x"}],
                              "pool": {"name": name, "generation": 1, "resourceSliceCount": 1}});
        spec.as_object_mut().unwrap().extend(place.as_object().unwrap().clone());
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name}, "spec": spec})
    };
    for name in ["n1", "n2"] {
        create(&cluster, CSI_NODES, "CSINode", csi(name)).await;
        create(&cluster, SLICES, "ResourceSlice", slice(name, json!({"nodeName": name}))).await;
    }
    let mut applied = Ask::new(&format!("PATCH {CSI_NODES}/n2?fieldManager=x&force=true"), csi("n2"));
    applied.kind = "application/apply-patch+yaml";
    let attempts = vec![
        Ask::new(&format!("POST {CSI_NODES}"), csi("n3")),
        Ask::new(&format!("PATCH {CSI_NODES}/n2"), json!({"spec": {"drivers": []}})),
        Ask::new(&format!("PUT {CSI_NODES}/n2"), csi("n2")),
        applied,
        Ask::new(&format!("DELETE {CSI_NODES}/n2"), Value::Null),
        Ask::new(&format!("DELETE {CSI_NODES}"), Value::Null),
        Ask::new(&format!("GET {CSI_NODES}/n2"), Value::Null),
        Ask::new(&format!("POST {SLICES}"), slice("new", json!({"nodeName": "n2"}))),
        Ask::new(&format!("POST {SLICES}"), slice("new", json!({"allNodes": true}))),
        Ask::new(&format!("PATCH {SLICES}/n2"), json!({"metadata": {"labels": {"a": "b"}}})),
        Ask::new(&format!("DELETE {SLICES}/n2"), Value::Null),
        Ask::new(&format!("DELETE {SLICES}"), Value::Null),
        Ask::new(&format!("DELETE {SLICES}?fieldSelector=spec.nodeName%3Dn2"), Value::Null),
        Ask::new(&format!("DELETE {SLICES}?fieldSelector=spec.nodeName%21%3Dn1"), Value::Null),
        Ask::new(&format!("DELETE {SLICES}?labelSelector=a"), Value::Null),
        Ask::new(&format!("GET {SLICES}?fieldSelector=spec.nodeName%3Dn2"), Value::Null),
    ];
    refused(&cluster, &node("n1"), attempts).await;
    // Of all together only its own go.
    let own = Ask::new(&format!("DELETE {SLICES}?fieldSelector=spec.nodeName%3Dn1"), Value::Null);
    ask(&cluster, &node("n1"), &own).await.expect(200);
    assert_eq!(cluster.get(&format!("{SLICES}/n1")).await.code, 404);
    cluster.get(&format!("{SLICES}/n2")).await.expect(200);
}

#[tokio::test]
async fn volume_claims_beyond_their_size() {
    let cluster = populated().await;
    for (namespace, pod_name, on) in [("shop", "data", "n1"), ("bank", "data", "n2")] {
        let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims");
        let spec = json!({"accessModes": ["ReadWriteOnce"], "volumeName": "v",
                          "resources": {"requests": {"storage": "1Gi"}}});
        let claim = json!({"metadata": {"name": "c"}, "spec": spec});
        create(&cluster, &path, "PersistentVolumeClaim", claim).await;
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        create(&cluster, &path, "Pod", pod(pod_name, on, json!({"volumes": volumes}))).await;
    }
    let (own, other) =
        (format!("{SHOP}/persistentvolumeclaims/c"), "/api/v1/namespaces/bank/persistentvolumeclaims/c");
    let size = json!({"status": {"capacity": {"storage": "2Gi"}}});
    let attempts = vec![
        Ask::new(&format!("PATCH {other}/status"), size.clone()),
        Ask::new(&format!("GET {other}"), Value::Null),
        Ask::new(&format!("PATCH {own}"), json!({"metadata": {"labels": {"a": "b"}}})),
        Ask::new(&format!("DELETE {own}"), Value::Null),
        Ask::new(&format!("PATCH {own}/status"), json!({"status": {"phase": "Lost"}})),
        Ask::new(&format!("PATCH {own}/status"), json!({"status": {"accessModes": ["ReadWriteMany"]}})),
        Ask::new(&format!("PATCH {own}/status"), json!({"metadata": {"labels": {"a": "b"}}})),
    ];
    refused(&cluster, &node("n1"), attempts).await;
    ask(&cluster, &node("n1"), &Ask::new(&format!("PATCH {own}/status"), size)).await.expect(200);
}

#[tokio::test]
async fn tokens_for_others_than_its_pods_talk_to() {
    let cluster = populated().await;
    let volumes = json!([{"name": "t", "projected": {"sources": [
        {"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}]);
    create(&cluster, &format!("{SHOP}/pods"), "Pod", pod("with", "n1", json!({"volumes": volumes}))).await;
    let uid = async |path: &str| cluster.get(path).await.expect(200)["metadata"]["uid"].clone();
    let (with, vault) =
        (uid(&format!("{SHOP}/pods/with")).await, uid("/api/v1/namespaces/bank/pods/vault").await);
    let token = |namespace: &str, audiences: Value, bound: Value| {
        let spec = json!({"audiences": audiences, "boundObjectRef": bound});
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        Ask::new(&format!("POST /api/v1/namespaces/{namespace}/serviceaccounts/default/token"), body)
    };
    let bound =
        |name: &str, uid: &Value| json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid});
    let own = bound("with", &with);
    let mut without_uid = own.clone();
    without_uid["uid"] = Value::Null;
    let attempts = vec![
        token("shop", json!(["other"]), own.clone()),
        token("shop", json!(["vault", "other"]), own.clone()),
        token("shop", json!(["vault"]), Value::Null),
        token("shop", json!(["vault"]), without_uid),
        token("shop", json!(["vault"]), json!({"kind": "Node", "apiVersion": "v1", "name": "n1"})),
        token("shop", json!(["vault"]), bound("with", &vault)),
        token("bank", json!([]), bound("vault", &vault)),
    ];
    refused(&cluster, &node("n1"), attempts).await;
    ask(&cluster, &node("n1"), &token("shop", json!(["vault"]), own)).await.expect(201);
}
