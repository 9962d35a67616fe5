//! The checks that the level `restricted` adds: what hardens a pod must be set.

use serde_json::Value;
use skep_api::object::{at, items, text};

use super::baseline::{added_beyond, bad_seccomp};
use super::checks::{Pod, Violation};
use super::words::{containers, plural, quoted, sorted};

fn context<'a>(container: &'a Value, member: &str) -> Option<&'a Value> {
    at(container, &["securityContext", member])
}

pub(super) fn escalation(pod: Pod<'_>) -> Option<Violation> {
    let off = Some(&Value::Bool(false));
    let bad = pod.named(|container| context(container, "allowPrivilegeEscalation") != off);
    if bad.is_empty() {
        return None;
    }
    Violation::new(
        "allowPrivilegeEscalation != false",
        format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad)),
    )
}

pub(super) fn escalation_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { escalation(pod) }
}

pub(super) fn capabilities(pod: Pod<'_>) -> Option<Violation> {
    let keeps = pod.named(|container| {
        !items(container, &["securityContext", "capabilities", "drop"]).iter().any(|one| one == "ALL")
    });
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps)));
    }
    details.extend(added_beyond(pod, &["NET_BIND_SERVICE"]));
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; "))).flatten()
}

pub(super) fn capabilities_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

const ALLOWED: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// In the order in which upstream looks for them.
const FORBIDDEN: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn volumes(pod: Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, kinds: &[&'static str]| {
        kinds.iter().find(|kind| at(volume, &[kind]).is_some()).copied()
    };
    let bad = || items(pod.spec, &["volumes"]).iter().filter(|volume| has(volume, &ALLOWED).is_none());
    let names: Vec<&str> = bad().map(|volume| text(volume, &["name"])).collect();
    if names.is_empty() {
        return None;
    }
    let kinds = sorted(bad().map(|volume| has(volume, &FORBIDDEN).unwrap_or("unknown")));
    let volumes = plural("volume", "volumes", names.len());
    let uses = plural("uses", "use", names.len());
    let what = plural("restricted volume type", "restricted volume types", kinds.len());
    Violation::new(
        "restricted volume types",
        format!("{volumes} {} {uses} {what} {}", quoted(&names), quoted(kinds)),
    )
}

pub(super) fn non_root(pod: Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| at(context, &["runAsNonRoot"]) == Some(&Value::Bool(false)));
    if !setters.is_empty() {
        let setters = setters.join(" and ");
        return Violation::new(REASON, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    let all = at(pod.spec, &["securityContext", "runAsNonRoot"]) == Some(&Value::Bool(true));
    let silent = pod.named(|container| context(container, "runAsNonRoot").is_none());
    if all || silent.is_empty() {
        return None;
    }
    Violation::new(
        REASON,
        format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)),
    )
}

pub(super) fn non_root_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

pub(super) fn user(pod: Pod<'_>) -> Option<Violation> {
    let root = |context: &Value| at(context, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let setters = pod.setters(root);
    if setters.is_empty() {
        return None;
    }
    Violation::new("runAsUser=0", format!("{} must not set runAsUser=0", setters.join(" and ")))
}

pub(super) fn user_35(pod: Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { user(pod) }
}

pub(super) fn seccomp(pod: Pod<'_>) -> Option<Violation> {
    if let Some(violation) = super::baseline::seccomp(pod) {
        return Some(violation);
    }
    let own = at(pod.spec, &["securityContext"]);
    let all = own.is_some_and(|own| at(own, &["seccompProfile"]).is_some() && bad_seccomp(own).is_none());
    let silent = pod.named(|container| context(container, "seccompProfile").is_none());
    if all || silent.is_empty() {
        return None;
    }
    Violation::new(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}

pub(super) fn seccomp_25(pod: Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
