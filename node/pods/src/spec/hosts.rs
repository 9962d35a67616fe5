//! The pod's `/etc/hosts`. Owns its text; writing and mounting it is the volumes' business.

use k8s_openapi::api::core::v1::Pod;

use super::{host_network, sandbox, spec};

/// First line of a file that the node keeps. Programs and tests look for exactly this line.
const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HOST_HEADER: &str = "# Kubernetes-managed hosts file (host network).\n";

/// The file's text. `node` is the node's own file, which pods on its network get.
pub fn render(pod: &Pod, addresses: &[String], node: &str, domain: &str) -> String {
    let mut text = String::new();
    if host_network(pod) {
        text.push_str(HOST_HEADER);
        text.push_str(node);
        if !node.ends_with('\n') {
            text.push('\n');
        }
    } else {
        text.push_str(HEADER);
        text.push_str("127.0.0.1\tlocalhost\n");
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str("fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\n");
        text.push_str("fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let name = sandbox::hostname(pod);
        for address in addresses {
            match sandbox::subdomain(pod, domain) {
                Some(full) => text.push_str(&format!("{address}\t{name}.{full}\t{name}\n")),
                None => text.push_str(&format!("{address}\t{name}\n")),
            }
        }
    }
    let aliases = spec(pod).and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"},
            "spec": {"containers": [], "subdomain": "web",
                "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["a", "b"]}]}}))
        .expect("a pod");
        let text = render(&pod, &["10.244.0.9".into()], "", "cluster.local");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.244.0.9\tweb-0.web.shop.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("192.0.2.7\ta\tb\n"));
    }

    #[test]
    fn hosts_of_host_network_are_the_nodes() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [], "hostNetwork": true}})).expect("a pod");
        let text = render(&pod, &[], "192.0.2.1 node", "cluster.local");
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n192.0.2.1 node\n");
    }
}
