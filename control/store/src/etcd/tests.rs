//! Against a real etcd on loopback ports; needs the tier `etcd`. `SKEP_TEST_ETCD` names the program, if it is not the one
//! on the path: so other versions are tested.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::Client;
use futures::StreamExt;
use tempfile::TempDir;

use super::EtcdStore;
use crate::{Event, Expected, ListRequest, Revision, Store, StoreError, WatchItem, WatchStream, suite};

pub(super) struct Etcd {
    process: Child,
    folder: TempDir,
    ports: [u16; 2],
    scheme: &'static str,
    flags: Vec<String>,
}

impl Etcd {
    pub(super) fn start() -> Self {
        Self::start_with("http", &[])
    }

    /// Starts it with clients that come by `scheme`, and with further flags.
    pub(super) fn start_with(scheme: &'static str, flags: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let held = [free(), free()];
        let ports = held.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(held);
        let flags = flags.to_vec();
        Self { process: spawn(folder.path(), ports, scheme, &flags), folder, ports, scheme, flags }
    }

    pub(super) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.folder.path(), self.ports, self.scheme, &self.flags);
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        vec![format!("{}://127.0.0.1:{}", self.scheme, self.ports[0])]
    }

    pub(super) async fn store(&self) -> EtcdStore {
        EtcdStore::connect(&self.endpoints(), None).await.unwrap()
    }

    pub(super) async fn client(&self) -> Client {
        Client::connect(self.endpoints(), None).await.unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts etcd and waits until it says that it serves.
fn spawn(folder: &Path, [client, peer]: [u16; 2], scheme: &str, flags: &[String]) -> Child {
    let (client, peer) = (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut process = Command::new(program())
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--logger=zap", "--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcd is installed where its tier is asked for");
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let ready = lines.by_ref().any(|line| line.unwrap().contains("serving client traffic"));
    assert!(ready, "etcd ended before it was ready");
    std::thread::spawn(move || lines.for_each(drop));
    process
}

/// The etcd that is tested against: the one that is installed, or the one that `SKEP_TEST_ETCD` names, of another version.
pub(super) fn program() -> OsString {
    std::env::var_os("SKEP_TEST_ETCD").unwrap_or_else(|| "etcd".into())
}

/// Whether the tier was asked for; says so if not.
pub(super) fn tier() -> bool {
    let tiers = std::env::var("SKEP_TEST_TIERS").unwrap_or_default();
    let asked = tiers.split([',', ' ']).any(|tier| tier == "etcd");
    if !asked {
        println!("skipped: needs tier etcd");
    }
    asked
}

pub(super) async fn events(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        if let WatchItem::Events(more) = item.unwrap().unwrap() {
            events.extend(more);
        }
    }
    events
}

pub(super) fn keys(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.key.as_str()).collect()
}

pub(super) async fn create(store: &EtcdStore, key: &str) -> Revision {
    store.put(key, Bytes::from_static(b"{}"), Expected::Absent, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_passes_the_suite() {
    if tier() {
        let etcd = Etcd::start();
        suite::run(Arc::new(etcd.store().await)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_goes_on_after_etcd_restarts() {
    if !tier() {
        return;
    }
    let mut etcd = Etcd::start();
    let store = etcd.store().await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    create(&store, "/r/a").await;
    assert_eq!(keys(&events(&mut watch, 1).await), ["/r/a"]);
    etcd.restart();
    // What happens before the watch is back is not missed.
    etcd.client().await.put("/r/b", "{}", None).await.unwrap();
    assert_eq!(keys(&events(&mut watch, 1).await), ["/r/b"]);
    create(&store, "/r/c").await;
    assert_eq!(keys(&events(&mut watch, 1).await), ["/r/c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_on_one_etcd_are_one_store() {
    if !tier() {
        return;
    }
    let etcd = Etcd::start();
    let (one, other) = (etcd.store().await, etcd.store().await);
    let before = one.current_revision().await.unwrap();
    let mut watch = other.watch("/r/", before).await.unwrap();
    let made = create(&one, "/r/a").await;
    assert_eq!(events(&mut watch, 1).await[0].revision, made);
    let refused = other.put("/r/a", Bytes::new(), Expected::Absent, None).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })));
    // A store that connects later reads from etcd's history what its own feed never held.
    let late = etcd.store().await;
    assert_eq!(events(&mut late.watch("/r/", before).await.unwrap(), 1).await[0].revision, made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_are_progress_and_nothing_else() {
    if !tier() {
        return;
    }
    let etcd = Etcd::start();
    let store = etcd.store().await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    let put = etcd.client().await.put(vec![0xff, 0xfe], "x", None).await.unwrap();
    let revision = Revision(put.header().unwrap().revision() as u64);
    assert_eq!(watch.next().await.unwrap().unwrap(), WatchItem::Progress(revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_with_the_same_time_to_live_share_a_lease() {
    if !tier() {
        return;
    }
    let etcd = Etcd::start();
    let store = etcd.store().await;
    for number in 0..5 {
        let ttl = Some(Duration::from_secs(3600));
        store.put(&format!("/r/{number}"), Bytes::new(), Expected::Absent, ttl).await.unwrap();
    }
    assert_eq!(etcd.client().await.leases().await.unwrap().leases().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_of_many_pages_is_whole() {
    if !tier() {
        return;
    }
    let etcd = Etcd::start();
    let store = etcd.store().await;
    for number in 0..super::PAGE + 7 {
        create(&store, &format!("/r/{number:04}")).await;
    }
    let all = store.list(ListRequest { prefix: "/r/".into(), ..Default::default() }).await.unwrap();
    assert_eq!((all.items.len(), all.remaining), (super::PAGE + 7, 0));
    let request = ListRequest { prefix: "/r/".into(), limit: super::PAGE + 2, ..Default::default() };
    let most = store.list(request).await.unwrap();
    assert_eq!((most.items.len(), most.remaining), (super::PAGE + 2, 5));
    assert_eq!(most.items[..], all.items[..super::PAGE + 2]);
}
