//! Secrets at rest, through the API: what is in the store, rotation by writing again, and keys that are missing.

use std::path::Path;
use std::sync::Arc;

use prometheus::Registry;
use serde_json::{Value, json};
use skep_server::ServerConfig;
use skep_server::encryption::{Encryption, EncryptionOptions};
use skep_store::sqlite::{SqliteOptions, SqliteStore};
use skep_store::{ListRequest, Store};

use crate::harness::{Cluster, cluster_over, cluster_with};

const ONE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const TWO: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// Configures encryption of secrets and of a custom resource.
fn with(config: &mut ServerConfig, directory: &Path, providers: &str) {
    following(config, directory, providers, false);
}

/// The same, by a file that may be followed.
fn following(config: &mut ServerConfig, directory: &Path, providers: &str, reload: bool) {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets, '*.bears.example']\n  providers: [{providers}]\n"
    );
    let path = directory.join("encryption.yaml");
    std::fs::write(&path, text).unwrap();
    let options = EncryptionOptions { path, reload };
    let registry = Registry::new();
    let open = Encryption::open(options, &registry, "here");
    config.encryption = Some(futures::executor::block_on(open).unwrap());
}

fn keys(kind: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, key)| format!("{{name: {name}, secret: {key}}}")).collect();
    format!("{{{kind}: {{keys: [{}]}}}}", keys.join(", "))
}

async fn secret(cluster: &Cluster, name: &str) -> Value {
    let object = json!({ "metadata": { "name": name }, "stringData": { "password": "hunter-two" } });
    cluster.post("/api/v1/namespaces/default/secrets", "Secret", object).await.expect(201)
}

async fn stored(cluster: &Cluster, prefix: &str) -> Vec<Vec<u8>> {
    let request = ListRequest { prefix: prefix.into(), ..ListRequest::default() };
    cluster.store.list(request).await.unwrap().items.iter().map(|item| item.value.to_vec()).collect()
}

fn holds(value: &[u8], text: &str) -> bool {
    value.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

#[tokio::test]
async fn secret_is_not_in_the_store_and_is_read_and_watched_as_written() {
    let cluster =
        cluster_with(&|config, directory| with(config, directory, &keys("aesgcm", &[("k1", ONE)]))).await;
    let mut watch = cluster.watch("/api/v1/secrets?watch=1").await;
    secret(&cluster, "one").await;
    let values = stored(&cluster, "/registry/secrets/").await;
    assert!(values[0].starts_with(b"k8s:enc:aesgcm:v1:k1:"));
    for text in ["hunter", "aHVudGVyLXR3bw==", "password"] {
        assert!(!values.iter().any(|value| holds(value, text)), "{text}");
    }
    let found = cluster.get("/api/v1/namespaces/default/secrets/one").await.expect(200);
    assert_eq!(found["data"]["password"], "aHVudGVyLXR3bw==");
    assert_eq!(watch.next().await.unwrap().1["data"], found["data"]);
    // What no rule covers stays readable for others.
    cluster.config_map("open", json!({ "a": "b" })).await;
    assert!(stored(&cluster, "/registry/configmaps/default/open").await[0].starts_with(b"{"));
}

#[tokio::test]
async fn writing_unchanged_secrets_again_moves_them_to_the_new_key() {
    let cluster = cluster_with(&|config, directory| with(config, directory, "{identity: {}}")).await;
    secret(&cluster, "one").await;
    let providers = format!("{}, {{identity: {{}}}}", keys("secretbox", &[("k2", TWO)]));
    let cluster = cluster.restarted_with(&|config, directory| with(config, directory, &providers)).await;
    assert!(holds(&stored(&cluster, "/registry/secrets/").await[0], "aHVudGVyLXR3bw=="));
    // As `kubectl get secrets -A -o json | kubectl replace -f -`.
    let list = cluster.get("/api/v1/secrets").await.expect(200);
    for mut item in list["items"].as_array().unwrap().clone() {
        item["kind"] = json!("Secret");
        item["apiVersion"] = json!("v1");
        let path =
            format!("/api/v1/namespaces/default/secrets/{}", item["metadata"]["name"].as_str().unwrap());
        cluster.put(&path, &item).await.expect(200);
    }
    let values = stored(&cluster, "/registry/secrets/").await;
    assert!(values.iter().all(|value| value.starts_with(b"k8s:enc:secretbox:v1:k2:")));
    // And once they are there, nothing is written any more.
    let revision = cluster.store.current_revision().await.unwrap();
    let one = cluster.get("/api/v1/namespaces/default/secrets/one").await.expect(200);
    cluster.put("/api/v1/namespaces/default/secrets/one", &one).await.expect(200);
    assert_eq!(cluster.store.current_revision().await.unwrap(), revision);
}

#[tokio::test]
async fn missing_key_fails_reads_of_its_resource_with_the_reason_and_nothing_else() {
    let cluster =
        cluster_with(&|config, directory| with(config, directory, &keys("aesgcm", &[("k1", ONE)]))).await;
    secret(&cluster, "one").await;
    for (providers, reason) in [
        (keys("aesgcm", &[("k1", TWO)]), "the stored data cannot be decrypted with this key"),
        (keys("secretbox", &[("k1", ONE)]), "no matching prefix found"),
        ("{identity: {}}".to_owned(), "identity transformer tried to read encrypted data"),
    ] {
        let other = cluster.restarted_with(&|config, directory| with(config, directory, &providers)).await;
        let key = "unable to transform key \"/registry/secrets/default/one\"";
        for path in ["/api/v1/namespaces/default/secrets/one", "/api/v1/secrets", "/api/v1/secrets?watch=1"] {
            let message = other.get(path).await.failure(500, "InternalError");
            assert!(message.contains(key) && message.contains(reason), "{path}: {message}");
        }
        // The same name cannot be taken, and what is there is not overwritten.
        let object = json!({ "metadata": { "name": "one" } });
        other
            .post("/api/v1/namespaces/default/secrets", "Secret", object)
            .await
            .failure(409, "AlreadyExists");
        other.get("/api/v1/namespaces/kube-system/secrets").await.expect(200);
        other.get("/api/v1/configmaps").await.expect(200);
    }
    let again =
        cluster.restarted_with(&|config, directory| with(config, directory, &keys("aesgcm", &[("k1", ONE)])));
    again.await.get("/api/v1/namespaces/default/secrets/one").await.expect(200);
}

#[tokio::test]
async fn health_names_the_key_management_services() {
    for (reload, code) in [(true, 200), (false, 404)] {
        let configure = |config: &mut ServerConfig, directory: &Path| {
            following(config, directory, "{identity: {}}", reload);
        };
        let cluster = cluster_with(&configure).await;
        assert_eq!(cluster.get("/healthz/kms-providers").await.code, code);
    }
}

#[tokio::test]
async fn secret_is_not_in_the_files_of_the_embedded_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.db");
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path, SqliteOptions::default()).unwrap());
    let configure =
        |config: &mut ServerConfig, own: &Path| with(config, own, &keys("aesgcm", &[("k1", ONE)]));
    let cluster = cluster_over(&|_| store.clone(), &configure).await;
    secret(&cluster, "one").await;
    let patch = json!({ "stringData": { "password": "hunter-three" } });
    cluster.patch("/api/v1/namespaces/default/secrets/one", "merge", patch).await.expect(200);
    cluster.config_map("open", json!({ "a": "seen-by-everybody" })).await;
    let files: Vec<Vec<u8>> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let found = |text: &str| files.iter().any(|file| holds(file, text));
    assert!(found("seen-by-everybody") && found("k8s:enc:aesgcm:v1:k1:"), "these are the files");
    for text in ["hunter", "aHVudGVyLXR3bw", "aHVudGVyLXRocmVl", "password"] {
        assert!(!found(text), "{text}");
    }
}
