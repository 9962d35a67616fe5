//! Volumes in temporary folders.

use std::sync::Mutex;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::*;
use crate::cluster::{Data, Token};
use crate::spec::env::Reference;

/// Notes mounts and makes none.
#[derive(Default)]
struct NoMounts(Mutex<Vec<PathBuf>>);

impl Mounter for NoMounts {
    fn is_mounted(&self, path: &Path) -> std::io::Result<bool> {
        Ok(self.0.lock().expect("no panic").iter().any(|mounted| mounted == path))
    }

    fn mount_tmpfs(&self, path: &Path, _: Option<i64>) -> std::io::Result<()> {
        self.0.lock().expect("no panic").push(path.to_owned());
        Ok(())
    }

    fn bind(&self, _: &Path, to: &Path) -> std::io::Result<()> {
        self.0.lock().expect("no panic").push(to.to_owned());
        Ok(())
    }

    fn unmount_below(&self, path: &Path) -> std::io::Result<()> {
        self.0.lock().expect("no panic").retain(|mounted| !mounted.starts_with(path));
        Ok(())
    }
}

/// Has the ConfigMap `m`, and gives a new token every time, valid for 1000 s from the epoch on.
#[derive(Default)]
struct Objects(Mutex<i64>);

#[async_trait]
impl Cluster for Objects {
    async fn patch_status(&self, _: &Pod, _: &Value) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    async fn delete_pod(&self, _: &Pod) -> Result<(), Error> {
        Ok(())
    }

    async fn contents(&self, _: &Pod, reference: &Reference) -> Result<Option<Arc<Data>>, Error> {
        let data = Data::from([("k".to_owned(), b"v".to_vec()), ("l".to_owned(), b"w".to_vec())]);
        Ok((*reference == Reference::ConfigMap("m".into())).then(|| Arc::new(data)))
    }

    async fn token(&self, _: &Pod, audience: Option<&str>, _: Option<i64>) -> Result<Token, Error> {
        let mut count = self.0.lock().expect("no panic");
        *count += 1;
        let text = format!("{}-{count}", audience.unwrap_or("api"));
        Ok(Token { text, expires: Timestamp::from_second(1000 * *count).expect("a time") })
    }

    async fn services(&self) -> Result<Vec<Arc<Service>>, Error> {
        Ok(Vec::new())
    }

    fn forget(&self, _: &Pod) {}
}

struct Case {
    root: tempfile::TempDir,
    mounter: Arc<NoMounts>,
    sources: Sources,
    cluster: Objects,
}

impl Case {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        Self { root, mounter: Arc::default(), sources: Sources::default(), cluster: Objects::default() }
    }

    fn volumes(&self) -> Volumes {
        Volumes::new(self.root.path(), self.mounter.clone())
    }

    async fn prepare(&mut self, pod: &Pod, second: i64) -> Result<Prepared, Error> {
        let now = Timestamp::from_second(second).expect("a time");
        let facts = PodFacts::default();
        self.volumes().prepare(pod, &facts, &self.cluster, &mut self.sources, now).await
    }
}

fn pod(volumes: Value, mounts: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "web", "uid": "u", "labels": {"a": "b"}},
        "spec": {"volumes": volumes, "containers": [{"name": "c", "volumeMounts": mounts}]}}))
    .expect("a pod")
}

fn read(prepared: &Prepared, volume: &str, file: &str) -> String {
    std::fs::read_to_string(prepared.paths[volume].join(file)).expect("a file")
}

#[tokio::test]
async fn projected_volume_joins_its_sources_and_renews_its_token() {
    let sources = json!([{"configMap": {"name": "m", "items": [{"key": "k", "path": "sub/k"}]}},
        {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"serviceAccountToken": {"path": "token"}}]);
    let pod = pod(json!([{"name": "p", "projected": {"sources": sources}}]), json!([]));
    let mut case = Case::new();
    let prepared = case.prepare(&pod, 0).await.expect("prepared");
    assert_eq!(read(&prepared, "p", "sub/k"), "v");
    assert_eq!(read(&prepared, "p", "labels"), "a=\"b\"");
    assert_eq!(read(&prepared, "p", "token"), "api-1");
    assert_eq!(prepared.refresh_at.map(|at| at.as_second()), Some(800));
    assert_eq!(case.mounter.0.lock().expect("no panic").len(), 1, "secrets are kept in memory");
    let prepared = case.prepare(&pod, 799).await.expect("prepared");
    assert_eq!(read(&prepared, "p", "token"), "api-1");
    let prepared = case.prepare(&pod, 800).await.expect("prepared");
    assert_eq!(read(&prepared, "p", "token"), "api-2");
}

#[tokio::test]
async fn token_is_the_pods_users_alone() {
    use std::os::unix::fs::MetadataExt;
    let volumes = json!([{"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
        {"configMap": {"name": "m"}}]}}]);
    let mut pod = pod(volumes, json!([]));
    let mut case = Case::new();
    let me = std::fs::metadata(case.root.path()).expect("a folder").uid();
    pod.spec.as_mut().expect("a spec").security_context =
        serde_json::from_value(json!({"runAsUser": me})).expect("a context");
    let prepared = case.prepare(&pod, 0).await.expect("prepared");
    let file = |name: &str| std::fs::metadata(prepared.paths["p"].join(name)).expect("a file");
    assert_eq!((file("token").mode() & 0o777, file("token").uid()), (0o600, me));
    assert_eq!(file("k").mode() & 0o777, 0o644, "what is no token stays as the volume says");
}

#[tokio::test]
async fn missing_object_is_an_error_unless_it_is_optional() {
    let volume =
        |optional: bool| json!([{"name": "s", "secret": {"secretName": "none", "optional": optional}}]);
    let mut case = Case::new();
    let error = case.prepare(&pod(volume(false), json!([])), 0).await.expect_err("no such secret");
    assert_eq!(error.to_string(), "volume \"s\": secret \"none\" not found");
    assert!(case.prepare(&pod(volume(true), json!([])), 0).await.is_ok());
}

#[tokio::test]
async fn mounts_cover_volumes_hosts_and_termination_message() {
    let volumes = json!([{"name": "e", "emptyDir": {}}, {"name": "m", "configMap": {"name": "m"}}]);
    let mounts = json!([{"name": "e", "mountPath": "/data", "readOnly": true},
        {"name": "m", "mountPath": "/k", "subPath": "k"}]);
    let pod = pod(volumes, mounts);
    let mut case = Case::new();
    let prepared = case.prepare(&pod, 0).await.expect("prepared");
    let volumes = case.volumes();
    let hosts = volumes.write_hosts(&pod, "hosts").await.expect("a hosts file");
    let container = &pod.spec.as_ref().expect("a spec").containers[0];
    let same = |text: &str| text.to_owned();
    let list = volumes.mounts(&pod, container, &prepared, same, &hosts, 0).await.expect("mounts");
    let inside: Vec<(&str, bool)> =
        list.iter().map(|mount| (mount.container_path.as_str(), mount.readonly)).collect();
    assert_eq!(
        inside,
        [("/data", true), ("/k", false), ("/etc/hosts", false), ("/dev/termination-log", false)]
    );
    assert!(list[1].host_path.ends_with("volume-subpaths/m/c/1"), "{}", list[1].host_path);
    assert!(list.iter().all(|mount| Path::new(&mount.host_path).exists()));
    volumes.remove("u").await.expect("removed");
    volumes.remove("u").await.expect("removed twice");
    assert!(volumes.known().is_empty());
}

#[tokio::test]
async fn unknown_kind_of_volume_is_refused() {
    let volumes = json!([{"name": "n", "nfs": {"path": "/", "server": "x"}}]);
    let error = Case::new().prepare(&pod(volumes, json!([])), 0).await.expect_err("not supported");
    assert!(error.to_string().contains("not supported"));
}
