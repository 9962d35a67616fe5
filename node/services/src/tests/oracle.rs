//! The plan against an oracle: for random services, endpoints and nodes, what the tables give a packet is what the
//! Service API's rules say about it.
//!
//! The oracle asks each endpoint alone whether it may get the packet. It is written from the API's documentation
//! (traffic policies, conditions, hints), over the test's own description of the cluster, and shares nothing with the
//! planner but the addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher::Event;
use proptest::prelude::*;
use serde_json::{Value, json};
use skep_abi::service::{FLAG_DROP_WHEN_EMPTY, FLAG_HASHED};
use skep_maps::extents::Extent;
use skep_maps::fake::FakeDataplane;
use skep_maps::frontend::from_shared;
use skep_maps::{Dataplane, Frontend, Scope};

use crate::engine::Engine;
use crate::plan::NodeView;

const NODE: &str = "n1";
const NODE_ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// Name, protocol, port, node port, port of the endpoints.
const PORTS: [(&str, &str, u16, u16, u16); 2] =
    [("web", "TCP", 80, 30_080, 8080), ("dns", "UDP", 53, 30_053, 5353)];

/// One endpoint, its conditions as they stand in the API.
#[derive(Clone, Debug)]
struct Place {
    last: u8,
    v4: bool,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
    node: Option<&'static str>,
    node_hint: Option<&'static str>,
    zone_hint: Option<&'static str>,
}

impl Place {
    fn address(&self) -> IpAddr {
        let text = if self.v4 { format!("10.0.0.{}", self.last) } else { format!("fd00::{}", self.last) };
        text.parse().unwrap()
    }

    fn is_ready(&self) -> bool {
        self.ready != Some(false)
    }

    /// It still answers, although it is on its way out.
    fn is_last_resort(&self) -> bool {
        !self.is_ready() && self.serving != Some(false) && self.terminating == Some(true)
    }

    fn is_here(&self) -> bool {
        self.node == Some(NODE)
    }
}

/// A service, its endpoints, and the node's zone.
#[derive(Clone, Debug)]
struct Case {
    kind: u8,
    v4: bool,
    v6: bool,
    internal_local: bool,
    external_local: bool,
    external_ip: bool,
    proxy_mode: bool,
    ports: usize,
    places: Vec<Place>,
    zone: Option<&'static str>,
}

impl Case {
    fn has_family(&self, v4: bool) -> bool {
        if v4 { self.v4 || !self.v6 } else { self.v6 }
    }

    fn objects(&self) -> (Value, Vec<Value>) {
        let families: Vec<bool> = [true, false].into_iter().filter(|v4| self.has_family(*v4)).collect();
        let ips: Vec<&str> = families.iter().map(|v4| if *v4 { "10.96.0.9" } else { "fd96::9" }).collect();
        let ports: Vec<Value> = PORTS[..self.ports]
            .iter()
            .map(|(name, protocol, port, node_port, _)| {
                let mut port = json!({ "name": name, "protocol": protocol, "port": port });
                if self.kind > 0 {
                    port["nodePort"] = json!(node_port);
                }
                port
            })
            .collect();
        let policy = |local: bool| if local { "Local" } else { "Cluster" };
        let external_ips: &[&str] = if self.external_ip { &["203.0.113.9", "2001:db8:9::9"] } else { &[] };
        let kind = ["ClusterIP", "NodePort", "LoadBalancer"][usize::from(self.kind)];
        let mode = if self.proxy_mode { "Proxy" } else { "VIP" };
        let service = json!({
            "metadata": { "namespace": "default", "name": "s" },
            "spec": {
                "type": kind,
                "clusterIP": ips[0], "clusterIPs": ips, "ports": ports, "externalIPs": external_ips,
                "internalTrafficPolicy": policy(self.internal_local),
                "externalTrafficPolicy": policy(self.external_local),
            },
            "status": { "loadBalancer": { "ingress": [
                { "ip": "198.51.100.9", "ipMode": mode }, { "ip": "2001:db8:8::9", "ipMode": mode },
            ] } },
        });
        let slice = |v4: bool| {
            let endpoints: Vec<Value> =
                self.places.iter().filter(|place| place.v4 == v4).map(endpoint).collect();
            let ports: Vec<Value> = PORTS
                .iter()
                .map(|(n, p, _, _, to)| json!({ "name": n, "protocol": p, "port": to }))
                .collect();
            json!({
                "metadata": { "namespace": "default", "name": format!("s-{v4}"),
                    "labels": { "kubernetes.io/service-name": "s" } },
                "addressType": if v4 { "IPv4" } else { "IPv6" }, "endpoints": endpoints, "ports": ports,
            })
        };
        (service, vec![slice(true), slice(false)])
    }

    /// Whether the endpoint may get a packet that every node's endpoints may get.
    fn anywhere(&self, place: &Place) -> bool {
        let mut ready =
            self.places.iter().filter(|other| other.v4 == place.v4 && other.is_ready()).peekable();
        if ready.peek().is_none() {
            return place.is_last_resort();
        }
        let ready: Vec<&Place> = ready.collect();
        let for_node = |place: &Place| place.node_hint == Some(NODE);
        let for_zone = |place: &Place| place.zone_hint.is_some() && place.zone_hint == self.zone;
        // Hints count when all have one, and one is for us; those about nodes before those about zones.
        let near = if ready.iter().all(|p| p.node_hint.is_some()) && ready.iter().any(|p| for_node(p)) {
            for_node(place)
        } else if ready.iter().all(|p| p.zone_hint.is_some()) && ready.iter().any(|p| for_zone(p)) {
            for_zone(place)
        } else {
            true
        };
        place.is_ready() && near
    }

    /// Whether the endpoint may get a packet that is to stay on this node.
    fn here(&self, place: &Place) -> bool {
        let any_ready =
            self.places.iter().any(|other| other.v4 == place.v4 && other.is_here() && other.is_ready());
        place.is_here() && if any_ready { place.is_ready() } else { place.is_last_resort() }
    }

    /// What the API's rules say about a packet.
    fn rule(&self, packet: &Packet) -> Fate {
        let v4 = packet.to.is_ipv4();
        let at =
            |texts: [&str; 2]| texts.iter().any(|text| packet.to.ip() == text.parse::<IpAddr>().unwrap());
        let node_port = (at(NODE_ADDRESSES) || (at(LOOPBACK) && packet.inside)) && self.kind > 0;
        let public = (self.external_ip && at(["203.0.113.9", "2001:db8:9::9"]))
            || (self.kind == 2 && !self.proxy_mode && at(["198.51.100.9", "2001:db8:8::9"]));
        let cluster = at(["10.96.0.9", "fd96::9"]) && packet.inside;
        let port = PORTS[..self.ports].iter().find(|(_, protocol, port, on_node, _)| {
            *protocol == packet.protocol && packet.to.port() == if node_port { *on_node } else { *port }
        });
        let Some((_, _, _, _, target)) =
            port.filter(|_| (node_port || public || cluster) && self.has_family(v4))
        else {
            return Fate::NotOurs;
        };
        let stays = if cluster { self.internal_local } else { self.external_local && !packet.inside };
        let family = || self.places.iter().filter(|place| place.v4 == v4);
        let reached: BTreeSet<SocketAddr> = family()
            .filter(|place| if stays { self.here(place) } else { self.anywhere(place) })
            .map(|place| SocketAddr::new(place.address(), *target))
            .collect();
        match reached.is_empty() {
            false => Fate::OneOf(reached),
            true if family().any(|place| self.anywhere(place)) => Fate::Dropped,
            true => Fate::Refused,
        }
    }
}

fn endpoint(place: &Place) -> Value {
    let mut made = json!({ "addresses": [place.address()], "conditions": {
        "ready": place.ready, "serving": place.serving, "terminating": place.terminating,
    } });
    if let Some(node) = place.node {
        made["nodeName"] = json!(node);
    }
    if let Some(node) = place.node_hint {
        made["hints"]["forNodes"] = json!([{ "name": node }]);
    }
    if let Some(zone) = place.zone_hint {
        made["hints"]["forZones"] = json!([{ "name": zone }]);
    }
    made
}

/// The first packet of a connection.
#[derive(Clone, Debug)]
struct Packet {
    inside: bool,
    to: SocketAddr,
    protocol: &'static str,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    NotOurs,
    OneOf(BTreeSet<SocketAddr>),
    Dropped,
    Refused,
}

/// What the tables make of a packet.
fn tables(dataplane: &FakeDataplane, packet: &Packet) -> Fate {
    let frontend = Frontend {
        address: packet.to.ip(),
        port: packet.to.port(),
        protocol: if packet.protocol == "TCP" { 6 } else { 17 },
        scope: if packet.inside { Scope::Internal } else { Scope::External },
    };
    let Some(value) = dataplane.state().services.get(&frontend).copied() else { return Fate::NotOurs };
    if value.count == 0 {
        return if value.flags & FLAG_DROP_WHEN_EMPTY != 0 { Fate::Dropped } else { Fate::Refused };
    }
    assert_eq!(value.flags & FLAG_HASHED != 0, !packet.inside, "{frontend}");
    let slots = dataplane.slots(Extent { start: value.slice, length: value.count });
    let v4 = packet.to.is_ipv4();
    Fate::OneOf(
        slots.iter().map(|slot| SocketAddr::new(from_shared(slot.address, v4), slot.port.get())).collect(),
    )
}

/// Every packet worth asking about.
fn packets() -> Vec<Packet> {
    let addresses = NODE_ADDRESSES.iter().chain(&LOOPBACK).chain(&[
        "10.96.0.9",
        "fd96::9",
        "203.0.113.9",
        "2001:db8:9::9",
        "198.51.100.9",
        "2001:db8:8::9",
        "10.96.0.10",
    ]);
    let mut all = Vec::new();
    for address in addresses {
        for port in [80, 53, 30_080, 30_053, 8080] {
            for protocol in ["TCP", "UDP"] {
                for inside in [true, false] {
                    let to = SocketAddr::new(address.parse().unwrap(), port);
                    all.push(Packet { inside, to, protocol });
                }
            }
        }
    }
    all
}

fn place() -> impl Strategy<Value = Place> {
    let condition = || prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    let node = prop_oneof![Just(None), Just(Some("n1")), Just(Some("n2"))];
    // Mostly present: hints count only when every endpoint has one.
    let node_hint = prop_oneof![4 => Just(Some("n1")), 4 => Just(Some("n2")), 1 => Just(None)];
    let zone_hint = prop_oneof![4 => Just(Some("z1")), 4 => Just(Some("z2")), 1 => Just(None)];
    (any::<bool>(), condition(), condition(), condition(), node, node_hint, zone_hint).prop_map(
        |(v4, ready, serving, terminating, node, node_hint, zone_hint)| Place {
            last: 0,
            v4,
            ready,
            serving,
            terminating,
            node,
            node_hint,
            zone_hint,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let zone = prop_oneof![Just(None), Just(Some("z1")), Just(Some("z3"))];
    let flags = proptest::array::uniform6(any::<bool>());
    let places = proptest::collection::vec(place(), 0..7);
    // Hints about nodes hide those about zones: half of the cases have none.
    (0u8..3, flags, 1usize..=2, places, zone, any::<bool>()).prop_map(
        |(
            kind,
            [v4, v6, internal_local, external_local, external_ip, proxy_mode],
            ports,
            mut places,
            zone,
            by_zone,
        )| {
            for (last, place) in (1..).zip(&mut places) {
                place.last = last;
                if by_zone {
                    place.node_hint = None;
                }
            }
            Case {
                kind,
                v4,
                v6,
                internal_local,
                external_local,
                external_ip,
                proxy_mode,
                ports,
                places,
                zone,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn tables_give_every_packet_what_the_api_says(case in case()) {
        let dataplane = Arc::new(FakeDataplane::new(1 << 14, 256));
        let addresses = |texts: [&str; 2]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let node = NodeView {
            name: NODE.into(),
            zone: case.zone.map(str::to_owned),
            node_port_addresses: addresses(NODE_ADDRESSES),
            loopback_addresses: addresses(LOOPBACK),
            ..NodeView::default()
        };
        let mut engine = Engine::new(dataplane.clone(), node);
        let (service, slices) = case.objects();
        engine.on_service(Event::Apply(serde_json::from_value(service).unwrap()));
        engine.on_service(Event::InitDone);
        for slice in slices {
            engine.on_slice(Event::Apply(serde_json::from_value(slice).unwrap()));
        }
        engine.on_slice(Event::InitDone);
        engine.sync(Duration::ZERO).unwrap();
        for packet in packets() {
            prop_assert_eq!(tables(&dataplane, &packet), case.rule(&packet), "{:?}", packet);
        }
    }
}

#[test]
fn packets_meet_every_fate_often_enough() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = [0usize; 4];
    for _ in 0..64 {
        let case = proptest::strategy::Strategy::new_tree(&case(), &mut runner).unwrap();
        let case = proptest::strategy::ValueTree::current(&case);
        for packet in packets() {
            let fate = match case.rule(&packet) {
                Fate::NotOurs => 0,
                Fate::OneOf(_) => 1,
                Fate::Dropped => 2,
                Fate::Refused => 3,
            };
            seen[fate] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}
