//! What upstream's API server leaves behind in an etcd on which it takes turns with this one.

use serde_json::{Value, json};
use skep_store::{Expected, Store};

use crate::definitions::{DEFINITIONS, WIDGETS, define, definition, until};
use crate::harness::{Cluster, cluster};

const STORED: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com";

async fn stored(cluster: &Cluster) -> (Value, Expected) {
    let kv = cluster.store.get(STORED).await.unwrap().0.unwrap();
    (serde_json::from_slice(&kv.value).unwrap(), Expected::Revision(kv.mod_revision))
}

/// Stores the definition of widgets as upstream does, which has found the same schema in all versions.
async fn store_as_upstream(cluster: &Cluster) {
    let (mut definition, expected) = stored(cluster).await;
    definition["apiVersion"] = json!("apiextensions.k8s.io/v1beta1");
    let spec = definition["spec"].as_object_mut().unwrap();
    let schema = spec["versions"][0].as_object_mut().unwrap().remove("schema").unwrap();
    spec.insert("validation".into(), schema);
    spec.insert("version".into(), json!("v1"));
    spec.insert("preserveUnknownFields".into(), json!(false));
    let bytes = serde_json::to_vec(&definition).unwrap();
    cluster.store.put(STORED, bytes.into(), expected, None).await.unwrap();
}

#[tokio::test]
async fn definition_in_the_form_that_upstream_stores_is_shown_as_v1_and_its_objects_stay_whole() {
    let cluster = cluster().await;
    let honey = json!({ "type": "object", "properties": { "honey": { "type": "integer" } } });
    define(&cluster, definition(honey.clone())).await;
    let widget = json!({ "metadata": { "name": "a" }, "spec": { "honey": 3 } });
    cluster.post(WIDGETS, "Widget", widget).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let before = cluster.get(&path).await.expect(200);

    store_as_upstream(&cluster).await;
    until(async || {
        let shown = cluster.get(&path).await.expect(200);
        shown["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"]
    })
    .await;
    for server in [&cluster, &cluster.restarted().await] {
        let shown = server.get(&path).await.expect(200);
        assert_eq!((&shown["apiVersion"], &shown["spec"]), (&before["apiVersion"], &before["spec"]));
        let widget = server.get(&format!("{WIDGETS}/a")).await.expect(200);
        assert_eq!(widget["spec"], json!({ "honey": 3 }));
        let refused = json!({ "metadata": { "name": "b" }, "spec": { "honey": "much" } });
        assert_eq!(server.post(WIDGETS, "Widget", refused).await.code, 422, "its schema is in force");
    }
    let label = json!({ "metadata": { "labels": { "a": "b" } } });
    cluster.patch(&format!("{WIDGETS}/a"), "merge", label.clone()).await.expect(200);
    assert_eq!(cluster.get(&format!("{WIDGETS}/a")).await.expect(200)["spec"], json!({ "honey": 3 }));
    cluster.patch(&path, "merge", label).await.expect(200);
    assert_eq!(
        stored(&cluster).await.0["apiVersion"],
        "apiextensions.k8s.io/v1",
        "upstream reads this one, too"
    );
}
