//! ServiceAccount: every pod runs as an account that exists, and finds that account's token in the usual place.

mod secrets;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{items, text};
use skep_api::registry::registry;
use skep_api::status::Status;

use self::secrets::{Part, foreign_secret, mirror_is_harmless, mountable};
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;
use crate::ids::Ids;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The account that a controller makes in every namespace, and how long that is waited for.
const DEFAULT: &str = "default";
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// The account. One that is not in the cache may only be too new for it; the one that every namespace gets is waited
    /// for a moment.
    async fn account(&self, attributes: &Attributes<'_>, name: &str) -> Result<Arc<Value>, Status> {
        let namespace = attributes.namespace();
        let find = || self.cache.get("", "serviceaccounts", namespace, name);
        if let Some(found) = find() {
            return Ok(found);
        }
        self.cache.catch_up().await.map_err(failure::read)?;
        let mut found = find();
        if found.is_none() && name == DEFAULT {
            found = tokio::time::timeout(PATIENCE, self.appears(find)).await.ok().flatten();
        }
        found.ok_or_else(|| {
            attributes.forbid(&format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ))
        })
    }

    async fn appears(&self, find: impl Fn() -> Option<Arc<Value>>) -> Option<Arc<Value>> {
        let accounts = registry().find("", "v1", "serviceaccounts")?;
        let mut changes = self.cache.collection(accounts)?.signal();
        loop {
            changes.borrow_and_update();
            if let Some(found) = find() {
                return Some(found);
            }
            changes.changed().await.ok()?;
        }
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
            // Indexing would leave a null where there is no such list.
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let mounts = container["volumeMounts"].as_array_mut().map(std::mem::take).unwrap_or_default();
                let has = mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH);
                let own = json!({ "name": name, "readOnly": true, "mountPath": MOUNT_PATH });
                let mounts: Vec<Value> = mounts.into_iter().chain((!has).then_some(own)).collect();
                used |= !has;
                container["volumeMounts"] = mounts.into();
            }
        }
        if used && is_new {
            let mut volumes = spec["volumes"].as_array_mut().map(std::mem::take).unwrap_or_default();
            volumes.push(Self::volume(&name));
            spec["volumes"] = volumes.into();
        }
    }
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod()
            || (attributes.updates() && attributes.is_part("", "pods", "ephemeralcontainers"))
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| attributes.creates() && pod["spec"].is_object()) else {
            return Ok(());
        };
        if is_mirror(pod) {
            return mirror_is_harmless(pod).map_err(|why| attributes.forbid(why));
        }
        let given = [&pod["spec"]["serviceAccountName"], &pod["spec"]["serviceAccount"]];
        let given = given.iter().find_map(|name| name.as_str().filter(|name| !name.is_empty()));
        let name = given.unwrap_or(DEFAULT).to_owned();
        let account = self.account(attributes, &name).await?;
        let spec = &mut pod["spec"];
        spec["serviceAccountName"] = json!(name);
        // The old name of the field is still served.
        spec["serviceAccount"] = json!(name);
        let wanted = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if items(spec, &["imagePullSecrets"]).is_empty() {
            let own = items(&account, &["imagePullSecrets"]).iter();
            let own: Vec<Value> = own.map(|secret| json!({ "name": secret["name"] })).collect();
            if !own.is_empty() {
                spec["imagePullSecrets"] = json!(own);
            }
        }
        if wanted {
            self.mount_token(pod);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        if is_mirror(pod) && attributes.creates() {
            return mirror_is_harmless(pod).map_err(|why| attributes.forbid(why));
        }
        let name = text(pod, &["spec", "serviceAccountName"]);
        if name.is_empty() {
            let (namespace, pod) = (attributes.namespace(), attributes.name);
            return Err(attributes.forbid(&format!("no service account specified for pod {namespace}/{pod}")));
        }
        let account = self.account(attributes, name).await?;
        let part = if attributes.creates() { Part::Pod } else { Part::EphemeralContainers };
        match mountable(&account).and_then(|secrets| foreign_secret(&account, &secrets, pod, part)) {
            Some(why) => Err(attributes.forbid(&why)),
            None => Ok(()),
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"][MIRROR].is_string()
}
