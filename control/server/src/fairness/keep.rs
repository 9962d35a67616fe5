//! Keeps fairness and its objects in step: takes changed objects in, adjusts seats, writes conditions, and sees to it that
//! upstream's objects are there and as they should be.
//!
//! - Objects annotated `apf.kubernetes.io/autoupdate-spec: "true"` get upstream's spec again when they deviate from it.
//!   Upstream's own are annotated so when they are made; who takes the annotation off, or says `false`, keeps changes.
//! - Those that are gone are made again; `exempt` and `catch-all` are upstream's whatever the annotation says.
//! - The condition `Dangling` says of each schema whether its level is there.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use skep_api::registry::registry;
use skep_api::status::Status;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::Fairness;
use crate::authz::bootstrap::{BootstrapObject, bootstrap_objects};
use crate::gate::ObjectReader;
use crate::pki::MASTERS;
use crate::storage::{Ownership, Part, Scope, Storage};
use crate::user::UserInfo;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
const AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const OWNER: &str = "api-priority-and-fairness-config-producer-v1";
/// Seats are given anew so often.
const PERIOD: Duration = Duration::from_secs(10);
/// Upstream's objects are looked after so often.
const UPKEEP: Duration = Duration::from_secs(60);

/// Looks after fairness for as long as it is polled.
pub(crate) async fn keep(fairness: Fairness, storage: Storage) {
    let keeper = Keeper { fairness, storage, user: UserInfo::new("system:apiserver", &[MASTERS]) };
    let mut adjust = tokio::time::interval(PERIOD);
    adjust.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut upkeep = Instant::now() + UPKEEP;
    keeper.maintain().await;
    // From here on, nothing that changes is missed.
    let (mut schemas, mut levels) = (keeper.signal(SCHEMAS), keeper.signal(LEVELS));
    keeper.take_in().await;
    loop {
        tokio::select! {
            _ = adjust.tick() => keeper.fairness.adjust(),
            _ = schemas.changed() => keeper.take_in().await,
            _ = levels.changed() => keeper.take_in().await,
        }
        if Instant::now() >= upkeep {
            keeper.maintain().await;
            upkeep = Instant::now() + UPKEEP;
        }
    }
}

struct Keeper {
    fairness: Fairness,
    storage: Storage,
    user: UserInfo,
}

impl Keeper {
    fn list(&self, plural: &str) -> Vec<Arc<Value>> {
        self.storage.cache.list(GROUP, plural, "")
    }

    fn signal(&self, plural: &str) -> watch::Receiver<u64> {
        let resource = registry().find(GROUP, "v1", plural);
        let collection = resource.and_then(|resource| self.storage.cache.collection(resource));
        collection.expect("the kinds of fairness are built in and stored").signal()
    }

    async fn take_in(&self) {
        self.fairness.configure(&self.list(SCHEMAS), &self.list(LEVELS));
        self.condition().await;
    }

    /// Makes what is missing of upstream's objects and puts right what is to be kept right.
    async fn maintain(&self) {
        for wanted in bootstrap_objects().iter().filter(|one| one.group == GROUP) {
            if let Err(status) = self.maintain_one(wanted).await {
                tracing::warn!(
                    object = wanted.name,
                    why = status.message,
                    "cannot maintain an object of fairness"
                );
            }
        }
    }

    async fn maintain_one(&self, wanted: &BootstrapObject) -> Result<(), Status> {
        let mandatory = matches!(wanted.name.as_str(), "exempt" | "catch-all");
        let Some(resource) = registry().find(GROUP, "v1", wanted.resource) else { return Ok(()) };
        let scope = self.scope(resource, "", OWNER);
        let Some(found) = self.storage.cache.get(GROUP, wanted.resource, "", &wanted.name) else {
            return match self.storage.create(&scope, wanted.object.clone()).await {
                Err(status) if status.reason != "AlreadyExists" => Err(status),
                _ => Ok(()),
            };
        };
        let automatic = found["metadata"]["annotations"][AUTOUPDATE] == "true" || mandatory;
        if !automatic || covers(&found["spec"], &wanted.object["spec"]) {
            return Ok(());
        }
        let propose = |current: &Value| {
            let mut new = current.clone();
            new["spec"] = wanted.object["spec"].clone();
            new["metadata"]["annotations"][AUTOUPDATE] = json!("true");
            Ok(new)
        };
        self.storage.update(&scope, &wanted.name, Part::Whole, &propose).await.map(drop)
    }

    /// Writes the condition of every schema whose condition is not what it should be.
    async fn condition(&self) {
        let levels = self.list(LEVELS);
        for schema in self.list(SCHEMAS) {
            let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            let found = levels.iter().any(|one| one["metadata"]["name"] == level);
            let wanted = dangling(level, found);
            if has(&schema, &wanted) {
                continue;
            }
            if let Err(status) = self.write_condition(&schema, wanted).await
                && status.code != 404
            {
                tracing::warn!(why = status.message, "cannot write the condition of a flow schema");
            }
        }
    }

    async fn write_condition(&self, schema: &Value, mut wanted: Value) -> Result<(), Status> {
        let Some(resource) = registry().find(GROUP, "v1", SCHEMAS) else { return Ok(()) };
        wanted["lastTransitionTime"] = json!(self.storage.ids.now_text());
        let propose = |current: &Value| {
            let mut new = current.clone();
            let mut conditions = match &new["status"]["conditions"] {
                Value::Array(all) => all.clone(),
                _ => Vec::new(),
            };
            conditions.retain(|one| one["type"] != "Dangling");
            conditions.push(wanted.clone());
            new["status"]["conditions"] = json!(conditions);
            Ok(new)
        };
        let name = schema["metadata"]["name"].as_str().unwrap_or_default();
        let scope = self.scope(resource, "status", "api-priority-and-fairness-config-consumer-v1");
        self.storage.update(&scope, name, Part::Status, &propose).await.map(drop)
    }

    fn scope<'a>(
        &'a self,
        resource: &'a skep_api::registry::Resource,
        subresource: &'a str,
        owner: &'a str,
    ) -> Scope<'a> {
        Scope {
            resource,
            kinds: registry(),
            namespace: "",
            subresource,
            user: &self.user,
            dry_run: false,
            ownership: Ownership::Changed(owner),
            asked: None,
            admitted: true,
        }
    }
}

/// The condition of a schema, in upstream's words, without a time.
fn dangling(level: &str, found: bool) -> Value {
    let (status, reason, end) = match found {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    json!({ "type": "Dangling", "status": status, "reason": reason, "message": message })
}

fn has(schema: &Value, wanted: &Value) -> bool {
    let conditions = schema["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| {
        ["type", "status", "reason", "message"].iter().all(|member| one[*member] == wanted[*member])
    })
}

/// Whether a value says all that another says; what defaults add to it does not matter.
fn covers(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| found.get(key).is_some_and(|found| covers(found, value)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
        }
        _ => found == wanted,
    }
}
