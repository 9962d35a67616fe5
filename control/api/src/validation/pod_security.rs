//! Rules of security contexts, of a pod and of its containers.

use std::collections::BTreeSet;

use super::field::FieldError;
use super::place::{Errors, Place};
use super::volume_source::descending;

const ID: &str = "must be between 0 and 2147483647, inclusive";
const SYSCTL: usize = 253;
/// What a pod for another system cannot have.
const NOT_FOR_WINDOWS: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];
const NOT_FOR_WINDOWS_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

fn ids(context: &Place<'_>, names: &[&str], errors: &mut Errors) {
    for id in names.iter().map(|name| context.get(name)) {
        if id.number().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            id.invalid(ID, errors);
        }
    }
}

fn seccomp(profile: &Place<'_>, errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "" => kind.required("type is required when seccompProfile is set", errors),
        _ => {
            kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], errors);
        }
    }
    match (kind.text() == "Localhost", local.is_set()) {
        (true, false) => local.required("must be set when seccomp type is Localhost", errors),
        (true, true) => descending(&local, errors),
        (false, true) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid_struct(local.path, "core/v1.SeccompProfile", profile.value, why));
        }
        (false, false) => {}
    }
}

fn app_armor(profile: &Place<'_>, errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "" => kind.required("type is required when appArmorProfile is set", errors),
        "Localhost" if local.text().is_empty() => {
            local.required("must be set when AppArmor type is Localhost", errors);
        }
        "Localhost" if local.text().trim() != local.text() => {
            local.invalid("must not be padded with whitespace", errors);
        }
        "Localhost" if local.text().len() > 4095 => local.too_long(4095, errors),
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            local.invalid("can only be set when AppArmor type is Localhost", errors);
        }
        _ => {
            kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], errors);
        }
    }
}

/// The context of a container.
pub(super) fn container(context: &Place<'_>, host_users: bool, errors: &mut Errors) {
    if !context.is_set() {
        return;
    }
    ids(context, &["runAsUser", "runAsGroup"], errors);
    let mount = context.get("procMount");
    mount.maybe_one_of(&["Default", "Unmasked"], errors);
    if host_users && mount.text() == "Unmasked" {
        mount.invalid("`hostUsers` must be false to use `Unmasked`", errors);
    }
    seccomp(&context.get("seccompProfile"), errors);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value == false {
        if context.get("privileged").flag() {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            context.invalid_struct("core/v1.SecurityContext", why, errors);
        }
        if context.get("capabilities").each("add").any(|one| one.text() == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            context.invalid_struct("core/v1.SecurityContext", why, errors);
        }
    }
    app_armor(&context.get("appArmorProfile"), errors);
}

/// The context of a pod.
pub(super) fn context(spec: &Place<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    ids(&context, &["fsGroup", "runAsUser", "runAsGroup"], errors);
    for group in context.each("supplementalGroups") {
        if group.number().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            group.invalid(ID, errors);
        }
    }
    if spec.get("shareProcessNamespace").flag() && spec.get("hostPID").flag() {
        let path = spec.child("shareProcessNamespace");
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path, true, why));
    }
    sysctls(spec, &context, errors);
    context.get("fsGroupChangePolicy").maybe_one_of(&["Always", "OnRootMismatch"], errors);
    seccomp(&context.get("seccompProfile"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
    context.get("supplementalGroupsPolicy").maybe_one_of(&["Merge", "Strict"], errors);
    context.get("seLinuxChangePolicy").maybe_one_of(&["Recursive"], errors);
}

/// What a pod with users of its own cannot have.
pub(super) fn host_users(spec: &Place<'_>, errors: &mut Errors) {
    if spec.get("hostUsers").value != false {
        return;
    }
    for (name, called) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(name).flag() {
            errors.push(FieldError::forbidden(spec.child(called), "when `hostUsers` is false"));
        }
    }
    for devices in all_containers(spec).map(|one| one.get("volumeDevices")) {
        if devices.count() > 0 {
            devices.forbidden("when `hostUsers` is false", errors);
        }
    }
}

/// Containers that are processes of a host with Windows: all or none.
pub(super) fn host_process(spec: &Place<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    let said = |context: &Place<'_>| context.get("windowsOptions").get("hostProcess").value.as_bool();
    let of_pod = said(&context);
    let (mut all, mut such) = (0, 0);
    for context in all_containers(spec).map(|one| one.get("securityContext")) {
        let own = said(&context);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            context.get("windowsOptions").get("hostProcess").invalid(why, errors);
        }
        all += 1;
        such += i32::from(own.or(of_pod).unwrap_or(false));
    }
    if such == 0 {
        return;
    }
    if such != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(&spec.path, "", why));
    }
    if !spec.get("hostNetwork").flag() {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(spec.child("hostNetwork"), false, why));
    }
}

fn sysctls(spec: &Place<'_>, context: &Place<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for one in context.each("sysctls") {
        let name = one.get("name");
        if name.text().is_empty() {
            name.required("", errors);
        } else if !is_sysctl(name.text()) {
            let why = format!(
                "must have at most {SYSCTL} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            name.invalid(why, errors);
        } else if !seen.insert(name.text().replace('/', ".")) {
            name.duplicate(errors);
        }
        for (host, prefix) in [("hostNetwork", "net."), ("hostIPC", "kernel.shm")] {
            if spec.get(host).flag() && name.text().replace('/', ".").starts_with(prefix) {
                name.invalid(format!("may not be specified when '{host}' is true"), errors);
            }
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let segment = |part: &str| {
        let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let end =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = part.as_bytes();
        end(bytes.first()) && end(bytes.last()) && part.bytes().all(inside)
    };
    name.len() <= SYSCTL && name.split(['.', '/']).all(segment)
}

/// What goes with the system that a pod is for.
pub(super) fn operating_system(spec: &Place<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    let system = spec.get("os");
    if !system.is_set() {
        return;
    }
    let name = system.get("name");
    match name.text() {
        "" => name.required("", errors),
        "linux" => {
            let containers = all_containers(spec).map(|one| one.get("securityContext"));
            for options in containers.chain([context.clone()]).map(|one| one.get("windowsOptions")) {
                if options.is_set() {
                    options.forbidden("windows options cannot be set for a linux pod", errors);
                }
            }
        }
        "windows" => {
            let own = NOT_FOR_WINDOWS.iter().map(|name| context.get(name));
            let host = ["hostUsers", "shareProcessNamespace"].map(|name| spec.get(name));
            let flags = ["hostPID", "hostIPC"].map(|name| spec.get(name));
            let containers = all_containers(spec).flat_map(|one| {
                let context = one.get("securityContext");
                NOT_FOR_WINDOWS_CONTAINERS.map(|name| context.get(name))
            });
            let set = own.chain(host).chain(containers).filter(Place::is_set);
            for place in set.chain(flags.into_iter().filter(Place::flag)) {
                place.forbidden("cannot be set for a windows pod", errors);
            }
        }
        // Upstream names the whole.
        other => errors.push(FieldError::not_supported(&system.path, other, &["linux", "windows"])),
    }
}

/// The containers of every sort.
pub(super) fn all_containers<'a>(spec: &Place<'a>) -> impl Iterator<Item = Place<'a>> + use<'a> {
    let spec = spec.clone();
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| spec.each(list))
}
