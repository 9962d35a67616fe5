//! The fields of a Service that hold addresses and ports: families, cluster addresses, node ports.

use std::net::IpAddr;

use serde_json::{Value, json};
use skep_api::validation::FieldError;

use super::book::{Book, Held, NoAddress};
use super::range::family;

const NONE: &str = "None";

/// Why a service cannot have what it needs.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What it asks for is not to be had.
    Asked(FieldError),
    /// There is nothing left to give.
    Full(&'static str),
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Asked(error)
    }
}

/// What a service in the store holds.
pub(super) fn held(service: &Value) -> Held {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return Held::default();
    }
    let addresses =
        texts(&spec["clusterIPs"]).chain(spec["clusterIP"].as_str()).filter_map(|one| one.parse().ok());
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.dedup();
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let ports = ports.chain([&spec["healthCheckNodePort"]]).filter_map(port_number);
    Held { addresses, ports: ports.collect() }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).filter(|text| !text.is_empty())
}

fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

/// Fills in what is missing and takes what is there.
pub(super) fn fill(book: &mut Book<'_>, service: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    let spec = &mut service["spec"];
    let kind = spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    addresses(book, spec, old)?;
    let wanted =
        kind == "NodePort" || (kind == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != false);
    ports(book, spec, wanted)?;
    if kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local" {
        let port = match port_number(&spec["healthCheckNodePort"]) {
            Some(port) => book.take_port(port).then_some(port),
            None => book.any_port(),
        };
        let taken = || {
            FieldError::invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"].clone(), ALLOCATED)
        };
        spec["healthCheckNodePort"] = json!(port.ok_or_else(taken)?);
    }
    Ok(())
}

const ALLOCATED: &str = "provided port is already allocated";

/// The families that the service is to have, the first one first.
fn families(book: &Book<'_>, spec: &Value, given: &[&str]) -> Result<Vec<&'static str>, FieldError> {
    let available: Vec<_> = book.ranges.networks.iter().map(|network| network.family()).collect();
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack");
    if policy == "RequireDualStack" && available.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        return Err(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    let mut wanted: Vec<&'static str> = Vec::new();
    for (at, name) in texts(&spec["ipFamilies"]).enumerate() {
        let found = available.iter().find(|one| **one == name).ok_or_else(|| {
            FieldError::invalid(format!("spec.ipFamilies[{at}]"), name, "not configured on this cluster")
        })?;
        wanted.push(found);
    }
    if wanted.is_empty() {
        wanted.extend(given.iter().filter_map(|text| text.parse().ok()).map(family));
    }
    if wanted.is_empty() {
        wanted.extend(available.first());
    }
    if policy == "SingleStack" {
        wanted.truncate(1);
    } else if wanted.len() == 1 {
        wanted.extend(available.iter().find(|one| **one != wanted[0]).copied());
    }
    Ok(wanted)
}

fn addresses(book: &mut Book<'_>, spec: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    let first = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
    let mut given: Vec<String> = texts(&spec["clusterIPs"]).map(str::to_owned).collect();
    if given.is_empty() && !first.is_empty() {
        given.push(first);
    }
    let borrowed: Vec<&str> = given.iter().map(String::as_str).collect();
    let headless = borrowed.first() == Some(&NONE);
    if headless && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
        return without_backends(book, spec);
    }
    let families = families(book, spec, if headless { &[] } else { &borrowed })?;
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
    spec["ipFamilies"] = json!(families);
    let chosen = if headless {
        vec![NONE.to_owned()]
    } else {
        let mut chosen = Vec::new();
        for (at, family) in families.iter().enumerate() {
            chosen.push(address(book, &borrowed, at, family)?.to_string());
        }
        chosen
    };
    // A service that was there keeps the form of its first address, however it was written.
    let kept = old.and_then(|old| old["spec"]["clusterIP"].as_str()).filter(|kept| *kept == chosen[0]);
    spec["clusterIP"] = json!(kept.unwrap_or(&chosen[0]));
    spec["clusterIPs"] = json!(chosen);
    Ok(())
}

/// A service without an address and without a selector: whoever writes its endpoints may write them of every family,
/// whatever families the cluster has.
fn without_backends(book: &Book<'_>, spec: &mut Value) -> Result<(), Refusal> {
    let mut families: Vec<String> = texts(&spec["ipFamilies"]).map(str::to_owned).collect();
    if families.is_empty() {
        families.extend(book.ranges.networks.first().map(|network| network.family().to_owned()));
    }
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("RequireDualStack");
    }
    if spec["ipFamilyPolicy"] != "SingleStack" && families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    spec["ipFamilies"] = json!(families);
    spec["clusterIP"] = json!(NONE);
    spec["clusterIPs"] = json!([NONE]);
    Ok(())
}

fn address(book: &mut Book<'_>, given: &[&str], at: usize, family: &str) -> Result<IpAddr, Refusal> {
    let refuse = |why: String| Refusal::Asked(FieldError::invalid("spec.clusterIPs", json!(given), why));
    let Some(text) = given.get(at) else {
        return book.any_address(family).ok_or(Refusal::Full("failed to allocate a serviceIP"));
    };
    let address: IpAddr = text.parse().map_err(|_| refuse(format!("{text} is not a valid IP address")))?;
    book.take_address(address).map(|()| address).map_err(|why| {
        let why = match why {
            NoAddress::Elsewhere => "the provided network does not match the current range".to_owned(),
            NoAddress::OutOfRange(network) => format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}"
            ),
            NoAddress::Taken => "provided IP is already allocated".to_owned(),
        };
        refuse(format!("failed to allocate IP {address}: {why}"))
    })
}

fn ports(book: &mut Book<'_>, spec: &mut Value, wanted: bool) -> Result<(), Refusal> {
    let (first, last) = book.ranges.ports;
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    let ports = ports.map(Vec::as_mut_slice).unwrap_or_default();
    // Those that are asked for come first, so that none of them is handed out for another.
    for (at, port) in ports.iter().enumerate() {
        let Some(number) = port_number(&port["nodePort"]) else { continue };
        let field = format!("spec.ports[{at}].nodePort");
        if !(first..=last).contains(&number) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return Err(FieldError::invalid(field, number, why).into());
        }
        if !book.take_port(number) {
            return Err(FieldError::invalid(field, number, ALLOCATED).into());
        }
    }
    for port in ports {
        if wanted && port_number(&port["nodePort"]).is_none() {
            port["nodePort"] = json!(book.any_port().ok_or(Refusal::Full("failed to allocate a nodePort"))?);
        }
    }
    Ok(())
}
