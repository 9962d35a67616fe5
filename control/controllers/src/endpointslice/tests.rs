//! Plans of EndpointSlices: the fewest writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::plan::{PER_SLICE, Plan, plan};
use super::tracker::Tracker;
use crate::pod::Pod;
use crate::runtime::key::ObjectKey;

fn service(spec: Value) -> Service {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "s", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.9", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

fn pod(number: usize, ready: bool) -> Arc<Pod> {
    let name = format!("p{number:04}");
    let ip = format!("10.244.{}.{}", number / 250, number % 250);
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"nodeName": "n1", "containers": []},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": format!("fd44::{number:x}")}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap(),
    )
}

fn run(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    plan(service, pods, slices, |node| (node == "n1").then(|| "zone-a".to_owned()))
}

/// The slices as they are after the plan was carried out.
fn carried_out(slices: &[Arc<EndpointSlice>], plan: Plan) -> Vec<Arc<EndpointSlice>> {
    let name = |slice: &EndpointSlice| slice.metadata.name.clone();
    let touched: BTreeSet<_> =
        plan.update.iter().map(name).chain(plan.delete.iter().map(|slice| name(slice))).collect();
    let mut after: Vec<_> = slices.iter().filter(|slice| !touched.contains(&name(slice))).cloned().collect();
    for (index, mut slice) in plan.create.into_iter().enumerate() {
        slice.metadata.name = Some(format!("s{}-{index}", slices.len()));
        after.push(Arc::new(slice));
    }
    after.extend(plan.update.into_iter().map(Arc::new));
    after
}

fn writes(plan: &Plan) -> (usize, usize, usize) {
    (plan.create.len(), plan.update.len(), plan.delete.len())
}

fn count(slices: &[Arc<EndpointSlice>]) -> usize {
    slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum()
}

#[test]
fn plan_endpoint_has_conditions_node_zone_and_target() {
    let first = run(&service(json!({})), &[pod(1, true), pod(2, false)], &[]);
    assert_eq!(writes(&first), (1, 0, 0));
    let slice = &first.create[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert_eq!(labels["team"], "x");
    assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Service");
    let endpoints = slice.endpoints.as_ref().unwrap();
    let ready: Vec<_> = endpoints.iter().map(|e| e.conditions.as_ref().unwrap().ready).collect();
    assert_eq!(ready, [Some(true), Some(false)]);
    assert_eq!(
        (endpoints[0].node_name.as_deref(), endpoints[0].zone.as_deref()),
        (Some("n1"), Some("zone-a"))
    );
    assert_eq!(endpoints[0].target_ref.as_ref().unwrap().name.as_deref(), Some("p0001"));
}

#[test]
fn plan_settled_service_needs_no_writes() {
    let (service, pods) = (service(json!({})), [pod(1, true), pod(2, true)]);
    let slices = carried_out(&[], run(&service, &pods, &[]));
    assert_eq!(run(&service, &pods, &slices), Plan::default());
}

#[test]
fn plan_service_without_pods_has_one_empty_slice() {
    let service = service(json!({}));
    let slices = carried_out(&[], run(&service, &[], &[]));
    assert_eq!((slices.len(), count(&slices)), (1, 0));
    assert_eq!(run(&service, &[], &slices), Plan::default());
    // The first pod and the last one's end reuse it.
    let filled = run(&service, &[pod(1, true)], &slices);
    assert_eq!(writes(&filled), (0, 1, 0));
    let slices = carried_out(&slices, filled);
    assert_eq!(writes(&run(&service, &[], &slices)), (0, 1, 0));
}

#[test]
fn plan_one_change_among_many_writes_one_slice() {
    let service = service(json!({}));
    let mut pods: Vec<_> = (0..250).map(|number| pod(number, true)).collect();
    let slices = carried_out(&[], run(&service, &pods, &[]));
    assert_eq!((slices.len(), count(&slices)), (3, 250));
    assert!(slices.iter().all(|slice| slice.endpoints.as_ref().unwrap().len() <= PER_SLICE));
    pods[120] = pod(120, false);
    assert_eq!(writes(&run(&service, &pods, &slices)), (0, 1, 0));
    pods.push(pod(300, true));
    let after = run(&service, &pods, &slices);
    assert!(after.create.is_empty() && after.update.len() <= 2);
    pods.remove(0);
    let slices = carried_out(&slices, run(&service, &pods, &slices));
    assert_eq!(count(&slices), 250);
    let fewer = carried_out(&slices, run(&service, &pods[..10], &slices));
    assert_eq!(count(&fewer), 10);
    assert_eq!(run(&service, &pods[..10], &fewer), Plan::default());
}

#[test]
fn plan_both_families_get_their_own_slices() {
    let service = service(json!({"ipFamilies": ["IPv6", "IPv4"]}));
    let slices = carried_out(&[], run(&service, &[pod(1, true)], &[]));
    let mut types: Vec<_> = slices.iter().map(|slice| slice.address_type.as_str()).collect();
    types.sort_unstable();
    assert_eq!(types, ["IPv4", "IPv6"]);
    let single = self::service(json!({}));
    assert_eq!(writes(&run(&single, &[pod(1, true)], &slices)), (0, 0, 1));
}

#[test]
fn plan_ports_that_change_reuse_the_slice() {
    let slices = carried_out(&[], run(&service(json!({})), &[pod(1, true)], &[]));
    let moved = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": 9090}]}));
    let plan = run(&moved, &[pod(1, true)], &slices);
    assert_eq!(writes(&plan), (0, 1, 0));
    assert_eq!(plan.update[0].ports.as_ref().unwrap()[0].port, Some(9090));
}

#[test]
fn plan_terminating_pod_serves_but_is_not_ready_and_an_ended_one_is_left_out() {
    let change = |change: fn(&mut Pod)| {
        let mut pod = Pod::clone(&pod(1, true));
        change(&mut pod);
        run(&service(json!({})), &[Arc::new(pod)], &[]).create[0].endpoints.clone().unwrap()
    };
    let leaving = change(|pod| {
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    });
    let conditions = leaving[0].conditions.clone().unwrap();
    assert_eq!(
        (conditions.ready, conditions.serving, conditions.terminating),
        (Some(false), Some(true), Some(true))
    );
    let ended = change(|pod| pod.status.as_mut().unwrap().phase = Some("Succeeded".into()));
    assert_eq!(ended, []);
}

#[test]
fn plan_not_ready_pods_are_published_where_asked() {
    let plan =
        run(&service(json!({"publishNotReadyAddresses": true, "clusterIP": "None"})), &[pod(1, false)], &[]);
    let slice = &plan.create[0];
    assert_eq!(slice.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap().ready, Some(true));
    assert!(slice.metadata.labels.as_ref().unwrap().contains_key("service.kubernetes.io/headless"));
}

#[test]
fn plan_traffic_distribution_becomes_hints_of_ready_endpoints() {
    let hints = |distribution: Value, ready: bool| {
        let service = service(json!({"trafficDistribution": distribution}));
        let plan = run(&service, &[pod(1, ready)], &[]);
        serde_json::to_value(&plan.create[0].endpoints.as_ref().unwrap()[0].hints).unwrap()
    };
    let zone = json!({"forZones": [{"name": "zone-a"}]});
    assert_eq!(hints(json!("PreferClose"), true), zone);
    assert_eq!(hints(json!("PreferSameZone"), true), zone);
    assert_eq!(
        hints(json!("PreferSameNode"), true),
        json!({"forNodes": [{"name": "n1"}], "forZones": [{"name": "zone-a"}]})
    );
    assert_eq!(hints(json!("PreferSameNode"), false), Value::Null);
    assert_eq!(hints(Value::Null, true), Value::Null);
    // A change of the field alone rewrites the slice.
    let slices = carried_out(&[], run(&service(json!({})), &[pod(1, true)], &[]));
    let near = service(json!({"trafficDistribution": "PreferClose"}));
    assert_eq!(writes(&run(&near, &[pod(1, true)], &slices)), (0, 1, 0));
}

#[test]
fn tracker_cache_is_behind_until_it_shows_what_was_written() {
    let (tracker, key) = (Tracker::default(), ObjectKey::new("default", "web"));
    let slice = |generation| {
        let mut slice = EndpointSlice::default();
        slice.metadata.uid = Some("u".into());
        slice.metadata.generation = Some(generation);
        slice
    };
    tracker.written(&key, &slice(2));
    assert!(tracker.is_behind(&key, &[]));
    assert!(tracker.is_behind(&key, &[Arc::new(slice(1))]));
    assert!(!tracker.is_behind(&key, &[Arc::new(slice(2))]));
    tracker.deleted(&key, &slice(2));
    assert!(!tracker.is_behind(&key, &[]));
}
