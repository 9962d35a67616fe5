//! A container's security context for the runtime.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext,
};
use skep_runtime::cri;
use skep_runtime::cri::security_profile::ProfileType;

use super::{sandbox, spec};

/// Paths under `/proc` and `/sys` that ordinary containers must not see.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths under `/proc` that ordinary containers must not change.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// User of an image, as the runtime reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageUser {
    /// A number.
    Uid(i64),
    /// A name, whose number only the image knows.
    Name(String),
}

/// The user as which every container of the pod runs, if they all say one and the same.
pub fn only_user(pod: &Pod) -> Option<u32> {
    let spec = spec(pod)?;
    let of_pod = spec.security_context.as_ref().and_then(|own| own.run_as_user);
    let all = spec.init_containers.iter().flatten().chain(&spec.containers).map(|one| &one.security_context);
    let late = spec.ephemeral_containers.iter().flatten().map(|one| &one.security_context);
    let mut users = all.chain(late).map(|own| own.as_ref().and_then(|own| own.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

/// The container's security context.
///
/// # Errors
/// A text for the user, if the container would run as root and must not.
pub fn context(
    pod: &Pod,
    container: &Container,
    image_user: Option<&ImageUser>,
) -> Result<cri::LinuxContainerSecurityContext, String> {
    let empty_pod = PodSecurityContext::default();
    let of_pod = spec(pod).and_then(|spec| spec.security_context.as_ref()).unwrap_or(&empty_pod);
    let empty = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&empty);
    let user = own.run_as_user.or(of_pod.run_as_user);
    if own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        check_non_root(user, image_user)?;
    }
    let privileged = own.privileged == Some(true);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| match unmasked {
        true => Vec::new(),
        false => list.iter().map(|path| (*path).to_owned()).collect(),
    };
    // With neither a number nor a name the runtime takes the image's own user.
    let username = match (user, image_user) {
        (None, Some(ImageUser::Name(name))) => name.clone(),
        _ => String::new(),
    };
    let uid = user.or(match image_user {
        Some(ImageUser::Uid(uid)) => Some(*uid),
        _ => None,
    });
    let group = own.run_as_group.or(of_pod.run_as_group);
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|capabilities| cri::Capability {
            add_capabilities: capabilities.add.clone().unwrap_or_default(),
            drop_capabilities: capabilities.drop.clone().unwrap_or_default(),
            ..cri::Capability::default()
        }),
        privileged,
        namespace_options: Some(sandbox::namespaces(pod)),
        run_as_user: uid.map(|value| cri::Int64Value { value }),
        run_as_group: group.map(|value| cri::Int64Value { value }),
        run_as_username: username,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: sandbox::supplemental_groups(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()), privileged)),
        apparmor: app_armor(own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref())),
        ..cri::LinuxContainerSecurityContext::default()
    })
}

fn check_non_root(user: Option<i64>, image_user: Option<&ImageUser>) -> Result<(), String> {
    match (user, image_user) {
        (Some(0), _) => Err("container's runAsUser breaks non-root policy".to_owned()),
        (Some(_), _) => Ok(()),
        (None, Some(ImageUser::Name(name))) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
        (None, Some(ImageUser::Uid(uid))) if *uid != 0 => Ok(()),
        (None, _) => Err("container has runAsNonRoot and image will run as root".to_owned()),
    }
}

/// Without a profile a container runs unconfined, as upstream's nodes do unless told otherwise.
fn seccomp(profile: Option<&SeccompProfile>, privileged: bool) -> cri::SecurityProfile {
    let (kind, local) = match profile {
        _ if privileged => (ProfileType::Unconfined, String::new()),
        Some(profile) => of_type(&profile.type_, profile.localhost_profile.as_deref()),
        None => (ProfileType::Unconfined, String::new()),
    };
    cri::SecurityProfile { profile_type: kind as i32, localhost_ref: local }
}

fn app_armor(profile: Option<&AppArmorProfile>) -> Option<cri::SecurityProfile> {
    let profile = profile?;
    let (kind, local) = of_type(&profile.type_, profile.localhost_profile.as_deref());
    Some(cri::SecurityProfile { profile_type: kind as i32, localhost_ref: local })
}

fn of_type(kind: &str, local: Option<&str>) -> (ProfileType, String) {
    match kind {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" => (ProfileType::Localhost, local.unwrap_or_default().to_owned()),
        _ => (ProfileType::Unconfined, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(
        of_pod: Value,
        own: Value,
        image_user: Option<ImageUser>,
    ) -> Result<cri::LinuxContainerSecurityContext, String> {
        let pod: Pod = serde_json::from_value(json!({"spec": {"securityContext": of_pod,
            "containers": [{"name": "a", "securityContext": own}]}}))
        .expect("a pod");
        context(&pod, &pod.spec.as_ref().expect("a spec").containers[0], image_user.as_ref())
    }

    #[test]
    fn container_setting_wins_over_the_pods() {
        let context =
            run(json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}), json!({"runAsUser": 7}), None);
        let context = context.expect("a context");
        assert_eq!(context.run_as_user.map(|user| user.value), Some(7));
        assert_eq!(context.run_as_group.map(|group| group.value), Some(2));
        assert_eq!(context.supplemental_groups, [3]);
    }

    #[test]
    fn privileged_container_sees_everything() {
        let context = run(json!({}), json!({"privileged": true}), None).expect("a context");
        assert!(context.privileged && context.masked_paths.is_empty() && context.readonly_paths.is_empty());
        let context = run(json!({}), json!({}), None).expect("a context");
        assert!(!context.masked_paths.is_empty() && !context.readonly_paths.is_empty());
    }

    #[test]
    fn non_root_is_verified_against_user_and_image() {
        let strict = json!({"runAsNonRoot": true});
        let check = |own: Value, image, allowed: bool| {
            assert_eq!(run(strict.clone(), own, image).is_ok(), allowed);
        };
        check(json!({}), None, false);
        check(json!({}), Some(ImageUser::Uid(0)), false);
        check(json!({}), Some(ImageUser::Uid(5)), true);
        check(json!({}), Some(ImageUser::Name("app".into())), false);
        check(json!({"runAsUser": 5}), Some(ImageUser::Uid(0)), true);
        check(json!({"runAsUser": 0}), Some(ImageUser::Uid(5)), false);
        check(json!({"runAsNonRoot": false}), None, true);
    }

    #[test]
    fn user_is_the_pods_only_one_if_all_containers_say_it() {
        let pod = |spec: Value| -> Pod { serde_json::from_value(json!({"spec": spec})).expect("a pod") };
        let as_user = |user: Value| json!({"name": "c", "securityContext": {"runAsUser": user}});
        let seven =
            json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "c"}, as_user(json!(7))]});
        assert_eq!(only_user(&pod(seven)), Some(7));
        let two = json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "c"}],
            "initContainers": [as_user(json!(8))]});
        assert_eq!(only_user(&pod(two)), None);
        let one_says_nothing = json!({"containers": [as_user(json!(7)), as_user(json!(null))]});
        assert_eq!(only_user(&pod(one_says_nothing)), None);
    }
}
