//! watch: from where, what, until when.

use futures::StreamExt;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use skep_server::in_process;
use skep_server::user::UserInfo;
use skep_store::{Expected, Store};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const INITIAL: &str =
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

#[tokio::test]
async fn watch_from_a_revision_tells_every_change_after_it_once() {
    let cluster = cluster().await;
    let a = cluster.config_map("a", json!({ "k": "1" })).await;
    let after = a["metadata"]["resourceVersion"].as_str().unwrap();
    cluster.patch(&format!("{MAPS}/a"), "merge", json!({ "data": { "k": "2" } })).await.expect(200);
    cluster.config_map("b", json!({})).await;
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1&resourceVersion={after}")).await;
    let (kind, object) = watch.next().await.unwrap();
    assert_eq!((kind.as_str(), &object["data"]["k"]), ("MODIFIED", &json!("2")));
    assert_eq!(watch.name().await, "ADDED b");
    cluster.delete(&format!("{MAPS}/a"), json!(null)).await.expect(200);
    let (kind, gone) = watch.next().await.unwrap();
    assert_eq!((kind.as_str(), &gone["data"]["k"]), ("DELETED", &json!("2")));
    let resumed = gone["metadata"]["resourceVersion"].as_str().unwrap();
    cluster.config_map("c", json!({})).await;
    let mut again = cluster.watch(&format!("{MAPS}?watch=1&resourceVersion={resumed}")).await;
    assert_eq!((watch.name().await, again.name().await), ("ADDED c".into(), "ADDED c".into()));
}

#[tokio::test]
async fn watch_with_initial_events_marks_their_end() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    cluster.config_map("b", json!({})).await;
    let mut watch = cluster.watch(&format!("{MAPS}?{INITIAL}")).await;
    assert_eq!([watch.name().await, watch.name().await], ["ADDED a", "ADDED b"]);
    let (kind, bookmark) = watch.next().await.unwrap();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["kind"], "ConfigMap");
    assert_eq!(bookmark["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let now = cluster.get(MAPS).await.expect(200);
    assert_eq!(bookmark["metadata"]["resourceVersion"], now["metadata"]["resourceVersion"]);
    cluster.config_map("c", json!({})).await;
    assert_eq!(watch.name().await, "ADDED c");
}

#[tokio::test]
async fn watch_without_a_revision_begins_with_what_is_there() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    for query in ["watch=true", "watch=1&resourceVersion=0"] {
        let mut watch = cluster.watch(&format!("{MAPS}?{query}")).await;
        assert_eq!(watch.name().await, "ADDED a", "{query}");
    }
}

#[tokio::test]
async fn watch_through_a_selector_sees_objects_come_and_go() {
    let cluster = cluster().await;
    let path = format!("{MAPS}/a");
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1&labelSelector=tier%3Dweb")).await;
    cluster.config_map("a", json!({ "k": "1" })).await;
    let label = |tier: &str| json!({ "metadata": { "labels": { "tier": tier } } });
    cluster.patch(&path, "merge", label("web")).await.expect(200);
    cluster.patch(&path, "merge", json!({ "data": { "k": "2" } })).await.expect(200);
    let moved = cluster.patch(&path, "merge", label("db")).await.expect(200);
    cluster.delete(&path, json!(null)).await.expect(200);
    cluster.config_map("b", json!({})).await;
    cluster.patch(&format!("{MAPS}/b"), "merge", label("web")).await.expect(200);
    assert_eq!([watch.name().await, watch.name().await], ["ADDED a", "MODIFIED a"]);
    let (kind, last) = watch.next().await.unwrap();
    assert_eq!((kind.as_str(), &last["metadata"]["labels"]["tier"]), ("DELETED", &json!("web")));
    assert_eq!(last["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
    assert_eq!(watch.name().await, "ADDED b");
}

#[tokio::test(start_paused = true)]
async fn watch_that_is_quiet_gets_bookmarks_and_ends_in_time() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let now = cluster.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds=90&resourceVersion={now}");
    let mut watch = cluster.watch(&format!("{MAPS}?{query}")).await;
    // Something happens, but not here: the bookmark moves on all the same.
    let secret = json!({ "metadata": { "name": "s" } });
    let secret = cluster.post("/api/v1/namespaces/default/secrets", "Secret", secret).await.expect(201);
    let (kind, bookmark) = watch.next().await.unwrap();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(bookmark["metadata"]["resourceVersion"], secret["metadata"]["resourceVersion"]);
    assert_eq!(watch.name().await, "BOOKMARK -");
    assert_eq!(watch.name().await, "end");
}

#[tokio::test]
async fn watch_from_before_the_history_is_told_so() {
    let cluster = cluster().await;
    let map = cluster.config_map("a", json!({})).await;
    let cluster = cluster.restarted().await;
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await;
    assert_eq!([watch.name().await, watch.name().await], ["ERROR 410", "end"]);
    let now = map["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1&resourceVersion={now}")).await;
    cluster.config_map("b", json!({})).await;
    assert_eq!(watch.name().await, "ADDED b");
}

#[tokio::test]
async fn watch_ends_when_the_server_stops() {
    let cluster = cluster().await;
    let mut watch = cluster.watch(&format!("{MAPS}?watch=1")).await;
    cluster.server.shut_down();
    assert_eq!(watch.name().await, "end");
    let ready = cluster.get("/readyz").await;
    assert_eq!(ready.code, 500);
    assert!(String::from_utf8_lossy(&ready.bytes).contains("[-]shutdown failed"));
}

#[tokio::test]
async fn watch_as_a_table_or_metadata_has_that_form() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({ "k": "v" })).await;
    let open = |accept: &'static str| {
        let request = http::Request::get(format!("{MAPS}?watch=1&timeoutSeconds=1")).header("accept", accept);
        cluster.send(request.body(http_body_util::Full::default()).unwrap())
    };
    let table = open("application/json;as=Table;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(table["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(table["object"]["columnDefinitions"][0]["name"], "Name");
    let meta = open("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").await.json();
    assert_eq!(meta["object"]["kind"], "PartialObjectMetadata");
    assert!(meta["object"]["data"].is_null());
}

#[tokio::test]
async fn table_of_a_watch_tells_its_columns_once_and_ages_of_now() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let path = format!("{MAPS}?{INITIAL}");
    let mut watch = cluster.watch_as(&path, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let mut next = async || watch.next().await.unwrap();
    let (_, first) = next().await;
    assert_eq!(first["columnDefinitions"][0]["name"], "Name");
    let (kind, mark) = next().await;
    assert_eq!((kind.as_str(), &mark["columnDefinitions"]), ("BOOKMARK", &json!(null)));
    cluster.pass(90);
    cluster.config_map("b", json!({})).await;
    cluster.patch(&format!("{MAPS}/a"), "merge", json!({ "data": { "k": "1" } })).await.expect(200);
    let (_, fresh) = next().await;
    assert_eq!(
        (&fresh["columnDefinitions"], &fresh["rows"][0]["cells"]),
        (&json!(null), &json!(["b", 0, "0s"]))
    );
    let (_, changed) = next().await;
    assert_eq!(changed["rows"][0]["cells"], json!(["a", 1, "90s"]));
}

#[tokio::test]
async fn watcher_that_does_not_read_holds_nobody_up() {
    let cluster = cluster().await;
    let mut slow = cluster.watch(&format!("{MAPS}?watch=1")).await;
    let mut quick = cluster.watch(&format!("{MAPS}?watch=1")).await;
    for n in 0..200 {
        cluster.config_map(&format!("m{n:03}"), json!({})).await;
        assert_eq!(quick.name().await, format!("ADDED m{n:03}"));
    }
    for n in 0..200 {
        assert_eq!(slow.name().await, format!("ADDED m{n:03}"));
    }
}

#[tokio::test]
async fn watcher_that_sleeps_too_long_is_told_so_and_counted() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    let mut slow = cluster.watch(&format!("{MAPS}?watch=1")).await;
    let mut quick = cluster.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!([slow.name().await, quick.name().await], ["ADDED a", "ADDED a"]);
    let key = "/registry/configmaps/default/a";
    let mut last = cluster.store.get(key).await.unwrap().0.unwrap();
    for _ in 0..9000 {
        let expected = Expected::Revision(last.mod_revision);
        last.mod_revision = cluster.store.put(key, last.value.clone(), expected, None).await.unwrap();
        assert_eq!(quick.name().await, "MODIFIED a");
    }
    assert_eq!([slow.name().await, slow.name().await], ["ERROR 410", "end"]);
    let metrics = String::from_utf8(cluster.get("/metrics").await.bytes.to_vec()).unwrap();
    for line in [
        "apiserver_terminated_watchers_total{group=\"\",resource=\"configmaps\"} 1",
        "apiserver_resource_objects{group=\"\",resource=\"configmaps\"} 3",
        "skep_watch_cache_ring_events{group=\"\",resource=\"configmaps\"} 8192",
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line} is not in\n{metrics}");
    }
}

/// A WebSocket to a path of the server, for an administrator: its messages, or the code of the refusal.
async fn websocket(
    cluster: &crate::harness::Cluster,
    path: &str,
) -> Result<impl futures::Stream<Item = Message> + use<>, u16> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let service = in_process::service(&cluster.server, UserInfo::new("admin", &["system:masters"]));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
        .with_upgrades();
    tokio::spawn(connection);
    match tokio_tungstenite::client_async(format!("ws://server{path}"), near).await {
        Ok((socket, _)) => Ok(socket.map(Result::unwrap)),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn watch_over_a_websocket_has_an_event_in_each_message() {
    let cluster = cluster().await;
    cluster.config_map("a", json!({})).await;
    cluster.config_map("b", json!({})).await;
    let mut socket = websocket(&cluster, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await.unwrap();
    for expected in ["a", "b"] {
        let Some(Message::Text(text)) = socket.next().await else { panic!("no text") };
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(expected))
        );
    }
    assert!(matches!(socket.next().await, Some(Message::Close(_))), "it ends with the watch");
    let refused = websocket(&cluster, &format!("{MAPS}?watch=1&resourceVersion=x")).await;
    assert_eq!(refused.map(drop).unwrap_err(), 400);
}
