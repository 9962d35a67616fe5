//! Providers together with a store: rotation, faults, key management services; and values as upstream writes them.

use std::path::Path;

use base64::Engine as _;
use prometheus::Registry;
use skep_store::memory::MemoryStore;
use skep_store::{Expected, ListRequest, Revision, Store};
use tokio_util::sync::CancellationToken;

use super::kms::testing::Fake;
use super::*;
use crate::metrics::hash;
use crate::testing::counted;

const PLACE: &str = "/registry/secrets/default/one";
/// 32 bytes each.
const ONE: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const TWO: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

struct Test {
    directory: tempfile::TempDir,
    store: Arc<MemoryStore>,
    encryption: Arc<Encryption>,
    encrypted: EncryptedStore,
    registry: Registry,
}

fn write(directory: &Path, providers: &str) {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{providers}]\n"
    );
    std::fs::write(directory.join("config.yaml"), text).unwrap();
}

async fn open(directory: tempfile::TempDir, providers: &str) -> Test {
    write(directory.path(), providers);
    let options = EncryptionOptions { path: directory.path().join("config.yaml"), reload: true };
    let registry = Registry::new();
    let encryption = Encryption::open(options, &registry, "here").await.unwrap();
    let store = Arc::new(MemoryStore::new());
    let encrypted = EncryptedStore::new(store.clone(), encryption.clone());
    Test { directory, store, encryption, encrypted, registry }
}

async fn test(providers: &str) -> Test {
    open(tempfile::tempdir().unwrap(), providers).await
}

fn keys(kind: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, key)| format!("{{name: {name}, secret: {key}}}")).collect();
    format!("{{{kind}: {{keys: [{}]}}}}", keys.join(", "))
}

impl Test {
    async fn put(
        &self,
        key: &str,
        value: &str,
        expected: Expected,
    ) -> Result<Revision, skep_store::StoreError> {
        self.encrypted.put(key, value.to_owned().into(), expected, None).await
    }

    async fn stored(&self) -> Vec<u8> {
        self.store.get(PLACE).await.unwrap().0.unwrap().value.to_vec()
    }

    async fn plain(&self) -> String {
        let value = self.encrypted.get(PLACE).await.unwrap().0.unwrap().value;
        String::from_utf8_lossy(&value).into_owned()
    }

    async fn configure(&self, providers: &str) {
        write(self.directory.path(), providers);
        assert!(self.encryption.reload().await.unwrap());
    }
}

#[tokio::test]
async fn every_provider_writes_its_prefix_and_reads_its_values() {
    for kind in ["aesgcm", "aescbc", "secretbox"] {
        let test = test(&keys(kind, &[("key1", ONE)])).await;
        test.put(PLACE, "hunter-two", Expected::Absent).await.unwrap();
        let stored = test.stored().await;
        assert!(stored.starts_with(format!("k8s:enc:{kind}:v1:key1:").as_bytes()), "{kind}");
        assert!(!stored.windows(6).any(|bytes| bytes == b"hunter"), "{kind}");
        assert_eq!(test.plain().await, "hunter-two");
    }
}

#[tokio::test]
async fn resource_without_rule_stays_plain() {
    let test = test(&keys("aesgcm", &[("key1", ONE)])).await;
    test.put("/registry/configmaps/default/one", "open", Expected::Absent).await.unwrap();
    assert_eq!(test.store.get("/registry/configmaps/default/one").await.unwrap().0.unwrap().value, "open");
}

#[tokio::test]
async fn rotation_reads_old_values_and_says_that_they_are_stale() {
    let test = test("{identity: {}}").await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    assert!(!test.encrypted.is_stale(PLACE).await.unwrap());
    let steps = [
        format!("{}, {{identity: {{}}}}", keys("aesgcm", &[("key1", ONE)])),
        keys("aesgcm", &[("key2", TWO), ("key1", ONE)]),
        format!("{}, {}", keys("secretbox", &[("key1", ONE)]), keys("aesgcm", &[("key2", TWO)])),
        format!("{{identity: {{}}}}, {}", keys("secretbox", &[("key1", ONE)])),
    ];
    for step in steps {
        test.configure(&step).await;
        assert_eq!(test.plain().await, "value", "{step}");
        assert!(test.encrypted.is_stale(PLACE).await.unwrap(), "{step}");
        let revision = test.store.get(PLACE).await.unwrap().0.unwrap().mod_revision;
        test.put(PLACE, "value", Expected::Revision(revision)).await.unwrap();
        assert!(!test.encrypted.is_stale(PLACE).await.unwrap(), "{step}");
    }
    assert_eq!(test.stored().await, b"value");
}

#[tokio::test]
async fn value_that_cannot_be_opened_is_marked_with_the_reason() {
    let test = test(&keys("aesgcm", &[("key1", ONE)])).await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    for (providers, reason) in [
        (keys("aesgcm", &[("key1", TWO)]), "the stored data cannot be decrypted with this key"),
        (keys("aesgcm", &[("key2", ONE)]), "no matching key was found for the provided AES transformer"),
        (keys("secretbox", &[("key1", ONE)]), "no matching prefix found"),
        ("{identity: {}}".to_owned(), "identity transformer tried to read encrypted data"),
    ] {
        test.configure(&providers).await;
        let listing =
            test.encrypted.list(ListRequest { prefix: "/registry/".into(), ..Default::default() }).await;
        let value = &listing.unwrap().items[0].value;
        assert!(reason_of(value).unwrap().contains(reason), "{providers}: {value:?}");
        assert!(test.encrypted.is_stale(PLACE).await.is_err());
    }
}

#[tokio::test]
async fn conflict_shows_the_plain_value() {
    let test = test(&keys("aescbc", &[("key1", ONE)])).await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    match test.put(PLACE, "other", Expected::Absent).await.unwrap_err() {
        skep_store::StoreError::Conflict { current, .. } => assert_eq!(current.unwrap().value, "value"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn watch_delivers_plain_values() {
    use futures::StreamExt;
    let test = test(&keys("secretbox", &[("key1", ONE)])).await;
    let mut watch = test.encrypted.watch("/registry/", Revision(0)).await.unwrap();
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    match watch.next().await.unwrap().unwrap() {
        skep_store::WatchItem::Events(events) => {
            assert_eq!(events[0].current.as_ref().unwrap().value, "value")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn watch_ends_when_what_was_unreadable_can_be_read() {
    use futures::StreamExt;
    let test = test(&keys("aesgcm", &[("key1", ONE)])).await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    test.configure(&keys("aesgcm", &[("key2", TWO)])).await;
    assert!(reason_of(&test.encrypted.get(PLACE).await.unwrap().0.unwrap().value).is_some());
    let revision = test.store.current_revision().await.unwrap();
    let mut watch = test.encrypted.watch("/registry/", revision).await.unwrap();
    write(test.directory.path(), &keys("aesgcm", &[("key2", TWO), ("key1", ONE)]));
    let tended = test.encrypted.clone();
    let tending = tokio::spawn(async move { tended.tend().await });
    // The file is looked at after a minute, the value tried again after that.
    let ended = loop {
        match watch.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, skep_store::StoreError::Compacted { .. }));
    assert_eq!(test.plain().await, "value");
    tending.abort();
}

#[tokio::test]
async fn changed_file_that_is_not_valid_changes_nothing() {
    let test = test(&keys("aesgcm", &[("key1", ONE)])).await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    write(test.directory.path(), "{rot13: {}}");
    assert!(test.encryption.reload().await.is_err());
    assert_eq!(test.plain().await, "value");
    write(test.directory.path(), &keys("aesgcm", &[("key1", ONE)]));
    assert!(!test.encryption.reload().await.unwrap(), "the file is what it was");
}

async fn with_kms() -> (Test, Fake, CancellationToken) {
    let (directory, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let socket = directory.path().join("kms.sock");
    let fake = Fake::start(&socket, stop.clone());
    let config = format!(
        "{{kms: {{apiVersion: v2, name: k, endpoint: 'unix://{}', timeout: 500ms}}}}",
        socket.display()
    );
    (open(directory, &config).await, fake, stop)
}

#[tokio::test]
async fn kms_seals_seeds_and_never_sees_values() {
    let (test, fake, _stop) = with_kms().await;
    test.put(PLACE, "hunter-two", Expected::Absent).await.unwrap();
    let stored = test.stored().await;
    assert!(stored.starts_with(b"k8s:enc:kms:v2:k:"));
    assert!(!stored.windows(6).any(|bytes| bytes == b"hunter"));
    assert_eq!(
        (test.plain().await.as_str(), fake.0.lock().decrypted),
        ("hunter-two", 0),
        "the seed is remembered"
    );
    // Another server, or this one after a restart, asks once.
    let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload: false };
    let other = Encryption::open(options, &Registry::new(), "here").await.unwrap();
    for _ in 0..3 {
        let opened = other.open_value(PLACE, &test.stored().await.into()).await.unwrap();
        // The other's seed is another, under the same key: that is not stale.
        assert_eq!(opened, ("hunter-two".into(), false));
    }
    assert_eq!(fake.0.lock().decrypted, 1);
    assert!(test.encryption.current.read().health().is_ok());
}

/// What upstream's server stored is read by this one. (That upstream reads what this one stores was seen with its program.)
#[tokio::test]
async fn values_that_upstream_stored_are_read() {
    let (directory, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let socket = directory.path().join("kms.sock");
    let _fake = Fake::start(&socket, stop.clone());
    let kms = format!("{{kms: {{apiVersion: v2, name: kms1, endpoint: 'unix://{}'}}}}", socket.display());
    let own = [("aesgcm", ONE), ("secretbox", ONE), ("aescbc", TWO)];
    let mut providers: Vec<String> = own.iter().map(|(kind, key)| keys(kind, &[("key1", key)])).collect();
    providers.push(kms);
    let test = open(directory, &providers.join(", ")).await;
    let mut read = 0;
    for line in include_str!("upstream_values.txt").lines().filter(|line| !line.starts_with('#')) {
        let (kind, value) = line.split_once(' ').unwrap();
        let place = format!("/registry/secrets/default/up-{kind}");
        let stored = base64::engine::general_purpose::STANDARD.decode(value).unwrap();
        let (plain, _) = test.encryption.open_value(&place, &stored.into()).await.unwrap();
        let secret: serde_json::Value = serde_json::from_slice(&plain).unwrap();
        let password = base64::engine::general_purpose::STANDARD.encode(format!("hunter-up-{kind}"));
        assert_eq!(secret["data"]["password"], password, "{kind}");
        read += 1;
    }
    assert_eq!(read, 4);
}

#[tokio::test]
async fn kms_that_names_another_key_makes_values_stale() {
    let (test, fake, _stop) = with_kms().await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    assert!(!test.encrypted.is_stale(PLACE).await.unwrap());
    fake.0.lock().key_id = "key-2".into();
    // Asked anew by whoever starts now; the running one asks every 20 seconds.
    let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload: false };
    let other = Encryption::open(options, &Registry::new(), "here").await.unwrap();
    assert!(other.open_value(PLACE, &test.stored().await.into()).await.unwrap().1);
}

#[tokio::test]
async fn kms_that_is_not_there_is_told_by_health_and_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "{{kms: {{apiVersion: v2, name: k, endpoint: 'unix://{}/none.sock', timeout: 200ms}}}}",
        directory.path().display()
    );
    let test = open(directory, &config).await;
    let why = test.encryption.current.read().health().unwrap_err();
    assert!(
        why.starts_with("kms-provider-0: failed to perform status section of the healthz check"),
        "{why}"
    );
    // One check for each service; one for all where the file is followed, whose services come and go.
    for (reload, name) in [(false, "kms-provider-0"), (true, "kms-providers")] {
        let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload };
        let other = Encryption::open(options, &Registry::new(), "here").await.unwrap();
        assert_eq!(other.checks(), [(name.to_owned(), false)]);
    }
    let error = test.put(PLACE, "value", Expected::Absent).await.unwrap_err();
    assert_eq!(error.to_string(), "store: encrypt a value");
    assert!(test.store.get(PLACE).await.unwrap().0.is_none());
}

#[tokio::test]
async fn kms_that_is_not_well_says_so() {
    let (test, fake, _stop) = with_kms().await;
    fake.0.lock().healthz = "no quorum".into();
    let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload: false };
    let other = Encryption::open(options, &Registry::new(), "here").await.unwrap();
    assert!(other.current.read().health().unwrap_err().contains("got unexpected healthz status: no quorum"));
}

#[tokio::test]
async fn keys_of_a_service_are_counted_by_the_hash_of_their_names() {
    let (test, fake, _stop) = with_kms().await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    test.plain().await;
    let (key, here) = (hash("key-1"), hash("here"));
    let count = |end: &str, labels: &[&str]| {
        counted(
            &test.registry,
            &format!("apiserver_envelope_encryption_{end}"),
            &[&[&*key, &*here, "k"], labels].concat(),
        )
    };
    let used = "key_id_hash_total";
    assert_eq!((count(used, &["to_storage"]), count(used, &["from_storage"])), (Some(1.0), Some(1.0)));
    assert!(count("key_id_hash_last_timestamp_seconds", &["to_storage"]) > Some(1_700_000_000.0));
    assert!(count("key_id_hash_status_last_timestamp_seconds", &[]) > Some(1_700_000_000.0));
    assert_eq!(
        counted(&test.registry, "apiserver_storage_data_key_generation_duration_seconds", &[]),
        Some(1.0)
    );
    // One that starts now has to have the seed opened, once.
    let registry = Registry::new();
    let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload: false };
    fake.0.lock().key_id = String::new();
    let other = Encryption::open(options, &registry, "there").await.unwrap();
    for _ in 0..2 {
        other.open_value(PLACE, &test.stored().await.into()).await.unwrap();
    }
    assert_eq!(
        counted(&registry, "apiserver_storage_envelope_transformation_cache_misses_total", &[]),
        Some(1.0)
    );
    let invalid = "apiserver_envelope_encryption_invalid_key_id_from_status_total";
    assert_eq!(counted(&registry, invalid, &["k", "empty"]), Some(1.0));
}

#[tokio::test]
async fn failure_of_a_service_is_counted_by_its_code_and_any_other_as_such() {
    let (test, _fake, stop) = with_kms().await;
    test.put(PLACE, "value", Expected::Absent).await.unwrap();
    stop.cancel();
    std::fs::remove_file(test.directory.path().join("kms.sock")).unwrap();
    let registry = Registry::new();
    let options = EncryptionOptions { path: test.directory.path().join("config.yaml"), reload: false };
    let other = Encryption::open(options, &registry, "there").await.unwrap();
    let stored = test.stored().await;
    assert!(other.open_value(PLACE, &stored.clone().into()).await.is_err());
    assert!(other.open_value(PLACE, &stored[..stored.len() - 9].to_vec().into()).await.is_err());
    assert!(other.open_value(PLACE, &"k8s:enc:kms:v2:k:".into()).await.is_err());
    let count = |status: &str| {
        counted(&registry, "apiserver_storage_transformation_operations_total", &["from_storage", status])
    };
    assert_eq!(count("OK"), None);
    assert!(count("Unavailable") >= Some(1.0), "nobody listens");
    assert!(count("unknown-non-grpc") >= Some(1.0), "there is nothing to open");
}

#[tokio::test(start_paused = true)]
async fn file_in_force_is_told_by_its_hash() {
    let test = test(&keys("aesgcm", &[("key1", ONE)])).await;
    let here = hash("here");
    let file = || hash(&std::fs::read_to_string(test.directory.path().join("config.yaml")).unwrap());
    let count = |end: &str, label: &str| {
        counted(&test.registry, &format!("apiserver_encryption_config_controller_{end}"), &[&here, label])
    };
    let first = file();
    assert_eq!(count("last_config_info", &first), Some(1.0));
    let followed = test.encryption.clone();
    let following = tokio::spawn(async move { followed.follow().await });
    tokio::task::yield_now().await;
    write(test.directory.path(), &keys("aesgcm", &[("key2", TWO), ("key1", ONE)]));
    tokio::time::sleep(LOOK + Duration::from_secs(1)).await;
    assert_eq!((count("last_config_info", &first), count("last_config_info", &file())), (None, Some(1.0)));
    assert_eq!(count("automatic_reloads_total", "success"), Some(1.0));
    write(test.directory.path(), "{rot13: {}}");
    tokio::time::sleep(LOOK + Duration::from_secs(1)).await;
    assert_eq!(count("automatic_reloads_total", "failure"), Some(1.0));
    assert!(count("automatic_reload_last_timestamp_seconds", "failure") > Some(1_700_000_000.0));
    following.abort();
}
