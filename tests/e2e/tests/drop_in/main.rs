//! `skep-node proxy` alone, beside a network that is not ours: pods behind a bridge, as plain CNI plugins make them.
//!
//! Needs no cluster of `cargo xtask up`, only the binaries and the eBPF object: it starts an API server of its own in a
//! network namespace that plays a node, whose pods are namespaces on a bridge and whose endpoints are threads of this
//! process in them. The node's processes are shells in the node's cgroup, as the socket hooks see only those.

mod world;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use skep_harness::process::wait_until;
use world::{CLIENT, CLIENT_IP, NODE, NODE_IP, PODS, World};

const CLUSTER_IP: &str = "10.96.7.7";
const PATIENCE: Duration = Duration::from_secs(20);

/// A service without a selector, and its endpoints: the pods of these numbers.
fn manifests(pods: &[usize]) -> String {
    let endpoints: Vec<String> = pods
        .iter()
        .map(|pod| {
            format!("- {{addresses: [{}], nodeName: {NODE}, conditions: {{ready: true}}}}", PODS[*pod].1)
        })
        .collect();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: default}}
spec:
  type: NodePort
  clusterIP: {CLUSTER_IP}
  ports:
  - {{name: tcp, port: 80, protocol: TCP, nodePort: 30080}}
  - {{name: udp, port: 80, protocol: UDP, nodePort: 30080}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: echo-1, namespace: default, labels: {{kubernetes.io/service-name: echo}}}}
addressType: IPv4
ports: [{{name: tcp, port: 8080, protocol: TCP}}, {{name: udp, port: 8080, protocol: UDP}}]
endpoints:
{}
",
        endpoints.join("\n")
    )
}

/// Connects from outside, which no socket hook sees.
fn outside(world: &World) -> std::io::Result<BufReader<TcpStream>> {
    world.inside(CLIENT, || {
        let to: SocketAddr = format!("{NODE_IP}:30080").parse().expect("an address");
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(BufReader::new(stream))
    })
}

/// Sends a line and gives the answer: the pod, the peer that it saw, and the line.
fn ask(connection: &mut BufReader<TcpStream>, line: &str) -> String {
    connection.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the connection takes a line");
    let mut answer = String::new();
    connection.read_line(&mut answer).expect("the connection answers");
    answer.trim().to_owned()
}

/// The pods that new connections from outside meet.
fn met_from_outside(world: &World) -> Vec<String> {
    let answers = (0..16).filter_map(|_| outside(world).ok().map(|mut connection| ask(&mut connection, "x")));
    let mut pods: Vec<String> =
        answers.filter_map(|answer| Some(answer.split(' ').next()?.to_owned())).collect();
    pods.sort();
    pods.dedup();
    pods
}

#[test]
fn proxy_serves_another_networks_pods_survives_kill_and_leaves_nothing() {
    let Some(mut world) = World::make() else { return };
    world.apply(&manifests(&[0, 1]));
    world.start_proxy();
    wait_until(PATIENCE, || outside(&world).is_ok()).expect("the NodePort answers");

    // NodePort from outside: both pods, who see the client itself.
    let mut from_outside = outside(&world).expect("the NodePort takes connections");
    let answer = ask(&mut from_outside, "first");
    assert!(answer.contains(CLIENT_IP) && answer.ends_with("first"), "{answer}");
    assert_eq!(met_from_outside(&world), [PODS[0].0, PODS[1].0]);
    let datagram = world.inside(CLIENT, || -> std::io::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(b"datagram", format!("{NODE_IP}:30080"))?;
        let mut buffer = [0; 256];
        let (length, from) = socket.recv_from(&mut buffer)?;
        assert_eq!(from.to_string(), format!("{NODE_IP}:30080"));
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    assert!(datagram.expect("an answer").ends_with("datagram"));

    // ClusterIP from the node, from a pod, from a pod that is its endpoint; a NodePort on localhost from the node alone.
    let mut from_node = world.shell(NODE, &format!("/dev/tcp/{CLUSTER_IP}/80"));
    assert!(from_node.ask("node").ends_with("node"));
    let mut from_pod = world.shell(PODS[2].0, &format!("/dev/tcp/{CLUSTER_IP}/80"));
    let answer = from_pod.ask("pod");
    assert!(answer.contains(PODS[2].1) && answer.ends_with("pod"), "{answer}");
    for _ in 0..6 {
        let answer = world.shell(PODS[0].0, &format!("/dev/tcp/{CLUSTER_IP}/80")).ask("itself");
        assert!(answer.ends_with("itself"), "{answer}");
    }
    assert!(world.shell(PODS[2].0, &format!("/dev/udp/{CLUSTER_IP}/80")).ask("udp").ends_with("udp"));
    assert!(world.shell(NODE, "/dev/tcp/127.0.0.1/30080").ask("local").starts_with("pod-"));
    let own = world.shell(PODS[2].0, "/dev/tcp/127.0.0.1/30080").ask("mine");
    assert!(own.starts_with("own "), "a pod's localhost is its own: {own}");

    // The agent dies: what is connected goes on, and so do new connections.
    world.kill_proxy();
    assert!(ask(&mut from_outside, "without").ends_with("without"));
    assert!(from_node.ask("without").ends_with("without") && from_pod.ask("without").ends_with("without"));
    assert_eq!(met_from_outside(&world), [PODS[0].0, PODS[1].0]);
    // While it is away an endpoint goes.
    world.apply(&manifests(&[1]));
    world.start_proxy();
    wait_until(PATIENCE, || met_from_outside(&world) == [PODS[1].0]).expect("the new agent has the change");
    let mut kept = outside(&world).expect("the NodePort takes connections");
    assert!(ask(&mut kept, "again").starts_with(PODS[1].0));

    // It ends as asked: the datapath stays until it is cleaned up.
    world.stop_proxy();
    assert!(ask(&mut kept, "stopped").ends_with("stopped"));
    let removed = world.cleanup();
    assert!(removed.contains("removed"), "{removed}");
    assert!(outside(&world).is_err(), "the NodePort is gone");
    assert!(world.shell(NODE, &format!("/dev/tcp/{CLUSTER_IP}/80")).fails(), "the ClusterIP is gone");
    assert_eq!(world.traces(), Vec::<String>::new());
    assert!(world.cleanup().contains("There is no datapath"));
}
