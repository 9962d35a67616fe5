//! Random changes: whatever is observed in whatever order, the tables equal what a fresh agent would make of the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde_json::json;
use skep_maps::fake::FakeDataplane;
use skep_maps::suite::reachable;

use super::{node, service, slice, spec};
use crate::engine::Engine;

#[derive(Clone, Debug)]
enum Step {
    Service { name: u8, policy: u8 },
    DropService { name: u8 },
    Slice { name: u8, suffix: u8, endpoints: Vec<(u8, u8)> },
    DropSlice { name: u8, suffix: u8 },
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0u8..4;
    let suffix = 0u8..2;
    let endpoints = proptest::collection::vec((0u8..6, 0u8..6), 0..5);
    prop_oneof![
        3 => (name.clone(), 0u8..4).prop_map(|(name, policy)| Step::Service { name, policy }),
        1 => name.clone().prop_map(|name| Step::DropService { name }),
        5 => (name.clone(), suffix.clone(), endpoints)
            .prop_map(|(name, suffix, endpoints)| Step::Slice { name, suffix, endpoints }),
        1 => (name, suffix).prop_map(|(name, suffix)| Step::DropSlice { name, suffix }),
        4 => Just(Step::Sync),
    ]
}

fn service_of(name: u8, policy: u8) -> k8s_openapi::api::core::v1::Service {
    let named = |bit: u8| if policy & bit != 0 { "Local" } else { "Cluster" };
    let more =
        json!({ "type": "NodePort", "internalTrafficPolicy": named(1), "externalTrafficPolicy": named(2) });
    let mut spec = spec(&[&format!("10.96.0.{name}")], more);
    spec["ports"][0]["nodePort"] = json!(30_000 + u32::from(name));
    service(&format!("s{name}"), spec)
}

fn slice_of(name: u8, suffix: u8, endpoints: &[(u8, u8)]) -> k8s_openapi::api::discovery::v1::EndpointSlice {
    let list: Vec<String> = endpoints
        .iter()
        .map(|(last, how)| {
            let state = ["", "", "!", "~", "", "~"][*how as usize];
            format!("{state}10.0.{name}.{last} n{}", 1 + how % 2)
        })
        .collect();
    let refs: Vec<&str> = list.iter().map(String::as_str).collect();
    slice(&format!("s{name}"), &suffix.to_string(), &refs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn engine_random_changes_end_where_a_fresh_agent_would(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let dataplane = Arc::new(FakeDataplane::new(1 << 15, 512));
        let mut engine = Engine::new(dataplane.clone(), node());
        let mut services = BTreeMap::new();
        let mut slices = BTreeMap::new();
        engine.on_service(Event::InitDone);
        engine.on_slice(Event::InitDone);
        let mut now = Duration::ZERO;
        for step in steps {
            match step {
                Step::Service { name, policy } => {
                    services.insert(name, policy);
                    engine.on_service(Event::Apply(service_of(name, policy)));
                }
                Step::DropService { name } => {
                    services.remove(&name);
                    engine.on_service(Event::Delete(service_of(name, 0)));
                }
                Step::Slice { name, suffix, endpoints } => {
                    engine.on_slice(Event::Apply(slice_of(name, suffix, &endpoints)));
                    slices.insert((name, suffix), endpoints);
                }
                Step::DropSlice { name, suffix } => {
                    slices.remove(&(name, suffix));
                    engine.on_slice(Event::Delete(slice_of(name, suffix, &[])));
                }
                Step::Sync => {
                    now += Duration::from_secs(2);
                    prop_assert_eq!(engine.sync(now).unwrap().refused, 0);
                }
            }
        }
        engine.sync(now).unwrap();

        let fresh = Arc::new(FakeDataplane::new(1 << 15, 512));
        let mut other = Engine::new(fresh.clone(), node());
        services.iter().for_each(|(name, policy)| other.on_service(Event::Apply(service_of(*name, *policy))));
        slices
            .iter()
            .for_each(|((name, suffix), list)| other.on_slice(Event::Apply(slice_of(*name, *suffix, list))));
        other.on_service(Event::InitDone);
        other.on_slice(Event::InitDone);
        other.sync(now).unwrap();
        prop_assert_eq!(reachable(&*dataplane), reachable(&*fresh));
        let flags = |dataplane: &FakeDataplane| -> Vec<_> {
            dataplane.state().services.iter().map(|(f, v)| (*f, v.flags, v.kind, v.count)).collect()
        };
        prop_assert_eq!(flags(&dataplane), flags(&fresh));
    }
}
