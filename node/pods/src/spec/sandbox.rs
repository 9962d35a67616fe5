//! The pod's sandbox for the runtime: name, labels, cgroup, namespaces, DNS.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use skep_runtime::cri;

use super::{host_network, name, namespace, spec, uid};

/// Label with the pod's name. These labels are upstream's, so that tools that read them find our pods.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label with the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label with the pod's uid.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label with the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Longest host name that Linux takes.
const HOSTNAME_MAX: usize = 63;

/// What a sandbox needs to know of its node.
#[derive(Clone, Debug)]
pub struct SandboxContext {
    /// cgroup of the pod, see [`crate::cgroups::pod_path`].
    pub cgroup_parent: String,
    /// Folder of the pod's logs.
    pub log_directory: String,
    /// The pod's resolver.
    pub dns: cri::DnsConfig,
}

/// The pod's host name: `spec.hostname` or its name.
pub fn hostname(pod: &Pod) -> String {
    let own = spec(pod).and_then(|spec| spec.hostname_override.as_deref().or(spec.hostname.as_deref()));
    let name = own.filter(|own| !own.is_empty()).unwrap_or_else(|| name(pod));
    let cut: String = name.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// What follows the host name in the pod's full name, for pods that have a subdomain.
pub fn subdomain(pod: &Pod, domain: &str) -> Option<String> {
    let subdomain = spec(pod)?.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    Some(format!("{subdomain}.{}.svc.{domain}", namespace(pod)))
}

/// Labels by which the pod is found again in the runtime.
pub fn identity(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (POD_NAME.to_owned(), name(pod).to_owned()),
        (POD_NAMESPACE.to_owned(), namespace(pod).to_owned()),
        (POD_UID.to_owned(), uid(pod).to_owned()),
    ])
}

/// The namespaces that the pod shares with the node or among its containers.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = spec(pod);
    let node_if = |on: Option<bool>, otherwise: cri::NamespaceMode| {
        if on == Some(true) { cri::NamespaceMode::Node as i32 } else { otherwise as i32 }
    };
    let shared = spec.and_then(|spec| spec.share_process_namespace) == Some(true);
    let own_pid = if shared { cri::NamespaceMode::Pod } else { cri::NamespaceMode::Container };
    cri::NamespaceOption {
        network: node_if(spec.and_then(|spec| spec.host_network), cri::NamespaceMode::Pod),
        ipc: node_if(spec.and_then(|spec| spec.host_ipc), cri::NamespaceMode::Pod),
        pid: node_if(spec.and_then(|spec| spec.host_pid), own_pid),
        ..cri::NamespaceOption::default()
    }
}

/// The sandbox's configuration. `attempt` counts the pod's sandboxes from 0.
pub fn config(pod: &Pod, context: &SandboxContext, attempt: u32) -> cri::PodSandboxConfig {
    let mut labels: HashMap<String, String> =
        pod.metadata.labels.iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.extend(identity(pod));
    let annotations = pod.metadata.annotations.iter().flatten();
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name(pod).to_owned(),
            uid: uid(pod).to_owned(),
            namespace: namespace(pod).to_owned(),
            attempt,
        }),
        // A pod on the node's network has the node's name too.
        hostname: if host_network(pod) { String::new() } else { hostname(pod) },
        log_directory: context.log_directory.clone(),
        dns_config: Some(context.dns.clone()),
        port_mappings: port_mappings(pod),
        labels,
        annotations: annotations.map(|(k, v)| (k.clone(), v.clone())).collect(),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: context.cgroup_parent.clone(),
            security_context: Some(security(pod)),
            sysctls: sysctls(pod),
            ..cri::LinuxPodSandboxConfig::default()
        }),
        windows: None,
    }
}

fn security(pod: &Pod) -> cri::LinuxSandboxSecurityContext {
    let spec = spec(pod);
    let own = spec.and_then(|spec| spec.security_context.as_ref());
    let containers = spec.into_iter().flat_map(|spec| {
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| &c.security_context)
    });
    let privileged = containers.flatten().any(|security| security.privileged == Some(true));
    let profile = if privileged {
        cri::security_profile::ProfileType::Unconfined
    } else {
        cri::security_profile::ProfileType::RuntimeDefault
    };
    cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: own.and_then(|own| own.run_as_user).map(|value| cri::Int64Value { value }),
        run_as_group: own
            .filter(|own| own.run_as_user.is_some())
            .and_then(|own| own.run_as_group)
            .map(|value| cri::Int64Value { value }),
        supplemental_groups: supplemental_groups(pod),
        privileged,
        seccomp: Some(cri::SecurityProfile { profile_type: profile as i32, localhost_ref: String::new() }),
        ..cri::LinuxSandboxSecurityContext::default()
    }
}

/// Groups of every process of the pod: those named, and the one that owns its volumes.
pub fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let Some(own) = spec(pod).and_then(|spec| spec.security_context.as_ref()) else { return Vec::new() };
    let mut groups: Vec<i64> = own.supplemental_groups.iter().flatten().copied().collect();
    groups.extend(own.fs_group);
    groups.dedup();
    groups
}

fn sysctls(pod: &Pod) -> HashMap<String, String> {
    let own = spec(pod).and_then(|spec| spec.security_context.as_ref());
    let list = own.and_then(|own| own.sysctls.as_ref()).into_iter().flatten();
    list.map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect()
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    let containers = spec(pod).into_iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .map(|port| cri::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp as i32,
                Some("SCTP") => cri::Protocol::Sctp as i32,
                _ => cri::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context() -> SandboxContext {
        SandboxContext { cgroup_parent: "/p".into(), log_directory: "/l".into(), dns: Default::default() }
    }

    #[test]
    fn config_of_host_network_pod_has_node_namespaces_and_no_hostname() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "a", "uid": "u"},
            "spec": {"hostNetwork": true, "hostPID": true, "containers": []}}))
        .expect("a pod");
        let config = config(&pod, &context(), 2);
        assert_eq!(config.hostname, "");
        assert_eq!(config.metadata.expect("metadata").attempt, 2);
        let options = config.linux.and_then(|l| l.security_context).and_then(|s| s.namespace_options);
        let options = options.expect("namespaces");
        let node = cri::NamespaceMode::Node as i32;
        assert_eq!((options.network, options.pid, options.ipc), (node, node, 0));
    }

    #[test]
    fn hostname_is_cut_to_what_linux_takes() {
        let long = format!("{}-x", "a".repeat(62));
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": long}})).expect("a pod");
        assert_eq!(hostname(&pod), "a".repeat(62));
    }
}
