//! get and list: selectors, pages, revisions, tables, metadata, compression.

use std::collections::BTreeSet;
use std::io::Read;

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn with_maps(count: usize) -> Cluster {
    let cluster = cluster().await;
    for n in 0..count {
        cluster.config_map(&format!("m{n}"), json!({ "n": n.to_string() })).await;
    }
    cluster
}

#[tokio::test]
async fn list_has_what_is_selected() {
    let cluster = with_maps(3).await;
    let list = cluster.get(MAPS).await.expect(200);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(names(&list), ["m0", "m1", "m2"]);
    let selected = |query: &str| {
        let path = format!("/api/v1/configmaps?{query}");
        let cluster = &cluster;
        async move { cluster.get(&path).await.expect(200) }
    };
    assert_eq!(names(&selected("labelSelector=app+in+(m0,m2)").await), ["m0", "m2"]);
    assert_eq!(names(&selected("fieldSelector=metadata.name%3Dm1").await), ["m1"]);
    assert_eq!(names(&selected("labelSelector=app%3Dnone").await), Vec::<&str>::new());
    let empty = cluster.get("/api/v1/namespaces/kube-public/configmaps").await.expect(200);
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn pages_are_of_one_snapshot() {
    let cluster = with_maps(5).await;
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    cluster.delete(&format!("{MAPS}/m2"), json!(null)).await.expect(200);
    cluster.config_map("m1a", json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["m2", "m3"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["m4"]);
    assert!(last["metadata"]["continue"].is_null());
    let selected = cluster.get(&format!("{MAPS}?limit=1&labelSelector=app")).await.expect(200);
    assert!(
        selected["metadata"]["continue"].is_string() && selected["metadata"]["remainingItemCount"].is_null()
    );
}

#[tokio::test]
async fn list_at_a_revision_shows_the_past() {
    let cluster = with_maps(2).await;
    let then =
        cluster.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    cluster.config_map("later", json!({})).await;
    let past =
        cluster.get(&format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")).await.expect(200);
    assert_eq!(names(&past), ["m0", "m1"]);
    let newer = cluster.get(&format!("{MAPS}?resourceVersion={then}")).await.expect(200);
    assert_eq!(names(&newer), ["later", "m0", "m1"]);
}

#[tokio::test(start_paused = true)]
async fn list_at_a_revision_to_come_times_out() {
    let cluster = cluster().await;
    let answer = cluster.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert!(answer.failure(504, "Timeout").contains("Too large resource version: 99999"));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn list_before_the_history_has_expired() {
    let cluster = with_maps(1).await;
    let store: &dyn skep_store::Store = &*cluster.store;
    let now = store.current_revision().await.unwrap();
    // A server that starts now knows nothing of the past, and the store forgets it.
    store.compact(now).await.unwrap();
    let cluster = cluster.restarted().await;
    let answer = cluster.get(&format!("{MAPS}?resourceVersion=2&resourceVersionMatch=Exact")).await;
    answer.failure(410, "Expired");
}

#[tokio::test]
async fn pages_whose_history_has_expired_can_be_gone_on_with_at_the_present() {
    let cluster = with_maps(3).await;
    let first = cluster.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    cluster.config_map("m9", json!({})).await;
    let store: &dyn skep_store::Store = &*cluster.store;
    store.compact(store.current_revision().await.unwrap()).await.unwrap();
    let cluster = cluster.restarted().await;
    let answer = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    let status = answer.expect(410);
    assert_eq!((&status["reason"], &status["code"]), (&json!("Expired"), &json!(410)));
    // Where clients look for it.
    let token = status["metadata"]["continue"].as_str().expect("how to go on").to_owned();
    let second = cluster.get(&format!("{MAPS}?continue={token}")).await.expect(200);
    let names: Vec<_> =
        second["items"].as_array().unwrap().iter().map(|one| &one["metadata"]["name"]).collect();
    assert_eq!(names, ["m1", "m2", "m9"]);
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn tables_have_columns_and_rows() {
    let cluster = with_maps(2).await;
    let table = cluster.accepting(MAPS, TABLE).await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][1]["cells"][0], "m1");
    assert_eq!(table["rows"][1]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    let one = cluster.accepting(&format!("{MAPS}/m0?includeObject=Object"), TABLE).await.expect(200);
    assert_eq!(one["rows"][0]["object"]["kind"], "ConfigMap");
    cluster.accepting(&format!("{MAPS}?includeObject=Some"), TABLE).await.failure(400, "BadRequest");
}

#[tokio::test]
async fn metadata_comes_without_the_rest() {
    let cluster = with_maps(1).await;
    let one = cluster.accepting(&format!("{MAPS}/m0"), METADATA).await.expect(200);
    assert_eq!(one["kind"], "PartialObjectMetadata");
    assert_eq!(one["metadata"]["name"], "m0");
    assert!(one["data"].is_null());
    let list = cluster.accepting(MAPS, METADATA_LIST).await.expect(200);
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&json!("PartialObjectMetadataList"), &json!("PartialObjectMetadata"))
    );
    cluster.accepting(MAPS, "text/plain").await.failure(406, "NotAcceptable");
}

#[tokio::test]
async fn items_of_a_list_do_not_repeat_their_kind() {
    let cluster = with_maps(2).await;
    let list = cluster.get(MAPS).await.expect(200);
    assert_eq!(list["kind"], "ConfigMapList");
    let item = &list["items"][1];
    assert_eq!(item["metadata"]["name"], "m1");
    assert!(item.get("kind").is_none() && item.get("apiVersion").is_none(), "{item}");
    assert_eq!(cluster.get(&format!("{MAPS}/m1")).await.expect(200)["kind"], "ConfigMap");
    // In another version than the stored one.
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    let event = json!({
        "metadata": { "name": "e", "namespace": "default" },
        "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A", "reason": "R", "type": "Normal",
        "reportingController": "example.com/c", "reportingInstance": "c-0",
        "regarding": { "kind": "ConfigMap", "name": "m1", "namespace": "default" },
    });
    cluster.post(events, "Event", event).await.expect(201);
    for path in [events, "/api/v1/namespaces/default/events"] {
        let item = &cluster.get(path).await.expect(200)["items"][0];
        assert_eq!(item["metadata"]["name"], "e", "{path}");
        assert!(item.get("kind").is_none() && item.get("apiVersion").is_none(), "{path}: {item}");
    }
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_take_it() {
    let cluster = cluster().await;
    for n in 0..4 {
        cluster.config_map(&format!("big{n}"), json!({ "k": "x".repeat(50_000) })).await;
    }
    let plain = cluster.get(MAPS).await;
    assert!(plain.headers.get("content-encoding").is_none());
    let request = Request::get(MAPS).header("accept-encoding", "gzip").body(Full::default()).unwrap();
    let packed = cluster.send(request).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() < plain.bytes.len() / 10);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut text).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), plain.json());
    let pretty = cluster.get(&format!("{MAPS}?pretty=true")).await;
    assert!(pretty.bytes.starts_with(b"{\n  \""));
    assert_eq!(pretty.json(), plain.json());
}

#[tokio::test]
async fn list_for_people_is_laid_out_as_if_it_were_one_value() {
    let cluster = cluster().await;
    for (count, size) in [(0, 0), (1, 10), (2, 10), (5, 40_000)] {
        for n in 0..count {
            let path = format!("{MAPS}/m{n}");
            cluster.delete(&path, json!(null)).await;
            cluster.config_map(&format!("m{n}"), json!({ "k": "x\n".repeat(size) })).await;
        }
        for accept in ["application/json", TABLE] {
            let pretty = cluster.accepting(&format!("{MAPS}?pretty=true"), accept).await;
            let of = |text: &str| text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
            let found: BTreeSet<String> = of(std::str::from_utf8(&pretty.bytes).unwrap());
            let expected: BTreeSet<String> = of(&format!("{:#}", pretty.json()));
            assert_eq!(found, expected, "{count} objects");
            let plain = cluster.accepting(MAPS, accept).await;
            assert_eq!(pretty.json(), plain.json());
        }
    }
}

#[tokio::test]
async fn review_as_table_is_not_acceptable() {
    let cluster = cluster().await;
    let review = json!({ "spec": { "nonResourceAttributes": { "path": "/", "verb": "get" } } });
    let send = |accept: &str| {
        let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header("accept", accept)
            .header("content-type", "application/json")
            .body(Full::new(review.to_string().into()))
            .unwrap();
        cluster.send(request)
    };
    let message = send("application/json;as=Table;v=v1;g=meta.k8s.io").await.failure(406, "NotAcceptable");
    assert_eq!(message, "only the following media types are accepted: application/json, application/yaml");
    // Who takes plain JSON, too, gets that.
    assert_eq!(send(TABLE).await.expect(201)["status"]["allowed"], true);
}
