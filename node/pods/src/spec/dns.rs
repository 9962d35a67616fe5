//! The pod's `resolv.conf`, handed to the runtime as CRI's `DNSConfig`.
//!
//! Owns the rules of `dnsPolicy` and `dnsConfig` (Kubernetes documentation, "DNS for Services and Pods").

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::cri::DnsConfig;

use super::{host_network, namespace, spec};

/// More search domains than this are cut off (upstream's limit).
const MAX_SEARCHES: usize = 32;
/// More servers than this are cut off: the C library reads no more.
const MAX_SERVERS: usize = 3;

/// The cluster's DNS, as nodes are told of it.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    /// Addresses of the cluster's DNS service.
    pub servers: Vec<String>,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
}

/// Reads a `resolv.conf`. Lines it does not know are skipped, as resolvers do.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    config
}

/// What the pod's resolver is told. `node` is the node's own configuration.
pub fn for_pod(pod: &Pod, cluster: &ClusterDns, node: &DnsConfig) -> DnsConfig {
    let policy = spec(pod).and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "None" => return with_own(pod, DnsConfig::default()),
        "Default" => false,
        "ClusterFirstWithHostNet" => true,
        _ => !host_network(pod),
    };
    if !of_cluster || cluster.servers.is_empty() {
        return with_own(pod, node.clone());
    }
    let domain = &cluster.domain;
    let mut searches =
        vec![format!("{}.svc.{domain}", namespace(pod)), format!("svc.{domain}"), domain.clone()];
    searches.extend(node.searches.iter().cloned());
    let base = DnsConfig { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".into()] };
    with_own(pod, base)
}

/// Adds what the pod's `dnsConfig` says: servers and domains behind, options instead of those of the same name.
fn with_own(pod: &Pod, mut base: DnsConfig) -> DnsConfig {
    if let Some(own) = spec(pod).and_then(|spec| spec.dns_config.as_ref()) {
        base.servers.extend(own.nameservers.iter().flatten().cloned());
        base.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = option.name.as_deref().filter(|name| !name.is_empty()) else { continue };
            base.options.retain(|known| known.split(':').next() != Some(name));
            base.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
    dedup(&mut base.servers);
    dedup(&mut base.searches);
    base.servers.truncate(MAX_SERVERS);
    base.searches.truncate(MAX_SEARCHES);
    base
}

fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, servers: &[&str], searches: &[&str], options: &[&str]) {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod = serde_json::from_value(json!({"metadata": {"namespace": "shop"}, "spec": spec}));
        let cluster = ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() };
        let node = parse("# node\nnameserver 192.0.2.1\nsearch example.org\noptions timeout:1\n");
        let config = for_pod(&pod.expect("a pod"), &cluster, &node);
        assert_eq!(config.servers, servers);
        assert_eq!(config.searches, searches);
        assert_eq!(config.options, options);
    }

    #[test]
    fn cluster_first_uses_cluster_server_and_domains() {
        let searches = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org"];
        check(json!({}), &["10.96.0.10"], &searches, &["ndots:5"]);
        check(
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            &["10.96.0.10"],
            &searches,
            &["ndots:5"],
        );
    }

    #[test]
    fn default_and_host_network_use_the_node() {
        check(json!({"dnsPolicy": "Default"}), &["192.0.2.1"], &["example.org"], &["timeout:1"]);
        check(
            json!({"hostNetwork": true, "dnsPolicy": "ClusterFirst"}),
            &["192.0.2.1"],
            &["example.org"],
            &["timeout:1"],
        );
    }

    #[test]
    fn own_config_is_added_and_options_are_replaced() {
        let own = json!({"nameservers": ["198.51.100.1"], "searches": ["own.example"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(
            json!({"dnsPolicy": "None", "dnsConfig": own}),
            &["198.51.100.1"],
            &["own.example"],
            &["ndots:2", "edns0"],
        );
        let searches =
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.org", "own.example"];
        check(json!({"dnsConfig": own}), &["10.96.0.10", "198.51.100.1"], &searches, &["ndots:2", "edns0"]);
    }
}
