//! The checks of every level, by version, with upstream's reasons and details.

use serde_json::{Value, json};

use super::checks::{Pod, details, evaluate, reasons};
use super::policy::{Level, Policy, Standard, Version, label, of_labels};
use super::*;

fn standard(text: &str) -> Standard {
    let (level, version) = text.split_once(':').unwrap();
    Standard { level: Level::parse(level).unwrap(), version: Version::parse(version).unwrap() }
}

/// A pod that keeps to everything.
fn good() -> Value {
    json!({
        "metadata": { "name": "p" },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "a",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
}

fn violated(level: &str, pod: &Value) -> String {
    details(&evaluate(standard(level), Pod { metadata: &pod["metadata"], spec: &pod["spec"] }))
}

/// The pod that keeps to everything, but for one member.
fn with(path: &str, value: Value) -> Value {
    let mut pod = good();
    let place = path.split('.').fold(&mut pod, |at, name| match name.parse::<usize>() {
        Ok(index) => &mut at[index],
        Err(_) => &mut at[name],
    });
    *place = value;
    pod
}

const C: &str = "spec.containers.0";

#[test]
fn violation_of_baseline_is_told_in_upstreams_words() {
    let cases = [
        ("spec.hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        (
            "spec.volumes",
            json!([{ "name": "v", "hostPath": { "path": "/" } }]),
            "hostPath volumes (volume \"v\")",
        ),
        (
            "C.ports",
            json!([{ "hostPort": 80 }, { "hostPort": 443 }, { "containerPort": 1 }]),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        ),
        (
            "C.livenessProbe",
            json!({ "httpGet": { "host": "h", "port": 1 } }),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
        ),
        (
            "C.securityContext.privileged",
            json!(true),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            "C.securityContext.procMount",
            json!("Unmasked"),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "C.securityContext.capabilities.add",
            json!(["NET_RAW", "CHOWN", "BPF"]),
            "non-default capabilities (container \"a\" must not include \"BPF\", \"NET_RAW\" in \
             securityContext.capabilities.add)",
        ),
        (
            "C.securityContext.seLinuxOptions",
            json!({ "type": "spc_t", "user": "u", "role": "r" }),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may \
             not be set; role may not be set)",
        ),
        (
            "spec.securityContext.seccompProfile.type",
            json!("Unconfined"),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        ("spec.securityContext.sysctls", json!([{ "name": "kernel.x" }]), "forbidden sysctls (kernel.x)"),
        (
            "spec.securityContext.windowsOptions",
            json!({ "hostProcess": true }),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "metadata.annotations",
            json!({ "container.apparmor.security.beta.kubernetes.io/a": "unconfined" }),
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
             \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
        ),
        (
            "C.securityContext.appArmorProfile",
            json!({ "type": "Unconfined" }),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ];
    for (path, value, expected) in cases {
        let pod = with(&path.replacen('C', C, usize::from(path.starts_with("C."))), value);
        assert_eq!(violated("baseline:latest", &pod), expected, "{path}");
        assert_eq!(violated("privileged:latest", &pod), "");
    }
    assert_eq!(violated("baseline:latest", &good()), "");
    assert_eq!(violated("restricted:latest", &good()), "");
}

#[test]
fn violation_of_restricted_is_told_in_upstreams_words() {
    let bare = json!({ "metadata": {}, "spec": { "containers": [{ "name": "a" }], "initContainers": [{ "name": "i" }] } });
    assert_eq!(
        violated("restricted:latest", &bare),
        "allowPrivilegeEscalation != false (containers \"i\", \"a\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"i\", \"a\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"i\", \"a\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"i\", \"a\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let cases = [
        (
            "spec.volumes",
            json!([{ "name": "v", "nfs": {} }, { "name": "w", "hostPath": {} }, { "name": "ok", "emptyDir": {} }]),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            "C.securityContext.runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        ("spec.securityContext.runAsUser", json!(0), "runAsUser=0 (pod must not set runAsUser=0)"),
        (
            "C.securityContext.capabilities",
            json!({ "drop": ["ALL"], "add": ["NET_BIND_SERVICE", "CHOWN"] }),
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
    ];
    for (path, value, expected) in cases {
        let pod = with(&path.replacen('C', C, usize::from(path.starts_with("C."))), value);
        assert_eq!(violated("restricted:latest", &pod), expected, "{path}");
    }
}

#[test]
fn checks_are_those_of_the_release_asked_for() {
    let sysctl = with("spec.securityContext.sysctls", json!([{ "name": "net.ipv4.tcp_rmem" }]));
    assert_eq!(violated("baseline:v1.31", &sysctl), "forbidden sysctls (net.ipv4.tcp_rmem)");
    for version in ["v1.32", "v1.99", "latest"] {
        assert_eq!(violated(&format!("baseline:{version}"), &sysctl), "");
    }
    let mut bare = json!({ "metadata": {}, "spec": { "containers": [{ "name": "a" }] } });
    assert_eq!(
        violated("restricted:v1.0", &bare),
        "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)"
    );
    bare["spec"]["os"] = json!({ "name": "windows" });
    assert!(violated("restricted:v1.24", &bare).contains("seccompProfile"));
    assert!(!violated("restricted:v1.25", &bare).contains("seccompProfile"));
    let mut users = with("spec.securityContext.runAsUser", json!(0));
    users["spec"]["hostUsers"] = json!(false);
    assert_eq!(violated("restricted:v1.34", &users), "runAsUser=0 (pod must not set runAsUser=0)");
    assert_eq!(violated("restricted:v1.35", &users), "");
    let old =
        with("metadata.annotations", json!({ "seccomp.security.alpha.kubernetes.io/pod": "unconfined" }));
    assert_eq!(
        violated("baseline:v1.18", &old),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(violated("baseline:v1.19", &old), "");
    let several = evaluate(
        standard("baseline:latest"),
        Pod {
            metadata: &Value::Null,
            spec: &json!({ "hostPID": true, "containers": [{ "name": "a", "securityContext": { "privileged": true } }] }),
        },
    );
    assert_eq!(reasons(&several), "host namespaces, privileged");
}

#[test]
fn labels_choose_the_policy() {
    let labels = |pairs: &[(&str, &str)]| -> Value {
        pairs
            .iter()
            .map(|(mode, value)| (label(mode), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let of = |pairs: &[(&str, &str)]| of_labels(&labels(pairs), Policy::OPEN);
    let (policy, faults) = of(&[("enforce", "baseline"), ("enforce-version", "v1.20")]);
    assert!(faults.is_empty());
    assert_eq!(policy.enforce, standard("baseline:v1.20"));
    assert_eq!(policy.warn, standard("baseline:v1.20"), "who enforces is warned");
    assert_eq!(policy.audit, Standard::OPEN);
    let (policy, _) = of(&[("enforce", "baseline"), ("warn", "privileged")]);
    assert_eq!(policy.warn, Standard::OPEN);
    let (policy, faults) = of(&[("enforce", "x"), ("audit", "x"), ("warn-version", "v1.01")]);
    assert_eq!(policy.enforce, standard("restricted:latest"));
    assert_eq!(policy.audit, Standard::OPEN);
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, \
         baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, \
         baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \
         \"v1.x\"",
        ]
    );
}

#[test]
fn configuration_is_read_strictly() {
    let config = |extra: Value| {
        let mut value = json!({
            "apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
        });
        for (key, member) in extra.as_object().unwrap() {
            value[key] = member.clone();
        }
        Config::read(&value).map_err(|error| error.to_string())
    };
    let read = config(json!({
        "defaults": { "enforce": "baseline", "enforce-version": "v1.30" },
        "exemptions": { "usernames": ["u"], "runtimeClasses": ["r"], "namespaces": ["kube-system"] },
    }))
    .unwrap();
    assert_eq!(read.defaults.enforce, standard("baseline:v1.30"));
    assert_eq!(read.defaults.warn, Standard::OPEN);
    assert_eq!((read.usernames, read.namespaces), (vec!["u".to_owned()], vec!["kube-system".to_owned()]));
    for (bad, why) in [
        (json!({ "defaults": { "enforce": "x" } }), "defaults.enforce: Invalid value: \"x\""),
        (json!({ "defaults": { "audit-version": "1.2" } }), "defaults.audit-version: Invalid value: \"1.2\""),
        (json!({ "exemptions": { "usernames": [""] } }), "exemptions.usernames[0]: Invalid value"),
        (
            json!({ "exemptions": { "namespaces": ["a", "a"] } }),
            "exemptions.namespaces[1]: Duplicate value: \"a\"",
        ),
        (json!({ "exemption": {} }), "unknown field \"exemption\""),
        (json!({ "kind": "X" }), "expected PodSecurityConfiguration"),
    ] {
        let error = config(bad).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
