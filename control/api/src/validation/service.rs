//! Rules of services. Addresses and node ports are given after this: what is not there yet is not missing.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{address, endpoints, meta, names};
use crate::object::text;

pub(super) use endpoints::{endpoints, slice};

const AFFINITY: i64 = 86400;
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn is_headless(spec: &Place<'_>) -> bool {
    let addresses = spec.get("clusterIPs");
    match addresses.count() {
        0 => spec.get("clusterIP").text() == "None",
        1 => addresses.items().all(|one| one.text() == "None"),
        _ => false,
    }
}

/// A Service.
pub(super) fn service(object: &Value, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    let kind = spec.get("type").text();
    let headless = is_headless(&spec);
    annotations(object, kind, errors);
    let ports = spec.get("ports");
    if ports.count() == 0 && !headless && kind != "ExternalName" {
        ports.required("", errors);
    }
    match kind {
        "ExternalName" => external_name(&spec, errors),
        "NodePort" | "LoadBalancer" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
        }
        _ => {}
    }
    service_ports(&ports, kind, errors);
    let chosen = spec.get("selector");
    meta::labels(&chosen.path, Some(chosen.value), errors);
    affinity(&spec, errors);
    if kind != "ExternalName" {
        cluster_addresses(&spec, headless, errors);
    }
    for address in spec.each("externalIPs") {
        if address::ip(&address, errors).is_some() {
            endpoints::outside(&address, errors);
        }
    }
    load_balancer(&spec, kind, errors);
    policies(&spec, kind, errors);
}

fn annotations(object: &Value, kind: &str, errors: &mut Errors) {
    let annotation = |name: &str| object["metadata"]["annotations"][name].as_str();
    if let (Some(mode), Some(hints)) = (annotation(MODE), annotation(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        errors.push(FieldError::invalid(format!("metadata.annotations[{MODE}]"), mode, why));
    }
    let Some(ranges) = annotation(SOURCES) else { return };
    if Place::of(object, "spec").get("loadBalancerSourceRanges").count() > 0 {
        return;
    }
    let path = format!("metadata.annotations[{SOURCES}]");
    if kind != "LoadBalancer" {
        errors.push(FieldError::forbidden(&path, "may only be used when `type` is 'LoadBalancer'"));
    }
    for range in ranges.split(',').map(str::trim).filter(|_| !ranges.trim().is_empty()) {
        address::cidr(&Place::new(path.clone(), &json!(range)), errors);
    }
}

fn external_name(spec: &Place<'_>, errors: &mut Errors) {
    for name in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let full = spec.get(name).is_full() || (name == "clusterIPs" && spec.get("clusterIP").is_full());
        if full {
            spec.get(name).forbidden("may not be set for ExternalName services", errors);
        }
    }
    let name = spec.get("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if text.is_empty() {
        name.required("", errors);
    } else if let Err(why) = names::dns_subdomain(text) {
        errors.push(FieldError::invalid(&name.path, text, why));
    }
}

fn service_ports(ports: &Place<'_>, kind: &str, errors: &mut Errors) {
    let (mut seen, mut pairs, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let name = port.get("name");
        if name.is_full() {
            if name.judge(names::dns_label, errors) && !seen.insert(name.text()) {
                name.duplicate(errors);
            }
        } else if ports.count() > 1 {
            name.required("", errors);
        }
        let front = port.get("port").number().unwrap_or(0);
        if let Err(why) = names::port_number(front) {
            errors.push(FieldError::invalid(port.child("port"), front, why));
        }
        let protocol = port.get("protocol");
        if protocol.is_full() {
            protocol.one_of(&PROTOCOLS, errors);
        }
        target(&port.get("targetPort"), errors);
        let application = port.get("appProtocol");
        if application.is_set() {
            application.judge_key(errors);
        }
        if !pairs.insert((front, protocol.text())) {
            errors.push(duplicate_port(&port, protocol.text(), front));
        }
        let node_port = port.get("nodePort");
        let Some(number) = node_port.number().filter(|number| *number != 0) else { continue };
        if kind == "ClusterIP" {
            node_port.forbidden("may not be used when `type` is 'ClusterIP'", errors);
        } else if let Err(why) = names::port_number(number) {
            node_port.invalid(why, errors);
        }
        if !node_ports.insert((number, protocol.text())) {
            node_port.duplicate(errors);
        }
    }
}

/// Upstream shows the whole type, of which only what makes it the same is filled in.
fn duplicate_port(port: &Place<'_>, protocol: &str, front: i64) -> FieldError {
    let shown = format!(
        "{{\"Name\":\"\",\"Protocol\":{},\"AppProtocol\":null,\"Port\":{front},\"TargetPort\":0,\"NodePort\":0}}",
        serde_json::Value::from(protocol)
    );
    FieldError::duplicate(&port.path, port.value.clone()).shown_as(shown)
}

fn target(target: &Place<'_>, errors: &mut Errors) {
    if target.is_set() {
        target.judge_port(errors);
    }
}

fn affinity(spec: &Place<'_>, errors: &mut Errors) {
    let config = spec.get("sessionAffinityConfig");
    match spec.get("sessionAffinity").text() {
        "ClientIP" => {
            let seconds = config.get("clientIP").get("timeoutSeconds");
            let missing =
                [&config, &config.get("clientIP"), &seconds].into_iter().find(|one| !one.is_set()).cloned();
            if let Some(missing) = missing {
                return missing.required("when session affinity type is ClientIP", errors);
            }
            if !(1..=AFFINITY).contains(&seconds.number().unwrap_or(0)) {
                seconds.invalid(format!("must be greater than 0 and less than {AFFINITY}"), errors);
            }
        }
        "None" if config.is_set() => {
            config.forbidden("must not be set when session affinity is None", errors);
        }
        _ => {}
    }
}

/// What is wrong with the addresses and families that a service asks for: upstream looks at them before it gives it any.
pub fn service_addresses(object: &Value) -> Errors {
    let (spec, mut errors) = (Place::of(object, "spec"), Vec::new());
    if spec.get("type").text() != "ExternalName" {
        cluster_addresses(&spec, is_headless(&spec), &mut errors);
    }
    errors
}

fn cluster_addresses(spec: &Place<'_>, headless: bool, errors: &mut Errors) {
    let (first, list, families) = (spec.get("clusterIP"), spec.get("clusterIPs"), spec.get("ipFamilies"));
    let given: Vec<&str> = list.items().map(|one| one.text()).collect();
    match (first.text(), given.first()) {
        ("", Some(_)) => list.invalid("must be empty when `clusterIP` is not specified", errors),
        (first, Some(found)) if *found != first => {
            list.invalid("first value must match `clusterIP`", errors);
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        family.one_of(&["IPv4", "IPv6"], errors);
        if !seen.insert(family.text()) {
            family.duplicate(errors);
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    spec.get("ipFamilyPolicy").maybe_one_of(&policies, errors);
    if given.len() > 2 {
        list.invalid("may only hold up to 2 values", errors);
    }
    if headless {
        return;
    }
    if given.first() == Some(&"None") {
        return list.invalid("'None' must be the first and only value", errors);
    }
    let found = errors.len();
    // Before the two fields are brought together, the one may stand for both.
    let alone = first.is_full() && given.is_empty();
    let places: Vec<Place<'_>> = match alone {
        true => vec![Place::new(list.child("[0]").replace(".[", "["), first.value)],
        false => list.items().collect(),
    };
    let parsed: Vec<Option<IpAddr>> = places.iter().map(|one| address::ip(one, errors)).collect();
    if errors.len() > found {
        return;
    }
    let kinds: Vec<bool> = parsed.iter().flatten().map(IpAddr::is_ipv4).collect();
    if kinds.len() > 1 && kinds[0] == kinds[1] {
        list.invalid("may specify no more than one IP for each IP family", errors);
    }
    for (index, (family, (place, v4))) in families.items().zip(places.iter().zip(kinds)).enumerate() {
        if matches!((family.text(), v4), ("IPv4", false) | ("IPv6", true)) {
            let why = format!("expected an {} value as indicated by `ipFamilies[{index}]`", family.text());
            place.invalid(why, errors);
        }
    }
}

fn load_balancer(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let only = "may only be used when `type` is 'LoadBalancer'";
    let is = kind == "LoadBalancer";
    let ranges = Place::new("spec.LoadBalancerSourceRanges", spec.get("loadBalancerSourceRanges").value);
    if ranges.count() > 0 && !is {
        ranges.forbidden(only, errors);
    }
    for range in ranges.items() {
        let value = json!(range.text().trim());
        address::cidr(&Place::new(range.path, &value), errors);
    }
    let ports = spec.get("allocateLoadBalancerNodePorts");
    if ports.is_set() && !is {
        ports.forbidden(only, errors);
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() {
        match is {
            true => {
                class.judge_key(errors);
            }
            false => class.forbidden(only, errors),
        }
    }
}

fn policies(spec: &Place<'_>, kind: &str, errors: &mut Errors) {
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && spec.get("externalIPs").count() > 0);
    let policy = spec.get("externalTrafficPolicy");
    match (policy.text(), outside) {
        ("", true) => policy.required("", errors),
        (_, true) => {
            policy.one_of(&["Cluster", "Local"], errors);
        }
        ("", false) => {}
        (_, false) => policy.invalid("may only be set for externally-accessible services", errors),
    }
    let health = spec.get("healthCheckNodePort");
    if let Some(number) = health.number().filter(|number| *number != 0) {
        if kind != "LoadBalancer" || policy.text() != "Local" {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            health.invalid(why, errors);
        } else if let Err(why) = names::port_number(number) {
            health.invalid(why, errors);
        }
    }
    spec.get("internalTrafficPolicy").maybe_one_of(&["Cluster", "Local"], errors);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    spec.get("trafficDistribution").maybe_one_of(&distributions, errors);
}

/// What an update changes that may not change.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    let kind = |spec: &Place<'_>, one: &str| spec.get("type").text() == one;
    if kind(&now, "LoadBalancer") && kind(&before, "LoadBalancer") {
        let class = now.get("loadBalancerClass");
        if class.value != before.get("loadBalancerClass").value {
            class.invalid("may not change once set", errors);
        }
        let local = |spec: &Place<'_>| spec.get("externalTrafficPolicy").text() == "Local";
        let (port, given) = (now.get("healthCheckNodePort"), before.get("healthCheckNodePort"));
        if local(&now) && local(&before) && port.is_set() && port.value != given.value {
            port.forbidden("field is immutable", errors);
        }
    }
    if kind(&now, "ExternalName") || kind(&before, "ExternalName") {
        return;
    }
    let both = is_headless(&now) && is_headless(&before);
    if !both {
        kept(&now, &before, "clusterIPs", "clusterIP", errors);
    }
    if !is_headless(&now) && !is_headless(&before) {
        kept(&now, &before, "ipFamilies", "ipFamily", errors);
    }
}

/// The first stays; the second may come, and go with the policy.
fn kept(now: &Place<'_>, before: &Place<'_>, name: &str, one: &str, errors: &mut Errors) {
    let texts = |spec: &Place<'_>| -> Vec<String> {
        let list: Vec<String> = spec.each(name).map(|one| one.text().to_owned()).collect();
        let single = text(spec.value, &["clusterIP"]);
        match list.is_empty() && name == "clusterIPs" && !single.is_empty() {
            true => vec![single.to_owned()],
            false => list,
        }
    };
    let (list, had) = (texts(now), texts(before));
    let refuse = |at: usize, why: &str, errors: &mut Errors| {
        errors.push(FieldError::invalid(format!("spec.{name}[{at}]"), json!(list), why));
    };
    let changed = (0..list.len().min(had.len())).filter(|at| list[*at] != had[*at]);
    let changed: Vec<usize> = match list.len() == had.len() {
        true => changed.collect(),
        false => changed.take_while(|at| *at == 0).collect(),
    };
    for at in changed {
        refuse(if name == "ipFamilies" { 0 } else { at }, "may not change once set", errors);
    }
    if had.len() > list.len() {
        if list.is_empty() {
            refuse(0, &format!("primary {one} can not be unset"), errors);
        }
        let policy = now.get("ipFamilyPolicy");
        if list.len() == 1 && policy.text() != "SingleStack" {
            let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
            policy.invalid(why, errors);
        }
    }
}
