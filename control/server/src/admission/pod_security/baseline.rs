//! The checks of the level `baseline`: known ways from a container to its node.

use serde_json::Value;
use skep_api::object::{at, flag, items, members, number, text};

use super::checks::{Pod, Violation};
use super::words::{containers, plural, quoted, sorted};

pub(super) fn app_armor(pod: Pod<'_>) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let bad = |context: &Value| {
        at(context, &["appArmorProfile"])
            .map(|profile| text(profile, &["type"]))
            .filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"))
            .map(str::to_owned)
    };
    let mut setters = pod.setters(|context| bad(context).is_some());
    let bad_values: Vec<String> = pod.contexts().filter_map(bad).collect();
    let mut values: Vec<String> =
        sorted(bad_values.iter().map(String::as_str)).into_iter().map(str::to_owned).collect();
    let allowed =
        |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let mut annotations: Vec<String> = members(pod.metadata, &["annotations"])
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(key, value)| key.starts_with(PREFIX) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if !annotations.is_empty() {
        annotations.sort();
        setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.append(&mut annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    let setters = setters.join(" and ");
    Violation::new(reason, format!("{setters} must not set AppArmor profile type to {}", quoted(&values)))
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    added_beyond(pod, &ALLOWED).and_then(|detail| Violation::new("non-default capabilities", detail))
}

/// Who adds capabilities beyond these.
pub(super) fn added_beyond(pod: Pod<'_>, allowed: &[&str]) -> Option<String> {
    fn beyond<'a>(container: &'a Value, allowed: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let added = items(container, &["securityContext", "capabilities", "add"]).iter();
        added.filter_map(Value::as_str).filter(|one| !allowed.contains(one))
    }
    let bad = pod.named(|container| beyond(container, allowed).next().is_some());
    let added = sorted(pod.containers().flat_map(|container| beyond(container, allowed)));
    (!bad.is_empty()).then(|| {
        format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(added))
    })
}

pub(super) fn host_namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| flag(pod.spec, &[name]));
    let shared: Vec<String> = shared.map(|name| format!("{name}=true")).collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", "))).flatten()
}

pub(super) fn host_path(pod: Pod<'_>) -> Option<Violation> {
    let volumes = items(pod.spec, &["volumes"]).iter().filter(|volume| at(volume, &["hostPath"]).is_some());
    let names: Vec<&str> = volumes.map(|volume| text(volume, &["name"])).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names));
    Violation::new("hostPath volumes", detail)
}

pub(super) fn host_ports(pod: Pod<'_>) -> Option<Violation> {
    let of = |container: &Value| -> Vec<String> {
        let ports = items(container, &["ports"]).iter().filter_map(|port| number(port, &["hostPort"]));
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let bad = pod.named(|container| !of(container).is_empty());
    let ports: Vec<String> = pod.containers().flat_map(of).collect();
    let ports = sorted(ports.iter().map(String::as_str));
    if bad.is_empty() {
        return None;
    }
    let (uses, what) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", ports.len()));
    Violation::new("hostPort", format!("{} {uses} {what} {}", containers(&bad), ports.join(", ")))
}

pub(super) fn probe_hosts(pod: Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    fn hosts(container: &Value) -> impl Iterator<Item = &str> {
        let handlers = HANDLERS.iter().filter_map(|path| at(container, path));
        let of = |handler| ["httpGet", "tcpSocket"].map(|kind| text(handler, &[kind, "host"]));
        handlers.flat_map(of).filter(|host| !host.is_empty())
    }
    let bad = sorted(pod.named(|container| hosts(container).next().is_some()).into_iter());
    let found = sorted(pod.containers().flat_map(hosts));
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", found.len());
    Violation::new("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&bad), quoted(found)))
}

pub(super) fn privileged(pod: Pod<'_>) -> Option<Violation> {
    let bad = pod.named(|container| flag(container, &["securityContext", "privileged"]));
    if bad.is_empty() {
        return None;
    }
    Violation::new("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

pub(super) fn proc_mount(pod: Pod<'_>) -> Option<Violation> {
    fn kind(container: &Value) -> Option<&str> {
        at(container, &["securityContext", "procMount"])?.as_str().filter(|kind| *kind != "Default")
    }
    let bad = pod.named(|container| kind(container).is_some());
    if bad.is_empty() {
        return None;
    }
    let kinds = quoted(sorted(pod.containers().filter_map(kind)));
    Violation::new(
        "procMount",
        format!("{} must not set securityContext.procMount to {kinds}", containers(&bad)),
    )
}

pub(super) fn proc_mount_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { proc_mount(pod) }
}

const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

pub(super) fn se_linux(pod: Pod<'_>) -> Option<Violation> {
    se_linux_with(pod, &TYPES[..4])
}

pub(super) fn se_linux_31(pod: Pod<'_>) -> Option<Violation> {
    se_linux_with(pod, &TYPES)
}

fn se_linux_with(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    fn of<'a>(context: &'a Value, member: &str) -> &'a str {
        text(context, &["seLinuxOptions", member])
    }
    let bad = |context: &Value| {
        !allowed.contains(&of(context, "type"))
            || !of(context, "user").is_empty()
            || !of(context, "role").is_empty()
    };
    let setters = pod.setters(bad);
    if setters.is_empty() {
        return None;
    }
    let types = pod.contexts().map(|context| of(context, "type")).filter(|kind| !allowed.contains(kind));
    let types = sorted(types);
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(&types)));
    }
    for member in ["user", "role"] {
        if pod.contexts().any(|context| !of(context, member).is_empty()) {
            data.push(format!("{member} may not be set"));
        }
    }
    let (setters, data) = (setters.join(" and "), data.join("; "));
    Violation::new(
        "seLinuxOptions",
        format!("{setters} set forbidden securityContext.seLinuxOptions: {data}"),
    )
}

/// Before there were fields, there were annotations.
pub(super) fn seccomp_annotations(pod: Pod<'_>) -> Option<Violation> {
    let allowed = |value: &str| {
        matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/")
    };
    let keys = std::iter::once("seccomp.security.alpha.kubernetes.io/pod".to_owned()).chain(
        pod.containers()
            .map(|one| format!("container.seccomp.security.alpha.kubernetes.io/{}", text(one, &["name"]))),
    );
    let found: Vec<String> = keys
        .filter_map(|key| {
            let value = at(pod.metadata, &["annotations", &key])?.as_str()?;
            (!allowed(value)).then(|| format!("{key}={value:?}"))
        })
        .collect();
    let found = sorted(found.iter().map(String::as_str));
    if found.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", found.len());
    Violation::new("seccompProfile", format!("forbidden {what} {}", found.join(", ")))
}

/// The type of a seccomp profile that confines nothing.
pub(super) fn bad_seccomp(context: &Value) -> Option<&str> {
    let kind = text(at(context, &["seccompProfile"])?, &["type"]);
    (!matches!(kind, "Localhost" | "RuntimeDefault")).then_some(kind)
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| bad_seccomp(context).is_some());
    if setters.is_empty() {
        return None;
    }
    let values = quoted(sorted(pod.contexts().filter_map(bad_seccomp)));
    let setters = setters.join(" and ");
    Violation::new(
        "seccompProfile",
        format!("{setters} must not set securityContext.seccompProfile.type to {values}"),
    )
}

const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    // 1.27
    "net.ipv4.ip_local_reserved_ports",
    // 1.29
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    // 1.32
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls_with(pod: Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let set = items(pod.spec, &["securityContext", "sysctls"]).iter().map(|one| text(one, &["name"]));
    let forbidden: Vec<&str> = set.filter(|name| !allowed.contains(name)).collect();
    (!forbidden.is_empty()).then(|| Violation::new("forbidden sysctls", forbidden.join(", "))).flatten()
}

pub(super) fn sysctls(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..5])
}

pub(super) fn sysctls_27(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..6])
}

pub(super) fn sysctls_29(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS[..10])
}

pub(super) fn sysctls_32(pod: Pod<'_>) -> Option<Violation> {
    sysctls_with(pod, &SYSCTLS)
}

pub(super) fn windows_host_process(pod: Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| flag(context, &["windowsOptions", "hostProcess"]));
    if setters.is_empty() {
        return None;
    }
    let setters = setters.join(" and ");
    Violation::new(
        "hostProcess",
        format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
