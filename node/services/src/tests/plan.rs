//! Tables: one Service and its slices in, the whole set of frontends out.

use serde_json::{Value, json};
use skep_abi::service::{
    FLAG_AFFINITY, FLAG_DROP_WHEN_EMPTY, FLAG_HASHED, FLAG_SOURCE_RANGES, KIND_CLUSTER_IP, KIND_EXTERNAL_IP,
    KIND_LOAD_BALANCER, KIND_NODE_PORT,
};

use skep_maps::Spread;

use super::{node, service, slice, spec};
use crate::model::{Service, Slice};
use crate::plan::plan;

/// Plans, and compares every frontend as "address:port/protocol scope kind flags -> endpoints".
fn check(spec: Value, slices: &[(&str, &[&str])], expected: &[&str]) {
    check_object(service("web", spec), slices, expected);
}

fn check_object(object: k8s_openapi::api::core::v1::Service, slices: &[(&str, &[&str])], expected: &[&str]) {
    let parsed = Service::from_api(&object).expect("the service is proxied");
    let slices: Vec<Slice> =
        slices.iter().map(|(suffix, list)| Slice::from_api(&slice("web", suffix, list)).unwrap()).collect();
    let mut lines = Vec::new();
    for port in plan(&parsed, slices.iter(), &node()) {
        for wanted in &port.frontends {
            let endpoints: Vec<String> = port.pools[wanted.pool]
                .endpoints
                .iter()
                .map(|e| format!("{}:{}{}", e.address, e.port, if e.local { "*" } else { "" }))
                .collect();
            let kind = match wanted.kind {
                KIND_CLUSTER_IP => "cluster",
                KIND_NODE_PORT => "node",
                KIND_EXTERNAL_IP => "external-ip",
                KIND_LOAD_BALANCER => "balancer",
                _ => "?",
            };
            let mut line = format!("{} {kind}", wanted.frontend);
            for (flag, name) in [
                (FLAG_AFFINITY, "affinity"),
                (FLAG_HASHED, "hashed"),
                (FLAG_DROP_WHEN_EMPTY, "drop"),
                (FLAG_SOURCE_RANGES, "ranges"),
            ] {
                if wanted.flags & flag != 0 {
                    line.push_str(&format!(" {name}"));
                }
            }
            let spread = port.pools[wanted.pool].spread == Spread::Maglev;
            assert_eq!(spread, wanted.flags & FLAG_HASHED != 0, "a hash needs its table");
            lines.push(format!("{line} -> {}", endpoints.join(" ")).trim_end().to_owned());
        }
    }
    assert_eq!(lines, expected);
}

const TWO: (&str, &[&str]) = ("a", &["10.244.1.2 n1", "10.244.2.2 n2"]);

#[test]
fn plan_cluster_ip_answers_inside_only() {
    let mut ports = spec(&["10.96.0.7"], json!({}));
    ports["ports"][0]["nodePort"] = Value::Null;
    check(ports, &[TWO], &["10.96.0.7:80/TCP internal cluster -> 10.244.1.2:8080* 10.244.2.2:8080"]);
}

#[test]
fn plan_node_port_answers_on_each_address_of_the_family_and_on_loopback() {
    check(
        spec(&["10.96.0.7"], json!({ "type": "NodePort" })),
        &[TWO],
        &[
            "10.96.0.7:80/TCP internal cluster -> 10.244.1.2:8080* 10.244.2.2:8080",
            "172.30.0.11:30080/TCP external node hashed -> 10.244.1.2:8080* 10.244.2.2:8080",
            "172.30.0.11:30080/TCP internal node -> 10.244.1.2:8080* 10.244.2.2:8080",
            "127.0.0.1:30080/TCP internal node -> 10.244.1.2:8080* 10.244.2.2:8080",
        ],
    );
}

#[test]
fn plan_dual_stack_each_family_has_its_endpoints() {
    check(
        spec(&["10.96.0.7", "fd96::7"], json!({ "type": "NodePort" })),
        &[TWO, ("b", &["fd44::2 n1"])],
        &[
            "10.96.0.7:80/TCP internal cluster -> 10.244.1.2:8080* 10.244.2.2:8080",
            "172.30.0.11:30080/TCP external node hashed -> 10.244.1.2:8080* 10.244.2.2:8080",
            "172.30.0.11:30080/TCP internal node -> 10.244.1.2:8080* 10.244.2.2:8080",
            "127.0.0.1:30080/TCP internal node -> 10.244.1.2:8080* 10.244.2.2:8080",
            "[fd96::7]:80/TCP internal cluster -> fd44::2:8080*",
            "[fd30::11]:30080/TCP external node hashed -> fd44::2:8080*",
            "[fd30::11]:30080/TCP internal node -> fd44::2:8080*",
        ],
    );
}

#[test]
fn plan_external_policy_local_without_local_endpoint_drops_outside_and_serves_inside() {
    let mut object = service(
        "web",
        spec(
            &["10.96.0.7"],
            json!({
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "externalIPs": ["198.51.100.9", "203.0.113.5"],
            }),
        ),
    );
    object.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": [
        { "ip": "203.0.113.5" }, { "ip": "203.0.113.6", "ipMode": "Proxy" }, { "hostname": "lb.example" },
    ] } }))
    .unwrap();
    check_object(
        object,
        &[("a", &["10.244.2.2 n2"])],
        &[
            "10.96.0.7:80/TCP internal cluster -> 10.244.2.2:8080",
            "203.0.113.5:80/TCP external balancer hashed drop ->",
            "203.0.113.5:80/TCP internal balancer -> 10.244.2.2:8080",
            "198.51.100.9:80/TCP external external-ip hashed drop ->",
            "198.51.100.9:80/TCP internal external-ip -> 10.244.2.2:8080",
            "172.30.0.11:30080/TCP external node hashed drop ->",
            "172.30.0.11:30080/TCP internal node -> 10.244.2.2:8080",
            "127.0.0.1:30080/TCP internal node -> 10.244.2.2:8080",
        ],
    );
}

/// A load balancer with these ingress addresses and source ranges.
fn balancer(ingress: &[&str], ranges: &[&str], cluster_ips: &[&str]) -> k8s_openapi::api::core::v1::Service {
    let fields = json!({
        "type": "LoadBalancer",
        "externalIPs": ["198.51.100.9"],
        "loadBalancerSourceRanges": ranges,
    });
    let mut object = service("web", spec(cluster_ips, fields));
    let ingress: Vec<Value> = ingress.iter().map(|ip| json!({ "ip": ip })).collect();
    object.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": ingress } })).unwrap();
    object
}

#[test]
fn plan_source_ranges_hold_for_the_balancers_addresses_in_both_scopes_only() {
    check_object(
        balancer(&["203.0.113.5"], &["10.0.0.0/8"], &["10.96.0.7"]),
        &[("a", &["10.244.1.2 n1"])],
        &[
            "10.96.0.7:80/TCP internal cluster -> 10.244.1.2:8080*",
            "203.0.113.5:80/TCP external balancer hashed ranges -> 10.244.1.2:8080*",
            "203.0.113.5:80/TCP internal balancer ranges -> 10.244.1.2:8080*",
            "198.51.100.9:80/TCP external external-ip hashed -> 10.244.1.2:8080*",
            "198.51.100.9:80/TCP internal external-ip -> 10.244.1.2:8080*",
            "172.30.0.11:30080/TCP external node hashed -> 10.244.1.2:8080*",
            "172.30.0.11:30080/TCP internal node -> 10.244.1.2:8080*",
            "127.0.0.1:30080/TCP internal node -> 10.244.1.2:8080*",
        ],
    );
}

#[test]
fn plan_source_ranges_are_read_as_upstream_reads_them_each_family_for_itself() {
    let ranges = |ingress: &[&str], ranges: &[&str]| -> Vec<(Vec<String>, usize)> {
        let object = balancer(ingress, ranges, &["10.96.0.7", "fd96::7"]);
        let parsed = Service::from_api(&object).unwrap();
        let ports = plan(&parsed, std::iter::empty(), &node());
        let flagged = |port: &skep_maps::DesiredPort| {
            port.frontends.iter().filter(|frontend| frontend.flags & FLAG_SOURCE_RANGES != 0).count()
        };
        let listed =
            |port: &skep_maps::DesiredPort| port.source_ranges.iter().map(|r| r.to_string()).collect();
        ports.iter().map(|port| (listed(port), flagged(port))).collect()
    };
    let both = ["203.0.113.5", "2001:db8::5"];
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    // Space around, host bits, overlaps, repetitions, leading zeroes, nonsense and nothing.
    let list =
        [" 10.1.2.3/8\t", "10.1.0.0/16", "010.0.0.0/8", "nonsense", "", "2001:db8::/32 ", "10.0.0.0/40"];
    let expected = [(texts(&["10.0.0.0/8", "10.1.0.0/16"]), 2), (texts(&["2001:db8::/32"]), 2)];
    assert_eq!(ranges(&both, &list), expected);
    // A family without a range of its own is open.
    assert_eq!(ranges(&both, &["10.0.0.0/8"]), [(texts(&["10.0.0.0/8"]), 2), (vec![], 0)]);
    assert_eq!(ranges(&both, &["nonsense"]), [(vec![], 0), (vec![], 0)]);
    assert_eq!(ranges(&both, &[]), [(vec![], 0), (vec![], 0)]);
    // No address to guard, no entry to keep.
    assert_eq!(ranges(&[], &list), [(vec![], 0), (vec![], 0)]);
}

#[test]
fn plan_internal_policy_local_uses_local_endpoints_for_the_cluster_ip() {
    let mut local = spec(&["10.96.0.7"], json!({ "internalTrafficPolicy": "Local" }));
    local["ports"][0]["nodePort"] = Value::Null;
    check(local.clone(), &[TWO], &["10.96.0.7:80/TCP internal cluster drop -> 10.244.1.2:8080*"]);
    check(local, &[], &["10.96.0.7:80/TCP internal cluster ->"]);
}

#[test]
fn plan_without_endpoints_keeps_the_frontends_for_rejection() {
    let mut ports = spec(&["10.96.0.7"], json!({ "externalTrafficPolicy": "Local" }));
    ports["ports"][0]["nodePort"] = Value::Null;
    check(ports, &[("a", &["!10.244.1.2 n1"])], &["10.96.0.7:80/TCP internal cluster ->"]);
}

#[test]
fn plan_ports_and_protocols_resolve_by_name() {
    let ports = json!([
        { "name": "http", "port": 80, "protocol": "TCP" },
        { "name": "dns", "port": 53, "protocol": "UDP" },
        { "name": "other", "port": 81, "protocol": "TCP" },
    ]);
    check(
        spec(&["10.96.0.7"], json!({ "ports": ports, "sessionAffinity": "ClientIP" })),
        &[TWO],
        &[
            "10.96.0.7:80/TCP internal cluster affinity -> 10.244.1.2:8080* 10.244.2.2:8080",
            "10.96.0.7:53/UDP internal cluster affinity -> 10.244.1.2:5353* 10.244.2.2:5353",
            "10.96.0.7:81/TCP internal cluster affinity ->",
        ],
    );
}

#[test]
fn plan_unused_endpoints_are_handed_on_as_draining() {
    let parsed = Service::from_api(&service("web", spec(&["10.96.0.7"], json!({})))).unwrap();
    let endpoints = ["10.244.1.2 n1", "~10.244.1.3 n1", "!10.244.1.4 n1"];
    let slice = Slice::from_api(&slice("web", "a", &endpoints)).unwrap();
    let ports = plan(&parsed, [&slice].into_iter(), &node());
    let draining: Vec<String> = ports[0].draining.iter().map(|(a, p)| format!("{a}:{p}")).collect();
    assert_eq!(draining, ["10.244.1.3:8080", "10.244.1.4:8080"]);
}

#[test]
fn service_not_ours_is_left_alone() {
    for spec in [
        json!({ "clusterIP": "None", "clusterIPs": ["None"], "ports": [{ "port": 80 }] }),
        json!({ "type": "ExternalName", "externalName": "example.org" }),
        json!({ "ports": [{ "port": 80 }] }),
    ] {
        assert_eq!(Service::from_api(&service("web", spec)), None);
    }
    let mut labelled = service("web", spec(&["10.96.0.7"], json!({})));
    labelled.metadata.labels = Some([(crate::model::LABEL_PROXY_NAME.to_owned(), "x".to_owned())].into());
    assert_eq!(Service::from_api(&labelled), None);
}

#[test]
fn service_affinity_timeout_defaults_to_three_hours() {
    let affinity =
        |more| Service::from_api(&service("web", spec(&["10.96.0.7"], more))).unwrap().affinity_seconds;
    assert_eq!(affinity(json!({ "sessionAffinity": "None" })), None);
    assert_eq!(affinity(json!({ "sessionAffinity": "ClientIP" })), Some(10_800));
    let config = json!({ "clientIP": { "timeoutSeconds": 60 } });
    assert_eq!(affinity(json!({ "sessionAffinity": "ClientIP", "sessionAffinityConfig": config })), Some(60));
}

#[test]
fn plan_direct_replies_are_for_traffic_from_outside_that_any_node_takes_and_not_for_sctp() {
    let direct = crate::NodeView { external_return: crate::ExternalReturn::Direct, ..node() };
    let flagged = |policy: &str, protocol: &str, view: &crate::NodeView| {
        let ports = json!([{ "port": 80, "protocol": protocol, "nodePort": 30080 }]);
        let more = json!({ "type": "NodePort", "externalTrafficPolicy": policy, "ports": ports });
        let parsed = Service::from_api(&service("web", spec(&["10.96.0.7"], more))).unwrap();
        let ports = plan(&parsed, std::iter::empty(), view);
        let frontends = ports.into_iter().flat_map(|port| port.frontends);
        let flagged = frontends.filter(|made| made.flags & skep_abi::service::FLAG_DIRECT != 0);
        flagged.map(|made| (made.frontend.port, made.frontend.scope)).collect::<Vec<_>>()
    };
    assert_eq!(flagged("Cluster", "TCP", &direct), [(30080, skep_maps::Scope::External)]);
    assert_eq!(flagged("Cluster", "UDP", &direct), [(30080, skep_maps::Scope::External)]);
    assert_eq!(flagged("Cluster", "SCTP", &direct), []);
    assert_eq!(flagged("Local", "TCP", &direct), []);
    assert_eq!(flagged("Cluster", "TCP", &node()), []);
}
