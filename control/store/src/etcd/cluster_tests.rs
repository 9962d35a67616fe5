//! Three members on loopback ports: members that fail, a majority that is lost and comes back; needs the tier `etcd`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::Client;
use futures::StreamExt;
use tempfile::TempDir;
use tokio::time::Instant;

use super::EtcdStore;
use super::tests::{program, tier};
use crate::{Expected, Revision, Store, StoreError, WatchItem, WatchStream};

pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// Where a member runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `address:port` for clients,
    pub(super) client: String,
    /// and for the other members.
    pub(super) peer: String,
    /// Its data folder.
    pub(super) data: PathBuf,
    /// The process whose network namespace it runs in, if that is not the test's own.
    pub(super) network: Option<u32>,
}

/// Three members.
pub(super) struct Cluster {
    members: Vec<Option<Child>>,
    places: Vec<Place>,
    _folder: TempDir,
}

impl Cluster {
    /// On loopback ports.
    pub(super) fn start() -> Self {
        Self::start_on(|folder, member| folder.join(member.to_string()))
    }

    /// On loopback ports, with data folders of the caller's choice.
    pub(super) fn start_on(data: impl Fn(&Path, usize) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..3).map(|_| [free(), free()]).collect();
        let place = |(member, [client, peer]): (usize, &[TcpListener; 2])| Place {
            client: client.local_addr().unwrap().to_string(),
            peer: peer.local_addr().unwrap().to_string(),
            data: data(folder.path(), member),
            network: None,
        };
        let places = held.iter().enumerate().map(place).collect();
        drop(held);
        Self::start_at(places, folder)
    }

    /// In three places; `folder` goes with the cluster.
    pub(super) fn start_at(places: Vec<Place>, folder: TempDir) -> Self {
        let mut cluster = Self { members: vec![None, None, None], places, _folder: folder };
        (0..3).for_each(|member| cluster.revive(member));
        cluster
    }

    pub(super) fn revive(&mut self, member: usize) {
        let place = &self.places[member];
        let (client, peer) = (format!("http://{}", place.client), format!("http://{}", place.peer));
        let all: Vec<String> = self
            .places
            .iter()
            .enumerate()
            .map(|(one, place)| format!("m{one}=http://{}", place.peer))
            .collect();
        let mut command = match place.network {
            None => Command::new(program()),
            Some(holder) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &holder.to_string(), "-n"]).arg(program());
                command
            }
        };
        let child = command
            .args(["--name", &format!("m{member}"), "--data-dir"])
            .arg(&place.data)
            .args(["--logger=zap", "--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--heartbeat-interval=50", "--election-timeout=500"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed where its tier is asked for");
        self.members[member] = Some(child);
    }

    pub(super) fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops a member without ending it, as a machine that hangs: its connections stay open and nothing is said on them.
    pub(super) fn freeze(&self, member: usize) {
        self.signal(member, "-STOP");
    }

    /// Lets a member go on, which does not know what has happened meanwhile.
    pub(super) fn thaw(&self, member: usize) {
        self.signal(member, "-CONT");
    }

    fn signal(&self, member: usize, signal: &str) {
        let child = self.members[member].as_ref().expect("the member runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn endpoints(&self) -> Vec<String> {
        self.places.iter().map(|place| format!("http://{}", place.client)).collect()
    }

    pub(super) async fn store(&self) -> EtcdStore {
        let begun = Instant::now();
        loop {
            match EtcdStore::connect(&self.endpoints(), None).await {
                Ok(store) => return store,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) async fn leader(&self) -> usize {
        for (member, endpoint) in self.endpoints().into_iter().enumerate() {
            let mut client = Client::connect([endpoint], None).await.unwrap();
            let status = client.status().await.unwrap();
            if status.leader() == status.header().unwrap().member_id() {
                return member;
            }
        }
        panic!("no member leads");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..3).for_each(|member| self.kill(member));
    }
}

/// Writes keys until one is acknowledged, which must happen in time; a write that fails may or may not have happened.
pub(super) async fn write(store: &EtcdStore, acknowledged: &mut Vec<(String, Revision)>, tried: &mut u32) {
    let begun = Instant::now();
    loop {
        *tried += 1;
        let key = format!("/r/{tried:04}");
        match store.put(&key, Bytes::from_static(b"{}"), Expected::Absent, None).await {
            Ok(revision) => return acknowledged.push((key, revision)),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The next change of the watch up to `upto`.
pub(super) async fn seen(watch: &mut WatchStream, upto: Revision) -> Vec<(String, Revision)> {
    let mut seen: Vec<(String, Revision)> = Vec::new();
    while seen.last().is_none_or(|(_, revision)| *revision < upto) {
        let item = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
        if let WatchItem::Events(events) = item.unwrap().unwrap() {
            seen.extend(events.into_iter().map(|event| (event.key, event.revision)));
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_leader_dies_and_a_majority_goes_and_comes() {
    if !tier() {
        return;
    }
    let mut cluster = Cluster::start();
    let store = cluster.store().await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    let (mut acknowledged, mut tried) = (Vec::new(), 0);
    for _ in 0..20 {
        write(&store, &mut acknowledged, &mut tried).await;
    }

    let leader = cluster.leader().await;
    cluster.kill(leader);
    for _ in 0..20 {
        write(&store, &mut acknowledged, &mut tried).await;
    }

    let second = (leader + 1) % 3;
    cluster.kill(second);
    let begun = Instant::now();
    let refused = store.put("/r/alone", Bytes::new(), Expected::Absent, None).await;
    assert!(matches!(refused, Err(StoreError::Backend { .. })), "{refused:?}");
    assert!(store.current_revision().await.is_err(), "one of three does not know where all stand");
    assert!(begun.elapsed() < PATIENCE, "it says so in time: {:?}", begun.elapsed());

    cluster.revive(leader);
    cluster.revive(second);
    for _ in 0..20 {
        write(&store, &mut acknowledged, &mut tried).await;
    }
    let last = acknowledged.last().unwrap().1;
    let events = seen(&mut watch, last).await;
    assert!(events.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order, and once");
    for written in &acknowledged {
        assert!(events.contains(written), "{written:?} was acknowledged and is seen");
    }
    let there = store.list(crate::ListRequest { prefix: "/r/".into(), ..Default::default() }).await.unwrap();
    let there: Vec<_> = there.items.into_iter().map(|kv| (kv.key, kv.mod_revision)).collect();
    assert!(acknowledged.iter().all(|written| there.contains(written)), "and is there");
}
