//! From a Service to the addresses behind it. No service proxy is needed beside the API server: the endpoints themselves
//! are called.

use serde_json::Value;
use skep_api::object::{flag, items, number, text};

use crate::gate::ObjectReader;

/// An address or name, and a port.
pub(super) type Address = (String, u16);

/// The ready endpoints behind a port of a Service, beginning with the one whose turn it is.
///
/// # Errors
///
/// When there are none, in upstream's words.
pub(super) fn resolve(
    reader: &dyn ObjectReader,
    namespace: &str,
    name: &str,
    port: u16,
    turn: usize,
) -> Result<Vec<Address>, String> {
    let service = reader.get("", "services", namespace, name);
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?;
    if text(&service, &["spec", "type"]) == "ExternalName" {
        return Ok(vec![(text(&service, &["spec", "externalName"]).to_owned(), port)]);
    }
    let of_service = items(&service, &["spec", "ports"]);
    let found = of_service.iter().find(|one| number(one, &["port"]) == Some(i64::from(port)));
    let found = found.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = text(found, &["name"]);
    let slices = reader.list("discovery.k8s.io", "endpointslices", namespace);
    let mut own: Vec<_> = slices
        .iter()
        .filter(|slice| text(slice, &["metadata", "labels", "kubernetes.io/service-name"]) == name)
        .collect();
    // The family that the service prefers comes first.
    let preferred = service["spec"]["ipFamilies"][0].as_str().unwrap_or_default();
    own.sort_by_key(|slice| text(slice, &["addressType"]) != preferred);
    let ready: Vec<Address> = own.iter().flat_map(|slice| ready(slice, port_name)).collect();
    if ready.is_empty() {
        return Err(format!("no endpoints available for service {name:?}"));
    }
    let first = turn % ready.len();
    Ok([&ready[first..], &ready[..first]].concat())
}

fn ready(slice: &Value, port_name: &str) -> Vec<Address> {
    let port = items(slice, &["ports"]).iter().find(|port| text(port, &["name"]) == port_name);
    let port = port.and_then(|port| number(port, &["port"])).and_then(|port| u16::try_from(port).ok());
    let Some(port) = port else { return Vec::new() };
    items(slice, &["endpoints"])
        .iter()
        // An endpoint that does not say is ready (EndpointSlice API).
        .filter(|one| one["conditions"]["ready"].is_null() || flag(one, &["conditions", "ready"]))
        .filter_map(|one| one["addresses"][0].as_str())
        .map(|address| (address.to_owned(), port))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Objects;

    fn objects() -> Objects {
        let objects = Objects::default();
        let meta = |name: &str| json!({ "name": name, "namespace": "n" });
        let ports = json!([{ "name": "web", "port": 443 }, { "name": "other", "port": 80 }]);
        objects.put("", "services", json!({ "metadata": meta("s"), "spec": { "ports": ports } }));
        let external = json!({ "type": "ExternalName", "externalName": "x.example" });
        objects.put("", "services", json!({ "metadata": meta("e"), "spec": external }));
        objects.put(
            "discovery.k8s.io",
            "endpointslices",
            json!({
                "metadata": { "name": "s-1", "namespace": "n", "labels": { "kubernetes.io/service-name": "s" } },
                "ports": [{ "name": "web", "port": 8443 }],
                "endpoints": [
                    { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
                    { "addresses": ["10.0.0.2"], "conditions": { "ready": false } },
                    { "addresses": ["10.0.0.3"] },
                ],
            }),
        );
        objects
    }

    #[test]
    fn service_leads_to_its_ready_endpoints_in_turn() {
        let found = |turn| resolve(&objects(), "n", "s", 443, turn).unwrap();
        assert_eq!(found(0), [("10.0.0.1".to_owned(), 8443), ("10.0.0.3".to_owned(), 8443)]);
        assert_eq!(found(1), [("10.0.0.3".to_owned(), 8443), ("10.0.0.1".to_owned(), 8443)]);
        assert_eq!(resolve(&objects(), "n", "e", 444, 0).unwrap(), [("x.example".to_owned(), 444)]);
    }

    #[test]
    fn service_that_leads_nowhere_says_why() {
        let why = |name: &str, port| resolve(&objects(), "n", name, port, 0).unwrap_err();
        assert_eq!(why("t", 443), "service \"t\" not found");
        assert_eq!(why("s", 1), "no service port 1 found for service \"s\"");
        assert_eq!(why("s", 80), "no endpoints available for service \"s\"");
    }
}
