//! Which secrets pods may use: none in mirror pods, those listed where the account says so. Pure.

use serde_json::Value;
use skep_api::object::{at, items, text};

/// A mirror pod is what its node makes of a file: it refers to nothing in the cluster.
pub(super) fn mirror_is_harmless(pod: &Value) -> Result<(), &'static str> {
    /// Whether any secret is named, in volumes, environment or for pulling images.
    fn names_secret(value: &Value) -> bool {
        const FIELDS: [&str; 5] =
            ["secret", "secretRef", "secretKeyRef", "nodePublishSecretRef", "imagePullSecrets"];
        match value {
            Value::Object(fields) => fields.iter().any(|(key, value)| {
                let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                (FIELDS.contains(&key.as_str()) && !empty) || names_secret(value)
            }),
            Value::Array(items) => items.iter().any(names_secret),
            _ => false,
        }
    }
    if !text(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if names_secret(&pod["spec"]) {
        return Err("a mirror pod may not reference secrets");
    }
    let sources =
        items(pod, &["spec", "volumes"]).iter().flat_map(|one| items(one, &["projected", "sources"]));
    if sources.into_iter().any(|source| at(source, &["serviceAccountToken"]).is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// What of a pod is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Pod,
    EphemeralContainers,
}

/// The secrets that the account's pods may use, if it says that these are all.
pub(super) fn mountable(account: &Value) -> Option<Vec<&str>> {
    let enforced = text(account, &["metadata", "annotations", "kubernetes.io/enforce-mountable-secrets"]);
    matches!(enforced, "1" | "t" | "T" | "TRUE" | "true" | "True")
        .then(|| items(account, &["secrets"]).iter().map(|secret| text(secret, &["name"])).collect())
}

/// A secret that the pod uses and its account does not list, in upstream's words.
pub(super) fn foreign_secret(account: &Value, secrets: &[&str], pod: &Value, part: Part) -> Option<String> {
    let spec = &pod["spec"];
    let own = text(account, &["metadata", "name"]);
    let end = format!("is not allowed because service account {own} does not reference that");
    let foreign = |name: &str| !secrets.contains(&name);
    let containers: &[(&str, &str)] = match part {
        Part::Pod => &[("initContainers", "init container"), ("containers", "container")],
        Part::EphemeralContainers => &[("ephemeralContainers", "ephemeral container")],
    };
    if part == Part::Pod {
        for volume in items(spec, &["volumes"]) {
            let name = text(volume, &["secret", "secretName"]);
            if at(volume, &["secret"]).is_some() && foreign(name) {
                return Some(format!("volume with secret.secretName=\"{name}\" {end} secret"));
            }
        }
    }
    for (list, title) in containers {
        for container in items(spec, &[list]) {
            let title = format!("{title} {}", text(container, &["name"]));
            for variable in items(container, &["env"]) {
                let Some(key) = at(variable, &["valueFrom", "secretKeyRef"]) else { continue };
                let (variable, name) = (text(variable, &["name"]), text(key, &["name"]));
                if foreign(name) {
                    return Some(format!(
                        "{title} with envVar {variable} referencing secret.secretName=\"{name}\" {end} secret"
                    ));
                }
            }
            for source in items(container, &["envFrom"]) {
                let Some(reference) = at(source, &["secretRef"]) else { continue };
                let name = text(reference, &["name"]);
                if foreign(name) {
                    return Some(format!(
                        "{title} with envFrom referencing secret.secretName=\"{name}\" {end} secret"
                    ));
                }
            }
        }
    }
    let pulls: Vec<&str> =
        items(account, &["imagePullSecrets"]).iter().map(|secret| text(secret, &["name"])).collect();
    let used = items(spec, &["imagePullSecrets"]).iter().map(|secret| text(secret, &["name"]));
    let mut foreign = used.enumerate().filter(|(_, name)| part == Part::Pod && !pulls.contains(name));
    foreign
        .next()
        .map(|(index, name)| format!("imagePullSecrets[{index}].name=\"{name}\" {end} imagePullSecret"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mirror_pod_refers_to_nothing() {
        let cases = [
            (json!({}), Ok(())),
            (json!({ "serviceAccountName": "a" }), Err("a mirror pod may not reference service accounts")),
            (json!({ "imagePullSecrets": [{ "name": "s" }] }), Err("a mirror pod may not reference secrets")),
            (
                json!({ "containers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "s" } } }] }] }),
                Err("a mirror pod may not reference secrets"),
            ),
            (
                json!({ "volumes": [{ "projected": { "sources": [{ "serviceAccountToken": {} }] } }] }),
                Err("a mirror pod may not use ServiceAccountToken volume projections"),
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(mirror_is_harmless(&json!({ "spec": spec })), expected, "{spec}");
        }
    }

    #[test]
    fn account_may_say_which_secrets_its_pods_use() {
        let mut account = json!({
            "metadata": { "name": "a" }, "secrets": [{ "name": "own" }], "imagePullSecrets": [{ "name": "pull" }],
        });
        assert_eq!(mountable(&account), None);
        account["metadata"]["annotations"] = json!({ "kubernetes.io/enforce-mountable-secrets": "true" });
        let secrets = mountable(&account).unwrap();
        assert_eq!(secrets, ["own"]);
        let pod = |spec: Value| foreign_secret(&account, &secrets, &json!({ "spec": spec }), Part::Pod);
        let env = |name: &str| {
            json!({ "containers": [{ "name": "c", "env": [
                { "name": "E", "valueFrom": { "secretKeyRef": { "name": name } } },
            ] }] })
        };
        assert_eq!(pod(env("own")), None);
        assert_eq!(
            pod(env("x")).unwrap(),
            "container c with envVar E referencing secret.secretName=\"x\" is not allowed because service account a \
             does not reference that secret"
        );
        assert_eq!(
            pod(json!({ "volumes": [{ "secret": { "secretName": "x" } }] })).unwrap(),
            "volume with secret.secretName=\"x\" is not allowed because service account a does not reference that secret"
        );
        assert_eq!(pod(json!({ "imagePullSecrets": [{ "name": "pull" }] })), None);
        assert_eq!(
            pod(json!({ "imagePullSecrets": [{ "name": "x" }] })).unwrap(),
            "imagePullSecrets[0].name=\"x\" is not allowed because service account a does not reference that \
             imagePullSecret"
        );
        let later = json!({ "spec": { "ephemeralContainers": [{ "name": "e", "envFrom": [{ "secretRef": { "name": "x" } }] }] } });
        let found = foreign_secret(&account, &secrets, &later, Part::EphemeralContainers);
        assert!(found.unwrap().starts_with("ephemeral container e with envFrom"));
    }
}
