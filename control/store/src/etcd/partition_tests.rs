//! Three members in network namespaces, cut off from each other, from the store, or both; needs root and the tier `etcd`.
//!
//! Each member has two links: one to the others and one to the test. So a member can lose the others while the store
//! still reaches it, which is when it must not answer from what it knows.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::cluster_tests::{Cluster, PATIENCE, Place, seen, write};
use super::tests::tier;
use super::{CONNECT, KEEP_ALIVE};
use crate::histories::{self, Load, Recorder, Watched};
use crate::{Expected, ListRequest, Store, StoreError};

/// Set in the process that runs inside the test's own network namespace.
const INSIDE: &str = "SKEP_STORE_PARTITION_TEST";

/// Whether this process is the one inside; starts that one otherwise.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if tier() {
        let status = Command::new("unshare")
            .args(["--net", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("etcd::partition_tests::{test}"), "--nocapture", "--test-threads=1"])
            .env(INSIDE, "yes")
            .status()
            .unwrap();
        assert!(status.success(), "{test} inside the namespace: {status}");
    }
    false
}

/// Longest time until a member that is cut off is no longer asked: it is asked whether it is there, does not answer in
/// time, and cannot be connected to. etcd takes offence if it is asked more often.
const FOUND_OUT: Duration = KEEP_ALIVE.0.saturating_add(KEEP_ALIVE.1).saturating_add(CONNECT);

fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}

/// Network namespaces of three members on two bridges, which are in the namespace of the test.
struct Networks {
    holders: Vec<Child>,
}

/// The links of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// To the test.
    Client,
    /// To the other members.
    Peer,
}

impl Link {
    fn name(self, member: usize) -> String {
        match self {
            Self::Client => format!("client{member}"),
            Self::Peer => format!("peer{member}"),
        }
    }

    fn address(self, member: usize) -> String {
        match self {
            Self::Client => format!("10.0.1.{}", member + 1),
            Self::Peer => format!("10.0.2.{}", member + 1),
        }
    }
}

impl Networks {
    fn make() -> Self {
        sh("ip link set lo up; for b in clients peers; do ip link add $b type bridge; ip link set $b up; done
            ip addr add 10.0.1.254/24 dev clients");
        let mut networks = Self { holders: Vec::new() };
        for member in 0..3 {
            let holder = Command::new("unshare")
                .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            networks.holders.push(holder);
            let holder = networks.holders.last_mut().unwrap();
            let mut ready = String::new();
            std::io::BufRead::read_line(
                &mut std::io::BufReader::new(holder.stdout.take().unwrap()),
                &mut ready,
            )
            .unwrap();
            let pid = holder.id();
            sh(&format!("nsenter -t {pid} -n ip link set lo up"));
            for (link, bridge) in [(Link::Client, "clients"), (Link::Peer, "peers")] {
                let (name, address) = (link.name(member), link.address(member));
                sh(&format!(
                    "ip link add {name} type veth peer name {bridge} netns {pid}
                    ip link set {name} master {bridge} up
                    nsenter -t {pid} -n ip addr add {address}/24 dev {bridge}
                    nsenter -t {pid} -n ip link set {bridge} up"
                ));
            }
        }
        networks
    }

    fn places(&self, folder: &TempDir) -> Vec<Place> {
        let place = |(member, holder): (usize, &Child)| Place {
            client: format!("{}:2379", Link::Client.address(member)),
            peer: format!("{}:2380", Link::Peer.address(member)),
            data: folder.path().join(member.to_string()),
            network: Some(holder.id()),
        };
        self.holders.iter().enumerate().map(place).collect()
    }

    /// Pulls a plug: what is sent gets lost, and nobody is told.
    fn cut(&self, member: usize, links: &[Link]) {
        links.iter().for_each(|link| sh(&format!("ip link set {} down", link.name(member))));
    }

    fn mend(&self, member: usize, links: &[Link]) {
        links.iter().for_each(|link| sh(&format!("ip link set {} up", link.name(member))));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

fn start() -> (Networks, Cluster) {
    let networks = Networks::make();
    let folder = tempfile::tempdir().unwrap();
    let places = networks.places(&folder);
    let cluster = Cluster::start_at(places, folder);
    (networks, cluster)
}

/// Clients at work while the leader loses `links` for some seconds: the record is linearizable, and meanwhile others
/// have gone on.
async fn leader_loses(links: &'static [Link], seed: u64) {
    let (networks, cluster) = start();
    // Two control planes.
    let stores: [Arc<dyn Store>; 2] = [Arc::new(cluster.store().await), Arc::new(cluster.store().await)];
    let before = stores[0].current_revision().await.unwrap();
    let live = Watched::start(&*stores[1], before).await;
    let recorder = Arc::new(Recorder::kept());
    let load = |seed| Load { clients: 3, keys: 3, each: 250, pause: Duration::from_millis(10), seed };
    let work = [(&stores[0], seed), (&stores[1], seed + 100)]
        .map(|(store, seed)| tokio::spawn(histories::run(store.clone(), recorder.clone(), load(seed))));
    sleep(Duration::from_millis(300)).await;
    let leader = cluster.leader().await;
    networks.cut(leader, links);
    let cut = stores[0].list(ListRequest::default()).await.unwrap().revision;
    // A member that is silent is found out by keep-alive questions; until then writes that were sent to it wait.
    let begun = Instant::now();
    while stores[0].current_revision().await.unwrap().0 < cut.0 + 10 {
        assert!(begun.elapsed() < FOUND_OUT, "the other members go on");
        sleep(Duration::from_millis(100)).await;
    }
    println!("writes went on {:?} after the cut", begun.elapsed());
    sleep(Duration::from_secs(2)).await;
    networks.mend(leader, links);
    for clients in work {
        clients.await.unwrap();
    }
    let operations = histories::operations(&recorder.lines());
    histories::judge(&*stores[0], &operations, live, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_a_leader_that_lost_the_others_is_linearizable() {
    if inside("recorded_history_over_a_leader_that_lost_the_others_is_linearizable") {
        leader_loses(&[Link::Peer], 20).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn recorded_history_over_a_leader_that_is_cut_off_is_linearizable() {
    if inside("recorded_history_over_a_leader_that_is_cut_off_is_linearizable") {
        leader_loses(&[Link::Peer, Link::Client], 30).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorum_lost_to_the_network_refuses_in_time_and_comes_back_without_a_gap() {
    if !inside("quorum_lost_to_the_network_refuses_in_time_and_comes_back_without_a_gap") {
        return;
    }
    let (networks, cluster) = start();
    let store = cluster.store().await;
    let mut watch = store.watch("/r/", store.current_revision().await.unwrap()).await.unwrap();
    let (mut acknowledged, mut tried) = (Vec::new(), 0);
    for _ in 0..20 {
        write(&store, &mut acknowledged, &mut tried).await;
    }
    // Every member is alone, and all of them are within reach.
    (0..3).for_each(|member| networks.cut(member, &[Link::Peer]));
    sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let begun = Instant::now();
        let refused = store.put("/r/alone", Bytes::new(), Expected::Absent, None).await;
        assert!(matches!(refused, Err(StoreError::Backend { .. })), "{refused:?}");
        assert!(store.current_revision().await.is_err(), "nobody knows where all stand");
        assert!(begun.elapsed() < PATIENCE, "it says so in time: {:?}", begun.elapsed());
    }
    (0..3).for_each(|member| networks.mend(member, &[Link::Peer]));
    for _ in 0..20 {
        write(&store, &mut acknowledged, &mut tried).await;
    }
    let events = seen(&mut watch, acknowledged.last().unwrap().1).await;
    assert!(events.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order, and once");
    for written in &acknowledged {
        assert!(events.contains(written), "{written:?} was acknowledged and is seen");
    }
}
