//! `--external-return=direct` by real agents on two nodes: a client outside reaches every kind of external frontend by one
//! node, its pods are on the other, and they see the client and answer it themselves.

use std::time::Duration;

use skep_e2e::alone::{CLIENT_IP, World};
use skep_harness::process::wait_until;

/// Programs are loaded anew each time, which takes seconds on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
const DIRECT: &[&str] = &["--external-return=direct"];
const EXTERNAL_IP: &str = "203.0.113.7";
const BALANCER_IP: &str = "203.0.113.8";
/// More than fits into one packet, and more than what is ever announced.
const LONG: usize = 20_000;

/// Two services, with the second node's pods as their endpoints: one for both policies of external traffic.
fn manifests(world: &World) -> String {
    let node = &world.wires.nodes[1];
    let endpoint = |address: &String| {
        format!("- {{addresses: [{address}], nodeName: {}, conditions: {{ready: true}}}}", node.name)
    };
    let endpoints: Vec<String> = node.pods.iter().map(|pod| endpoint(&pod.address)).collect();
    let one = |name: &str, policy: &str, node_port: u16, more: &str| {
        format!(
            "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: {policy}
{more}
  ports:
  - {{name: tcp, port: 80, protocol: TCP, nodePort: {node_port}}}
  - {{name: udp, port: 80, protocol: UDP, nodePort: {node_port}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: tcp, port: 8080, protocol: TCP}}, {{name: udp, port: 8080, protocol: UDP}}]
endpoints:
{}
---
",
            endpoints.join("\n")
        )
    };
    one("cluster", "Cluster", 30080, &format!("  externalIPs: [{EXTERNAL_IP}]"))
        + &one("local", "Local", 30081, "")
}

/// Every frontend that leads to the second node by way of the first.
const BY_THE_FIRST: [&str; 3] = ["172.31.99.1:30080", "203.0.113.7:80", "203.0.113.8:80"];
/// Those of the second node itself.
const AT_THE_SECOND: [&str; 2] = ["172.31.99.2:30080", "172.31.99.2:30081"];

/// Each frontend over TCP and UDP: a pod of the second node answers, and has seen the client.
fn check(world: &World) {
    let seen = |answer: &str, line: &str| {
        let pod = answer.split(' ').next().unwrap_or_default();
        let known = world.wires.nodes[1].pods.iter().any(|known| known.name == pod);
        known && answer == format!("{pod} {CLIENT_IP} {line}")
    };
    for to in BY_THE_FIRST.into_iter().chain(AT_THE_SECOND) {
        for _ in 0..4 {
            let mut connection = world.connect(to, PATIENCE).unwrap_or_else(|error| panic!("{to}: {error}"));
            for line in ["short".to_owned(), "l".repeat(LONG), "again".to_owned()] {
                let answer = connection.ask(&line);
                assert!(seen(&answer, &line), "{to}: {}", &answer[..answer.len().min(100)]);
            }
            let answer = world.datagram(to, "datagram").unwrap_or_else(|error| panic!("{to}: {error}"));
            assert!(seen(&answer, "datagram"), "{to}: {answer}");
        }
    }
}

/// Packets that the node of that number has carried to clients.
fn replies(world: &World, number: usize) -> u64 {
    let flows = world.inspect(number, "flows");
    let rows = flows.as_array().expect("a list").iter();
    rows.filter(|row| row["direction"] == "reply").filter_map(|row| row["packets"].as_u64()).sum()
}

#[test]
fn pods_elsewhere_see_their_client_and_answer_it_themselves_at_every_external_frontend() {
    let Some(mut world) = World::make("skep-direct", 2, 2) else { return };
    world.apply(&manifests(&world));
    let status =
        format!("{{\"status\":{{\"loadBalancer\":{{\"ingress\":[{{\"ip\":\"{BALANCER_IP}\"}}]}}}}}}");
    let patch = ["patch", "service", "cluster", "--subresource=status", "--type=merge", "--patch", &status];
    assert!(world.kubectl(&patch, "").is_some());
    for number in 0..2 {
        world.start_proxy(number, DIRECT);
    }
    for to in BY_THE_FIRST.into_iter().chain(AT_THE_SECOND) {
        wait_until(PATIENCE, || world.connect(to, Duration::from_secs(1)).is_ok())
            .unwrap_or_else(|error| panic!("{to}: {error}"));
    }
    check(&world);
    assert_eq!(replies(&world, 0), 0, "nothing comes back by the first node");
    assert!(replies(&world, 1) > 0);
    // Under a Local policy the first node, which has none of its endpoints, drops.
    let elsewhere = world.connect("172.31.99.1:30081", Duration::from_secs(2)).map(drop);
    assert_eq!(elsewhere.map_err(|error| error.kind()), Err(std::io::ErrorKind::TimedOut));

    // Agents that die and come again change nothing for who is connected.
    let mut kept: Vec<_> =
        BY_THE_FIRST.map(|to| world.connect(to, PATIENCE).expect("it is served")).into_iter().collect();
    for number in 0..2 {
        kept.iter_mut().for_each(|connection| drop(connection.ask("before")));
        world.kill_proxy(number);
        kept.iter_mut().for_each(|connection| assert!(connection.ask("without").ends_with("without")));
        check(&world);
        world.start_proxy(number, DIRECT);
        let adopted = || world.inspect(number, "services").as_array().is_some_and(|rows| !rows.is_empty());
        wait_until(PATIENCE, adopted).expect("the tables are there");
        kept.iter_mut().for_each(|connection| assert!(connection.ask("after").ends_with("after")));
        check(&world);
    }
    assert_eq!(replies(&world, 0), 0, "nothing comes back by the first node");
}
