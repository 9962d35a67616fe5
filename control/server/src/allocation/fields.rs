//! The fields of a Service that hold addresses and ports: families, cluster addresses, node ports.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::{Value, json};
use skep_api::validation::FieldError;

use super::book::{Book, Held, NoAddress};
use super::range::{Cidr, family};

const NONE: &str = "None";

/// Why a service cannot have what it needs.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What it asks for is not to be had.
    Asked(Vec<FieldError>),
    /// The same of a port that upstream does not call a field.
    Unnamed(String),
    /// There is nothing left to give.
    Full(&'static str),
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Self::Asked(vec![error])
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
    match old {
        None if matches!(kind.as_str(), "NodePort" | "LoadBalancer") => first_ports(book, spec, wanted)?,
        None => {}
        Some(_) => ports(book, spec, wanted)?,
    }
    if kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local" {
        health_port(book, spec)?;
    }
    Ok(())
}

fn health_port(book: &mut Book<'_>, spec: &mut Value) -> Result<(), Refusal> {
    let asked = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if asked != 0 {
        return book.take_any_port(asked, false).map_err(|why| {
            Refusal::Unnamed(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
        });
    }
    let any = book.any_port().ok_or(Refusal::Full("failed to allocate a HealthCheck NodePort 0"))?;
    spec["healthCheckNodePort"] = json!(any);
    Ok(())
}

/// The families that the service is to have, the first one first. `given` are its addresses.
fn families(book: &Book<'_>, spec: &Value, given: &[&str], is_new: bool) -> Result<Vec<String>, Refusal> {
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack");
    let mut wanted: Vec<String> = texts(&spec["ipFamilies"]).map(str::to_owned).collect();
    let mut errors = Vec::new();
    let several = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    for (count, what) in [(given.len(), "cluster IPs"), (wanted.len(), "IP families")] {
        if is_new && policy == "SingleStack" && count == 2 {
            let why = format!("{several} {what} are specified");
            errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
        }
    }
    for (at, text) in given.iter().enumerate().take_while(|(_, text)| **text != NONE).skip(wanted.len()) {
        let Ok(family) = text.parse().map(family) else { continue };
        if is_configured(book, family) {
            wanted.push(family.to_owned());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{at}]"), json!(given), why));
        }
    }
    if errors.is_empty() { Ok(wanted) } else { Err(Refusal::Asked(errors)) }
}

fn is_configured(book: &Book<'_>, family: &str) -> bool {
    book.ranges.networks.iter().any(|network| network.family() == family)
}

/// The families of a service that gets addresses, or has some others of its selector: those that the cluster has.
fn available(book: &Book<'_>, spec: &Value, mut wanted: Vec<String>) -> Result<Vec<String>, Refusal> {
    let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack");
    let networks = &book.ranges.networks;
    let mut errors = Vec::new();
    if policy == "RequireDualStack" && networks.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    for (at, family) in wanted.iter().enumerate().filter(|(_, family)| !is_configured(book, family)) {
        let why = "not configured on this cluster";
        errors.push(FieldError::invalid(format!("spec.ipFamilies[{at}]"), family.as_str(), why));
    }
    if !errors.is_empty() {
        return Err(Refusal::Asked(errors));
    }
    if wanted.is_empty() {
        wanted.extend(networks.first().map(|network| network.family().to_owned()));
    }
    if policy == "SingleStack" {
        wanted.truncate(1);
    } else if wanted.len() == 1 {
        let other = networks.iter().map(Cidr::family).find(|one| *one != wanted[0]);
        wanted.extend(other.map(str::to_owned));
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
    let alone = headless && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if alone && spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = json!("RequireDualStack");
    }
    let families = families(book, spec, &borrowed, old.is_none())?;
    if alone {
        without_backends(book, spec);
        return Ok(());
    }
    let families = available(book, spec, families)?;
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
fn without_backends(book: &Book<'_>, spec: &mut Value) {
    let mut families: Vec<String> = texts(&spec["ipFamilies"]).map(str::to_owned).collect();
    if families.is_empty() {
        families.extend(book.ranges.networks.first().map(|network| network.family().to_owned()));
    }
    if spec["ipFamilyPolicy"] != "SingleStack" && families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    spec["ipFamilies"] = json!(families);
    spec["clusterIP"] = json!(NONE);
    spec["clusterIPs"] = json!([NONE]);
}

fn address(book: &mut Book<'_>, given: &[&str], at: usize, family: &str) -> Result<IpAddr, Refusal> {
    let refuse = |why: String| Refusal::from(FieldError::invalid("spec.clusterIPs", json!(given), why));
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

/// The node ports of a new service: ports of one number, be they of several protocols, have one node port.
fn first_ports(book: &mut Book<'_>, spec: &mut Value, wanted: bool) -> Result<(), Refusal> {
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    let ports = ports.map(Vec::as_mut_slice).unwrap_or_default();
    let number = |port: &Value, name: &str| port[name].as_i64().unwrap_or(0);
    let asked = |at: usize, node_port: i64, book: &mut Book<'_>| {
        let field = format!("spec.ports[{at}].nodePort");
        book.take_any_port(node_port, true).map_err(|why| FieldError::invalid(field, node_port, why))
    };
    let mut given: HashMap<i64, i64> = HashMap::new();
    // Those that are asked for come first, so that none of them is handed out for another.
    for at in 0..ports.len() {
        let (port, own) = (number(&ports[at], "port"), number(&ports[at], "nodePort"));
        if own == 0 && !wanted {
            continue;
        }
        match given.get(&port) {
            Some(before) if own != 0 && own != *before => asked(at, own, book)?,
            Some(before) => ports[at]["nodePort"] = json!(before),
            None => {
                let of_port = ports.iter().filter(|one| number(one, "port") == port);
                let Some(found) = of_port.map(|one| number(one, "nodePort")).find(|one| *one != 0) else {
                    continue;
                };
                asked(at, found, book)?;
                ports[at]["nodePort"] = json!(found);
                given.insert(port, found);
            }
        }
    }
    for one in ports.iter_mut().filter(|one| wanted && number(one, "nodePort") == 0) {
        let port = number(one, "port");
        let node_port = match given.get(&port) {
            Some(before) => *before,
            None => book.any_port().ok_or(Refusal::Full("failed to allocate a nodePort"))?.into(),
        };
        given.insert(port, node_port);
        one["nodePort"] = json!(node_port);
    }
    Ok(())
}

/// The node ports of a service that was there.
fn ports(book: &mut Book<'_>, spec: &mut Value, wanted: bool) -> Result<(), Refusal> {
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    let ports = ports.map(Vec::as_mut_slice).unwrap_or_default();
    for (at, port) in ports.iter().enumerate() {
        let Some(number) = port["nodePort"].as_i64().filter(|number| *number != 0) else { continue };
        let field = format!("spec.ports[{at}].nodePort");
        book.take_any_port(number, false).map_err(|why| FieldError::invalid(field, number, why))?;
    }
    for port in ports {
        if wanted && port["nodePort"].as_i64().unwrap_or(0) == 0 {
            port["nodePort"] = json!(book.any_port().ok_or(Refusal::Full("failed to allocate a nodePort"))?);
        }
    }
    Ok(())
}
