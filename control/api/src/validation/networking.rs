//! Rules of networking.k8s.io.

use std::net::IpAddr;

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{address, names, selector};
use crate::registry::Resource;

const CONTROLLER: usize = 250;
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(super) fn check(resource: &Resource, object: &Value, creating: bool, errors: &mut Errors) {
    let spec = Place::of(object, "spec");
    match resource.plural.as_str() {
        "networkpolicies" => policy(&spec, errors),
        "ingresses" => {
            ingress(&spec, errors);
            if creating {
                class_annotation(object, &spec, errors);
            }
        }
        "ingressclasses" => class(&spec, errors),
        "ipaddresses" => parent(&spec.get("parentRef"), errors),
        "servicecidrs" if creating => cidrs(&spec.get("cidrs"), errors),
        _ => {}
    }
}

fn policy(spec: &Place<'_>, errors: &mut Errors) {
    selector::at(&spec.get("podSelector"), errors);
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.each(list) {
            rule.each("ports").for_each(|port| policy_port(&port, errors));
            rule.each(peers).for_each(|one| peer(&one, errors));
        }
    }
    let types = spec.get("policyTypes");
    if types.count() > 2 {
        return types.invalid("may not specify more than two policyTypes", errors);
    }
    for one in types.items() {
        one.one_of(&["Ingress", "Egress"], errors);
    }
}

fn policy_port(port: &Place<'_>, errors: &mut Errors) {
    port.get("protocol").maybe_one_of(&["TCP", "UDP", "SCTP"], errors);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value {
        Value::Null if end.is_set() => {
            end.invalid("may not be specified when `port` is not specified", errors);
        }
        Value::Null => {}
        Value::String(_) => {
            if end.is_set() {
                end.invalid("may not be specified when `port` is non-numeric", errors);
            }
            number.judge_port_name(errors);
        }
        _ => {
            let first = number.number().unwrap_or(0);
            if let Err(why) = names::port_number(first) {
                number.invalid(why, errors);
            }
            let Some(last) = end.number() else { return };
            if last < first {
                let why = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&end.path, first, why));
            }
            if let Err(why) = names::port_number(last) {
                end.invalid(why, errors);
            }
        }
    }
}

fn peer(peer: &Place<'_>, errors: &mut Errors) {
    let mut selectors = 0;
    for name in ["podSelector", "namespaceSelector"] {
        let one = peer.get(name);
        if one.is_set() {
            selectors += 1;
            selector::at(&one, errors);
        }
    }
    let block = peer.get("ipBlock");
    if block.is_set() {
        ip_block(&block, errors);
    }
    match (selectors, block.is_set()) {
        (0, false) => peer.required("must specify a peer", errors),
        (1.., true) => peer.forbidden("may not specify both ipBlock and another peer", errors),
        _ => {}
    }
}

fn ip_block(block: &Place<'_>, errors: &mut Errors) {
    let cidr = block.get("cidr");
    if cidr.text().is_empty() {
        return cidr.required("", errors);
    }
    let Some((network, bits)) = address::cidr(&cidr, errors) else { return };
    for except in block.each("except") {
        let Some((inner, inner_bits)) = address::cidr(&except, errors) else { continue };
        if bits >= inner_bits || !address::within(inner, network, bits) {
            except.invalid("must be a strict subset of `cidr`", errors);
        }
    }
}

fn class_annotation(object: &Value, spec: &Place<'_>, errors: &mut Errors) {
    let found = object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    let class = spec.get("ingressClassName");
    if let Some(found) = found.filter(|found| class.is_set() && *found != class.text()) {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(format!("annotations.{CLASS_ANNOTATION}"), found, why));
    }
}

fn ingress(spec: &Place<'_>, errors: &mut Errors) {
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.count() == 0 && !default.is_set() {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&spec.path, rules.value.clone(), why));
    }
    if default.is_set() {
        backend(&default, errors);
    }
    for rule in rules.items() {
        host(&rule.get("host"), errors);
        let http = rule.get("http");
        if http.is_set() {
            let paths = http.get("paths");
            if paths.count() == 0 {
                paths.required("", errors);
            }
            paths.items().for_each(|path| ingress_path(&path, errors));
        }
    }
    for tls in spec.each("tls") {
        for one in tls.each("hosts") {
            match one.text().contains('*') {
                true => one.judge(names::wildcard_subdomain, errors),
                false => one.judge(names::dns_subdomain, errors),
            };
        }
        tls.get("secretName").judge_full(names::dns_subdomain, errors);
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        class.judge(names::dns_subdomain, errors);
    }
}

fn host(host: &Place<'_>, errors: &mut Errors) {
    if !host.is_full() {
        return;
    }
    if host.text().parse::<IpAddr>().is_ok() {
        host.invalid("must be a DNS name, not an IP address", errors);
    }
    match host.text().contains('*') {
        true => host.judge(names::wildcard_subdomain, errors),
        false => host.judge(names::dns_subdomain, errors),
    };
}

fn ingress_path(path: &Place<'_>, errors: &mut Errors) {
    let (kind, place) = (path.get("pathType"), path.get("path"));
    let text = place.text();
    match kind.text() {
        "" if !kind.is_set() => return kind.required("pathType must be specified", errors),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(FieldError::invalid(&place.path, text, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(bad) {
                    place.invalid(format!("must not contain '{bad}'"), errors);
                }
            }
            for bad in ["/..", "/."] {
                if text.ends_with(bad) {
                    place.invalid(format!("cannot end with '{bad}'"), errors);
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                place.invalid("must be an absolute path", errors);
            }
        }
        _ => {
            kind.one_of(&["Exact", "ImplementationSpecific", "Prefix"], errors);
        }
    }
    backend(&path.get("backend"), errors);
}

fn backend(backend: &Place<'_>, errors: &mut Errors) {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    let refuse = |why: &str, errors: &mut Errors| errors.push(FieldError::invalid(&backend.path, "", why));
    match (resource.is_set(), service.is_set()) {
        (true, true) => refuse("cannot set both resource and service backends", errors),
        (false, false) => refuse("resource or service backend is required", errors),
        (true, false) => typed_reference(&resource, errors),
        (false, true) => {
            service.get("name").must(names::dns_label, errors);
            let (name, number) = (service.get("port").get("name"), service.get("port").get("number"));
            match (name.is_full(), number.number().unwrap_or(0) != 0) {
                (true, true) => refuse("cannot set both port name & port number", errors),
                (true, false) => {
                    name.judge_port_name(errors);
                }
                (false, true) => {
                    if let Err(why) = names::port_number(number.number().unwrap_or(0)) {
                        number.invalid(why, errors);
                    }
                }
                (false, false) => backend.required("port name or number is required", errors),
            }
        }
    }
}

/// A reference by group, kind and name.
fn typed_reference(reference: &Place<'_>, errors: &mut Errors) {
    let group = reference.get("apiGroup");
    if group.is_set() {
        group.judge(names::dns_subdomain, errors);
    }
    reference.get("kind").must(names::path_segment, errors);
    reference.get("name").must(names::path_segment, errors);
}

fn class(spec: &Place<'_>, errors: &mut Errors) {
    let controller = spec.get("controller");
    if controller.text().len() > CONTROLLER {
        controller.too_long(CONTROLLER, errors);
    }
    names::domain_path(&controller, errors);
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return;
    }
    typed_reference(&parameters, errors);
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    match scope.text() {
        "" if !scope.is_set() => scope.required("", errors),
        "Namespace" if !namespace.is_set() => {
            namespace.required("`parameters.scope` is set to 'Namespace'", errors);
        }
        "Namespace" => {
            namespace.judge(names::dns_label, errors);
        }
        "Cluster" if namespace.is_set() => {
            namespace.forbidden("`parameters.scope` is set to 'Cluster'", errors);
        }
        _ => {
            scope.one_of(&["Cluster", "Namespace"], errors);
        }
    }
}

fn parent(parent: &Place<'_>, errors: &mut Errors) {
    if !parent.is_set() {
        return parent.required("", errors);
    }
    parent.get("group").judge_full(names::dns_subdomain, errors);
    parent.get("resource").must(names::path_segment, errors);
    parent.get("name").must(names::path_segment, errors);
    parent.get("namespace").judge_full(names::path_segment, errors);
}

/// The networks of a ServiceCIDR: at most one of each family.
fn cidrs(cidrs: &Place<'_>, errors: &mut Errors) {
    match cidrs.count() {
        0 => return cidrs.required("at least one CIDR required", errors),
        1 | 2 => {}
        _ => return cidrs.invalid("may only hold up to 2 values", errors),
    }
    let families: Vec<Option<bool>> = cidrs
        .items()
        .map(|one| address::strict_cidr(&one, errors).map(|(first, _)| first.is_ipv4()))
        .collect();
    if let [Some(first), Some(second)] = families[..]
        && first == second
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        cidrs.invalid(why, errors);
    }
}

/// What an update changes that may not change.
pub(super) fn update(resource: &Resource, new: &Value, old: &Value, errors: &mut Errors) {
    let (now, before) = (Place::of(new, "spec"), Place::of(old, "spec"));
    match resource.plural.as_str() {
        "ingressclasses" => now.get("controller").unchanged(&before.get("controller"), errors),
        "ipaddresses" => now.get("parentRef").unchanged(&before.get("parentRef"), errors),
        "servicecidrs" => {
            let (now, before) = (now.get("cidrs"), before.get("cidrs"));
            let first = |place: &Place<'_>| place.items().next().map(|one| one.value.clone());
            match (before.count(), now.count()) {
                (then, count) if then == count => {
                    now.items().zip(before.items()).for_each(|(now, before)| now.unchanged(&before, errors));
                }
                (1, 2) => {
                    if first(&now) != first(&before) {
                        let value = first(&now).unwrap_or_default();
                        errors.push(FieldError::invalid("spec.cidrs[0]", value, super::place::IMMUTABLE));
                    }
                    cidrs(&now, errors);
                }
                _ => now.invalid(super::place::IMMUTABLE, errors),
            }
        }
        _ => {}
    }
}

/// The addresses at which a load balancer serves an Ingress.
pub(super) fn status(new: &Value, errors: &mut Errors) {
    for one in Place::of(new, "status").get("loadBalancer").each("ingress") {
        let (ip, hostname) = (one.get("ip"), one.get("hostname"));
        if ip.is_full() {
            address::ip(&ip, errors);
        }
        if hostname.is_full() {
            hostname.judge(names::dns_subdomain, errors);
            if hostname.text().parse::<IpAddr>().is_ok() {
                hostname.invalid("must be a DNS name, not an IP address", errors);
            }
        }
    }
}
