//! RuntimeClass: what a pod's runtime costs beyond its containers, and where it can run, comes from its class and from
//! nowhere else.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use skep_api::object::{at, items, text};
use skep_api::resources;
use skep_api::status::Status;

use super::{Attributes, ConfigError, Ingredients, Plugin};
use crate::cache::Cache;
use crate::failure;
use crate::gate::ObjectReader;

const DIFFERS: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const UNCALLED: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

struct RuntimeClass {
    cache: Arc<Cache>,
}

pub(super) fn make(from: &Ingredients, _: Option<&Value>) -> Result<Box<dyn Plugin>, ConfigError> {
    Ok(Box::new(RuntimeClass { cache: from.cache.clone() }))
}

impl RuntimeClass {
    /// The class of a pod, nothing when it names none.
    async fn class(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<Option<Arc<Value>>, Status> {
        let Some(name) = at(pod, &["spec", "runtimeClassName"]).and_then(Value::as_str) else {
            return Ok(None);
        };
        let find = || self.cache.get("node.k8s.io", "runtimeclasses", "", name);
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        self.cache.catch_up().await.map_err(failure::read)?;
        let missing = || attributes.forbid(&format!("pod rejected: RuntimeClass {name:?} not found"));
        find().map(Some).ok_or_else(missing)
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.creates_pod()
    }

    async fn admit(&self, attributes: &Attributes<'_>, object: Option<&mut Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let Some(class) = self.class(attributes, pod).await? else { return Ok(()) };
        complete(&class, pod).map_err(|why| attributes.forbid(&why))
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
        let Some(pod) = object else { return Ok(()) };
        let class = self.class(attributes, pod).await?;
        match check(class.as_deref(), pod) {
            Some(why) => Err(attributes.forbid(why)),
            None => Ok(()),
        }
    }
}

fn fixed(class: &Value) -> Option<&Value> {
    at(class, &["overhead"]).map(|overhead| &overhead["podFixed"])
}

fn same(one: &Value, other: &Value) -> bool {
    resources::read(one) == resources::read(other)
}

/// Brings into a pod what its class says.
fn complete(class: &Value, pod: &mut Value) -> Result<(), String> {
    if let Some(fixed) = fixed(class) {
        let given = &pod["spec"]["overhead"];
        if given.as_object().is_some_and(|given| !given.is_empty()) && !same(given, fixed) {
            return Err(DIFFERS.to_owned());
        }
        pod["spec"]["overhead"] = fixed.clone();
    }
    let Some(scheduling) = at(class, &["scheduling"]) else { return Ok(()) };
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let selector = &mut pod["spec"]["nodeSelector"];
        if !selector.is_object() {
            *selector = json!({});
        }
        let (wanted, own) = (value.as_str().unwrap_or_default(), text(selector, &[key]).to_owned());
        if selector.get(key).is_some() && own != wanted {
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {own}"
            ));
        }
        selector[key] = value.clone();
    }
    let more = items(scheduling, &["tolerations"]);
    if !more.is_empty() {
        pod["spec"]["tolerations"] = json!(merged(items(pod, &["spec", "tolerations"]), more));
    }
    Ok(())
}

/// Tolerations of both, without those that another one includes.
pub(super) fn merged(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<Value> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let in_later = all[at + 1..].iter().any(|other| includes(other, one) && *other != *one);
        if !in_later && !merged.iter().any(|other| includes(other, one)) {
            merged.push((*one).clone());
        }
    }
    merged
}

/// Whether everything that `inner` tolerates, `outer` does.
fn includes(outer: &Value, inner: &Value) -> bool {
    let of = |toleration: &Value, member: &str| text(toleration, &[member]).to_owned();
    if outer == inner {
        return true;
    }
    let (outer_key, outer_effect) = (of(outer, "key"), of(outer, "effect"));
    let every_key = outer_key.is_empty() && of(outer, "operator") == "Exists";
    if !every_key && outer_key != of(inner, "key") {
        return false;
    }
    if !outer_effect.is_empty() && outer_effect != of(inner, "effect") {
        return false;
    }
    if outer_effect == "NoExecute"
        && let Some(longest) = outer["tolerationSeconds"].as_i64()
        && inner["tolerationSeconds"].as_i64().is_none_or(|seconds| seconds > longest)
    {
        return false;
    }
    match of(outer, "operator").as_str() {
        "" | "Equal" => of(inner, "operator") == "Equal" && of(outer, "value") == of(inner, "value"),
        "Exists" => true,
        _ => false,
    }
}

fn check(class: Option<&Value>, pod: &Value) -> Option<&'static str> {
    let own = at(pod, &["spec", "overhead"]);
    match class.and_then(fixed) {
        Some(fixed) => (!same(own.unwrap_or(&Value::Null), fixed)).then_some(DIFFERS),
        None => own.is_some().then_some(UNCALLED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> Value {
        json!({
            "overhead": { "podFixed": { "cpu": "250m", "memory": "120Mi" } },
            "scheduling": {
                "nodeSelector": { "sandbox": "true" },
                "tolerations": [{ "key": "sandbox", "operator": "Exists" }],
            },
        })
    }

    #[test]
    fn pod_gets_overhead_selector_and_tolerations_of_its_class() {
        let mut pod = json!({ "spec": {
            "nodeSelector": { "zone": "a" },
            "tolerations": [{ "key": "sandbox", "operator": "Equal", "value": "x" }, { "key": "y", "operator": "Exists" }],
        } });
        complete(&class(), &mut pod).unwrap();
        let expected = json!({
            "overhead": { "cpu": "250m", "memory": "120Mi" },
            "nodeSelector": { "zone": "a", "sandbox": "true" },
            "tolerations": [{ "key": "y", "operator": "Exists" }, { "key": "sandbox", "operator": "Exists" }],
        });
        assert_eq!(pod["spec"], expected);
        assert_eq!(check(Some(&class()), &pod), None);
    }

    #[test]
    fn pod_that_contradicts_its_class_is_refused() {
        let mut pod = json!({ "spec": { "overhead": { "cpu": "1" } } });
        assert_eq!(complete(&class(), &mut pod).unwrap_err(), DIFFERS);
        assert_eq!(check(Some(&class()), &pod), Some(DIFFERS));
        assert_eq!(check(None, &pod), Some(UNCALLED));
        assert_eq!(check(Some(&json!({})), &json!({ "spec": {} })), None);
        let mut pod = json!({ "spec": { "nodeSelector": { "sandbox": "false" } } });
        assert_eq!(
            complete(&class(), &mut pod).unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[sandbox] = true; pod.spec.nodeSelector[sandbox] = false"
        );
    }
}
