//! Rules of Endpoints and EndpointSlices.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::{address, meta, names};

const ENDPOINTS: usize = 1000;
const ADDRESSES: usize = 100;
const PORTS: usize = 20000;
const TOPOLOGY: usize = 16;
const HINTS: usize = 8;
const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address that traffic may be sent to from elsewhere.
pub(super) fn outside(place: &Place<'_>, errors: &mut Errors) {
    let link_local = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
    let why = match address::sloppy(place.text()).map(|address| address.to_canonical()) {
        None => "must be a valid IP address".to_owned(),
        Some(address) if address.is_unspecified() => format!("may not be unspecified ({})", place.text()),
        Some(address) if address.is_loopback() => {
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
        }
        Some(IpAddr::V4(address)) if Ipv4Addr::is_link_local(&address) => link_local.to_owned(),
        Some(IpAddr::V6(address)) if Ipv6Addr::is_unicast_link_local(&address) => link_local.to_owned(),
        Some(address) if is_link_local_multicast(address) => {
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
        }
        Some(_) => return,
    };
    errors.push(FieldError::invalid(&place.path, place.text(), why));
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.octets()[0] == 0xff && address.octets()[1] & 0x0f == 2,
    }
}

fn port(port: &Place<'_>, errors: &mut Errors) {
    let protocol = port.get("protocol");
    if protocol.is_set() {
        protocol.one_of(&PROTOCOLS, errors);
    }
    let application = port.get("appProtocol");
    if application.is_set() {
        application.judge_key(errors);
    }
}

/// An Endpoints object.
pub(super) fn endpoints(object: &Value, errors: &mut Errors) {
    for subset in Place::of(object, "subsets").items() {
        let lists = ["addresses", "notReadyAddresses"].map(|name| subset.get(name));
        if lists.iter().all(|list| list.count() == 0) {
            subset.required("must specify `addresses` or `notReadyAddresses`", errors);
        }
        for one in lists.iter().flat_map(Place::items) {
            let ip = one.get("ip");
            let text = Value::from(ip.text());
            address::ip(&Place::new(ip.path.clone(), &text), errors);
            one.get("hostname").judge_full(names::dns_label, errors);
            one.get("nodeName").judge_set(names::dns_subdomain, errors);
            outside(&ip, errors);
        }
        let ports = subset.get("ports");
        for one in ports.items() {
            let name = one.get("name");
            if name.is_full() {
                name.judge(names::dns_label, errors);
            } else if ports.count() > 1 {
                name.required("", errors);
            }
            let number = one.get("port").number().unwrap_or(0);
            if let Err(why) = names::port_number(number) {
                errors.push(FieldError::invalid(one.child("port"), number, why));
            }
            port(&one, errors);
        }
    }
}

/// An EndpointSlice. Endpoints that were there before are taken as they are.
pub(super) fn slice(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    slice_ports(&Place::of(object, "ports"), errors);
    if old.is_some_and(|old| old.get("endpoints") == object.get("endpoints")) {
        return;
    }
    let family = Place::of(object, "addressType");
    let endpoints = Place::of(object, "endpoints");
    if endpoints.at_most(ENDPOINTS, errors) {
        endpoints.items().for_each(|one| endpoint(&one, family.text(), errors));
    }
}

fn endpoint(endpoint: &Place<'_>, family: &str, errors: &mut Errors) {
    let addresses = endpoint.get("addresses");
    if addresses.count() == 0 {
        addresses.required("must contain at least 1 address", errors);
    }
    addresses.at_most(ADDRESSES, errors);
    for one in addresses.items() {
        slice_address(&addresses, &one, family, errors);
    }
    endpoint.get("nodeName").judge_set(names::dns_subdomain, errors);
    let topology = endpoint.get("deprecatedTopology");
    topology.at_most(TOPOLOGY, errors);
    meta::labels(&topology.path, Some(topology.value), errors);
    endpoint.get("hostname").judge_set(names::dns_label, errors);
    for (list, rule) in
        [("forZones", names::label_value as fn(&str) -> names::Verdict), ("forNodes", names::dns_subdomain)]
    {
        let hints = endpoint.get("hints").get(list);
        if !hints.at_most(HINTS, errors) {
            break;
        }
        let mut seen = BTreeSet::new();
        for name in hints.items().map(|one| one.get("name")) {
            if !seen.insert(name.text()) {
                name.duplicate(errors);
            }
            name.judge(rule, errors);
        }
    }
}

fn slice_address(list: &Place<'_>, one: &Place<'_>, family: &str, errors: &mut Errors) {
    let wrong = |kind: &str, errors: &mut Errors| {
        let why = format!("must be an {kind} address");
        errors.push(FieldError::invalid(&list.path, one.text(), why));
    };
    match family {
        "IPv4" => {
            let Some(address) = address::ip(one, errors) else { return };
            if !address.is_ipv4() {
                wrong("IPv4", errors);
            }
            outside(one, errors);
        }
        "IPv6" => match address::canonical(one.text()) {
            Err(why) => one.invalid(why, errors),
            Ok(()) => {
                if one.text().parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()) {
                    wrong("IPv6", errors);
                }
                outside(one, errors);
            }
        },
        "FQDN" => domain(one, errors),
        _ => {}
    }
}

/// A whole domain name.
fn domain(name: &Place<'_>, errors: &mut Errors) {
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    if name.text().is_empty() {
        name.required("", errors);
    } else if let Err(why) = names::dns_subdomain(text) {
        errors.push(FieldError::invalid(&name.path, text, why));
    } else if text.split('.').count() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(&name.path, text, why));
    } else if let Some((label, why)) =
        text.split('.').find_map(|label| names::dns_label(label).err().map(|why| (label, why)))
    {
        errors.push(FieldError::invalid(&name.path, label, why));
    }
}

fn slice_ports(ports: &Place<'_>, errors: &mut Errors) {
    if !ports.at_most(PORTS, errors) {
        return;
    }
    let mut seen = BTreeSet::new();
    for one in ports.items() {
        let name = one.get("name");
        name.judge_full(names::dns_label, errors);
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(&name.path, name.text()));
        }
        port(&one, errors);
    }
}
