//! Host ports: which pods have them, where they answer, and that they come and go with the pod.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use skep_abi::backend::{STATE_ACTIVE, STATE_GONE};
use skep_maps::Dataplane;
use skep_maps::fake::FakeDataplane;
use skep_maps::suite::reachable;

use super::node;
use crate::engine::Engine;
use crate::host_ports::{HostPod, host_addresses, host_pods};

const NOW: Duration = Duration::ZERO;

/// A running pod with these addresses and container ports.
fn pod(name: &str, addresses: &[&str], ports: Value) -> Pod {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let object = json!({
        "metadata": { "namespace": "default", "name": name, "uid": format!("uid-{name}"),
            "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "containers": [{ "name": "c", "ports": ports }] },
        "status": { "phase": "Running", "podIP": addresses.first(), "podIPs": ips },
    });
    serde_json::from_value(object).unwrap()
}

/// The node's addresses of these tests.
fn addresses() -> BTreeSet<IpAddr> {
    ["192.0.2.11", "198.51.100.11", "2001:db8::11"].iter().map(|text| text.parse().unwrap()).collect()
}

/// An engine of a cluster without services.
fn engine(dataplane: &Arc<FakeDataplane>) -> Engine {
    let mut engine = Engine::new(dataplane.clone(), node());
    engine.await_host_pods();
    engine.set_host_addresses(addresses());
    engine.on_service(Event::Init);
    engine.on_service(Event::InitDone);
    engine.on_slice(Event::Init);
    engine.on_slice(Event::InitDone);
    engine
}

/// What is reached where: "frontend -> backends".
fn shown(dataplane: &FakeDataplane) -> Vec<String> {
    let found = reachable(dataplane);
    found.iter().map(|(frontend, backends)| format!("{frontend} -> {}", backends.join(" "))).collect()
}

/// Everything that `pods` have after one sync.
fn check(pods: &[Pod], expected: &[&str]) {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    engine.set_host_pods(host_pods(pods.iter()));
    engine.sync(NOW).unwrap();
    assert_eq!(shown(&dataplane), expected);
}

#[test]
fn host_port_without_host_ip_answers_at_every_address_of_the_pods_families() {
    let ports = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    check(
        &[pod("a", &["10.0.0.1"], ports.clone())],
        &[
            "127.0.0.1:8080/TCP internal -> 10.0.0.1 80",
            "192.0.2.11:8080/TCP external -> 10.0.0.1 80",
            "192.0.2.11:8080/TCP internal -> 10.0.0.1 80",
            "198.51.100.11:8080/TCP external -> 10.0.0.1 80",
            "198.51.100.11:8080/TCP internal -> 10.0.0.1 80",
        ],
    );
    check(
        &[pod("a", &["fd00::1"], ports)],
        &[
            "[::1]:8080/TCP internal -> fd00::1 80",
            "[2001:db8::11]:8080/TCP external -> fd00::1 80",
            "[2001:db8::11]:8080/TCP internal -> fd00::1 80",
        ],
    );
}

#[test]
fn host_port_at_one_address_leaves_the_others_to_other_pods() {
    let at = |ip: &str, protocol: &str| json!([{ "containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol }]);
    check(
        &[
            pod("a", &["10.0.0.1"], at("127.0.0.1", "TCP")),
            pod("b", &["10.0.0.2"], at("192.0.2.11", "TCP")),
            pod("c", &["10.0.0.3"], at("192.0.2.11", "UDP")),
        ],
        &[
            "127.0.0.1:8080/TCP internal -> 10.0.0.1 80",
            "192.0.2.11:8080/TCP external -> 10.0.0.2 80",
            "192.0.2.11:8080/TCP internal -> 10.0.0.2 80",
            "192.0.2.11:8080/UDP external -> 10.0.0.3 80",
            "192.0.2.11:8080/UDP internal -> 10.0.0.3 80",
        ],
    );
}

#[test]
fn host_port_at_an_address_of_another_family_or_another_machine_gives_nothing() {
    for ip in ["10.96.0.1", "203.0.113.1", "2001:db8::11", "::", "nonsense"] {
        check(
            &[pod("a", &["10.0.0.1"], json!([{ "containerPort": 80, "hostPort": 8080, "hostIP": ip }]))],
            &[],
        );
    }
}

#[test]
fn pod_that_ended_or_is_on_the_nodes_network_or_has_no_address_gives_nothing() {
    let ports = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    let there = pod("a", &["10.0.0.1"], ports.clone());
    assert!(HostPod::from_api(&there).is_some());
    let changed = |pointer: &str, value: Value| {
        let mut object = serde_json::to_value(&there).unwrap();
        *object.pointer_mut(pointer).unwrap() = value;
        HostPod::from_api(&serde_json::from_value(object).unwrap())
    };
    assert_eq!(changed("/status/phase", json!("Succeeded")), None);
    assert_eq!(changed("/status/phase", json!("Failed")), None);
    assert_eq!(
        changed(
            "/spec",
            json!({ "hostNetwork": true, "containers": there.spec.clone().unwrap().containers })
        ),
        None
    );
    assert_eq!(changed("/spec/containers/0/ports/0/hostPort", json!(0)), None);
    assert_eq!(HostPod::from_api(&pod("a", &[], ports.clone())), None);
    // A sidecar's port counts, another init container's does not.
    let init = |policy: Value| {
        let container = json!({ "name": "i", "restartPolicy": policy, "ports": ports });
        changed("/spec", json!({ "initContainers": [container], "containers": [{ "name": "c" }] }))
    };
    assert!(init(json!("Always")).is_some());
    assert_eq!(init(Value::Null), None);
}

#[test]
fn host_addresses_leave_link_local_loopback_and_reserved_out() {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    let found = host_addresses(
        &parse(&["192.0.2.11"]),
        &parse(&["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "192.0.2.11", "198.51.100.11", "10.96.0.10"]),
        &parse(&["10.96.0.10"]),
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), parse(&["192.0.2.11", "198.51.100.11"]));
}

#[test]
fn sync_before_the_pods_are_known_writes_nothing() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let pods = [pod("a", &["10.0.0.1"], json!([{ "containerPort": 80, "hostPort": 8080 }]))];
    let mut first = engine(&dataplane);
    first.set_host_pods(host_pods(pods.iter()));
    first.sync(NOW).unwrap();
    let before = dataplane.services().unwrap();
    // The next agent must not take away what it does not know yet.
    let mut second = engine(&dataplane);
    assert_eq!(second.sync(NOW).unwrap().written, 0);
    assert_eq!(dataplane.services().unwrap(), before);
    second.set_host_pods(host_pods(pods.iter()));
    second.sync(NOW).unwrap();
    assert_eq!(dataplane.services().unwrap(), before);
    assert!(dataplane.state().applied.last().unwrap().states_after.is_empty());
}

#[test]
fn pod_that_goes_takes_its_ports_and_its_flows_with_it() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    let pods = [pod("a", &["10.0.0.1"], json!([{ "containerPort": 80, "hostPort": 8080 }]))];
    engine.set_host_pods(host_pods(pods.iter()));
    engine.sync(NOW).unwrap();
    let (_, value) = dataplane.services().unwrap()[0];
    let id = dataplane.slots(skep_maps::extents::Extent { start: value.slice, length: 1 })[0].id as usize;
    assert_eq!(dataplane.backend_states()[id].state, STATE_ACTIVE);
    engine.set_host_pods(host_pods([].iter()));
    engine.sync(NOW).unwrap();
    assert_eq!(shown(&dataplane), Vec::<String>::new());
    // Draining would lead old connections to the next pod that has the address.
    assert_eq!(dataplane.backend_states()[id].state, STATE_GONE);
    assert_eq!(engine.sync(NOW).unwrap().written, 0);
}

#[test]
fn pod_whose_port_is_taken_gets_it_when_the_other_goes() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    let ports = json!([{ "containerPort": 80, "hostPort": 8080, "hostIP": "192.0.2.11" }]);
    let (old, new) = (pod("a", &["10.0.0.1"], ports.clone()), pod("b", &["10.0.0.2"], ports));
    engine.set_host_pods(host_pods([old, new.clone()].iter()));
    engine.sync(NOW).unwrap();
    assert!(shown(&dataplane)[0].ends_with("-> 10.0.0.1 80"), "{:?}", shown(&dataplane));
    engine.set_host_pods(host_pods([new].iter()));
    engine.sync(NOW).unwrap();
    assert!(shown(&dataplane)[0].ends_with("-> 10.0.0.2 80"), "{:?}", shown(&dataplane));
}

#[test]
fn pod_that_goes_while_its_ports_are_to_be_planned_again_leaves_nothing() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    let pods = [pod("a", &["10.0.0.1"], json!([{ "containerPort": 80, "hostPort": 8080 }]))];
    engine.set_host_pods(host_pods(pods.iter()));
    engine.sync(NOW).unwrap();
    assert!(!shown(&dataplane).is_empty());
    engine.set_host_addresses(["192.0.2.11".parse().unwrap()].into());
    engine.set_host_pods(host_pods([].iter()));
    engine.sync(NOW).unwrap();
    assert_eq!(shown(&dataplane), Vec::<String>::new());
}
