//! A store that hangs or makes handlers panic, and clients that send slowly: what is answered, what is written down, and
//! that nothing is held for longer than it may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::json;
use skep_server::user::UserInfo;
use skep_server::{ServerConfig, in_process};
use skep_store::memory::MemoryStore;
use skep_store::{Expected, KeyValue, ListRequest, Listing, Revision, Store, StoreError, WatchStream};
use tower::ServiceExt;

use crate::audit::{audit_to_file, events, stages};
use crate::counters::{metrics, value};
use crate::harness::{Cluster, cluster, cluster_over};

/// So long it takes to lose a race.
const RACE: Duration = Duration::from_millis(5);

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A store in memory, which never answers writes of keys that end in `/hangs`, and panics at those that end in `/panics`.
/// Objects whose keys end in `/raced` are written by somebody else right before each of the next changes.
struct Troubled {
    store: Arc<MemoryStore>,
    races: Arc<AtomicU64>,
}

impl Troubled {
    /// Somebody else is faster.
    async fn race(&self, key: &str) -> Result<(), StoreError> {
        let left = self.races.load(Ordering::SeqCst);
        if left > 0
            && let Some(found) = self.store.get(key).await?.0
        {
            self.races.store(left - 1, Ordering::SeqCst);
            self.store.put(key, found.value, Expected::Revision(found.mod_revision), None).await?;
            tokio::time::sleep(RACE).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Troubled {
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        self.store.current_revision().await
    }

    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision), StoreError> {
        self.store.get(key).await
    }

    async fn list(&self, request: ListRequest) -> Result<Listing, StoreError> {
        self.store.list(request).await
    }

    async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: Expected,
        ttl: Option<Duration>,
    ) -> Result<Revision, StoreError> {
        if key.ends_with("/hangs") {
            return std::future::pending().await;
        }
        assert!(!key.ends_with("/panics"), "as the test wants");
        if key.ends_with("/raced") && matches!(expected, Expected::Revision(_)) {
            self.race(key).await?;
        }
        self.store.put(key, value, expected, ttl).await
    }

    async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, StoreError> {
        if key.ends_with("/raced") {
            self.race(key).await?;
        }
        self.store.delete(key, expected).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }

    async fn expiries(&self) -> Result<BTreeMap<String, Duration>, StoreError> {
        self.store.expiries().await
    }
}

async fn troubled() -> Cluster {
    racing(&Arc::default()).await
}

/// A cluster with so many races ahead.
async fn racing(races: &Arc<AtomicU64>) -> Cluster {
    let configure = |config: &mut ServerConfig, directory: &Path| audit_to_file(config, directory);
    cluster_over(&|store| Arc::new(Troubled { store, races: races.clone() }), &configure).await
}

#[tokio::test(start_paused = true)]
async fn unconditional_write_that_loses_races_goes_on_until_it_wins() {
    let races = Arc::default();
    let cluster = racing(&races).await;
    let map = cluster.config_map("raced", json!({ "k": "1" })).await;
    let path = format!("{MAPS}/raced");
    let mut new = map.clone();
    new["data"] = json!({ "k": "2" });
    new["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    races.store(500, Ordering::SeqCst);
    assert_eq!(cluster.put(&path, &new).await.expect(200)["data"]["k"], "2");
    races.store(500, Ordering::SeqCst);
    cluster.patch(&path, "merge", json!({ "data": { "k": "3" } })).await.expect(200);
    races.store(1, Ordering::SeqCst);
    cluster.put(&path, &map).await.failure(409, "Conflict");
    races.store(500, Ordering::SeqCst);
    cluster.delete(&path, json!(null)).await.expect(200);
    assert_eq!(races.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn write_that_never_wins_ends_with_the_time_of_its_request() {
    let races = Arc::default();
    let cluster = racing(&races).await;
    cluster.config_map("raced", json!({})).await;
    races.store(u64::MAX, Ordering::SeqCst);
    let path = format!("{MAPS}/raced?timeout=3s");
    cluster.patch(&path, "merge", json!({ "data": { "k": "1" } })).await.failure(504, "Timeout");
    tokio::time::sleep(10 * RACE).await;
    let left = races.load(Ordering::SeqCst);
    assert!((500..700).contains(&(u64::MAX - left)), "{} attempts", u64::MAX - left);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(races.load(Ordering::SeqCst), left, "nobody goes on for who is gone");
    let ended = ["source=\"rest-handler\"", "status=\"error\""];
    assert_eq!(value(&metrics(&cluster).await, "apiserver_request_post_timeout_total", &ended), 1.0);
}

#[tokio::test(start_paused = true)]
async fn request_that_takes_too_long_is_told_so_and_its_seats_are_free() {
    let cluster = troubled().await;
    let object = |name: &str| json!({ "metadata": { "name": name } });
    let started = tokio::time::Instant::now();
    let answer = cluster.post(&format!("{MAPS}?timeout=3s"), "ConfigMap", object("hangs")).await;
    let message = answer.failure(504, "Timeout");
    let why = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    assert_eq!(message, why);
    assert_eq!(started.elapsed().as_secs(), 3, "as long as the client said");
    let started = tokio::time::Instant::now();
    cluster.post(MAPS, "ConfigMap", object("hangs")).await.failure(504, "Timeout");
    assert_eq!(started.elapsed().as_secs(), 60, "as long as the server says");
    let metrics = String::from_utf8(cluster.get("/metrics").await.bytes.to_vec()).unwrap();
    let mutating = "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0";
    assert!(metrics.contains(mutating), "none is counted as under way");
    let found = events(&cluster, "/configmaps");
    assert_eq!(found.last().unwrap()["responseStatus"]["code"], 504);
}

#[tokio::test(start_paused = true)]
async fn request_that_was_slow_tells_the_audit_log_where_it_was() {
    let races = Arc::default();
    let cluster = racing(&races).await;
    let times = |part: &str| -> Vec<(String, f64)> {
        let event = events(&cluster, part).pop().unwrap();
        assert_eq!(event["stage"], "ResponseComplete");
        let annotations = event["annotations"].as_object().unwrap().iter();
        let told = annotations.filter_map(|(key, value)| {
            let layer = key.strip_prefix("apiserver.latency.k8s.io/")?.to_owned();
            Some((layer, value.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap()))
        });
        told.collect()
    };
    cluster.config_map("raced", json!({})).await;
    assert_eq!(times("/configmaps"), [], "it was fast");
    races.store(300, Ordering::SeqCst);
    let path = format!("{MAPS}/raced?timeout=9s");
    cluster.patch(&path, "merge", json!({ "data": { "k": "1" } })).await.expect(200);
    let told = times("/raced");
    assert_eq!(told.iter().map(|(layer, _)| layer.as_str()).collect::<Vec<_>>(), ["etcd", "total"]);
    assert!(told[0].1 >= 1.5 && told[0].1 <= told[1].1, "{told:?}");
    let object = json!({ "metadata": { "name": "hangs" } });
    cluster.post(&format!("{MAPS}?timeout=3s"), "ConfigMap", object).await.failure(504, "Timeout");
    let told = times("timeout=3s");
    assert!(told.iter().all(|(_, seconds)| (2.9..3.1).contains(seconds)), "it still is there: {told:?}");
    assert_eq!(told.len(), 2);
}

#[tokio::test]
async fn handler_that_panics_is_answered_and_written_down_as_such() {
    let cluster = troubled().await;
    let answer = cluster.post(MAPS, "ConfigMap", json!({ "metadata": { "name": "panics" } })).await;
    answer.failure(500, "InternalError");
    let found = events(&cluster, "/configmaps");
    assert_eq!(stages(&found), ["RequestReceived", "Panic"], "and nothing after it");
    let status = &found[1]["responseStatus"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(500), &json!("InternalError")));
    assert!(status["message"].as_str().unwrap().starts_with("APIServer panic'd"), "{status}");
    // Nobody else is taken along.
    cluster.post(MAPS, "ConfigMap", json!({ "metadata": { "name": "fine" } })).await.expect(201);
}

#[tokio::test(start_paused = true)]
async fn client_that_sends_its_body_slowly_is_not_waited_for() {
    let cluster = cluster().await;
    let beginning = futures::stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{")))]);
    let trickle = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(7)).await;
        Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
    });
    let body = StreamBody::new(Box::pin(futures::StreamExt::chain(beginning, trickle)));
    let request = Request::post(MAPS).header("content-type", "application/json").body(body).unwrap();
    let service = in_process::service(&cluster.server, UserInfo::new("admin", &["system:masters"]));
    let started = tokio::time::Instant::now();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!((response.status().as_u16(), started.elapsed().as_secs()), (504, 60));
}
