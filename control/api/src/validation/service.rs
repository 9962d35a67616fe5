//! Rules of services, endpoints and endpoint slices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::field::FieldError;
use super::{meta, names};
use crate::object::{at, items, number, text};

const ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// A Service.
pub(super) fn service(object: &Value, errors: &mut Vec<FieldError>) {
    let spec = &object["spec"];
    let kind = text(spec, &["type"]);
    let address = text(spec, &["clusterIP"]);
    let headless = address == "None";
    let list = items(spec, &["ports"]);
    if list.is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "ExternalName" => {
            if !address.is_empty() {
                errors.push(FieldError::forbidden(
                    "spec.clusterIPs",
                    "may not be set when `type` is 'ExternalName'",
                ));
            }
            let name = text(spec, &["externalName"]);
            match names::dns_subdomain(name.trim_end_matches('.')) {
                _ if name.is_empty() => errors.push(FieldError::required("spec.externalName", "")),
                Err(why) => errors.push(FieldError::invalid("spec.externalName", name, why)),
                Ok(()) => {}
            }
        }
        "NodePort" | "LoadBalancer" if headless => {
            errors.push(FieldError::invalid(
                "spec.clusterIPs[0]",
                "None",
                format!("may not be set to 'None' for {kind} services"),
            ));
        }
        _ => {}
    }
    if !address.is_empty() && !headless && address.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", address, ADDRESS));
    }
    let first = items(spec, &["clusterIPs"]).first().and_then(Value::as_str);
    if let Some(first) = first.filter(|first| *first != address) {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", first, "first value must match `clusterIP`"));
    }
    meta::labels("spec.selector", spec.get("selector"), errors);
    ports(list, kind, errors);
    for (index, address) in items(spec, &["externalIPs"]).iter().enumerate() {
        let text = address.as_str().unwrap_or_default();
        outside_address(&format!("spec.externalIPs[{index}]"), text, errors);
    }
    affinity(spec, errors);
    policies(spec, kind, errors);
}

fn affinity(spec: &Value, errors: &mut Vec<FieldError>) {
    if text(spec, &["sessionAffinity"]) != "ClientIP" {
        return;
    }
    let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let seconds = number(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).unwrap_or(0);
    if !(1..=86400).contains(&seconds) {
        errors.push(FieldError::invalid(path, seconds, "must be greater than 0 and less than 86400"));
    }
}

fn policies(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let outside = matches!(kind, "NodePort" | "LoadBalancer") || !items(spec, &["externalIPs"]).is_empty();
    let policy = text(spec, &["externalTrafficPolicy"]);
    if !policy.is_empty() && !outside {
        errors.push(FieldError::invalid(
            "spec.externalTrafficPolicy",
            policy,
            "may only be set for externally-accessible services",
        ));
    }
    if kind != "LoadBalancer" && !items(spec, &["loadBalancerSourceRanges"]).is_empty() {
        errors.push(FieldError::forbidden(
            "spec.LoadBalancerSourceRanges",
            "may only be used when `type` is 'LoadBalancer'",
        ));
    }
    for (index, range) in items(spec, &["loadBalancerSourceRanges"]).iter().enumerate() {
        let range = range.as_str().unwrap_or_default();
        if !is_network(range.trim()) {
            let path = format!("spec.LoadBalancerSourceRanges[{index}]");
            errors.push(FieldError::invalid(
                path,
                range,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ));
        }
    }
    let health = number(spec, &["healthCheckNodePort"]).unwrap_or(0);
    let local = kind == "LoadBalancer" && policy == "Local";
    if health != 0 && !local {
        errors.push(FieldError::invalid(
            "spec.healthCheckNodePort",
            health,
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
}

fn ports(list: &[Value], kind: &str, errors: &mut Vec<FieldError>) {
    let (mut seen, mut pairs, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (index, port) in list.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = text(port, &["name"]);
        if name.is_empty() && list.len() > 1 {
            errors.push(FieldError::required(format!("{path}.name"), ""));
        } else if !name.is_empty() {
            match names::dns_label(name) {
                Err(why) => errors.push(FieldError::invalid(format!("{path}.name"), name, why)),
                Ok(()) if !seen.insert(name) => {
                    errors.push(FieldError::duplicate(format!("{path}.name"), name))
                }
                Ok(()) => {}
            }
        }
        let front = number(port, &["port"]).unwrap_or(0);
        if let Err(why) = names::port_number(front) {
            errors.push(FieldError::invalid(format!("{path}.port"), front, why));
        }
        let protocol = text(port, &["protocol"]);
        if !pairs.insert((front, protocol)) {
            let value = serde_json::json!({ "port": front, "protocol": protocol });
            errors.push(FieldError::duplicate(path.clone(), value));
        }
        target(&format!("{path}.targetPort"), port.get("targetPort"), errors);
        let node_port = number(port, &["nodePort"]).unwrap_or(0);
        if node_port == 0 {
            continue;
        }
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(FieldError::forbidden(format!("{path}.nodePort"), detail));
        } else if let Err(why) = names::port_number(node_port) {
            errors.push(FieldError::invalid(format!("{path}.nodePort"), node_port, why));
        } else if !node_ports.insert((node_port, protocol)) {
            errors.push(FieldError::duplicate(format!("{path}.nodePort"), node_port));
        }
    }
}

fn target(path: &str, target: Option<&Value>, errors: &mut Vec<FieldError>) {
    let verdict = match target {
        Some(Value::String(name)) => names::port_name(name),
        Some(Value::Number(number)) => names::port_number(number.as_i64().unwrap_or(0)),
        _ => Ok(()),
    };
    if let (Err(why), Some(target)) = (verdict, target) {
        errors.push(FieldError::invalid(path, target.clone(), why));
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

/// An address that traffic may be sent to from elsewhere.
fn outside_address(path: &str, text: &str, errors: &mut Vec<FieldError>) {
    let why = match text.parse::<IpAddr>() {
        Err(_) => ADDRESS,
        Ok(address) if address.is_unspecified() => match address {
            IpAddr::V4(_) => "may not be unspecified (0.0.0.0)",
            IpAddr::V6(_) => "may not be unspecified (::)",
        },
        Ok(address) if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        Ok(IpAddr::V4(address)) if Ipv4Addr::is_link_local(&address) => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        Ok(IpAddr::V6(address)) if Ipv6Addr::is_unicast_link_local(&address) => {
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        }
        Ok(IpAddr::V4(address)) if address.octets()[..3] == [224, 0, 0] => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        }
        Ok(_) => return,
    };
    errors.push(FieldError::invalid(path, text, why));
}

/// An Endpoints object.
pub(super) fn endpoints(object: &Value, errors: &mut Vec<FieldError>) {
    for (index, subset) in items(object, &["subsets"]).iter().enumerate() {
        let path = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|list| items(subset, &[list]).is_empty()) {
            errors
                .push(FieldError::required(path.clone(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for list in lists {
            for (at, address) in items(subset, &[list]).iter().enumerate() {
                outside_address(&format!("{path}.{list}[{at}].ip"), text(address, &["ip"]), errors);
            }
        }
        let ports = items(subset, &["ports"]);
        for (at, port) in ports.iter().enumerate() {
            let path = format!("{path}.ports[{at}]");
            if text(port, &["name"]).is_empty() && ports.len() > 1 {
                errors.push(FieldError::required(format!("{path}.name"), ""));
            }
            let number = number(port, &["port"]).unwrap_or(0);
            if let Err(why) = names::port_number(number) {
                errors.push(FieldError::invalid(format!("{path}.port"), number, why));
            }
        }
    }
}

/// An EndpointSlice.
pub(super) fn slice(object: &Value, errors: &mut Vec<FieldError>) {
    let family = text(object, &["addressType"]);
    let endpoints = items(object, &["endpoints"]);
    if endpoints.len() > 1000 {
        errors.push(FieldError::too_many("endpoints", endpoints.len(), 1000));
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let addresses = items(endpoint, &["addresses"]);
        if addresses.is_empty() {
            errors.push(FieldError::required(format!("{path}.addresses"), "must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(format!("{path}.addresses"), addresses.len(), 100));
        }
        for (at, address) in addresses.iter().enumerate() {
            let address = address.as_str().unwrap_or_default();
            let path = format!("{path}.addresses[{at}]");
            match (family, address.parse::<IpAddr>()) {
                ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {
                    outside_address(&path, address, errors)
                }
                ("IPv4", _) => {
                    errors.push(FieldError::invalid(path, address, "must be a valid IPv4 address"))
                }
                ("IPv6", _) => {
                    errors.push(FieldError::invalid(path, address, "must be a valid IPv6 address"))
                }
                _ => {
                    if let Err(why) = names::dns_subdomain(address) {
                        errors.push(FieldError::invalid(path, address, why));
                    }
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in items(object, &["ports"]).iter().enumerate() {
        let path = format!("ports[{index}]");
        let name = text(port, &["name"]);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        if let Some(number) = at(port, &["port"]).and_then(Value::as_i64)
            && let Err(why) = names::port_number(number)
        {
            errors.push(FieldError::invalid(format!("{path}.port"), number, why));
        }
    }
}
