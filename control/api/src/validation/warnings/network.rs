//! What is said of addresses, networks and the objects that are made of them: services and network policies.

use std::net::IpAddr;

use serde_json::Value;

use super::Told;
use crate::validation::place::Place;

/// An address that some programs read otherwise than others. Only IPv6 has forms that pass validation.
pub(super) fn ip(place: &Place<'_>, told: &mut Told) {
    let Ok(address) = place.text().parse::<IpAddr>() else { return };
    let mapped = matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
    if mapped {
        let plain = address.to_canonical().to_string();
        told.push(format!(
            "{}: non-standard IP address {:?} is invalid: use {plain:?}",
            place.path,
            place.text()
        ));
    } else if address.to_string() != place.text() {
        told.push(format!(
            "{}: IPv6 address {:?} should be in RFC 5952 canonical format ({:?})",
            place.path,
            place.text(),
            address.to_string()
        ));
    }
}

/// A network with more than its prefix, or not in canonical form.
pub(super) fn network(place: &Place<'_>, told: &mut Told) {
    let Some((address, bits)) = place.text().trim().split_once('/') else { return };
    let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u32>()) else { return };
    let (first, whole) = match address {
        IpAddr::V4(four) => {
            let kept = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or_default();
            (IpAddr::V4((u32::from(four) & kept).into()), 32)
        }
        IpAddr::V6(six) => {
            let kept = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or_default();
            (IpAddr::V6((u128::from(six) & kept).into()), 128)
        }
    };
    if first != address {
        told.push(format!(
            "{}: CIDR value {:?} is ambiguous in this context (should be \"{first}/{bits}\" or \"{address}/{whole}\"?)",
            place.path,
            place.text()
        ));
    } else if address.is_ipv6() && format!("{address}/{bits}") != place.text() {
        told.push(format!(
            "{}: IPv6 CIDR value {:?} should be in RFC 5952 canonical format (\"{address}/{bits}\")",
            place.path,
            place.text()
        ));
    }
}

/// What is said of a service.
pub(super) fn service(object: &Value, told: &mut Told) {
    let spec = Place::of(object, "spec");
    let kind = spec.get("type");
    let external = kind.text() == "ExternalName";
    let headless = kind.text() == "ClusterIP" && spec.get("clusterIP").text() == "None";
    let addresses = spec.get("externalIPs");
    if object["metadata"]["annotations"].get("service.kubernetes.io/topology-aware-hints").is_some() {
        told.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead"
                .to_owned(),
        );
    }
    if !external && !headless {
        spec.each("clusterIPs").for_each(|address| ip(&address, told));
    }
    if headless {
        if spec.get("loadBalancerIP").is_full() {
            told.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if addresses.is_full() {
            told.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.get("sessionAffinity").text() != "None" {
            told.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    addresses.items().for_each(|address| ip(&address, told));
    if addresses.is_full() && !headless && !external {
        told.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    ip(&spec.get("loadBalancerIP"), told);
    spec.each("loadBalancerSourceRanges").for_each(|range| network(&range, told));
    if external && addresses.is_full() {
        told.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external && spec.get("externalName").is_full() {
        told.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.get("trafficDistribution").text() == "PreferClose" {
        told.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
}

/// What is said of a network policy.
pub(super) fn policy(spec: &Place<'_>, told: &mut Told) {
    let peers = [("ingress", "from"), ("egress", "to")]
        .into_iter()
        .flat_map(|(rules, side)| spec.each(rules).flat_map(move |rule| rule.each(side)));
    for peer in peers {
        let block = peer.get("ipBlock");
        network(&block.get("cidr"), told);
        block.each("except").for_each(|except| network(&except, told));
    }
}
