//! The engine over the fake dataplane: what is written when, and what happens when writing fails.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use kube::runtime::watcher::Event;
use serde_json::json;
use skep_maps::fake::FakeDataplane;
use skep_maps::suite::reachable;
use skep_maps::{Dataplane, Difference};
use tokio::sync::watch;

use super::{node, service, slice, spec};
use crate::Health;
use crate::engine::Engine;
use crate::error::ServicesError;
use crate::health::{Check, check};
use crate::metrics::Metrics;
use crate::model;
use crate::node::NodeSettings;
use crate::plan::NodeView;
use crate::run::{Change, Sources, follow};

const NOW: Duration = Duration::ZERO;

fn engine(dataplane: &Arc<FakeDataplane>) -> Engine {
    Engine::new(dataplane.clone(), node())
}

/// What the loop is given beside changes.
fn sources(name: &str, shutdown: watch::Receiver<bool>) -> Sources {
    let node = NodeSettings { name: name.into(), ..NodeSettings::default() };
    Sources {
        node,
        machine: watch::channel(Vec::new()).1,
        host_pods: None,
        health: Health::default(),
        shutdown,
    }
}

#[test]
fn check_counts_ready_addresses_of_this_node_once() {
    let more =
        json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_999 });
    let service = model::Service::from_api(&service("a", spec(&["10.96.0.1"], more))).unwrap();
    let endpoints = ["10.0.0.1 n1", "~10.0.0.2 n1", "!10.0.0.3 n1", "10.0.0.4 n2", "10.0.0.5 n1"];
    let slices = [slice("a", "1", &endpoints), slice("a", "2", &["10.0.0.1 n1"])];
    let slices: Vec<model::Slice> = slices.iter().map(|s| model::Slice::from_api(s).unwrap()).collect();
    assert_eq!(check(&service, slices.iter(), "n1"), Some(Check { port: 30_999, local: 2 }));
    assert_eq!(check(&service, slices.iter(), "n3"), Some(Check { port: 30_999, local: 0 }));
    let cluster = model::Service { external_local: false, ..service };
    assert_eq!(check(&cluster, slices.iter(), "n1"), None);
}

/// Tells the engine of complete lists.
fn list(engine: &mut Engine, services: &[(&str, &str)], slices: &[(&str, &str, &[&str])]) {
    engine.on_service(Event::Init);
    for (name, address) in services {
        engine.on_service(Event::InitApply(service(name, spec(&[address], json!({})))));
    }
    engine.on_service(Event::InitDone);
    engine.on_slice(Event::Init);
    for (name, suffix, endpoints) in slices {
        engine.on_slice(Event::InitApply(slice(name, suffix, endpoints)));
    }
    engine.on_slice(Event::InitDone);
}

/// What the ClusterIP of that address leads to.
fn leads_to(dataplane: &FakeDataplane, address: &str) -> Option<Vec<String>> {
    let address: std::net::IpAddr = address.parse().unwrap();
    reachable(dataplane).into_iter().find(|(frontend, _)| frontend.address == address).map(|(_, list)| list)
}

#[test]
fn sync_before_both_lists_are_complete_writes_nothing() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    engine.on_service(Event::Init);
    engine.on_service(Event::InitApply(service("web", spec(&["10.96.0.7"], json!({})))));
    engine.on_service(Event::InitDone);
    assert_eq!(engine.sync(NOW).unwrap().written, 0);
    engine.on_slice(Event::Init);
    assert_eq!(engine.sync(NOW).unwrap().written, 0);
    engine.on_slice(Event::InitDone);
    assert!(engine.sync(NOW).unwrap().written > 0);
    assert_eq!(leads_to(&dataplane, "10.96.0.7"), Some(vec![]));
}

#[test]
fn sync_many_services_are_written_in_parts() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    let name = |number: u32| (format!("s{number}"), format!("10.{}.{}.1", 96 + number / 256, number % 256));
    let named: Vec<_> = (0..10_000).map(name).collect();
    let services: Vec<_> = named.iter().map(|(name, address)| (&**name, &**address)).collect();
    list(&mut engine, &services, &[("s9999", "1", &["10.0.0.1 n1"])]);
    let outcome = engine.sync(NOW).unwrap();
    assert_eq!((outcome.planned.len(), outcome.refused), (10_000, 0));
    // The node port, which all of them name, goes to one.
    let addresses = |part: &Difference| part.services.keys().filter(|frontend| frontend.port == 80).count();
    let sizes: Vec<_> = dataplane.state().applied.iter().map(addresses).collect();
    assert_eq!(sizes, [4096, 4096, 1808]);
    assert_eq!(outcome.written, dataplane.state().applied.iter().map(Difference::len).sum::<usize>());
    assert_eq!(leads_to(&dataplane, &named[0].1), Some(vec![]));
    assert_eq!(leads_to(&dataplane, &named[9999].1).unwrap(), ["10.0.0.1 8080"]);
    assert_eq!(engine.sync(NOW).unwrap().written, 0);
}

#[test]
fn sync_one_slice_changed_plans_its_service_alone() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(
        &mut engine,
        &[("a", "10.96.0.1"), ("b", "10.96.0.2")],
        &[("a", "1", &["10.0.0.1 n1"]), ("b", "1", &["10.0.0.2 n1"])],
    );
    engine.sync(NOW).unwrap();
    engine.on_slice(Event::Apply(slice("b", "1", &["10.0.0.2 n1", "10.0.0.3 n2"])));
    let outcome = engine.sync(NOW).unwrap();
    assert_eq!(outcome.planned.iter().map(|(name, _)| &*name.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(leads_to(&dataplane, "10.96.0.2").unwrap(), ["10.0.0.2 8080", "10.0.0.3 8080"]);
    // An event that changes nothing that matters plans nothing.
    let mut same = slice("b", "1", &["10.0.0.2 n1", "10.0.0.3 n2"]);
    same.metadata.annotations = Some([("touched".to_owned(), "yes".to_owned())].into());
    engine.on_slice(Event::Apply(same));
    assert_eq!((engine.sync(NOW).unwrap().planned, engine.observed().endpoint_count()), (vec![], 3));
}

#[test]
fn sync_second_slice_of_a_service_adds_its_endpoints_and_its_removal_takes_them() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[("a", "10.96.0.1")], &[("a", "1", &["10.0.0.1 n1"])]);
    engine.on_slice(Event::Apply(slice("a", "2", &["10.0.0.2 n1"])));
    engine.sync(NOW).unwrap();
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.1 8080", "10.0.0.2 8080"]);
    engine.on_slice(Event::Delete(slice("a", "1", &["10.0.0.1 n1"])));
    engine.sync(NOW).unwrap();
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.2 8080"]);
    engine.on_service(Event::Delete(service("a", spec(&["10.96.0.1"], json!({})))));
    engine.sync(NOW).unwrap();
    assert_eq!(reachable(&*dataplane).len(), 0);
}

#[test]
fn relist_without_a_service_removes_it() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[("a", "10.96.0.1"), ("b", "10.96.0.2")], &[("a", "1", &["10.0.0.1 n1"])]);
    engine.sync(NOW).unwrap();
    list(&mut engine, &[("a", "10.96.0.1")], &[]);
    engine.sync(NOW).unwrap();
    assert_eq!(leads_to(&dataplane, "10.96.0.1"), Some(vec![]));
    assert_eq!(leads_to(&dataplane, "10.96.0.2"), None);
}

#[test]
fn restart_with_nothing_changed_writes_no_service() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let services = [("a", "10.96.0.1"), ("b", "10.96.0.2")];
    let slices: [(&str, &str, &[&str]); 1] = [("a", "1", &["10.0.0.1 n1"])];
    let mut first = engine(&dataplane);
    list(&mut first, &services, &slices);
    first.sync(NOW).unwrap();
    let mut second = engine(&dataplane);
    list(&mut second, &services, &slices);
    second.sync(NOW).unwrap();
    let state = dataplane.state();
    let last = state.applied.last().unwrap();
    assert!(last.services.is_empty() && last.slices.is_empty() && last.states_after.is_empty());
}

#[test]
fn sync_that_fails_is_repaired_by_the_next() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[("a", "10.96.0.1"), ("b", "10.96.0.2")], &[("a", "1", &["10.0.0.1 n1"])]);
    dataplane.state().service_capacity = Some(1);
    assert!(matches!(engine.sync(NOW), Err(ServicesError::Apply { .. })));
    assert_eq!(dataplane.services().unwrap().len(), 1);
    dataplane.state().service_capacity = None;
    engine.sync(NOW).unwrap();
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.1 8080"]);
    assert_eq!(leads_to(&dataplane, "10.96.0.2"), Some(vec![]));
}

#[test]
fn sync_service_that_does_not_fit_is_tried_again_when_slots_are_free() {
    let dataplane = Arc::new(FakeDataplane::new(3, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[("a", "10.96.0.1")], &[("a", "1", &["10.0.0.1 n1", "10.0.0.2 n1"])]);
    engine.sync(NOW).unwrap();
    engine.on_slice(Event::Apply(slice("a", "1", &["10.0.0.3 n1", "10.0.0.4 n1"])));
    let outcome = engine.sync(NOW).unwrap();
    assert_eq!((outcome.refused, outcome.written), (1, 0));
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.1 8080", "10.0.0.2 8080"]);
    engine.on_slice(Event::Apply(slice("a", "1", &["10.0.0.3 n1"])));
    assert_eq!(engine.sync(NOW).unwrap().refused, 0);
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.3 8080"]);
    engine.on_slice(Event::Apply(slice("a", "1", &["10.0.0.3 n1", "10.0.0.4 n1"])));
    let outcome = engine.sync(NOW).unwrap();
    assert_eq!(outcome.refused, 1);
    assert_eq!(engine.sync(outcome.again.unwrap()).unwrap().refused, 0);
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.3 8080", "10.0.0.4 8080"]);
}

/// Service `web` as `NodePort` with these ports: name, protocol, node port.
fn node_ports(ports: &[(&str, &str, u16)]) -> Event<k8s_openapi::api::core::v1::Service> {
    let ports: Vec<_> = ports
        .iter()
        .map(|(name, protocol, number)| {
            json!({ "name": name, "port": 80, "protocol": protocol, "nodePort": number })
        })
        .collect();
    Event::Apply(service("web", spec(&["10.96.0.7"], json!({ "type": "NodePort", "ports": ports }))))
}

#[test]
fn sync_service_whose_port_has_another_name_is_in_nobodys_way() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[], &[]);
    let unnamed = json!({ "ports": [{ "port": 80, "protocol": "TCP" }] });
    engine.on_service(Event::Apply(service("web", spec(&["10.96.0.7"], unnamed))));
    engine.sync(NOW).unwrap();
    let (tcp, udp) = (("tcp-port", "TCP", 30_080), ("udp-port", "UDP", 30_080));
    let steps = [node_ports(&[tcp]), node_ports(&[tcp, udp]), node_ports(&[("a", "TCP", 30_080), udp])];
    for (step, wanted) in steps.into_iter().zip([["tcp-port"].as_slice(), &["tcp-port", "udp-port"], &["a"]])
    {
        engine.on_service(step);
        let outcome = engine.sync(NOW).unwrap();
        assert_eq!(outcome.contested, []);
        let entries = dataplane.services().unwrap();
        for name in wanted {
            let ports = outcome.planned.iter().flat_map(|(_, ports)| ports);
            let (_, id) = ports.into_iter().find(|(port, _)| port.starts_with(name)).unwrap();
            // The ClusterIP, the node's address for both scopes, and the loopback address.
            assert_eq!(entries.iter().filter(|(_, value)| value.id == *id).count(), 4, "{name}");
        }
    }
}

#[test]
fn sync_address_that_is_another_services_by_the_end_is_contested_and_one_that_was_is_not() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let mut engine = engine(&dataplane);
    list(&mut engine, &[("z", "10.96.0.1")], &[("a", "1", &["10.0.0.1 n1"])]);
    engine.sync(NOW).unwrap();
    let younger = |name| {
        let mut younger = service(name, spec(&["10.96.0.1"], json!({})));
        younger.metadata.creation_timestamp = serde_json::from_value(json!("2026-02-01T00:00:00Z")).unwrap();
        Event::Apply(younger)
    };
    engine.on_service(younger("b"));
    let contested = engine.sync(NOW).unwrap().contested;
    // The ClusterIP, and the node port at the addresses of the node, which both have too.
    assert!(contested.iter().all(|(owner, _)| &**owner == "default/b"), "{contested:?}");
    assert!(contested.iter().any(|(_, frontend)| frontend.address.to_string() == "10.96.0.1"));
    // The newcomer is planned before the one that leaves.
    engine.on_service(Event::Delete(service("z", spec(&["10.96.0.1"], json!({})))));
    engine.on_service(Event::Delete(service("b", spec(&["10.96.0.1"], json!({})))));
    engine.on_service(younger("a"));
    assert_eq!(engine.sync(NOW).unwrap().contested, []);
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.1 8080"]);
}

#[tokio::test(start_paused = true)]
async fn follow_failed_sync_is_retried_without_a_change_and_ends_on_shutdown() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    dataplane.state().service_capacity = Some(0);
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry, dataplane.clone()).unwrap();
    let (changes, receiver) = mpsc::unbounded();
    for change in [
        Change::Service(Box::new(Event::Init)),
        Change::Service(Box::new(Event::InitApply(service("a", spec(&["10.96.0.1"], json!({})))))),
        Change::Service(Box::new(Event::InitDone)),
        Change::Slice(Box::new(Event::Init)),
        Change::Slice(Box::new(Event::InitDone)),
        Change::Node(Box::new(Event::InitDone)),
    ] {
        changes.unbounded_send(change).unwrap();
    }
    let (stop, shutdown) = watch::channel(false);
    let task = tokio::spawn(follow(receiver.boxed(), engine(&dataplane), sources("", shutdown), metrics));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(dataplane.services().unwrap(), vec![]);
    dataplane.state().service_capacity = None;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leads_to(&dataplane, "10.96.0.1"), Some(vec![]));
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    assert!(text.contains("skep_services_services 1"), "{text}");
    assert!(text.contains(
        r#"skep_service_connections_total{namespace="default",port="http/TCP/IPv4",service="a"} 0"#
    ));
    assert!(!text.contains("skep_services_sync_failures_total 0"), "{text}");
    stop.send(true).unwrap();
    task.await.unwrap().unwrap();
}

/// A slice of service `a` whose endpoints are hinted for the zones named.
fn hinted(zones: &[(&str, &str)]) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let lines: Vec<String> = zones.iter().map(|(address, _)| format!("{address} n9")).collect();
    let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut slice = slice("a", "1", &refs);
    for (endpoint, (_, zone)) in slice.endpoints.iter_mut().flatten().zip(zones) {
        endpoint.hints = serde_json::from_value(json!({ "forZones": [{ "name": zone }] })).unwrap();
    }
    slice
}

#[tokio::test(start_paused = true)]
async fn follow_waits_for_the_node_and_replans_when_its_zone_changes() {
    let dataplane = Arc::new(FakeDataplane::new(64, 64));
    let registry = prometheus::Registry::new();
    let metrics = Metrics::register(&registry, dataplane.clone()).unwrap();
    let (changes, receiver) = mpsc::unbounded();
    let (_stop, shutdown) = watch::channel(false);
    let sources = sources("n1", shutdown);
    let health = sources.health.clone();
    let view = NodeView { name: "n1".into(), ..NodeView::default() };
    tokio::spawn(follow(receiver.boxed(), Engine::new(dataplane.clone(), view), sources, metrics));
    for change in [
        Change::Service(Box::new(Event::InitApply(service("a", spec(&["10.96.0.1"], json!({})))))),
        Change::Service(Box::new(Event::InitDone)),
        Change::Slice(Box::new(Event::InitApply(hinted(&[("10.0.0.1", "east"), ("10.0.0.2", "west")])))),
        Change::Slice(Box::new(Event::InitDone)),
    ] {
        changes.unbounded_send(change).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!((leads_to(&dataplane, "10.96.0.1"), health.is_healthy()), (None, false));
    // Nobody tells about the node: the services are wanted all the same.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), ["10.0.0.1 8080", "10.0.0.2 8080"]);
    assert!(health.is_healthy());
    let node = |zone: &str| {
        let object =
            json!({ "metadata": { "name": "n1", "labels": { "topology.kubernetes.io/zone": zone } } });
        Change::Node(Box::new(Event::Apply(serde_json::from_value(object).unwrap())))
    };
    for (zone, expected) in [("east", vec!["10.0.0.1 8080"]), ("west", vec!["10.0.0.2 8080"])] {
        changes.unbounded_send(node(zone)).unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(leads_to(&dataplane, "10.96.0.1").unwrap(), expected);
    }
}
