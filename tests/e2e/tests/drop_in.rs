//! `skep-node proxy` alone, in place of kube-proxy: every kind of client, the death of the agent, and what it leaves.

use std::time::Duration;

use skep_e2e::alone::{CLIENT_IP, Connection, GATE, HELD, World};
use skep_harness::process::wait_until;

const CLUSTER_IP: &str = "10.96.7.7";
const NODE_PORT: &str = "172.31.99.1:30080";
/// Programs are loaded anew each time, which takes seconds on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service without a selector, and its endpoints: the pods of these numbers.
fn manifests(world: &World, pods: &[usize]) -> String {
    let node = &world.wires.nodes[0];
    let endpoint = |pod: &usize| {
        let address = &node.pods[*pod].address;
        format!("- {{addresses: [{address}], nodeName: {}, conditions: {{ready: true}}}}", node.name)
    };
    let endpoints: Vec<String> = pods.iter().map(endpoint).collect();
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

fn outside(world: &World) -> std::io::Result<Connection> {
    world.connect(NODE_PORT, Duration::from_secs(2))
}

/// The pods that new connections from outside meet, if every one of them meets one.
fn met_from_outside(world: &World) -> std::io::Result<Vec<String>> {
    let mut pods = (0..16)
        .map(|_| {
            let answer = outside(world)?.try_ask("x")?;
            Ok(answer.split(' ').next().unwrap_or_default().to_owned())
        })
        .collect::<std::io::Result<Vec<String>>>()?;
    pods.sort();
    pods.dedup();
    Ok(pods)
}

/// A connection from outside to that pod.
fn outside_to(world: &World, pod: &str) -> Connection {
    let mut all = (0..64).map(|_| outside(world).expect("the NodePort takes connections"));
    all.find_map(|mut connection| connection.ask("who").starts_with(pod).then_some(connection))
        .expect("one of so many meets it")
}

/// ClusterIP from the node, from a pod, from a pod that is its endpoint; a NodePort on localhost from the node alone.
fn check_inside(world: &World) {
    let node = &world.wires.nodes[0];
    let [serves, _, other] = &node.pods[..] else { panic!("three pods") };
    let cluster = format!("/dev/tcp/{CLUSTER_IP}/80");
    for _ in 0..6 {
        let answer = world.shell(0, &serves.name, &cluster).ask("itself");
        assert!(answer.ends_with("itself"), "{answer}");
    }
    let datagram = world.shell(0, &other.name, &format!("/dev/udp/{CLUSTER_IP}/80")).ask("udp");
    assert!(datagram.ends_with("udp"), "{datagram}");
    let local = world.shell(0, &node.name, "/dev/tcp/127.0.0.1/30080").ask("local");
    assert!(local.starts_with(&node.name), "{local}");
    world.serve_own(other, 30080);
    let own = world.shell(0, &other.name, "/dev/tcp/127.0.0.1/30080").ask("mine");
    assert!(own.starts_with("own "), "a pod's localhost is its own: {own}");
}

#[test]
fn proxy_serves_another_networks_pods_survives_kill_and_leaves_nothing() {
    let Some(mut world) = World::make("skep-drop", 1, 3) else { return };
    let node = world.wires.nodes[0].clone();
    let [first, second, third] = &node.pods[..] else { panic!("three pods") };
    world.apply(&manifests(&world, &[0, 1]));
    world.start_proxy(0, &[]);
    wait_until(PATIENCE, || outside(&world).is_ok()).expect("the NodePort answers");

    // NodePort from outside: both pods, who see the client itself.
    let mut from_outside = outside_to(&world, &second.name);
    let answer = from_outside.ask("first");
    assert!(answer.contains(CLIENT_IP) && answer.ends_with("first"), "{answer}");
    let both = [first.name.clone(), second.name.clone()];
    assert_eq!(met_from_outside(&world).expect("all are served"), both);
    assert!(world.datagram(NODE_PORT, "datagram").expect("an answer").ends_with("datagram"));
    let mut from_node = world.shell(0, &node.name, &format!("/dev/tcp/{CLUSTER_IP}/80"));
    assert!(from_node.ask("node").ends_with("node"));
    let mut from_pod = world.shell(0, &third.name, &format!("/dev/tcp/{CLUSTER_IP}/80"));
    let answer = from_pod.ask("pod");
    assert!(answer.contains(&third.address) && answer.ends_with("pod"), "{answer}");
    check_inside(&world);

    // The agent dies: what is connected goes on, and so do new connections.
    world.kill_proxy(0);
    assert!(from_outside.ask("without").ends_with("without"));
    assert!(from_node.ask("without").ends_with("without") && from_pod.ask("without").ends_with("without"));
    assert_eq!(met_from_outside(&world).expect("all are served"), both);
    // While it is away an endpoint goes, which owes a client an answer.
    let mut waiting = outside_to(&world, &first.name);
    waiting.send(HELD);
    let mut idle = outside_to(&world, &first.name);
    world.apply(&manifests(&world, &[1]));
    world.start_proxy(0, &[]);
    wait_until(PATIENCE, || met_from_outside(&world).is_ok_and(|pods| pods == both[1..]))
        .expect("the new agent has the change");
    GATE.wait();
    let answer = waiting.answer().expect("the answer was under way when the endpoint went");
    assert!(answer.starts_with(&first.name) && answer.ends_with(HELD), "{answer}");
    waiting.try_ask("still there?").expect_err("its endpoint is gone");
    idle.try_ask("anyone?").expect_err("its endpoint is gone");
    assert!(from_outside.ask("with").ends_with("with"), "the other endpoint is not");
    let mut kept = outside(&world).expect("the NodePort takes connections");
    assert!(kept.ask("again").starts_with(&second.name));

    // It ends as asked: the datapath stays until it is cleaned up.
    world.stop_proxy(0);
    assert!(kept.ask("stopped").ends_with("stopped"));
    let removed = world.cleanup(0);
    assert!(removed.contains("removed"), "{removed}");
    assert!(outside(&world).is_err(), "the NodePort is gone");
    assert!(
        world.shell(0, &node.name, &format!("/dev/tcp/{CLUSTER_IP}/80")).fails(),
        "the ClusterIP is gone"
    );
    assert_eq!(world.traces(0), Vec::<String>::new());
    assert!(world.cleanup(0).contains("There is no datapath"));
}
