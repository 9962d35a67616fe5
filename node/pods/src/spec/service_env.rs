//! Variables that tell a container where services are, in the two styles that containers know.
//!
//! Rules: Kubernetes documentation, "Environment variables" of the Service concept.

use k8s_openapi::api::core::v1::Service;

/// The variables for a pod in `namespace`. With `links` all its services, without only the API server's.
pub fn variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> Vec<(String, String)> {
    let mut seen: Vec<(&str, &Service)> = Vec::new();
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let of = service.metadata.namespace.as_deref().unwrap_or_default();
        let master = of == "default" && name == "kubernetes";
        let own = links && of == namespace;
        if !(master || own) || cluster_ip(service).is_none() {
            continue;
        }
        match seen.iter_mut().find(|(known, _)| *known == name) {
            // The pod's own namespace wins over the API server's service of the same name.
            Some(entry) if own => entry.1 = service,
            Some(_) => {}
            None => seen.push((name, service)),
        }
    }
    seen.sort_by_key(|(name, _)| *name);
    seen.into_iter().flat_map(|(name, service)| of_service(name, service)).collect()
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!address.is_empty() && address != "None").then_some(address)
}

fn of_service(name: &str, service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(address) = cluster_ip(service) else { return Vec::new() };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return Vec::new() };
    let prefix = constant(name);
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let mut out = vec![
        (format!("{prefix}_SERVICE_HOST"), address.to_owned()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            out.push((format!("{prefix}_SERVICE_PORT_{}", constant(port_name)), port.port.to_string()));
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            out.push((format!("{prefix}_PORT"), url.clone()));
        }
        let link = format!("{prefix}_PORT_{}_{protocol}", port.port);
        out.push((link.clone(), url));
        out.push((format!("{link}_PROTO"), protocol.to_lowercase()));
        out.push((format!("{link}_PORT"), port.port.to_string()));
        out.push((format!("{link}_ADDR"), address.to_owned()));
    }
    out
}

fn constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, address: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": address, "ports": [{"name": "web-ui", "port": 80}]}}))
        .expect("a service")
    }

    #[test]
    fn variables_with_links_name_services_of_the_namespace() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("shop", "red-cart", "10.96.0.7"),
            service("shop", "headless", "None"),
            service("other", "else", "10.96.0.8"),
        ];
        let text = |links| {
            let variables = variables(&services, "shop", links);
            variables.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>()
        };
        let linked = text(true);
        for expected in [
            "KUBERNETES_SERVICE_HOST=10.96.0.1",
            "RED_CART_SERVICE_HOST=10.96.0.7",
            "RED_CART_SERVICE_PORT=80",
            "RED_CART_SERVICE_PORT_WEB_UI=80",
            "RED_CART_PORT=tcp://10.96.0.7:80",
            "RED_CART_PORT_80_TCP=tcp://10.96.0.7:80",
            "RED_CART_PORT_80_TCP_PROTO=tcp",
            "RED_CART_PORT_80_TCP_PORT=80",
            "RED_CART_PORT_80_TCP_ADDR=10.96.0.7",
        ] {
            assert!(linked.iter().any(|line| line == expected), "{expected} in {linked:?}");
        }
        assert!(!linked.iter().any(|line| line.starts_with("ELSE") || line.starts_with("HEADLESS")));
        assert!(text(false).iter().all(|line| line.starts_with("KUBERNETES_")));
    }
}
