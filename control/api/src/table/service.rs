//! Rows of services, endpoints and endpoint slices.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{NONE, age, labels, or_none};
use crate::object::{items, name, number, text};

pub(super) fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        name(object).into(),
        text(spec, &["type"]).into(),
        or_none(text(spec, &["clusterIP"])),
        external(object).into(),
        ports(items(spec, &["ports"])),
        age(object, now),
        labels(spec.get("selector")),
    ]
}

fn external(object: &Value) -> String {
    let spec = &object["spec"];
    let outside: Vec<&str> = items(spec, &["externalIPs"]).iter().filter_map(Value::as_str).collect();
    let balanced: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|one| match text(one, &["ip"]) {
            "" => text(one, &["hostname"]),
            ip => ip,
        })
        .filter(|one| !one.is_empty())
        .collect();
    match text(spec, &["type"]) {
        "ExternalName" => text(spec, &["externalName"]).to_owned(),
        "LoadBalancer" => match [balanced, outside].concat().join(",") {
            all if all.is_empty() => "<pending>".to_owned(),
            all => all,
        },
        _ if outside.is_empty() => NONE.to_owned(),
        _ => outside.join(","),
    }
}

fn ports(list: &[Value]) -> Value {
    let texts: Vec<String> = list
        .iter()
        .map(|port| {
            let (front, protocol) = (number(port, &["port"]).unwrap_or(0), text(port, &["protocol"]));
            match number(port, &["nodePort"]).filter(|node| *node > 0) {
                Some(node) => format!("{front}:{node}/{protocol}"),
                None => format!("{front}/{protocol}"),
            }
        })
        .collect();
    or_none(&texts.join(","))
}

/// A few, and how many more.
fn some(all: &[String], limit: usize) -> Value {
    let shown = all.iter().take(limit).cloned().collect::<Vec<_>>().join(",");
    if all.len() > limit {
        format!("{shown} + {} more...", all.len() - limit).into()
    } else {
        or_none(&shown)
    }
}

pub(super) fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in items(object, &["subsets"]) {
        let ports = items(subset, &["ports"]);
        for address in items(subset, &["addresses"]) {
            let ip = text(address, &["ip"]);
            if ports.is_empty() {
                all.push(ip.to_owned());
            }
            for port in ports {
                let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
                all.push(format!("{host}:{}", number(port, &["port"]).unwrap_or(0)));
            }
        }
    }
    vec![name(object).into(), some(&all, 3), age(object, now)]
}

pub(super) fn slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = items(object, &["ports"])
        .iter()
        .map(|port| match number(port, &["port"]) {
            Some(number) => number.to_string(),
            None if text(port, &["name"]).is_empty() => "*".to_owned(),
            None => text(port, &["name"]).to_owned(),
        })
        .collect();
    let ports = if ports.is_empty() { Value::from("<unset>") } else { some(&ports, 3) };
    let addresses: Vec<String> = items(object, &["endpoints"])
        .iter()
        .flat_map(|endpoint| items(endpoint, &["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let addresses = if addresses.is_empty() { Value::from("<unset>") } else { some(&addresses, 3) };
    vec![name(object).into(), text(object, &["addressType"]).into(), ports, addresses, age(object, now)]
}
