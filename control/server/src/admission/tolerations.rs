//! PodTolerationRestriction and ExtendedResourceToleration: what pods tolerate because of their namespace, or of what they
//! ask for, and what they may not tolerate.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{items, members, number, text};
use skep_api::resources::is_extended;
use skep_api::status::Status;
use skep_api::strategy::qos_class;

use super::config::strict;
use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

/// Annotations of a namespace: what its pods tolerate unless they say otherwise, and all that they may.
const DEFAULT: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

struct Restriction {
    cache: Arc<Cache>,
    /// For namespaces that say nothing.
    default: Vec<Value>,
    allowed: Vec<Value>,
}

pub(super) fn make_restriction(
    from: &Ingredients,
    configuration: Option<&Value>,
) -> Result<Box<dyn Plugin>, ConfigError> {
    let bad = |reason| ConfigError::Plugin { name: "PodTolerationRestriction", reason };
    let mut plugin = Restriction { cache: from.cache.clone(), default: Vec::new(), allowed: Vec::new() };
    if let Some(configuration) = configuration {
        strict(configuration, &["apiVersion", "kind", "default", "whitelist"]).map_err(bad)?;
        plugin.default = items(configuration, &["default"]).to_vec();
        plugin.allowed = items(configuration, &["whitelist"]).to_vec();
    }
    Ok(Box::new(plugin))
}

#[async_trait]
impl Plugin for Restriction {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is("", "pods")
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object.filter(|pod| pod["spec"].is_object()) else { return Ok(()) };
        let mut more = Vec::new();
        if attributes.creates() {
            let own = self.of_namespace(attributes, DEFAULT).await?;
            more = own.unwrap_or_else(|| self.default.clone());
        }
        if qos_class(pod) != "BestEffort" {
            more.push(json!({ "key": MEMORY_PRESSURE, "operator": "Exists", "effect": "NoSchedule" }));
        }
        if !more.is_empty() {
            let all = items(pod, &["spec", "tolerations"]).iter().cloned().chain(more).collect();
            pod["spec"]["tolerations"] = Value::Array(merged(all));
        }
        self.validate(attributes, Some(pod)).await
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let tolerated = object.map(|pod| items(pod, &["spec", "tolerations"])).unwrap_or_default();
        if tolerated.is_empty() {
            return Ok(());
        }
        let own = self.of_namespace(attributes, ALLOWED).await?;
        let whose = if own.is_some() { "namespace" } else { "cluster" };
        let allowed = own.unwrap_or_else(|| self.allowed.clone());
        let is_allowed = |one: &Value| allowed.iter().any(|wide| includes(wide, one));
        if allowed.is_empty() || tolerated.iter().all(is_allowed) {
            return Ok(());
        }
        let why = format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {whose} whitelist"
        );
        Err(Status::new(500, "", why))
    }
}

impl Restriction {
    /// What an annotation of the namespace says; nothing where there is none.
    async fn of_namespace(
        &self,
        attributes: &Attributes<'_>,
        key: &str,
    ) -> Result<Option<Vec<Value>>, Status> {
        let find = || self.cache.get("", "namespaces", "", attributes.namespace());
        let mut namespace = find();
        if namespace.is_none() {
            self.cache.catch_up().await.map_err(failure::read)?;
            namespace = find();
        }
        let said = namespace.as_deref().and_then(|one| one["metadata"]["annotations"][key].as_str());
        match said {
            None => Ok(None),
            Some("") => Ok(Some(Vec::new())),
            Some(text) => {
                serde_json::from_str(text).map(Some).map_err(|error| Status::new(500, "", error.to_string()))
            }
        }
    }
}

/// Tolerations without those that others of them include.
fn merged(all: Vec<Value>) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let later = all[at + 1..].iter().any(|other| other != one && includes(other, one));
        if !later && !kept.iter().any(|other| includes(other, one)) {
            kept.push(one.clone());
        }
    }
    kept
}

/// Whether whoever tolerates as `wide` says tolerates all that `narrow` says.
fn includes(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let of = |one: &'_ Value, member: &str| text(one, &[member]).to_owned();
    let operator = of(wide, "operator");
    let any_key = of(wide, "key").is_empty() && operator == "Exists";
    if of(wide, "key") != of(narrow, "key") && !any_key {
        return false;
    }
    let effect = of(wide, "effect");
    if effect != of(narrow, "effect") && !effect.is_empty() {
        return false;
    }
    if let Some(seconds) = number(wide, &["tolerationSeconds"]).filter(|_| effect == "NoExecute")
        && number(narrow, &["tolerationSeconds"]).is_none_or(|shorter| shorter > seconds)
    {
        return false;
    }
    match operator.as_str() {
        "Exists" => true,
        "" | "Equal" => of(narrow, "operator") == "Equal" && of(narrow, "value") == of(wide, "value"),
        _ => false,
    }
}

struct Extended;

pub(super) fn make_extended(_: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(Extended))
}

#[async_trait]
impl Plugin for Extended {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        (attributes.creates() || attributes.updates()) && attributes.is("", "pods")
    }

    async fn admit(&self, _: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        if let Some(pod) = object {
            tolerate_what_is_asked_for(pod);
        }
        Ok(())
    }
}

/// Nodes with rare devices keep others away; who asks for such a device is let there.
fn tolerate_what_is_asked_for(pod: &mut Value) {
    let containers = ["containers", "initContainers"].map(|list| items(pod, &["spec", list]));
    let asked = containers.into_iter().flatten();
    let asked = asked.flat_map(|container| members(container, &["resources", "requests"]));
    let names: BTreeSet<String> =
        asked.map(|(name, _)| name.clone()).filter(|name| is_extended(name)).collect();
    if names.is_empty() {
        return;
    }
    let mut all = items(pod, &["spec", "tolerations"]).to_vec();
    for name in names {
        let wanted = json!({ "key": name, "operator": "Exists", "effect": "NoSchedule" });
        let same = |one: &Value| {
            ["key", "effect", "operator", "value"]
                .iter()
                .all(|part| text(one, &[part]) == text(&wanted, &[part]))
        };
        match all.iter_mut().find(|one| same(one)) {
            Some(found) => *found = wanted,
            None => all.push(wanted),
        }
    }
    pod["spec"]["tolerations"] = Value::Array(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Value {
        json!({ "key": key, "operator": operator, "value": value, "effect": effect })
    }

    #[test]
    fn wider_toleration_includes_the_narrower() {
        let any = json!({ "operator": "Exists" });
        let brief =
            json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10 });
        let long =
            json!({ "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 20 });
        let equal = toleration("a", "Equal", "1", "NoSchedule");
        for (wide, narrow, expected) in [
            (&any, &equal, true),
            (&equal, &any, false),
            (&long, &brief, true),
            (&brief, &long, false),
            (&toleration("a", "Exists", "", ""), &equal, true),
            (&toleration("a", "Equal", "2", ""), &equal, false),
            (&toleration("b", "Exists", "", ""), &equal, false),
        ] {
            assert_eq!(includes(wide, narrow), expected, "{wide} {narrow}");
        }
        assert_eq!(merged(vec![equal.clone(), equal.clone(), brief.clone(), long.clone()]), [equal, long]);
        assert_eq!(merged(vec![brief, any.clone()]), [any]);
    }

    #[test]
    fn pod_tolerates_the_taints_of_what_it_asks_for() {
        let requests = json!({ "example.com/b": "1", "cpu": "1", "example.com/a": "1", "requests.x/y": "1" });
        let mut pod = json!({ "spec": { "containers": [{ "resources": { "requests": requests } }] } });
        tolerate_what_is_asked_for(&mut pod);
        let keys: Vec<&str> =
            items(&pod, &["spec", "tolerations"]).iter().map(|one| text(one, &["key"])).collect();
        assert_eq!(keys, ["example.com/a", "example.com/b"]);
        let once = pod.clone();
        tolerate_what_is_asked_for(&mut pod);
        assert_eq!(pod, once);
    }
}
