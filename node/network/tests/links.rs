//! Links of pods on the real kernel, in network namespaces that the test makes and removes. Tier `kernel`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use nix::sched::{CloneFlags, setns};
use skep_network::attacher::{Attacher, Request};
use skep_network::range::Range;
use skep_network::{Datapath, PodLink};

type DatapathResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A datapath that takes everything.
struct Open;

#[async_trait]
impl Datapath for Open {
    async fn attach(&self, _: &PodLink) -> DatapathResult {
        Ok(())
    }
    async fn detach(&self, _: &[IpAddr]) -> DatapathResult {
        Ok(())
    }
    async fn routes_changed(&self) -> DatapathResult {
        Ok(())
    }
}

/// A network namespace that goes with the test.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("skep-net-{}-{name}", std::process::id());
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Runs `work` on a thread in the namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = std::fs::File::open(self.path()).unwrap();
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.0]).status().ok();
    }
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

fn tier_is_on() -> bool {
    let on =
        std::env::var("SKEP_TEST_TIERS").is_ok_and(|tiers| tiers.split(',').any(|tier| tier == "kernel"));
    if !on {
        println!("skipped: needs tier kernel");
    }
    on
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn request(id: &str, namespace: &Namespace) -> Request {
    Request::new(id.into(), namespace.path(), "eth0".into()).unwrap()
}

/// What the pod answers to a connection from the node.
fn talk(node: &Namespace, pod: &Namespace, address: IpAddr) -> String {
    let listener = pod.inside(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
    });
    let answer = node.inside(|| {
        let mut text = String::new();
        TcpStream::connect(SocketAddr::new(address, port)).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    serving.join().unwrap();
    answer
}

#[test]
fn add_pod_is_reachable_in_both_families_and_delete_leaves_nothing() {
    if !tier_is_on() {
        return;
    }
    let (node, pod) = (Namespace::new("node"), Namespace::new("pod"));
    ip(&["-n", &node.0, "link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    ip(&["-n", &node.0, "addr", "add", "192.0.2.1/24", "dev", "up0"]);
    ip(&["-n", &node.0, "addr", "add", "2001:db8::1/64", "dev", "up0", "nodad"]);
    for end in ["up0", "up1"] {
        ip(&["-n", &node.0, "link", "set", end, "up"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let ranges = [Range::parse("10.244.1.0/24").unwrap(), Range::parse("fd44:0:0:1::/64").unwrap()];

    let link = node.inside(|| {
        runtime().block_on(async {
            let attacher = Attacher::open(folder.path(), "up0", Arc::new(Open)).await.unwrap();
            assert!(attacher.add(&request("a1", &pod)).await.is_err(), "no range is known yet");
            attacher.set_ranges(&ranges).await;
            let link = attacher.add(&request("a1", &pod)).await.unwrap();
            assert_eq!(
                attacher.add(&request("a1", &pod)).await.unwrap(),
                link,
                "the same request, the same answer"
            );
            attacher.check(&request("a1", &pod)).await.unwrap();
            link
        })
    });
    for address in &link.addresses {
        assert_eq!(talk(&node, &pod, *address), "hello", "{address}");
    }

    // A restarted agent knows the link, and gives its addresses to nobody else.
    node.inside(|| {
        runtime().block_on(async {
            let attacher = Attacher::open(folder.path(), "up0", Arc::new(Open)).await.unwrap();
            attacher.set_ranges(&ranges).await;
            attacher.check(&request("a1", &pod)).await.unwrap();
            let other = Namespace::new("other");
            let second = attacher.add(&request("b2", &other)).await.unwrap();
            assert!(second.addresses.iter().all(|address| !link.addresses.contains(address)));
            attacher.delete(&request("b2", &other)).await.unwrap();
            attacher.delete(&request("a1", &pod)).await.unwrap();
            attacher.delete(&request("a1", &pod)).await.unwrap();
            assert!(attacher.check(&request("a1", &pod)).await.is_err());
        });
    });
    let left = Command::new("ip").args(["-n", &node.0, "-o", "link"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&left.stdout).contains("skp"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn add_to_missing_namespace_fails_and_takes_nothing() {
    if !tier_is_on() {
        return;
    }
    let node = Namespace::new("lone");
    ip(&["-n", &node.0, "link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
    let folder = tempfile::tempdir().unwrap();
    node.inside(|| {
        runtime().block_on(async {
            let attacher = Attacher::open(folder.path(), "up0", Arc::new(Open)).await.unwrap();
            attacher.set_ranges(&[Range::parse("10.244.1.0/30").unwrap()]).await;
            let request =
                Request::new("c3".into(), "/run/netns/skep-nonexistent".into(), "eth0".into()).unwrap();
            for _ in 0..5 {
                let error = attacher.add(&request).await.unwrap_err().to_string();
                assert!(error.contains("skep-nonexistent"), "{error}");
            }
        });
    });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
