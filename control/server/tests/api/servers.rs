//! Two servers on one store behave as one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::definitions::{self, DEFINITIONS, WIDGETS, definition, until};
use crate::harness::{self, Cluster, cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn both() -> (Cluster, Cluster) {
    let one = cluster().await;
    let other = one.restarted().await;
    (one, other)
}

#[tokio::test(start_paused = true)]
async fn write_at_one_server_is_read_at_the_other_at_once() {
    let (one, other) = both().await;
    for round in 0..20 {
        let (writer, reader) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let name = format!("m{round}");
        let made = writer.config_map(&name, json!({ "round": round.to_string() })).await;
        let read = reader.get(&format!("{MAPS}/{name}")).await.expect(200);
        assert_eq!(read["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
        let list = reader.get(MAPS).await.expect(200);
        assert!(
            list["items"].as_array().unwrap().iter().any(|item| item["metadata"]["name"] == name.as_str())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn revision_that_one_server_gave_is_good_for_lists_and_watches_of_the_other() {
    let (one, other) = both().await;
    one.config_map("a", json!({})).await;
    let list = one.get(MAPS).await.expect(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let then =
        other.get(&format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact")).await.expect(200);
    assert_eq!(then["items"], list["items"]);
    let mut watch = other.watch(&format!("{MAPS}?watch=true&resourceVersion={version}")).await;
    one.config_map("b", json!({})).await;
    other.config_map("c", json!({})).await;
    one.delete(&format!("{MAPS}/a"), Value::Null).await.expect(200);
    assert_eq!(watch.name().await, "ADDED b");
    assert_eq!(watch.name().await, "ADDED c");
    assert_eq!(watch.name().await, "DELETED a");
}

#[tokio::test(start_paused = true)]
async fn of_two_updates_at_two_servers_from_one_version_one_is_refused() {
    let (one, other) = both().await;
    let made = one.config_map("a", json!({ "k": "0" })).await;
    let path = format!("{MAPS}/a");
    for (first, second) in [(&one, &other), (&other, &one)] {
        let mut new = one.get(&path).await.expect(200);
        new["data"]["k"] = json!("1");
        let done = first.put(&path, &new).await.expect(200);
        new["data"]["k"] = json!("2");
        second.put(&path, &new).await.failure(409, "Conflict");
        new["data"]["k"] = json!("0");
        new["metadata"]["resourceVersion"] = done["metadata"]["resourceVersion"].clone();
        second.put(&path, &new).await.expect(200);
    }
    assert_eq!(one.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
    let racing = (0..10).map(|round| {
        let (one, other, path) = (&one, &other, &path);
        async move {
            let server = if round % 2 == 0 { one } else { other };
            server.patch(path, "merge", json!({ "data": { format!("k{round}"): "x" } })).await.expect(200)
        }
    });
    futures::future::join_all(racing).await;
    let data = other.get(&path).await.expect(200)["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 11, "nobody's patch is lost: {data}");
}

#[tokio::test(start_paused = true)]
async fn kind_that_is_defined_at_one_server_is_served_by_the_other() {
    let (one, other) = both().await;
    let spec = json!({ "type": "object", "properties": { "size": { "type": "integer" } } });
    definitions::post(&one, definition(spec)).await.expect(201);
    for server in [&one, &other] {
        until(|| async { server.get(WIDGETS).await.code == 200 }).await;
    }
    let widget = json!({ "metadata": { "name": "a" }, "spec": { "size": 3 } });
    other.post(WIDGETS, "Widget", widget).await.expect(201);
    assert_eq!(one.get(&format!("{WIDGETS}/a")).await.expect(200)["spec"]["size"], 3);
    one.delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null).await.expect(200);
    for server in [&one, &other] {
        until(|| async { server.get(WIDGETS).await.code == 404 }).await;
    }
}

/// The addresses behind the service of the API, in both forms.
async fn endpoints(cluster: &Cluster) -> Vec<String> {
    let slice = cluster.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").await;
    if slice.code == 404 {
        return Vec::new();
    }
    let old = cluster.get("/api/v1/namespaces/default/endpoints/kubernetes").await.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let slice = slice.expect(200);
    let new: Vec<_> =
        slice["endpoints"].as_array().unwrap().iter().map(|one| text(&one["addresses"][0])).collect();
    let old: Vec<_> =
        old["subsets"][0]["addresses"].as_array().unwrap().iter().map(|one| text(&one["ip"])).collect();
    if new == old { new } else { vec!["in between".into()] }
}

#[tokio::test(start_paused = true)]
async fn servers_on_one_store_are_all_behind_its_service_while_they_live() {
    let first = harness::sharing(None, "192.0.2.1").await;
    let second = harness::sharing(Some(&first), "192.0.2.2").await;
    let third = harness::sharing(Some(&first), "192.0.2.3").await;
    let stop = CancellationToken::new();
    let run =
        |one: &Cluster, stop: &CancellationToken| tokio::spawn(one.server.clone().announce(stop.clone()));
    let _first = run(&first, &CancellationToken::new());
    let dying = run(&second, &CancellationToken::new());
    let leaving = run(&third, &stop);
    let all = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
    // Whoever looked before the others were there looks again a little later, and nobody is lost while all live.
    tokio::time::sleep(Duration::from_secs(12)).await;
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(endpoints(&second).await, all);
    }
    // One says that it goes.
    stop.cancel();
    leaving.await.unwrap();
    assert_eq!(endpoints(&first).await, ["192.0.2.1", "192.0.2.2"]);
    // One says nothing any more.
    dying.abort();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(endpoints(&third).await, ["192.0.2.1"]);
}
