//! ServiceAccount: every pod runs as an account that exists, and finds that account's token in the usual place.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;
use crate::ids::Ids;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Seconds that a token lives, with the seven of upstream by which such tokens are told from others.
const TOKEN_LIFE: u64 = 3607;

pub(super) struct ServiceAccount {
    cache: Arc<Cache>,
    ids: Ids,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(ServiceAccount { cache: from.cache.clone(), ids: from.ids.clone() }))
}

impl ServiceAccount {
    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
        let namespace = attributes.namespace();
        if let Some(found) = self.cache.get("", "serviceaccounts", namespace, name) {
            return Ok(found);
        }
        self.cache.catch_up().await.map_err(failure::read)?;
        self.cache.get("", "serviceaccounts", namespace, name).ok_or_else(|| {
            attributes.forbid(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ))
        })
    }

    fn volume(name: &str) -> Value {
        json!({
            "name": name,
            "projected": {
                "defaultMode": 420,
                "sources": [
                    { "serviceAccountToken": { "expirationSeconds": TOKEN_LIFE, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }] } },
                ],
            },
        })
    }

    fn mount_token(&self, pod: &mut Value) {
        let spec = &mut pod["spec"];
        let found =
            spec["volumes"].as_array().into_iter().flatten().find_map(|volume| {
                volume["name"].as_str().filter(|name| name.starts_with("kube-api-access-"))
            });
        let name = found.map_or_else(|| format!("kube-api-access-{}", self.ids.suffix()), str::to_owned);
        let is_new = found.is_none();
        let mut used = false;
        for list in ["initContainers", "containers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                let mounts = container["volumeMounts"].as_array_mut().map(std::mem::take).unwrap_or_default();
                let has = mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH);
                let own = json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH });
                let mounts: Vec<Value> = mounts.into_iter().chain((!has).then_some(own)).collect();
                used |= !has;
                container["volumeMounts"] = json!(mounts);
            }
        }
        if used && is_new {
            let mut volumes = spec["volumes"].as_array_mut().map(std::mem::take).unwrap_or_default();
            volumes.push(Self::volume(&name));
            spec["volumes"] = json!(volumes);
        }
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod()
    }

    async fn admit(&self, attributes: &Attributes<'_>, pod: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = pod.filter(|pod| pod["spec"].is_object()) else { return Ok(()) };
        if pod["metadata"]["annotations"][MIRROR].is_string() {
            return mirror_is_harmless(attributes, pod);
        }
        let given = [&pod["spec"]["serviceAccountName"], &pod["spec"]["serviceAccount"]];
        let given = given.iter().find_map(|name| name.as_str().filter(|name| !name.is_empty()));
        let name = given.unwrap_or("default").to_owned();
        let account = self.account(attributes, &name).await?;
        let spec = &mut pod["spec"];
        spec["serviceAccountName"] = json!(name);
        // The old name of the field is still served.
        spec["serviceAccount"] = json!(name);
        let wanted = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty)
            && account["imagePullSecrets"].is_array()
        {
            spec["imagePullSecrets"] = account["imagePullSecrets"].clone();
        }
        if wanted {
            self.mount_token(pod);
        }
        Ok(())
    }
}

fn mirror_is_harmless(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if pod["spec"]["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Err(attributes.forbid("a mirror pod may not reference service accounts"));
    }
    let volumes = pod["spec"]["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if volumes.iter().any(|volume| volume["secret"].is_object()) {
        return Err(attributes.forbid("a mirror pod may not reference secrets"));
    }
    Ok(())
}
